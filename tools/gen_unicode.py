#!/usr/bin/env python3
"""Writes src/tok/unicode_tables.c: general category, White_Space and "word" of every code point, one Unicode version for the whole library.

Unicode 16.0 is wanted because the tokenizers that ours must agree with use it: Oniguruma 6.9.10 inside Hugging Face tokenizers 0.20-0.23 and the
regex crate inside tiktoken (probed code point by code point; see docs/rooms/tok.md). Python's own unicodedata is older, so the script takes the
PyPI package unicodedata2==16.0.0 when it is there and refuses any other version unless --any is given:

    python3 -m venv v && v/bin/pip install unicodedata2==16.0.0 && v/bin/python tools/gen_unicode.py > src/tok/unicode_tables.c

PCRE2's own tables are Unicode 14 (10.42). The second table lists, per category, the ranges that 16.0 has and 14.0 had not, so that a translated
pattern can add them to \\p{..}; unicodedata of Python 3.11 (14.0.0) gives the old side.
"""
import sys
import unicodedata as old
try:
    import unicodedata2 as new
except ImportError:
    new = old

WANT = "16.0.0"
CATS = "Cn Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co".split()
SPACE = [(9, 13), (0x20, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F),
         (0x205F, 0x205F), (0x3000, 0x3000)]
# Alphabetic beyond L, Nl and marks: the circled and squared Latin letters (Other_Alphabetic in PropList.txt, symbols by category).
ALPHA_SYMBOLS = [(0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189)]
# Code points that got a combining class or a decomposition after Unicode 9, whose tables Hugging Face's normalizers still have: found by comparing
# NFC/NFD/NFKC/NFKD of "a U+0315 c U+0334 U+0300 c" by tokenizers 0.23.3 with Python's for every c. They are left alone, as there.
AFTER_9 = """7fd 897-89f 8ca-8d3 9fe c3c d3b-d3c eba 1715 1abf-1ace 1df6-1dfa 32ff a7f2-a7f4 a82c ab69 105c9 105e4 10781-10785 10787-107b0 107b2-107ba
10d24-10d27 10d69-10d6d 10eab-10eac 10efd-10eff 10f46-10f50 10f82-10f85 11070 1133b 11383 11385 1138e 11391 113c5 113c7-113c8 113ce-113d0 1145e
11839-1183a 11938 1193d-1193e 11943 119e0 11a34 11a47 11a99 11d42 11d44-11d45 11d97 11f41-11f42 16121-16128 1612f 16d68-16d6a 16ff0-16ff1
1ccd6-1ccf9 1e030-1e06d 1e08f 1e130-1e136 1e2ae 1e2ec-1e2ef 1e4ec-1e4ef 1e5ee-1e5ef 1f16c 1fbf0-1fbf9"""
AFTER_9 = [tuple(int(x, 16) for x in (r.split("-") * 2)[:2]) for r in AFTER_9.split()]
BLOCK = 128


def nfc_moves():
    """Code points that NFC may change, reorder or join with what is before them."""
    out = set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))
    for c in range(0x110000):
        d = new.decomposition(chr(c))
        if d and not d.startswith("<"):
            parts = [int(x, 16) for x in d.split()]
            if len(parts) == 2 and new.normalize("NFC", chr(parts[0]) + chr(parts[1])) == chr(c):
                out.add(parts[1])
        if new.combining(chr(c)) or new.normalize("NFC", chr(c)) != chr(c):
            out.add(c)
    return {c for c in out if not within(c, AFTER_9)}


def within(c, ranges):
    return any(a <= c <= b for a, b in ranges)


def ranges(cps):
    out = []
    for c in sorted(cps):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def main():
    if new.unidata_version != WANT and "--any" not in sys.argv:
        sys.exit("unicodedata2 %s is wanted, found %s (--any to go on)" % (WANT, new.unidata_version))
    if old.unidata_version != "14.0.0" and "--any" not in sys.argv:
        sys.exit("a Python with Unicode 14.0.0 (3.11) is wanted for the difference to PCRE2, found %s" % old.unidata_version)
    code, delta = [], {}
    moves = nfc_moves()
    for c in range(0x110000):
        cat = new.category(chr(c))
        v = CATS.index(cat)
        if within(c, SPACE):
            v |= 0x20
        if cat[0] in "LM" or cat in ("Nd", "Nl", "Pc") or within(c, ALPHA_SYMBOLS):
            v |= 0x40
        if c in moves:
            v |= 0x80
        code.append(v)
        if old.category(chr(c)) != cat and cat != "Cn":
            delta.setdefault(cat, []).append(c)
    blocks, index, seen = [], [], {}
    for b in range(0, 0x110000, BLOCK):
        blk = tuple(code[b:b + BLOCK])
        if blk not in seen:
            seen[blk] = len(blocks)
            blocks.append(blk)
        index.append(seen[blk])
    assert len(blocks) < 65536
    p = print
    p("/* unicode_tables.c — made by tools/gen_unicode.py from Unicode %s; do not edit.\n *" % new.unidata_version)
    p(" * Two stages of %d code points: category in the low five bits, 0x20 White_Space, 0x40 word, 0x80 NFC may move it. Then what %s has and 14.0 had not. */" % (BLOCK, new.unidata_version))
    p('#include "tok/unicode.h"\n')
    p('const char lm_uc_version[] = "%s";' % new.unidata_version)
    p("const char *const lm_uc_names[LM_UC_N] = { %s };" % ", ".join('"%s"' % c for c in CATS))
    p("const uint16_t lm_uc_index[0x110000 / LM_UC_BLOCK] = {")
    for i in range(0, len(index), 32):
        p("    " + ",".join(map(str, index[i:i + 32])) + ",")
    p("};\nconst uint8_t lm_uc_blocks[%d][LM_UC_BLOCK] = {" % len(blocks))
    for blk in blocks:
        if len(set(blk)) == 1:
            p("    { [0 ... LM_UC_BLOCK - 1] = %d }," % blk[0])
        else:
            p("    { " + ",".join(map(str, blk)) + " },")
    p("};\nconst lm_uc_range lm_uc_since14[] = {")
    n = 0
    for i, cat in enumerate(CATS):
        for a, b in ranges(delta.get(cat, [])):
            p("    { 0x%x, 0x%x, %d }," % (a, b, i))
            n += 1
    p("};\nconst int lm_uc_n_since14 = %d;" % n)
    p("const lm_uc_range lm_uc_after9[] = {")
    for a, b in AFTER_9:
        p("    { 0x%x, 0x%x, 0 }," % (a, b))
    p("};\nconst int lm_uc_n_after9 = %d;" % len(AFTER_9))


main()
