"""PyTorch on one GPU or several: training steps of the GPT-2 shapes and of a Llama-shaped 1.1B; the peer of `loam bench train --device cuda`.

    python bench/peers/torch_train_gpu.py [--shape gpt2-124m|gpt2-774m|llama-1.1b] [--batch 64] [--seq 1024] [--steps 10] [--eager] [--json]
    torchrun --nproc-per-node 2 bench/peers/torch_train_gpu.py --ranks ddp|fsdp2 …      (--batch is each rank's)

DDP wraps the compiled model's module and compiles over it; FSDP2 shards each block and the rest (bf16 parameters, f32 reduction), blocks compiled.
Head tied to the embedding, vocabulary 50304 (padded: its best case; the Llama 32768), dropout 0; scaled_dot_product_attention, bf16 autocast over float32 weights, fused AdamW
(0.9, 0.95, decay 0.1), global-norm clip 1.0, torch.compile, TF32 allowed. A step is forward, loss, backward, clip, update; median of CUDA events, random tokens.
"""
import argparse, json, os, statistics

import torch
import torch.nn.functional as F
from torch import nn

a = argparse.ArgumentParser()
a.add_argument("--shape", choices=("gpt2-124m", "gpt2-774m", "llama-1.1b"), default="gpt2-124m")
a.add_argument("--batch", type=int, default=64), a.add_argument("--seq", type=int, default=1024)
a.add_argument("--steps", type=int, default=10), a.add_argument("--warmup", type=int, default=4)
a.add_argument("--eager", action="store_true"), a.add_argument("--json", action="store_true"), a.add_argument("--ranks", choices=("ddp", "fsdp2"))
a = a.parse_args()
D, H, L = {"gpt2-124m": (768, 12, 12), "gpt2-774m": (1280, 20, 36), "llama-1.1b": (2048, 16, 20)}[a.shape]
V, KV, FF = (32768, 8, 5632) if a.shape == "llama-1.1b" else (50304, H, 4 * D)
rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)) if a.ranks else 1
if world > 1:
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("nccl", device_id=torch.device("cuda", int(os.environ["LOCAL_RANK"])))
torch.manual_seed(0)
torch.set_float32_matmul_precision("high")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.attn, self.proj = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.fc, self.out = nn.Linear(D, FF), nn.Linear(FF, D)

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


class LlamaBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.RMSNorm(D, eps=1e-5), nn.RMSNorm(D, eps=1e-5)
        self.qkv, self.o = nn.Linear(D, D + 2 * KV * D // H, bias=False), nn.Linear(D, D, bias=False)
        self.gate, self.up, self.down = nn.Linear(D, FF, bias=False), nn.Linear(D, FF, bias=False), nn.Linear(FF, D, bias=False)

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        q, k, v = self.qkv(self.n1(x)).split((D, KV * D // H, KV * D // H), 2)
        q, k, v = (y.view(b, t, -1, D // H).transpose(1, 2) for y in (q, k, v))
        q, k = (y * cos + torch.cat((-y[..., D // H // 2:], y[..., :D // H // 2]), -1) * sin for y in (q, k))
        y = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=True, enable_gqa=True)
        x = x + self.o(y.transpose(1, 2).reshape(b, t, D))
        h = self.n2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.h, self.norm = nn.Embedding(V, D), nn.ModuleList(LlamaBlock() for _ in range(L)), nn.RMSNorm(D, eps=1e-5)
        self.head = nn.Linear(D, V, bias=False)
        for m in self.modules():
            if isinstance(m, (nn.Linear, nn.Embedding)):
                nn.init.normal_(m.weight, std=0.02)
        self.head.weight = self.wte.weight
        f = torch.outer(torch.arange(a.seq), 10000.0 ** (-torch.arange(0, D // H, 2) / (D // H)))
        self.register_buffer("cos", torch.cat((f, f), -1).cos()), self.register_buffer("sin", torch.cat((f, f), -1).sin())

    def forward(self, x, y):
        h = self.wte(x)
        for b in self.h:
            h = b(h, self.cos, self.sin)
        return F.cross_entropy(self.head(self.norm(h)).flatten(0, 1), y.flatten())


m = (Llama() if a.shape == "llama-1.1b" else GPT2()).cuda()
if a.ranks == "fsdp2" and world > 1:
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for b in m.h:
        if not a.eager:
            b.compile()
        fully_shard(b, mp_policy=policy)
    fully_shard(m, mp_policy=policy)
    f = m
else:
    f = torch.nn.parallel.DistributedDataParallel(m, gradient_as_bucket_view=True) if world > 1 else m
    f = f if a.eager else torch.compile(f)
torch.manual_seed(rank)
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
     "tok_s": a.batch * a.seq * world / med * 1e3, "ranks": world, "mesh": a.ranks, "peak_gb": torch.cuda.max_memory_allocated() / 1e9, "loss": loss.item(), "card": torch.cuda.get_device_name()}
if rank == 0:
    print(json.dumps(r) if a.json else f"{r['peer']} {a.shape} B{a.batch} T{a.seq}{f' {a.ranks}={world}' if world > 1 else str()}: {med:.1f} ms ({min(ms):.1f}-{max(ms):.1f}), {r['tok_s'] / 1e3:.0f}k tok/s, {r['peak_gb']:.1f} GB, {r['card']}")
if world > 1:
    torch.distributed.destroy_process_group()
