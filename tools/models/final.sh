#!/usr/bin/env bash
# final.sh OUT WORK [DEVICE]: the two shipped models from curated text, as models/*.yaml say; NAME-hf.tar in OUT (bf16), curves, and figures.jsonl.
#   LM_BIN: folder with loam.  WORK: {train,valid,test}.jsonl and tok-8192/ (sweep.sh's).  SET30, SET3: key=value settings on top of the recipes.
set -u
out=$1 work=$2 dev=${3:-cuda} bin=${LM_BIN:-build-cuda} v=8192
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$out" "$work/runs"
for s in train valid test; do
    text=$work/$s.jsonl; [ -f "$text" ] || text=$text.zst
    [ -f "$work/$s-$v/index.json" ] || "$bin/loam" data tokenize --tokenizer "$work/tok-$v" --out "$work/$s-$v" "$text" --quiet || exit 1
done
train() { # NAME key=value…
    local name=$1 t=$SECONDS; shift
    rm -rf "$work/runs/$name"
    timeout "${LIMIT:-400}" "$bin/loam" train "$root/models/$name.yaml" data.path="$work/train-$v" data.val_path="$work/valid-$v" device="$dev" out="$work/runs/$name" "$@" --threads 4 --quiet --json >"$out/$name.json" 2>"$out/$name.err"
    echo "$name: rc $? in $((SECONDS - t)) s; $(cut -c1-400 "$out/$name.json") $(tail -n 1 "$out/$name.err" | cut -c1-200)"
    cp "$work/runs/$name/metrics.jsonl" "$out/$name.metrics.jsonl"
    "$bin/loam" convert "$work/runs/$name" "$work/runs/$name-bf16" --dtype bf16 --quiet && tar cf - -C "$work/runs" "$name-bf16" >"$out/$name.tar"
    ls -l "$out/$name.tar"
}
for m in ${MODELS:-loam-30m loam-3m}; do
    case $m in loam-30m) train $m ${SET30:-} ;; *) train $m ${SET3:-} ;; esac
done
