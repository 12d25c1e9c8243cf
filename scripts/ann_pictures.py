"""The pictures that explain the indexes, drawn from what the indexes hold: see plot_ann_pages.py.

Each `draw_NAME(axes, rng)` fills a row of matplotlib axes from made data and returns the numbers that it shows.
"""

from typing import NamedTuple

from benchmarking import embeddings  # isort: skip

import numpy as np

from refimpl.ann import (
    ExactIndex,
    HNSWIndex,
    IVFIndex,
    KDTreeIndex,
    LSHIndex,
    RPForestIndex,
    fit_scalar_quantizer,
    kmeans,
)
from refimpl.ann.anisotropic import anisotropic_codes, directions, train_anisotropic
from refimpl.ann.codebooks import decode, encode, train_codebooks
from refimpl.ann.hamming import random_directions, sign_codes
from refimpl.ann.kmeans import assign
from refimpl.ann.lists import as_one_list, nearest_centroids
from refimpl.ann.lsh_theory import hyperplane_collision, success_probability
from refimpl.ann.principal import DEPTHS, principal_axes, project
from refimpl.ann.product_quantization import train_rotation
from refimpl.ann.rabitq import encode as encode_signs
from refimpl.ann.rabitq import random_rotation, signs_of
from refimpl.ann.soar import second_lists

BLUE, RED, GREY = "tab:blue", "tab:red", "0.6"


def blobs(rng, n=240):
    """n points (n, 2) in six clusters."""
    centers = rng.uniform(-1, 1, (6, 2))
    return (centers[rng.integers(0, 6, n)] + 0.18 * rng.standard_normal((n, 2))).astype(np.float32)


def slanted(rng, n, thickness, angle=0.5):
    """n points (n, 2) along a line."""
    return ((rng.standard_normal((n, 2)) * (1, thickness)) @ slanted_axes(angle)).astype(np.float32)


def slanted_axes(angle):
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def plane(axis, points, side=300):
    """Axes around the points, and places (side^2, 2) that cover them."""
    low, high = points.min(0) - 0.1, points.max(0) + 0.1
    axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel="coordinate 1", ylabel="coordinate 2")
    return np.stack(np.meshgrid(*(np.linspace(low[j], high[j], side) for j in range(2))), 2).reshape(-1, 2)


def paint(axis, values, **how):
    """values (side^2,) at the places of `plane`, as colours."""
    side = int(np.sqrt(len(values)))
    extent = (*axis.get_xlim(), *axis.get_ylim())
    axis.imshow(
        values.reshape(side, side), extent=extent, origin="lower", aspect="auto", interpolation="nearest", **how
    )


def paint_cells(axis, cells, rng):
    """Each distinct cell (side^2,) in a colour of its own -> how many."""
    cells = np.unique(cells, return_inverse=True)[1].ravel()
    paint(axis, rng.permutation(cells.max() + 1)[cells] % 9, cmap="Pastel1", vmin=0, vmax=8)
    return int(cells.max() + 1)


def dots(axis, points, style="k.", size=3, **how):
    axis.plot(points[:, 0], points[:, 1], style, markersize=size, **how)


def star(axis, query):
    axis.plot(*query, "*", color="black", markersize=13, markeredgecolor="white", label="query")


def neighbours(points, query, k):
    """The k nearest of the points: their rows, and the distance of the last."""
    found = ExactIndex().fit(points).search(query[None], k)
    return found.ids[0], float(found.distances[0, -1])


def circle(axis, center, radius):
    turn = np.linspace(0, 2 * np.pi, 200)
    axis.plot(center[0] + radius * np.cos(turn), center[1] + radius * np.sin(turn), color="black", linewidth=1)


