#!/usr/bin/env bash
# compare.sh OUT WORK NAME CONFIG.yaml [key=value…]: one run by loam and the same run by PyTorch (bench/peers/torch_train_text.py); both evaluated by `loam eval` on the test novels.
#   LM_BIN: folder with loam and bench_batches. SECONDS_MAX bounds PyTorch. DEVICE: cuda or cpu. A line of JSON in OUT/compare.jsonl.
set -u
out=$1 work=$2 name=$3 config=$4 bin=${LM_BIN:-build-cuda} dev=${DEVICE:-cuda} v=8192; shift 4
root=$(cd "$(dirname "$0")/../.." && pwd)
d=$work/compare/$name; rm -rf "$d"; mkdir -p "$d" "$out"
common="data.path=$work/train-$v data.val_path=$work/valid-$v data.mask_docs=false"
run() { timeout "${LIMIT:-120}" "$bin/loam" train "$config" $common "$@" --threads 4 --quiet --json; }
"$bin/loam" train "$config" $common "$@" --print-config --json >"$d/config.json" || exit 1
run "$@" train.steps=0 device=cpu out="$d/init" >/dev/null || exit 1
read -r seq seed rows windows < <(python3 -c '
import json,sys
c, ix = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))
print(c["data"]["seq"], c["train"]["seed"], c["train"]["steps"] * c["train"]["batch"], min(ix["tokens"] // c["data"]["seq"], c["train"]["val_batches"] * (c["train"]["micro_batch"] or c["train"]["batch"])))' "$d/config.json" "$work/valid-$v/index.json")
"$bin/bench_batches" "$work/train-$v" "$d/ids.u16" "$seq" "$seed" "$rows" && "$bin/bench_batches" "$work/valid-$v" "$d/valid.u16" "$seq" "$seed" "$windows" 0 || exit 1
t=$SECONDS
run "$@" device="$dev" out="$d/loam" train.log_every=1 >"$d/loam.json" 2>"$d/loam.err" || { tail -n 2 "$d/loam.err"; exit 1; }
echo "loam: $((SECONDS - t)) s"; t=$SECONDS
timeout "${SECONDS_MAX:-200}" python3 "$root/bench/peers/torch_train_text.py" "$d/init" "$d/config.json" "$d/ids.u16" "$d/valid.u16" "$d/torch" ${TORCH_ARGS:-} >"$d/torch.log" 2>&1 || { tail -n 5 "$d/torch.log"; exit 1; }
echo "torch: $((SECONDS - t)) s: $(tail -n 1 "$d/torch.log" | cut -c1-300)"
python3 - "$d" "$name" "$*" >>"$out/compare.jsonl" <<'PY'
import json, sys
d, name, args = sys.argv[1:]
rows = [json.loads(l) for l in open(d + "/loam/metrics.jsonl")]
a = [r["loss"] for r in rows if "loss" in r and "val_loss" not in r]
r, t = json.load(open(d + "/loam.json")), json.load(open(d + "/torch/losses.json"))
b = t["losses"]
n = min(len(a), len(b))
rel = [abs(x - y) / y for x, y in zip(a, b)]
tail = max(1, n // 10)
ma, mb = sum(a[n - tail:n]) / tail, sum(b[n - tail:n]) / tail
print(json.dumps({"name": name, "set": args, "steps": n, "largest_rel": max(rel), "mean_rel": sum(rel) / n, "last_tenth_loam": ma, "last_tenth_torch": mb, "last_tenth_rel": abs(ma - mb) / mb, "val_loam": r.get("val_loss"),
                  "val_torch": t["val_loss"], "val_rel": abs(r.get("val_loss", 0) - t["val_loss"]) / t["val_loss"], "loam_step_ms": 1e3 * r["step_s"], "torch_tok_s": t["tok_s"], "device": t["device"], "torch": t["torch"],
                  "every": max(1, n // 50), "loam": [round(x, 5) for x in a[::max(1, n // 50)]], "peer": [round(x, 5) for x in b[:n:max(1, n // 50)]]}))
PY
tail -n 1 "$out/compare.jsonl" | cut -c1-500
