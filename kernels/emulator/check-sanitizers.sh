#!/usr/bin/env bash
# Builds the emulated kernels with their checks, several ways, and runs them:
#
#   plain      no sanitizer
#   ucontext   no sanitizer, fibers switched by the C library instead of assembly: the emulator's own kernels,
#              which have every way to wait that there is
#   address    AddressSanitizer and UndefinedBehaviorSanitizer
#   thread     ThreadSanitizer
#
# Every check must pass and be clean, in forward and in reverse order, on one and on several
# operating-system threads (ThreadSanitizer has one of each: what is a race depends on neither, and each
# thread of a kernel costs it a thread's memory); every planted bug must be found by whom it says (tests/check.h).
#
#   check-sanitizers.sh [FILE.cu | FILE.cpp ...]
#
# takes all files of kernels and of tests/, and any further files named. A file with checks needs
# only to include tests/check.h. NATV2_SANITIZE=plain|ucontext|address|undefined|thread runs one
# way alone; CXX picks the compiler; NATV2_SANITIZE_DIR says where to build.
set -euo pipefail

emulator=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kernels=$(dirname "$emulator")
out=${NATV2_SANITIZE_DIR:-$(dirname "$kernels")/target/emulator}
cxx=${CXX:-g++}
jobs=$(nproc 2>/dev/null || echo 2)

modes=${NATV2_SANITIZE:-plain ucontext address thread}
[ "$modes" = undefined ] && modes=address

runtime=("$emulator"/*.cpp)
folders=() sources=()
for folder in "$kernels"/*/; do
    folder=${folder%/}
    if [ "$folder" != "$emulator" ]; then
        folders+=("$folder")
        for source in "$folder"/*.cu; do
            if [ -e "$source" ]; then sources+=("$source"); fi
        done
    fi
done
all=("${sources[@]}" "$emulator"/tests/*.cu "$emulator"/tests/*.cpp "$@")
own=("$emulator"/tests/*.cu "$emulator"/tests/{driver,samples_check,bugs_check}.cpp)

# Prints one compile command a line for what is out of date.
commands() { # mode
    local mode=$1 common sanitize="" file object newest
    # Lines for stack traces, no variables: following these through mbconv.cu takes the compiler minutes.
    common="-std=c++17 -O1 -g1 -Wall -Wextra -Wno-unknown-pragmas -fno-strict-aliasing -fno-omit-frame-pointer"
    common+=" -ffp-contract=off -DNATV2_EMULATOR -I$emulator -I$emulator/tests ${folders[*]/#/-I}"
    case $mode in
        plain) common+=" -O2" ;;
        ucontext) common+=" -O2 -DNAT_EMULATOR_UCONTEXT" ;;
        address)
            common+=" -DNAT_EMULATOR_ASAN"
            sanitize="-fsanitize=address,undefined -fno-sanitize-recover=all" ;;
        # The emulator's own files are not instrumented: sanitizer.h says why.
        thread)
            common+=" -DNAT_EMULATOR_TSAN"
            sanitize="-fsanitize=thread" ;;
        *) echo "NATV2_SANITIZE is $mode; it takes plain, ucontext, address, undefined or thread" >&2; exit 2 ;;
    esac
    newest=$(ls -t "$emulator"/*.h "$emulator"/tests/*.h "$kernels"/*/*.cuh "${BASH_SOURCE[0]}" | head -1)
    local checked=("${all[@]}")
    [ "$mode" = ucontext ] && checked=("${own[@]}")
    for file in "${runtime[@]}" "${checked[@]}"; do
        object="$out/$mode/$(basename "$file").o"
        objects+=("$object")
        [ "$object" -nt "$file" ] && [ "$object" -nt "$newest" ] && continue
        local flags=$sanitize
        [[ $mode = thread && " ${runtime[*]} " = *" $file "* ]] && flags=""
        echo "$cxx $common $flags -x c++ -c $file -o $object" >>"$out/$mode/commands"
    done
    link="$cxx $sanitize ${objects[*]} -o $out/$mode/driver -lpthread"
}

failed=0
fail() { echo "FAILED: $*" >&2; failed=1; }

for mode in $modes; do
    mkdir -p "$out/$mode"
    : >"$out/$mode/commands"
    objects=()
    commands "$mode"
    xargs -d '\n' -P "$jobs" -I{} sh -c '{}' <"$out/$mode/commands"
    $link
    driver="$out/$mode/driver"

    runs=("--threads 1 --reverse" "--threads 3")
    [ "$mode" = thread ] || runs+=("--threads 1" "--threads 3 --reverse")
    pids=()
    for run in "${!runs[@]}"; do
        # shellcheck disable=SC2086
        "$driver" ${runs[run]} >"$out/$mode/log.$run" 2>&1 &
        pids+=($!)
    done
    for run in "${!runs[@]}"; do
        if ! wait "${pids[run]}"; then
            cat "$out/$mode/log.$run" >&2
            fail "$mode ${runs[run]}"
        fi
    done
    echo "$mode: $(tail -1 "$out/$mode/log.0"), in both orders, on one and three threads"

    found=0
    while read -r finder name text; do
        case $finder in
            launch | result) [ "$mode" = thread ] && continue ;;
            address | undefined) [ "$mode" = address ] || continue ;;
            thread) [ "$mode" = thread ] || continue ;;
        esac
        status=0
        TSAN_OPTIONS=halt_on_error=1 "$driver" --bug "$name" >"$out/$mode/log" 2>&1 || status=$?
        case $finder in
            launch | result) [ $status -eq 0 ] ;;
            *) [ $status -ne 0 ] && [ $status -ne 3 ] && grep -q "$text" "$out/$mode/log" && grep -q "bugs.cu" "$out/$mode/log" ;;
        esac || { cat "$out/$mode/log" >&2; fail "$mode: planted bug $name was not found"; continue; }
        found=$((found + 1))
    done < <("$driver" --bugs)
    echo "$mode: $found planted bugs found"
done
exit $failed
