"""How fast are exact search, k-means and the inverted lists, beside faiss and scikit-learn?

    python scripts/benchmark_ann.py [--peers] [--json docs/results/benchmark_ann.json] [--data FILE.npy]
                                    [--only exact,kmeans,ivf,ivfpq,growth,best] [--skip NAME ...]
                                    [--plot docs/results/benchmark_ann_curves.png]

Two threads, on 200,000 unit vectors of 128 dimensions that lie near 16, and 2,000 queries (`embeddings`). Times are
medians of --repeats after one that warms up; with --peers, each repeat runs every peer directly after this library,
so that all see the same machine, and the row names the best of them. The tree and hashing indexes have a script of
their own, benchmark_ann_trees.py.

exact     10 neighbours. Peer: faiss IndexFlatL2.
          plain: vectors without directions of their own (isotropic), where leaving out coordinates does not help.
kmeans    1,024 centroids, 10 iterations from the same rows. Peers: faiss, scikit-learn, a row each.
ivf       10 neighbours, 1,024 lists, the fewest probes that reach a recall of 0.95 and of 0.99. Peer: faiss IVF-Flat,
          with this library's centroids: the lists are the same, so that equal probes are equal recall.
ivfpq     the same with 16 bytes a vector and 50 exact re-rankings. Peer: faiss IVF-PQ with refinement.
growth    time of a query against the number of vectors, 10,000 to 1,000,000 of 32 dimensions: the exponent of a power
          law. The trees and hashes are in benchmark_ann_trees.py.
best      every approximate index of this library and every other library (ann_contenders.py): recall against rate,
          the best of either side at recall 0.95 and 0.99, build times, memory, and the median and 99th percentile of
          single queries at 0.95. The curves go to --plot. All points of all are timed in turn in every repeat.
          Memory is what the process grew by during the build, the vectors given not counted: a rough figure.
          --skip leaves out the contenders named.

With --json, rows of parts that were not run stay. --data reads vectors (n, d) from a file and sets 2,000 of them aside
as queries; the rows are then about these.
"""

import gc
import os
import statistics
import time
from functools import partial
from pathlib import Path

from benchmarking import Table, embeddings, has, medians, rows_before, seconds, write_rows  # isort: skip

import numpy as np
from ann_contenders import OURS, PEERS, K, ours, with_lists
from command_line import Parser, check_writable, one_line_errors

from refimpl.ann import (
    ExactIndex,
    HNSWIndex,
    IVFIndex,
    IVFPQIndex,
    PQIndex,
    RaBitQIndex,
    ScaNNIndex,
    kmeans,
    knn_recall,
)
from refimpl.files import atomic_write


def benchmark_exact(table, peers, repeats, vectors, queries, truth):
    time_exact(table, peers, repeats, "exact, 10 neighbours", vectors, queries)
    rng = np.random.default_rng(0)
    plain, asked = (rng.standard_normal((n, vectors.shape[1]), np.float32) for n in (len(vectors), len(queries)))
    time_exact(table, peers, min(repeats, 2), "exact, 10 neighbours, isotropic vectors", plain, asked)


def time_exact(table, peers, repeats, name, vectors, queries):
    index = ExactIndex().fit(vectors)
    calls = {"ours": lambda: index.search(queries, 10)}
    if peers and has("faiss"):
        import faiss

        flat = faiss.IndexFlatL2(vectors.shape[1])
        flat.add(vectors)
        calls["faiss IndexFlatL2"] = lambda: flat.search(queries, 10)
    table.add(name, medians(calls, repeats), len(queries))


