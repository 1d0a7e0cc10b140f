#!/usr/bin/env bash
# What proves natv2 on a card, in two steps, so that the machine with the card needs neither Rust nor this
# checkout.
#
#   scripts/gpu-check.sh pack [--arch sm_90] FOLDER
#       here: builds the program and the checks for cards of one architecture, and leaves one archive in
#       FOLDER, which `tar xf` unpacks
#   scripts/gpu-check.sh lay-out FOLDER
#       here, for a try without a card: leaves what an archive holds in FOLDER/natv2-gpu-check, from the build that
#       the tests have, for the architectures of NATV2_CUDA_ARCHS
#   natv2-gpu-check/gpu-check.sh [cuda|cuda:N|emulated] [--small] [--only NAME,..] [--from NAME] [--limit SECONDS]
#                                [--list]
#       there: runs the steps one after the other, nine minutes at most on a card. --small, which `emulated` implies,
#       takes sizes for kernels that run on two cores: five minutes at most
#
# A step that takes longer than its limit, or than --limit, is stopped. After every step $OUT (else results/ beside this
# script) is complete: summary.jsonl has a line a step (name, seconds, exit, status: ok, failed or absent, and
# figures), results.tar all that the steps printed. A step whose tool this machine lacks is absent, which
# is no failure. The exit code is 1 if a step failed, and 2 for wrong arguments. card_table.py makes
# tables of a summary.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=natv2-gpu-check

complain() { echo "gpu-check.sh: $*" >&2; }
refuse() { complain "$@"; exit 2; }

# ---- pack ------------------------------------------------------------------------------------------------

# The path of an executable that cargo has just built, from its messages.
executable() { # kind
    python3 -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and sys.argv[1] in message["target"]["kind"]:
        print(message["executable"])' "$1"
}

# Builds the program and the checks, and lays out in a folder what an archive holds. The arguments behind it are
# cargo's, for the build.
lay_out() { # folder nvcc architecture arguments...
    local to=$1 nvcc=$2 arch=$3 built program checks name
    shift 3
    # The checks come with the program, which is compiled once so: on its own it would have other dependencies.
    built=$(cargo test "$@" --locked --test device --no-run --message-format=json) || return 1
    program=$(executable bin <<<"$built") && checks=$(executable test <<<"$built") || return 1
    [ -x "$program" ] && [ -x "$checks" ] || { complain "cargo did not say what it has built"; return 1; }

    mkdir -p "$to/golden" &&
        cp "$program" "$to/natv2" && cp "$checks" "$to/natv2-checks" || return 1
    for name in ofa_mbv3_w ofav2_ sandwich_w; do cp tests/golden/$name* "$to/golden/" || return 1; done
    cp scripts/gpu-check.sh scripts/card_table.py benches/peers/torch_cuda.py "$to/" || return 1
    printf '{"version":"%s","commit":"%s","architecture":"%s","compiler":"%s"}\n' \
        "$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)" \
        "$(git describe --always --dirty --exclude '*' 2>/dev/null || echo unknown)" \
        "$arch" "$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\),.*/\1/p')" >"$to/about.json"
}

# Finds the tools, makes the folder `to` and goes to the checkout's root. Sets `nvcc`.
prepare() { # folder tools...
    local name
    to=$1
    shift
    root=$(cd "$here/.." && pwd)
    [ -f "$root/Cargo.toml" ] || refuse "this builds from a checkout, and $root is none"
    nvcc=$(compiler) || exit 1
    for name in "$@"; do
        command -v "$name" >/dev/null || { complain "this needs $name, which is not on this machine"; exit 1; }
    done
    mkdir -p "$to" || exit 1
    to=$(cd "$to" && pwd)
    cd "$root" || exit 1
}

