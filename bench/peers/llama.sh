#!/usr/bin/env bash
# llama.sh FILE.gguf THREADS ROUNDS GEN — loam, ik_llama.cpp and llama.cpp by turns on one file: a prompt of 512 tokens, then GEN tokens, tokens/s.
#
#   LOAM (build/loam), IK and LLAMA: the programs, the peers' being their llama-bench built for this machine; one that is not set is left out.
#   ik_llama.cpp runs twice, as it is and with its weights repacked when they are loaded (-rtr 1). Put what keeps others off the machine into QUIET.
set -eu
model=$1 threads=$2 rounds=$3 gen=$4
of() { grep -E "$1" | grep -oE '[0-9.]+ ±' | tr -d ' ±' || true; }
peer() {
    local name=$1; shift
    local o; o=$(${QUIET:-} "$@" -m "$model" -p 512 -n "$gen" -t "$threads" -r 1 2>/dev/null)
    echo "$name prefill $(of pp512 <<<"$o") decode $(of "tg$gen" <<<"$o")"
}
for _ in $(seq "$rounds"); do
    o=$(${QUIET:-} "${LOAM:-build/loam}" bench infer --model "$model" --prompt 512 --gen "$gen" --chunk 512 --kv bf16 --threads "$threads" --repeat 1 2>/dev/null)
    echo "loam prefill $(awk '$2 == "prefill" { print $3 }' <<<"$o") decode $(awk '$2 == "decode" { print $3 }' <<<"$o")"
    if [ -n "${IK:-}" ]; then peer ik "$IK" -rtr 0; peer ik-repacked "$IK" -rtr 1; fi
    if [ -n "${LLAMA:-}" ]; then peer llama.cpp "$LLAMA"; fi
done
