#!/usr/bin/env bash
# floors.sh [ROOT] — the building code: a room includes only rooms on lower floors, and what must not know names does not.
#   1. #include "room/…" in src/<room> names itself or a room below; rooms on one floor do not know each other; cmd may include all.
#   2. The graph room names no op but the core ones; src/train, src/infer, src/data and the command table name no op, model or command row.
#   3. Only cmd may print, exit or read the environment.
# Prints lines per room; exits 1 with file:line for each violation.
set -u
tools=$(cd "$(dirname "$0")" && pwd)
root=${1:-$tools/..}; cd "$root/src" || exit 2
floors="base:1 device:2 tensor:3 quant:4 format:5 op:6 graph:7 optim:8 dist:8 model:9 sample:9 ann:9 tok:9 grammar:9 data:10 train:11 infer:11 eval:12 chat:12
        tune:13 compress:13 serve:14 rag:14 api:15 cmd:16"
# Two floors of the plan are split, because one of the rooms plainly stands on the other: quant on tensor (a tensor names its format row by a forward
# declaration only), train and infer on data (a batch).
core='add|cast|copy|matmul|matmul_fp8|quant_fp8|split|all_reduce|all_gather|reduce_scatter|broadcast'
bad=0; say() { echo "floors: $*"; bad=1; }
declare -A floor; for f in $floors; do floor[${f%:*}]=${f#*:}; done

for d in */; do
    room=${d%/}
    [ -n "$(find "$room" -name '*.[ch]' -o -name '*.cu' | head -n 1)" ] || continue
    [ -n "${floor[$room]:-}" ] || { say "src/$room stands on no floor: add it to tools/floors.sh"; continue; }
    while IFS=: read -r file line text; do
        to=$(sed -E 's/^[^"]*"([^"]*)".*/\1/' <<<"$text"); other=${to%%/*}
        if [ "$other" = "$to" ]; then   # no folder: a generated list or a stray relative include
            case $to in *_list.inc|loam.h) ;; *) say "src/$file:$line: \"$to\": say the room (\"$room/$to\")";; esac; continue
        fi
        [ "$other" = "$room" ] || [ "$room" = cmd ] && continue
        [ -n "${floor[$other]:-}" ] || { say "src/$file:$line: \"$to\": no such room"; continue; }
        [ "${floor[$other]}" -lt "${floor[$room]}" ] || say "src/$file:$line: $room (floor ${floor[$room]}) includes \"$to\" (floor ${floor[$other]})"
    done < <(grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "$room" --include='*.c' --include='*.h' --include='*.cu')
done

hits() { grep -rnE "$1" "${@:2}" --include='*.c' --include='*.h' 2>/dev/null | grep -vE '^[^:]*:[0-9]+:[[:space:]]*(/?\*|//)'; }
ops=$(for d in op/*/; do [ -d "$d" ] && basename "$d"; done | grep -vxE "$core" | paste -sd'|')
if [ -n "$ops" ]; then
    while read -r h; do [ -n "$h" ] && say "src/$h: the graph room names an op"; done < <(hits "\blm_op_($ops)\b|include \"op/($ops)/" graph)
    while read -r h; do [ -n "$h" ] && say "src/$h: a loop names an op row"; done < <(hits "\blm_op_($ops)\b" train infer data)
fi
rows() { for f in "$1"/*.c; do b=$(basename "$f" .c); case $b in "$1"*|main|*_common|*_int|'*') ;; *) echo "$b";; esac; done | paste -sd'|'; }
models=$(rows model); cmds=$(rows cmd)
[ -n "$models" ] && while read -r h; do [ -n "$h" ] && say "src/$h: names a model row"; done < <(hits "\blm_model_($models)\b" graph train infer data eval cmd/main.c)
[ -n "$cmds" ] && [ -f cmd/main.c ] && while read -r h; do [ -n "$h" ] && say "src/$h: main names a command row"; done < <(grep -HnE "\blm_cmd_($cmds)\b" cmd/main.c)
rooms=$(for d in */; do [ "$d" = cmd/ ] || echo "${d%/}"; done)
# shellcheck disable=SC2086
while read -r h; do [ -n "$h" ] && say "src/$h: only cmd prints, exits or reads the environment"; done \
    < <(hits '(^|[^_[:alnum:].>"])(printf|puts|putchar|exit|abort|getenv|secure_getenv|setenv)[[:space:]]*\(|fprintf[[:space:]]*\([[:space:]]*(stderr|stdout)' $rooms | grep -vE 'format\(printf|__attribute__')

[ "${2:-}" = quiet ] || "$tools/lines.sh" || bad=1
[ $bad = 0 ] && echo "floors: fine"
exit $bad
