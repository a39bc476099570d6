"""A GGUF file of random weights in the Llama-1B or SmolLM-135M shape, for timing: loam, llama.cpp and ik_llama.cpp read the same file.

    python bench/peers/random_gguf.py 1b|135m Q4_0|Q8_0|Q4_K_M|BF16 OUT.gguf            # needs the packages gguf and numpy

Types as `llama-quantize` mixes them for a tied head: the embedding Q6_K (Q8_0 where the width is no multiple of 256), Q4_K_M with half of attn_v and
ffn_down in Q6_K (Q5_0 and Q8_0 instead where the width is no multiple of 256). Codes are random bytes, scales make the numbers about 0.02. The vocabulary is made up: only its size matters.
"""
import sys

import numpy as np
import gguf
from gguf import GGMLQuantizationType as T, GGUFWriter

shape, mix, out = sys.argv[1:4]
S = {"1b": dict(V=128256, d=2048, L=16, H=32, K=8, D=64, F=8192, base=500000.0),
     "135m": dict(V=49152, d=576, L=30, H=9, K=3, D=64, F=1536, base=100000.0)}[shape]
rng = np.random.default_rng(1)


def f16(x):
    return np.frombuffer(np.float16(x).tobytes(), np.uint8)


def quant(t, rows, k):
    block, size = gguf.GGML_QUANT_SIZES[t]
    if t == T.BF16:                                     # 0.0005 to 0.03, either sign
        b = rng.integers(0, 1 << 16, (rows, k), dtype=np.uint16)
        return ((b & 0x81FF) | (0x3A80 + (b >> 9 & 3) * 0x80 & 0x7E00)).view(np.uint8)
    b = rng.integers(0, 256, (rows * k // block, size), dtype=np.uint8)
    s = 0.02
    if t == T.Q8_0: b[:, 0:2] = f16(s / 73)
    elif t == T.Q4_0: b[:, 0:2] = f16(s / 4.6)
    elif t == T.Q5_0: b[:, 0:2] = f16(s / 9.2)
    elif t == T.Q4_K: b[:, 0:2], b[:, 2:4] = f16(s / 200), f16(s / 200 * 7.5)
    elif t == T.Q6_K: b[:, 208:210] = f16(s / 1300)
    else: raise SystemExit(f"no rule for {t.name}")
    return b.reshape(rows, k // block * size)


def pick(name, layer):
    if mix in ("Q8_0", "BF16"): return T[mix]
    if name == "embedding": return T.Q6_K if S["d"] % 256 == 0 else T.Q8_0
    if mix == "Q4_0": return T.Q4_0
    n = S["L"]
    more = name in ("attn_v", "ffn_down") and (layer < n // 8 or layer >= 7 * n // 8 or (layer - n // 8) % 3 == 2)
    return T.Q6_K if more else T.Q4_K


w = GGUFWriter(out, "llama")
w.add_context_length(4096), w.add_embedding_length(S["d"]), w.add_block_count(S["L"]), w.add_feed_forward_length(S["F"])
w.add_head_count(S["H"]), w.add_head_count_kv(S["K"]), w.add_rope_freq_base(S["base"]), w.add_layer_norm_rms_eps(1e-5)
w.add_rope_dimension_count(S["D"]), w.add_vocab_size(S["V"]), w.add_file_type({"Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15, "BF16": 32}[mix])
w.add_tokenizer_model("gpt2"), w.add_tokenizer_pre("gpt-2")
# the 256 byte symbols, then words of letters, each made by one merge
plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
other = [x for x in range(256) if x not in plain]
tokens = [chr(x) for x in plain] + [chr(256 + i) for i in range(len(other))]
letters = [t for t in tokens if t.isascii() and t.isalpha()]
words, merges, at = list(letters), [], 0
while len(tokens) < S["V"] - 2:
    for c in letters[: S["V"] - 2 - len(tokens)]:
        tokens.append(words[at] + c), words.append(words[at] + c), merges.append(words[at] + " " + c)
    at += 1
tokens += ["<|begin_of_text|>", "<|end_of_text|>"]
w.add_token_list(tokens), w.add_token_types([1] * (len(tokens) - 2) + [3, 3]), w.add_token_merges(merges)
w.add_bos_token_id(len(tokens) - 2), w.add_eos_token_id(len(tokens) - 1)

d, F, one = S["d"], S["F"], np.ones(S["d"], np.float32)


def put(name, kind, layer, rows, k):
    t = pick(kind, layer)
    if k % 256: t = {T.Q4_K: T.Q5_0, T.Q6_K: T.Q8_0}.get(t, t)
    w.add_tensor(name, quant(t, rows, k), raw_dtype=t)


put("token_embd.weight", "embedding", 0, S["V"], d)
w.add_tensor("output_norm.weight", one)
q, kv = S["H"] * S["D"], S["K"] * S["D"]
for l in range(S["L"]):
    w.add_tensor(f"blk.{l}.attn_norm.weight", one), w.add_tensor(f"blk.{l}.ffn_norm.weight", one)
    for name, rows, k in (("attn_q", q, d), ("attn_k", kv, d), ("attn_v", kv, d), ("attn_output", d, q), ("ffn_gate", F, d), ("ffn_up", F, d), ("ffn_down", d, F)):
        put(f"blk.{l}.{name}.weight", name, l, rows, k)
w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
