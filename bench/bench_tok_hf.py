#!/usr/bin/env python3
"""Encoding speed beside Hugging Face tokenizers, one thread each, the same text, by turns in one run.

    python bench/bench_tok_hf.py --ours build/bench_tok --tokenizer DIR --text FILE [--runs 5] [--chunk 16384]

DIR holds a tokenizer.json that both read. The peer encodes with encode_batch_fast (no offsets), its fastest call, with TOKENIZERS_PARALLELISM=false; one untimed
run fills its word cache, as ours does. Every turn times the peer once and runs bench_tok once (three timed passes, median). Token counts are compared each turn.
"cpu" figures divide by processor time instead of wall time: the fairer ones on a machine that others use too.
"""
import argparse
import json
import os
import statistics
import subprocess
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
import tokenizers  # noqa: E402


def documents(data, chunk):
    out, i = [], 0
    while i < len(data):
        e = min(i + chunk, len(data))
        while e < len(data) and data[e - 1:e] != b"\n":
            e += 1
        out.append(data[i:e].decode("utf-8"))
        i = e
    return out


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--ours", required=True)
    a.add_argument("--tokenizer", required=True)
    a.add_argument("--text", required=True)
    a.add_argument("--runs", type=int, default=5)
    a.add_argument("--chunk", type=int, default=16384)
    a = a.parse_args()
    data = open(a.text, "rb").read()
    docs = documents(data, a.chunk)
    t = tokenizers.Tokenizer.from_file(os.path.join(a.tokenizer, "tokenizer.json"))
    n_hf = sum(len(x.ids) for x in t.encode_batch_fast(docs, add_special_tokens=False))
    ours, hf, ours_cpu, hf_cpu = [], [], [], []
    for _ in range(a.runs):
        t0, p0 = time.perf_counter(), time.process_time()
        for d in docs:
            t.encode_batch_fast([d], add_special_tokens=False)
        hf.append(len(data) / (time.perf_counter() - t0) / 1e6)
        hf_cpu.append(len(data) / (time.process_time() - p0) / 1e6)
        r = json.loads(subprocess.run([a.ours, a.tokenizer, a.text, "3", "1", str(a.chunk)], check=True, capture_output=True).stdout)
        if r["tokens"] != n_hf:
            raise SystemExit("token counts differ: %d and %d" % (r["tokens"], n_hf))
        ours.append(r["encode_MBps"])
        ours_cpu.append(r["encode_cpu_MBps"])
    m, h, mc, hc = (statistics.median(x) for x in (ours, hf, ours_cpu, hf_cpu))
    print(json.dumps({"tokenizers": tokenizers.__version__, "bytes": len(data), "documents": len(docs), "tokens": n_hf, "hf_MBps": round(h, 2), "ours_MBps": round(m, 1),
                      "ratio": round(m / h, 1), "hf_cpu_MBps": round(hc, 2),
                      "ours_cpu_MBps": round(mc, 1), "cpu_ratio": round(mc / hc, 1), "hf_runs": [round(x, 2) for x in hf], "ours_runs": ours, "decode_MBps": r["decode_MBps"], "load_s": r["load_s"]}))


main()
