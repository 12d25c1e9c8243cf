"""What all indexes share: a table of vectors and ids that come and go, filters, exact distances, and files.

An index is a table of rows (a vector, an id, a live flag) and a structure over the first `built` rows. Rows added
later form a tail, which every search scans; removed rows stay in the table, no longer live. When the tail outgrows
256 rows plus an eighth of the structure, or more than half of the rows are removed, the live rows are compacted and
the structure is built anew, so that n single additions cost O(log n) builds. Searching changes nothing.

The vectors as stored (float32), and the distance that is returned, by metric:

    l2        x                            |x - q|
    cosine    x / |x|, and q / |q|         |x - q|^2 / 2 = 1 - cos
    ip        (x, sqrt(M^2 - |x|^2))       -x.q        M: the largest norm; q gets a 0

In the stored form the nearest by l2 is the nearest by the metric (ip: |x - q|^2 = M^2 + |q|^2 - 2 x.q, Bachrach et
al. 2014), so each structure only has to know l2. The returned distance is summed in float64, over j in order, and
rounded to float32: it is a function of the two vectors alone, the same in every index, batch and thread. Neighbours
are ordered by it, then by id.

A row is open if it is live and `allow` admits it. A search among few open rows would spend its budget (lists, leaves
or candidates to look at) on closed ones. So if no more than `_scan_limit()` rows are open, they are scanned; otherwise
the budget is divided by their share, so that about as many open rows are met as without a filter. A query for which
the structure has fewer than k neighbours, though there are k, scans as well: removing rows never makes an answer
shorter.

A subclass provides

    _build()          makes the structure over self._vectors[: self._built]
    _candidates(queries, k, open_rows, share)
                      -> ids (n, any) of neighbours in the structure, -1 for none; share: of its rows that are open
    _scan_limit()     -> up to how many open rows a scan is cheaper than a search
    _STRUCTURE        the names of the arrays that the structure consists of
"""

import contextlib
from typing import NamedTuple

import numba
import numpy as np

from ..kernels import in_threads, kernel
from ..validation import check_array, check_choice, check_integer
from .candidates import exact_distance, is_beyond, measure, offer
from .panels import rounding_error, squared_lengths
from .storage import joined, read_arrays, write_arrays

METRICS = ("l2", "cosine", "ip")
LONGEST = 2.0**125  # of a vector: differences of it and another, and of these, are within float32
_ROWS = ("_vectors", "_ids", "_live")  # the table, as arrays


class Neighbors(NamedTuple):
    """What a search returns, nearest first, by (distance, id).

    ids (n, k) int64, -1 where there are fewer than k; distances (n, k) float32, ascending, +inf in the same places.
    """

    ids: np.ndarray
    distances: np.ndarray


def check_threads(threads):
    """`threads` as kernels may have them; None is as many as there are."""
    if threads is None:
        return None
    return check_integer(threads, "threads", minimum=1, maximum=numba.config.NUMBA_NUM_THREADS)


def check_build(threads, progress):
    """What a build is told, before anything changes."""
    check_threads(threads)
    if progress is not None and not callable(progress):
        raise ValueError(f"progress: expected a function of (done, total), got {progress!r}")


@contextlib.contextmanager
def thread_count(threads):
    """Kernels inside use `threads` threads; None changes nothing."""
    if threads is None:
        yield
        return
    before = numba.get_num_threads()
    numba.set_num_threads(check_threads(threads))
    try:
        yield
    finally:
        numba.set_num_threads(before)


@kernel
def _scan_rows(first, last, vectors, ids, queries, errors, metric, found, distances):
    """Offer every row that is not certainly too far to the lists of the queries first to last - 1."""
    for i in range(first, last):
        for row in range(len(vectors)):
            if not is_beyond(vectors[row], queries[i], distances[i, -1], errors[i], metric):
                offer(distances[i], found[i], exact_distance(vectors[row], queries[i], metric), ids[row])


def scan(vectors, ids, queries, k, metric="l2", largest_norm=0.0):
    """The ids (n, k) of the k nearest of `vectors` to each query, by (distance, id); -1 for none. Exact.

    largest_norm  for "ip": no |x| is larger
    """
    found, distances = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), np.inf, np.float32)
    if found.size:
        errors = np.zeros(len(queries))  # of inner products; sums of squares know theirs
        if metric == "ip":
            errors = rounding_error(np.sqrt(squared_lengths(queries)), largest_norm, queries.shape[1])
        arguments = vectors, ids, queries, errors, METRICS.index(metric), found, distances
        in_threads(len(queries), _scan_rows, *arguments, at_least=2)
    return found


