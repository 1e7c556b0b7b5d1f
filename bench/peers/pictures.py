"""Pictures that compare brokers, as SVG without scripts or fonts of their own: bars for what is a rate, lines for percentiles and seconds."""

import html
import math
import os
import re

import tables
import workloads

COLOURS = ("#1b6ca8", "#c0392b", "#e08e0b", "#7d3c98", "#5d6d7e", "#27ae60")
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 860, 400, 70, 60, 70
QUANTILES = (("p50_us", "50"), ("p90_us", "90"), ("p99_us", "99"), ("p999_us", "99.9"), ("max_us", "max"))


def text(x, y, words, size=12, anchor="middle", colour="#222"):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">{html.escape(words)}</text>'


def frame(title, unit, legend, body):
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>', text(LEFT, 22, title, 15, "start"), text(LEFT, 42, unit, 11, "start", "#666")]
    x = LEFT
    for i, name in enumerate(legend):
        parts.append(f'<rect x="{x}" y="{HEIGHT - 22}" width="11" height="11" fill="{COLOURS[i % len(COLOURS)]}"/>')
        parts.append(text(x + 15, HEIGHT - 12, name, 11, "start"))
        x += 30 + 6.4 * len(name)
    return "\n".join([*parts, *body, "</svg>"]) + "\n"


def nice(top):
    """A step of 1, 2 or 5 times a power of ten, of which four to ten make up the axis."""
    step = 10 ** math.floor(math.log10(top or 1))
    for part in (step / 5, step / 2, step, step * 2):
        if top / part <= 8:
            return part
    return step * 5


def grid(marks, y_of):
    parts = []
    for value, label in marks:
        y = y_of(value)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(text(LEFT - 6, y + 4, label, 11, "end", "#666"))
    return parts


def bars(title, unit, groups, names):
    """groups: [(label, [value or None for each name])]"""
    top = max((v for _, values in groups for v in values if v), default=1) * 1.05
    floor = HEIGHT - BOTTOM

    def y_of(v):
        return floor - (floor - TOP) * v / top
    step = nice(top)
    body = grid([(k * step, f"{k * step:g}") for k in range(int(top / step) + 1)], y_of)
    room = (WIDTH - 20 - LEFT) / len(groups)
    wide = room * 0.8 / len(names)
    for g, (label, values) in enumerate(groups):
        x = LEFT + room * (g + 0.1)
        for i, v in enumerate(values):
            if v:
                body.append(f'<rect x="{x + i * wide:.1f}" y="{y_of(v):.1f}" width="{wide * 0.9:.1f}" height="{floor - y_of(v):.1f}" fill="{COLOURS[i % len(COLOURS)]}"/>')
                body.append(text(x + (i + 0.45) * wide, y_of(v) - 3, tables.number(v), 9))
        body.append(text(LEFT + room * (g + 0.5), floor + 16, label, 11))
    return frame(title, unit, names, body)


def lines(title, unit, x_labels, curves, names, steps):
    """curves: [[(x, value)]], on a logarithmic axis; x_labels: [(x, label)], from 0 to `steps`."""
    values = [v for c in curves for _, v in c if v and v > 0]
    if not values:
        return None
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    floor = HEIGHT - BOTTOM

    def y_of(v):
        return floor - (floor - TOP) * (math.log10(v) - low) / (high - low)

    def x_of(x):
        return LEFT + 10 + (WIDTH - 40 - LEFT) * x / max(1, steps)
    body = grid([(10.0 ** k, f"{10.0 ** k:g}") for k in range(low, high + 1)], y_of)
    body += [text(x_of(x), floor + 16, label, 11) for x, label in x_labels]
    for i, curve in enumerate(curves):
        points = " ".join(f"{x_of(x):.1f},{y_of(v):.1f}" for x, v in curve if v and v > 0)
        body.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[i % len(COLOURS)]}" stroke-width="2"/>')
    return frame(title, unit, names, body)


def draw(r, folder):
    """{name of the file: what it shows}"""
    names = [tables.shown(b) for b in r.brokers]
    short = {"a1": "1 KiB, 1 and 1", "a4": "1 KiB, 4 and 4", "b": "100 B, 4 and 4", "h": "zstd, 4 and 4", "p50": "half of its peak"}
    pictures = {}
    for file, title, unit, figure in (("throughput.svg", "Throughput", "MB/s of values acknowledged, as fast as it goes", tables.mb_in),
                                      ("cpu.svg", "Processor time of the broker", "seconds per GB in and out", tables.cpu_per_gb)):
        groups = [(short[load], [r.median(load, b, figure) for b in r.brokers]) for load in ("a1", "a4", "b", "h")]
        groups = [g for g in groups if any(g[1])]
        if groups:
            pictures[file] = bars(title, unit, groups, names)
    for kind, file, what in (("produce", "percentiles-produce.svg", "Produce"), ("end_to_end", "percentiles-end-to-end.svg", "End to end")):
        curves = [[(i, r.median("same", b, tables.latency_ms(kind, key))) for i, (key, _) in enumerate(QUANTILES)] for b in r.brokers]
        pictures[file] = lines(f"{what} latency by percentile, {workloads.LOADS['same'].what}", "ms, from when a record was due",
                               [(i, label) for i, (_, label) in enumerate(QUANTILES)], curves, names, len(QUANTILES) - 1)
    curves, longest = [], 0
    for b in r.brokers:
        first = next((c["result"]["series"] for c in r.of("same", b) if c.get("result", {}).get("series")), [])
        curves.append([(row.get("second", 0), row.get("produce_p99_us", 0) / 1e3) for row in first])
        longest = max(longest, len(first))
    pictures["latency-over-time.svg"] = lines(f"Produce p99 of each second, {workloads.LOADS['same'].what}", "ms, from when a record was due",
                                              [(i, str(i)) for i in range(longest)], curves, names, longest - 1)
    os.makedirs(folder, exist_ok=True)
    drawn = {}
    for file, content in pictures.items():
        if content:
            with open(os.path.join(folder, file), "w", encoding="utf-8") as f:
                f.write(content)
            drawn[file] = re.search(r'font-size="15"[^>]*>([^<]*)<', content)[1]
    return drawn
