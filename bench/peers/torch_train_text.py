"""PyTorch trains the model that `loam train` trains: the same initial weights, sequences in the same order, optimizer, schedule and precision.

    loam train CONFIG train.steps=0 out=INIT                          # the weights as they begin, a Hugging Face folder
    bench_batches SHARDS ids.u16 SEQ SEED $((STEPS * BATCH))          # the sequences in their order
    bench_batches VALID valid.u16 SEQ SEED WINDOWS 0                  # what loam validates on
    loam train CONFIG --print-config --json > config.json
    python bench/peers/torch_train_text.py INIT config.json ids.u16 valid.u16 OUT

Llama and GPT-2. bf16 autocast over float32 weights, SDPA, torch.compile (--eager: not), fused AdamW; Muon as in Jordan 2024 for optim.name muon. The sequences are
whole windows (data.mask_docs: false). OUT gets losses.json (loss of every step, validation in nats and bits per byte) and model.safetensors beside INIT's config
and tokenizer, so that `loam eval` measures both models alike.
"""
import argparse, json, math, os, shutil, time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

a = argparse.ArgumentParser()
a.add_argument("init"), a.add_argument("config"), a.add_argument("ids"), a.add_argument("valid"), a.add_argument("out")
a.add_argument("--steps", type=int, default=0, help="stop after so many (the schedule stays the configuration's)")
a.add_argument("--seconds", type=float, default=0, help="stop after about so long")
a.add_argument("--eager", action="store_true")
a = a.parse_args()
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
dev = "cuda" if torch.cuda.is_available() else "cpu"
H = json.load(open(a.init + "/config.json"))
cfg = json.load(open(a.config))
get = lambda k: cfg[k.split(".")[0]][k.split(".")[1]]
T, B, STEPS = get("data.seq"), get("train.batch"), get("train.steps")
MICRO = get("train.micro_batch") or B
EPS, DROP = H.get("rms_norm_eps", H.get("layer_norm_epsilon", 1e-5)), get("train.dropout")
bf16 = get("train.dtype") == "bf16"


