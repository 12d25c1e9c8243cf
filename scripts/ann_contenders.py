"""The approximate indexes that benchmark_ann.py compares: this library's, and other libraries'.

A contender is built from vectors (n, d) and answers `ask(setting, queries) -> ids (queries, 10)`, a setting being what
it takes to trade recall for speed. To add an index of this library, add a line to OURS.
"""

from concurrent.futures import ThreadPoolExecutor

from benchmarking import THREADS  # isort: skip

import numpy as np

from refimpl.ann import (
    HammingIndex,
    HNSWIndex,
    IVFIndex,
    IVFPQIndex,
    LSHIndex,
    PQIndex,
    RaBitQIndex,
    RPForestIndex,
    ScaNNIndex,
)

K = 10
PROBES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
EF = (10, 11, 12, 14, 16, 20, 24, 32, 48, 64)


def lists_for(n):
    """How many lists every inverted index has on n vectors: 1,024, from half a million on 4,096."""
    return 1024 if n < 500_000 else 4096


#: name: how to make it with so many lists, and the values of the one parameter that is varied
OURS = {
    "IVFIndex": (lambda lists: IVFIndex(lists=lists), "probes", PROBES),
    "IVFPQIndex": (lambda lists: IVFPQIndex(lists=lists, rerank=50), "probes", PROBES),
    "IVFPQIndex, 4 bits": (lambda lists: IVFPQIndex(lists=lists, parts=64, bits=4, rerank=30), "probes", PROBES),
    "ScaNNIndex": (lambda lists: ScaNNIndex(lists=lists, rerank=30), "probes", PROBES),
    "ScaNNIndex, rerank 20": (lambda lists: ScaNNIndex(lists=lists, rerank=20), "probes", PROBES),
    "ScaNNIndex, spilled": (lambda lists: ScaNNIndex(lists=lists, rerank=40, spill=1.0), "probes", PROBES),
    "RaBitQIndex": (lambda lists: RaBitQIndex(lists=lists, eps0=1.5), "probes", PROBES),
    "PQIndex": (lambda lists: PQIndex(), "rerank", (50, 200, 500)),
    "PQIndex, opq": (lambda lists: PQIndex(rotation="opq"), "rerank", (20, 50, 200)),
    "PQIndex, 4 bits": (lambda lists: PQIndex(parts=64, bits=4), "rerank", (10, 20, 50)),
    "HNSWIndex": (lambda lists: HNSWIndex(), "ef", EF),
    "RPForestIndex": (lambda lists: RPForestIndex(), "max_leaves", (20, 40, 60, 80, 140, 200)),
    "LSHIndex": (lambda lists: LSHIndex(), "probes", (50, 100, 200, 500)),
    "HammingIndex": (lambda lists: HammingIndex(), "rerank", (50, 200, 500)),
}


def ours(name):
    make, parameter, values = OURS[name]

    def build(vectors):
        index = make(lists_for(len(vectors))).fit(vectors)

        def ask(value, queries):
            setattr(index, parameter, value)
            return index.search(queries, K).ids

        return ask, values

    return build


def with_lists(name, n):
    """A name or factory with as many lists as there are on n vectors."""
    return name.replace("IVF1024", f"IVF{lists_for(n)}")


def faiss_factory(factory, k_factor=4):
    """k_factor x 10 codes are re-ranked, where the factory says so ("RFlat"); "IVF1024" stands for `lists_for`."""

    def build(vectors):
        import faiss

        faiss.omp_set_num_threads(THREADS)
        index = faiss.index_factory(vectors.shape[1], with_lists(factory, len(vectors)))
        if factory.startswith("HNSW"):
            index.hnsw.efConstruction = 200
        index.train(vectors)
        index.add(vectors)

        def ask(value, queries):
            if factory.startswith("HNSW"):
                index.hnsw.efSearch = value
            else:
                faiss.extract_index_ivf(index).nprobe = value
                if factory.endswith("RFlat"):
                    index.k_factor = k_factor
            return index.search(queries, K)[1]

        return ask, EF if factory.startswith("HNSW") else PROBES

    return build


