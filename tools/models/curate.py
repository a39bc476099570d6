#!/usr/bin/env python3
"""curate.py NOVELS.jsonl[.zst] OUT: the text that the shipped models learn from. Standard library only; the same bytes every time.

1. rights: authors who died after 1955 and works first published after 1930 are left out (authors.tsv has the years and their source).
2. one form: quotes, dashes, blanks and the few broken encodings are made alike; lines that were wrapped become paragraphs again; paragraphs are
   separated by an empty line. Nothing is rewritten.
3. near-duplicates: a sketch of each novel's 5-word shingles (MinHash in its fraction form: the shingles whose 64-bit hash is below 2^64/32 [Irber et
   al. 2022; Broder 1997]); of two novels whose sketches contain more than a third of each other's, the longer one goes.
4. split by author: authors in the order of a hash of their name; test takes whole authors until it has TEST bytes, validation the next until VALID,
   an author with over 1.3 MB is passed over (a twentieth of what there is to learn from). Everything else is for training.
Writes OUT/{train,valid,test}.jsonl, test.txt (the test novels, one after another) and report.json."""
import collections, hashlib, json, os, re, subprocess, sys

HERE = os.path.dirname(os.path.abspath(__file__))
LAST_DEATH, LAST_YEAR, TEST, VALID, LARGEST, KEEP = 1955, 1930, 1_800_000, 1_200_000, 1_300_000, 32
WORD = re.compile(r"[a-z]+")

def authors():
    rows = [l.rstrip("\n").split("\t") for l in open(os.path.join(HERE, "authors.tsv"), encoding="utf-8") if l.strip() and l[0] != "#"]
    return [(r[0], int(r[1]), int(r[2]), r[3].split(",")) for r in rows]

def author_of(ident, table):
    """The row whose key is a part of the id: the longest key wins (ENG18400_Trollope over Trollope)."""
    best = max(((len(k), r) for r in table for k in r[3] if k in ident.split("/")[1]), default=None, key=lambda x: x[0])
    if not best: sys.exit(f"authors.tsv has no row for {ident}")
    return best[1]

BROKEN = [("â€”", "—"), ("ĂŠ", "é"), ("HĂ tel", "Hôtel"), ("hĂ tel", "hôtel"), ("Ă ", "é"), ("Äš ", "£"), ("Ł", "£"), ("€", "é"), ("ť", "é"), ("Ű", "ô"), ("š", "ä"),
          ("Ž", "ë"), ("Ų", "ö"), ("Ż", "ï")]
ALIKE = str.maketrans({"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "´": "'", "`": "'", "‐": "-", "‑": "-", "–": "-", "―": "—", "\xa0": " ", "\t": " ", "\r": "",
                       "\x0c": " ", "\xad": "", "\u2060": "", "\ufeff": "", "_": "", "…": "..."})
ENDS = re.compile(r"""[.?!:;,"')\]—-]\s*$""")

