#!/usr/bin/env bash
# gpu.sh [PART…] — everything that is shown on a GPU machine, and a table of it last: builds where there is no program yet, checks every CUDA row against the double
# reference, runs all of them under compute-sanitizer, compares generation and training with the CPU's, then times training beside torch.compile in the same run.
#   PARTS: driver sanitizer parity losses curves attn sinks rows tiles train fp8 infer alone faults peer peer_decode (default: all of these); with two GPUs also: multi multi_faults peer_multi
#   LM_BIN: folder with loam and tests/ (default build-cuda); OUT: where details go (default build-cuda/gpu); LM_TEXT: text to train on, some megabytes
set -u
cd "$(dirname "$0")/.." || exit 2
bin=${LM_BIN:-build-cuda}; out=${OUT:-build-cuda/gpu}; mkdir -p "$out"
if [ $# = 0 ]; then
    set -- driver sanitizer parity losses curves attn sinks rows tiles train fp8 infer alone faults peer peer_decode
    [ "$(nvidia-smi -L 2>/dev/null | grep -c '^GPU')" -lt 2 ] || set -- "$@" multi multi_faults peer_multi
fi
fix=${LM_FIX:-tests/fixtures/models}
table=$out/table.txt; : >"$table"
say() { printf '%s\n' "$*" | tee -a "$table"; }
[ -x "$bin/loam" ] || { make cuda >"$out/build.log" 2>&1 || { tail "$out/build.log"; exit 1; }; }
field() { python3 -c 'import json,sys; d=json.load(open(sys.argv[1])); print(next((r["value"] for r in d if r["name"]==sys.argv[2]), "?"))' "$1" "$2"; }
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | head -1 | tee -a "$table"

driver() {
    LM_DEVICE=cuda timeout 240 "$bin/tests/test_ops" test_kernels >"$out/driver.log" 2>&1; local rc=$?
    say "driver: rc $rc; $(grep -c ' (seed ' "$out/driver.log") failures; $(tail -n 1 "$out/driver.log")"
    grep ' (seed ' "$out/driver.log" | sed -E 's/ \(seed.*//' | awk -F, '{print $1}' | sort | uniq -c | sort -rn | head -40
    grep ' (seed ' "$out/driver.log" | cut -c1-230 | head -${SHOW:-25}
}
# TOOLS over every row (SAN_OPS), a process for each op, several at once; memcheck and synccheck also over a few steps of training and of generation. What the copy engine brings or takes away
# behind an mbarrier looks like a race to racecheck and like nothing to initcheck (in cuBLASLt's kernels too), so racecheck leaves such kernels out; whether a row writes all of its output, and
# reads nothing that nobody wrote, the driver sees by poison.
sanitizer() {
    command -v compute-sanitizer >/dev/null || { say "sanitizer: there is no compute-sanitizer here"; return; }
    local more k
    for k in nvjet hopper_ lm_tiles_kernel fp8_kernel '::rows<' 4rowsI '::decode<' 6decodeI '::prompt<' 6promptI; do more="${more:-} --kernel-name-exclude kernel_substring=$k"; done
    local tool all=${SAN_OPS:-$(ls src/op/*/*_cuda.cu | awk -F/ '{print $3}' | uniq)}
    export LM_DEVICE=cuda bin out more
    for tool in ${TOOLS:-memcheck racecheck initcheck synccheck}; do
        one() {
            local few= but=
            case $1 in racecheck) but=$more ;; initcheck) few=1 ;; synccheck) few=3 ;; esac
            LM_OPS=$2 LM_SAMPLES=${few:-999} timeout -s KILL "${SAN_LIMIT:-150}" compute-sanitizer --tool "$1" $but --error-exitcode 9 "$bin/tests/test_ops" test_kernels >"$out/san.$1.$2.log" 2>&1; echo "$?" >"$out/san.$1.$2.rc"
        }
        whole() {
            local cmd
            case $2 in
                train) cmd="bench train --device cuda --shape llama-30m --dtype bf16 --batch 4 --seq 512 --repeat 2" ;;
                train-gpt2) cmd="bench train --device cuda --shape gpt2-124m --dtype bf16 --batch 1 --seq 256 --repeat 1" ;;
                decode) cmd="bench infer --device cuda --shape smollm-135m --dtype bf16 --kv bf16 --prompt 160 --depth 100 --gen 6 --seqs 5 --chunk 800 --repeat 1" ;;
            esac
            timeout -s KILL "${SAN_LIMIT:-150}" compute-sanitizer --tool "$1" --error-exitcode 9 "$bin/loam" $cmd >"$out/san.$1.$2.log" 2>&1; echo "$?" >"$out/san.$1.$2.rc"
        }
        export -f one whole
        local runs=${SAN_WHOLE-train train-gpt2 decode}
        case $tool in racecheck|initcheck) runs= ;; esac
        rm -f "$out"/san."$tool".*
        { for k in $runs; do echo "whole $tool $k"; done
          for k in attn_grad attn xent_step attn_paged matmul; do grep -qwF "$k" <<<"$all" && echo "one $tool $k"; done
          for k in $all; do case $k in attn_grad|attn|xent_step|attn_paged|matmul) ;; *) echo "one $tool $k" ;; esac; done; } | timeout -s KILL "${SAN_TOTAL:-900}" xargs -P "${SAN_JOBS:-14}" -I{} bash -c '{}'
        for k in $(pgrep -f "compute-sanitizer --tool $tool"); do pkill -KILL -P "$k"; kill -KILL "$k"; done 2>/dev/null      # nothing stays to disturb what is timed next
        python3 - "$out" "$tool" $all $runs <<'PY' | tee -a "$table"
import os, re, sys
out, tool = sys.argv[1:3]
clean, late, bad = [], [], []
for name in sys.argv[3:]:
    f = f"{out}/san.{tool}.{name}."
    rc = open(f + "rc").read().strip() if os.path.exists(f + "rc") else "124"
    log = open(f + "log", errors="replace").read() if os.path.exists(f + "log") else ""
    found = re.findall(r"^========= ((?:Invalid|Uninitialized|Error|Race|Warning: Race|Barrier|Program hit|Potential|Misaligned|Divergent|Missing|Fatal).*)", log, re.M)
    if rc == "0" and not found: clean.append(name)
    elif rc in ("124", "137") and not found: late.append(name)
    else: bad.append((name, rc, found, log))
print(f"{tool}: {len(clean)} clean, {len(late)} not ended in time ({' '.join(late)}), {len(bad)} with findings")
for name, rc, found, log in bad[:12]:
    print(f"  {name}: rc {rc}, {len(found)}; {log.strip().splitlines()[-1][:120]}")
    for l in sorted(set(found))[:4]: print("     " + l[:200])
    at = re.findall(r"^=========     at (.*)", log, re.M)
    for l in sorted(set(at))[:3]: print("     at " + l[:200])
PY
    done
}
parity() {
    LM_DEVICE=cuda LOAM_PARITY=1 timeout 160 "$bin/tests/test_model_parity" test_transformers >"$out/parity.log" 2>&1; local rc=$?
    LM_DEVICE=cuda LOAM_PARITY=1 timeout 100 "$bin/tests/test_model_parity" test_bf16_on_device >"$out/bf16.log" 2>&1 || rc=$?
    cat "$out/bf16.log"
    local what name test     # models wide enough for the kernels of few rows; the step as one kernel; steps in flight; products of many rows; attention of many blocks
    for what in test_infer/test_wide_on_device test_infer/test_step_on_device test_ahead/test_on_card test_products_dev/test_on_device test_muon/test_on_device test_attn_dev/test_on_device test_attn_sinks/test_on_device test_attn_sinks/test_pages_on_device; do
        name=${what%/*} test=${what#*/}
        [ -x "$bin/tests/$name" ] || { say "parity: tests/$name is not built: $test was left out"; continue; }
        LM_DEVICE=cuda LOAM_PARITY=1 timeout 60 "$bin/tests/$name" "$test" >"$out/$test.log" 2>&1 || rc=$?
        grep '^|' "$out/$test.log"; say "$test: $(tail -n 1 "$out/$test.log")"
    done
    grep '^|' "$out/parity.log"
    say "parity: rc $rc; $(grep -c '^|' "$out/parity.log") checkpoints against transformers: logits, losses, every gradient, 256 greedy tokens; $(tail -n 1 "$out/parity.log")"
    grep -vE '^\||^ok' "$out/parity.log" | head -12
    for t in cpu cuda; do timeout 60 "$bin/loam" run "$fix/gpt2" --prompt "Once upon a time" --temperature 0 --max-tokens 48 --ignore-eos --dtype f32 --device $t --json 2>&1 | sed 's/, "prompt_tokens".*//' >"$out/run.$t"; done
    cmp -s "$out/run.cpu" "$out/run.cuda" && say "loam run --device cuda: the CPU's 48 greedy tokens" || say "loam run --device cuda differs: $(head -c 200 "$out/run.cuda")"
    for t in cpu cuda; do timeout 60 "$bin/loam" run "$fix/gpt2" --prompt "Once upon a time" --seed 7 --max-tokens 48 --ignore-eos --dtype f32 --device $t --json 2>&1 | sed 's/, "prompt_tokens".*//' >"$out/draw.$t"; done
    cmp -s "$out/draw.cpu" "$out/draw.cuda" && say "loam run --device cuda, sampled: the CPU's 48 tokens" || say "loam run --device cuda, sampled, differs: $(head -c 200 "$out/draw.cuda")"
}
losses() {   # of a small model on text; gpt2: gelu's rows, in bf16 alone beside the processor's f32
    local t k f
    for f in llama gpt2; do
        for k in f32 bf16 bf16_pure; do
            for t in cpu cuda; do
                [ $t = cpu ] && [ $k != f32 ] && continue
                [ $f = gpt2 ] && [ $k = bf16_pure ] && continue
                rm -rf "$out/run-$f-$k-$t"
                timeout 150 "$bin/loam" train examples/tiny.yaml model.family=$f data.path="${LM_TEXT:-README.md}" train.steps=20 train.val_every=0 train.sample_every=0 train.dtype=$k device=$t out="$out/run-$f-$k-$t" \
                    >"$out/train-$f-$k-$t.log" 2>&1 || say "losses: $f, $k on $t failed: $(tail -n 1 "$out/train-$f-$k-$t.log" | cut -c1-240)"
            done
        done
    done
    python3 - "$out" <<'PY' | tee -a "$table"
import json, sys, os
def read(n):
    p = f"{sys.argv[1]}/{n}/metrics.jsonl"
    return [json.loads(l)["loss"] for l in open(p) if '"loss"' in l] if os.path.exists(p) else []
for f in ("llama", "gpt2"):
    c = read(f"run-{f}-f32-cpu")
    for k in ("f32", "bf16", "bf16_pure"):
        g = read(f"run-{f}-{k}-cuda")
        if c and g: print(f"losses: {f}, {k} on the card: {len(g)} steps, first {g[0]:.6f} last {g[-1]:.6f}; largest relative difference to the CPU's f32 {max(abs(a-b)/abs(b) for a,b in zip(g,c)):.2e}")
PY
}
# 500 steps of GPT-2 124M's shape on text beside torch's: the same initial weights, sequences in the same order, hyper-parameters (the bar: 0.3 % after 500 steps)
curves() {
    local work=$out/curves text=${LM_TEXT:-/dev/null} v=8192
    [ "$(stat -c %s "$text")" -gt 1000000 ] || { say "curves: left out: LM_TEXT names no text of a megabyte or more (a shorter one is known by heart after 500 steps)"; return; }
    [ -x "$bin/bench_batches" ] || cmake --build "$bin" --target bench_batches >"$out/curves.log" 2>&1 || { say "curves: bench_batches does not build"; return; }
    rm -rf "$work"; mkdir -p "$work"
    head -c "$(($(stat -c %s "$text") / 20 * 19))" "$text" >"$work/train.txt"; tail -c "$(($(stat -c %s "$text") / 20))" "$text" >"$work/valid.txt"
    { "$bin/loam" tokenizer train --data "$work/train.txt" --vocab "${CURVES_VOCAB:-$v}" --out "$work/tok" --quiet &&
        for t in train valid; do "$bin/loam" data tokenize --tokenizer "$work/tok" --out "$work/$t-$v" "$work/$t.txt" --quiet || exit 1; done &&
        LM_BIN=$bin DEVICE=${CURVES_DEVICE:-cuda} tools/models/compare.sh "$work" "$work" gpt2-124m examples/gpt2-124m.yaml data.seq=512 train.steps=500 train.batch=16 train.micro_batch=16 train.checkpoint_every=0 \
            train.val_every=0 train.sample_every=0 optim.warmup=50 ${CURVES_SET:-}; } >"$out/curves.log" 2>&1
    [ -s "$work/compare.jsonl" ] || { say "curves: $(tail -n 1 "$out/curves.log" | cut -c1-300)"; return; }
    python3 -c 'import json, sys
r = json.loads(open(sys.argv[1]).readlines()[-1])
print("curves: {steps} steps, a step apart by {mean_rel:.3%} (largest {largest_rel:.2%}), last tenth {last_tenth_loam:.4f} : torch {torch} {last_tenth_torch:.4f} ({last_tenth_rel:.3%}), validation apart by {val_rel:.3%}".format(**r))
n = r["every"]
print("    step, loam, torch: " + "; ".join(f"{i * n} {a:.4f} {b:.4f}" for i, (a, b) in enumerate(zip(r["loam"], r["peer"])) if i % 5 == 0))' "$work/compare.jsonl" | tee -a "$table"
}
attn() {   # deps/lib: static libraries beside the project, where the machine has none
    nvcc -std=c++17 -shared -Xcompiler -fPIC -DLM_CUDA -D_GNU_SOURCE -Isrc -o "$out/attn_gpu.so" bench/peers/attn_gpu.cu "$bin/libloam.a" -Ldeps/lib -lxxhash -ljansson -lyaml -lzstd -lz >"$out/attn.log" 2>&1 \
        || { say "attn: $(tail -n 1 "$out/attn.log" | cut -c1-200)"; return; }
    timeout 150 python3 bench/peers/torch_attn_gpu.py --lib "$out/attn_gpu.so" >"$out/attn.txt" 2>"$out/attn.log" || say "attn: $(tail -n 1 "$out/attn.log" | cut -c1-200)"
    grep TFLOP "$out/attn.txt" | tee -a "$table"
}
rows() {   # the kernels of a decode step by themselves
    nvcc -std=c++17 -O3 -gencode=arch=compute_90a,code=sm_90a -Xcompiler -fno-exceptions -DLM_CUDA -D_GNU_SOURCE -Isrc -o "$out/rows_gpu" bench/rows_gpu.cu "$bin/libloam.a" -Ldeps/lib -lxxhash -ljansson -lyaml -lzstd -lz >"$out/rows.log" 2>&1 \
        || { say "rows: $(grep -m1 -E 'error|undefined' "$out/rows.log" | cut -c1-200)"; return; }
    timeout 60 "$out/rows_gpu" ${ROWS:-} | while read -r l; do say "$l"; done
}
tiles() {   # products that finish their tiles, beside cuBLASLt's
    nvcc -std=c++17 -O3 -gencode=arch=compute_90a,code=sm_90a -Xcompiler -fno-exceptions -DLM_CUDA -D_GNU_SOURCE -Isrc -o "$out/tiles_gpu" bench/tiles_gpu.cu "$bin/libloam.a" -Ldeps/lib -lxxhash -ljansson -lyaml -lzstd -lz >"$out/tiles.log" 2>&1 \
        || { say "tiles: $(grep -m1 -E 'error|undefined' "$out/tiles.log" | cut -c1-200)"; return; }
    timeout 60 "$out/tiles_gpu" | while read -r l; do say "$l"; done
}
sinks() {   # what attention sinks cost beside the attention they belong to
    nvcc -std=c++17 -O3 -gencode=arch=compute_90a,code=sm_90a -Xcompiler -fno-exceptions -DLM_CUDA -D_GNU_SOURCE -Isrc -o "$out/sinks_gpu" bench/sinks_gpu.cu "$bin/libloam.a" -Ldeps/lib -lxxhash -ljansson -lyaml -lzstd -lz >"$out/sinks.log" 2>&1 \
        || { say "sinks: $(grep -m1 -E 'error|undefined' "$out/sinks.log" | cut -c1-200)"; return; }
    timeout 60 "$out/sinks_gpu" | while read -r l; do say "$l"; done
}
train() {
    while read -r shape b t rec; do
        timeout 170 "$bin/loam" bench train --device cuda --shape "$shape" --dtype bf16 --batch "$b" --seq "$t" --repeat ${REPEAT:-8} --recompute "$rec" --ops --json >"$out/train.$shape.$b.$rec.json" 2>"$out/train.$shape.$b.$rec.err" \
            || { say "train $shape B$b: $(tail -n 1 "$out/train.$shape.$b.$rec.err" | cut -c1-300)"; continue; }
        local f=$out/train.$shape.$b.$rec.json
        say "loam $shape B$b T$t recompute $rec: $(field "$f" train_step) ms, $(field "$f" train) tok/s, $(field "$f" device_memory) MB, update $(field "$f" train_update) ms, loss $(field "$f" train_loss)"
        python3 -c 'import json,sys
for r in json.load(open(sys.argv[1])):
    if r["name"].split(".")[0] in ("accumulate","update") and r["value"] > 0.15: print("  %-34s %8.2f ms  %s" % (r["name"], r["value"], r["note"]))
    if r["name"].startswith("device_"): print("  %-34s %.4g %s" % (r["name"], r["value"], r["unit"]))' "$f" | tee -a "$table"
    done <<<"${TRAIN:-gpt2-124m 64 1024 -1
gpt2-774m 16 1024 -1
llama-1.1b 8 2048 -1}"
}
fp8() {   # the rows against the reference, the 1.1B step beside bf16's, FP8_STEPS of a small model on text beside bf16's
    local k f
    LM_DEVICE=cuda LM_OPS=quant_fp8,matmul_fp8,rope_fp8,swiglu_fp8,swiglu_grad_fp8 timeout 60 "$bin/tests/test_ops" test_kernels >"$out/fp8.driver.log" 2>&1
    say "fp8 driver: rc $?; $(grep -c ' (seed ' "$out/fp8.driver.log") failures; $(tail -n 1 "$out/fp8.driver.log")"
    grep ' (seed ' "$out/fp8.driver.log" | cut -c1-230 | head -8
    for k in bf16 fp8; do
        f=$out/fp8.step.$k.json
        timeout 60 "$bin/loam" bench train --device cuda --shape llama-1.1b --dtype $k --batch 8 --seq 2048 --repeat "${REPEAT:-8}" --ops --json >"$f" 2>"$out/fp8.err" \
            || { say "fp8: a step in $k: $(tail -n 1 "$out/fp8.err" | cut -c1-300)"; continue; }
        say "loam llama-1.1b B8 T2048 $k: $(field "$f" train_step) ms, $(field "$f" device_memory) MB, loss $(field "$f" train_loss)"
        python3 -c 'import json,sys
for r in json.load(open(sys.argv[1])):
    if r["name"].startswith("accumulate") and r["value"] > 0.5: print("  %-34s %8.2f ms  %s" % (r["name"], r["value"], r["note"]))
    if r["name"].startswith("fp8_"): print("  %-34s %.3g  %s" % (r["name"], r["value"], r["note"]))' "$f" | tee -a "$table"
    done
    for k in bf16 fp8; do          # both at once: they are not timed
        rm -rf "$out/fp8-$k"
        { timeout 60 "$bin/loam" train examples/tiny.yaml data.path="${LM_TEXT:-README.md}" model.d=512 model.d_ff=1536 model.n_head=8 data.seq=256 train.batch=32 train.steps="${FP8_STEPS:-1000}" optim.lr=0.001 \
            train.val_every="${FP8_STEPS:-1000}" train.sample_every=0 train.checkpoint_every=0 train.dtype=$k device=cuda out="$out/fp8-$k" >"$out/fp8-$k.log" 2>&1  || say "fp8: training in $k: $(tail -n 1 "$out/fp8-$k.log" | cut -c1-240)"; } &
    done
    wait
    python3 - "$out" <<'PY' | tee -a "$table"
import json, sys, os
def read(k):
    p = f"{sys.argv[1]}/fp8-{k}/metrics.jsonl"
    return [json.loads(l) for l in open(p)] if os.path.exists(p) else []
a, b = read("bf16"), read("fp8")
if a and b:
    la, lb = ([r["loss"] for r in x if "loss" in r] for x in (a, b))
    n, la, lb = len(la), la[-100:], lb[-100:]
    va, vb = ([r["val_loss"] for r in x if "val_loss" in r][-1] for x in (a, b))
    ma, mb = sum(la) / len(la), sum(lb) / len(lb)
    print(f"fp8 losses after {n} steps: mean of the last {len(la)} bf16 {ma:.5f} fp8 {mb:.5f} ({100 * (mb / ma - 1):+.3f} %); validation {va:.5f} {vb:.5f} ({100 * (vb / va - 1):+.3f} %); {[r['fp8'] for r in b if 'fp8' in r][-1]}")
PY
}
infer() {
    while read -r shape dt seqs prompt; do
        local f=$out/infer.$shape.$dt.$seqs.json
        timeout 120 "$bin/loam" bench infer --device cuda --shape "$shape" --dtype "$dt" --kv bf16 --prompt "$prompt" --depth 448 --gen 64 --seqs "$seqs" --chunk $((prompt < 2048 && seqs * prompt > 2048 ? 2048 : seqs * prompt)) --repeat 3 --ops --json >"$f" 2>"$out/infer.err" \
            || { say "infer $shape $dt: $(tail -n 1 "$out/infer.err" | cut -c1-300)"; continue; }
        say "loam $shape $dt, $seqs sequences: prefill $seqs x $prompt $(field "$f" prefill) tok/s, decode $(field "$f" decode) tok/s, again $(field "$f" decode_again), weights $(field "$f" weights) MB"
        python3 -c 'import json,sys
for r in json.load(open(sys.argv[1])):
    if r["name"].startswith(("decode.", "prefill.")) and r["value"] > 0.01: print("  %-34s %8.3f ms  %s" % (r["name"], r["value"], r["note"]))' "$f" | tee -a "$table"
    done <<<"${INFER:-llama-1b bf16 1 512
llama-1b bf16 16 512
llama-1b bf16 64 128
llama-1b bf16 8 2048}"
}
alone() {   # deterministic mode: its bits, and what it costs beside the usual decode in the same run
    local n k v p
    LM_DEVICE=cuda timeout 60 "$bin/tests/test_infer" test_rows_alone >"$out/alone.log" 2>&1; say "deterministic mode: rc $?; $(tail -n 1 "$out/alone.log")"
    head -8 "$out/alone.log"
    for p in ${ALONE:-1x128 1x512 16x128 64x128 8x2048}; do
        v= n=${p%x*} p=${p#*x}
        for k in "" --deterministic; do
            timeout 60 "$bin/loam" bench infer --device cuda --shape "${SHAPE:-llama-1b}" --dtype bf16 --kv bf16 --prompt "$p" --depth 448 --gen 64 --seqs "$n" --chunk $((n * p > 2048 ? 2048 : n * p)) --repeat 3 $k --json >"$out/alone.json" 2>"$out/alone.err" \
                || say "deterministic: $(tail -n 1 "$out/alone.err" | cut -c1-300)"
            v="$v$(field "$out/alone.json" decode) tok/s (prefill $(field "$out/alone.json" prefill)) "
        done
        say "deterministic, $n sequences of $p: usual, then in the mode: $v"
    done
}
faults() {   # a card that is lost while a program uses it, one that has too little memory, none
    local log=$out/fault.log run=$out/fault-run base="examples/tiny.yaml data.path=${LM_TEXT:-README.md} train.steps=1000000 train.checkpoint_every=20 train.val_every=0 train.sample_every=0 device=cuda" t k
    for k in cuda:0 cuda:0,stepwise; do
        rm -rf "$run"; t=$SECONDS
        SICK_WHEN=$run/checkpoints/latest LD_PRELOAD=$bin/tests/libmock_sick_card.so timeout 90 "$bin/loam" train $base device=$k out="$run" >"$log" 2>&1
        say "faults: a kernel's wrong access while training on $k: rc $?, $((SECONDS - t)) s: $(tail -n 1 "$log" | cut -c1-420)"
    done
    timeout 60 "$bin/loam" train $base train.steps=1 out="$run" --resume >"$log" 2>&1; say "faults: resumed: rc $?: $(tail -n 1 "$log" | cut -c1-200)"
    rm -f "$out/now"; { sleep 4; touch "$out/now"; } &
    SICK_WHEN=$out/now LD_PRELOAD=$bin/tests/libmock_sick_card.so timeout 60 "$bin/loam" bench infer --device cuda --shape llama-30m --dtype bf16 --prompt 64 --gen 400 --repeat 1000 >"$log" 2>&1
    say "faults: while generating: rc $?: $(tail -n 1 "$log" | cut -c1-420)"; wait
    timeout 60 "$bin/loam" train $base model.d=8192 model.n_head=64 model.d_ff=24576 model.n_layer=48 data.seq=1024 train.batch=64 out="$out/too-large" >"$log" 2>&1; say "faults: too little memory: rc $?: $(tail -n 14 "$log" | cut -c1-300)"
    CUDA_VISIBLE_DEVICES= timeout 60 "$bin/loam" train $base out="$run" >"$log" 2>&1; say "faults: no card: rc $?: $(tail -n 1 "$log" | cut -c1-300)"
    timeout 60 "$bin/loam" train $base device=cuda:7 out="$run" >"$log" 2>&1; say "faults: cuda:7: rc $?: $(tail -n 1 "$log" | cut -c1-300)"
}
peer() { while read -r shape b t; do say "$(timeout 240 python3 bench/peers/torch_train_gpu.py --shape "$shape" --batch "$b" --seq "$t" 2>"$out/peer.err" | tail -n 1)"; done <<<"${PEER:-gpt2-124m 64 1024
gpt2-774m 16 1024
llama-1.1b 8 2048}"; }
# ---- two GPUs of one host: ranks that know RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT alone, as torchrun sets them ----
nccl() { python3 -c 'import glob, site, sys
import importlib.util as u
s = u.find_spec("nvidia"); d = list(s.submodule_search_locations) if s else []
print(next(iter(sorted(f for x in d for f in glob.glob(x + "/nccl/lib/libnccl.so.2"))), ""))'; }
ranks() {   # ranks PORT N CMD…: the worst exit status; a rank that fails does not leave the others waiting for ever (train.timeout)
    local port=$1 n=$2 r rc=0 p pids=; shift 2
    for ((r = 0; r < n; r++)); do RANK=$r LOCAL_RANK=$r WORLD_SIZE=$n LOCAL_WORLD_SIZE=$n MASTER_ADDR=127.0.0.1 MASTER_PORT=$port "$@" & pids="$pids $!"; done
    for p in $pids; do wait "$p" || rc=$?; done
    return $rc
}
multi_losses() {   # the same twenty steps on one process and on meshes (a tiny model), three at a time: losses and final weights
    local dev=${MULTI_DEVICE:-cuda} k m port=29600 pids= p base
    base="examples/tiny.yaml data.path=${LM_TEXT:-README.md} train.steps=20 train.val_every=0 train.sample_every=0 train.checkpoint_every=0 train.timeout=60 threads=2"
    for k in f32 bf16; do
        for m in ${MULTI_MESHES:-one dp=2 zero1=2 zero2=2 fsdp=2 again}; do
            [ "$k$dev" = bf16cpu ] && continue
            case $k$m in f32again|bf16zero1=2|bf16zero2=2) continue ;; esac
            local name=multi-$k-${m%=*}; rm -rf "$out/$name"; port=$((port + 3))
            case $m in
                one) timeout 100 "$bin/loam" train $base train.dtype=$k device=$dev out="$out/$name" >"$out/$name.log" 2>&1 & ;;
                again) ranks $port 2 timeout 100 "$bin/loam" train $base train.dtype=$k device=$dev mesh=fsdp=2 out="$out/$name" >"$out/$name.log" 2>&1 & ;;
                *) ranks $port 2 timeout 100 "$bin/loam" train $base train.dtype=$k device=$dev mesh=$m train.micro_batch=$([ $m = zero1=2 ] && echo 2 || echo 0) out="$out/$name" >"$out/$name.log" 2>&1 & ;;
            esac
            pids="$pids $!"
            # three at a time: starting takes most of it, but ranks that wait for each other share the cards' time slices
            [ "$(wc -w <<<"$pids")" -lt 3 ] || { for p in $pids; do wait "$p"; done; pids=; }
        done
    done
    for p in $pids; do wait "$p"; done
    python3 - "$out" <<'PY' | tee -a "$table"
