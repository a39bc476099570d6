#!/usr/bin/env bash
# check-threads.sh — the tests that use threads, under the thread sanitizer; only those are built. test_dist is not among them: Open MPI's own locks are reported.
# With LM_OBJECTS_FROM=build kernels of instruction sets that this machine does not choose, which nothing watches, are linked from there.
# gcc 12's runtime does not know wide address randomization, so it is switched off for the run where that is allowed.
set -u
cd "$(dirname "$0")/.." || exit 2
which='^test_(base_pool|graph|exec|infer|serve|server|sched|loader|data|train)([_a-z0-9]*)$'
jobs=${JOBS:-$(nproc)}
cmake --preset tsan ${LM_OBJECTS_FROM:+"-DLM_OBJECTS_FROM=$LM_OBJECTS_FROM"} >/dev/null || exit 1
mapfile -t tests < <(grep -E "$which" build-tsan/tests.list)
[ ${#tests[@]} -gt 0 ] || { echo "check-threads: no test matches $which"; exit 1; }
cmake --build build-tsan -j "$jobs" --target "${tests[@]}" -- --quiet || exit 1
off=(); setarch "$(uname -m)" -R true 2>/dev/null && off=(setarch "$(uname -m)" -R)
export TSAN_OPTIONS="halt_on_error=1 second_deadlock_stack=1"
exec "${off[@]}" tools/run-tests.sh build-tsan -j "$jobs" -t 900 -k "$which"
