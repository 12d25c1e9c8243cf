"""Write the tables of measured figures in docs/ann-*.md anew from docs/results.

    python scripts/ann_tables.py [--docs docs]

A table is found by its header and replaced whole. Sources: RECORDS in DOCS/results. Run it after recording one of them,
with plot_ann_pages.py.
"""

import json
from pathlib import Path

from benchmark_ann import fastest
from command_line import Parser, one_line_errors
from plot_ann_pages import NAMED

from refimpl.files import atomic_write

RECORDS = (
    "benchmark_ann", "benchmark_ann_trees", "benchmark_ann_cifar", "benchmark_ann_million", "benchmark_filtered",
    "ann_floors",
)  # fmt: skip
WORK = "| work | ours | best other | ratio |"
CONTENDERS = "| index | build, s | queries/s at recall 0.95 | at recall 0.99 |"
ALL = "| index | build, s | bytes a vector | queries/s at recall 0.95 | at recall 0.99 | alone: p50, ms | p99, ms |"
MILLION = ALL.replace("| index |", "| on a million |")
PHOTOGRAPHS = "| on photographs | build, s | queries/s at recall 0.95 | at recall 0.99 | alone: p50, ms | p99, ms |"
FLOOR = "| limited by | counted for a query | floor, us | measured, us |"
GOALS = "| work | goal | not below | measured |"
FLOORS = "| index | limited by | floor, us | measured, us | times the floor |"
GROWTH = "| index | theory | measured | us a query | |"
FILTERED = "| {} | none | 50% | 10% | 1% | 0.1% |"
NAMES = {
    "multiply": ("operations", "arithmetic"),
    "look up": ("look-ups", "byte shuffles"),
    "count": ("bits compared", "population counts"),
    "fetch": ("vectors measured", "fetching vectors"),
}
#: goals: the beginning of a row's name, the ratio to the best other library, and the least that is enough
ASKED = (
    ("exact, 10 neighbours", 1.7, 1.2),
    ("k-means, 1,024 centroids", 2.0, 1.2),
    ("IVF-Flat", 2.0, 1.2),
    ("best index at recall >= 0.95", 2.0, 1.0),
    ("best index at recall >= 0.99", 2.0, 1.0),
    ("Hamming scan, 200,000 codes of 128 bits", 1.5, 1.0),
    ("kd-tree, build, 1,000,000 x 3, peers in float64", 1.0, 0.5),
    ("kd-tree, 10 neighbours, 1,000,000 x 3, peers in float64", 2.0, 1.0),
    ("kd-tree, 10 neighbours, 200,000 x 8, peers in float64", 2.0, 1.0),
)
#: page: the part of the rows that it shows
PARTS = {
    "exact": "exact",
    "kmeans": "kmeans",
    "ivf": "ivf",
    "pq": "ivfpq",
    "kdtree": "kdtree",
    "rp-forest": "forest",
    "lsh": "lsh",
    "hamming": "hamming",
}
#: page: the index whose floor it shows
INDEXES = {
    "exact": "ExactIndex",
    "ivf": "IVFIndex",
    "pq": "IVFPQIndex, 4 bits",
    "kdtree": "KDTreeIndex, 200,000 x 8",
    "rp-forest": "RPForestIndex",
    "lsh": "LSHIndex",
    "hamming": "HammingIndex",
    "scann": "ScaNNIndex",
    "rabitq": "RaBitQIndex",
    "hnsw": "HNSWIndex",
}


def row(*cells):
    return f"| {' | '.join(cells)} |"


def work_rows(rows, part):
    """A line a row of the benchmark: rates or seconds, and the peer."""
    lines = []
    for entry in rows:
        if entry["part"] == part:
            form = "{:.3g} s" if entry["unit"] == "s" else "{:,.0f}/s"
            theirs = f"{form.format(entry['theirs'])} {entry['peer']}" if entry["peer"] else ""
            ratio = f"{entry['ratio']:.1f}x" if entry["ratio"] else ""
            lines.append(row(entry["work"], form.format(entry["ours"]), theirs, ratio))
    return lines


def rate(contender, recall):
    point = fastest(contender, recall)
    return f"{point['rate']:,.0f}" if point else "not reached"


def contender_rows(contenders, names):
    chosen = [c for c in contenders if c["name"] in names]
    return [row(c["name"], f"{c['build seconds']:.1f}", rate(c, 0.95), rate(c, 0.99)) for c in chosen]


