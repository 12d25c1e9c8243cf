"""What all tree and hashing indexes share: vectors with ids that come and go, and distances that are exact.

An index is a table of rows (a vector, an id, a live flag) and a structure over the first `built` rows. Rows added
later form a tail, which every search scans; removed rows stay, closed, until they are too many. When the tail
outgrows an eighth of the structure, or half of the rows are closed, the live rows are compacted and the structure is
built anew, so that n single additions cost O(log n) builds. Searching changes nothing.

The vectors as stored (float32), and the distance that is returned, by metric:

    l2        x                            |x - q|
    cosine    x / |x|, and q / |q|         |x - q|^2 / 2 = 1 - cos
    ip        (x, sqrt(M^2 - |x|^2))       -x.q        M: the largest norm; q gets a 0

In the stored form the nearest by l2 is the nearest by the metric (ip: |x - q|^2 = M^2 + |q|^2 - 2 x.q, Bachrach et
al. 2014), so each structure only has to know l2. The returned distance is summed in float64, over j in order, and
rounded to float32: it is a function of the two vectors alone, the same in every index, batch and thread. Neighbours
are ordered by it, then by id.

A search among few open rows (`allow`) would spend its budget on closed ones. If there are no more of them than a
scan can afford, it scans them, exactly; otherwise the budget grows by 1 / (their share), so that as many open rows
are met.

A subclass gives `_build()` for a structure over self._vectors[: self._built]; `_candidates(queries, k, open_rows,
share)` for ids of neighbours in it, -1 for none; `_scan_limit()`, how many open rows a search rather scans; and in
`_STRUCTURE` the names of the arrays that the structure consists of.
"""

import contextlib
import hashlib
import json
from typing import NamedTuple

import numba
import numpy as np
from numba import njit, prange

from ..files import atomic_write
from ..validation import check_array, check_choice, check_integer
from .candidates import offer, squared_distance

METRICS = ("l2", "cosine", "ip")
_MAGIC = b"refimpl index 1\n"


class Neighbors(NamedTuple):
    """ids (n, k) int64, -1 where there are fewer than k; distances (n, k) float32, ascending, +inf there."""

    ids: np.ndarray
    distances: np.ndarray


@contextlib.contextmanager
def thread_count(threads):
    """Numba's kernels inside use `threads` threads; None changes nothing."""
    if threads is None:
        yield
        return
    before = numba.get_num_threads()
    numba.set_num_threads(check_integer(threads, "threads", minimum=1, maximum=numba.config.NUMBA_NUM_THREADS))
    try:
        yield
    finally:
        numba.set_num_threads(before)


@njit(cache=True, parallel=True)
def _scan_rows(vectors, ids, queries, found, distances):
    """Offer every row to each query's lists."""
    for i in prange(len(queries)):
        for row in range(len(vectors)):
            offer(distances[i], found[i], squared_distance(queries[i], vectors[row]), ids[row])


@njit(cache=True, parallel=True)
def _measure(vectors, rows, ids, queries, metric, found, distances):
    """The distances to vectors[rows] (n, m), -1 for none, in float64; the k least by (distance, id) are the result.

    metric: 0 l2, 1 cosine, 2 ip. OUT found (n, k) = -1, distances (n, k) = inf.
    """
    for i in prange(len(queries)):
        for c in range(rows.shape[1]):
            row = rows[i, c]
            if row < 0:
                continue
            total = 0.0
            for j in range(vectors.shape[1]):
                x, q = np.float64(vectors[row, j]), np.float64(queries[i, j])
                total += (x - q) * (x - q) if metric < 2 else -x * q
            if metric == 0:
                total = np.sqrt(total)
            elif metric == 1:
                total *= 0.5
            offer(distances[i], found[i], np.float32(total), ids[row])