pack() {
    local arch=sm_90 to="" nvcc root staging
    while [ $# -gt 0 ]; do
        case $1 in
            --arch) arch=${2:?--arch needs an architecture, such as sm_90}; shift 2 ;;
            -*) refuse "pack knows --arch sm_NN and a folder, not $1" ;;
            *) [ -z "$to" ] || refuse "pack takes one folder"; to=$1; shift ;;
        esac
    done
    [ -n "$to" ] || refuse "pack needs the folder that the archive goes to"
    [[ $arch =~ ^sm_[0-9]+a?$ ]] || refuse "--arch $arch is no architecture: give sm_80, sm_90 or the like"
    prepare "$to" cargo python3 xz
    export NVCC=$nvcc NATV2_CUDA_ARCHS=$arch NATV2_LINEINFO=0

    staging=$(mktemp -d) || exit 1
    # shellcheck disable=SC2064 # the folder's name as it is now
    trap "rm -rf '$staging'" EXIT
    lay_out "$staging/$folder" "$nvcc" "$arch" --profile pack || exit 1
    local archive=$to/$folder-$arch.tar.xz
    # One block with a window of 128 MiB: both programs hold the same kernels, which then count once.
    if tar -C "$staging" -cf "$staging/$folder.tar" "$folder" &&
        xz -T1 --lzma2=preset=6,dict=128MiB -c "$staging/$folder.tar" >"$archive.new" && mv "$archive.new" "$archive"; then
        echo "$archive: $(($(stat -c %s "$archive") / 1048576 + 1)) MiB at most, for $arch"
        echo "there: tar xf $(basename "$archive") && $folder/gpu-check.sh"
    else
        complain "cannot write $archive: is the disk full?"
        exit 1
    fi
}

lay_out_for_a_try() {
    local to="" nvcc root
    while [ $# -gt 0 ]; do
        case $1 in
            -*) refuse "lay-out knows a folder, not $1" ;;
            *) [ -z "$to" ] || refuse "lay-out takes one folder"; to=$1; shift ;;
        esac
    done
    [ -n "$to" ] || refuse "lay-out needs the folder that $folder goes to"
    prepare "$to" cargo python3
    # The environment as it is: the build of the tests is there, and is not made again.
    lay_out "$to/$folder" "$nvcc" "${NATV2_CUDA_ARCHS:-all}" || exit 1
    echo "$to/$folder: scripts/with-stand-in-driver $to/$folder/gpu-check.sh cuda --small"
}

# nvcc as the build script finds it. Without one the pack would hold no kernels.
compiler() {
    if [ "${NVCC:-}" = none ]; then
        complain "NVCC=none packs no kernels: give the path of nvcc in NVCC"
        return 1
    fi
    "$here/find-nvcc" && return
    complain "no nvcc was found, and a pack without kernels proves nothing:" \
        "set NVCC, or NVCC=\$(.ci/install-cuda-compiler)"
    return 1
}

case ${1:-} in
    pack) shift; pack "$@"; exit ;;
    lay-out) shift; lay_out_for_a_try "$@"; exit ;;
esac

# ---- the steps -------------------------------------------------------------------------------------------

device=cuda only="" from="" list="" most="" small=""
while [ $# -gt 0 ]; do
    case $1 in
        --only) only=,${2:?--only needs names of steps},; shift 2 ;;
        --from) from=${2:?--from needs the name of a step}; shift 2 ;;
        --limit)
            most=${2:?--limit needs seconds}
            [[ $most =~ ^[1-9][0-9]*$ ]] || refuse "--limit takes whole seconds, not $most"
            shift 2
            ;;
        --list) list=yes; shift ;;
        --small) small=yes; shift ;;
        cuda | cuda:[0-9]* | emulated) device=$1; shift ;;
        -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit ;;
        *) refuse "$1 is not known: give cuda, cuda:N or emulated, --small, --only NAME,.., --from NAME, --limit SECONDS or --list" ;;
    esac
done

card=yes
[ "$device" = emulated ] && card="" small=yes
# A number on a card, and the one where kernels run on the CPU.
sized() { [ -z "$small" ] && echo "$1" || echo "$2"; }

torch_device=$device
# The name that doctor has for it.
named=$device
[ "$device" != cuda:0 ] || named=cuda
[ -n "$card" ] || torch_device=cpu
python=${NATV2_PYTHON:-python3}