def draw_exact(axes, rng):
    x, query = slanted(rng, 400, 0.35), np.array([[1.0, 0.1]], np.float32)
    center = x.mean(0)
    frame = principal_axes((x - center).astype(np.float64), 1)
    bias = -0.5 * ((x - center) ** 2).sum(1)
    scores = (x - center) @ (query - center)[0] + bias
    bounds = project(x - center, frame) @ project(query - center, frame)[0] + bias
    limit = np.sort(scores)[-10]
    left, near = bounds >= limit, scores >= limit
    places = [x, np.stack([scores, bounds], 1)]
    for axis, at in zip(axes, places):
        dots(axis, at[~left], ".", 4, color=GREY, label="ruled out by the bound")
        dots(axis, at[left], ".", 7, color=BLUE, label="measured")
        dots(axis, at[near], "o", 7, color=RED, markerfacecolor="none", label="the 10 nearest")
    plane(axes[0], x)
    star(axes[0], query[0])
    axes[0].annotate("", center + 0.8 * frame[:, 0], center, arrowprops={"arrowstyle": "->"})
    axes[0].set_title("known: the place along the arrow,\nand the distance from it", fontsize=10)
    ends = [scores.min(), scores.max()]
    axes[1].plot(ends, ends, "k-", linewidth=1)
    axes[1].axhline(limit, color="black", linestyle=":")
    axes[1].set(xlabel="score, q.x - |x|²/2", ylabel="bound of the score")
    axes[1].set(xlim=(ends[1] - 1, ends[1] + 0.05), ylim=(ends[1] - 1, bounds.max() + 0.05))
    axes[1].set_title("a bound below the limit (dotted) rules out", fontsize=10)
    axes[0].legend(fontsize=8, loc="upper left")
    shown = {"measured of 400": int(left.sum())}
    kinds = {
        "embeddings of the benchmark": embeddings(20_000, 100, 0),
        "isotropic": [rng.standard_normal((n, 128), np.float32) for n in (20_000, 100)],
    }
    for name, (vectors, asked) in kinds.items():
        shown[name] = shares = pairs_left(vectors, asked)
        axes[2].plot(DEPTHS[: len(shares)], shares, "o-", label=name)
    axes[2].set(yscale="log", xlabel="coordinates kept, of 128", ylabel="pairs left to measure, %")
    axes[2].legend(fontsize=8)
    return shown


def pairs_left(vectors, queries):
    """Percent of the pairs whose bound reaches the 10th best score, by the number of coordinates kept."""
    center = vectors.mean(0)
    vectors, queries = vectors - center, queries - center
    bias = -0.5 * (vectors**2).sum(1)
    limits = np.sort(queries @ vectors.T + bias, axis=1)[:, -10, None]
    both = np.concatenate([queries, vectors]).astype(np.float64)
    shares = []
    for depth in [depth for depth in DEPTHS if depth < vectors.shape[1]]:
        frame = principal_axes(both, depth)
        bounds = project(queries, frame) @ project(vectors, frame).T + bias
        shares.append(100 * float((bounds >= limits).mean()))
    return shares


def draw_kmeans(axes, rng):
    points = blobs(rng, 600)
    start, shown = points[neighbours(points, points[0], 12)[0]], {}
    for axis, updates in zip(axes, (0, 2, 50)):
        found = kmeans(points, 12, init=start, max_iter=updates)
        paint_cells(axis, assign(plane(axis, points).astype(np.float32), found.centroids), np.random.default_rng(1))
        dots(axis, points, size=2)
        dots(axis, found.centroids, "X", 9, color=RED, markeredgecolor="white")
        axis.set_title(f"after {found.n_iter} updates: inertia {found.inertia:.1f}", fontsize=10)
        shown[f"inertia after {found.n_iter}"] = found.inertia
    vectors = embeddings(200_000, 1, 0)[0]
    path = [vectors[rng.choice(len(vectors), 1024, replace=False)]]
    for _ in range(10):
        path.append(kmeans(vectors, 1024, init=path[-1], max_iter=1, tol=0).centroids)
    shown["percent left"] = left = bounds_left(vectors[::20], path)
    for name, percents in left.items():
        axes[3].semilogy(range(1, 11), percents, "o-", label=name)
    axes[3].set(xlabel="iteration", ylabel="left to measure, %", ylim=(0.005, 150))
    axes[3].set_title("200,000 embeddings, 1,024 centroids", fontsize=10)
    axes[3].legend(fontsize=8, loc=(0.4, 0.23))
    return shown