def paragraphs(text, whole_word):
    for a, b in BROKEN: text = text.replace(a, b)
    lines = [re.sub(r" +", " ", l.translate(ALIKE)).strip() for l in text.split("\n")]
    full = [l for l in lines if l]
    width = sorted(map(len, full))[int(len(full) * 0.98)]
    if width > 130:                                      # one line is one paragraph already, or a verse of one
        return [p for p in ("\n".join(x) for x in group(lines))] if blank_share(lines) > 0.3 else full
    few = blank_share(lines) < 0.05
    out, cur = [], []                                    # cur: the lines of one paragraph
    def end():
        text = ""
        for l in cur:
            m = re.search(r"([A-Za-z]+)-$", text[-40:])
            w = re.match(r"([a-z]+)", l)
            if not text: text = l
            elif m and w: text = text[:-1] + l if (m.group(1) + w.group(1)).lower() in whole_word else text + l
            else: text += " " + l
        if text: out.append(text)
        cur.clear()
    for i, l in enumerate(lines):                        # wrapped at `width`
        if not l: end(); continue
        cur.append(l)
        nxt = lines[i + 1] if i + 1 < len(lines) else ""
        if few and nxt and len(l) + 1 + len(nxt.split(" ")[0]) < width - 2 and (ENDS.search(l) or len(l) < width // 2) and not nxt[0].islower():
            end()                                        # the next word would have stood on this line: a paragraph ended
    end()
    return out

def blank_share(lines): return sum(not l for l in lines) / len(lines)
def group(lines):
    cur = []
    for l in lines + [""]:
        if l: cur.append(l)
        elif cur: yield cur; cur = []

def clean(text, whole_word):
    out = []
    for p in paragraphs(text, whole_word):
        p = re.sub(r"\[Illustration[^\]]*\]", "", p)
        p = re.sub(r"\s*--+\s*", "—", p)
        p = re.sub(r"(?<=\S) - (?=\S)|(?<=\S) -$|^- (?=\S)", "—", p, flags=re.M)
        p = re.sub(r" ?— ?", "—", p)
        p = re.sub(r" +", " ", p).strip()
        if p and re.search(r"\w", p): out.append(p)
    return "\n\n".join(out) + "\n"

def sketch(text):
    """64-bit hashes, below the limit, of every five words in a row."""
    known, mask, limit, h = {}, (1 << 64) - 1, (1 << 64) // KEEP, 0
    ring, got, k = collections.deque([0] * 5), set(), 0
    p, p5 = 0x9E3779B97F4A7C15, pow(0x9E3779B97F4A7C15, 5, 1 << 64)
    for w in WORD.findall(text.lower()):
        x = known.get(w)
        if x is None: x = known[w] = int.from_bytes(hashlib.blake2b(w.encode(), digest_size=8).digest(), "little")
        ring.append(x)
        h = (h * p + x - ring.popleft() * p5) & mask
        k += 1
        m = h ^ (h >> 31)                                # the last words must decide about the low bits, too
        m = (m * 0xBF58476D1CE4E5B9) & mask
        if k >= 5 and m < limit: got.add(m)
    return got

def main():
    src, out = sys.argv[1:3]
    os.makedirs(out, exist_ok=True)
    data = subprocess.run(["zstd", "-dcq", src], stdout=subprocess.PIPE, check=True).stdout if src.endswith(".zst") else open(src, "rb").read()
    rows = [json.loads(l) for l in data.decode("utf-8").split("\n") if l.strip()]
    table, report = authors(), {"novels": len(rows), "bytes": sum(len(r["text"].encode()) for r in rows)}
    kept, gone = [], []
    for r in sorted(rows, key=lambda r: r["id"]):
        name, born, died, _ = author_of(r["id"], table)
        year = int(re.search(r"_(\d{4})$", r["id"]).group(1)) if r["id"].startswith("en100") else int(r["year"])
        r["author"], r["died"], r["year"] = name, died, year
        why = f"{name} died in {died}" if died > LAST_DEATH else f"first published in {year}" if year > LAST_YEAR else None
        (gone.append({"id": r["id"], "why": why}) if why else kept.append(r))
    report["rights"] = gone
    words = collections.Counter(w for r in kept for w in WORD.findall(r["text"].lower()))
    whole = {w for w, n in words.items() if n > 4}
    for r in kept: r["text"] = clean(r["text"], whole)
    sk = {r["id"]: sketch(r["text"]) for r in kept}
    size, drop, pairs = {r["id"]: len(r["text"]) for r in kept}, set(), []
    for i, a in enumerate(kept):
        for b in kept[:i]:
            x, y = sk[a["id"]], sk[b["id"]]
            c = len(x & y) / max(1, min(len(x), len(y)))
            if c > 1 / 3:
                loser = max(a["id"], b["id"], key=lambda k: (size[k], k))
                drop.add(loser)
                pairs.append({"a": b["id"], "b": a["id"], "containment": round(c, 3), "jaccard": round(len(x & y) / len(x | y), 3), "left_out": loser})
    report["near_duplicates"] = pairs
    kept = [r for r in kept if r["id"] not in drop]
    # novels of one author go together; the order of authors is that of a hash
    by = collections.defaultdict(list)
    for r in kept: by[r["author"]].append(r)
    order = sorted(by, key=lambda n: hashlib.sha256(("loam:" + n).encode()).hexdigest())
    total = {n: sum(len(r["text"].encode()) for r in by[n]) for n in by}
    part, sums = {}, collections.Counter()
    for n in order:
        want = "test" if sums["test"] < TEST else "valid" if sums["valid"] < VALID else "train"
        if want != "train" and (total[n] > LARGEST): want = "train"
        part[n] = want
        sums[want] += total[n]
    # is anything of the held-out novels in the training text?
    seen = set().union(*(sk[r["id"]] for r in kept if part[r["author"]] == "train"))
    worst = max((len(sk[r["id"]] & seen) / len(sk[r["id"]]), r["id"]) for r in kept if part[r["author"]] != "train")
    report["held_out_shingles_in_training"] = {"largest_share": round(worst[0], 4), "novel": worst[1]}
    for p in ("train", "valid", "test"):
        mine = sorted((r for r in kept if part[r["author"]] == p), key=lambda r: r["id"])
        with open(os.path.join(out, p + ".jsonl"), "w", encoding="utf-8") as f:
            for r in mine: f.write(json.dumps({"id": r["id"], "author": r["author"], "year": r["year"], "text": r["text"]}, ensure_ascii=False) + "\n")
        report[p] = {"novels": len(mine), "bytes": sum(len(r["text"].encode()) for r in mine), "authors": sorted({r["author"] for r in mine})}
        if p == "test":
            with open(os.path.join(out, "test.txt"), "w", encoding="utf-8") as f: f.write("\n".join(r["text"] for r in mine))
    for p in ("train", "valid", "test"):
        report[p]["sha256"] = hashlib.sha256(open(os.path.join(out, p + ".jsonl"), "rb").read()).hexdigest()
    json.dump(report, open(os.path.join(out, "report.json"), "w"), indent=1, ensure_ascii=False)
    print(json.dumps({k: v if k not in ("train",) else {**v, "authors": len(v["authors"])} for k, v in report.items()}, indent=1, ensure_ascii=False))

if __name__ == "__main__": main()
