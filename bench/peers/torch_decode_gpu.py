"""PyTorch on one GPU: decoding and prefill of the Llama-1B shape; the peer of `loam bench infer --device cuda --shape llama-1b`.

    python bench/peers/torch_decode_gpu.py [--batch 1 16 64] [--depth 448] [--steps 64] [--prefill 8 2048] [--eager]

Hand-written: 16 layers, d 2048, 32/8 heads of 64, ffn 8192, vocabulary 128256, tied head, bf16; joined qkv and gate/up products, static keys and values
for depth + steps positions, scaled_dot_product_attention over all of them with a mask, torch.compile (unless --eager), one step in a CUDA graph, greedy
token on the device. Median of CUDA events of a replay; prefill without a graph, causal SDPA, logits of the last token.
"""
import argparse, statistics

import torch
import torch.nn.functional as F

a = argparse.ArgumentParser()
a.add_argument("--batch", type=int, nargs="*", default=[1, 16, 64]), a.add_argument("--depth", type=int, default=448), a.add_argument("--steps", type=int, default=64)
a.add_argument("--prefill", type=int, nargs=2, default=None), a.add_argument("--eager", action="store_true")
a = a.parse_args()
L, D, H, K, E, FF, V = 16, 2048, 32, 8, 64, 8192, 128256
torch.manual_seed(0)
dev, bf = "cuda", torch.bfloat16
w = lambda *s: torch.randn(*s, device=dev, dtype=bf) * 0.02
emb, fin = w(V, D), torch.ones(D, device=dev, dtype=bf)
layers = [(torch.ones(D, device=dev, dtype=bf), w((H + 2 * K) * E, D), w(D, H * E), torch.ones(D, device=dev, dtype=bf), w(2 * FF, D), w(D, FF)) for _ in range(L)]
freq = 1.0 / 500000 ** (torch.arange(0, E, 2, device=dev) / E)


def norm(x, g):
    return F.rms_norm(x, (D,), g, 1e-5)


def turn(x, cos, sin):
    u, v = x.float().chunk(2, -1)
    return torch.cat((u * cos - v * sin, v * cos + u * sin), -1).to(bf)


def body(ids, pos, attend):
    x = emb[ids]
    ang = pos[:, None].float() * freq
    cos, sin = ang.cos(), ang.sin()
    for i, (n1, qkv, o, n2, gu, down) in enumerate(layers):
        b, t, _ = x.shape
        q, k, v = (norm(x, n1) @ qkv.T).split((H * E, K * E, K * E), -1)
        q, k, v = (y.view(b, t, -1, E).transpose(1, 2) for y in (q, k, v))
        x = x + attend(i, turn(q, cos, sin), turn(k, cos, sin), v, pos).transpose(1, 2).reshape(b, t, H * E) @ o.T
        g, u = (norm(x, n2) @ gu.T).chunk(2, -1)
        x = x + (F.silu(g) * u) @ down.T
    return norm(x[:, -1], fin) @ emb.T


def timed(f, n):
    ev = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(n)]
    for s, e in ev:
        s.record(), f(), e.record()
    torch.cuda.synchronize()
    return statistics.median(s.elapsed_time(e) for s, e in ev)


with torch.no_grad():
    for B in a.batch:
        T = a.depth + a.steps
        ks, vs = ([torch.randn(B, K, T, E, device=dev, dtype=bf) for _ in range(L)] for _ in range(2))

        def attend(i, q, k, v, pos):
            ks[i].index_copy_(2, pos, k), vs[i].index_copy_(2, pos, v)
            # the four query heads of a key head as four queries of it: nothing is repeated
            return F.scaled_dot_product_attention(q.reshape(B, K, H // K, E), ks[i], vs[i], attn_mask=(torch.arange(T, device=dev) <= pos)[None, None, None]).reshape(B, H, 1, E)

        ids, pos = torch.zeros(B, 1, dtype=torch.long, device=dev), torch.tensor([a.depth], device=dev)
        step = lambda ids, pos: body(ids, pos, attend).argmax(-1, keepdim=True)
        f = step if a.eager else torch.compile(step, dynamic=False)
        s = torch.cuda.Stream()
        with torch.cuda.stream(s):
            for _ in range(3):
                ids.copy_(f(ids, pos))
        torch.cuda.synchronize()
        g = torch.cuda.CUDAGraph()
        with torch.cuda.graph(g):
            ids.copy_(f(ids, pos))
        ms = timed(g.replay, a.steps)
        print(f"torch {torch.__version__} {'eager' if a.eager else 'compile'} + CUDA graph, llama-1b, batch {B}, context {T}: {ms:.3f} ms = {B / ms * 1e3:.0f} tok/s", flush=True)
    if a.prefill:
        B, T = a.prefill
        ids, pos = torch.randint(0, V, (B, T), device=dev), torch.arange(T, device=dev)
        f = lambda: body(ids, pos, lambda i, q, k, v, p: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True))
        f = f if a.eager else torch.compile(f, dynamic=False)
        f(), f()
        ms = timed(f, 5)
        print(f"torch {torch.__version__} {'eager' if a.eager else 'compile'}, llama-1b, prefill {B}x{T}: {ms:.1f} ms = {B * T / ms * 1e3:.0f} tok/s", flush=True)