def bounds_left(x, path):
    """Percent of the pairs of a vector and a centroid (Hamerly: of the vectors) that each bound leaves, an iteration.

    x (n, d), some of the vectors; path: the centroids (k, d) at the start and after each iteration.

    Hamerly 2010: one lower bound a vector, on the distance to any other centroid than its own. Elkan 2003: one a pair,
    and half the distances between centroids. Axes: nearest_centroid.py, 16 of them.
    """
    frame = principal_axes((x - path[0].mean(0)).astype(np.float64), 16)
    left = {"vectors, by Hamerly's bound": [], "pairs, by Elkan's": [], "pairs, by 16 axes": []}
    rows, lower = np.arange(len(x)), distances(x, path[0])
    labels, one = lower.argmin(1), np.partition(lower, 1, axis=1)[:, 1]
    for before, centroids in zip(path, path[1:]):
        moved = np.linalg.norm(centroids.astype(np.float64) - before, axis=1)
        lower, one = np.maximum(lower - moved, 0), one - moved.max()
        between, true = distances(centroids, centroids), distances(x, centroids)
        np.fill_diagonal(between, np.inf)
        own = true[rows, labels]
        anew = own > np.maximum(one, between.min(1)[labels] / 2)
        todo = (own[:, None] > lower) & (own[:, None] > between[labels] / 2)
        todo[rows, labels] = False
        center = centroids.mean(0)
        a, b = (project((at - center).astype(np.float32), frame).astype(np.float64) for at in (x, centroids))
        reach = a @ b.T - 0.5 * ((centroids - center) ** 2).sum(1)
        by_axes = reach >= 0.5 * (((x - center) ** 2).sum(1) - own**2)[:, None]
        by_axes[rows, labels] = False
        for percents, some in zip(left.values(), (anew, todo, by_axes)):
            percents.append(100 * float(some.mean()))
        lower[rows, labels] = own
        lower[todo], one[anew] = true[todo], np.partition(true[anew], 1, axis=1)[:, 1]
        labels = true.argmin(1)
    return left


def distances(a, b):
    """(n, m) float64, Euclidean."""
    squares = (a.astype(np.float64) ** 2).sum(1)[:, None] + (b.astype(np.float64) ** 2).sum(1) - 2.0 * (a @ b.T)
    return np.sqrt(np.maximum(squares, 0))


def draw_ivf(axes, rng):
    points, asked = rng.uniform(-1, 1, (1500, 2)).astype(np.float32), rng.uniform(-0.7, 0.7, (200, 2))
    index = IVFIndex(lists=40, probes=1).fit(points)
    asked = asked.astype(np.float32)
    truth = ExactIndex().fit(points).search(asked, 10).ids
    met = [len(set(a) & set(b)) for a, b in zip(index.search(asked, 10).ids, truth)]
    query, truth, shown = asked[np.argmin(met)], truth[np.argmin(met)], {}
    for axis, probes in zip(axes, (1, 4)):
        index.probes = probes
        places = plane(axis, points).astype(np.float32)
        cells = assign(places, index.centroids)
        probed = nearest_centroids(as_one_list(index._centroids), (query - index._center)[None], probes)[0]
        paint(axis, np.where(np.isin(cells, probed), 0.35, cells % 2 * 0.08), cmap="Blues", vmin=0, vmax=1)
        axis.contour(cells.reshape(300, 300) % 97, levels=40, colors="0.75", linewidths=0.4, extent=axis.axis())
        read = np.isin(assign(points, index.centroids), probed)
        dots(axis, points[~read], ".", 2, color=GREY)
        dots(axis, points[read], ".", 3, color="black")
        found = np.isin(truth, index.search(query[None], 10).ids[0])
        dots(axis, points[truth[found]], "o", 6, color=RED, label="of the 10 nearest: found")
        dots(axis, points[truth[~found]], "x", 7, color=RED, label="missed")
        star(axis, query)
        axis.set_title(f"{probes} of 40 lists read: {found.sum()} of 10 found", fontsize=10)
        shown[f"found with {probes}"] = int(found.sum())
    axes[0].legend(fontsize=8, loc="lower left")
    n, d, lists = 200_000, 128, np.geomspace(16, 65_536, 60)
    for probes in (1, 8, 64):
        cost = 2 * d * (lists + probes * n / lists) / 1e6
        (line,) = axes[2].loglog(lists, cost, label=f"{probes} probe{'s' * (probes > 1)}")
        axes[2].plot(np.sqrt(probes * n), 4 * d * np.sqrt(probes * n) / 1e6, "o", color=line.get_color())
    axes[2].set(xlabel="lists", ylabel="operations a query, MFLOP")
    axes[2].set_title("least at √(probes n); n = 200,000, d = 128", fontsize=10)
    axes[2].legend(fontsize=8)
    return shown


