"""Inverted lists of RaBitQ codes: only the vectors that the error bound cannot rule out are measured exactly.

The lists are those of IVF (ivf.py): one a k-means cluster, a query looks into the few with the nearest centroids. Each
vector in a list has a code of one bit a dimension (rabitq.py), which gives an estimate of its distance and, by the
error bound, a lower bound that the distance is hardly ever below. The exact distance is computed only where the lower
bound is within the k-th smallest exact distance so far. So there is no number of candidates to choose: eps0 says how
sure to be.

Queries are sorted by their nearest list, and go through their lists nearest first, each on its own: what it finds
depends on no other. Neighbours in that order read the same codes and the same vectors, from the cache.

Layout in memory, list after list, each filled up to whole blocks of LANES = 32:

    starts (L + 1,)               list l has the blocks starts[l] to starts[l + 1] - 1
    codes (blocks, quads, 64)     uint8, two 4-bit digits a byte (byte_shuffle.py): d / 8 bytes a vector
    factors (blocks, 3, 32)       float32: bias, scale, spread (rabitq.py); bias +inf in lanes without a vector
    rows (blocks, 32)             the row in the table of the index

What limits it: operations on bytes. 32 codes of 128 bits take 16 times a load, two shuffles and six more, some 5
instructions a code; a vector that is measured takes 512 bytes from memory.
"""

import numpy as np

from ..kernels import in_threads, inlined, inner, inner_sum, kernel
from ..matrix_product import matrix_product
from ..validation import check_integer, check_number
from .bits import lowest_bit
from .byte_shuffle import LANES, block_scores, lanes_up_to
from .candidates import measure, offer, offer_row, squared_distance
from .fast_scan import in_lanes, pack_codes
from .gather import LINE, prefetch
from .index import METRICS, Index
from .ivf import choose_lists, coarse_centroids, list_scan_limit, listed_rows
from .kmeans import assign, group_by_label
from .panels import rounding_error
from .rabitq import encode, query_tables, random_rotation, table_error

COST = 0.3  # of a code, in rows scanned (`list_scan_limit`)


@inner_sum
def _lower_bounds(shifts, factors, block, base, width, lower):
    """OUT lower (LANES,): base + bias - f shift - g width."""
    for j in range(LANES):
        lower[j] = base + factors[block, 0, j] - factors[block, 1, j] * shifts[j] - factors[block, 2, j] * width


@inner
def _ask_for_list(starts, codes, factors, list_):
    """Fetch the codes and factors of a list, which will be needed soon."""
    size = codes.shape[1] * codes.shape[2]
    for at in range(starts[list_] * size, starts[list_ + 1] * size, 64):
        prefetch(codes, at)
    for at in range(starts[list_] * 3 * LANES, starts[list_ + 1] * 3 * LANES, LINE):
        prefetch(factors, at)


@inlined
def _before(score, place, other_score, other_place):
    return score < other_score or (score == other_score and place < other_place)


@inner
def smallest_first(scores, places, n, r):
    """Reorder the first n so that the r least by (score, place) come first; n >= r >= 1. INOUT. Hoare's selection."""
    low, high = 0, n - 1
    while low < high:
        middle = (low + high) // 2
        pivot, at = scores[middle], places[middle]
        i, j = low, high
        while i <= j:
            while _before(scores[i], places[i], pivot, at):
                i += 1
            while _before(pivot, at, scores[j], places[j]):
                j -= 1
            if i <= j:
                scores[i], scores[j] = scores[j], scores[i]
                places[i], places[j] = places[j], places[i]
                i, j = i + 1, j - 1
        if r - 1 <= j:
            high = j
        elif r - 1 >= i:
            low = i
        else:
            break
    return


