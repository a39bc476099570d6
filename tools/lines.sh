#!/usr/bin/env bash
# lines.sh — lines per room: small is a feature, so growth is printed.
cd "$(dirname "$0")/.." || exit 1
count() { find "$@" -type f \( -name '*.c' -o -name '*.h' -o -name '*.cu' \) -print0 2>/dev/null | xargs -0 -r cat | wc -l; }
total=0
for d in src/*/; do n=$(count "$d"); total=$((total + n)); printf '%7d  %s\n' "$n" "${d%/}"; done
printf '%7d  src\n%7d  tests\n%7d  fuzz, bench\n' $total "$(count tests)" "$(count fuzz bench)"
long=$(find src -name '*.[ch]' -print0 | xargs -0 -r wc -l | awk '$2 != "total" && $1 > 1200 {print "  " $2 ": " $1}')
[ -z "$long" ] || { echo "over 1200 lines:"; echo "$long"; exit 1; }