@kernel
def _measure(first, last, vectors, rows, ids, queries, metric, found, distances, room):
    """`measure_rows` for the queries first to last - 1. metric: 0 l2, 1 cosine, 2 ip. INOUT found, distances."""
    kept, near = room
    for i in range(first, last):
        count = np.int64(0)  # a plain 0 is a type of its own, for which `measure` would be compiled once more
        for c in range(rows.shape[1]):
            if rows[i, c] >= 0:
                kept[count] = rows[i, c]
                count += 1
        measure(vectors, kept, count, queries[i], metric, near)
        for c in range(count):
            offer(distances[i], found[i], near[c], ids[kept[c]])


def measure_rows(vectors, rows, ids, queries, metric, k):
    """The k nearest of each query among vectors[rows] (n, m), -1 for none, by (distance, id) -> ids, distances (n, k).

    metric: "l2", "cosine", "ip"; distances as defined at the head of this file, -1 and +inf where there are fewer.
    """
    found, distances = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), np.inf, np.float32)
    arguments = vectors, rows, ids, queries, METRICS.index(metric), found, distances
    m = rows.shape[1]
    in_threads(
        len(queries), _measure, *arguments, at_least=64, room=lambda: (np.empty(m, np.int64), np.empty(m, np.float32))
    )
    return found, distances


def lengthened(vectors, length):
    """For "ip": vectors (n, d) with one coordinate more, which makes all of them so long."""
    squares = (vectors.astype(np.float64) ** 2).sum(1)
    last = np.sqrt(np.maximum(length**2 - squares, 0)).astype(np.float32)
    return joined([vectors, last[:, None]], 1)


