#!/usr/bin/env bash
# check-headers.sh [BUILD_DIR] — each header compiles alone: in C all of them, in C++ the public ones (base's, and each room's own src/<room>/<room>.h).
set -u
cd "$(dirname "$0")/.." || exit 2
gen=${1:-build}/gen
flags=(-fsyntax-only -Wall -Wextra -Wno-psabi -Wno-pragma-once-outside-header -Werror -Isrc -I"$gen" -Iinclude '-DLM_VERSION="0"' -DLM_ISA=portable -DLM_ISA_IS_portable)
export flags_c="${flags[*]}"
c() { gcc -x c -std=gnu17 -Wstrict-prototypes -Wno-unused-function $flags_c "$1" >/dev/null 2>&1 || { echo "headers: $1 does not compile alone in C:"; gcc -x c -std=gnu17 $flags_c "$1" 2>&1 | grep -m3 error; exit 1; }; }
cxx() { g++ -x c++ -std=gnu++20 -Wno-unused-function -Wno-missing-field-initializers -Wno-overflow -Wno-narrowing $flags_c "$1" >/dev/null 2>&1 || { echo "headers: $1 does not compile alone in C++:"; g++ -x c++ -std=gnu++20 $flags_c "$1" 2>&1 | grep -m3 error; exit 1; }; }
export -f c cxx
all=$(find src include -name '*.h' 2>/dev/null | sort)
public=$(awk -F/ '$1 == "include" || ($2 == "base" && $3 ~ /^(base|file|option|pool)\.h$/) || (NF == 3 && $3 == $2 ".h" && $2 != "cmd")' <<<"$all")
bad=0
xargs -r -P "$(nproc)" -I{} bash -c 'c {}' <<<"$all" || bad=1
xargs -r -P "$(nproc)" -I{} bash -c 'cxx {}' <<<"$public" || bad=1
[ $bad = 0 ] && echo "headers: $(wc -l <<<"$all") compile alone in C, $(wc -l <<<"$public") in C++"
exit $bad