class Llama(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.n, self.h, self.kv, self.dh = H["num_hidden_layers"], H["num_attention_heads"], H["num_key_value_heads"], H["head_dim"]
        self.w = nn.ParameterDict({k.replace(".", "/"): nn.Parameter(v.float()) for k, v in w.items()})
        f = torch.outer(torch.arange(T).float(), H.get("rope_theta", 10000.0) ** (-torch.arange(0, self.dh, 2).float() / self.dh))
        self.register_buffer("cos", torch.cat((f, f), -1).cos()), self.register_buffer("sin", torch.cat((f, f), -1).sin())

    def rope(self, y):
        half = self.dh // 2
        return y * self.cos + torch.cat((-y[..., half:], y[..., :half]), -1) * self.sin

    def forward(self, x, y):
        w = lambda k: self.w[k.replace(".", "/")]
        drop = lambda t: F.dropout(t, DROP, self.training)
        b, t = x.shape
        emb = w("model.embed_tokens.weight")
        h = F.embedding(x, emb)
        for i in range(self.n):
            p = f"model.layers.{i}."
            u = F.rms_norm(h, (h.shape[-1],), w(p + "input_layernorm.weight"), EPS)
            q, k, v = (F.linear(u, w(p + f"self_attn.{n}_proj.weight")).view(b, t, -1, self.dh).transpose(1, 2) for n in "qkv")
            o = F.scaled_dot_product_attention(self.rope(q).to(v.dtype), self.rope(k).to(v.dtype), v, is_causal=True, enable_gqa=self.kv != self.h)
            h = h + drop(F.linear(o.transpose(1, 2).reshape(b, t, -1), w(p + "self_attn.o_proj.weight")))
            u = F.rms_norm(h, (h.shape[-1],), w(p + "post_attention_layernorm.weight"), EPS)
            u = F.silu(F.linear(u, w(p + "mlp.gate_proj.weight"))) * F.linear(u, w(p + "mlp.up_proj.weight"))
            h = h + drop(F.linear(u, w(p + "mlp.down_proj.weight")))
        h = F.rms_norm(h, (h.shape[-1],), w("model.norm.weight"), EPS)
        head = emb if H.get("tie_word_embeddings") else w("lm_head.weight")
        return F.cross_entropy(F.linear(h, head).flatten(0, 1).float(), y.flatten(), ignore_index=-1, reduction="sum")


class GPT2(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.n, self.h = H["n_layer"], H["n_head"]
        self.pre = "transformer." if any(k.startswith("transformer.") for k in w) else ""
        self.w = nn.ParameterDict({k.replace(".", "/"): nn.Parameter(v.float()) for k, v in w.items()})

    def forward(self, x, y):
        w = lambda k: self.w[(self.pre + k).replace(".", "/")]
        conv = lambda u, k: u @ w(k + ".weight") + w(k + ".bias") if not torch.is_autocast_enabled("cuda") else F.linear(u, w(k + ".weight").t(), w(k + ".bias"))
        norm = lambda u, k: F.layer_norm(u, (u.shape[-1],), w(k + ".weight"), w(k + ".bias"), EPS)
        b, t = x.shape
        emb = w("wte.weight")
        h = F.embedding(x, emb) + w("wpe.weight")[:t]
        for i in range(self.n):
            p = f"h.{i}."
            q, k, v = (y_.view(b, t, self.h, -1).transpose(1, 2) for y_ in conv(norm(h, p + "ln_1"), p + "attn.c_attn").split(h.shape[-1], 2))
            o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            h = h + F.dropout(conv(o.transpose(1, 2).reshape(b, t, -1), p + "attn.c_proj"), DROP, self.training)
            u = F.gelu(conv(norm(h, p + "ln_2"), p + "mlp.c_fc"), approximate="tanh")
            h = h + F.dropout(conv(u, p + "mlp.c_proj"), DROP, self.training)
        return F.cross_entropy(F.linear(norm(h, "ln_f"), emb).flatten(0, 1).float(), y.flatten(), ignore_index=-1, reduction="sum")


class Muon(torch.optim.Optimizer):
    """Jordan 2024: momentum, Nesterov, five steps of Newton-Schulz in bf16, scaled by sqrt(max(1, rows/cols)); equal shapes go together."""

    def __init__(self, params, lr, momentum, wd, steps):
        super().__init__(params, dict(lr=lr, momentum=momentum, wd=wd, steps=steps))

    @torch.no_grad()
    def step(self):
        for g in self.param_groups:
            shapes = {}
            for p in g["params"]:
                shapes.setdefault(tuple(p.shape), []).append(p)
            for shape, ps in shapes.items():
                us = []
                for p in ps:
                    buf = self.state[p].setdefault("buf", torch.zeros_like(p))
                    buf.lerp_(p.grad, 1 - g["momentum"])
                    us.append(p.grad.lerp(buf, g["momentum"]))
                x = torch.stack(us)
                x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
                x = x.bfloat16() if bf16 else x
                tall = shape[0] > shape[1]
                if tall: x = x.mT
                for _ in range(g["steps"]):
                    m = x @ x.mT
                    x = 3.4445 * x + (-4.7750 * m + 2.0315 * m @ m) @ x
                if tall: x = x.mT
                for p, u in zip(ps, x):
                    p.mul_(1 - g["lr"] * g["wd"]).add_(u.float(), alpha=-g["lr"] * math.sqrt(max(1.0, shape[0] / shape[1])))


def scale(step):
    kind, warm, floor = get("optim.schedule"), get("optim.warmup"), get("optim.min_lr")
    if step < warm: return (step + 1) / warm
    start = max(warm, STEPS - (get("optim.decay_steps") or STEPS // 5)) if kind == "wsd" else warm
    if kind == "constant" or step < start: return 1.0
    x = min(1.0, (step - start) / (STEPS - start)) if STEPS > start else 1.0
    return floor + (1 - floor) * (0.5 * (1 + math.cos(math.pi * x)) if kind == "cosine" else 1 - x)


V = H["vocab_size"]
weights = load_file(a.init + "/model.safetensors")
m = (GPT2 if "n_layer" in H else Llama)(weights).to(dev)
named = {k.replace("/", "."): p for k, p in m.w.items()}
is_embed = lambda k: "embed_tokens" in k or "lm_head" in k or "wte" in k or "wpe" in k
mats = [p for k, p in named.items() if p.dim() == 2 and not is_embed(k)]
muon = get("optim.name") == "muon"
decay = [p for k, p in named.items() if p.dim() == 2 and (is_embed(k) or not muon)]
plain = [p for p in named.values() if p.dim() < 2]
adam = torch.optim.AdamW([dict(params=decay, weight_decay=get("optim.weight_decay")), dict(params=plain, weight_decay=0.0)], lr=get("optim.lr"),
                         betas=(get("optim.beta1"), get("optim.beta2")), eps=get("optim.eps"), fused=dev == "cuda")
opts = [(adam, get("optim.lr"))]
if muon: opts.append((Muon(mats, get("optim.muon_lr"), get("optim.muon_momentum"), get("optim.muon_weight_decay"), get("optim.muon_steps")), get("optim.muon_lr")))
f = m if a.eager else torch.compile(m)
ids = np.memmap(a.ids, dtype=np.uint16, mode="r").reshape(-1, T + 1)
val = np.memmap(a.valid, dtype=np.uint16, mode="r").reshape(-1, T + 1)


def batch(rows):
    r = torch.from_numpy(np.ascontiguousarray(rows).astype(np.int64))
    y = r[:, 1:].clone()
    y[y == 65535] = -1
    return r[:, :-1].clamp(max=V - 1).contiguous().to(dev), y.to(dev), int((y >= 0).sum())


losses, began, steps = [], time.time(), a.steps or STEPS
done = 0
for s in range(steps):
    for o, lr in opts:
        for g in o.param_groups: g["lr"] = lr * scale(s)
    parts = [batch(ids[s * B + i:s * B + i + MICRO]) for i in range(0, B, MICRO)]
    n, total = sum(p[2] for p in parts), 0.0
    for x, y, _ in parts:
        with torch.autocast(dev, dtype=torch.bfloat16, enabled=bf16):
            loss = f(x, y)
        (loss / n).backward()
        total = total + loss.detach()
    if get("optim.clip") > 0: torch.nn.utils.clip_grad_norm_(m.parameters(), get("optim.clip"))
    for o, _ in opts: o.step()
    for o, _ in opts: o.zero_grad(set_to_none=True)
    losses.append(total / n)
    done = s + 1
    if s % 100 == 99: print(f"step {done} loss {float(losses[-1]):.4f} {time.time() - began:.0f} s", flush=True)
    if s == 19: torch.cuda.synchronize() if dev == "cuda" else None; t20 = time.time()
    if a.seconds and time.time() - began > a.seconds: break
if dev == "cuda": torch.cuda.synchronize()
ended = time.time()
m.eval()
nats, count = 0.0, 0
with torch.no_grad(), torch.autocast(dev, dtype=torch.bfloat16, enabled=bf16):
    for i in range(0, len(val), MICRO):
        rows = val[i:i + MICRO]
        if len(rows) < MICRO: rows = np.concatenate([rows, np.full((MICRO - len(rows), T + 1), 65535, np.uint16)])      # one shape; padding is scored nowhere
        x, y, n = batch(rows)
        nats += float(f(x, y)); count += n
os.makedirs(a.out, exist_ok=True)
for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
    if os.path.exists(f"{a.init}/{name}"): shutil.copy(f"{a.init}/{name}", a.out)
save_file({k: p.detach().cpu().contiguous() for k, p in named.items()}, a.out + "/model.safetensors", metadata={"format": "pt"})
res = dict(steps=done, seconds=ended - began, tok_s=(done - 20) * B * T / (ended - t20) if done > 20 else None, val_loss=nats / max(1, count), val_tokens=count,
           device=torch.cuda.get_device_name() if dev == "cuda" else "cpu", torch=torch.__version__, losses=[float(x) for x in losses])
json.dump(res, open(a.out + "/losses.json", "w"))
print({k: v for k, v in res.items() if k != "losses"}, "last", res["losses"][-1])