import array, json, math, os, struct, sys
def losses(n):
    p = f"{sys.argv[1]}/{n}/metrics.jsonl"
    return [json.loads(l)["loss"] for l in open(p) if '"loss"' in l] if os.path.exists(p) else []
def weights(n):
    p = f"{sys.argv[1]}/{n}/model.safetensors"
    if not os.path.exists(p): return None
    b = open(p, "rb").read(); k = struct.unpack("<Q", b[:8])[0]; h = json.loads(b[8:8 + k])
    a = array.array("f")
    for q, v in sorted(h.items()):
        if q != "__metadata__": a.frombytes(b[8 + k + v["data_offsets"][0]:8 + k + v["data_offsets"][1]])
    return a
def apart(v, w): return math.sqrt(sum((x - y) ** 2 for x, y in zip(v, w)) / sum(y * y for y in w))
for k in ("f32", "bf16"):
    c, w = losses(f"multi-{k}-one"), weights(f"multi-{k}-one")
    if not c: continue
    for m in ("dp", "zero1", "zero2", "fsdp"):
        g, v = losses(f"multi-{k}-{m}"), weights(f"multi-{k}-{m}")
        if not os.path.exists(f"{sys.argv[1]}/multi-{k}-{m}.log"): continue
        if len(g) != len(c) or v is None: print(f"multi: {k} {m}: failed: {open(f'{sys.argv[1]}/multi-{k}-{m}.log').read()[-300:].strip()}"); continue
        print(f"multi: {k} {m}=2: {len(g)} steps, largest relative difference of a loss to one process {max(abs(a - b) / abs(b) for a, b in zip(g, c)):.2e}, weights {apart(v, w):.2e}")
    g, v, w = losses(f"multi-{k}-fsdp"), weights(f"multi-{k}-again"), weights(f"multi-{k}-fsdp")
    if v is not None and w is not None: print(f"multi: {k} fsdp=2 a second time: {'the same bits' if g == losses(f'multi-{k}-again') and v == w else 'OTHER BITS'}")
