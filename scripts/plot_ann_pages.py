"""Draw the pictures and the measured curves of the pages docs/ann*.md.

    python scripts/plot_ann_pages.py [--only exact,kmeans,...] [--results docs/results] [--seed 0]

ann_NAME.png          what an index does, drawn from the index itself on made data (ann_pictures.py)
ann_NAME_curve.png    what was measured, from benchmark_ann.json and benchmark_ann_trees.json of --results
ann_pages.json        the numbers that the pictures show
ann_photographs.png   the curves of benchmark_ann_cifar.json; ann_million.png those of benchmark_ann_million.json

All are written to --results. Needs matplotlib.
"""

import io
import json
from pathlib import Path

import numpy as np
from ann_pictures import PICTURES
from benchmark_ann import draw_curves, plot_curves
from command_line import Parser, one_line_errors
from PIL import Image

from refimpl.files import atomic_write

COLORS = 128  # of a picture's palette: these are drawings, and should be small files

#: page: the contenders of benchmark_ann.json that its curve names
NAMED = {
    "ivf": ("IVFIndex", "faiss IVF1024,Flat"),
    "pq": (
        "PQIndex", "PQIndex, opq", "PQIndex, 4 bits", "faiss PQ16,RFlat", "faiss PQ64x4fs,RFlat", "IVFPQIndex",
        "IVFPQIndex, 4 bits", "faiss IVF1024,PQ64x4fs,RFlat",
    ),
    "rp-forest": ("RPForestIndex", "annoy", "pynndescent"),
    "lsh": ("LSHIndex", "HammingIndex", "RPForestIndex"),
    "hamming": ("HammingIndex", "RaBitQIndex", "LSHIndex"),
    "scann": ("ScaNNIndex", "ScaNNIndex, spilled", "scann", "faiss IVF1024,PQ64x4fs,RFlat"),
    "rabitq": ("RaBitQIndex", "IVFIndex", "faiss IVF1024,PQ64x4fs,RFlat"),
    "hnsw": ("HNSWIndex", "hnswlib", "faiss HNSW16", "usearch", "scalable-vs Vamana", "pynndescent"),
}  # fmt: skip
#: page: the beginning of its row "growth: ..." in either file
GROWTH = {
    "exact": "exact",
    "ivf": "IVF-Flat",
    "kdtree": "kd-tree",
    "rp-forest": "forest",
    "lsh": "LSH",
    "hamming": "Hamming",
    "hnsw": "HNSW",
    "pq": "IVF-PQ",
    "scann": "ScaNN",
    "rabitq": "RaBitQ",
}


def draw_growth(axis, rows, name):
    row = next(row for row in rows if row["work"].startswith(f"growth: {GROWTH[name]}"))
    sizes, times = zip(*((int(n), 1e6 * t) for n, t in row["seconds a query"].items()))
    axis.loglog(sizes, times, "o-")
    axis.set(xlabel="vectors", ylabel="time of a query, both cores, microseconds")
    axis.set_title(f"{row['work'][8:]}: measured n^{row['ours']:.2f}", fontsize=9)
    axis.set_ylim(min(times) / 2, 2 * max(times))
    axis.grid(True, which="both", alpha=0.3)


def draw_bars(axis, groups, unit):
    """groups: {label: {side: value}}, a bar each."""
    sides = list(dict.fromkeys(side for values in groups.values() for side in values))
    for i, side in enumerate(sides):
        at = [j for j, values in enumerate(groups.values()) if side in values]
        heights = [list(groups.values())[j][side] for j in at]
        bars = axis.bar(np.array(at) + 0.8 * (i + 0.5) / len(sides) - 0.4, heights, 0.8 / len(sides), label=side)
        axis.bar_label(bars, [f"{height:,.3g}" if height < 100 else f"{height:,.0f}" for height in heights], fontsize=7)
    axis.set_xticks(range(len(groups)), groups, fontsize=8)
    axis.set_ylabel(unit)
    axis.legend(fontsize=8)


def rates_of(rows, prefix):
    """{work: {"refimpl": rate, peer: rate}} of the rows that begin so."""
    groups = {}
    for row in rows:
        if row["work"].startswith(prefix):
            name = row["work"][len(prefix) :].strip(", ") or "embeddings"
            groups.setdefault(name, {"refimpl": row["ours"]})[row["peer"]] = row["theirs"]
    return groups


def draw_curve(name, plt, rows, contenders):
    """The measured figure of a page -> the matplotlib figure."""
    panels = 1 + (name in GROWTH)
    figure, axes = plt.subplots(1, panels, figsize=(5.6 * panels, 4.2), layout="constrained", squeeze=False)
    if name == "exact":
        draw_bars(axes[0, 0], rates_of(rows, "exact, 10 neighbours"), "queries per second, 2 threads")
    elif name == "kmeans":
        draw_bars(axes[0, 0], rates_of(rows, "k-means"), "seconds, 2 threads")
    elif name == "kdtree":
        groups = rates_of(rows, "kd-tree, 10 neighbours")
        works = sorted((w for w in groups if "float64" not in w), key=lambda work: int(work.split()[-1]))
        draw_bars(axes[0, 0], {work: groups[work] for work in works}, "queries per second")
        axes[0, 0].set(yscale="log", xlabel="uniform points x dimensions")
    else:
        draw_curves(axes[0, 0], contenders, NAMED[name])
    if name in GROWTH:
        draw_growth(axes[0, 1], rows, name)
    return figure


def save(figure, path):
    """A PNG with a palette."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    picture = Image.open(buffer).convert("RGB").quantize(COLORS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    with atomic_write(path) as file:
        picture.save(file, "PNG", optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB", flush=True)


def main():
    parser = Parser(__doc__)
    parser.add_argument("--only", help=f"some of {','.join(PICTURES)}")
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    parser.at_least(options, seed=0)
    chosen = options.only.split(",") if options.only else list(PICTURES)
    if not set(chosen) <= set(PICTURES):
        parser.error(f"--only: expected some of {','.join(PICTURES)}, got {options.only}")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with one_line_errors(parser):
        flat, trees = (
            json.loads((options.results / f"{name}.json").read_text())
            for name in ("benchmark_ann", "benchmark_ann_trees")
        )
    path = options.results / "ann_pages.json"
    results = json.loads(path.read_text())["results"] if path.exists() else {}
    for name in chosen:
        panels, draw = PICTURES[name]
        figure, axes = plt.subplots(1, panels, figsize=(4.3 * panels, 3.9), layout="constrained")
        results[name] = draw(axes, np.random.default_rng(options.seed))
        save(figure, options.results / f"ann_{name}.png")
        save(draw_curve(name, plt, flat["rows"] + trees["rows"], flat["contenders"]),
             options.results / f"ann_{name}_curve.png")  # fmt: skip
        plt.close("all")
    for picture, name in ("photographs", "benchmark_ann_cifar"), ("million", "benchmark_ann_million"):
        source = options.results / f"{name}.json"
        if source.exists() and not options.only:
            plot_curves(json.loads(source.read_text())["contenders"], options.results / f"ann_{picture}.png")
    record = {"command": "python scripts/plot_ann_pages.py", "environment": {"numpy": np.__version__}}
    record |= {"seed": options.seed, "results": {name: results[name] for name in PICTURES if name in results}}
    with atomic_write(path) as file:
        file.write(json.dumps(record, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
