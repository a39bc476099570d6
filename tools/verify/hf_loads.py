"""Does transformers load a folder that loam saved?   python tools/verify/hf_loads.py DIR [--ids 1,2,3] [--text TEXT]

Prints parameters, a hash of float32 logits and the tokenizer's round trip. Exit 0: loaded with no missing, unexpected or
mismatched tensor, logits finite, text intact; 1: something of that failed (and which); other: it did not load at all.
"""
import argparse, hashlib, sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, logging

a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
a.add_argument("dir"), a.add_argument("--ids", default="1,2,3,4,5,6,7,8")
a.add_argument("--text", default="Grüße, 世界! The  2 seeds\n\tgrew 👩‍🌾 1234567 times.")
a = a.parse_args()
logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)
bad = []
model, info = AutoModelForCausalLM.from_pretrained(a.dir, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
bad += [f"{k}: {sorted(map(str, v))[:8]}" for k, v in info.items() if v]
with torch.no_grad():
    logits = model.eval()(torch.tensor([[int(t) for t in a.ids.split(",")]]), use_cache=False).logits[0]
print(f"{type(model).__name__}: {sum(p.numel() for p in model.parameters())} parameters")
print(f"logits {tuple(logits.shape)} sha256 {hashlib.sha256(logits.contiguous().numpy().tobytes()).hexdigest()[:16]} "
      f"max abs {logits.abs().max().item():.4f}")
if not torch.isfinite(logits).all():
    bad.append("logits are not finite")
if any((Path(a.dir) / f).exists() for f in ("tokenizer.json", "tokenizer.model", "vocab.json")):
    tok = AutoTokenizer.from_pretrained(a.dir)
    ids = tok(a.text, add_special_tokens=False)["input_ids"]
    back = tok.decode(ids, clean_up_tokenization_spaces=False)
    print(f"{type(tok).__name__}: {len(tok)} ids, text of {len(a.text)} characters -> {len(ids)} ids, round trip {back == a.text}")
    if back != a.text:
        bad.append(f"tokenizer: got {back!r}, wanted {a.text!r}")
    if max(ids, default=0) >= model.config.vocab_size:
        bad.append(f"tokenizer: id {max(ids)} is outside the model's vocabulary of {model.config.vocab_size}")
for b in bad:
    print("failed:", b)
sys.exit(bool(bad))