def benchmark_kmeans(table, peers, repeats, vectors, queries, truth):
    k, d = min(1024, len(vectors)), vectors.shape[1]
    init = vectors[:k].copy()
    calls = {"ours": lambda: kmeans(vectors, k, init=init, max_iter=10, tol=0)}
    if peers and has("faiss"):
        import faiss

        def train():
            faiss.Kmeans(d, k, niter=10, max_points_per_centroid=1 << 20).train(vectors, init_centroids=init)

        calls["faiss"] = train
    if peers and has("sklearn"):
        from sklearn.cluster import KMeans

        calls["scikit-learn"] = lambda: KMeans(k, init=init, n_init=1, max_iter=10, tol=0).fit(vectors)
    times = medians(calls, min(repeats, 2))
    for peer in [name for name in times if name != "ours"] or [None]:
        shown = {"ours": times["ours"]} if peer is None else {"ours": times["ours"], peer: times[peer]}
        table.add(f"k-means, {k:,} centroids, 10 iterations", shown)


def fewest_probes(search, truth, target):
    """The first number of probes that reaches the target -> probes, recall."""
    for probes in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128):
        reached = knn_recall(search(probes), truth)
        if reached >= target:
            break
    return probes, reached


def benchmark_lists(table, repeats, name, index, peer, queries, truth):
    """`peer(probes)` -> ids, or None."""

    def ours(probes):
        index.probes = probes
        return index.search(queries, 10).ids

    for target in (0.95, 0.99):
        probes, reached = fewest_probes(ours, truth, target)
        calls, note = {"ours": lambda probes=probes: ours(probes)}, ""
        if peer is not None:
            their_probes, theirs = fewest_probes(peer, truth, target)
            calls["faiss"] = lambda probes=their_probes: peer(probes)
            note = f"; theirs {theirs:.3f}, {their_probes}"
        table.add(f"{name}, recall {reached:.3f}, probes {probes}{note}", medians(calls, repeats), len(queries))


def benchmark_ivf(table, peers, repeats, vectors, queries, truth):
    index, peer = IVFIndex(lists=min(1024, len(vectors))).fit(vectors), None
    if peers and has("faiss"):
        import faiss

        centroids, d = index.centroids, vectors.shape[1]
        coarse = faiss.IndexFlatL2(d)
        coarse.add(centroids)
        theirs = faiss.IndexIVFFlat(coarse, d, len(centroids))
        theirs.train(vectors)  # does nothing, as the centroids are there
        theirs.add(vectors)

        def peer(probes):
            theirs.nprobe = probes
            return theirs.search(queries, 10)[1]

    benchmark_lists(table, repeats, "IVF-Flat", index, peer, queries, truth)


def benchmark_ivfpq(table, peers, repeats, vectors, queries, truth):
    peer = None
    if peers and has("faiss"):
        import faiss

        theirs = faiss.index_factory(vectors.shape[1], "IVF1024,PQ16,RFlat")
        theirs.train(vectors)
        theirs.add(vectors)
        theirs.k_factor = 5

        def peer(probes):
            faiss.extract_index_ivf(theirs).nprobe = probes
            return theirs.search(queries, 10)[1]

    index = IVFPQIndex(lists=1024, parts=16, rerank=50).fit(vectors)
    benchmark_lists(table, repeats, "IVF-PQ", index, peer, queries, truth)


def benchmark_growth(table, peers, repeats, vectors, queries, truth):
    """The exponent b of time = a n^b, least squares on logarithms."""
    sizes = (10_000, 30_000, 100_000, 300_000, 1_000_000)
    data, asked = embeddings(sizes[-1], 1000, 0)
    data, asked = np.ascontiguousarray(data[:, :32]), np.ascontiguousarray(asked[:, :32])
    cases = {
        "exact (theory: n)": ExactIndex,
        "PQ, 4 bits (theory: n)": lambda: PQIndex(parts=16, bits=4),
        "IVF-Flat, 4 sqrt(n) lists, 8 probes (theory: sqrt(n))": IVFIndex,
        "IVF-PQ, 4 bits, 4 sqrt(n) lists, 8 probes (theory: sqrt(n))": lambda: IVFPQIndex(parts=16, bits=4),
        "ScaNN, 4 sqrt(n) lists, 8 probes (theory: sqrt(n))": ScaNNIndex,
        "RaBitQ, 4 sqrt(n) lists, 8 probes (theory: sqrt(n))": RaBitQIndex,
        "HNSW, ef 32 (theory: log n)": lambda: HNSWIndex(ef=32),
    }
    for name, make in cases.items():
        times = []
        for n in sizes:
            index = make().fit(data[:n])
            times.append(medians({"ours": lambda index=index: index.search(asked, 10)}, 2)["ours"] / len(asked))
        exponent = float(np.polyfit(np.log(sizes), np.log(times), 1)[0])
        row = {"work": f"growth: {name}", "ours": exponent, "unit": "exponent of n", "peer": None, "theirs": None}
        table.rows.append({**row, "ratio": None, "seconds a query": dict(zip(map(str, sizes), times))})
        shown = "  ".join(f"{1e6 * t:.1f}" for t in times)
        print(f"growth: {name:<64} exponent {exponent:.2f}; microseconds a query: {shown}", flush=True)


