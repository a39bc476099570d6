"""PyTorch on one GPU: training steps of the GPT-2 shapes and of a Llama-shaped 1.1B; the peer of `loam bench train --device cuda`.

    python bench/peers/torch_train_gpu.py [--shape gpt2-124m|gpt2-774m] [--batch 64] [--seq 1024] [--steps 10] [--eager] [--json]

Head tied to the embedding, vocabulary 50304 (padded: its best case), dropout 0; scaled_dot_product_attention, bf16 autocast over float32 weights, fused AdamW
(0.9, 0.95, decay 0.1), global-norm clip 1.0, torch.compile, TF32 allowed. A step is forward, loss, backward, clip, update; median of CUDA events, random tokens.
"""
import argparse, json, statistics

import torch
import torch.nn.functional as F
from torch import nn

a = argparse.ArgumentParser()
a.add_argument("--shape", choices=("gpt2-124m", "gpt2-774m"), default="gpt2-124m")
a.add_argument("--batch", type=int, default=64), a.add_argument("--seq", type=int, default=1024)
a.add_argument("--steps", type=int, default=10), a.add_argument("--warmup", type=int, default=4)
a.add_argument("--eager", action="store_true"), a.add_argument("--json", action="store_true")
a = a.parse_args()
D, H, L = {"gpt2-124m": (768, 12, 12), "gpt2-774m": (1280, 20, 36)}[a.shape]
V = 50304
torch.manual_seed(0)
torch.set_float32_matmul_precision("high")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.attn, self.proj = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.fc, self.out = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (y.view(b, t, H, D // H).transpose(1, 2) for y in self.attn(self.ln_1(x)).split(D, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, D))
        return x + self.out(F.gelu(self.fc(self.ln_2(x)), approximate="tanh"))


class GPT2(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, D), nn.Embedding(a.seq, D)
        self.h, self.ln_f = nn.ModuleList(Block() for _ in range(L)), nn.LayerNorm(D)
        self.head = nn.Linear(D, V, bias=False)
        for m in self.modules():
            if isinstance(m, (nn.Linear, nn.Embedding)):
                nn.init.normal_(m.weight, std=0.02)
        self.head.weight = self.wte.weight

    def forward(self, x, y):
        h = self.wte(x) + self.wpe(torch.arange(x.shape[1], device=x.device))
        for b in self.h:
            h = b(h)
        return F.cross_entropy(self.head(self.ln_f(h)).flatten(0, 1), y.flatten())


m = GPT2().cuda()
f = m if a.eager else torch.compile(m)
opt = torch.optim.AdamW(m.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
x, y = (torch.randint(0, V, (a.batch, a.seq), device="cuda") for _ in range(2))


def step():
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = f(x, y)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
    opt.step()
    opt.zero_grad(set_to_none=True)
    return loss


for _ in range(a.warmup):
    loss = step()
torch.cuda.synchronize()
ms = []
for _ in range(a.steps):
    s, e = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    s.record()
    loss = step()
    e.record()
    torch.cuda.synchronize()
    ms.append(s.elapsed_time(e))
med = statistics.median(ms)
r = {"peer": f"torch {torch.__version__}", "shape": a.shape, "batch": a.batch, "seq": a.seq, "compile": not a.eager, "ms": med, "min_ms": min(ms), "max_ms": max(ms),
     "tok_s": a.batch * a.seq / med * 1e3, "peak_gb": torch.cuda.max_memory_allocated() / 1e9, "loss": loss.item(), "card": torch.cuda.get_device_name()}
print(json.dumps(r) if a.json else f"{r['peer']} {a.shape} B{a.batch} T{a.seq}: {med:.1f} ms ({min(ms):.1f}-{max(ms):.1f}), {r['tok_s'] / 1e3:.0f}k tok/s, {r['peak_gb']:.1f} GB, {r['card']}")