# Whether this run is to make a step.
wanted() { # name
    [ -z "$only" ] || [[ $only == *,$1,* ]]
}

# A group of checks on the device of NATV2_TEST_DEVICE: those whose names begin with one of some words. That none is
# skipped unseen, they are counted first.
checks() { # name limit beginnings...
    local name=$1 limit=$2
    shift 2
    wanted "$name" && expected=$(./natv2-checks --list "${@/#/::}" 2>/dev/null | grep -c ': test$')
    step "$name" "$limit" tests ./natv2-checks --test-threads "$(sized 4 2)" "${@/#/::}"
}

images=$(sized 1000 1)
checked=$(sized 4 1)

# The limits of a card add up to less than nine minutes.
all_steps() {
    # What is here.
    step pack 2 json cat about.json
    step card 5 text nvidia-smi \
        --query-gpu=name,compute_cap,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit --format=csv
    step doctor "$(sized 13 120)" doctor ./natv2 doctor --json

    # Whether it is right.
    checks fused "$(sized 60 400)" fused_
    checks golden "$(sized 50 400)" golden_ operators_
    checks engine "$(sized 30 300)" engine_

    # How fast it is.
    step peaks "$(sized 8 60)" json ./natv2 bench kernels --device "$device" --only none --json
    step torch-peaks "$(sized 12 60)" json "$python" torch_cuda.py peaks --device "$torch_device"
    step kernels-bf16 "$(sized 20 200)" json ./natv2 bench kernels --device "$device" --precision bf16 --middle \
        --images "$images" --check-images "$checked" --json
    step kernels-f32 "$(sized 15 200)" json ./natv2 bench kernels --device "$device" \
        --images "$images" --check-images "$checked" --json
    local size=(--width 1.0 --resolution 64 --classes 200 --images 10000 --calibration-images 500 --networks 100)
    [ -z "$small" ] || size=(--width 0.25 --resolution 32 --images 16 --calibration-images 8 --networks 2)
    step population "$(sized 45 300)" json ./natv2 bench evaluate --device "$device" --precision bf16 "${size[@]}" \
        --streams 1 --streams 2 --graphs never --graphs always --rounds 1 --json
    step torch-mbconv "$(sized 15 60)" json "$python" torch_cuda.py mbconv --device "$torch_device"
    step torch-population "$(sized 30 60)" json "$python" torch_cuda.py population --device "$torch_device"

    # What the tools of CUDA see.
    step ncu 40 ncu ncu --clock-control none --csv --print-units base --section SpeedOfLight --section Occupancy \
        --section LaunchStats --kernel-name 'regex:^mbconv_[357]_[12]_bf16$' --filter-mode per-launch-config \
        --launch-count 1 ./natv2 bench kernels --device "$device" --precision bf16 --images 1000 --check-images 1 \
        --only mbconv --middle --repetitions 1
    local tool
    for tool in memcheck racecheck; do
        step "$tool" 50 sanitizer compute-sanitizer --tool "$tool" --error-exitcode 1 \
            ./natv2-checks --test-threads 4 ::fused_
    done

    # What it is for.
    local precision training=(--set train.schedule=eps) searching=()
    if [ -n "$small" ]; then
        training=(--set supernet.width=0.1 --set train.schedule=full)
        searching=(--set search.archive=4 --set search.oversample=1 --set search.iterations=1
            --set search.candidates=2)
    fi
    for precision in f32 f16 bf16; do
        step "train-$precision" "$(sized 15 100)" json ./natv2 train --device "$device" --profile tiny \
            --precision "$precision" --run "$logs/runs/train-$precision" "${training[@]}" --json
    done
    step search "$(sized 35 200)" json ./natv2 search --device "$device" --profile tiny --precision bf16 \
        --run "$logs/runs/search" "${searching[@]}" --json
}

