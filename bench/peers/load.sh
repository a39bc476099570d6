#!/usr/bin/env bash
# load.sh FILE.gguf THREADS ROUNDS [cold] — from the start of the process to its end after one token of a one-word prompt, and the most memory it held:
# loam mapping the file and reading it into panels, ik_llama.cpp as it is (it maps) and repacking (-rtr 1), llama.cpp, by turns. Seconds, MB of resident peak.
#
#   cold: the page cache is emptied before each (needs root), and the same bytes are read by dd with O_DIRECT and by cat through the empty cache, so that the
#         share of the disk's rate can be said of the same minute.
#   LOAM (build/loam), IK and LLAMA: the programs, the peers' being their llama-cli; one that is not set is left out. CONTEXT (512) tokens of context.
#   Needs GNU time. Put what keeps others off the machine before the whole: it is over in a few seconds a round.
set -eu
model=$1 threads=$2 rounds=$3 cold=${4:-}
context=${CONTEXT:-512} bytes=$(stat -c %s "$model")
peak=$(mktemp); trap 'rm -f "$peak"' EXIT
empty() { if [ -n "$cold" ]; then sync; echo 3 >/proc/sys/vm/drop_caches; fi; }
one() {
    local name=$1 from to; shift
    empty
    from=$EPOCHREALTIME
    /usr/bin/time -o "$peak" -f %M "$@" >/dev/null 2>&1 </dev/null || { echo "$name: failed"; return; }
    to=$EPOCHREALTIME
    awk -v n="$name" -v a="$from" -v b="$to" -v k="$(tail -1 "$peak")" -v z="$bytes" -v cold="$cold" \
        'BEGIN { printf "%-14s %6.3f s   peak %7.1f MB", n, b - a, k * 1.024e-3; if (cold != "") printf "   %.2f GB/s of the file", z / (b - a) / 1e9; print "" }'
}
disk() {
    [ -n "$cold" ] || return 0
    one dd-direct dd if="$model" of=/dev/null bs=4M iflag=direct
    one cat cat "$model"
}
loam=${LOAM:-build/loam}
echo "file $bytes bytes, context $context, $threads threads${cold:+, cold}"
for _ in $(seq "$rounds"); do
    disk
    one loam-map "$loam" run "$model" --prompt a --max-tokens 1 --context "$context" --threads "$threads" --load map --quiet
    if [ -n "${IK:-}" ]; then one ik "$IK" -m "$model" -p a -n 1 -t "$threads" -c "$context" --no-warmup; fi
    one loam-panels "$loam" run "$model" --prompt a --max-tokens 1 --context "$context" --threads "$threads" --load read --quiet
    if [ -n "${IK:-}" ]; then one ik-repacked "$IK" -m "$model" -p a -n 1 -t "$threads" -c "$context" --no-warmup -rtr; fi
    if [ -n "${LLAMA:-}" ]; then one llama.cpp "$LLAMA" -m "$model" -p a -n 1 -t "$threads" -c "$context" --no-warmup -no-cnv; fi
done
disk