def draw_pq(axes, rng):
    lattice = rng.integers(0, 4, (2000, 2)) * (1.0, 0.5) + 0.08 * rng.standard_normal((2000, 2))
    x = (lattice @ slanted_axes(0.6)).astype(np.float32)
    grid, books = fit_scalar_quantizer(x, bits=2), train_codebooks(x, 2, 2, 0)
    turn = train_rotation(x, 2, 2, 0)
    turned = train_codebooks(x @ turn, 2, 2, 0)
    centroids = kmeans(x, 8, seed=0).centroids
    own = train_codebooks(x - centroids[assign(x, centroids)], 2, 2, 0)

    def scalar(at):
        return grid.decode(grid.encode(at))

    def product(at):
        return decode(encode(at, books), books, 2)

    def rotated(at):
        return decode(encode(at @ turn, turned), turned, 2) @ turn.T

    def residual(at):
        center = centroids[assign(at, centroids)]
        return center + decode(encode(at - center, own), own, 2)

    shown = {}
    titles = {"scalar, 2 bits": scalar, "PQ, 2 parts of 2 bits": product, "OPQ, the same": rotated}
    for axis, (title, stand_for) in zip(axes, {**titles, "IVF-PQ, the same in 8 lists": residual}.items()):
        places = plane(axis, x).astype(np.float32)
        paint_cells(axis, np.unique(stand_for(places).round(4), axis=0, return_inverse=True)[1].ravel(), rng)
        dots(axis, x[:500], ".", 2, color="0.3")
        codes = np.unique(stand_for(x).round(4), axis=0)
        dots(axis, codes, "o", 5, color=RED, markeredgecolor="white")
        shown[title] = error = float(((x - stand_for(x)) ** 2).sum(1).mean())
        axis.set_title(f"{title}:\nmean squared error {error:.3f}", fontsize=10)
    return shown


def kdtree_cell(index, places):
    cells = np.zeros(len(places), int)
    for i, place in enumerate(places):
        node = 0
        while index._axis[node] >= 0:
            left = place[index._axis[node]] < index._planes[node].mean()
            node = node + 1 if left else index._link[node]
        cells[i] = node
    return cells


def leaf_boxes(index):
    """The least and the largest coordinates (leaves, d) of the points of each leaf."""
    low, high = [], []
    for node in np.flatnonzero(index._axis < 0):
        blocks = slice(index._link[node], index._link[node] - index._axis[node])
        points = index._blocks[blocks].transpose(0, 2, 1)[index._rows[blocks] >= 0]
        low.append(points.min(0)), high.append(points.max(0))
    return np.array(low), np.array(high)


def leaves_within(index, query, radius):
    """(leaves,) bool: whose box is within the radius of the query."""
    low, high = leaf_boxes(index)
    return np.linalg.norm(np.maximum(0, np.maximum(low - query, query - high)), axis=1) <= radius


def draw_kdtree(axes, rng):
    points = blobs(rng)
    index, query = KDTreeIndex().fit(points), points[17] + np.float32(0.03)
    near, radius = neighbours(points, query, 10)
    places = plane(axes[0], points)
    cells = kdtree_cell(index, places)
    count, touched = paint_cells(axes[0], cells, rng), leaves_within(index, query, radius)
    for low, high, within in zip(*leaf_boxes(index), touched):
        corners = np.array([low, (low[0], high[1]), high, (high[0], low[1]), low])
        axes[0].plot(*corners.T, color=RED if within else "0.4", linewidth=1.5 if within else 0.7)
    dots(axes[0], points)
    dots(axes[0], points[near], "o", 6, color=RED)
    circle(axes[0], query, radius)
    star(axes[0], query)
    axes[0].set_title(f"{count} cells; {touched.sum()} boxes within reach (red)", fontsize=10)
    dimensions, shares = (2, 3, 4, 6, 8, 10, 12, 16), []
    for d in dimensions:
        data, asked = rng.random((20_000, d)), rng.random((20, d))
        tree = KDTreeIndex().fit(data)
        radii = tree.search(asked, 10).distances[:, -1]
        shares.append(100 * float(np.mean([leaves_within(tree, q, r) for q, r in zip(asked, radii)])))
    axes[1].semilogy(dimensions, shares, "o-")
    axes[1].set(xlabel="dimensions", ylabel="leaves within reach of the 10 nearest, %")
    axes[1].set_title("20,000 uniform points, leaves of at most 16", fontsize=10)
    return {
        "cells": count,
        "within reach": int(touched.sum()),
        "percent of leaves": dict(zip(map(str, dimensions), shares)),
    }


