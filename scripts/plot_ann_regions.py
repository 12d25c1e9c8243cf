"""Draw how three indexes cut the plane: a kd-tree, one tree of a random-projection forest, and one table of LSH.

    python scripts/plot_ann_regions.py [--out docs/results/ann_regions.png] [--seed 0]

Each cell (leaf or bucket) has a colour; the points are those that were indexed. Needs matplotlib.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402

from refimpl.ann import KDTreeIndex, LSHIndex, RPForestIndex  # noqa: E402
from refimpl.files import atomic_write  # noqa: E402


def kdtree_cell(index, points):
    cells = np.zeros(len(points), int)
    for i, point in enumerate(points):
        node = 0
        while index._axis[node] >= 0:
            left = point[index._axis[node]] < index._planes[node].mean()
            node = node + 1 if left else index._link[node]
        cells[i] = node
    return cells


def forest_cell(index, points):
    normals, offsets = index._normals[0], index._offsets[0]
    node = np.zeros(len(points), int)
    while (node < len(normals)).any():
        cut = np.minimum(node, len(normals) - 1)
        margin = (points * normals[cut]).sum(1) - offsets[cut]
        node = np.where(node < len(normals), np.where(margin > 0, 2 * node + 2, 2 * node + 1), node)
    return node


def lsh_cell(index, points):
    values, _ = index._hash(index._project(points.astype(np.float32)), costs=False)
    return np.unique(values[:, 0], axis=0, return_inverse=True)[1].ravel()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results/ann_regions.png"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rng = np.random.default_rng(options.seed)
    centers = rng.uniform(-1, 1, (6, 2))
    points = (centers[rng.integers(0, 6, 240)] + 0.18 * rng.standard_normal((240, 2))).astype(np.float32)
    low, high = points.min(0) - 0.1, points.max(0) + 0.1
    grid = np.stack(np.meshgrid(*(np.linspace(low[j], high[j], 400) for j in range(2))), 2).reshape(-1, 2)
    panels = {
        "kd-tree": (KDTreeIndex(leaf_size=16).fit(points), kdtree_cell),
        "random-projection tree": (RPForestIndex(trees=1, leaf_size=16, seed=options.seed).fit(points), forest_cell),
        "LSH, one table of 3 slabs": (LSHIndex(tables=1, bits=3, width=0.9, seed=options.seed).fit(points), lsh_cell),
    }
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.4))
    results = {}
    for axis, (title, (index, cell_of)) in zip(axes, panels.items()):
        cells = np.unique(cell_of(index, grid), return_inverse=True)[1].ravel()
        filled = len(np.unique(cell_of(index, points)))
        shades = rng.permutation(cells.max() + 1)[cells].reshape(400, 400)
        axis.imshow(shades, extent=(low[0], high[0], low[1], high[1]), origin="lower", cmap="Pastel1", aspect="auto")
        axis.plot(points[:, 0], points[:, 1], "k.", markersize=3)
        results[title] = {"cells": int(cells.max() + 1), "cells with points": filled}
        axis.set_title(f"{title}: {cells.max() + 1} cells, {filled} with points")
        axis.set_xticks([]), axis.set_yticks([])
    figure.tight_layout()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=80)
    record = {"command": "python scripts/plot_ann_regions.py", "environment": {"numpy": np.__version__}}
    with atomic_write(options.out.with_suffix(".json")) as file:
        file.write(json.dumps({**record, "seed": options.seed, "results": results}, indent=1).encode() + b"\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
