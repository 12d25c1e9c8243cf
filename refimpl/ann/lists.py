"""Vectors in lists, and the nearest of those in some of the lists: what IVF-Flat searches.

A list that is read for one query alone is limited by bytes. So a batch is turned around: its (query, probe) pairs are
grouped by list, and a list is multiplied with all the queries that probe it, ROWS at a time (panels.py). The scores
go to a buffer, one run of them a pair. Then each query lays its own runs side by side and finds the k best scores by
counting (`fast_scan.threshold`); it measures those vectors, which gives it a limit, and then whatever else is not below
the limit. The two steps share nothing between threads, and no score depends on which queries are in the batch.

The limit is lowered by what float32 scores may be off, so that the answer is that of a sort of all vectors in the
probed lists by (distance, id). Scores may also be bounds, of projected vectors (principal.py): then the scan reads
and multiplies depth + 1 coordinates in place of d, and a few more vectors are measured.

Layout in memory: lists follow each other, each filled up to whole panels.
"""

from typing import NamedTuple

import numpy as np

from ..kernels import in_threads, inlined, inner, kernel
from ..microkernel import COLUMNS, ROWS, pack_panels, tile_product
from .bits import lowest_bit
from .byte_shuffle import LANES, lanes_up_to
from .candidates import is_beyond, measure, offer
from .fast_scan import threshold
from .gather import ask_for
from .index import METRICS
from .kmeans import group_by_label
from .panels import rounding_error, squared_lengths
from .principal import project
from .tiles import start_tile

CHUNK = 64 // ROWS * ROWS  # queries that a list is multiplied with in one task: whole tiles
SCORES = 1 << 23  # scores in the buffer, about: 32 MB
FEW = 8  # vectors that are measured at once
L2, IP = METRICS.index("l2"), METRICS.index("ip")


class Lists(NamedTuple):
    """Vectors, packed list by list.

    starts (L + 1,)              list l has the panels starts[l] to starts[l + 1] - 1
    panels (panels, e, COLUMNS)  coordinate by coordinate
    biases (panels, COLUMNS)     -|x|^2 / 2; -inf in lanes without a vector
    lane_rows (panels, COLUMNS)  the row in the table, -1 in lanes without one
    axes (d, e - 1)              of the projection; (d, 0): none, and e = d
    longest                      the largest |x|, about
    """

    starts: np.ndarray
    panels: np.ndarray
    biases: np.ndarray
    lane_rows: np.ndarray
    axes: np.ndarray
    longest: float


def longest_vector(biases):
    """The largest |x| of biases -|x|^2 / 2, to float32."""
    return float(np.sqrt(-2.0 * biases[np.isfinite(biases)].min(initial=0.0)))