def forest_cell(index, tree, places):
    normals, offsets = index._normals[tree], index._offsets[tree]
    node = np.zeros(len(places), int)
    while (node < len(normals)).any():
        cut = np.minimum(node, len(normals) - 1)
        margin = (places * normals[cut]).sum(1) - offsets[cut]
        node = np.where(node < len(normals), np.where(margin > 0, 2 * node + 2, 2 * node + 1), node)
    return node


def draw_rp_forest(axes, rng):
    points = blobs(rng)
    index, query = RPForestIndex(trees=10, leaf_size=16).fit(points), points[17] + np.float32(0.03)
    near, radius = neighbours(points, query, 10)
    shared = [forest_cell(index, t, points[near]) == forest_cell(index, t, query[None]) for t in range(10)]
    shown = {}
    for axis, tree in zip(axes, (0, 1)):
        count = paint_cells(axis, forest_cell(index, tree, plane(axis, points)), rng)
        axis.set_title(f"tree {tree + 1}, {count} cells: {shared[tree].sum()} of 10 in the query's", fontsize=10)
        shown[f"tree {tree + 1}"] = int(shared[tree].sum())
    places = plane(axes[2], points)
    together = sum(forest_cell(index, t, places) == forest_cell(index, t, query[None]) for t in range(10))
    paint(axes[2], together, cmap="Blues", vmin=0, vmax=14)
    shown["any of 10 trees"] = int(np.any(shared, 0).sum())
    axes[2].set_title(
        f"how many of 10 trees share the query's leaf:\n{shown['any of 10 trees']} of 10 in any", fontsize=10
    )
    for axis in axes:
        dots(axis, points)
        dots(axis, points[near], "o", 6, color=RED)
        circle(axis, query, radius)
        star(axis, query)
    return shown


def draw_lsh(axes, rng):
    points = blobs(rng)
    index, query = LSHIndex(tables=1, bits=3, width=0.9).fit(points), points[17] + np.float32(0.03)

    def values(at, costs=False):
        found, cost = index._hash(index._project(np.ascontiguousarray(at, np.float32)), costs=costs)
        return found[:, 0], cost

    places = plane(axes[0], points)
    buckets, cells = np.unique(values(places)[0], axis=0, return_inverse=True)
    count, cells = paint_cells(axes[0], cells.ravel(), rng), cells.ravel()
    filled = len(np.unique(values(points)[0], axis=0))
    dots(axes[0], points)
    star(axes[0], query)
    axes[0].set_title(f"3 slab functions: {count} buckets, {filled} with points", fontsize=10)
    base, costs = values(query[None], costs=True)
    steps = buckets - base[0]
    cost = np.where(steps < 0, costs[0, 0, :, 0], costs[0, 0, :, 1]) * (steps != 0)
    total = np.where((np.abs(steps) <= 1).all(1), cost.sum(1), np.inf)
    rank = np.empty(len(total), int)
    rank[np.argsort(total, kind="stable")] = np.arange(len(total))
    plane(axes[1], points)
    paint(axes[1], np.where(np.isfinite(total), rank, len(rank))[cells], cmap="Blues_r", vmin=-8, vmax=len(rank))
    for bucket in np.flatnonzero(np.isfinite(total)):
        middle = places[cells == bucket].mean(0)
        axes[1].text(*middle, str(rank[bucket] + 1), ha="center", va="center", fontsize=12)
    dots(axes[1], points)
    star(axes[1], query)
    axes[1].set_title("the order in which they are probed", fontsize=10)
    angles = np.linspace(0, np.pi / 2, 100)
    for bits, tables in ((1, 1), (14, 1), (14, 10), (14, 100)):
        met = success_probability(hyperplane_collision(angles), bits, tables)
        axes[2].plot(angles, 100 * met, label=f"{bits} bit{'s' * (bits > 1)}, {tables} table{'s' * (tables > 1)}")
    axes[2].set(xlabel="angle of two vectors, radians", ylabel="chance to meet in a bucket, %")
    axes[2].legend(fontsize=8)
    return {"buckets": count, "with points": filled}


