"""Is a GGUF file that loam wrote the model of a Hugging Face folder?   python tools/verify/gguf_equals.py DIR FILE.gguf [--tol 0] [--run]

Reads the file with the gguf package, names and permutes the folder's tensors as llama.cpp's converter does, and compares every tensor
(largest difference over the largest value of the tensor at most --tol) and the metadata that llama.cpp needs. --run also loads the file with
transformers, which undoes names and rows in its own way, and compares logits with the folder's; of rope scaling, sliding windows and
GPT-2's n_inner its reader knows nothing, so use it on models without. Exit 1 if anything differs.
"""
import argparse, json, math, sys
from pathlib import Path

import gguf, numpy as np
from gguf.quants import dequantize
from safetensors.torch import load_file

a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
a.add_argument("dir", type=Path), a.add_argument("file", type=Path)
a.add_argument("--tol", type=float, default=0.0), a.add_argument("--run", action="store_true")
a = a.parse_args()
bad = []
conf = json.loads((a.dir / "config.json").read_text())
gpt2 = conf["model_type"] == "gpt2"
hf = {}
for f in sorted(a.dir.glob("model*.safetensors")):
    hf |= {k: v.float().numpy() for k, v in load_file(f).items()}
if gpt2:
    hf = {k if k.startswith(("transformer.", "lm_head")) else "transformer." + k: v for k, v in hf.items()}
heads = conf.get("num_attention_heads", conf.get("n_head"))
kv = conf.get("num_key_value_heads", heads)
dim = conf.get("head_dim") or conf.get("hidden_size", conf.get("n_embd")) // heads
layers = conf.get("num_hidden_layers", conf.get("n_layer"))
family = {"gpt2": "GPT2", "qwen2": "QWEN2", "qwen3": "QWEN3", "phi3": "PHI3", "gemma2": "GEMMA2", "gemma3_text": "GEMMA3", "bert": "BERT"}.get(conf["model_type"], "LLAMA")
names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, family), layers)


def permute(w, n):  # llama.cpp's convert_hf_to_gguf.py: halves of a head become neighbours
    return w.reshape(n, 2, w.shape[0] // n // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


want = {}
for k, v in hf.items():
    if k.endswith((".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq")) or (k == "lm_head.weight" and conf.get("tie_word_embeddings")):
        continue
    if gpt2 and v.ndim == 2 and (".c_" in k):
        v = v.T
    if k.startswith(("pooler.", "cls.")) or k.endswith("position_ids"):
        continue
    if family.startswith("GEMMA") and k.endswith("norm.weight"):
        v = v + np.float32(1)
    if "q_proj" in k and family == "LLAMA":
        v = permute(v, heads)
    if "k_proj" in k and family == "LLAMA":
        v = permute(v, kv)
    want[names.get_name(k, try_suffixes=(".weight", ".bias"))] = v
r = gguf.GGUFReader(a.file)
got = {t.name: t for t in r.tensors}
rope = conf.get("rope_scaling") or conf.get("rope_parameters") or {}
if (rope.get("rope_type") or rope.get("type")) == "llama3":
    base = conf.get("rope_theta") or rope["rope_theta"]
    out = []
    for i in range(0, dim, 2):
        wave = 2 * math.pi * float(np.float32(base) ** np.float32(i / dim))
        old, lo, hi, factor = rope["original_max_position_embeddings"], rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
        smooth = (old / wave - lo) / (hi - lo)
        out.append(1.0 if wave < old / hi else factor if wave > old / lo else 1 / ((1 - smooth) / factor + smooth))
    want["rope_freqs.weight"] = np.array(out, dtype=np.float32)
if (rope.get("rope_type") or rope.get("type")) in ("longrope", "su"):
    for which in ("long", "short"):
        want[f"rope_factors_{which}.weight"] = np.array(rope[f"{which}_factor"], dtype=np.float32)
if set(want) != set(got):
    bad.append(f"names: missing {sorted(set(want) - set(got))[:5]}, unexpected {sorted(set(got) - set(want))[:5]}")
worst = 0.0
for k in sorted(set(want) & set(got)):
    t = got[k]
    if t.tensor_type == gguf.GGMLQuantizationType.BF16:
        v = (t.data.view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(want[k].shape)
    else:
        v = dequantize(t.data, t.tensor_type).astype(np.float32).reshape(want[k].shape)
    d = float(np.abs(v - want[k]).max() / max(np.abs(want[k]).max(), 1e-30))
    worst = max(worst, d)
    if d > (1e-6 if k == "rope_freqs.weight" else a.tol):
        bad.append(f"{k} ({t.tensor_type.name}): off by {d:.3g}")
field = lambda k: r.fields[k].contents() if k in r.fields else None
arch = field("general.architecture")
for key, v in {"context_length": conf.get("max_position_embeddings", conf.get("n_positions")), "embedding_length": conf.get("hidden_size", conf.get("n_embd")), "block_count": layers,
               "feed_forward_length": conf.get("intermediate_size") or conf.get("n_inner") or 4 * conf.get("n_embd", 0), "attention.head_count": heads, "attention.head_count_kv": kv, "vocab_size": conf["vocab_size"],
               "attention.layer_norm_epsilon" if family in ("GPT2", "BERT") else "attention.layer_norm_rms_epsilon": conf.get("rms_norm_eps", conf.get("layer_norm_epsilon", conf.get("layer_norm_eps")))}.items():
    if field(f"{arch}.{key}") is None or abs(field(f"{arch}.{key}") - v) > 1e-7 * abs(v):
        bad.append(f"{arch}.{key}: got {field(f'{arch}.{key}')}, wanted {v}")
print(f"{len(got)} tensors, {len(r.fields)} fields, largest relative difference {worst:.3g}")
if a.run:
    import torch
    from transformers import AutoModelForCausalLM, logging
    logging.set_verbosity_error(), logging.disable_progress_bar(), torch.set_num_threads(1)
    ids = torch.arange(1, 33)[None]
    x = AutoModelForCausalLM.from_pretrained(a.dir, dtype=torch.float32, attn_implementation="eager").eval()
    y = AutoModelForCausalLM.from_pretrained(a.file.parent, gguf_file=a.file.name, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        d = (x(ids).logits - y(ids).logits).abs().max().item()
    print(f"transformers: logits differ by {d:.3g}")
    if not d <= max(1e-5, a.tol * 100):
        bad.append("logits")
for b in bad:
    print("failed:", b)
sys.exit(bool(bad))