PY
}
multi_train() {
    while read -r shape b t mesh; do
        local f=$out/multi.$shape.$mesh.json n=2; [ "$mesh" = one ] && n=1
        local args=(bench train --device "${MULTI_DEVICE:-cuda}" --shape "$shape" --dtype bf16 --batch "$b" --seq "$t" --repeat "${REPEAT:-8}" --json ${MULTI_OPS:+--ops})
        if [ $n = 1 ]; then timeout 60 "$bin/loam" "${args[@]}" >"$f" 2>"$f.err"; else ranks 29555 2 timeout 60 "$bin/loam" "${args[@]}" --mesh "$mesh=2" >"$f" 2>"$f.err"; fi \
            || { say "multi $shape B$b $mesh: $(tail -n 2 "$f.err" | cut -c1-400)"; continue; }
        say "loam $shape B$b T$t $mesh: $(field "$f" train_step) ms, $(field "$f" train) tok/s a rank, $(field "$f" train_total) in all; memory $(field "$f" device_memory) MB a rank = $(field "$f" device_memory_of_plan) of the plan; update $(field "$f" train_update) ms, loss $(field "$f" train_loss)"
        [ -z "${MULTI_OPS:-}" ] || python3 -c 'import json,sys
for r in json.load(open(sys.argv[1])):
    if any(w in r["name"] for w in ("all_", "reduce_", ".cast", ".sum")) and r["name"].split(".")[0] in ("accumulate","update"): print("  %-34s %8.2f ms  %s" % (r["name"], r["value"], r["note"]))' "$f" | tee -a "$table"
    done <<<"${MULTI:-gpt2-124m 64 1024 one
gpt2-124m 64 1024 dp
gpt2-124m 64 1024 zero1
gpt2-124m 64 1024 zero2
gpt2-124m 64 1024 fsdp
llama-1.1b 8 2048 one
llama-1.1b 8 2048 dp
llama-1.1b 8 2048 fsdp}"
}
multi_faults() {   # two ranks on two cards: one is killed, stopped, loses its card, or its disk is full; then what each says, its exit status, when it ended, and a resumed run
    local base="examples/tiny.yaml data.path=${LM_TEXT:-README.md} train.val_every=0 train.sample_every=0 train.checkpoint_every=20 train.timeout=8 device=${MULTI_DEVICE:-cuda} threads=2"
    local port=29700 link mesh what a b t run steps
    LOAM_NCCL=${LOAM_NCCL:-$(nccl)}; export LOAM_NCCL
    rank() { RANK=$1 LOCAL_RANK=$1 WORLD_SIZE=2 LOCAL_WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port LOAM_LINK=$link timeout -s KILL 70 "$bin/loam" train $base train.steps=$steps mesh=$mesh=2 out="$run" >"$out/mf.$1.log" 2>&1; echo "$? $(date +%s.%N)" >"$out/mf.$1.end"; }
    of() { pgrep -P "$(pgrep -P "$1")"; }                                  # the program itself: timeout's child
    while read -r link mesh what; do
        port=$((port + 3)); run=$out/mf; steps=1000000; rm -rf "$run" "$out"/mf.*.*; mkdir -p "$run"
        [ "$what" = full ] && { steps=60; mount -t tmpfs -o size=${FULL_MB:-20}m loam "$run"; }
        if [ "$what" = sick ]; then SICK_DEVICE=1 SICK_WHEN=$run/checkpoints/latest LD_PRELOAD=$bin/tests/libmock_sick_card.so rank 1 & b=$!; else rank 1 & b=$!; fi
        rank 0 & a=$!
        t=$SECONDS; while [ ! -e "$run/checkpoints/latest" ] && [ $((SECONDS - t)) -lt 40 ] && kill -0 $a 2>/dev/null; do sleep 0.05; done
        t=$(date +%s.%N)
        case $what in kill1) kill -KILL "$(of $b)" ;; kill0) kill -KILL "$(of $a)" ;; stop1) kill -STOP "$(of $b)" ;; stop0) kill -STOP "$(of $a)" ;; esac
        case $what in stop0) wait $b; kill -KILL "$(of $a)"; wait $a ;; stop1) wait $a; kill -KILL "$(of $b)"; wait $b ;; *) wait $a $b ;; esac 2>/dev/null
        say "multi_faults: $link $mesh $what"
        for b in 0 1; do say "    rank $b: $(awk -v t="$t" '{printf "rc %d after %.1f s", $1, $2 - t}' "$out/mf.$b.end"): $(grep -vE '^ *(step|$|\{)' "$out/mf.$b.log" | tail -n 1 | cut -c1-330)"; done
        [ "$what" = full ] && mount -o remount,size=200m "$run"
        say "    resumed on one: $(timeout 60 "$bin/loam" train $base train.steps=1 out="$run" --resume 2>&1 | tail -n 1 | cut -c1-160)"
        [ "$what" = full ] && umount -l "$run"
    done <<<"${MULTI_FAULTS:-auto dp kill1