def all_rows(contenders, memory=True):
    """By the rate at 0.95, the highest first. Memory says nothing of small indexes: libraries reserve."""
    lines = []
    for c in sorted(contenders, key=lambda c: -(fastest(c, 0.95) or {"rate": 0})["rate"]):
        name = f"**{c['name']}**" if c["ours"] else c["name"]
        grown = ["" if c["bytes per vector"] is None else f"{c['bytes per vector']:,.0f}"] if memory else []
        alone = [f"{c['single'][key]:.2f}" for key in ("p50 ms", "p99 ms")] if c["single"] else ["", ""]
        lines.append(row(name, f"{c['build seconds']:.1f}", *grown, rate(c, 0.95), rate(c, 0.99), *alone))
    return lines


def goal_rows(rows):
    """The least ratio of the rows that a goal is about. (Isotropic vectors are rows beside it.)"""
    lines = []
    for name, goal, least in ASKED:
        about = [entry for entry in rows if entry["work"].startswith(name) and entry["ratio"]]
        ratio = min(e["ratio"] for e in about if "isotropic" not in e["work"])
        verdict = "reached" if ratio >= goal else "missed" if ratio >= least else "below"
        lines.append(row(name, f"{goal:.1f}x", f"{least:.1f}x", f"{ratio:.2f}x: {verdict}"))
    return lines


def floor_rows(floors, name):
    found = floors[name]
    counted = ", ".join(f"{amount:,.0f} {NAMES[kind][0]}" for kind, amount in found["work"].items())
    times = [f"{1e6 * found[key]:.1f}" for key in ("floor", "measured")]
    return [row(NAMES[found["limit"]][1], counted, *times)]


def all_floor_rows(floors):
    lines = []
    for name, found in floors.items():
        times = [f"{1e6 * found[key]:.1f}" for key in ("floor", "measured")]
        lines.append(row(name, NAMES[found["limit"]][1], *times, f"{found['measured'] / found['floor']:.1f}"))
    return lines


def growth_rows(rows):
    """A line an index: the exponent of n beside theory, and the time of a query at either end."""
    lines = []
    for entry in rows:
        if entry["work"].startswith("growth: "):
            name, theory = entry["work"].removeprefix("growth: ").removesuffix(")").split(" (theory: ")
            times = entry["seconds a query"]
            ends = [f"{1e6 * times[n]:.1f} at {int(n):,}" for n in (min(times, key=int), max(times, key=int))]
            lines.append(row(name, theory, f"n^{entry['ours']:.2f}", *ends))
    return lines


def filtered_rows(rows, kind):
    """A line an index: rate and recall by the share that is allowed, the contenders under one kind of filter."""
    lines = []
    for name in dict.fromkeys(entry["index"] for entry in rows):
        of_index = [e for e in rows if e["index"] == name and (e["filter"] == "none" or e["filter"].startswith(kind))]
        cells = [f"{e['rate']:,.0f} ({e['recall']:.3f})" for e in of_index]
        lines.append(row(f"**{name}**" if of_index[0]["ours"] else name, *cells))
    return lines


def replace_table(text, header, lines):
    """The text with the rows of the table with this header replaced; ValueError if it has none."""
    before, found, after = text.partition(header + "\n")
    if not found:
        raise ValueError(f"expected a table with the header {header}")
    rest = after.splitlines()
    end = next((i for i, line in enumerate(rest) if not line.startswith("|")), len(rest))
    return before + "\n".join([header, rest[0], *lines, *rest[end:]]) + "\n"


def main():
    parser = Parser(__doc__)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    options = parser.parse_args()
    with one_line_errors(parser):
        flat, trees, photographs, million, filtered, floors = (
            json.loads((options.docs / "results" / f"{name}.json").read_text()) for name in RECORDS
        )
    rows, contenders, floors = flat["rows"] + trees["rows"], flat["contenders"], floors["results"]
    tables = {name: [(WORK, work_rows(rows, part))] for name, part in PARTS.items()}
    for name in ("pq", "scann", "rabitq", "hnsw"):
        tables.setdefault(name, []).append((CONTENDERS, contender_rows(contenders, NAMED[name])))
    for name, index in INDEXES.items():
        tables[name].append((FLOOR, floor_rows(floors, index)))
    tables["comparison"] = [
        (ALL, all_rows(contenders)),
        (PHOTOGRAPHS, all_rows(photographs["contenders"], memory=False)),
        (MILLION, all_rows(million["contenders"])),
        (GOALS, goal_rows(rows)),
        (FLOORS, all_floor_rows(floors)),
        (GROWTH, growth_rows(rows)),
        *((FILTERED.format(kind), filtered_rows(filtered["contenders"], kind)) for kind in ("random", "one side")),
    ]
    for name, found in tables.items():
        path = options.docs / f"ann-{name}.md"
        text = path.read_text(encoding="utf-8")
        for header, lines in found:
            text = replace_table(text, header, lines)
        with atomic_write(path) as file:
            file.write(text.encode())
        print(f"{path}: {len(found)} tables")


if __name__ == "__main__":
    main()