class Index:
    """fit, add, remove, search, save, load; see the head of this file."""

    _STRUCTURE = ()  # names of attributes that are arrays

    def __init__(self, metric, **settings):
        self.metric = check_choice(metric, "metric", METRICS)
        self._settings = {"metric": metric, **settings}
        self._dimension = None

    def __len__(self):
        return 0 if self._dimension is None else self._n_live

    @property
    def ids(self):
        """The ids of the live vectors, (n,) int64, in the order in which they came."""
        self._check_fitted()
        return self._ids[self._live]

    def fit(self, vectors, ids=None, *, threads=None):
        """Forget everything and index vectors (n, d), n >= 0, under `ids` (n,) or 0 to n - 1 -> self."""
        vectors = check_array(vectors, "vectors", ndim=2, finite=True)
        if vectors.shape[1] < 1:
            raise ValueError(f"vectors: expected at least one column, got shape {vectors.shape}")
        stored, norms = self._normal_form(vectors, "vectors")
        ids = self._new_ids(ids, len(vectors), np.empty(0, np.int64))
        self._dimension, self._largest_norm = vectors.shape[1], 0.0
        self._vectors, self._ids, self._live = stored[:0], ids[:0], np.zeros(0, bool)
        self._append(stored, ids, norms)
        with thread_count(threads):
            self._rebuild()
        return self

    def add(self, vectors, ids=None, *, threads=None):
        """Add vectors (n, d) under `ids` (n,), which must be new; None: the numbers after the largest. O(rows)."""
        self._check_fitted()
        vectors = check_array(vectors, "vectors", shape=(None, self._dimension), finite=True)
        stored, norms = self._normal_form(vectors, "vectors")
        ids = self._new_ids(ids, len(vectors), self.ids)
        regrown = self._append(stored, ids, norms)
        if regrown or 8 * (len(self._ids) - self._built) > self._built + 2048:
            with thread_count(threads):
                self._rebuild()
        else:
            self._changed()

    def remove(self, ids, *, threads=None):
        """Remove the vectors with these ids, each of which must be there."""
        self._check_fitted()
        ids = self._check_ids(ids)
        rows = self._rows_of(ids)
        if (rows < 0).any():
            raise ValueError(f"ids: expected ids that are in the index, got {ids[rows < 0][0]}")
        self._live[rows] = False
        if 2 * self._live.sum() < len(self._live):
            with thread_count(threads):
                self._rebuild()
        else:
            self._changed()

    def search(self, queries, k, *, allow=None, threads=None):
        """The k nearest of each query (n, d) -> Neighbors. `allow`: a bool for each of self.ids, or ids."""
        k = check_integer(k, "k", minimum=1)
        queries, open_rows = self._check_search(queries, allow)
        k_found = min(k, max(1, len(self) if open_rows is self._live else int(open_rows.sum())))
        with thread_count(threads):
            found, distances = self._nearest(queries, k_found, open_rows)
        if k_found == k:
            return Neighbors(found, distances)
        ids, full = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), np.inf, np.float32)
        ids[:, :k_found], full[:, :k_found] = found, distances
        return Neighbors(ids, full)

    def _nearest(self, queries, k, open_rows):
        """The structure's candidates and the tail's, measured exactly."""
        n_open = int(np.count_nonzero(open_rows[: self._built]))
        if n_open <= self._scan_limit():
            candidates = self._scan(queries, k, np.flatnonzero(open_rows))
        else:
            tail = self._built + np.flatnonzero(open_rows[self._built :])
            candidates = self._candidates(queries, k, open_rows, n_open / self._built)
            candidates = np.concatenate([candidates, self._scan(queries, k, tail)], 1)
        found, distances = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), np.inf, np.float32)
        rows = self._rows_of(candidates)
        _measure(self._vectors, rows, self._ids, queries, METRICS.index(self.metric), found, distances)
        return found, distances

    def _scan(self, queries, k, rows):
        """The ids of the nearest among some rows."""
        found = np.full((len(queries), min(k, len(rows))), -1, np.int64)
        if found.size:
            squared = np.full(found.shape, np.inf, np.float32)
            _scan_rows(self._vectors[rows], self._ids[rows], queries, found, squared)
        return found

    def _scan_limit(self):
        return 0

    def _check_search(self, queries, allow):
        """The queries in the stored form, and the rows that may be found."""
        self._check_fitted()
        queries = check_array(queries, "queries", shape=(None, self._dimension), finite=True)
        queries, _ = self._normal_form(queries, "queries")
        if self.metric == "ip":
            queries = np.concatenate([queries, np.zeros((len(queries), 1), np.float32)], 1)
        return queries, self._open_rows(allow)

    # Rows.

    def _check_fitted(self):
        if self._dimension is None:
            raise ValueError("index: expected one that was fitted, got one that is empty; call fit first")

    def _check_ids(self, ids):
        ids = check_array(ids, "ids", ndim=1)
        if ids.size and ids.dtype.kind not in "iu":
            raise ValueError(f"ids: expected integers, got dtype {ids.dtype}")
        ids = ids.astype(np.int64)
        if ids.size and ids.min() < 0:
            raise ValueError(f"ids: expected numbers >= 0, got {ids.min()}")
        unique, count = np.unique(ids, return_counts=True)
        if (count > 1).any():
            raise ValueError(f"ids: expected distinct ids, got {unique[count > 1][0]} twice")
        return ids

    def _new_ids(self, ids, n, present):
        if ids is None:
            start = 0 if len(present) == 0 else int(present.max()) + 1
            return np.arange(start, start + n)
        ids = self._check_ids(ids)
        if len(ids) != n:
            raise ValueError(f"ids: expected one for each of {n} vectors, got {len(ids)}")
        known = np.isin(ids, present)
        if known.any():
            raise ValueError(f"ids: expected new ids, got {ids[known][0]}, which is in the index")
        return ids

    def _normal_form(self, vectors, name):
        """float32 vectors, of unit length for "cosine", and their norms (not for "l2")."""
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(vectors, np.float32)
        if not np.isfinite(stored).all():
            raise ValueError(f"{name}: expected values within float32, got {np.abs(vectors).max()}")
        norms = np.zeros(0) if self.metric == "l2" else np.sqrt((stored.astype(np.float64) ** 2).sum(1))
        if self.metric == "cosine":
            if (norms == 0).any():
                raise ValueError(f"{name}: expected nonzero vectors for cosine, got zeros in row {norms.argmin()}")
            stored = (stored / norms[:, None]).astype(np.float32)
        return stored, norms

    def _append(self, stored, ids, norms):
        """Rows at the end -> True if a norm beyond M changed the stored form of all."""
        regrown = False
        if self.metric == "ip":
            regrown = len(norms) > 0 and norms.max() > self._largest_norm
            stored = np.concatenate([self._vectors[:, : self._dimension], stored])
            if regrown:
                self._largest_norm = float(norms.max())
            squares = (stored.astype(np.float64) ** 2).sum(1)
            last = np.sqrt(np.maximum(self._largest_norm**2 - squares, 0)).astype(np.float32)
            self._vectors = np.concatenate([stored, last[:, None]], 1)
        else:
            self._vectors = np.concatenate([self._vectors, stored])
        self._ids = np.concatenate([self._ids, ids])
        self._live = np.concatenate([self._live, np.ones(len(ids), bool)])
        return regrown

    def _rebuild(self):
        if not self._live.all():
            self._vectors, self._ids = self._vectors[self._live], self._ids[self._live]
            self._live = np.ones(len(self._ids), bool)
        self._built = len(self._ids)
        self._build()
        self._changed()

    def _changed(self):
        """After every change of the rows."""
        self._by_id, self._n_live = None, int(self._live.sum())

    def _rows_of(self, ids):
        """The rows of live ids, -1 for others. O(log n) an id; at first after a change, O(n log n)."""
        if self._by_id is None:
            live = np.flatnonzero(self._live)
            by_id = live[np.argsort(self._ids[live], kind="stable")]
            self._sorted_ids, self._by_id = self._ids[by_id], by_id
        if len(self._sorted_ids) == 0:
            return np.full(np.shape(ids), -1, np.int64)
        at = np.minimum(np.searchsorted(self._sorted_ids, ids), len(self._sorted_ids) - 1)
        return np.where(self._sorted_ids[at] == ids, self._by_id[at], -1)

    def _open_rows(self, allow):
        """(rows,) bool: live and allowed."""
        if allow is None:
            return self._live
        allow = check_array(allow, "allow", ndim=1)
        open_rows = np.zeros(len(self._live), bool)
        if allow.dtype == bool:
            if len(allow) != len(self):
                raise ValueError(f"allow: expected a mask over {len(self)} vectors, got {len(allow)}")
            open_rows[self._live] = allow
        else:
            rows = self._rows_of(self._check_ids(allow))
            open_rows[rows[rows >= 0]] = True
        return open_rows

    # Files: the format's name, a checksum, a line of JSON, and the arrays, each at a multiple of 64 bytes.

    def save(self, path):
        """Write the index to `path` in one step."""
        self._check_fitted()
        arrays, parts, at = {}, [], 0
        for name in ("_vectors", "_ids", "_live", *self._STRUCTURE):
            array = np.ascontiguousarray(getattr(self, name))
            arrays[name] = {"dtype": array.dtype.str, "shape": array.shape, "offset": at}
            parts.append(array.tobytes() + bytes(-array.nbytes % 64))
            at += len(parts[-1])
        state = {"dimension": self._dimension, "built": self._built, "largest_norm": self._largest_norm}
        head = {"index": type(self).__name__, "settings": self._settings, "state": state, "arrays": arrays, "bytes": at}
        header = json.dumps(head).encode()
        digest = hashlib.sha256(header)
        for part in parts:
            digest.update(part)
        start = b"".join([_MAGIC, digest.hexdigest().encode(), b"\n", header, b"\n"])
        with atomic_write(path) as file:
            file.write(start + bytes(-len(start) % 64))
            for part in parts:
                file.write(part)

    @classmethod
    def load(cls, path):
        """The index that was saved to `path`, its arrays mapped from the file; ValueError if the file is not whole."""
        with open(path, "rb") as file:
            magic, digest, header = (file.readline() for _ in range(3))
            start = file.tell() + -file.tell() % 64
        if magic != _MAGIC:
            raise ValueError(f"path: expected an index, got {path}")
        data = np.memmap(path, np.uint8, "c")[start:]
        check = hashlib.sha256(header[:-1])
        check.update(data)
        if check.hexdigest().encode() + b"\n" != digest:
            raise ValueError(f"path: expected a whole index, got {path}, whose checksum does not match")
        head = json.loads(header)
        if head["index"] != cls.__name__:
            raise ValueError(f"path: expected a {cls.__name__}, got a {head['index']}")
        index = cls(**head["settings"])
        for name, item in head["arrays"].items():
            dtype, shape = np.dtype(item["dtype"]), tuple(item["shape"])
            size = int(np.prod(shape)) * dtype.itemsize
            array = np.asarray(data[item["offset"] : item["offset"] + size]).view(dtype).reshape(shape)
            setattr(index, name, array)
        state = head["state"]
        index._dimension, index._built, index._largest_norm = state["dimension"], state["built"], state["largest_norm"]
        index._changed()
        return index