class Index:
    """The base class of all indexes: fit, add, remove, search, save, load; see the head of this file.

    metric     "l2", "cosine" or "ip"
    len(index) the number of live vectors

    Vectors and queries are finite real numbers within the range of float32, of any dtype; they are stored and measured
    as float32. For "cosine" none may be zero; for "l2" and "ip" no number may be larger than 2^125 / sqrt(d). Ids are
    distinct integers >= 0. Whatever is not as described raises ValueError that names the argument, and changes nothing;
    so do add, remove, search and save before a fit.

    Extreme data: where squares leave float32, above some 10^18 or below some 10^-18, or for "ip" one vector is
    thousands of times as long as the others, structures cannot tell near from far. Only ExactIndex, KDTreeIndex,
    IVFIndex within its lists, and scans can.
    """

    _STRUCTURE = ()  # names of attributes that are arrays
    _progress = None  # whom `_report` tells, during a build

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

    def fit(self, vectors, ids=None, *, threads=None, progress=None):
        """Forget everything and index vectors (n, d), n >= 0, d >= 1, under `ids` (n,) or 0 to n - 1 -> self.

        threads    of the kernels; None: as many as Numba has
        progress   called as progress(done, total) while the structure is built, total = n, at last with done = total.
                   `done` / `total` is about the share of the work. An exception that it raises ends the fit, and
                   leaves an index that is not fitted.
        """
        check_build(threads, progress)
        vectors = check_array(vectors, "vectors", ndim=2)
        if vectors.shape[1] < 1:
            raise ValueError(f"vectors: expected at least one column, got shape {vectors.shape}")
        stored, norms = self._normal_form(vectors, "vectors")
        ids = self._new_ids(ids, len(vectors), np.empty(0, np.int64))
        self._dimension, self._largest_norm = vectors.shape[1], 0.0
        self._vectors, self._ids, self._live = stored[:0], ids[:0], np.zeros(0, bool)
        self._append(stored, ids, norms)
        self._rebuild(threads, progress)
        return self

    def add(self, vectors, ids=None, *, threads=None, progress=None):
        """Add vectors (n, d) under `ids` (n,), which must be new; None: the numbers after the largest. O(rows).

        Every so often this builds the structure anew: then `threads` and `progress` are those of `fit`.
        """
        self._check_fitted()
        check_build(threads, progress)
        vectors = check_array(vectors, "vectors", shape=(None, self._dimension))
        stored, norms = self._normal_form(vectors, "vectors")
        ids = self._new_ids(ids, len(vectors), self.ids)
        regrown = self._append(stored, ids, norms)
        if regrown or 8 * (len(self._ids) - self._built) > self._built + 2048:
            self._rebuild(threads, progress)
        else:
            self._changed()

    def remove(self, ids, *, threads=None, progress=None):
        """Remove the vectors with these ids (m,), each of which must be there. O(rows).

        Every so often this builds the structure anew, of the live rows: `threads` and `progress` as for `add`.
        """
        self._check_fitted()
        check_build(threads, progress)
        ids = self._check_ids(ids)
        rows = self._rows_of(ids)
        if (rows < 0).any():
            raise ValueError(f"ids: expected ids that are in the index, got {ids[rows < 0][0]}")
        self._live[rows] = False
        if 2 * self._live.sum() < len(self._live):
            self._rebuild(threads, progress)
        else:
            self._changed()

    def search(self, queries, k, *, allow=None, threads=None):
        """The k nearest of each query (n, d), by (distance, id) -> Neighbors(ids (n, k), distances (n, k)).

        k        >= 1; where there are fewer vectors, the rest are -1 and +inf
        allow    which vectors may be found: (len(index),) bool, one for each of self.ids, or distinct ids, of which
                 those that are not in the index are ignored; None: all
        threads  of the kernels; None: as many as Numba has. The answer has the same bits with any number, and a query
                 the same alone as in a batch

        Distances are float32: for "l2" the Euclidean distance in the unit of the vectors, for "cosine" 1 - cos (0 to
        2), for "ip" minus the inner product. They are exact for the neighbours returned; whether these are the true
        nearest depends on the index. Raises ValueError for bad arguments, and before a fit.
        """
        k = check_integer(k, "k", minimum=1)
        queries, open_rows = self._check_search(queries, allow)
        k_found = min(k, max(1, len(self) if open_rows is self._live else np.count_nonzero(open_rows)))
        with thread_count(threads):
            if k_found == k and len(queries):
                return Neighbors(*self._nearest(queries, k, open_rows))
            ids, distances = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), np.inf, np.float32)
            if len(queries):
                ids[:, :k_found], distances[:, :k_found] = self._nearest(queries, k_found, open_rows)
        return Neighbors(ids, distances)

    def _nearest(self, queries, k, open_rows):
        """The structure's candidates and the tail's, measured exactly."""
        n_open = int(np.count_nonzero(open_rows[: self._built]))
        if n_open <= self._scan_limit():
            candidates = self._scan(queries, k, np.flatnonzero(open_rows))
        else:
            tail = self._built + np.flatnonzero(open_rows[self._built :])
            candidates = self._candidates(queries, k, open_rows, n_open / self._built)
            candidates = np.concatenate([candidates, self._scan(queries, k, tail)], 1)
            self._complete(candidates, queries, k, open_rows)
        return measure_rows(self._vectors, self._rows_of(candidates), self._ids, queries, self.metric, k)

    def _complete(self, candidates, queries, k, open_rows):
        """Scan for the queries with fewer than k candidates. INOUT candidates (n, >= k)."""
        short = np.flatnonzero((candidates >= 0).sum(1) < k)
        if len(short):
            found = self._scan(queries[short], k, np.flatnonzero(open_rows))
            candidates[short] = -1
            candidates[short, : found.shape[1]] = found

    def _scan(self, queries, k, rows):
        """The ids of the nearest among some rows."""
        k = min(k, len(rows))
        return scan(self._vectors[rows], self._ids[rows], queries, k, self.metric, self._largest_norm)

    def _scan_limit(self):
        return 0

    def _structure_answers(self, open_rows):
        """Whether the structure has every row, and its search is cheaper than a scan of the open ones."""
        return self._built == len(open_rows) and np.count_nonzero(open_rows) > self._scan_limit()

    def _check_search(self, queries, allow):
        """The queries in the stored form, and the rows that may be found."""
        self._check_fitted()
        queries = check_array(queries, "queries", shape=(None, self._dimension))
        queries, _ = self._normal_form(queries, "queries")
        if self.metric == "ip":
            queries = np.concatenate([queries, np.zeros((len(queries), 1), np.float32)], 1)
        return queries, self._open_rows(allow)

    # Rows.

    def _check_fitted(self):
        if self._dimension is None:
            raise ValueError("index: expected one that was fitted, got one that is empty; call fit first")

    def _check_ids(self, ids, name="ids"):
        """`ids` as int64, or ValueError unless they are distinct integers from 0."""
        ids = check_array(ids, name, ndim=1)
        if ids.size and ids.dtype.kind not in "iu":
            raise ValueError(f"{name}: expected integers, got dtype {ids.dtype}")
        if ids.size and ids.max() > np.iinfo(np.int64).max:
            raise ValueError(f"{name}: expected numbers below 2^63, got {ids.max()}")
        ids = ids.astype(np.int64)
        if ids.size and ids.min() < 0:
            raise ValueError(f"{name}: expected numbers >= 0, got {ids.min()}")
        unique, count = np.unique(ids, return_counts=True)
        if (count > 1).any():
            raise ValueError(f"{name}: expected distinct ids, got {unique[count > 1][0]} twice")
        return ids

    def _new_ids(self, ids, n, present):
        """The ids of n new vectors: those given, if none is in `present`, or the numbers after the largest."""
        if ids is None:
            start = 0 if len(present) == 0 else int(present.max()) + 1
            if start + n - 1 > np.iinfo(np.int64).max:
                raise ValueError(f"ids: expected to be given, as there are none after {start - 1}")
            return np.arange(start, start + n, dtype=np.int64)
        ids = self._check_ids(ids)
        if len(ids) != n:
            raise ValueError(f"ids: expected one for each of {n} vectors, got {len(ids)}")
        known = np.isin(ids, present)
        if known.any():
            raise ValueError(f"ids: expected new ids, got {ids[known][0]}, which is in the index")
        return ids

    def _normal_form(self, vectors, name):
        """float32 vectors, of unit length for "cosine", and their norms (not for "l2"); ValueError if not finite."""
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(vectors, np.float32)
        largest = float(max(stored.max(initial=0), -stored.min(initial=0)))
        if not np.isfinite(largest):
            check_array(vectors, name, finite=True)
            raise ValueError(f"{name}: expected values within float32, got {np.abs(vectors).max()}")
        if self.metric != "cosine" and largest * np.sqrt(stored.shape[1]) > LONGEST:
            raise ValueError(f"{name}: expected values up to {LONGEST:.3g} / sqrt(d) for {self.metric}, got {largest}")
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
            if regrown:  # by a tenth at least, so that vectors of ever larger norms cost O(log) builds too
                self._largest_norm = max(float(norms.max()), 1.1 * self._largest_norm)
            self._vectors = lengthened(stored, self._largest_norm)
        else:
            self._vectors = joined([self._vectors, stored])
        self._ids = np.concatenate([self._ids, ids])
        self._live = np.concatenate([self._live, np.ones(len(ids), bool)])
        return regrown

    def _rebuild(self, threads, progress):
        """Drops what was removed and builds the structure of the rest; after an interruption the index is unfitted."""
        if not self._live.all():
            self._vectors, self._ids = joined([self._vectors[self._live]]), self._ids[self._live]
            self._live = np.ones(len(self._ids), bool)
            if self.metric == "ip":  # the longest may be gone; the tenth that `_append` gives for growth stays
                kept = self._vectors[:, : self._dimension]
                longest = float(np.sqrt((kept.astype(np.float64) ** 2).sum(1).max(initial=0)))
                if 1.1 * longest < self._largest_norm:
                    self._largest_norm, self._vectors = longest, lengthened(kept, longest)
        self._built, self._progress = len(self._ids), progress
        try:
            with thread_count(threads):
                self._build()
            self._report(1.0)
        except BaseException:
            self._dimension = None  # half a structure is none
            raise
        finally:
            self._progress = None
        self._changed()

    def _report(self, share):
        """For `_build` to call: this share of the work is done."""
        if self._progress is not None:
            self._progress(int(share * self._built), self._built)

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
            rows = self._rows_of(self._check_ids(allow, "allow"))
            open_rows[rows[rows >= 0]] = True
        return open_rows

    # Files; storage.py has their format.

    def save(self, path):
        """Write the index to `path` in one step: whoever reads it finds all of it, or what was there before.

        Folders that are missing are made. storage.py has the format.
        """
        self._check_fitted()
        state = {"dimension": self._dimension, "built": self._built, "largest_norm": self._largest_norm}
        about = {"index": type(self).__name__, "state": state}
        about["settings"] = {name: getattr(self, name) for name in self._settings}
        write_arrays(path, about, {name: getattr(self, name) for name in (*_ROWS, *self._STRUCTURE)})

    @classmethod
    def load(cls, path):
        """The index that was saved to `path`, its arrays mapped from the file, which never changes -> an index.

        ValueError if a byte is not as saved, or the index is of another class. O(bytes), for the checksum.
        """
        about, arrays = read_arrays(path)
        if about["index"] != cls.__name__:
            raise ValueError(f"path: expected a {cls.__name__}, got a {about['index']}")
        index, state = cls(**about["settings"]), about["state"]
        for name, array in arrays.items():
            setattr(index, name, array)
        index._dimension, index._built, index._largest_norm = state["dimension"], state["built"], state["largest_norm"]
        index._changed()
        return index
