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
BLOCK = 128


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
    for c in range(0x110000):
        cat = new.category(chr(c))
        v = CATS.index(cat)
        if within(c, SPACE):
            v |= 0x20
        if cat[0] in "LM" or cat in ("Nd", "Nl", "Pc") or within(c, ALPHA_SYMBOLS):
            v |= 0x40
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
    p(" * Two stages of %d code points: category in the low five bits, 0x20 White_Space, 0x40 word. Then what %s has and 14.0 had not. */" % (BLOCK, new.unidata_version))
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


main()
