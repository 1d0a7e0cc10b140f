#!/usr/bin/env bash
# Everything that proves the CUDA kernels on a card, in two steps, so that the machine with the card
# needs neither Rust nor this checkout.
#
#   scripts/gpu-check.sh pack FOLDER   here: builds the program and the tests and copies them, the
#                                      reference values and this script into FOLDER
#   FOLDER/gpu-check.sh [cuda:N]       there: runs them on the card and keeps everything that they
#                                      print in FOLDER/results
#
# With nvcc on PATH (or NVCC set) when packing, the kernels are compiled in; else the machine with the
# card needs NVRTC. compute-sanitizer is used where it is installed. `FOLDER/gpu-check.sh emulated`
# tries the same steps without a card.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tests=(golden_networks golden_step ops ops_formats ops_half ops_mbconv ops_mbconv_pass resident batches population)

pack() { # folder
    local folder=$1 name binary
    cd "$here/.."
    mkdir -p "$folder/golden"
    cargo build --release --locked
    cp target/release/natv2 "$folder/"
    for name in "${tests[@]}"; do
        binary=$(cargo test --release --locked --test "$name" --no-run --message-format=json |
            python3 -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and "test" in message["target"]["kind"]:
        print(message["executable"])')
        cp "$binary" "$folder/test-$name"
    done
    cp tests/golden/* "$folder/golden/"
    cp scripts/gpu-check.sh "$folder/"
    echo "packed; copy $folder to the machine with the card and run gpu-check.sh there"
}

if [ "${1:-}" = pack ]; then
    pack "${2:?name the folder to pack into}"
    exit
fi

device=${1:-cuda}
cd "$here"
mkdir -p results
failed=0
step() { # name command...
    local name=$1
    shift
    echo "=== $name"
    if "$@" >"results/$name.txt" 2>&1; then
        tail -n 3 "results/$name.txt" | cut -c 1-160
    else
        failed=1
        tail -n 30 "results/$name.txt"
        echo "FAILED: $name (results/$name.txt)"
    fi
}

export NATV2_GOLDEN=$here/golden NATV2_TEST_DEVICE=$device
step doctor ./natv2 doctor
for name in "${tests[@]}"; do
    step "test-$name" "./test-$name"
done
step search ./natv2 search --device "$device" --profile tiny --run results/search
images=64
[ "$device" = emulated ] && images=1
step kernels ./natv2 bench kernels --device "$device" --images "$images"
step kernels-json ./natv2 bench kernels --device "$device" --images "$images" --json
step kernels-bf16 ./natv2 bench kernels --device "$device" --images "$images" --precision bf16
step plan ./natv2 bench plan --device "$device" --mode evaluation
step plan-bf16 ./natv2 bench plan --device "$device" --mode evaluation --precision bf16
step plan-train-bf16 ./natv2 bench plan --device "$device" --mode training --precision bf16
for precision in f16 bf16; do
    step "digits-$precision" ./natv2 search --device "$device" --profile tiny --run "results/search-$precision" \
        --set search.precision="$precision"
done
if [ "$device" != emulated ]; then
    for precision in f32 f16 bf16; do
        step "evaluate-$precision" ./natv2 bench evaluate --device "$device" --precision "$precision" --json
    done
    for precision in f32 f16 bf16; do
        step "train-$precision" ./natv2 bench train --device "$device" --precision "$precision" --json
        step "train-digits-$precision" ./natv2 train --device "$device" --profile tiny --precision "$precision" \
            --run "results/train-$precision"
    done
    step search-parts ./natv2 bench search --device "$device" --json
fi
if [ "$device" != emulated ] && command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck synccheck; do
        step "sanitizer-$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 ./test-ops
    done
fi
exit "$failed"