@inner
def _measure(count, bounds, rows, vectors, ids, query, limit, near, found):
    """Those of the rows whose bound is still within the k-th best, measured -> how many. INOUT near, found.

    `limit` and the bounds decide first, so that what is left can be asked for before it is needed.
    """
    d, kept = vectors.shape[1], np.int64(0)  # a plain 0 is a type of its own, and compiles a callee once more
    for c in range(count):
        if bounds[c] <= limit:
            bounds[kept], rows[kept] = bounds[c], rows[c]
            kept += 1
    if kept > len(near):  # the most promising first: they lower the limit for the others
        smallest_first(bounds, rows, kept, len(near))
    for c in range(kept):
        for at in range(0, d, LINE):
            prefetch(vectors, np.int64(rows[c]) * d + at)
    count = 0
    for c in range(kept):
        if bounds[c] <= near[-1]:
            offer_row(near, found, ids, squared_distance(vectors[rows[c]], query), np.int64(rows[c]))
            count += 1
    return count


@inner
def _nearest_in_lists(
    lists, centers, open_rows, probes, turned, tables, step, offset, error, slack, eps0, vectors, ids, query, near,
    found, room,
):  # fmt: skip
    """The k nearest to one query in its lists -> how many were measured. INOUT near, found (k,).

    probes (m,): the lists, nearest first, -1 for none; `turned`, and the lists' centers, are in the space of the codes.
    The bounds of a vector are

        |s|^2 + bias - 2 f (step S - offset)  -+  2 eps0 (f error + g |s|)  -+  slack

    What is let through has a lower bound within the k-th least upper bound so far, and within the k-th distance.
    """
    starts, codes, factors, code_rows = lists
    bounds, rows, shifts, lower, zeros, uppers = room
    quads, last, measured, two = codes.shape[1], len(near) - 1, 0, np.float32(2)
    for c in range(len(uppers)):
        uppers[c] = np.inf
    error = two * np.float32(eps0) * error
    for p in range(len(probes)):
        list_ = probes[p]
        if list_ < 0:
            continue
        if p + 1 < len(probes) and probes[p + 1] >= 0:
            _ask_for_list(starts, codes, factors, probes[p + 1])
        square = squared_distance(turned, centers[list_])
        width, base = two * np.float32(eps0) * np.sqrt(square), square - slack
        count, limit = np.int64(0), min(near[last], uppers[last])
        for block in range(starts[list_], starts[list_ + 1]):
            block_scores(
                codes, block * 2 * quads * LANES, tables, quads, two * step, error - two * offset, zeros, 0,
                np.float32(0), shifts,
            )  # fmt: skip
            _lower_bounds(shifts, factors, block, base, width, lower)
            passing = lanes_up_to(lower, 0, limit)
            while passing:
                j = lowest_bit(passing)
                passing &= passing - np.uint64(1)
                row = code_rows[block, j]
                if row >= 0 and open_rows[row] and lower[j] <= limit:
                    bounds[count], rows[count] = lower[j], row
                    count += 1
                    upper = lower[j] + two * (slack + factors[block, 1, j] * error + factors[block, 2, j] * width)
                    if upper < uppers[last]:
                        at = last
                        while at > 0 and uppers[at - 1] > upper:
                            uppers[at] = uppers[at - 1]
                            at -= 1
                        uppers[at] = upper
                        limit = min(limit, uppers[last])
        measured += _measure(count, bounds, rows, vectors, ids, query, limit, near, found)
    return measured


def _room(starts, k):
    """For `_nearest_in_lists`: bounds and rows of the longest list, three times LANES numbers, k upper bounds; for
    `_search`: what is nearest, by which row, and its exact distance."""
    longest = LANES * int(np.diff(starts).max(initial=0))
    bounds, rows, lanes = np.empty(longest, np.float32), np.empty(longest, np.int32), np.zeros((3, LANES), np.float32)
    kept = np.empty(k, np.float32), np.empty(k, np.int64), np.empty(k, np.float32)
    return (bounds, rows, *lanes, np.empty(k, np.float32)), *kept


