#!/usr/bin/env python3
"""Read the files that tests/test_format_*.c write, with the packages of record (safetensors, gguf, numpy), and check every value. With --write,
keep their sizes and FNV-1a hashes in tests/fixtures/format/written.txt, which the C tests compare with: so C needs no Python.
usage: mkdir /tmp/d; for t in safetensors gguf misc; do LM_KEEP=/tmp/d build/tests/test_format_$t; done; format_roundtrip.py /tmp/d [--write]"""
import json, os, struct, sys
import numpy as np, torch, gguf
from safetensors import safe_open
from safetensors.torch import load_file

d = sys.argv[1]; bad = 0
def check(ok, what):
    global bad
    if not ok: bad += 1; print("FAILED:", what)
def fnv(b):
    h = 0xcbf29ce484222325
    for x in b: h = ((h ^ x) * 0x100000001b3) & 0xffffffffffffffff
    return h

# ---- safetensors: what the test declares, restated
kinds = [("F64", torch.float64, 8), ("I64", torch.int64, 8), ("U64", torch.uint64, 8), ("F32", torch.float32, 4), ("I32", torch.int32, 4), ("U32", torch.uint32, 4),
         ("BF16", torch.bfloat16, 2), ("F16", torch.float16, 2), ("I16", torch.int16, 2), ("U16", torch.uint16, 2), ("F8_E4M3", torch.float8_e4m3fn, 1), ("F8_E5M2", torch.float8_e5m2, 1),
         ("I8", torch.int8, 1), ("U8", torch.uint8, 1), ("BOOL", torch.bool, 1)]
want = {}
for i, (name, dt, size) in enumerate(kinds):
    raw = bytes((k & 1) if name == "BOOL" else (k * 7 + i) & 0x3f for k in range(3 * (i + 1) * size))
    want["t." + name] = (dt, (3, i + 1), raw)
want["empty"] = (torch.float32, (0, 5), b""); want["scalar"] = (torch.float32, (), struct.pack("<f", 2.5))
def check_tensors(got, where):
    check(set(got) == set(want), f"{where}: names")
    for k, (dt, shape, raw) in want.items():
        t = got[k]
        check(t.dtype == dt and tuple(t.shape) == shape, f"{where}: {k}: {t.dtype} {tuple(t.shape)}")
        check(t.contiguous().view(-1).view(torch.uint8).numpy().tobytes() == raw if t.numel() else raw == b"", f"{where}: {k}: bytes")
for f in ("one.safetensors", "fits/model.safetensors"):
    check_tensors(load_file(os.path.join(d, f)), f)
    with safe_open(os.path.join(d, f), "pt") as st:
        check(st.metadata() == {"format": "pt", 'q"\n': "\u00e9 \\ \U0001f600"}, f"{f}: metadata {st.metadata()}")
    check(struct.unpack("<Q", open(os.path.join(d, f), "rb").read(8))[0] % 64 == 56, f"{f}: the data starts at a multiple of 64")
idx = json.load(open(os.path.join(d, "shards", "model.safetensors.index.json")))
got = {}
for f in sorted(set(idx["weight_map"].values())):
    part = load_file(os.path.join(d, "shards", f))
    check(all(idx["weight_map"][k] == f for k in part), f"shards: {f}"); got.update(part)
check_tensors(got, "shards")
check(idx["metadata"]["total_size"] == sum(len(w[2]) for w in want.values()), "shards: total_size")
check(set(idx["weight_map"]) == set(want), "shards: weight_map")

# ---- gguf
for f, align in (("a32.gguf", 32), ("a128.gguf", 128)):
    r = gguf.GGUFReader(os.path.join(d, f))
    val = lambda k: r.fields[k].contents()
    exp = {"general.architecture": "llama", "u32": 4000000000, "i32": -7, "u64": 2**64 - 1, "f32": 0.25, "bool": True, "i8": -5, "u8": 255, "u16": 50000, "i16": -300, "f64": 0.1, "i64": -2**63,
           "strs": ["", "hello", "\u00df"], "odd": ["a\0b", "c"], "arr_i32": [1, -2, 3], "arr_f32": [0.5, -1.0]}
    for k, v in exp.items():
        check(val(k) == v, f"{f}: {k}: {val(k)!r}")
    check(len(r.fields["arr_none"].data) == 0, f"{f}: arr_none")
    check(r.alignment == align, f"{f}: alignment {r.alignment}")
    total = 60 + 136 + 288 + 6 + 24; raw = bytes((k * 11) & 0x3f for k in range(total)); at = 0
    exp = [("token_embd.weight", "F32", (3, 5), 60), ("blk.0.q8", "Q8_0", (2, 64), 136), ("blk.0.q4_k", "Q4_K", (2, 1, 256), 288), ("b", "BF16", (3,), 6), ("r4", "I32", (2, 1, 3, 1), 24)]
    check(len(r.tensors) == len(exp), f"{f}: count")
    for t, (name, kind, shape, n) in zip(r.tensors, exp):
        check(t.name == name and t.tensor_type.name == kind and tuple(int(x) for x in reversed(t.shape)) == shape, f"{f}: {name}: {t.name} {t.tensor_type} {t.shape}")
        check(t.data.tobytes() == raw[at:at + n], f"{f}: {name}: bytes"); at += n
        check(t.data_offset % align == 0, f"{f}: {name}: offset")

# ---- npy
for name, want_arr in (("w_f4.npy", np.arange(6, dtype="<f4").reshape(2, 3) / 2), ("w_f8.npy", np.array(2.5)), ("w_i4.npy", np.arange(4, dtype="<i4") - 1), ("w_i8.npy", np.zeros((2, 0, 3), "<i8"))):
    a = np.load(os.path.join(d, name))
    check(a.dtype == want_arr.dtype and a.shape == want_arr.shape and (a == want_arr).all() and a.flags.c_contiguous, name)
# ---- svg: well-formed XML
import xml.etree.ElementTree as ET
root = ET.parse(os.path.join(d, "chart.svg")).getroot()
check(root.tag == "{http://www.w3.org/2000/svg}svg" and any("loss & <b>" in (e.text or "") for e in root.iter()), "chart.svg")

files = ["one.safetensors", "shards/model.safetensors.index.json", "shards/model-00001-of-00003.safetensors", "shards/model-00003-of-00003.safetensors", "a32.gguf", "a128.gguf",
         "w_f4.npy", "w_f8.npy", "w_i4.npy", "w_i8.npy", "chart.svg"]
if not bad and "--write" in sys.argv:
    out = os.path.join(os.path.dirname(__file__), "..", "..", "tests", "fixtures", "format", "written.txt")
    with open(out, "w") as o:
        for f in files:
            b = open(os.path.join(d, f), "rb").read(); o.write(f"file {f} {len(b)} {fnv(b):016x}\n")
print(f"{len(files)} files read, {bad} failures")
sys.exit(bad != 0)
