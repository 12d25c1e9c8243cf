"""The table of all indexes, which the shared tests go through, and what they measure answers with.

A new index joins the tests of test_all_indexes.py, test_index_files.py and test_any_history.py by one line here.
"""

from typing import NamedTuple

import numpy as np

from refimpl.ann import (
    ExactIndex,
    HammingIndex,
    HNSWIndex,
    IVFIndex,
    IVFPQIndex,
    KDTreeIndex,
    LSHIndex,
    PQIndex,
    RaBitQIndex,
    RPForestIndex,
    ScaNNIndex,
)

METRICS = ["l2", "cosine", "ip"]
ALL = 2000  # rows, at least: no test has more that searches with the full budget


class Case(NamedTuple):
    """How the tests make an index.

    small    settings for some dozens of vectors, with which it is approximate (if it ever is)
    full     further settings with which the answer is exact up to float32 rounding; None if there are none
    budget   the parameter of the search of which more is never worse, and settings to test that with
    default  does recall@10 reach 0.8 with the default settings on 20,000 vectors that lie near a plane?
    """

    small: dict
    full: dict | None = {}
    budget: tuple | None = None
    default: bool = True


TABLE = {
    ExactIndex: Case({}),
    KDTreeIndex: Case({"leaf_size": 4, "max_leaves": 2}, {"max_leaves": None}, budget=("max_leaves", {})),
    RPForestIndex: Case(
        {"trees": 3, "leaf_size": 4, "max_leaves": 6}, {"max_leaves": None},
        budget=("max_leaves", {"trees": 4, "leaf_size": 8}),
    ),
    LSHIndex: Case({"tables": 4, "probes": 12}, None, budget=("probes", {"tables": 3, "bits": 7})),
    HammingIndex: Case({"bits": 70, "rerank": 20}, {"rerank": ALL}, budget=("rerank", {"bits": 64})),
    IVFIndex: Case({"lists": 6, "probes": 2}, {"probes": ALL}, budget=("probes", {"lists": 256})),
    PQIndex: Case({"parts": 2, "bits": 3, "rerank": 20}, {"rerank": ALL}, budget=("rerank", {"bits": 4})),
    IVFPQIndex: Case(
        {"lists": 6, "probes": 2, "parts": 2, "bits": 3, "rerank": 20}, {"probes": ALL, "rerank": ALL},
        budget=("probes", {"lists": 64, "bits": 4, "rerank": ALL}),
    ),
    RaBitQIndex: Case(
        {"lists": 6, "probes": 2}, {"probes": ALL, "eps0": 1e3}, budget=("probes", {"lists": 64, "eps0": 1e3})
    ),
    HNSWIndex: Case({"links": 6, "ef": 12}, {"ef": ALL}),
    ScaNNIndex: Case(
        {"lists": 6, "probes": 2, "spill": 1.0, "rerank": 12}, {"probes": ALL, "rerank": ALL},
        budget=("probes", {"lists": 64, "rerank": ALL}),
    ),
}  # fmt: skip
KINDS = list(TABLE)
CASES = [(kind, metric) for kind in KINDS for metric in METRICS]


def small(kind, metric="l2", full=False):
    """An index for small data, of which search uses the structure: a scan instead would test only the scan."""
    case = TABLE[kind]
    return structured(kind(metric=metric, **{**case.small, **((case.full or {}) if full else {})}))


def structured(index):
    """The index, told never to scan where it has a structure."""
    index._scan_limit = lambda: 0
    return index


def normal(n, d, seed):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def near_a_plane(n, seed, d=24):
    """Vectors as an encoder makes them: they vary in 4 directions, and a little in all."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 4)) @ np.random.default_rng(99).standard_normal((4, d))
    return (x + 0.2 * rng.standard_normal(x.shape)).astype(np.float32)


def distances_by_definition(vectors, queries, metric):
    """(queries, vectors) float64 of the formulas, from float32 vectors."""
    x, q = vectors.astype(np.float64), queries.astype(np.float64)
    if metric == "l2":
        return np.sqrt(((q[:, None] - x[None]) ** 2).sum(2))
    if metric == "ip":
        return -q @ x.T
    lengths = np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(x, axis=1)
    return 1 - q @ x.T / lengths


def assert_sound(index, vectors_of, queries, k, metric, allowed=None):
    """The answer is sound -> ids, distances.

    It has as many neighbours as there are, up to k; they are live, allowed and distinct; distances ascend, ties by
    id, and follow the formula; padding is -1 and +inf, at the end.
    """
    ids, distances = index.search(queries, k, allow=allowed)
    assert ids.shape == distances.shape == (len(queries), k)
    assert ids.dtype == np.int64 and distances.dtype == np.float32
    possible = set(vectors_of) if allowed is None else set(vectors_of) & set(np.asarray(allowed).tolist())
    n_real = min(k, len(possible))
    assert (ids[:, :n_real] >= 0).all()
    assert (ids[:, n_real:] == -1).all() and (distances[:, n_real:] == np.inf).all()
    for query, row, near in zip(queries, ids[:, :n_real], distances[:, :n_real]):
        assert len(set(row)) == n_real and set(row) <= possible
        assert sorted(zip(near, row)) == list(zip(near, row))
        if n_real:
            vectors = np.array([vectors_of[id] for id in row])
            expected = distances_by_definition(vectors, query[None], metric)[0]
            np.testing.assert_allclose(near, expected, rtol=1e-5, atol=2e-6)
    return ids, distances


def recall_of_sets(ids, truth):
    """(q,) float: the share of each row of truth that is in the row of ids."""
    return np.array([len(set(a) & set(b)) / len(b) for a, b in zip(ids.tolist(), truth.tolist())])
