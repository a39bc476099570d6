#!/usr/bin/env bash
# check-cuda.sh BUILD TESTS — what a program with CUDA kernels says and does on a machine without a card: BUILD/loam is the program, TESTS a built tests/ folder
# (of any build) with the mock of an old driver. With a card here only the kernels' list is looked at.
set -u
build=${1:?usage: check-cuda.sh BUILD TESTS} tests=${2:?}
loam=$build/loam tmp=$(mktemp -d) failed=0
trap 'rm -rf "$tmp"' EXIT
bad() { echo "check-cuda: $*"; failed=1; }
says() {  # says RC WORDS COMMAND… : the exit status, and words in what is said
    local want=$1 words=$2 rc; shift 2
    timeout 60 "$@" >"$tmp/out" 2>&1; rc=$?
    [ $rc = "$want" ] && grep -qF -- "$words" "$tmp/out" || bad "wanted $want and \"$words\", got $rc: $(tail -n 2 "$tmp/out")"
}
"$loam" kernels --json >"$tmp/kernels.json" || bad "kernels: exit status $?"
python3 - "$tmp/kernels.json" <<'PY' || failed=1
import json, sys
d = json.load(open(sys.argv[1]))
rows = [k for k in d["kernels"] if k["device"] == "cuda"]
ops, have = {k["op"] for k in d["kernels"]}, {k["op"] for k in rows}
here = [k for k in rows if k["available"] or k["chosen"]]
assert d["cuda"]["built"] and "sm_" in d["cuda"]["arch"], d["cuda"]
assert len(rows) > 70 and ops - have <= {"matmul_each"}, ("ops without a row for a GPU", sorted(ops - have))
assert bool(here) == bool(d["cuda"]["card"]), ("kernels of a card that is not here", [k["kernel"] for k in here][:4])
print(f"check-cuda: {len(rows)} kernels for a GPU, {len(have)} of {len(ops)} ops, {d['cuda']['arch']}; card: {d['cuda']['card'] or 'none'}")
PY
if grep -q '"card": ""' "$tmp/kernels.json"; then
    fixture=$(dirname "$0")/../tests/fixtures/models/gpt2
    says 3 "device cuda:0: no NVIDIA driver is here" "$loam" run "$fixture" --prompt a --device cuda
    says 3 "device cuda:7: no NVIDIA driver is here" "$loam" bench train --shape tiny-1m --device cuda:7
    says 0 "no NVIDIA driver is here" "$loam" kernels --op add
    cp "$tests/libmock_old_driver.so" "$tmp/libcuda.so.1" || bad "no mock of an old driver"
    export LD_LIBRARY_PATH=$tmp
    says 3 "the NVIDIA driver is too old: it knows CUDA 11.4, this program needs" "$loam" run "$fixture" --prompt a --device cuda
    says 0 "the NVIDIA driver is too old" "$loam" kernels --op add
fi
exit $failed
