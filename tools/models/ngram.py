#!/usr/bin/env python3
"""ngram.py TRAIN-SHARDS TEST-SHARDS [ORDER, 5]: bits per byte of an interpolated n-gram model with modified Kneser-Ney discounts (Chen & Goodman 1999) on the test
tokens: the yardstick beside the shipped models. Same tokens, same bytes; end-of-text tokens are not scored, as `loam eval` does. Needs numpy."""
import json, math, sys

import numpy as np


def tokens(folder):
    ix = json.load(open(folder + "/index.json"))
    return np.concatenate([np.fromfile(f"{folder}/{s['file']}", "<u2", s["tokens"], offset=64) for s in ix["shards"]]).astype(np.int64), ix


x, ix = tokens(sys.argv[1])
y, iy = tokens(sys.argv[2])
N, V, eos = int(sys.argv[3]) if len(sys.argv) > 3 else 5, ix["vocab"], ix.get("eos", -1)
# id[n][i]: which of the distinct n-grams ends at i. key of an n-gram: (id of its first n-1 tokens) * V + last token
ids, keys, firsts = [x], [np.arange(V)], [None]
for n in range(2, N + 1):
    k = np.full(len(x), -1)
    k[n - 1:] = ids[-1][n - 2:-1] * V + x[n - 1:]
    u, first, inv = np.unique(k[n - 1:], return_index=True, return_inverse=True)
    a = np.full(len(x), -1)
    a[n - 1:] = inv
    ids.append(a), keys.append(u), firsts.append(first + n - 1)
    print(f"{n}-grams: {len(u)}", file=sys.stderr, flush=True)
prob = np.full(len(y), 1.0 / V)
at = y.copy()                                                    # id of the n-1 tokens before and this one, as far as known; -1: never seen
for n in range(1, N + 1):
    if n == N: c = np.bincount(ids[n - 1][ids[n - 1] >= 0], minlength=len(keys[n - 1]))
    else: c = np.bincount(ids[n - 1][firsts[n]], minlength=len(keys[n - 1]))      # distinct tokens before it
    t = [int((c == i).sum()) for i in range(1, 5)]
    Y = t[0] / (t[0] + 2 * t[1])
    D = np.array([0, 1 - 2 * Y * t[1] / t[0], 2 - 3 * Y * t[2] / t[1], 3 - 4 * Y * t[3] / t[2]])
    ctx = keys[n - 1] // V if n > 1 else np.zeros(V, np.int64)
    total = np.bincount(ctx, weights=c)
    gamma = np.bincount(ctx, weights=np.where(c > 0, D[np.minimum(c, 3)], 0.0)) / np.maximum(total, 1)
    if n == 1:
        h = np.zeros(len(y), np.int64)
        at = y.copy()
    else:
        h = np.concatenate(([-1], at[:-1]))                      # the context: the (n-1)-gram that ends one token earlier
        k = np.where(h >= 0, h * V + y, -1)
        j = np.minimum(np.searchsorted(keys[n - 1], k), len(keys[n - 1]) - 1)
        at = np.where((h >= 0) & (keys[n - 1][j] == k), j, -1)
    known = (h >= 0) & (h < len(total))
    known[known] = total[h[known]] > 0
    cc = np.where(at >= 0, c[np.maximum(at, 0)], 0)
    p = np.maximum(cc - D[np.minimum(cc, 3)], 0) / np.maximum(total[np.where(known, h, 0)], 1) + gamma[np.where(known, h, 0)] * prob
    prob = np.where(known, p, prob)
    ok = y != eos if eos >= 0 else np.ones(len(y), bool)
    bits = float(-np.log2(prob[ok]).sum())
    print(json.dumps({"order": n, "bpb": bits / iy["bytes"], "bits_per_token": bits / int(ok.sum()), "tokens": int(ok.sum()), "bytes": iy["bytes"], "discounts": [round(float(d), 4) for d in D[1:]]}), flush=True)
