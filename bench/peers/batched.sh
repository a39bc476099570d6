#!/usr/bin/env bash
# batched.sh FILE.gguf THREADS GEN SEQS… — GEN tokens of each of SEQS sequences side by side, after prompts of 16 tokens, f16 pages, tokens/s of all together.
#
#   LOAM (build/loam), IK and LLAMA: the programs, the peers' being their llama-batched-bench; one that is not set is left out. Loam runs before and after them.
#   ik_llama.cpp runs twice, as it is and with its weights repacked when they are loaded (-rtr); IK_ARGS: only so.
set -eu
model=$1 threads=$2 gen=$3; shift 3
most=$(printf '%s\n' "$@" | sort -n | tail -1)
peer() {
    local name=$1 fa=-fa; shift
    [ "$name" = llama.cpp ] || fa=
    "$@" -m "$model" -c $((most * (gen + 16))) -b 512 -ub 512 -npp 16 -ntg "$gen" -npl "$seqs" -t "$threads" $fa 2>&1 | tr -d ' ' |
        awk -F'|' -v n="$name" '$2 == 16 { print n, $4, "sequences: prefill", $7, "decode", $9 }'
}
loam() {
    for n in ${seqs//,/ }; do
        ${LOAM:-build/loam} bench infer --model "$model" --prompt 16 --gen "$gen" --seqs "$n" --chunk 512 --kv f16 --threads "$threads" --repeat 1 ${LOAM_ARGS:-} 2>/dev/null |
            awk -v n="$n" '$2 == "prefill" { p = $3 } $2 == "decode" { print "loam", n, "sequences: prefill", p, "decode", $3 }'
    done
}
seqs=$(IFS=,; echo "$*")
loam
if [ -n "${IK:-}" ]; then [ -n "${IK_ARGS:-}" ] || peer ik "$IK"; peer ik-repacked "$IK" -rtr; fi
if [ -n "${LLAMA:-}" ]; then peer llama.cpp "$LLAMA"; fi
loam