def resident():
    """Bytes of memory that this process has; None where the system does not say."""
    gc.collect()
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else None


def build_contender(name, build, vectors, queries, truth):
    """-> (ask, record): the record has everything but the rates."""
    before, start = resident(), time.perf_counter()
    ask, settings = build(vectors)
    taken, after = time.perf_counter() - start, resident()
    points = [{"setting": s, "recall": knn_recall(np.asarray(ask(s, queries)), truth)} for s in settings]
    grown = None if before is None else (after - before) / len(vectors)
    print(
        f"{name:<32} built in {taken:6.1f} s, recall {points[0]['recall']:.3f} to {points[-1]['recall']:.3f}",
        flush=True,
    )
    record = {"name": name, "ours": name in OURS, "build seconds": taken, "bytes per vector": grown, "points": points}
    return ask, record


def single_queries(ask, setting, queries):
    """Milliseconds of queries one at a time: the median and the 99th percentile."""
    ask(setting, queries[:1])
    times = [1e3 * seconds(lambda i=i: ask(setting, queries[i : i + 1])) for i in range(min(500, len(queries)))]
    return {"p50 ms": float(np.percentile(times, 50)), "p99 ms": float(np.percentile(times, 99))}


def fastest(record, target):
    """The point of the highest rate among those that reach the target; None if there is none."""
    return max((p for p in record["points"] if p["recall"] >= target), key=lambda p: p["rate"], default=None)


def benchmark_best(table, peers, repeats, vectors, queries, truth, skip=()):
    builds = {name: ours(name) for name in OURS if name not in skip}
    if peers:
        asked = {name: peer for name, peer in PEERS.items() if name not in skip}
        builds.update({with_lists(name, len(vectors)): build for name, (module, build) in asked.items() if has(module)})
        missing = [name for name, (module, _) in asked.items() if not has(module)]
        if missing:
            print("not installed, skipped:", ", ".join(missing))
    contenders = [build_contender(name, build, vectors, queries, truth) for name, build in builds.items()]
    times = [[[] for _ in record["points"]] for _, record in contenders]
    for _ in range(repeats):
        for (ask, record), taken in zip(contenders, times):
            for point, own in zip(record["points"], taken):
                own.append(seconds(lambda ask=ask, s=point["setting"]: ask(s, queries)))
    for (ask, record), taken in zip(contenders, times):
        for point, own in zip(record["points"], taken):
            point["rate"] = len(queries) / statistics.median(own)
        at = fastest(record, 0.95)
        record["single"] = single_queries(ask, at["setting"], queries) if at else None
    table.contenders = [record for _, record in contenders]
    for target in (0.95, 0.99):
        best = {}
        for record in table.contenders:
            point = fastest(record, target)
            side = "ours" if record["ours"] else "peer"
            if point and (side not in best or point["rate"] > best[side][0]):
                best[side] = point["rate"], f"{record['name']} {point['setting']}, {point['recall']:.3f}"
        if "ours" not in best:
            continue
        rates = {"ours": len(queries) / best["ours"][0]}
        if "peer" in best:
            rates[best["peer"][1]] = len(queries) / best["peer"][0]
        table.add(f"best index at recall >= {target}: {best['ours'][1]}", rates, len(queries))


