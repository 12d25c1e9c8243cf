"""Locality-sensitive hashing: vectors that are near share a bucket more often than vectors that are far.

A hash function looks along one random direction a. Two families, by metric:

    cosine    h(x) = 1 if a.x >= 0 else 0            which side of a random hyperplane (Charikar 2002)
    l2        h(x) = floor((a.x + b) / width)        which slab, b uniform in [0, width) (E2LSH, Datar et al. 2004)
    ip        cosine, after x -> (x, sqrt(M^2 - |x|^2)) and q -> (q, 0), M the largest norm (Neyshabur and Srebro 2015)

A table keys its buckets by `bits` such functions at once. One table misses many neighbours, so there are several,
and a query looks into the same number of buckets in all or, by multi-probe, into more. lsh_theory.py has the
probabilities.

Query-directed multi-probe (Lv et al. 2007). A neighbour that is not in the query's bucket is most likely in one next
to it: where the query lies close to a hyperplane or to the edge of a slab, the neighbour is on the other side. A
step moves one function of one table to its next value; its cost is the squared distance of the query to the edge it
crosses, and a bucket's cost is the sum over the steps that lead to it (the smaller, the likelier, for normal
projections). Buckets are visited by cost over all tables together, taken from one priority queue. To produce the
sets of steps of a table in order, sort its steps by cost, and let a set with last step s have two successors:

    expand    also take step s + 1
    shift     take step s + 1 in place of s

From the empty set these make every set once, none cheaper than its parent. Sets that move one function both ways
name no bucket and are passed over. A larger number of probes visits all that a smaller one visits, and more.

Layout in memory, for each table: `starts` (buckets + 1) and `rows` (n), the row numbers sorted by bucket: bucket b
is rows[starts[b] : starts[b + 1]]. The key of a bucket is sum_f multipliers[f] h_f mod 2^64, shifted right: with
powers of two the bits themselves, with random odd numbers a universal hash of the slabs (Dietzfelbinger et al.
1997). A step adds or subtracts one multiplier.
"""

import numpy as np
from numba import njit

from ..kernels import SUMS, in_threads, inner, kernel
from ..validation import check_integer, check_number
from .bits import lowest_bit
from .candidates import offer, squared_distance
from .index import Index
from .priority_queue import drop_first, push


@njit(cache=True, nogil=True, fastmath=SUMS)
def _project(first, last, vectors, directions, out):
    """OUT out[i, p] = sum_j vectors[i, j] directions[j, p], each sum in the order of j: a row's result is its own."""
    for i in range(first, last):
        for p in range(directions.shape[1]):
            out[i, p] = 0
        for j in range(directions.shape[0]):
            x = vectors[i, j]
            for p in range(directions.shape[1]):
                out[i, p] += x * directions[j, p]


def project(vectors, directions):
    """vectors (n, d) @ directions (d, p) -> (n, p) float32, whose rows depend on nothing else in the batch."""
    out = np.empty((len(vectors), directions.shape[1]), np.float32)
    in_threads(len(vectors), _project, vectors, directions, out, at_least=64)
    return out


@kernel
def _fill_tables(first, last, keys, starts, rows):
    """A counting sort of the rows by key, for tables first to last - 1: keys (tables, n), OUT starts (= 0), rows."""
    for t in range(first, last):
        start = starts[t]
        for i in range(keys.shape[1]):
            start[keys[t, i] + 1] += 1
        for b in range(1, len(start)):
            start[b] += start[b - 1]
        for i in range(keys.shape[1]):
            rows[t, start[keys[t, i]]] = i
            start[keys[t, i]] += 1
        for b in range(len(start) - 1, 0, -1):  # every start has moved to its end, which is the next start
            start[b] = start[b - 1]
        start[0] = 0


@inner
def _sort_steps(costs, steps):
    """Sort both by cost (insertion sort; a table has few steps). INOUT."""
    for i in range(1, len(costs)):
        cost, step, at = costs[i], steps[i], i
        while at > 0 and costs[at - 1] > cost:
            costs[at], steps[at] = costs[at - 1], steps[at - 1]
            at -= 1
        costs[at], steps[at] = cost, step


@inner
def _bucket(base, multipliers, steps, chosen):
    """The key that the chosen steps lead to from `base`, and the last of them; last = -2 if two steps undo each other.

    Step 2 f lowers the value of function f by one, step 2 f + 1 raises it.
    """
    key, moved, valid, last = base, np.uint64(0), True, -1
    while chosen:
        last = lowest_bit(chosen)
        chosen &= chosen - np.uint64(1)
        step = steps[last]
        function = np.uint64(1) << np.uint64(step >> 1)
        valid = valid and moved & function == 0
        moved |= function
        key = key + multipliers[step >> 1] if step & 1 else key - multipliers[step >> 1]
    return key, last, valid


