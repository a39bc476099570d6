"""loam against transformers on one Hugging Face folder; prints the differences, exit 1 when one is too large.

    python tools/verify/parity.py MODELDIR build/loam [--ids 1,2,3] [--prompt TEXT] [--max-tokens N] [--tol 1e-4] [--json]

Logits of one row of ids (random ones unless given), then, if the folder has a tokenizer, N greedy tokens after a prompt. Where the
greedy texts part, the float32 margin of transformers at that step tells a near tie from a mistake.
"""
import argparse, json, subprocess, sys, tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, logging

a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
a.add_argument("model"), a.add_argument("loam")
a.add_argument("--ids"), a.add_argument("--prompt", default="Once upon a time"), a.add_argument("--json", action="store_true")
a.add_argument("--max-tokens", type=int, default=64), a.add_argument("--tol", type=float, default=1e-4)
a = a.parse_args()
logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)
model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32, attn_implementation="eager").eval()
res = {"model": a.model}


def loam(*args):
    p = subprocess.run([a.loam, *args], capture_output=True, text=True)
    if p.returncode:
        sys.exit(f"{' '.join([a.loam, *args])}: exit {p.returncode}: {p.stderr.strip()}")
    return p.stdout


if a.ids:
    ids = [int(t) for t in a.ids.split(",")]
else:
    ids = torch.randint(model.config.vocab_size, (48,), generator=torch.Generator().manual_seed(1)).tolist()
with torch.no_grad():
    want = model(torch.tensor([ids]), use_cache=False).logits[0].numpy()
with tempfile.TemporaryDirectory() as d:
    out = Path(d) / "logits.npy"
    loam("logits", a.model, "--ids", ",".join(map(str, ids)), "--out", str(out))
    got = np.load(out).astype(np.float32)
if got.size != want.size:
    sys.exit(f"logits: got shape {got.shape}, wanted {want.shape}")
diff = np.abs(got.reshape(want.shape) - want)
res |= dict(logits_max_abs_diff=float(diff.max()), logits_max_abs=float(np.abs(want).max()),
            argmax_equal=float((got.reshape(want.shape).argmax(-1) == want.argmax(-1)).mean()))
ok = bool(np.isfinite(got).all() and diff.max() <= a.tol)

if any((Path(a.model) / f).exists() for f in ("tokenizer.json", "tokenizer.model", "vocab.json")):
    tok = AutoTokenizer.from_pretrained(a.model)
    x = tok(a.prompt, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        g = model.generate(x, attention_mask=torch.ones_like(x), max_new_tokens=a.max_tokens, do_sample=False, num_beams=1,
                           repetition_penalty=1.0, output_scores=True, return_dict_in_generate=True)
    ref = g.sequences[0, x.shape[1]:].tolist()
    new = json.loads(loam("run", a.model, "--prompt", a.prompt, "--max-tokens", str(a.max_tokens), "--temperature", "0", "--json"))["tokens"]
    prompt = x[0].tolist()
    if len(new) > a.max_tokens and new[:len(prompt)] == prompt:
        new = new[len(prompt):]
    eos = model.generation_config.eos_token_id
    eos = eos if isinstance(eos, list) else [eos]
    if ref and ref[-1] in eos and len(new) == len(ref) - 1:  # transformers keeps the end mark, a text without it is as good
        ref = ref[:-1]
    part = next((i for i, (p, q) in enumerate(zip(ref, new)) if p != q), None)
    if part is None and len(ref) != len(new):
        part = min(len(ref), len(new))
    res |= dict(greedy_tokens=len(ref), greedy_distinct=len(set(ref)), greedy_first_difference=part)
    if part is not None:
        ok = False
        if part < len(g.scores):
            top = g.scores[part][0].topk(2).values
            res |= dict(greedy_margin_there=(top[0] - top[1]).item())
res["ok"] = ok
print(json.dumps(res) if a.json else "\n".join(f"{k}: {v}" for k, v in res.items()))
sys.exit(not ok)
