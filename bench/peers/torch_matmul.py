#!/usr/bin/env python3
"""torch_matmul.py — PyTorch's matrix products on the CPU (bf16: oneDNN, f32: its BLAS) beside `loam bench matmul`, by turns in one run.

usage: torch_matmul.py LOAM [--threads 1 2] [--rounds 3]
Prints a line per dtype, threads and shape: both rates (best of the rounds) and their ratio. Needs torch; the two run as processes of their own, never at once.
"""
import argparse, json, subprocess, sys

CHILD = """
import json, sys, time, torch
torch.set_num_threads(int(sys.argv[1])); out = {}
for name in json.loads(sys.argv[2]):
    dt, s = name.split("."); m, n, k = map(int, s.split("x"))
    t = torch.bfloat16 if dt == "bf16" else torch.float32
    a, b = torch.randn(m, k).to(t), torch.randn(n, k).to(t)
    best = 0.0
    for _ in range(3): a @ b.T
    end = time.time() + 0.25
    while time.time() < end:
        t0 = time.perf_counter(); a @ b.T; best = max(best, 2.0 * m * n * k / (time.perf_counter() - t0))
    out[name] = best
print(json.dumps(out))
"""

def main():
    p = argparse.ArgumentParser(); p.add_argument("loam"); p.add_argument("--threads", type=int, nargs="*", default=[1, 2]); p.add_argument("--rounds", type=int, default=3)
    a = p.parse_args()
    for t in a.threads:
        ours, peer = {}, {}
        for _ in range(a.rounds):
            rows = json.loads(subprocess.run([a.loam, "bench", "matmul", "--threads", str(t), "--json", "--quiet"], check=True, capture_output=True, text=True).stdout)
            rows = rows.get("results", rows) if isinstance(rows, dict) else rows
            for r in rows: ours[r["name"]] = max(ours.get(r["name"], 0), r["value"])
            for k, v in json.loads(subprocess.run([sys.executable, "-c", CHILD, str(t), json.dumps(list(ours))], check=True, capture_output=True, text=True).stdout).items(): peer[k] = max(peer.get(k, 0), v)
        for k in ours: print(f"{k:22} {t} threads: loam {ours[k] / 1e9:8.1f} GFLOP/s, torch {peer[k] / 1e9:8.1f}, ratio {ours[k] / peer[k]:.2f}", flush=True)

main()