def make_lists(vectors, labels, n_lists, axes=None):
    """vectors (n, d) grouped by label -> Lists. axes (d, depth) or None."""
    order, first = group_by_label(labels, n_lists)
    counts = np.diff(first)
    starts = np.concatenate([[0], np.cumsum(-(-counts // COLUMNS))])
    lane_rows = np.full(starts[-1] * COLUMNS, -1, np.int64)
    lane_rows[np.arange(len(order)) + np.repeat(COLUMNS * starts[:-1] - first[:-1], counts)] = order
    projected = project(vectors, axes)
    filled = np.zeros((len(lane_rows), projected.shape[1]), np.float32)
    filled[lane_rows >= 0] = projected[order]
    biases = np.full(len(lane_rows), -np.inf, np.float32)
    biases[lane_rows >= 0] = -0.5 * squared_lengths(vectors)[order]
    axes, shape = np.zeros((vectors.shape[1], 0)) if axes is None else axes, (-1, COLUMNS)
    panels, longest = pack_panels(filled.T, COLUMNS), longest_vector(biases)
    return Lists(starts, panels, biases.reshape(shape), lane_rows.reshape(shape), axes, longest)


def labels_of(starts, lane_rows, n):
    """The list of each of n rows, (n,) int64: what `make_lists` was given, from its result."""
    labels = np.empty(n, np.int64)
    of_lane = np.broadcast_to(np.repeat(np.arange(len(starts) - 1), np.diff(starts))[:, None], lane_rows.shape)
    labels[lane_rows[lane_rows >= 0]] = of_lane[lane_rows >= 0]
    return labels


@kernel
def _score(
    first_task, last_task, panels, biases, starts, task_list, task_starts, task_at, asking, queries, scores, room
):
    """Task t: list task_list[t] and the queries asking[task_starts[t] : task_starts[t + 1]], in whole tiles.

    OUT scores: panel by panel from task_at[t] on, in each of them COLUMNS for each pair.
    """
    d, (none, block) = panels.shape[1], room
    for t in range(first_task, last_task):
        first, size, at = task_starts[t], task_starts[t + 1] - task_starts[t], task_at[t]
        for i in range(size):  # rows beyond hold those of the task before: their scores are nobody's
            for j in range(d):
                block[i, j] = queries[asking[first + i], j]
        for panel in range(starts[task_list[t]], starts[task_list[t] + 1]):
            for start in range(0, size, ROWS):
                start_tile(scores, at, COLUMNS, biases, panel * COLUMNS, none, 0)
                tile_product(block, start * d, d, 1, panels, panel * d * COLUMNS, scores, at, COLUMNS, d, True)
                at += ROWS * COLUMNS


@inner
def _score_limit(kth, reach, metric):
    """The score that a vector at least has whose distance rounds to `kth` or less; reach = offset, error."""
    offset, error = reach
    if abs(kth) == np.inf:  # -inf: inner products beyond float32, which tie
        return np.float32(-np.inf)
    distance = np.float64(kth) + abs(np.float64(kth)) * 2.0**-22
    return np.float32(offset - (0.5 * distance * distance if metric == L2 else distance) - error)


@inlined
def _gather(starts, lane_rows, open_rows, filtered, runs, negated, panels):
    """One query's scores, negated, side by side -> number of panels. OUT negated (slots, LANES), panels (any,): which.

    Infinite in lanes that hold no vector or, if `filtered`, one that is not open; -inf for what is not a number.
    """
    (probed, places, steps, scores), flat, n = runs, negated.reshape(negated.size), np.int64(0)
    for p in range(len(probed)):
        if probed[p] < 0:
            continue
        at = places[p]
        for panel in range(starts[probed[p]], starts[probed[p] + 1]):
            own, out = scores[at : at + COLUMNS], flat[n * COLUMNS : (n + 1) * COLUMNS]
            for j in range(COLUMNS):
                out[j] = -own[j] if own[j] == own[j] else np.float32(-np.inf)
            if filtered:
                for j in range(COLUMNS):
                    row = lane_rows[panel, j]
                    if row < 0 or not open_rows[row]:
                        flat[n * COLUMNS + j] = np.inf
            panels[n] = panel
            n += 1
            at += steps[p]
    for j in range(n * COLUMNS, _slots(n) * LANES):
        flat[j] = np.inf
    return n


@kernel
def _slots(n):
    """Of LANES scores, for n panels."""
    return -(-n * COLUMNS // LANES)


@inner
def _take(negated, n, past, limit, panels, lane_rows, vectors, open_rows, rows):
    """The open rows whose negated scores are above `past`, up to `limit` -> how many. OUT rows. Each is asked for."""
    count = np.int64(0)
    for slot in range(_slots(n)):
        lanes = lanes_up_to(negated, slot * LANES, limit)
        if lanes:
            lanes &= ~lanes_up_to(negated, slot * LANES, past)
        while lanes:
            at = slot * LANES + lowest_bit(lanes)
            lanes &= lanes - np.uint64(1)
            if at < n * COLUMNS:  # what follows fills a slot
                row = lane_rows[panels[at // COLUMNS], at % COLUMNS]
                if row >= 0 and open_rows[row]:
                    ask_for(vectors, row)
                    rows[count] = row
                    count += 1
    return count


@inlined
def _measure_and_offer(vectors, rows, count, query, metric, exact, ids, found, distances):
    """INOUT found (k,), distances (k,): with the first `count` of `rows`, FEW at most. `exact` is room for as many."""
    measure(vectors, rows, count, query, metric, exact)
    for c in range(count):
        offer(distances, found, exact[c], ids[rows[c]])


@kernel
def _select(
    first, last, starts, lane_rows, probes, pair_at, pair_step, scores, table, asked, filtered, found, distances, room
):
    """The k nearest of the pairs of the queries first to last - 1. OUT found (n, k) = -1, distances (n, k) = inf.

    Pair p has its COLUMNS scores of a list's panels at pair_at[p], pair_at[p] + pair_step[p], ...
    table = vectors, ids, open_rows; asked = queries, offsets, errors, metric: a score is at most
    offset - (distance, for "l2" half its square) + error.
    """
    (vectors, ids, open_rows), (queries, offsets, errors, metric) = table, asked
    m, k = probes.shape[1], found.shape[1]
    negated, panels, rows, exact, lanes = room
    for i in range(first, last):
        runs = probes[i], pair_at[i * m : (i + 1) * m], pair_step[i * m : (i + 1) * m], scores
        n = _gather(starts, lane_rows, open_rows, filtered, runs, negated, panels)
        low, (high, _) = np.float32(np.nan), threshold(negated[: _slots(n)], k, k, lanes)  # NaN: none is up to it
        for turn in range(2):  # the k best scores, and then what may be nearer than the worst of these
            count, kept = _take(negated, n, low, high, panels, lane_rows, vectors, open_rows, rows), np.int64(0)
            for c in range(count):
                if turn == 0 or not is_beyond(vectors[rows[c]], queries[i], distances[i, -1], errors[i], metric):
                    rows[kept] = rows[c]
                    kept += 1
                if kept == FEW or c == count - 1:
                    _measure_and_offer(vectors, rows, kept, queries[i], metric, exact, ids, found[i], distances[i])
                    kept = np.int64(0)
            low, high = high, -_score_limit(distances[i, -1], (offsets[i], errors[i]), metric)


def best_in_lists(lists, table, queries, shifted, probes, k, metric):
    """The k nearest in the probed lists by (distance, id) -> found, distances (n, k), -1 and inf for missing ones.

    table     vectors (rows, d), ids (rows,), open_rows (rows,) bool; rows as in lists.lane_rows
    queries   (n, d); shifted: the same relative to the origin of the lists
    probes    (n, m), lists to look into, none twice; -1 for none
    metric    "l2", "cosine", "ip", of the stored form (index.py)
    """
    metric, mean_size = METRICS.index(metric), lists.biases.size / (len(lists.starts) - 1)
    found, distances = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), np.inf, np.float32)
    projected = project(shifted, lists.axes if lists.axes.shape[1] else None)
    offsets, errors = _offsets(lists, table[0], queries, shifted, metric)
    filtered, n_probes = not table[2].all(), probes.shape[1]
    most = min(n_probes * int((lists.starts[1:] - lists.starts[:-1]).max()), len(lists.panels))  # panels of a query

    def score_room():
        return np.zeros(ROWS, np.float32), np.zeros((CHUNK, projected.shape[1]), np.float32)

    def select_room():
        negated, rows = (np.empty((_slots(most), LANES), dtype) for dtype in (np.float32, np.int64))
        return negated, np.empty(most, np.int64), rows.ravel(), np.empty(FEW, np.float32), np.empty(LANES, np.float32)

    step = max(CHUNK, int(SCORES // max(1, probes.shape[1] * mean_size)))
    for first in range(0, len(queries), step):
        part = slice(first, first + step)
        pairs, group_starts = _pairs_by_list(probes[part], len(lists.starts) - 1)
        *tasks, pair_at, pair_step, n_scores = _plan(pairs, group_starts, lists.starts, probes[part].size)
        scores = np.empty(n_scores, np.float32)
        arguments = lists.panels, lists.biases, lists.starts, *tasks, pairs // probes.shape[1], projected[part], scores
        in_threads(len(tasks[0]), _score, *arguments, at_least=32, room=score_room)
        asked = queries[part], offsets[part], errors[part], metric
        arguments = lists.starts, lists.lane_rows, probes[part], pair_at, pair_step, scores, table, asked, filtered
        in_threads(len(asked[0]), _select, *arguments, found[part], distances[part], at_least=16, room=select_room)
    return found, distances


def _pairs_by_list(probes, n_lists):
    """The places in probes.ravel(), of -1 none, grouped by list -> pairs (any,), group_starts (n_lists + 1,)."""
    probes = probes.ravel()
    if not (probes < 0).any():
        return group_by_label(probes, n_lists)
    there = np.flatnonzero(probes >= 0)
    order, starts = group_by_label(probes[there], n_lists)
    return there[order], starts


def _plan(pairs, group_starts, starts, size):
    """Which pairs share a task, and where their scores go: see `_score` and `_select`.

    pairs (any,), numbers below `size`, grouped by list, those of list l at group_starts[l] : group_starts[l + 1]. A
    task has up to CHUNK of them. -> task_list, task_starts, task_at, pair_at, pair_step (size,), number of scores
    """
    n_tasks = int((-(-np.diff(group_starts) // CHUNK)).sum())
    plan = *np.empty((3, n_tasks + 1), np.int64), *np.empty((2, size), np.int64)
    n_scores = _fill_plan(pairs, group_starts, starts, *plan)
    task_list, task_starts, task_at, pair_at, pair_step = plan
    return task_list[:-1], task_starts, task_at[:-1], pair_at, pair_step, n_scores


@kernel
def _fill_plan(pairs, group_starts, starts, task_list, task_starts, task_at, pair_at, pair_step):
    """OUT all but the first three: see `_plan` -> number of scores."""
    task = at = np.int64(0)
    for one in range(len(starts) - 1):
        for first in range(group_starts[one], group_starts[one + 1], CHUNK):
            size = min(CHUNK, group_starts[one + 1] - first)
            step = COLUMNS * ROWS * -(-size // ROWS)  # from a panel to the next
            task_list[task], task_starts[task], task_at[task] = one, first, at
            for i in range(size):
                pair_at[pairs[first + i]], pair_step[pairs[first + i]] = at + COLUMNS * i, step
            at += step * (starts[one + 1] - starts[one])
            task += 1
    task_starts[task] = len(pairs)
    return at


def _offsets(lists, vectors, queries, shifted, metric):
    """For `_select`, both (n,) float64.

    l2, cosine  q.x - |x|^2 / 2 = |q|^2 / 2 - |x - q|^2 / 2, all relative to the origin of the lists
    ip          |x - q|^2 = M^2 + |q|^2 - 2 x.q in the table's form, whose last coordinate is rounded
    """
    squares, d = squared_lengths(shifted), queries.shape[1]
    errors = rounding_error(np.sqrt(squares), lists.longest, d)
    if metric != IP:
        return 0.5 * squares, errors
    square, lengths = float(squared_lengths(vectors[:1]).sum()), squared_lengths(queries)
    return 0.5 * (squares - square - lengths), errors + (d + 16) * 2.0**-24 * (square + lengths)


def as_one_list(vectors, axes=None):
    """vectors (n, d) as the only list, in the order of their rows -> Lists and the vectors."""
    return make_lists(vectors, np.zeros(len(vectors), np.int32), 1, axes), vectors


def nearest_centroids(centroid_list, queries, m):
    """The m nearest centroids, nearest first -> (n, m) int64; centroid_list from `as_one_list`."""
    lists, centroids = centroid_list
    if len(centroids) == 1:
        return np.zeros((len(queries), m), np.int64)
    table = centroids, np.arange(len(centroids)), np.ones(len(centroids), bool)
    return best_in_lists(lists, table, queries, queries, np.zeros((len(queries), 1), np.int64), m, "l2")[0]
