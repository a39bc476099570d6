#!/usr/bin/env bash
# make.sh NOVELS.jsonl.zst [WORK, build/models] [DEVICE, cuda]: everything from the novels to models/*.gguf: curation, tokenizer, shards, both runs, quantized files, bits per byte.
#   LM_BIN: folder with loam (default build-cuda, then build). On one H100 about five minutes; with DEVICE cpu the small model takes hours, the large one days.
# The weights are the shipped ones to the bit only on the same kind of card with the same kernels; elsewhere the same up to rounding.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
novels=$1 work=${2:-$root/build/models} dev=${3:-cuda}
export LM_BIN=${LM_BIN:-$root/build-cuda}
[ -x "$LM_BIN/loam" ] || LM_BIN=$root/build
loam=$LM_BIN/loam
[ -f "$work/report.json" ] || python3 "$root/tools/models/curate.py" "$novels" "$work"
[ -f "$work/tok-8192/tokenizer.json" ] || "$loam" tokenizer train --data "$work/train.jsonl" --vocab 8192 --out "$work/tok-8192"
"$root/tools/models/final.sh" "$work/out" "$work" "$dev"
"$loam" convert "$work/runs/loam-30m-bf16" "$work/loam-30m.gguf" --dtype Q4_0 --embedding Q8_0 --force
"$loam" convert "$work/runs/loam-3m-bf16" "$work/loam-3m.gguf" --dtype Q8_0 --force
for m in loam-30m loam-3m; do "$loam" eval "$work/$m.gguf" --data "$work/test.jsonl" --window 1024 --stride 1024; done
python3 "$root/tools/models/ngram.py" "$work/train-8192" "$work/test-8192" || echo "no 5-gram: it needs numpy"
for f in test valid; do python3 - "$work/$f.jsonl" <<'PY'
import json, lzma, sys
t = "".join(json.loads(l)["text"] for l in open(sys.argv[1], encoding="utf-8")).encode()
print(f"xz -9e on {sys.argv[1]}: {8 * len(lzma.compress(t, preset=9 | lzma.PRESET_EXTREME)) / len(t):.4f} bits per byte")
PY
done
echo "$work/loam-30m.gguf and $work/loam-3m.gguf are made; models/ has the shipped ones"
