"""What does a filter cost? Recall and rate with half to a thousandth of the vectors allowed, beside faiss.

    python scripts/benchmark_filtered.py [--peers] [--json docs/results/benchmark_filtered.json] [--repeats 3]

200,000 unit vectors of 128 dimensions (`embeddings`), 2,000 queries, 10 neighbours, two threads. Two kinds of filter:

random    any rows: near every query there are some that are allowed.
one side  the rows that lie farthest along a random direction, as a filter by category would: most queries have no
          allowed neighbour near them, and have to look far.

An index of this library keeps one setting throughout, the cheapest of recall 0.95 without a filter: what it does about
a filter is its own affair. faiss takes a bitmap (IDSelectorBitmap), passes over what is not in it, and leaves its
budget to the caller: it gets for every filter the least of its settings that reaches 0.95 there, or its largest. Its
IVF-Flat has the centroids of this library's. All calls of one filter are timed in turn; rates are medians.

The record's rows are this library's indexes, each beside the fastest of faiss's that reach 0.95 under that filter;
"contenders" has all with their recall.
"""

from pathlib import Path

from benchmarking import THREADS, embeddings, has, medians, write_record  # isort: skip

import numpy as np
from ann_contenders import EF, OURS, K, lists_for
from command_line import Parser, check_writable, one_line_errors

from refimpl.ann import ExactIndex, knn_recall

VECTORS, QUERIES = 200_000, 2000
TARGET = 0.95
SHARES = (1.0, 0.5, 0.1, 0.01, 0.001)
INDEXES = ("IVFIndex", "IVFPQIndex, 4 bits", "ScaNNIndex", "RaBitQIndex", "HNSWIndex")
THEIR_PROBES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
THEIR_EF = (*EF, 96, 128, 192, 256, 384, 512, 1024, 2048)


def filters(vectors, seed):
    """{name: mask (n,)}; `random` and `one side` of each share below 1, and none."""
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal(vectors.shape[1])
    orders = {"random": rng.permutation(len(vectors)), "one side": np.argsort(vectors @ -direction, kind="stable")}
    found = {"none": np.ones(len(vectors), bool)}
    for kind, order in orders.items():
        for share in SHARES[1:]:
            mask = np.zeros(len(vectors), bool)
            mask[order[: round(share * len(vectors))]] = True
            found[f"{kind} {100 * share:g}%"] = mask
    return found


def cheapest(ask, settings, truth):
    """The first setting that reaches TARGET, or the last -> setting, recall."""
    for setting in settings:
        reached = knn_recall(ask(setting), truth)
        if reached >= TARGET:
            break
    return setting, reached


def build_ours(vectors, queries, truth):
    """{name: ask(mask) -> ids}, {name: its setting, chosen without a filter}, and the centroids of the IVF."""
    asks, chosen = {}, {}
    exact = ExactIndex().fit(vectors)
    asks["ExactIndex"] = lambda mask: exact.search(queries, K, allow=mask).ids
    for name in INDEXES:
        make, parameter, settings = OURS[name]
        index = make(lists_for(len(vectors))).fit(vectors)

        def ask(mask, index=index):
            return index.search(queries, K, allow=mask).ids

        def with_setting(setting, index=index, parameter=parameter, ask=ask):
            setattr(index, parameter, setting)
            return ask(None)

        setting, _ = cheapest(with_setting, settings, truth)
        asks[name], chosen[name] = ask, f"{parameter} {setting}"
        if name == "IVFIndex":
            centroids = index.centroids
    return asks, chosen, centroids