def faiss_codes(factory):
    """Codes of all vectors, k_factor x 10 of them re-ranked."""

    def build(vectors):
        import faiss

        faiss.omp_set_num_threads(THREADS)
        index = faiss.index_factory(vectors.shape[1], factory)
        index.train(vectors)
        index.add(vectors)

        def ask(value, queries):
            index.k_factor = value
            return index.search(queries, K)[1]

        return ask, (2, 5, 20, 50)

    return build


def build_scann(vectors):
    import scann

    lists = lists_for(len(vectors))
    builder = scann.scann_ops_pybind.builder(vectors, K, "squared_l2").tree(lists, 16, training_sample_size=64 * lists)
    index = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(50).build()
    index.set_num_threads(THREADS)

    def ask(value, queries):
        if len(queries) == 1:
            return index.search(queries[0], leaves_to_search=value)[0][None]
        return index.search_batched_parallel(queries, leaves_to_search=value, batch_size=64)[0]

    return ask, PROBES


def build_svs(vectors):
    import svs

    parameters = svs.VamanaBuildParameters(graph_max_degree=32, window_size=128, alpha=1.2)
    index = svs.Vamana.build(parameters, vectors, svs.DistanceType.L2, num_threads=THREADS)
    index.num_threads = THREADS

    def ask(value, queries):
        index.search_window_size = value
        return index.search(queries, K)[0].astype(np.int64)

    return ask, EF


def build_hnswlib(vectors):
    import hnswlib

    index = hnswlib.Index("l2", vectors.shape[1])
    index.init_index(len(vectors), M=16, ef_construction=200, random_seed=0)
    index.set_num_threads(THREADS)
    index.add_items(vectors)

    def ask(value, queries):
        index.set_ef(value)
        return index.knn_query(queries, K)[0].astype(np.int64)

    return ask, EF


def build_usearch(vectors):
    from usearch.index import Index

    index = Index(ndim=vectors.shape[1], metric="l2sq", dtype="f32", connectivity=16, expansion_add=128)
    index.add(np.arange(len(vectors)), vectors, threads=THREADS)

    def ask(value, queries):
        index.expansion_search = value
        return np.atleast_2d(index.search(queries, K, threads=THREADS).keys).astype(np.int64)

    return ask, EF


def build_pynndescent(vectors):
    from pynndescent import NNDescent

    index = NNDescent(vectors, n_neighbors=20, n_jobs=THREADS, random_state=0, parallel_batch_queries=True)
    index.prepare()
    return lambda value, queries: index.query(queries, K, epsilon=value)[0].astype(np.int64), (0.0, 0.05, 0.1, 0.2)


def build_annoy(vectors):
    from annoy import AnnoyIndex

    index = AnnoyIndex(vectors.shape[1], "euclidean")
    index.set_seed(1)
    for i, vector in enumerate(vectors):
        index.add_item(i, vector)
    index.build(10, n_jobs=THREADS)

    def ask(value, queries):
        with ThreadPoolExecutor(THREADS) as pool:
            return np.array(list(pool.map(lambda q: index.get_nns_by_vector(q, K, value), queries, chunksize=100)))

    return ask, (600, 1000, 1500, 3000, 5000)


#: name: the module that has to be there, and how to build it
PEERS = {
    "faiss IVF1024,Flat": ("faiss", faiss_factory("IVF1024,Flat")),
    "faiss IVF1024,PQ64x4fs,RFlat": ("faiss", faiss_factory("IVF1024,PQ64x4fs,RFlat")),
    "faiss IVF1024,PQ64x4fs,RFlat, k_factor 2": ("faiss", faiss_factory("IVF1024,PQ64x4fs,RFlat", 2)),
    "faiss PQ16,RFlat": ("faiss", faiss_codes("PQ16,RFlat")),
    "faiss PQ64x4fs,RFlat": ("faiss", faiss_codes("PQ64x4fs,RFlat")),
    "faiss HNSW16": ("faiss", faiss_factory("HNSW16,Flat")),
    "scann": ("scann", build_scann),
    "scalable-vs Vamana": ("svs", build_svs),
    "hnswlib": ("hnswlib", build_hnswlib),
    "usearch": ("usearch", build_usearch),
    "pynndescent": ("pynndescent", build_pynndescent),
    "annoy": ("annoy", build_annoy),
}
