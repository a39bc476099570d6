#!/usr/bin/env bash
# sweep.sh OUT WORK [JOBS] [DEVICE]: the small trials behind the shipped models' recipes, JOBS at a time; a line of JSON a trial in OUT/sweep.jsonl, curves in OUT/curves/.
#   LM_BIN: folder with loam.  WORK: folder with {train,valid}.jsonl of curate.py and tok-V/ for each vocabulary.  Every trial trains on the same text; bits per byte are on
#   the validation authors. The proxy: d 256, 6 layers, 8k vocabulary, 500 steps of 64 x 512 tokens (0.6 of the text).
set -u
out=$1 work=$2 jobs=${3:-4} dev=${4:-cuda} bin=${LM_BIN:-build-cuda}
mkdir -p "$out/curves" "$work/runs"
proxy="device=$dev data.seq=512 data.mask_docs=false model.d=256 model.n_layer=6 model.n_head=4 model.d_ff=768 model.max_pos=1024 train.steps=500 train.batch=64 train.dtype=bf16 train.recompute=0
 train.checkpoint_every=0 train.val_every=0 train.val_batches=64 train.log_every=10 optim.warmup=50 optim.min_lr=0.05 optim.schedule=linear"
muon="optim.name=muon optim.lr=0.004 optim.muon_lr=0.02 optim.muon_weight_decay=0.02"
shards() { # TEXT VOCAB NAME
    local text=$work/$1.jsonl; [ -f "$text" ] || text=$text.zst
    [ -f "$work/$3/index.json" ] || "$bin/loam" data tokenize --tokenizer "$work/tok-$2" --out "$work/$3" "$text" --quiet >"$work/$3.log" 2>&1 || { echo "tokenizing $1 at $2: $(tail -n 1 "$work/$3.log")"; exit 1; }
}
one() { # NAME VOCAB TRAIN-SHARDS key=value…
    local name=$1 v=$2 data=$3 t=$SECONDS; shift 3
    timeout ${LIMIT:-60} "$bin/loam" train data.path="$work/$data" data.val_path="$work/valid-$v" out="$work/runs/$name" $proxy "$@" ${EXTRA:-} --threads 3 --quiet --json >"$work/runs/$name.json" 2>"$work/runs/$name.err"
    local rc=$?
    cp "$work/runs/$name/metrics.jsonl" "$out/curves/$name.jsonl" 2>/dev/null
    python3 - "$name" "$rc" "$work/runs/$name.json" "$work/runs/$name.err" "$((SECONDS - t))" "$*" >>"$out/sweep.jsonl" <<'PY'
import json, sys
n, rc, f, e, s, args = sys.argv[1:]
try: r = json.load(open(f))
except Exception: r = {"error": open(e).read()[-300:]}
print(json.dumps({"name": n, "rc": int(rc), "val_bpb": r.get("val_bpb"), "val_loss": r.get("val_loss"), "loss": r.get("loss"), "step_ms": round(1e3 * r.get("step_s", 0), 2), "seconds": int(s), "set": args, **({"error": r["error"]} if "error" in r else {})}))
PY
    rm -rf "$work/runs/$name"
}
export -f one; export out work bin dev proxy LIMIT EXTRA
for v in ${VOCABS:-8192 4096 16384}; do shards train $v train-$v; shards valid $v valid-$v; done
[ -f "$work/eighth.jsonl" ] || [ -f "$work/eighth.jsonl.zst" ] || awk 'NR % 8 == 3' "$work/train.jsonl" >"$work/eighth.jsonl"
shards eighth 8192 eighth-8192
one warm 8192 train-8192 $muon train.steps=2 >/dev/null; cat "$out/sweep.jsonl"
trials() {
cat <<'T'
muon-0.01 8192 train-8192 optim.muon_lr=0.01
muon-0.02 8192 train-8192
muon-0.04 8192 train-8192 optim.muon_lr=0.04
muon-0.08 8192 train-8192 optim.muon_lr=0.08
muon-0.02-lr-0.002 8192 train-8192 optim.lr=0.002
muon-0.02-lr-0.008 8192 train-8192 optim.lr=0.008
muon-0.02-lr-0.016 8192 train-8192 optim.lr=0.016
adamw-0.001 8192 train-8192 optim.name=adamw optim.lr=0.001
adamw-0.002 8192 train-8192 optim.name=adamw optim.lr=0.002
adamw-0.004 8192 train-8192 optim.name=adamw optim.lr=0.004
adamw-0.008 8192 train-8192 optim.name=adamw optim.lr=0.008
seed-2 8192 train-8192 train.seed=2
vocab-4k 4096 train-4096
vocab-16k 16384 train-16384
ctx-256 8192 train-8192 data.seq=256 train.batch=128
ctx-1024 8192 train-8192 data.seq=1024 train.batch=32
shape-d128-l26 8192 train-8192 model.d=128 model.n_layer=26 model.n_head=2 model.d_ff=384
shape-d384-l3 8192 train-8192 model.d=384 model.n_layer=3 model.n_head=6 model.d_ff=1024
kv-1 8192 train-8192 model.n_kv=1
batch-32 8192 train-8192 train.batch=32 train.steps=1000
batch-128 8192 train-8192 train.batch=128 train.steps=250
rep-drop-0 8192 eighth-8192 train.steps=900
rep-drop-0.1 8192 eighth-8192 train.steps=900 train.dropout=0.1
rep-drop-0.2 8192 eighth-8192 train.steps=900 train.dropout=0.2
rep-wd-0.1 8192 eighth-8192 train.steps=900 optim.muon_weight_decay=0.1
T
}
trials | grep -E "${ONLY:-.}" | xargs -P "$jobs" -L 1 bash -c 'one "$0" "$1" "$2" '"$muon"' "${@:3}"' 