if [ -n "$list$only$from" ]; then
    logs="" names=()
    step() { names+=("$1"); }
    all_steps
    if [ -n "$list" ]; then printf '%s\n' "${names[@]}"; exit; fi
    for name in ${only//,/ } $from; do
        [[ " ${names[*]} " == *" $name "* ]] || refuse "there is no step $name: give ${names[*]}"
    done
    if [ -n "$from" ]; then
        reached=no
        for name in "${names[@]}"; do
            [ "$name" = "$from" ] && reached=yes
            [ $reached = yes ] && { [ -z "$only" ] || [[ $only == *,$name,* ]]; } && rest=${rest:-,}$name,
        done
        only=${rest:-,}
    fi
fi

# ---- running them ----------------------------------------------------------------------------------------

out=${OUT:-$here/results}
mkdir -p "$out" && [ -w "$out" ] || { complain "cannot write to $out: set OUT to another folder"; exit 1; }
out=$(cd "$out" && pwd)
logs=$(mktemp -d "${TMPDIR:-/tmp}/natv2-gpu-check.XXXXXX") || { complain "cannot write to ${TMPDIR:-/tmp}: set TMPDIR"; exit 1; }
trap 'rm -rf "$logs"' EXIT
mkdir "$logs/results"
# Another part of the same proof: what the earlier one printed stays.
[ -f "$out/results.tar" ] && tar -C "$logs" -xf "$out/results.tar" 2>/dev/null
cd "$here" || exit 1
export NATV2_GOLDEN=$here/golden NATV2_TEST_DEVICE=$device
failed=0 stopped="" expected=0

# One line of text as the inside of a JSON string.
quoted() { tr -d '\000-\037' <<<"$1" | sed 's/\\/\\\\/g; s/"/\\"/g' | cut -c 1-400; }

# The last line of a file that is not empty.
last_line() { grep -v '^[[:space:]]*$' "$1" 2>/dev/null | tail -n 1; }

# What a step's output says, as JSON: nothing where it does not say it.
figures() { # kind output errors
    case $1 in
        json | doctor) tail -n 1 "$2" | grep -E '^\{.*\}$' ;;
        tests) sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed;.*/{"passed":\1,"failed":\2}/p' "$2" ;;
        ncu) awk -F '","' '/^"[0-9]/ { kernels[$5 "," $1] } END { n = 0; for (k in kernels) n++; if (n) printf "{\"kernels\":%d}\n", n }' "$2" ;;
        sanitizer) cat "$2" "$3" | sed -nE 's/^=+ (ERROR|RACECHECK) SUMMARY: ([0-9]+) .*/{"reports":\2}/p' | tail -n 1 ;;
        text) printf '{"text":"%s"}\n' "$(quoted "$(tr '\n' ';' <"$2")")" ;;
    esac
}

# Whether there is PyTorch: asked once, and outside of any step, since the first import reads gigabytes.
torch=""
look_for_torch() {
    [ -n "$torch" ] || torch=$(timeout -k 5 90 "$python" -c 'import torch; print("yes")' 2>/dev/null)
    torch=${torch:-no}
}

