"""What limits each index: the work of a query counted, and the least time that it takes at this machine's rates.

    python scripts/ann_floors.py [--results docs/results] [--vectors 200000]

Four rates are measured, all with two threads, as the indexes are:

multiply   operations a second of a large matrix product (numpy's)
look up    4-bit table look-ups a second by byte shuffles, codes and tables in the cache (refimpl.ann.byte_shuffle)
count      bits a second that are compared by exclusive or and population count, in the cache (refimpl.ann.hamming)
fetch      vectors of 512 bytes a second from random places of a table of 200,000, asked for ahead, and measured

The work is counted on the vectors of benchmark_ann.py, at the cheapest setting that reached a recall of 0.95 in
benchmark_ann.json. The floor is the largest of the four times: the work is all necessary for this algorithm at this
setting, and one kind of it can at best hide behind another. Written to RESULTS/ann_floors.json, printed as a table.
"""

import json
from heapq import heappop, heappush
from pathlib import Path

from benchmarking import embeddings, seconds, write_record  # isort: skip

import numpy as np
from ann_pictures import leaves_within, walk
from command_line import Parser, one_line_errors
from numba import njit, prange

from refimpl.ann import (
    ExactIndex,
    HNSWIndex,
    IVFIndex,
    KDTreeIndex,
    LSHIndex,
    RaBitQIndex,
    RPForestIndex,
    ScaNNIndex,
)
from refimpl.ann.byte_shuffle import LANES, block_scores
from refimpl.ann.candidates import squared_distance
from refimpl.ann.gather import prefetch
from refimpl.ann.hamming import LANES as HAMMING_LANES
from refimpl.ann.hamming import block_hamming
from refimpl.ann.kdtree_build import LANES as LEAF
from refimpl.ann.lists import as_one_list, nearest_centroids
from refimpl.ann.principal import project
from refimpl.ann.rp_forest import _node_range
from refimpl.matrix_product import matrix_product

D, LISTS = 128, 1024
TREE = "KDTreeIndex, 200,000 x 8"
COUNTED = 50  # queries whose walks are followed in Python
AHEAD = 8


@njit(parallel=True)
def _look_up(packed, tables, rounds, sums):
    quads, blocks = packed.shape[1], len(packed)
    for t in prange(len(sums)):
        zeros, out = np.zeros(LANES, np.float32), np.empty(LANES, np.float32)
        for r in range(rounds):
            block = r % blocks
            block_scores(packed, block * 2 * quads * LANES, tables, quads, np.float32(1), np.float32(0), zeros, 0,
                         np.float32(-1), out)  # fmt: skip
            sums[t] += out[0]


@njit(parallel=True)
def _count(codes, query, rounds, sums):
    blocks, words, lanes = codes.shape
    for t in prange(len(sums)):
        near = np.empty(lanes, np.int64)
        for r in range(rounds):
            sums[t] += block_hamming(codes, r % blocks * words * lanes, query, 0, words, -1, near)


