#!/usr/bin/env bash
# check-threads.sh [BUILD_DIR] — the tests that use threads, under the thread sanitizer.
# gcc 12's runtime does not know wide address randomization, so it is switched off for the run where that is allowed.
set -u
cd "$(dirname "$0")/.."
cmake --preset tsan >/dev/null && cmake --build build-tsan -j "${JOBS:-$(nproc)}" -- --quiet || exit 1
quiet=(); setarch "$(uname -m)" -R true 2>/dev/null && quiet=(setarch "$(uname -m)" -R)
export TSAN_OPTIONS="halt_on_error=1 second_deadlock_stack=1"
exec "${quiet[@]}" tools/run-tests.sh build-tsan -t 900 -k '^test_(base|base_pool|pool|graph|graph_exec|exec|executor|serve|server|infer|sched|loader|data).*'