def build_faiss(vectors, centroids):
    """{name: (settings, ask(setting, queries, mask) -> ids)}."""
    import faiss

    faiss.omp_set_num_threads(THREADS)
    d = vectors.shape[1]
    flat, coarse, graph = faiss.IndexFlatL2(d), faiss.IndexFlatL2(d), faiss.IndexHNSWFlat(d, 16)
    coarse.add(centroids)
    lists = faiss.IndexIVFFlat(coarse, d, len(centroids))
    graph.hnsw.efConstruction = 200
    lists.train(vectors)  # does nothing, as the centroids are there
    for index in (flat, lists, graph):
        index.add(vectors)

    def asker(index, parameters):
        def ask(setting, queries, mask):
            bits = np.packbits(mask, bitorder="little")
            selector = {} if mask.all() else {"sel": faiss.IDSelectorBitmap(bits)}
            return index.search(queries, K, params=parameters(setting, selector))[1]

        return ask

    return {
        "faiss Flat": ((None,), asker(flat, lambda _, sel: faiss.SearchParameters(**sel))),
        "faiss IVF1024,Flat": (
            THEIR_PROBES, asker(lists, lambda nprobe, sel: faiss.SearchParametersIVF(nprobe=nprobe, **sel))
        ),
        "faiss HNSW16": (THEIR_EF, asker(graph, lambda ef, sel: faiss.SearchParametersHNSW(efSearch=ef, **sel))),
    }  # fmt: skip


def measure(name, mask, asks, chosen, theirs, queries, truth, repeats):
    """What is known of all contenders under one filter."""
    calls, rows = {}, []
    for index, ask in asks.items():
        calls[index] = lambda ask=ask: ask(None if mask.all() else mask)
        rows.append({"index": index, "ours": True, "setting": chosen.get(index, "")})
    for index, (settings, ask) in theirs.items():
        setting, _ = cheapest(lambda s, ask=ask: ask(s, queries, mask), settings, truth)
        calls[index] = lambda ask=ask, setting=setting: ask(setting, queries, mask)
        rows.append({"index": index, "ours": False, "setting": "" if setting is None else str(setting)})
    recalls = {index: knn_recall(np.asarray(call()), truth) for index, call in calls.items()}
    times = medians(calls, repeats)
    for row in rows:
        row |= {"filter": name, "recall": recalls[row["index"]], "rate": len(queries) / times[row["index"]]}
        print(
            f"{name:<16} {row['index']:<22} {row['setting']:<12} recall {row['recall']:.3f} {row['rate']:>10,.0f}/s",
            flush=True,
        )
    return rows


def beside_faiss(contenders):
    """Rows as of the other benchmarks: an index of this library under a filter, and the best of faiss's."""
    rows = []
    for one in contenders:
        if one["ours"]:
            others = [c for c in contenders if c["filter"] == one["filter"] and not c["ours"] and c["recall"] >= TARGET]
            best = max(others, key=lambda c: c["rate"], default={"index": None, "rate": None})
            work = f"filter {one['filter']}: {one['index']}, recall {one['recall']:.3f}"
            ratio = one["rate"] / best["rate"] if others else None
            row = {"work": work, "ours": one["rate"], "unit": "queries/s", "peer": best["index"]}
            rows.append({**row, "theirs": best["rate"], "ratio": ratio})
    return rows


def main():
    parser = Parser(__doc__)
    parser.add_argument("--peers", action="store_true", help="measure faiss too, if it is installed")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows there")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    parser.at_least(options, repeats=1)
    if options.json is not None:
        check_writable(parser, "--json", options.json)
    if options.peers and not has("faiss"):
        print("not installed, skipped: faiss")
    with one_line_errors(parser):
        vectors, queries = embeddings(VECTORS, QUERIES, 0)
        exact = ExactIndex().fit(vectors)
        asks, chosen, centroids = build_ours(vectors, queries, exact.search(queries, K).ids)
        theirs = build_faiss(vectors, centroids) if options.peers and has("faiss") else {}
        contenders = []
        for name, mask in filters(vectors, 0).items():
            truth = exact.search(queries, K, allow=mask).ids
            contenders += measure(name, mask, asks, chosen, theirs, queries, truth, options.repeats)
        if options.json:
            write_record(options.json, {"rows": beside_faiss(contenders), "contenders": contenders})


if __name__ == "__main__":
    main()