@kernel
def _search(
    first, last, lists, centers, open_rows, vectors, ids, metric, order, probes, queries, turned, tables, numbers, eps0,
    found, distances, counts, room,
):  # fmt: skip
    """OUT found (n, k) = -1, distances = inf: the k nearest, by the distances that index.py defines, and by id.

    lists: starts, codes, factors, code_rows; numbers (4, n): step, offset, table error and slack of each query, see
    `_nearest_in_lists`; OUT counts (n,): how many vectors were measured. For the queries order[first:last].
    """
    k, (room_in_lists, near, rows, exact) = found.shape[1], room
    for i in order[first:last]:
        for c in range(k):
            near[c], rows[c] = np.inf, -1
        counts[i] = _nearest_in_lists(
            lists, centers, open_rows, probes[i], turned[i], tables[i], numbers[0, i], numbers[1, i], numbers[2, i],
            numbers[3, i], eps0, vectors, ids, queries[i], near, rows, room_in_lists,
        )  # fmt: skip
        n_found = np.int64(0)  # a type of its own, if it were a plain 0
        while n_found < k and rows[n_found] >= 0:
            n_found += 1
        measure(vectors, rows, n_found, queries[i], metric, exact)
        for c in range(n_found):
            offer(distances[i], found[i], exact[c], ids[rows[c]])


@kernel
def _rank_groups(first, last, groups, queries, found, squared):
    """Offer every group to the lists of the queries first to last - 1."""
    for i in range(first, last):
        for group in range(len(groups)):
            offer(squared[i], found[i], squared_distance(queries[i], groups[group]), group)


def nearest_groups(groups, queries, m):
    """The m nearest groups of lists (n, m) by float32 squares, which is enough to say where to look first."""
    found, squared = np.full((len(queries), m), -1, np.int64), np.full((len(queries), m), np.inf, np.float32)
    in_threads(len(queries), _rank_groups, groups, queries, found, squared, at_least=2)
    return found