def draw_hamming(axes, rng):
    lines = random_directions(2, 4, 0)
    points = rng.standard_normal((300, 2)).astype(np.float32)
    places = plane(axes[0], points).astype(np.float32)
    codes = sign_codes(places, lines)[:, 0].astype(int)
    paint_cells(axes[0], codes, np.random.default_rng(3))
    dots(axes[0], points)
    for code in np.unique(codes):
        middle = places[codes == code]
        middle = 1.7 * (middle / np.linalg.norm(middle, axis=1, keepdims=True)).mean(0)
        axes[0].text(*middle, f"{code:04b}", ha="center", fontsize=11, backgroundcolor="white")
    axes[0].set_title("4 directions, 4 bits: a code is a sector", fontsize=10)
    angles = rng.uniform(0, np.pi / 2, 600)
    x, y = rng.standard_normal((2, 600, 128))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y -= (y * x).sum(1, keepdims=True) * x
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    y = x * np.cos(angles)[:, None] + y * np.sin(angles)[:, None]
    frame = random_directions(128, 128, 0)
    differ = sign_codes(x, frame) ^ sign_codes(y, frame)
    unlike = np.unpackbits(differ.view(np.uint8), axis=1).sum(1)
    axes[1].plot(angles, unlike, ".", markersize=4, color=BLUE, label="600 pairs in 128 dimensions")
    line = np.linspace(0, np.pi / 2, 50)
    spread = np.sqrt(128 * (line / np.pi) * (1 - line / np.pi))
    axes[1].plot(line, 128 * line / np.pi, "k-", label="128 angle / π")
    axes[1].fill_between(line, 128 * line / np.pi - 2 * spread, 128 * line / np.pi + 2 * spread, color="0.85")
    axes[1].set(xlabel="angle of two vectors, radians", ylabel="bits that differ, of 128")
    axes[1].legend(fontsize=8)
    deviation = float(np.std(unlike - 128 * angles / np.pi))
    axes[1].set_title("grey: two deviations of independent bits", fontsize=10)
    return {
        "deviation in bits": deviation,
        "binomial": float(np.sqrt(np.mean(128 * angles / np.pi * (1 - angles / np.pi)))),
    }


def draw_scann(axes, rng):
    turn = rng.uniform(0, 2 * np.pi, 900)
    x = (np.stack([np.cos(turn), np.sin(turn)], 1) * rng.uniform(0.5, 1.2, (900, 1))).astype(np.float32)
    eta, shown, pick = 4.125, {}, np.argsort(turn)[20::100]
    for axis, weight, title in ((axes[0], 1.0, "plain loss"), (axes[1], eta, f"error along x weighs {eta}")):
        book = train_anisotropic(x, directions(x), 1, 4, weight, 0)
        places = plane(axis, x).astype(np.float32)
        cells = anisotropic_codes(places, directions(places), book, weight)[:, 0].astype(float)
        cells = np.where(np.linalg.norm(places, axis=1) > 0.45, cells % 9, np.nan)  # no vector is nearer to 0
        paint(axis, cells, cmap="Pastel1", vmin=0, vmax=8)
        chosen = anisotropic_codes(x, directions(x), book, weight)[:, 0]
        dots(axis, x, ".", 2, color="0.3")
        dots(axis, book[0], "o", 5, color=RED, markeredgecolor="white")
        error = x - book[0][chosen]
        along = float(np.abs((error * directions(x)).sum(1)).mean())
        for i in pick:
            axis.plot(*zip(x[i], book[0][chosen[i]]), "k-", linewidth=1)
        axis.set_title(
            f"{title}:\nmean |error along x| {along:.3f}, |error| {np.linalg.norm(error, axis=1).mean():.3f}",
            fontsize=10,
        )
        shown[title] = along
    points = rng.uniform(-1, 1, (400, 2)).astype(np.float32)
    centroids = kmeans(points, 14, seed=1).centroids
    labels = assign(points, centroids).astype(np.int64)
    other = {weight: second_lists(points, centroids, labels, weight) for weight in (0.0, 4.0)}
    i = int(np.flatnonzero(other[0.0] != other[4.0])[3])
    axis = axes[2]
    paint_cells(axis, assign(plane(axis, points).astype(np.float32), centroids), np.random.default_rng(2))
    dots(axis, points, ".", 2, color="0.3")
    dots(axis, centroids, "X", 7, color="0.3", markeredgecolor="white")
    for label, list_, color in (
        ("its list", labels[i], "black"),
        ("next nearest", other[0.0][i], BLUE),
        ("SOAR's, weight 4", other[4.0][i], RED),
    ):
        axis.plot(*zip(points[i], centroids[list_]), "-", color=color, linewidth=2, label=label)
    dots(axis, points[i : i + 1], "ko", 6)
    axis.legend(fontsize=8)
    axis.set_title("SOAR: a second residual at right angles", fontsize=10)
    return shown