def _room(n, tables, bits, probes):
    """For `_search_tables`: marks (n,); the queue, sets of bits and their tables; keys, costs and steps of a query."""
    waiting = tables + 2 * _most_sets(probes)
    scores, entries = np.empty(waiting), np.empty(waiting, np.int64)
    sets, table_of = np.empty(waiting, np.uint64), np.empty(waiting, np.int64)
    cost, steps = np.empty((tables, 2 * bits)), np.empty((tables, 2 * bits), np.int64)
    return np.full(n, -1, np.int32), scores, entries, sets, table_of, np.empty(tables, np.uint64), cost, steps


@kernel
def _most_sets(probes):
    """How many sets a query takes from its queue at most, each of which leaves two others in it.

    More than there are probes: a set that moves one function both ways names no bucket.
    """
    return 4 * probes + 64


@kernel
def _search_tables(
    first_query, last_query, vectors, ids, open_rows, starts, rows, multipliers, shift, values, costs, queries,
    probes, found, distances, room,
):  # fmt: skip
    """OUT found (n, k) = -1, distances (n, k) = inf: the nearest in the `probes` cheapest buckets of all tables.

    For the queries first_query to last_query - 1.

    values (n, tables, bits) int64: the hash values of the queries; costs (n, tables, bits, 2): of lowering and raising
    each, +inf where there is no such value. multipliers (tables, bits) uint64. open_rows (rows of data,) bool.
    """
    tables, bits = multipliers.shape
    pops, (seen, scores, entries, sets, table_of, base, cost, steps) = _most_sets(probes), room
    for i in range(first_query, last_query):
        query, nearest, nearest_ids = queries[i], distances[i], found[i]
        for t in range(tables):
            base[t] = 0
            for f in range(bits):
                base[t] += multipliers[t, f] * np.uint64(values[i, t, f])
                for up in range(2):
                    cost[t, 2 * f + up], steps[t, 2 * f + up] = costs[i, t, f, up], 2 * f + up
            _sort_steps(cost[t], steps[t])
            scores[t], entries[t], sets[t], table_of[t] = 0.0, t, 0, t
        waiting, made, probed, popped = tables, tables, 0, 0
        while waiting and probed < probes and popped < pops:
            popped += 1
            score, entry = scores[0], entries[0]
            drop_first(scores, entries, waiting)
            waiting -= 1
            t, chosen = table_of[entry], sets[entry]
            key, last, valid = _bucket(base[t], multipliers[t], steps[t], chosen)
            if last + 1 < 2 * bits and cost[t, last + 1] < np.inf:
                expanded = chosen | np.uint64(1) << np.uint64(last + 1)
                sets[made], table_of[made] = expanded, t
                push(scores, entries, waiting, score + cost[t, last + 1], made)
                made, waiting = made + 1, waiting + 1
                if last >= 0:
                    sets[made], table_of[made] = expanded ^ np.uint64(1) << np.uint64(last), t
                    push(scores, entries, waiting, score + cost[t, last + 1] - cost[t, last], made)
                    made, waiting = made + 1, waiting + 1
            if not valid:
                continue
            bucket = np.int64(key >> shift)
            counts = starts[t, bucket] == starts[t, bucket + 1]
            for at in range(starts[t, bucket], starts[t, bucket + 1]):
                row = rows[t, at]
                if open_rows[row]:
                    counts = True
                    if seen[row] != i:
                        seen[row] = i
                        offer(nearest, nearest_ids, squared_distance(query, vectors[row]), ids[row])
            probed += counts  # one that a filter closes does not