auto fsdp stop1
auto dp stop0
auto dp sick
nccl fsdp kill0
nccl dp stop1
nccl dp sick
auto fsdp full}"
}
multi() { LOAM_NCCL=${LOAM_NCCL:-$(nccl)}; export LOAM_NCCL; say "NCCL: ${LOAM_NCCL:-of the system}"; multi_losses; multi_train; }
peer_multi() {
    while read -r shape b t mesh n; do
        if [ "$n" = 1 ]; then say "$(timeout 150 python3 bench/peers/torch_train_gpu.py --shape "$shape" --batch "$b" --seq "$t" 2>"$out/peer_multi.err" | tail -n 1)"
        else say "$(ranks 29577 "$n" timeout 150 python3 bench/peers/torch_train_gpu.py --ranks "$mesh" --shape "$shape" --batch "$b" --seq "$t" 2>"$out/peer_multi.$mesh.err" | tail -n 1)"; fi
    done <<<"${PEER_MULTI:-gpt2-124m 64 1024 - 1
gpt2-124m 64 1024 ddp 2
llama-1.1b 8 2048 - 1
llama-1.1b 8 2048 ddp 2
llama-1.1b 8 2048 fsdp2 2}"
}
peer_decode() { timeout 300 python3 bench/peers/torch_decode_gpu.py --prefill 8 2048 2>"$out/peer_decode.err" | while read -r l; do say "$l"; done; }
for p in "$@"; do s=$SECONDS; echo "--- $p"; $p; echo "    ($p took $((SECONDS - s)) s)"; done
echo; echo "=== table"; cat "$table"