def draw_rabitq(axes, rng):
    r = np.array([[0.95, 0.3]], np.float32)
    digits, factors = encode_signs(r, np.zeros((1, 2), np.float32), np.zeros(1, np.int64))
    v = factors[1, 0] * signs_of(digits, 2)[0]
    axis = axes[0]
    axis.set(xlim=(-0.4, 1.2), ylim=(-0.5, 1.0), xlabel="coordinate 1, turned", ylabel="coordinate 2, turned")
    for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        axis.plot([0, 2 * signs[0]], [0, 2 * signs[1]], ":", color=GREY)
    axis.axhline(0, color="0.8", zorder=0), axis.axvline(0, color="0.8", zorder=0)
    for end, start, color, name, side in (
        (r[0], (0, 0), BLUE, "r", "left"),
        (v, (0, 0), RED, "v = f sign(r)", "right"),
        (v, r[0], "black", "w", "left"),
    ):
        axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": color, "linewidth": 2})
        axis.text(*(np.add(end, start) / 2 + (0.03, 0.03)), name, color=color, fontsize=11, va="bottom", ha=side)
    axis.set_title("the code keeps the quadrant;\nw is at right angles to r", fontsize=10)
    dimensions, measured = (16, 32, 64, 128, 256, 512), []
    for d in dimensions:
        x, q = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in rng.standard_normal((2, 2000, d)))
        digits, factors = encode_signs(x.astype(np.float32), np.zeros((1, d), np.float32), np.zeros(2000, np.int64))
        measured.append(float(np.std(factors[1] * (signs_of(digits, d) * q).sum(1) - (x * q).sum(1))))
    axes[1].loglog(dimensions, measured, "o", label="2,000 pairs each")
    axes[1].loglog(dimensions, 0.755 / np.sqrt(dimensions), "k-", label="0.755 / √d")
    axes[1].set(xlabel="dimensions", ylabel="deviation of the estimated cosine", ylim=(0.02, 0.3))
    axes[1].set_xticks(dimensions, dimensions), axes[1].set_xticks([], minor=True)
    axes[1].legend(fontsize=8)
    d, n, eps0 = 128, 150, 1.9
    scale = 1 / np.sqrt(d)
    x, s = (
        (scale * rng.standard_normal((n, d)) * rng.uniform(0.5, 1.3, (n, 1))).astype(np.float32),
        scale * rng.standard_normal(d),
    )
    x += (0.5 * s).astype(np.float32)
    turn = random_rotation(d, rng)
    x, s = x @ turn, s @ turn
    digits, factors = encode_signs(x, np.zeros((1, d), np.float32), np.zeros(n, np.int64))
    length = np.linalg.norm(s)
    estimate = factors[0] + length**2 - 2 * factors[1] * (signs_of(digits, d) @ s)
    width, exact = 2 * eps0 * factors[2] * length, ((x - s) ** 2).sum(1)
    limit, order = np.sort(exact)[9], np.argsort(estimate)
    passing = (estimate - width <= limit)[order]
    at = np.arange(n)
    for some, color, name in ((passing, BLUE, "measured"), (~passing, GREY, "passed over")):
        axes[2].errorbar(
            at[some], estimate[order][some], width[order][some], fmt=".", markersize=3, color=color, elinewidth=0.7,
            label=f"{name}: {some.sum()}",
        )  # fmt: skip
    axes[2].plot(at, exact[order], "k.", markersize=3, label="exact")
    axes[2].axhline(limit, color=RED, linewidth=1, label="10th best")
    axes[2].set(xlabel="vectors of a list, by estimate", ylabel="squared distance")
    axes[2].legend(fontsize=8)
    axes[2].set_title(f"estimates ± {eps0} deviations, d = {d}", fontsize=10)
    missed = int((~passing & (exact[order] <= limit)).sum())
    return {
        "measured of 150": int(passing.sum()),
        "missed of 10": missed,
        "deviation": dict(zip(map(str, dimensions), measured)),
    }