class RaBitQIndex(Index):
    """Approximate nearest neighbours by one bit a dimension, measuring exactly what an error bound lets through.

    lists    L, the number of lists; None: 4 sqrt(n)
    probes   lists to look into for each query; more where these hold fewer than k
    eps0     width of the bound, in deviations: a vector is passed over if its estimate minus eps0 deviations is beyond
             the k-th best. One that belongs to the k best is passed over with probability exp(-eps0^2 / 2) at most. 0
             trusts the estimates, and a few tens measure everything
    seed     of the clustering, the rotation and the rounding

    Build O(n d (L + d)); search O(d (L + d) + (d / 8) probes n / L) a query, and O(d) for each vector measured; memory
    beside the vectors: d / 8 + 16 bytes a vector.
    """

    _STRUCTURE = (
        "_center", "_rotation", "_dither", "_centroids", "_largest", "_starts", "_codes", "_factors", "_code_rows",
        "_groups", "_group_starts", "_list_codes", "_list_factors", "_list_rows",
    )  # fmt: skip

    def __init__(self, *, metric="l2", lists=None, probes=8, eps0=1.9, seed=0):
        super().__init__(metric, lists=lists, probes=probes, eps0=eps0, seed=seed)
        self.lists = None if lists is None else check_integer(lists, "lists", minimum=1)
        self.probes = check_integer(probes, "probes", minimum=1)
        self.eps0 = check_number(eps0, "eps0", minimum=0)
        self.seed = check_integer(seed, "seed", minimum=0)

    def _build(self):
        """Rotates, partitions, and keeps the signs and factors of each residual; of each centroid too, in groups."""
        n, d = self._vectors.shape
        rng = np.random.default_rng(self.seed)
        self._center = np.zeros(d, np.float32)
        if n:
            self._center = self._vectors.mean(0, dtype=np.float64).astype(np.float32)
        self._rotation = random_rotation(d, rng)
        self._dither = rng.random((-(-d // 4), 16), np.float32)
        turned = matrix_product(self._vectors - self._center, self._rotation)
        centroids = coarse_centroids(turned, self.lists or int(4 * np.sqrt(n)), self.seed)
        self._report(0.7)
        self._groups = coarse_centroids(centroids, int(np.sqrt(len(centroids))), self.seed)
        self._centroids = centroids[np.argsort(assign(centroids, self._groups), kind="stable")]
        self._largest = np.sqrt((turned**2).sum(1).max(initial=0, keepdims=True))
        labels = assign(turned, self._centroids)
        self._starts, self._codes, self._factors, self._code_rows = _code_lists(turned, self._centroids, labels)
        labels = assign(self._centroids, self._groups)
        self._group_starts, self._list_codes, self._list_factors, self._list_rows = _code_lists(
            self._centroids, self._groups, labels
        )

    def _changed(self):
        super()._changed()
        self._listed = listed_rows(self._starts, self._code_rows, self._live)

    def _scan_limit(self):
        return list_scan_limit(self._built, self.probes, len(self._centroids), COST)

    def _in_lists(self, queries, k, open_rows):
        """Ids and distances of the k nearest in the lists, -1 and inf for none; how many were measured.

        The lists are found as the vectors are: centroids have codes, in the lists of groups of centroids. Half of the
        groups, and more where many lists are wanted, are looked into.
        """
        turned = matrix_product(queries - self._center, self._rotation)
        tables, steps, offsets = query_tables(turned, self._dither)
        norms = np.sqrt(np.einsum("ij,ij->i", turned, turned))
        slacks = 4 * rounding_error(norms, 3 * self._largest[0], turned.shape[1])
        numbers = np.array([steps, offsets, table_error(steps, len(self._dither)), slacks], np.float32)
        n_groups, n_lists = len(self._groups), len(self._centroids)
        every, list_ids = np.ones(n_lists, bool), np.arange(n_lists)
        of_lists = self._group_starts, self._list_codes, self._list_factors, self._list_rows
        of_rows = self._starts, self._codes, self._factors, self._code_rows

        def search(some, lists, centers, open_rows, vectors, ids, metric, probes, queries, k):
            n = len(probes)
            found, distances = np.full((n, k), -1, np.int64), np.full((n, k), np.inf, np.float32)
            counts = np.empty(n, np.int64)
            in_threads(
                n, _search, lists, centers, open_rows, vectors, ids, METRICS.index(metric),
                np.argsort(probes[:, 0], kind="stable"), probes, queries, turned[some], tables[some],
                numbers[:, some], self.eps0, found, distances, counts, at_least=8,
                room=lambda: _room(lists[0], k),
            )  # fmt: skip
            return found, distances, counts

        def rank(some, m):
            of_groups = min(n_groups, n_groups // 2 + -(-2 * m * n_groups // n_lists))
            groups = nearest_groups(self._groups, turned[some], of_groups)
            return search(
                some, of_lists, self._groups, every, self._centroids, list_ids, "l2", groups, turned[some], m
            )[0]

        probes = choose_lists(rank, len(queries), self.probes, self._listed, open_rows, k)
        every_query = np.arange(len(queries))
        return search(
            every_query, of_rows, self._centroids, open_rows, self._vectors, self._ids, self.metric, probes, queries, k
        )

    def _candidates(self, queries, k, open_rows, share):
        return self._in_lists(queries, k, open_rows)[0]

    def _nearest(self, queries, k, open_rows):
        """By the lists; rows added since and few open ones are scanned."""
        if not self._structure_answers(open_rows):
            return super()._nearest(queries, k, open_rows)
        found, distances, _ = self._in_lists(queries, k, open_rows)
        short = np.flatnonzero(found[:, -1] < 0)  # where no bound is a number
        if len(short):
            found[short], distances[short] = super()._nearest(queries[short], k, open_rows)
        return found, distances


def _code_lists(turned, centroids, labels):
    """turned (n, d) in the lists of centroids (L, d) -> starts (L + 1,), codes, factors, code_rows; see the head."""
    order, starts = group_by_label(labels, len(centroids))
    own = labels[order]
    digits, factors = encode(turned[order] - centroids[own], centroids, own)
    block_starts, codes, lanes = pack_codes(digits, starts)
    factors = [in_lanes(row, lanes, len(codes), empty) for row, empty in zip(factors, (np.inf, 0, 0))]
    code_rows = in_lanes(order.astype(np.int32), lanes, len(codes), -1)
    return block_starts, codes, np.stack(factors, 1), code_rows
