"""How fast are exact search, k-means and the inverted lists, beside faiss and scikit-learn?

    python scripts/benchmark_ann.py [--peers] [--json docs/results/benchmark_ann.json] [--only exact,kmeans,ivf,ivfpq]

Two threads, on 200,000 unit vectors of 128 dimensions that lie near 16, and 2,000 queries (`embeddings`). Times are
medians of --repeats after one that warms up; with --peers, each repeat runs every peer directly after this library,
so that all see the same machine, and the row names the best of them. The tree and hashing indexes have a script of
their own, benchmark_ann_trees.py.

exact     10 neighbours. Peer: faiss IndexFlatL2.
kmeans    1,024 centroids, 10 iterations from the same rows. Peers: faiss, scikit-learn.
ivf       10 neighbours, 1,024 lists, the fewest probes that reach a recall of 0.95 and of 0.99. Peer: faiss IVF-Flat.
ivfpq     the same with 16 bytes a vector and 50 exact re-rankings. Peer: faiss IVF-PQ with refinement.
"""

import argparse
import json
from pathlib import Path

from benchmark_ann_trees import Table, embeddings, environment, has, medians

from refimpl.ann import ExactIndex, IVFIndex, IVFPQIndex, kmeans, knn_recall
from refimpl.files import atomic_write


def benchmark_exact(table, peers, repeats, vectors, queries, truth):
    index = ExactIndex().fit(vectors)
    calls = {"ours": lambda: index.search(queries, 10)}
    if peers and has("faiss"):
        import faiss

        flat = faiss.IndexFlatL2(128)
        flat.add(vectors)
        calls["faiss IndexFlatL2"] = lambda: flat.search(queries, 10)
    table.add("exact, 10 neighbours", medians(calls, repeats), len(queries))


def benchmark_kmeans(table, peers, repeats, vectors, queries, truth):
    init = vectors[:1024].copy()
    calls = {"ours": lambda: kmeans(vectors, 1024, init=init, max_iter=10, tol=0)}
    if peers and has("faiss"):
        import faiss

        def train():
            faiss.Kmeans(128, 1024, niter=10, max_points_per_centroid=1 << 20).train(vectors, init_centroids=init)

        calls["faiss"] = train
    if peers and has("sklearn"):
        from sklearn.cluster import KMeans

        calls["scikit-learn"] = lambda: KMeans(1024, init=init, n_init=1, max_iter=10, tol=0).fit(vectors)
    table.add("k-means, 1,024 centroids, 10 iterations", medians(calls, min(repeats, 3)))


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
    peer = None
    if peers and has("faiss"):
        import faiss

        theirs = faiss.index_factory(128, "IVF1024,Flat")
        theirs.train(vectors)
        theirs.add(vectors)

        def peer(probes):
            theirs.nprobe = probes
            return theirs.search(queries, 10)[1]

    benchmark_lists(table, repeats, "IVF-Flat", IVFIndex(lists=1024).fit(vectors), peer, queries, truth)


def benchmark_ivfpq(table, peers, repeats, vectors, queries, truth):
    peer = None
    if peers and has("faiss"):
        import faiss

        theirs = faiss.index_factory(128, "IVF1024,PQ16,RFlat")
        theirs.train(vectors)
        theirs.add(vectors)
        theirs.k_factor = 5

        def peer(probes):
            faiss.extract_index_ivf(theirs).nprobe = probes
            return theirs.search(queries, 10)[1]

    index = IVFPQIndex(lists=1024, parts=16, rerank=50).fit(vectors)
    benchmark_lists(table, repeats, "IVF-PQ", index, peer, queries, truth)


BENCHMARKS = {"exact": benchmark_exact, "kmeans": benchmark_kmeans, "ivf": benchmark_ivf, "ivfpq": benchmark_ivfpq}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="run the other libraries too")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows there")
    parser.add_argument("--only", help=f"some of {','.join(BENCHMARKS)}")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(BENCHMARKS)
    if not set(chosen) <= set(BENCHMARKS):
        parser.error(f"--only: expected some of {','.join(BENCHMARKS)}, got {options.only}")
    vectors, queries = embeddings(200_000, 2000, 0)
    truth = ExactIndex().fit(vectors).search(queries, 10).ids
    if options.peers and not (has("faiss") and has("sklearn")):
        print("not installed, skipped:", ", ".join(name for name in ("faiss", "sklearn") if not has(name)))
    table = Table()
    for name in chosen:
        BENCHMARKS[name](table, options.peers, options.repeats, vectors, queries, truth)
    if options.json:
        peers = " --peers" if options.peers else ""
        path = options.json.as_posix()
        command = f"python scripts/benchmark_ann.py{peers} --repeats {options.repeats} --json {path}"
        with atomic_write(options.json) as file:
            text = json.dumps({"command": command, "environment": environment(), "rows": table.rows}, indent=1)
            file.write(text.encode() + b"\n")


if __name__ == "__main__":
    main()