class LSHIndex(Index):
    """Approximate nearest neighbours by locality-sensitive hashing.

    tables   hash tables
    bits     hash functions to a table; None: so many that a bucket holds some 12 vectors
    probes   buckets visited for a query, over all tables; None: 10 to a table
    width    of a slab, for "l2"; None: twice the deviation of the projections, so that a function says about one bit
    seed     of the directions

    Build O(n d tables bits); search O(d tables bits) a query, and O(d) for each different vector in the buckets; memory
    beside the vectors: 4 bytes a vector and 4 a bucket for each table (of signs 2^bits buckets, of slabs up to 2 n). A
    call also fills 4 bytes for each vector. lsh_theory.py has what recall to expect.
    """

    _STRUCTURE = ("_directions", "_shifts", "_widths", "_multipliers", "_starts", "_rows")

    def __init__(self, *, metric="l2", tables=10, bits=None, probes=None, width=None, seed=0):
        super().__init__(metric, tables=tables, bits=bits, probes=probes, width=width, seed=seed)
        self.tables = check_integer(tables, "tables", minimum=1)
        most = 32 if metric == "l2" else 26  # signs address a table of 2^bits buckets directly
        self.bits = None if bits is None else check_integer(bits, "bits", minimum=1, maximum=most)
        self.probes = 10 * self.tables if probes is None else check_integer(probes, "probes", minimum=1, maximum=2**31)
        self.width = None if width is None else check_number(width, "width", above=0)
        if width is not None and metric != "l2":
            raise ValueError(f"width: expected None for {metric}, whose functions are signs, got {width}")
        self.seed = check_integer(seed, "seed", minimum=0)

    def _build(self):
        """Draws the hash functions, and sorts the rows of each table by the key of their bucket."""
        n, d = self._vectors.shape
        bits = self.bits or int(np.clip(np.round(np.log2(max(n, 1) / 12)), 1, 26))
        rng = np.random.default_rng(self.seed)
        self._directions = rng.standard_normal((d, self.tables * bits)).astype(np.float32)
        if self.metric == "l2":
            sample = self._project(self._vectors[:: max(1, n // 1000)])
            width = self.width or (2 * float(sample.std()) if n else 0) or 1.0
            self._widths, self._shifts = np.float64([width]), width * rng.random((self.tables, bits))
            size = max(4, (max(n, 1) - 1).bit_length())
            self._multipliers = rng.integers(0, 2**63, (self.tables, bits), np.uint64) * np.uint64(2) + np.uint64(1)
        else:
            self._widths, self._shifts, size = np.empty(0), np.zeros((self.tables, bits)), bits
            self._multipliers = np.tile(np.uint64(1) << np.arange(bits, dtype=np.uint64), (self.tables, 1))
        self._starts = np.zeros((self.tables, 2**size + 1), np.int32)
        self._rows = np.empty((self.tables, n), np.int32)
        keys = np.empty((self.tables, n), np.int64)
        for start in range(0, n, 4096):  # a block at a time: the hash values of all take much room
            values, _ = self._hash(self._project(self._vectors[start : start + 4096]), costs=False)
            sums = (values.astype(np.uint64) * self._multipliers).sum(2, dtype=np.uint64)
            keys[:, start : start + 4096] = (sums >> self._key_shift()).T
            self._report(start / n)
        in_threads(self.tables, _fill_tables, keys, self._starts, self._rows, at_least=1)

    def _key_shift(self):
        """A hash of slabs keeps the top digits of the 64 of a key; a key of signs is the bucket."""
        return np.uint64(64 - (self._starts.shape[1] - 1).bit_length() + 1 if self.metric == "l2" else 0)

    def _project(self, vectors):
        return project(vectors, self._directions)

    def _hash(self, projections, costs=True):
        """values (n, tables, bits) int64, and the costs (n, tables, bits, 2) of lowering and of raising each."""
        projections = projections.reshape(len(projections), *self._multipliers.shape)
        if self.metric == "l2":
            places = (projections + self._shifts) / self._widths[0]
            values = np.floor(places)
            inside = places - values
            both = np.stack([inside**2, (1 - inside) ** 2], 3) if costs else None
            return values.astype(np.int64), both
        values = projections >= 0
        squares = projections.astype(np.float64) ** 2
        both = np.stack([np.where(values, squares, np.inf), np.where(values, np.inf, squares)], 3) if costs else None
        return values.astype(np.int64), both

    def _scan_limit(self):
        """Of n rows with n_open open, a scan measures n_open, a search some probes bucket n / n_open."""
        return int(np.sqrt(1.5 * self.probes * max(1, self._built >> self._multipliers.shape[1]) * self._built))

    def _candidates(self, queries, k, open_rows, share):
        """Ids of the k nearest among the rows of the probed buckets; probes in proportion to what is closed."""
        found, squared = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), np.inf, np.float32)
        values, costs = self._hash(self._project(queries))
        probes = int(np.ceil(self.probes / share))
        tables = self._starts, self._rows, self._multipliers, self._key_shift()
        arguments = self._vectors, self._ids, open_rows, *tables, values, costs, queries, probes, found, squared
        shape = self._multipliers.shape
        in_threads(
            len(queries), _search_tables, *arguments, at_least=2,
            room=lambda: _room(len(self._vectors), *shape, probes),
        )  # fmt: skip
        return found
