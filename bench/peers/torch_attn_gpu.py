"""Attention on one GPU: loam's rows beside torch's SDPA (cuDNN, FlashAttention-2) in one process, right first, then timed.

    nvcc -shared -Xcompiler -fPIC -Isrc -o attn_gpu.so bench/peers/attn_gpu.cu build-cuda/libloam.a
    python bench/peers/torch_attn_gpu.py [--lib ./attn_gpu.so] [--shapes B,H,Hk,T,D[,window]:...] [--no-grad] [--no-check] [--row hopper|cuda] [--kernels]

Right: ‖got - want‖ / ‖want‖ of o, dq, dk, dv against torch in float32 on the same bf16 inputs (heads in slices), and the same bits from a second run.
Timed: medians of CUDA events, causal FLOPs (4, 10 and 14 · B H T²/2 D); q, k, v are columns of one joined matrix, as a model has them.
"""
import argparse, ctypes, statistics, torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

a = argparse.ArgumentParser()
a.add_argument("--lib", default="./attn_gpu.so"), a.add_argument("--row", default="hopper"), a.add_argument("--reps", type=int, default=15)
a.add_argument("--shapes", default="64,12,12,1024,64:16,12,12,1024,64:4,16,16,4096,64:1,16,16,16384,64:8,16,16,1024,128:4,16,16,4096,128:1,16,16,16384,128:4,32,8,2048,64:16,16,16,1024,96:4,16,16,4096,96:16,16,16,1024,256:4,16,16,4096,256")
a.add_argument("--no-grad", action="store_true"), a.add_argument("--no-check", action="store_true"), a.add_argument("--no-peer", action="store_true"), a.add_argument("--kernels", action="store_true")
a = a.parse_args()
lib = ctypes.CDLL(a.lib)


class Problem(ctypes.Structure):
    _fields_ = [("row", ctypes.c_char_p), ("n", ctypes.c_int64), ("stride", ctypes.c_int64), ("heads", ctypes.c_int), ("kv", ctypes.c_int), ("d", ctypes.c_int), ("window", ctypes.c_int64),
                ("scale", ctypes.c_float), ("scratch", ctypes.c_void_p), ("room", ctypes.c_size_t), ("stream", ctypes.c_void_p)]


P = lambda t: ctypes.c_void_p(t.data_ptr())
scratch = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")


def time(f):
    for _ in range(3): f()
    ms = []
    for _ in range(a.reps):
        s, e = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        s.record(); f(); e.record(); torch.cuda.synchronize()
        ms.append(s.elapsed_time(e))
    return statistics.median(ms)


def rel(x, y): return float((x.float() - y.float()).norm() / y.float().norm())


def want(q, k, v, go, window):
    """Float32, one head at a time: o, dq, dk, dv as (B, T, H, D)."""
    B, T, H, D = q.shape
    Hk, outs = k.shape[2], [torch.zeros(x.shape, dtype=torch.float32, device="cuda") for x in (q, q, k, v)]
    i = torch.arange(T, device="cuda")
    seen = i[:, None] >= i[None, :]
    if window: seen &= i[:, None] - i[None, :] < window
    for b in range(B):
        for h in range(H):
            g = h * Hk // H
            x = [t.float().requires_grad_() for t in (q[b, :, h], k[b, :, g], v[b, :, g])]
            s = (x[0] @ x[1].T / D ** 0.5).masked_fill(~seen, float("-inf"))
            o = torch.softmax(s, -1) @ x[2]
            outs[0][b, :, h] = o.detach()
            if go is None: continue
            for y, gr, at in zip(outs[1:], torch.autograd.grad(o, x, go[b, :, h].float()), (h, g, g)): y[b, :, at] += gr
    return outs


