"""PyTorch on the CPU, one training step of the GPT-2-124M shape: the peer of `loam bench train`.

    python bench/peers/torch_train.py [--dtype f32|bf16] [--threads 2] [--batch 4] [--seq 256] [--steps 5] [--compile] [--json]

12 layers, 12 heads, d 768, vocabulary 50257, head tied to the embedding, biases, dropout 0; attention through
scaled_dot_product_attention, fused AdamW (0.9, 0.95, decay 0.1 on matrices), global-norm clip 1.0, all gradients set to none between
steps. bf16 is autocast over float32 weights. A step is forward, loss, backward, clip, update; the median of the timed steps is reported.
cpu_share is processor time over wall time times threads in the timed steps: well below 1 means that others had the cores. quiet_ms is
the median of the steps where it was at least 0.97 (quiet_steps of them; null if none).
"""
import argparse, json, resource, statistics, time

import torch
import torch.nn.functional as F
from torch import nn

a = argparse.ArgumentParser()
a.add_argument("--dtype", choices=("f32", "bf16"), default="f32"), a.add_argument("--threads", type=int, default=2)
a.add_argument("--batch", type=int, default=4), a.add_argument("--seq", type=int, default=256)
a.add_argument("--steps", type=int, default=5), a.add_argument("--warmup", type=int, default=2)
a.add_argument("--compile", action="store_true"), a.add_argument("--json", action="store_true")
a = a.parse_args()
torch.set_num_threads(a.threads)
torch.manual_seed(0)
V, D, H, L = 50257, 768, 12, 12


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
        self.wte, self.wpe = nn.Embedding(V, D), nn.Embedding(1024, D)
        self.h, self.ln_f = nn.ModuleList(Block() for _ in range(L)), nn.LayerNorm(D)
        self.head = nn.Linear(D, V, bias=False)
        for m in self.modules():
            if isinstance(m, (nn.Linear, nn.Embedding)):
                nn.init.normal_(m.weight, std=0.02)
        self.head.weight = self.wte.weight

    def forward(self, x, y):
        h = self.wte(x) + self.wpe(torch.arange(x.shape[1]))
        for b in self.h:
            h = b(h)
        return F.cross_entropy(self.head(self.ln_f(h)).flatten(0, 1), y.flatten())


model = GPT2()
groups = [dict(params=[p for p in model.parameters() if p.dim() > 1], weight_decay=0.1),
          dict(params=[p for p in model.parameters() if p.dim() < 2], weight_decay=0.0)]
opt = torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)
fn = torch.compile(model) if a.compile else model
times, losses, cpu = [], [], []
for step in range(a.warmup + a.steps):
    x = torch.randint(V, (a.batch, a.seq + 1))
    t, c = time.perf_counter(), time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=a.dtype == "bf16"):
        loss = fn(x[:, :-1], x[:, 1:])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    opt.zero_grad(set_to_none=True)
    losses.append(loss.item())
    if step >= a.warmup:
        times.append(time.perf_counter() - t)
        cpu.append(time.process_time() - c)
ms = 1e3 * statistics.median(times)
quiet = [1e3 * t for t, c in zip(times, cpu) if c >= 0.97 * t * a.threads]
res = dict(peer="torch " + torch.__version__.split("+")[0], dtype=a.dtype, batch=a.batch, seq=a.seq, threads=a.threads, compile=a.compile,
           parameters=sum(p.numel() for p in model.parameters()), ms_per_step=round(ms, 1), ms_min=round(1e3 * min(times), 1),
           ms_max=round(1e3 * max(times), 1), tok_s=round(a.batch * a.seq / ms * 1e3, 1), steps=a.steps, cpu_share=round(sum(cpu) / sum(times) / a.threads, 3),
           quiet_ms=round(statistics.median(quiet), 1) if quiet else None, quiet_steps=len(quiet),
           peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, loss_first=losses[0], loss_last=losses[-1])
print(json.dumps(res) if a.json else "\n".join(f"{k}: {v}" for k, v in res.items()))
