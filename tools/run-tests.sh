#!/usr/bin/env bash
# run-tests.sh BUILD_DIR [-j N] [-t SECONDS] [-k REGEX] [--fuzz] — run the test programs of a build and sum their cases.
# Programs run in parallel; the output of one that fails is printed with the command that repeats it. The last line is always
# "N passed, N failed, N skipped" (cases). A program that dies or times out is one failure more. --fuzz: replay the fuzz corpora instead.
set -u
build=${1:?usage: run-tests.sh BUILD_DIR [-j N] [-t SECONDS] [-k REGEX] [--fuzz]}; shift
root=$(cd "$(dirname "$0")/.." && pwd); build=$(cd "$build" && pwd) || exit 1
jobs=$(nproc); limit=300; only=.; kind=tests
while [ $# -gt 0 ]; do case $1 in
    -j) jobs=$2; shift 2;; -t) limit=$2; shift 2;; -k) only=$2; shift 2;; --fuzz) kind=fuzz; shift;;
    *) echo "run-tests.sh: unknown option $1" >&2; exit 2;; esac; done
logs=$build/$kind-logs; rm -rf "$logs"; mkdir -p "$logs"
export build logs limit kind root
one() {
    local n=$1 rc start end; local -a cmd=("$build/$kind/$n")
    [ $kind = fuzz ] && cmd+=("$root/fuzz/corpus/${n#fuzz_}")
    start=$(date +%s%N)
    timeout -k 5 "$limit" "${cmd[@]}" </dev/null >"$logs/$n.log" 2>&1; rc=$?
    end=$(date +%s%N)
    echo "$rc $(( (end - start) / 1000000 ))" >"$logs/$n.rc"
    case $rc in
        0|77) return;;
        124|137) why="timed out after ${limit}s";;
        *) why="exit status $rc";;
    esac
    { printf '%s\n' "--- $n: $why"; tail -n 60 "$logs/$n.log"; printf '%s\n' "    repeat: ${cmd[*]}"; } >"$logs/$n.fail"
    cat "$logs/$n.fail"
}
export -f one
list=$(grep -E -- "$only" "$build/$kind.list" || true)
[ -n "$list" ] && printf '%s\n' "$list" | xargs -r -P "$jobs" -I{} bash -c 'one {}'
passed=0 failed=0 skipped=0
for n in $list; do
    read -r rc ms <"$logs/$n.rc" || { rc=1; ms=0; }
    line=$(grep -aE '^[0-9]+ cases, [0-9]+ failed, [0-9]+ skipped$' "$logs/$n.log" | tail -n 1)
    if [[ $line =~ ^([0-9]+)\ cases,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
        c=${BASH_REMATCH[1]} f=${BASH_REMATCH[2]} s=${BASH_REMATCH[3]}
        p=$((c - f - s)); [ $p -lt 0 ] && p=0
    else c=0 f=0 s=0 p=0; fi
    # an exit status that the closing line does not explain: crash, sanitizer report at exit, timeout
    if { [ "$rc" != 0 ] && [ "$rc" != 77 ] && [ $f = 0 ]; } || { [ -z "$line" ] && [ "$rc" = 0 ]; }; then
        f=$((f + 1)); [ -z "$line" ] && [ "$rc" = 0 ] && echo "--- $n: no closing line"
    fi
    passed=$((passed + p)); failed=$((failed + f)); skipped=$((skipped + s))
    [ "$s" -gt 0 ] && grep -ah '^skipped ' "$logs/$n.log" | sed "s/^/$n: /" | head -n 3
    [ "${ms:-0}" -gt 20000 ] && echo "slow: $n took $((ms / 1000)) s"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
