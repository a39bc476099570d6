#!/usr/bin/env bash
# fuzz.sh SECONDS — libFuzzer on every fuzz program, SECONDS each, starting from fuzz/corpus. New inputs stay in build-fuzz/.
set -u
cd "$(dirname "$0")/.."
secs=${1:-30}
cmake --preset fuzz >/dev/null && cmake --build build-fuzz -j "${JOBS:-$(nproc)}" -- --quiet || exit 1
bad=0
while read -r n; do
    short=${n#fuzz_}; new=build-fuzz/corpus/$short; mkdir -p "$new"
    dict=(); [ -f "fuzz/dict/$short.dict" ] && dict=(-dict="fuzz/dict/$short.dict")
    seeds=(); [ -d "fuzz/corpus/$short" ] && seeds=("fuzz/corpus/$short")
    build-fuzz/fuzz/"$n" -max_total_time="$secs" -rss_limit_mb=2048 -timeout=5 -print_final_stats=1 -artifact_prefix="build-fuzz/$short-" \
        "${dict[@]}" "$new" "${seeds[@]}" >"build-fuzz/$short.log" 2>&1 || { bad=1; echo "$n: FAILED, see build-fuzz/$short.log"; tail -n 30 "build-fuzz/$short.log"; continue; }
    echo "$n: $(awk '/number_of_executed_units/ {print $2}' "build-fuzz/$short.log") inputs, no finding"
done <build-fuzz/fuzz.list
exit $bad
