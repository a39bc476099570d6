#!/bin/sh
# gen_lists.sh OUTDIR — the tables of loam, made from the folders: a feature is in the program because its file is there.
# op_list.inc has one line OP(name) per src/op/<name>/<name>.c; the other lists have one line per src/<room>/<name>.c, without the room's own
# files (room*.c, main.c), shared pieces (*_common.c, *_int.c) and instruction-set files. A list is rewritten only when it changed.
set -eu
out=${1:?usage: gen_lists.sh OUTDIR}
src=$(CDPATH= cd -- "$(dirname -- "$0")/../src" && pwd)
mkdir -p "$out"
LC_ALL=C; export LC_ALL

put() {  # put LIST: stdin becomes the list, if different
    tmp="$out/$1.tmp.$$"
    sort > "$tmp"
    if cmp -s "$tmp" "$out/$1"; then rm -f "$tmp"; else mv -f "$tmp" "$out/$1"; fi
}
files() {  # files ROOM MACRO
    for f in "$src/$1"/*.c; do
        [ -f "$f" ] || continue
        b=${f##*/}; b=${b%.c}
        case $b in
            "$1"*|main|*_common|*_int|*_simd|*_avx2|*_avx512|*_avx512bf16|*_vnni|*_amx|*_cuda) continue ;;
            *[!a-zA-Z0-9_]*) echo "gen_lists.sh: $f: a feature's name is a C name" >&2; exit 1 ;;
        esac
        echo "$2($b)"
    done
}
for d in "$src"/op/*/; do
    b=${d%/}; b=${b##*/}
    [ -f "$d$b.c" ] && echo "OP($b)" || :
done | put op_list.inc
files quant QUANT | put quant_list.inc
files model MODEL | put model_list.inc
files optim OPTIM | put optim_list.inc
files sample SAMPLER | put sampler_list.inc
files ann INDEX | put index_list.inc
files grammar GRAMMAR | put grammar_list.inc
files infer/propose PROPOSER | put proposer_list.inc
files cmd CMD | put cmd_list.inc