class Walk(NamedTuple):
    """A search of an HNSWIndex: {layer: places}, the greedy steps above the ground; on it, what was seen and kept."""

    paths: dict
    measured: set
    kept: list


def links(index, place, level):
    row = index._upper[index._slots[place] + level - 1] if level else index._ground[place]
    return row[row >= 0].tolist()


def walk(index, query, ef):
    """Follow the search for one query (d,) -> Walk."""

    def gap(place):
        return float(((index._points[place, : len(query)] - query) ** 2).sum())

    (place, top), paths = (int(value) for value in index._top), {}
    for level in range(top, 0, -1):
        paths[level] = [place]
        while gap(best := min(links(index, place, level), key=gap, default=place)) < gap(place):
            place = best
            paths[level].append(place)
    kept, opened, measured = [(gap(place), place)], set(), {place}
    while todo := [place for _, place in kept if place not in opened]:
        opened.add(todo[0])
        fresh = [place for place in links(index, todo[0], 0) if place not in measured]
        measured.update(fresh)
        kept = sorted(kept + [(gap(place), place) for place in fresh])[:ef]
    return Walk(paths, measured, [place for _, place in kept])


def draw_hnsw(axes, rng):
    points = rng.uniform(-1, 1, (300, 2)).astype(np.float32)
    index = HNSWIndex(links=4, ef_build=40).fit(points)
    at = index._points[:, :2]
    asked = rng.uniform(-0.9, 0.9, (200, 2)).astype(np.float32)
    query = max(asked, key=lambda q: sum(len(walk(index, q, 10).paths[level]) for level in (1, 2)))  # a long way
    size = np.diff(np.append(index._slots, len(index._upper)))

    def draw_layer(axis, level):
        plane(axis, points)
        members = np.flatnonzero(size >= level)
        for place in members:
            for other in links(index, place, level):
                axis.plot(*zip(at[place], at[other]), "-", color="0.8", linewidth=0.6, zorder=0)
        dots(axis, at[members], "k.", 4)
        star(axis, query)
        return len(members)

    route, shown = walk(index, query, 10), {}
    for level, axis in ((2, axes[0]), (1, axes[1])):
        shown[f"layer {level}"] = draw_layer(axis, level)
        path = route.paths[level]
        axis.plot(*at[path].T, "-o", color=RED, markersize=4, linewidth=1.5)
        axis.set_title(f"layer {level}: {shown[f'layer {level}']} vectors, {len(path) - 1} steps", fontsize=10)
    draw_layer(axes[2], 0)
    dots(axes[2], at[sorted(route.measured)], "o", 4, color=BLUE, label=f"measured: {len(route.measured)} of 300")
    dots(axes[2], at[route.kept], "o", 6, color=RED, label="kept: the ef = 10 nearest")
    axes[2].plot(*at[route.paths[1][-1]], "s", color="black", markersize=7, label="entry from above")
    axes[2].legend(fontsize=8)
    axes[2].set_title("ground: open the nearest until all kept are open", fontsize=10)
    return {**shown, "measured": len(route.measured)}


#: name of the page: panels, and the function that draws them
PICTURES = {
    "exact": (3, draw_exact),
    "kmeans": (4, draw_kmeans),
    "ivf": (3, draw_ivf),
    "pq": (4, draw_pq),
    "kdtree": (2, draw_kdtree),
    "rp-forest": (3, draw_rp_forest),
    "lsh": (3, draw_lsh),
    "hamming": (2, draw_hamming),
    "scann": (3, draw_scann),
    "rabitq": (3, draw_rabitq),
    "hnsw": (3, draw_hnsw),
}