def draw_curves(axes, contenders, named=None):
    """Queries per second against recall, from 0.8 on; this library's lines are solid, those not `named` grey."""
    for record in contenders:
        points = sorted((p["recall"], p["rate"]) for p in record["points"] if p["recall"] >= 0.8)
        style = "o-" if record["ours"] else "x--"
        if points and (named is None or record["name"] in named):
            axes.plot(*zip(*points), style, label=record["name"], zorder=3)
        elif points:
            axes.plot(*zip(*points), style[1:], color="0.8", linewidth=1)
    axes.set(yscale="log", xlim=(0.8, 1.0), xlabel=f"recall@{K}", ylabel="queries per second, batch, 2 threads")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend(fontsize=8, loc="lower left")


def plot_curves(contenders, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 6.5))
    axes.set_prop_cycle(color=[pyplot.get_cmap("tab20")(i) for i in range(20)])
    draw_curves(axes, contenders)
    figure.tight_layout()
    with atomic_write(path) as file:
        figure.savefig(file, dpi=110, format=path.suffix[1:] or "png")
    pyplot.close(figure)


def read_vectors(path):
    """vectors and 2,000 queries set aside (a tenth, if there are few), float32."""
    data = np.load(path, allow_pickle=False)
    if data.ndim != 2 or len(data) < 1000:
        raise ValueError(f"--data: expected vectors (n, d), n >= 1000, got shape {data.shape}")
    data = np.ascontiguousarray(data, np.float32)
    aside, count = np.random.default_rng(0).permutation(len(data)), min(2000, len(data) // 10)
    return data[np.sort(aside[count:])], data[aside[:count]]


BENCHMARKS = {
    "exact": benchmark_exact,
    "kmeans": benchmark_kmeans,
    "ivf": benchmark_ivf,
    "ivfpq": benchmark_ivfpq,
    "growth": benchmark_growth,
    "best": benchmark_best,
}


def main():
    parser = Parser(__doc__)
    parser.add_argument("--peers", action="store_true", help="run the other libraries too")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows there")
    parser.add_argument("--only", help=f"some of {','.join(BENCHMARKS)}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", type=Path, metavar="FILE.npy", help="vectors (n, d) in place of the made ones")
    parser.add_argument("--skip", nargs="+", default=[], metavar="NAME", help="leave out of the part `best`")
    parser.add_argument("--plot", type=Path, metavar="PATH", help="draw the curves of the part `best` there")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(BENCHMARKS)
    if not set(chosen) <= set(BENCHMARKS):
        parser.error(f"--only: expected some of {','.join(BENCHMARKS)}, got {options.only}")
    unknown = set(options.skip) - set(OURS) - set(PEERS)
    if unknown:
        parser.error(f"--skip: expected names of ann_contenders.py, got {', '.join(sorted(unknown))}")
    parser.at_least(options, repeats=1)
    for name, path in (("--json", options.json), ("--plot", options.plot)):
        if path is not None:
            check_writable(parser, name, path)
    with one_line_errors(parser):
        rows_before(options.json)
    with one_line_errors(parser):
        vectors, queries = read_vectors(options.data) if options.data else embeddings(200_000, 2000, 0)
    truth = ExactIndex().fit(vectors).search(queries, 10).ids
    if options.peers and not (has("faiss") and has("sklearn")):
        print("not installed, skipped:", ", ".join(name for name in ("faiss", "sklearn") if not has(name)))
    table = Table()
    table.contenders = None
    benchmarks = BENCHMARKS | {"best": partial(benchmark_best, skip=options.skip)}
    for name in chosen:
        start = len(table.rows)
        benchmarks[name](table, options.peers, options.repeats, vectors, queries, truth)
        for row in table.rows[start:]:
            row["part"] = name
    if options.json:  # first: what is drawn can be drawn again
        write_rows(options.json, table.rows, chosen, BENCHMARKS, contenders=table.contenders)
    if options.plot and table.contenders:
        plot_curves(table.contenders, options.plot)


if __name__ == "__main__":
    main()
