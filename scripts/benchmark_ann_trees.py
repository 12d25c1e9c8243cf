"""How fast are the kd-tree, the random-projection forest, LSH and the Hamming scan, and how does their time grow?

    python scripts/benchmark_ann_trees.py [--peers] [--json docs/results/benchmark_ann_trees.json] [--only kdtree,...]

Two threads. Times are medians of --repeats after one that warms up; with --peers, each repeat runs every peer directly
after this library, so that all see the same machine, and the row names the best of them.

kdtree    uniform points; build, and queries for 10 neighbours. Peers: scipy's cKDTree (2 workers), pykdtree (on
          float64, and on float32, which it also takes; this library stores float32 and computes in float64).
hamming   200,000 codes of 128 bits, 10 neighbours of 2,000 queries. Peer: faiss IndexLSH.
forest    200,000 unit vectors of 128 dimensions that lie near 16 (see `embeddings`): queries for 10 neighbours at
lsh       the cheapest budget of a list that reaches a recall of 0.95 and 0.99. Peer of the forest: annoy, with as many
          trees; its queries come from two Python threads.
growth    time of a query against the number of vectors, 10,000 to 1,000,000: the exponent of a power law, by least
          squares on the logarithms.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarking import (  # isort: skip
    THREADS,
    Table,
    embeddings,
    has,
    medians,
    recall,
    rows_before,
    true_neighbours,
    write_rows,
)

import numpy as np
from command_line import Parser, check_writable, one_line_errors

from refimpl.ann import HammingIndex, KDTreeIndex, LSHIndex, RPForestIndex
from refimpl.ann.bits import pack_lanes
from refimpl.ann.hamming import LANES, block_codes, scan_codes, sign_codes


def benchmark_kdtree(table, peers, repeats):
    for n, d, n_queries in ((1_000_000, 3, 100_000), (200_000, 8, 20_000), (200_000, 2, 100_000), (200_000, 16, 500)):
        benchmark_kdtree_on(table, peers, repeats, n, d, n_queries)


def benchmark_kdtree_on(table, peers, repeats, n, d, n_queries):
    rng = np.random.default_rng(d)
    points, queries = rng.random((n, d)), rng.random((n_queries, d))
    small, small_queries = points.astype(np.float32), queries.astype(np.float32)
    index = KDTreeIndex().fit(points)
    builds = {"ours": lambda: KDTreeIndex().fit(points)}
    searches = {"ours": lambda: index.search(queries, 10)}
    if peers and has("scipy"):
        from scipy.spatial import cKDTree

        tree = cKDTree(points)
        builds["scipy"] = lambda: cKDTree(points)
        searches["scipy"] = lambda: tree.query(queries, 10, workers=2)
    if peers and has("pykdtree"):
        from pykdtree.kdtree import KDTree

        large_tree, small_tree = KDTree(points), KDTree(small)
        builds["pykdtree"] = lambda: KDTree(points)
        builds["pykdtree float32"] = lambda: KDTree(small)
        searches["pykdtree"] = lambda: large_tree.query(queries, 10)
        searches["pykdtree float32"] = lambda: small_tree.query(small_queries, 10)
    times = medians(builds, repeats)
    table.add(f"kd-tree, build, {n:,} x {d}", times)
    if times.pop("pykdtree float32", None):
        table.add(f"kd-tree, build, {n:,} x {d}, peers in float64", times)
    times = medians(searches, repeats)
    table.add(f"kd-tree, 10 neighbours, {n:,} x {d}", times, n_queries)
    if times.pop("pykdtree float32", None):
        table.add(f"kd-tree, 10 neighbours, {n:,} x {d}, peers in float64", times, n_queries)
    if d < 8:  # few leaves are all that an exact search needs
        return

    def with_budget(budget):
        index.max_leaves = budget
        return index

    truth, budgets = index.search(queries, 10).ids, (10, 20, 30, 50, 70, 100, 150, 200, 400, 800)
    for target in (0.9, 0.99):
        _, budget, reached = cheapest(with_budget, budgets, queries, truth, target)
        times = medians({"ours": lambda budget=budget: with_budget(budget).search(queries, 10)}, repeats)
        table.add(f"kd-tree, {n:,} x {d}, 10 neighbours in {budget} leaves, recall {reached:.3f}", times, n_queries)


def benchmark_hamming(table, peers, repeats):
    vectors, queries = embeddings(200_000, 2000, 0)
    mean, axes = vectors.mean(0), np.eye(128, dtype=np.float32)  # the signs that faiss takes without a rotation
    codes, query_codes = block_codes(sign_codes(vectors - mean, axes)), sign_codes(queries - mean, axes)
    lanes = pack_lanes((np.arange(len(codes) * LANES) < len(vectors)).reshape(-1, LANES))
    calls = {"ours": lambda: scan_codes(codes, lanes, query_codes, 10)}
    if peers and has("faiss"):
        import faiss

        faiss.omp_set_num_threads(THREADS)
        peer = faiss.IndexLSH(128, 128, False, False)
        peer.train(vectors)
        peer.add(vectors - mean)
        calls["faiss IndexLSH"] = lambda: peer.search(queries - mean, 10)
        theirs, _ = peer.search(queries - mean, 10)
        assert (theirs == scan_codes(codes, lanes, query_codes, 10)[1]).all(), "the distances differ"
    table.add("Hamming scan, 200,000 codes of 128 bits, 10 neighbours", medians(calls, repeats), 2000)
    truth = true_neighbours(vectors, queries, 10)
    for rerank in (50, 200):
        index = HammingIndex(rerank=rerank).fit(vectors)
        reached = recall(index.search(queries, 10).ids, truth)
        times = medians({"ours": lambda index=index: index.search(queries, 10)}, repeats)
        table.add(f"Hamming scan and exact ranking of {rerank}, recall {reached:.3f}", times, 2000)


def cheapest(make, budgets, queries, truth, target):
    """The first index along `budgets` that reaches the target -> index, budget, recall."""
    for budget in budgets:
        index = make(budget)
        reached = recall(index.search(queries, 10).ids, truth)
        if reached >= target:
            return index, budget, reached
    return index, budget, reached


def benchmark_forest(table, peers, repeats):
    vectors, queries = embeddings(200_000, 2000, 0)
    truth = true_neighbours(vectors, queries, 10)
    builds = {"ours": lambda: RPForestIndex().fit(vectors)}
    annoy = None
    if peers and has("annoy"):
        from annoy import AnnoyIndex

        def build():
            nonlocal annoy
            annoy = AnnoyIndex(128, "euclidean")
            annoy.set_seed(1)
            for i, vector in enumerate(vectors):
                annoy.add_item(i, vector)
            annoy.build(10, n_jobs=2)

        builds["annoy"] = build
    table.add("forest, 10 trees, build, 200,000 x 128", medians(builds, 1))
    index = RPForestIndex().fit(vectors)

    def with_budget(budget):
        index.max_leaves = budget
        return index

    def ask_annoy(search_k):
        with ThreadPoolExecutor(2) as pool:
            return np.array(list(pool.map(lambda q: annoy.get_nns_by_vector(q, 10, search_k), queries, chunksize=100)))

    for target in (0.95, 0.99):
        budgets = (20, 30, 40, 50, 55, 60, 70, 80, 100, 120, 140, 160, 200, 300)
        _, budget, reached = cheapest(with_budget, budgets, queries, truth, target)
        calls = {"ours": lambda budget=budget: with_budget(budget).search(queries, 10)}
        note = ""
        if annoy is not None:
            for search_k in (1000, 1200, 1500, 2000, 2500, 3000, 4000, 5000, 7000):
                theirs = recall(ask_annoy(search_k), truth)
                if theirs >= target:
                    break
            calls["annoy"] = lambda search_k=search_k: ask_annoy(search_k)
            note = f", theirs {theirs:.3f} with search_k {search_k}"
        work = f"forest, 10 trees, {budget} leaves, recall {reached:.3f}{note}"
        table.add(work, medians(calls, repeats), 2000)


def benchmark_lsh(table, peers, repeats):
    vectors, queries = embeddings(200_000, 2000, 0)
    truth = true_neighbours(vectors, queries, 10)
    for metric in ("cosine", "l2"):  # on unit vectors the neighbours are the same
        benchmark_lsh_with(table, repeats, metric, vectors, queries, truth)


def benchmark_lsh_with(table, repeats, metric, vectors, queries, truth):
    index = LSHIndex(metric=metric)
    table.add(f"LSH, {metric}, 10 tables, build, 200,000 x 128", medians({"ours": lambda: index.fit(vectors)}, 1))

    def with_budget(budget):
        index.probes = budget
        return index

    for target in (0.95, 0.99):
        budgets = (20, 50, 75, 100, 150, 200, 300, 500, 1000, 2000)
        _, budget, reached = cheapest(with_budget, budgets, queries, truth, target)
        times = medians({"ours": lambda: index.search(queries, 10)}, repeats)
        bits = index._multipliers.shape[1]
        table.add(f"LSH, {metric}, 10 tables of {bits} bits, {budget} probes, recall {reached:.3f}", times, 2000)


def benchmark_growth(table, peers, repeats):
    """The exponent b of time = a n^b, least squares on logarithms, at a fixed budget or exact."""
    sizes = (10_000, 30_000, 100_000, 300_000, 1_000_000)
    rng = np.random.default_rng(0)
    cube, cube_queries = rng.random((sizes[-1], 3)), rng.random((20_000, 3))
    vectors, queries = embeddings(sizes[-1], 1000, 0)
    vectors, queries = np.ascontiguousarray(vectors[:, :32]), np.ascontiguousarray(queries[:, :32])
    cases = {
        "kd-tree, exact, d = 3 (theory: log n)": (lambda: KDTreeIndex(), cube, cube_queries),
        "forest, 5 trees, 50 leaves (theory: log n)": (lambda: RPForestIndex(trees=5, max_leaves=50), vectors, queries),
        "LSH, 10 tables, 100 probes (theory: constant)": (lambda: LSHIndex(probes=100), vectors, queries),
        "Hamming scan, 128 bits (theory: n)": (lambda: HammingIndex(), vectors, queries),
    }
    for name, (make, data, asked) in cases.items():
        times = []
        for n in sizes:
            index = make().fit(data[:n])
            taken = medians({"ours": lambda index=index, asked=asked: index.search(asked, 10)}, 2)["ours"]
            times.append(taken / len(asked))
        exponent = float(np.polyfit(np.log(sizes), np.log(times), 1)[0])
        curve = dict(zip(map(str, sizes), times))
        row = {"work": f"growth: {name}", "ours": exponent, "unit": "exponent of n", "peer": None, "theirs": None}
        table.rows.append({**row, "ratio": None, "seconds a query": curve})
        shown = "  ".join(f"{1e6 * t:.1f}" for t in times)
        print(f"growth: {name:<64} exponent {exponent:.2f}; microseconds a query: {shown}", flush=True)


BENCHMARKS = {
    "kdtree": benchmark_kdtree,
    "hamming": benchmark_hamming,
    "forest": benchmark_forest,
    "lsh": benchmark_lsh,
    "growth": benchmark_growth,
}


def main():
    parser = Parser(__doc__)
    parser.add_argument("--peers", action="store_true", help="measure other libraries too, where installed")
    parser.add_argument("--json", type=Path, help="write the rows to this file; rows of other parts there stay")
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="parts, separated by commas")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    parts = options.only.split(",")
    for name in parts:
        if name not in BENCHMARKS:
            parser.error(f"--only: expected some of {', '.join(BENCHMARKS)}, got {name}")
    parser.at_least(options, repeats=1)
    if options.json is not None:
        check_writable(parser, "--json", options.json)
        with one_line_errors(parser):
            rows_before(options.json)
    missing = [name for name in ("scipy", "pykdtree", "faiss", "annoy") if not has(name)]
    if options.peers and missing:
        print("not installed, skipped:", ", ".join(missing))
    table = Table()
    for name in parts:
        start = len(table.rows)
        BENCHMARKS[name](table, options.peers, options.repeats)
        for row in table.rows[start:]:
            row["part"] = name
    if options.json:
        write_rows(options.json, table.rows, parts, BENCHMARKS)


if __name__ == "__main__":
    main()