@njit(parallel=True)
def _fetch(vectors, rows, query, sums):
    d, threads = vectors.shape[1], len(sums)
    for t in prange(threads):
        for i in range(t * len(rows) // threads, (t + 1) * len(rows) // threads - AHEAD):
            for j in range(0, d, 16):
                prefetch(vectors, rows[i + AHEAD] * d + j)
            sums[t] += squared_distance(vectors[rows[i]], query)


def best_of(call, times=5):
    call()
    return min(seconds(call) for _ in range(times))


def rates(vectors):
    """{kind: a second}."""
    rng, sums = np.random.default_rng(0), np.zeros(2)
    square = rng.standard_normal((2048, 2048), np.float32)
    multiply = max(2 * 2048**3 / best_of(lambda p=p: p(square, square)) for p in (np.matmul, matrix_product))
    packed = rng.integers(0, 256, (32, 16, 64)).astype(np.uint8)  # 32 blocks of 64 parts
    tables, rounds = rng.integers(0, 64, (16, 8, 16)).astype(np.uint8), 1_000_000
    look_up = 2 * rounds * LANES * 64 / best_of(lambda: _look_up(packed, tables, rounds, sums), 3)
    codes = rng.integers(0, 2**63, (32, 2, HAMMING_LANES)).astype(np.uint64)
    count = 2 * rounds * HAMMING_LANES * 128 / best_of(lambda: _count(codes, codes[0, :, 0].copy(), rounds, sums), 3)
    rows = rng.integers(0, len(vectors), 1_000_000)
    fetch = len(rows) / best_of(lambda: _fetch(vectors, rows, vectors[0], sums), 3)
    return {"multiply": multiply, "look up": look_up, "count": count, "fetch": fetch}


def leaves_met(index, query, budget):
    """The rows in the leaves that a search of a forest visits before its bound ends it, each once."""
    (trees, cuts, _), n = index._normals.shape, index._leaves.shape[1]
    queue, met, kept = [(0.0, tree, 0) for tree in range(trees)], set(), []
    for _ in range(budget):
        bound, tree, node = heappop(queue)
        if len(kept) >= 10 and bound > np.sort(kept)[9]:
            break
        while node < cuts:
            margin = float(index._normals[tree, node] @ query - index._offsets[tree, node])
            near = 2 * node + 2 if margin > 0 else 2 * node + 1
            heappush(queue, (max(bound, abs(margin)), tree, 4 * node + 3 - near))
            node = near
        start, end = _node_range(node, n)
        new = [row for row in index._leaves[tree, start:end].tolist() if row not in met]
        met.update(new)
        kept += np.linalg.norm(index._vectors[new] - query, axis=1).tolist()
    return met


def leaf_operations():
    """Of a query of 200,000 uniform points in 8 dimensions, 10 neighbours: float32 operations that take as long.

    A leaf within reach costs 3 d float64 operations a point, each as long as two in float32.
    """
    rng = np.random.default_rng(0)
    points, queries = rng.random((200_000, 8)), rng.random((COUNTED, 8))
    tree = KDTreeIndex().fit(points)
    radii = tree.search(queries, 10).distances[:, -1]
    leaves = np.mean([leaves_within(tree, query, radius).sum() for query, radius in zip(queries, radii)])
    return float(2 * 3 * 8 * LEAF * leaves)


def not_ruled_out(index, queries, probes):
    """How many vectors of the probed lists an IVFIndex measures for its 10 nearest: whose bounds reach the tenth."""
    shifted, axes, counted = queries - index._center, index._axes if index._axes.shape[1] else None, 0
    bounding = project(shifted, axes)
    for query, own, lists in zip(shifted, bounding, nearest_centroids(as_one_list(index._centroids), shifted, probes)):
        panels = np.concatenate([np.arange(*index._list_starts[one : one + 2]) for one in lists])
        lanes = index._lane_rows[panels] >= 0
        squares = ((index._vectors[index._lane_rows[panels][lanes]] - index._center - query) ** 2).sum(1)
        bounds = (query @ query) - 2 * (np.einsum("pec,e->pc", index._panels[panels], own) + index._biases[panels])
        counted += np.count_nonzero(bounds[lanes] <= np.partition(squares, 9)[9])
    return counted / len(queries)


def counts(vectors, queries, setting):
    """{index: {kind of work: mean of a query}} at setting {index: number}."""
    n, work = len(vectors), {}
    exact = ExactIndex().fit(vectors)
    axes = exact._built_part.axes
    work["ExactIndex"] = {"multiply": 2 * n * (D if axes is None else axes.shape[1] + 1), "fetch": 10}

    rabitq = RaBitQIndex(lists=LISTS, eps0=1.5).fit(vectors)
    turned = (queries - rabitq._center) @ rabitq._rotation
    sizes = np.bincount(
        np.repeat(np.arange(LISTS), np.diff(rabitq._starts)), (rabitq._code_rows >= 0).sum(1), minlength=LISTS
    )

    def read(probes):
        probed = nearest_centroids(as_one_list(rabitq._centroids), turned, probes)
        return float(sizes[probed].sum(1).mean())

    name, ivf = "IVFIndex", IVFIndex(lists=LISTS).fit(vectors)
    ranking = {"multiply": 2 * (D + 16) * ivf._list_axes.shape[1], "look up": LISTS * len(ivf._list_books)}
    multiply = ranking["multiply"] + 2 * D * ivf._axes.shape[1] + 2 * ivf._panels.shape[1] * read(setting[name])
    fetched = not_ruled_out(ivf, queries[:COUNTED], setting[name])
    work[name] = {**ranking, "multiply": multiply, "fetch": fetched}
    name = "IVFPQIndex, 4 bits"
    look_up = ranking["look up"] + 64 * read(setting[name])
    work[name] = {"multiply": ranking["multiply"] + 2 * 16 * D, "look up": look_up, "fetch": 30}
    name, scann = "ScaNNIndex", ScaNNIndex(lists=LISTS).fit(vectors)
    look_up = ranking["look up"] + len(scann._codebooks) * read(setting[name])
    multiply = ranking["multiply"] + 2 * (D + 16) * scann._axes.shape[1]
    work[name] = {"multiply": multiply, "look up": look_up, "fetch": 30}
    name = "RaBitQIndex"
    rabitq.probes = setting[name]
    measured = rabitq._in_lists(queries, 10, rabitq._live)[2].mean()
    look_up = D / 4 * (LISTS / 2 + read(rabitq.probes))
    work[name] = {"multiply": 2 * D * D + 2 * 16 * D, "look up": look_up, "fetch": float(measured)}
    work["HammingIndex"] = {"multiply": 2 * D * D, "count": 128 * n, "fetch": setting["HammingIndex"]}

    name = "LSHIndex"
    lsh = LSHIndex(probes=setting[name]).fit(vectors)
    found = lsh._candidates(queries[:COUNTED], 20_000, np.ones(n, bool), 1.0)
    work[name] = {"multiply": 2 * D * lsh._directions.shape[1], "fetch": float((found >= 0).sum(1).mean())}
    name = "RPForestIndex"
    forest = RPForestIndex().fit(vectors)
    met = [len(leaves_met(forest, query, setting[name])) for query in queries[:COUNTED]]
    work[name] = {"fetch": float(np.mean(met))}
    name = "HNSWIndex"
    graph = HNSWIndex().fit(vectors)
    work[TREE] = {"multiply": leaf_operations()}
    walks = [walk(graph, query, setting[name]) for query in queries[:COUNTED]]
    work[name] = {"fetch": float(np.mean([len(w.measured) for w in walks]))}
    return work


def cheapest(contender, target):
    """The first of its points, whose settings grow, that reaches the target; None if there is none."""
    return next((point for point in contender["points"] if point["recall"] >= target), None)


def main():
    parser = Parser(__doc__)
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--vectors", type=int, default=200_000)
    options = parser.parse_args()
    parser.at_least(options, vectors=5000)
    with one_line_errors(parser):
        benchmark = json.loads((options.results / "benchmark_ann.json").read_text())
    points = {c["name"]: cheapest(c, 0.95) for c in benchmark["contenders"] if c["ours"]}
    trees = json.loads((options.results / "benchmark_ann_trees.json").read_text())
    vectors, queries = embeddings(options.vectors, 2000, 0)
    machine = rates(vectors)
    print("a second:", "  ".join(f"{kind} {rate:.3g}" for kind, rate in machine.items()))
    took = {name: 1 / point["rate"] for name, point in points.items() if point}
    took["ExactIndex"] = next(1 / row["ours"] for row in benchmark["rows"] if row["part"] == "exact")
    took[TREE] = next(1 / r["ours"] for r in trees["rows"] if r["work"] == "kd-tree, 10 neighbours, 200,000 x 8")
    results = {}
    for name, work in counts(vectors, queries, {name: p["setting"] for name, p in points.items() if p}).items():
        times = {kind: amount / machine[kind] for kind, amount in work.items()}
        limit = max(times, key=times.get)
        results[name] = {"work": work, "limit": limit, "floor": times[limit], "measured": took[name]}
        shown = "  ".join(f"{kind} {amount:,.0f}" for kind, amount in work.items())
        print(f"{name:<28} floor {1e6 * times[limit]:7.1f} us ({limit}), measured {1e6 * took[name]:7.1f} us; {shown}")
    write_record(options.results / "ann_floors.json", {"results": results, "rates": machine})


if __name__ == "__main__":
    main()
