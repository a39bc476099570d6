#!/usr/bin/env bash
# plan_infer.sh FILE… — what `loam plan` says of serving a file, and what then happens: a prompt of 512 and 16 tokens behind it. The machine is measured anew before
# the first file and after each, so every run stands between two predictions: a shared host's speed drifts within seconds, and the two say how far.
# tokens/s, predicted before / after : measured, and how far the measured rate is outside (or inside: 0 %) what the two span.
#
#   LOAM: the program (build/loam). ARGS: options for the plan. Put what keeps others off the machine before the whole; some ten seconds a file.
set -eu
loam=${LOAM:-build/loam}
cache=$(mktemp -d); trap 'rm -rf "$cache"' EXIT
plan() { XDG_CACHE_HOME=$cache/$1 "$loam" plan "$2" --ctx 640 --json ${ARGS:-}; }
i=0
plan 0 "$1" >/dev/null
for f in "$@"; do
    before=$(plan $i "$f")
    run=$("$loam" bench infer --model "$f" --prompt 512 --depth 512 --gen 16 --chunk 256 --repeat 1 2>/dev/null)
    i=$((i + 1))
    after=$(plan $i "$f")
    python3 - "$f" "$before" "$after" "$run" <<'P'
import json, os, sys
name, before, after, run = sys.argv[1:]
got = {x.split()[1]: float(x.split()[2]) for x in run.splitlines() if len(x.split()) > 2}
out = [f"{os.path.basename(name):18}"]
for what in ("prefill", "decode"):
    a, b = (json.loads(p)[what + "_tok_s"] for p in (before, after))
    m = got[what]
    far = min(a, b) / m - 1 if m < min(a, b) else max(a, b) / m - 1 if m > max(a, b) else 0
    out.append(f"{what} {a:7.1f} / {b:7.1f} : {m:7.1f} ({100 * (a / m - 1):+.0f}, {100 * (b / m - 1):+.0f}; {100 * far:+.0f} %)")
print("   ".join(out), flush=True)
P
done
