#!/usr/bin/env python3
"""gen_case.py — src/chat/jinja_case.inc: what Python's str methods know of letters beyond one-to-one case mappings and general categories.

    python3 tools/gen_case.py > src/chat/jinja_case.inc
"""
import sys
import unicodedata as u


def ranges(f):
    out = []
    for c in range(0x110000):
        if not 0xd800 <= c < 0xe000 and f(chr(c)):
            if out and out[-1][1] == c - 1:
                out[-1][1] = c
            else:
                out.append([c, c])
    return out


def show(name, f):
    r = ranges(f)
    print(f"static const uint32_t {name}[][2] = {{")
    line = "   "
    for a, b in r:
        item = f" {{ 0x{a:x}, 0x{b:x} }},"
        if len(line) + len(item) > 150:
            print(line)
            line = "   "
        line += item
    print(line + "\n};")


print(f"/* Made by tools/gen_case.py from Python {sys.version.split()[0]}, Unicode {u.unidata_version}. */")
print("/* code point, its upper case, its title case (up to three code points each) where one of them has more than one */")
print("static const struct { uint32_t c, up[3], title[3]; } many[] = {")
for c in range(0x110000):
    if 0xd800 <= c < 0xe000:
        continue
    s = chr(c)
    if len(s.upper()) > 1 or len(s.title()) > 1:
        row = [", ".join(f"0x{ord(x):x}" for x in t) for t in (s.upper(), s.title())]
        print(f"    {{ 0x{c:x}, {{ {row[0]} }}, {{ {row[1]} }} }},")
print("};")
print("/* code points whose case folding is not the lower case of their upper case, and that folding */")
print("static const struct { uint32_t c, to[3]; } folds[] = {")
for c in range(0x110000):
    if 0xd800 <= c < 0xe000:
        continue
    s = chr(c)
    if s.casefold() != "".join(x.lower() for x in s.upper()):
        print(f"    {{ 0x{c:x}, {{ {', '.join(f'0x{ord(x):x}' for x in s.casefold())} }} }},")
print("};")
show("numeric_too", lambda s: s.isnumeric() and u.category(s)[0] != "N")
show("lower_too", lambda s: s.islower() and u.category(s) != "Ll")
show("upper_too", lambda s: s.isupper() and u.category(s) != "Lu")
show("digit_too", lambda s: s.isdigit() and u.category(s) != "Nd")
