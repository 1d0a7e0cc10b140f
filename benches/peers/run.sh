#!/usr/bin/env bash
# Every peer and natv2 one after the other, and one table of ratios: the CPU rows of the performance
# targets. Four minutes on two idle cores, and the builds; on a busy machine the ratios say little.
#
#   benches/peers/run.sh CIFAR_FOLDER ARCHS [OUT]
#
# ARCHS is a population, such as the archive.json of a search with the CIFAR-10 checkpoint. NATV2_PYTHON
# is a Python with benches/peers/requirements.txt (target/peers/bin/python by default), THREADS the
# threads of both sides (2). OUT keeps the raw results (target/peers-results by default).
set -euo pipefail

cd "$(dirname "$0")/../.."
data=$(realpath "${1:?the folder of CIFAR-10}")
archs=$(realpath "${2:?a file of architectures}")
out=${3:-target/peers-results}
python=${NATV2_PYTHON:-target/peers/bin/python}
threads=${THREADS:-2}
weights=checkpoints/ofa_mbv3_w025_cifar10.safetensors
peers=benches/peers
mkdir -p "$out"

cargo build --release
cargo build --release --manifest-path $peers/moors/Cargo.toml
program=target/release/natv2

# Sub-networks with recalibration: natv2 on both sides of the peer, so that a drift shows.
ours() { $program evaluate --device cpu --threads "$threads" --weights $weights --data-dir "$data" \
    --archs "$archs" --images 2000 --calibration-images 500 --json --quiet >"$out/$1"; }
ours evaluate-before.json
"$python" $peers/ofa_pytorch.py --threads "$threads" --repeats 1 --weights $weights --data-dir "$data" \
    --archs "$archs" --images 2000 --calibration-images 500 --json "$out/ofa.json"
ours evaluate-after.json

"$python" $peers/onnxruntime_inference.py --natv2 $program --threads "$threads" --weights $weights \
    --data-dir "$data" --archs "$archs" --first 5 --json "$out/onnxruntime.json"

$program bench train --device cpu --threads "$threads" --weights $weights --resolution 48 --rounds 15 --json \
    --quiet >"$out/train.json"
"$python" $peers/ofa_training.py --threads "$threads" --json "$out/ofa-training.json"

RAYON_NUM_THREADS=1 cargo bench --bench moo -- 'sorting/10000x[234]$|nsga3/100x20'
RAYON_NUM_THREADS=1 cargo bench --bench predictor -- gbdt
"$python" $peers/pymoo_moo.py --only sorting/10000x --json "$out/pymoo-sorting.json"
"$python" $peers/pymoo_moo.py --only nsga3/100x20 --json "$out/pymoo.json"
(cd $peers/moors && cargo run --release --quiet) >"$out/moors.json"
"$python" $peers/lightgbm_predictor.py "$out/lightgbm.json"

"$python" $peers/table.py "$out" target/criterion
