#!/usr/bin/env python3
"""curves.py: docs/models/curves.json → docs/models/curves.svg: bits per byte on the validation authors over the steps of the two shipped models, the sweeps' training losses, loam and PyTorch step by step."""
import json, os

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/models/")
d = json.load(open(root + "curves.json"))
W, H, out = 460, 300, []


def panel(x0, title, lines, xr, yr, ticks, y0=0):
    px = lambda x: x0 + 46 + (x - xr[0]) / (xr[1] - xr[0]) * (W - 150)
    py = lambda y: y0 + 34 + (yr[1] - y) / (yr[1] - yr[0]) * (H - 70)
    out.append(f'<text x="{x0 + 46}" y="{y0 + 20}" font-weight="bold">{title}</text>')
    for t in ticks: out.append(f'<path d="M{px(xr[0]):.1f} {py(t):.1f}H{px(xr[1]):.1f}" stroke="#ddd"/><text x="{x0 + 40}" y="{py(t) + 4:.1f}" text-anchor="end">{t:g}</text>')
    for t in (xr[0], (xr[0] + xr[1]) / 2, xr[1]): out.append(f'<text x="{px(t):.1f}" y="{y0 + H - 18}" text-anchor="middle">{t:g}</text>')
    last = []
    for i, (name, pts) in enumerate(lines):
        c = f"hsl({i * 360 // len(lines)},70%,40%)"
        pts = [p for p in pts if xr[0] <= p[0] <= xr[1]]
        out.append(f'<polyline fill="none" stroke="{c}" stroke-width="1.5" points="{" ".join(f"{px(x):.1f},{py(min(max(y, yr[0]), yr[1])):.1f}" for x, y in pts)}"/>')
        last.append([py(min(max(pts[-1][1], yr[0]), yr[1])), px(pts[-1][0]), name, c])
    last.sort()
    for i in range(1, len(last)): last[i][0] = max(last[i][0], last[i - 1][0] + 11)
    for y, x, name, c in last: out.append(f'<text x="{x + 4:.1f}" y="{y + 4:.1f}" fill="{c}">{name}</text>')


panel(0, "validation, bits per byte, over steps", [(m, [(s, b) for s, _, b in d[m]["valid"]]) for m in ("loam-30m", "loam-3m")], (200, 2400), (1.2, 1.7), (1.2, 1.3, 1.4, 1.5, 1.6, 1.7))
panel(W, "sweep: training loss, nats", [(r["name"], r["train_loss"]) for r in d["sweep"]], (100, 500), (3.7, 5.1), (3.75, 4, 4.25, 4.5, 4.75, 5))
second = [r for r in d["sweep2"] if r["train_loss"][-1][0] == 500]
panel(0, "sweep: training loss, nats (vocabularies differ)", [(r["name"], r["train_loss"]) for r in second], (100, 500), (3.5, 5.1), (3.5, 4, 4.5, 5), H)
q = d["pytorch_2400"]
panel(W, "loam-30m and PyTorch: training loss, nats", [(n, [(i * q["every"], y) for i, y in enumerate(q[k])]) for n, k in (("loam", "loam"), ("PyTorch", "peer"))], (0, 2400), (3, 5), (3, 3.5, 4, 4.5, 5), H)
open(root + "curves.svg", "w").write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * W}" height="{2 * H}" font-family="sans-serif" font-size="10">\n<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(out) + "\n</svg>\n")