# Runs a command within a limit of seconds and keeps what it prints. `kind` is how figures are read.
step() { # name limit kind command...
    local name=$1 limit=$2 kind=$3 status=ok why="" code=0 found start micros
    shift 3
    { wanted "$name" && [ -z "$stopped" ]; } || return 0
    [ -z "$most" ] || limit=$((most < limit ? most : limit))
    local output=$logs/results/$name.txt errors=$logs/results/$name.err
    [[ $name != torch-* ]] || look_for_torch
    start=${EPOCHREALTIME/[.,]/}
    if ! why=$(missing "$name" "$1"); then
        status=absent code=127
    else
        timeout -k 5 "$limit" "$@" >"$output" 2>"$errors" </dev/null &
        running=$!
        wait "$running"
        code=$?
        # A signal ends the wait early; the step ends then too.
        [ -z "$stopped" ] || { wait "$running"; code=$?; }
        found=$(figures "$kind" "$output" "$errors" 2>/dev/null)
        case $code in
            0) ;;
            124 | 137) status=failed why="stopped after its limit of $limit seconds" ;;
            *) status=failed why=$(reason "$output" "$errors" "$code") ;;
        esac
        [ -z "$stopped" ] || { status=failed why="stopped by $stopped"; }
        # A doctor for whom the CPU is well has not seen the card.
        if [ $status = ok ] && [ "$kind" = doctor ] && ! grep -q "\"name\":\"$named\",\"state\":\"ok\"" "$output"; then
            status=failed why=$(sed -nE "s/.*\"name\":\"$named\",\"state\":\"[a-z]*\",\"value\":\"([^\"]*)\".*/\1/p" "$output")
            why="$device does not work: ${why:-doctor does not know it}"
        fi
        # A check that has checked nothing has not passed.
        if [ $status = ok ] && [ -z "$found" ]; then status=failed why="it printed no figures"; fi
        if [ $status = ok ] && [ "$kind" = tests ] &&
            ! { [ "$expected" -gt 0 ] && [ "$found" = "{\"passed\":$expected,\"failed\":0}" ]; }; then
            status=failed why="$expected checks were to run: $found"
        fi
    fi
    micros=$((${EPOCHREALTIME/[.,]/} - start))
    [ $status != failed ] || failed=1
    printf '%-17s %-6s %4d.%01d s  %s\n' "$name" "$status" $((micros / 1000000)) $((micros / 100000 % 10)) "$why"
    why=$(quoted "$why")
    keep "$(printf '{"name":"%s","seconds":%d.%03d,"exit":%d,"status":"%s"%s,"limit":%d,"device":"%s","figures":%s}' \
        "$name" $((micros / 1000000)) $((micros / 1000 % 1000)) "$code" "$status" "${why:+,\"why\":\"$why\"}" \
        "$limit" "$device" "${found:-null}")"
}

# Why a command failed: the first error that it names, else its last words.
reason() { # output errors code
    local line
    # What a driver that stands in for a card's has found.
    line=$(grep -hm 1 'driver: fault: ' "$2" "$1" 2>/dev/null | head -n 1)
    [ -n "$line" ] || line=$(grep -hm 1 '^error: ' "$2" "$1" 2>/dev/null | head -n 1)
    # What a check that has failed says stands behind the line that names it.
    [ -n "$line" ] || line=$(grep -hm 1 -A 1 "^thread '.* panicked at" "$1" "$2" 2>/dev/null | head -n 2 | tr '\n' ' ')
    [ -n "$line" ] || line=$(last_line "$2")
    [ -n "$line" ] || line=$(last_line "$1")
    echo "${line:-exit code $3 and no word}"
}

# Why a step cannot be made on this machine, with exit code 1; nothing where it can.
missing() { # name tool
    case $1 in
        card | ncu | memcheck | racecheck) [ -n "$card" ] || { echo "there is no card on $device"; return 1; } ;;
        torch-*) [ "$torch" = yes ] || { echo "$python has no PyTorch"; return 1; } ;;
    esac
    command -v "$2" >/dev/null || { echo "$2 is not on this machine"; return 1; }
}

# A line of the summary, and all results so far in one file; a run that is cut off here loses nothing.
keep() { # line
    # Runs of training and search are large, and their figures are in the summary.
    echo "$1" >>"$out/summary.jsonl" && cp "$out/summary.jsonl" "$logs/results/" &&
        find "$logs/results" -size +1024k -exec truncate -s 1M {} + &&
        tar -C "$logs" -cf "$out/.results.tar" results && mv "$out/.results.tar" "$out/results.tar" && return
    complain "cannot write to $out: is the disk full?"
    failed=1
}

interrupted() { stopped=$1; kill -TERM "${running:-$$}" 2>/dev/null; }
trap 'interrupted SIGINT' INT
trap 'interrupted SIGTERM' TERM

all_steps
if [ -z "$stopped" ] && [ "$failed" = 0 ]; then
    echo "all is well: $out/summary.jsonl"
else
    echo "something failed${stopped:+ ($stopped)}: $out/summary.jsonl says what, $out/results.tar has all that was printed"
    exit 1
fi