print(torch.cuda.get_device_name(0), torch.__version__)
torch.backends.cuda.matmul.allow_tf32 = False
rows = []
for shape in a.shapes.split(":"):
    B, H, Hk, T, D, *w = map(int, shape.split(","))
    window, N = (w[0] if w else 0), B * T
    torch.manual_seed(1)
    qkv = torch.randn(N, (H + 2 * Hk) * D, device="cuda", dtype=torch.bfloat16)
    q, k, v = qkv[:, :H * D], qkv[:, H * D:(H + Hk) * D], qkv[:, (H + Hk) * D:]
    start = (torch.arange(N, device="cuda", dtype=torch.int32) // T * T).contiguous()
    o, lse = torch.full((N, H * D), float("nan"), device="cuda", dtype=torch.bfloat16), torch.full((N, H), float("nan"), device="cuda")
    go, grads = torch.randn(N, H * D, device="cuda", dtype=torch.bfloat16), torch.full_like(qkv, float("nan"))
    dq, dk, dv = grads[:, :H * D], grads[:, H * D:(H + Hk) * D], grads[:, (H + Hk) * D:]
    pr = lambda op: Problem(f"{op}.{a.row}".encode(), N, (H + 2 * Hk) * D, H, Hk, D, window, D ** -0.5, scratch.data_ptr(), scratch.numel(), torch.cuda.current_stream().cuda_stream)

    def fwd():
        e = lib.loam_attn(ctypes.byref(pr("attn")), P(q), P(k), P(v), P(start), P(o), P(lse))
        assert e == 0, f"attn: error {e}"

    def bwd():
        e = lib.loam_attn_grad(ctypes.byref(pr("attn_grad")), P(q), P(k), P(v), P(start), P(o), P(lse), P(go), P(dq), P(dk), P(dv))
        assert e == 0, f"attn_grad: error {e}"

    b4 = lambda x, h: x.view(B, T, h, D) if x.is_contiguous() else x.unflatten(0, (B, T)).unflatten(2, (h, D))
    fwd(); torch.cuda.synchronize()
    note = ""
    if not a.no_grad: grads.fill_(float("nan")); bwd(); torch.cuda.synchronize()
    if not a.no_check:
        few = max(1, min(B, 2 if T <= 4096 else 1))                        # sequences that are checked, from the end
        ref = want(*(b4(x, h)[-few:] for x, h in ((q, H), (k, Hk), (v, Hk))), None if a.no_grad else b4(go, H)[-few:], window)
        got = [b4(x, h)[-few:] for x, h in ((o, H), (dq, H), (dk, Hk), (dv, Hk))][:1 if a.no_grad else 4]
        note = "error o dq dk dv " + " ".join(f"{rel(g, r):.1e}" for g, r in zip(got, ref))
        one = o.clone(), lse.clone(), grads.clone()
        o.fill_(float("nan")); lse.fill_(float("nan")); grads.fill_(float("nan")); fwd()
        if not a.no_grad: bwd()
        torch.cuda.synchronize()
        same = all(torch.equal(x.view(torch.int16), y.view(torch.int16)) for x, y in zip(one, (o, lse, grads)) if not (a.no_grad and x is one[2]))
        note += "; same bits" if same else "; BITS DIFFER"
        note += "" if bool(torch.isfinite(o).all()) and (a.no_grad or bool(torch.isfinite(grads).all())) else "; NOT FINITE"
        del ref, got, one
    fl = 4 * B * H * D * (T * (T + 1) / 2 if not window else window * T - window * (window - 1) / 2)
    line = [("loam", time(fwd), None if a.no_grad else time(bwd))]
    if not a.no_peer and not window:
        x = [b4(y, h).transpose(1, 2).detach().requires_grad_() for y, h in ((q, H), (k, Hk), (v, Hk))]
        g4 = b4(go, H).transpose(1, 2)
        for name, be in (("cuDNN", SDPBackend.CUDNN_ATTENTION), ("FA2", SDPBackend.FLASH_ATTENTION)):
            try:
                with sdpa_kernel(be):
                    f = lambda: F.scaled_dot_product_attention(*x, is_causal=True, enable_gqa=H != Hk)
                    with torch.no_grad(): tf = time(f)
                    y = f()
                    tb = None if a.no_grad else time(lambda: torch.autograd.grad(y, x, g4, retain_graph=True))
                line.append((name, tf, tb))
                del y
            except Exception as e: note += f"; {name}: {str(e)[:60]}"
    rows.append((shape, fl, line, note))
    for name, tf, tb in line:
        print(f"{shape:24s} {name:6s} fwd {tf:8.3f} ms {fl / tf / 1e9:6.1f} TFLOP/s" + ("" if tb is None else f"  bwd {tb:8.3f} ms {2.5 * fl / tb / 1e9:6.1f}  both {3.5 * fl / (tf + tb) / 1e9:6.1f}")
              + (f"  {note}" if name == "loam" else f"  loam {tf / line[0][1]:.2f} x" + ("" if tb is None else f", {(tf + tb) / (line[0][1] + line[0][2]):.2f} x both")), flush=True)
    if a.kernels:
        from torch.profiler import ProfilerActivity, profile
        with profile(activities=[ProfilerActivity.CUDA]) as pf:
            for _ in range(5): fwd(); None if a.no_grad else bwd()
            torch.cuda.synchronize()
        for e in pf.key_averages(): print(f"    {e.key[:70]:70s} {e.device_time_total / 5e3:8.3f} ms", flush=True)
    del qkv, q, k, v, o, lse, go, grads, dq, dk, dv
    torch.cuda.empty_cache()
