"""HNSW: a graph of near vectors under a few sparser ones; a query walks downhill, from far jumps to short steps.

Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using hierarchical navigable small
world graphs", 2018, arXiv:1603.09320. A vector gets a level, floor(-ln(u) / ln(M)), u uniform, M the number
of links that it makes on a layer: layer l holds the vectors of level >= l, a share of M^-l. The search walks greedily
down through the upper layers. On layer 0, the ground, which holds all vectors, it keeps the `ef` nearest seen so far,
and opens (measures the neighbours of) the nearest of them that is not opened yet, until all of them are. Neighbours of
a vector q are chosen by diversity (the paper's algorithm 4): going through candidates e by distance, q is linked to e
unless one linked before is nearer to e than q is. So links point in all directions, and few lead between the same two
clusters.

Building in parallel, with the same bits at any number of threads. Vectors come in random order, in batches of at most
a sixteenth of those that are in. All of a batch search the graph as it was before the batch, each writing only its own
links; then the links back are sorted by the vector that receives them, and each receiver takes all of its own at
once. Vectors of a batch do not see each other; later ones link them.

Equal vectors are one place of the graph. Linked one by one they would fill each other's links, at distance 0, and lose
the way in; the walk finds their place, and takes from it as many as are open.

Layout in memory. Places lie in the order of the leaves of a random-projection tree, so that neighbours in the graph
are mostly near each other in memory, and a batch of queries is searched in the order of the places where it arrives.

    points (p, padded d)     float32, by place
    rows (n,), starts (p + 1,)   the rows of the index at place i are rows[starts[i] : starts[i + 1]], by id
    ground (p, 2 M) int32    places of neighbours, -1 after the last; one vector's links are one or two cache lines
    upper (slots, M) int32   layer l of place p is upper[slots[p] + l - 1]
    apart (m,)               places that cannot be reached from the top (few or none): they are always measured

Search: O(ef M) vectors read, from random places: memory latency is the limit, hence the prefetches (gather.py).
"""

import numpy as np

from ..kernels import in_threads, inner, kernel
from ..validation import check_integer
from .candidates import offer, offer_row
from .gather import padded, prefetch, squared_gap
from .index import Index, measure_rows
from .rp_forest import _grow_trees, growing_room

LARGEST_BATCH = 2048


@inner
def _row(slots, node, level):
    """The row of a node's links in the table of its layer."""
    return slots[node] + level - 1 if level else np.int64(node)


@inner
def _descend(points, upper, slots, level, last, queries, i, node):
    """The place where greedy walks through the layers `level` to `last` (>= 1) end, from `node`."""
    best = squared_gap(points, node, queries, i)
    while level >= last:
        moved = True
        while moved:
            moved, row = False, _row(slots, node, level)
            for j in range(upper.shape[1]):
                other = upper[row, j]
                if other < 0:
                    break
                distance = squared_gap(points, other, queries, i)
                if distance < best:
                    best, node, moved = distance, np.int64(other), True
        level -= 1
    return node


@inner
def _beam(points, links, slots, level, queries, i, entry, near, nodes, opened, seen, stamp, fresh):
    """The nearest that a walk from `entry` finds in a layer -> how many. OUT near, nodes: sorted, at most len(near).

    opened, fresh: room. seen (n,): the last stamp of each place.
    """
    ef, width = len(near), points.shape[1]
    near[0], nodes[0], opened[0] = squared_gap(points, entry, queries, i), entry, False
    seen[entry] = stamp
    size, at = 1, 0
    while at < size:
        if opened[at]:
            at += 1
            continue
        opened[at] = True
        row, n_fresh = _row(slots, nodes[at], level), 0
        for j in range(links.shape[1]):
            node = links[row, j]
            if node < 0:
                break
            if seen[node] != stamp:
                seen[node] = stamp
                fresh[n_fresh] = node
                n_fresh += 1
                for line in range(0, width, 16):
                    prefetch(points, np.int64(node) * width + line)
        at += 1
        for j in range(n_fresh):
            distance = squared_gap(points, np.int64(fresh[j]), queries, i)
            if size == ef and distance >= near[size - 1]:
                continue
            place = min(size, ef - 1)
            size = min(size + 1, ef)
            while place > 0 and near[place - 1] > distance:
                near[place], nodes[place], opened[place] = near[place - 1], nodes[place - 1], opened[place - 1]
                place -= 1
            near[place], nodes[place], opened[place] = distance, fresh[j], False
            at = min(at, place)
    return size


@kernel
def _diverse(points, near, nodes, size, kept):
    """OUT kept: those of `nodes`, by ascending distance `near`, that no kept one is nearer to; -1 after the last."""
    n_kept = 0
    kept[:] = -1
    for c in range(size):
        good, j = True, 0
        while good and j < n_kept:
            good = squared_gap(points, np.int64(nodes[c]), points, np.int64(kept[j])) >= near[c]
            j += 1
        if good:
            kept[n_kept] = nodes[c]
            n_kept += 1
            if n_kept == len(kept):
                break


def _walk_room(n, ef, most):
    """For `_beam` among n places, with up to `most` links each: near, nodes, opened (ef,); seen (n,) = -1; fresh."""
    kept = np.empty(ef, np.float32), np.empty(ef, np.int32), np.empty(ef, bool)
    return *kept, np.full(n, -1, np.int32), np.empty(most, np.int32)


@kernel
def _find_links(first, last, points, ground, upper, slots, levels, batch, entry, top, room):
    """OUT ground, upper: the links of the places batch[first:last], in the graph without the batch; M on a layer."""
    links, stamp = upper.shape[1], 0
    near, nodes, opened, seen, fresh = room
    for node in batch[first:last]:
        at = _descend(points, upper, slots, top, levels[node] + 1, points, node, entry)
        for level in range(min(levels[node], top), -1, -1):
            table = upper if level else ground
            stamp += 1
            size = _beam(points, table, slots, level, points, node, at, near, nodes, opened, seen, stamp, fresh)
            at = np.int64(nodes[0])
            _diverse(points, near, nodes, size, table[_row(slots, node, level), :links])


@inner
def _add_links(points, links, node, sources, near, nodes):
    """Link a node, whose links are `links`, to `sources` too; where that is too many, the diverse ones stay."""
    width, count = len(links), 0
    while count < width and links[count] >= 0:
        count += 1
    total = count + len(sources)
    if total <= width:
        for j in range(len(sources)):  # a loop, as Numba takes long over assigned slices
            links[count + j] = sources[j]
        return
    near, nodes = near[:total], nodes[:total]
    near[:], nodes[:] = np.inf, -1
    for j in range(total):
        other = links[j] if j < count else sources[j - count]
        offer(near, nodes, squared_gap(points, np.int64(other), points, node), other)
    _diverse(points, near, nodes, total, links)


@kernel
def _link_back(first, last, points, table, slots, level, targets, starts, sources, room):
    """Link targets[t] to sources[starts[t] : starts[t + 1]] too, first <= t < last."""
    near, nodes = room
    for t in range(first, last):
        node = np.int64(targets[t])
        own, others = table[_row(slots, node, level)], sources[starts[t] : starts[t + 1]]
        _add_links(points, own, node, others, near, nodes)


def _reached(ground, entry):
    """(n,) bool: the places that links lead to from `entry`."""
    reached = np.zeros(len(ground), bool)
    _reach(ground, entry, reached, np.empty(len(ground), np.int64))
    return reached


@kernel
def _reach(ground, entry, reached, todo):
    """OUT reached (n,) = False: see `_reached`. todo (n,) is room."""
    n_todo = 1
    todo[0], reached[entry] = entry, True
    while n_todo:
        n_todo -= 1
        row = todo[n_todo]
        for j in range(ground.shape[1]):
            node = ground[row, j]
            if node >= 0 and not reached[node]:
                reached[node] = True
                todo[n_todo] = node
                n_todo += 1


@kernel
def _arrive(first, last, points, upper, slots, entry, top, queries, arrivals):
    """OUT arrivals (n,): where the walk through the upper layers ends, for the queries first to last - 1."""
    for i in range(first, last):
        arrivals[i] = _descend(points, upper, slots, top, 1, queries, i, entry)


@inner
def _offer_place(place, square, table, taken, best, found):
    """The open rows of a place, which come by id -> how many of the lists are taken. INOUT best, found (k,).

    The lists are sorted by (square, id). Places mostly come nearest first, so that their rows go to the end.
    """
    (rows, starts, ids, open_rows), k = table, len(best)
    for at in range(starts[place], starts[place + 1]):
        row = np.int64(rows[at])
        end = taken - 1
        is_last = taken == 0 or square > best[end] or (square == best[end] and ids[row] > ids[found[end]])
        if is_last and taken == k:
            break  # nor would those after it enter
        if open_rows[row]:
            if is_last:
                best[taken], found[taken] = square, row
            else:
                offer_row(best, found, ids, square, row)
            taken += taken < k
    return taken


@kernel
def _search(first, last, points, ground, slots, apart, table, queries, order, arrivals, found, room):
    """OUT found (n, k) = -1: the nearest open rows of the ef places that the walk keeps, and of those apart.

    For the queries order[first:last]. table = rows, starts, ids, open_rows.
    """
    k, (near, nodes, opened, seen, fresh, best) = found.shape[1], room
    for i in order[first:last]:
        taken = np.int64(0)
        size = _beam(points, ground, slots, 0, queries, i, arrivals[i], near, nodes, opened, seen, i, fresh)
        for j in range(k):
            best[j] = np.inf
            if j < size:  # where there are no copies, row and place are at the same index
                prefetch(table[1], np.int64(nodes[j]))
                prefetch(table[0], np.int64(nodes[j]))
        for j in range(size):
            if taken == k and near[j] > best[k - 1]:
                break
            taken = _offer_place(np.int64(nodes[j]), near[j], table, taken, best, found[i])
        for j in range(len(apart)):
            if seen[apart[j]] != i:
                taken = _offer_place(apart[j], squared_gap(points, apart[j], queries, i), table, taken, best, found[i])


class HNSWIndex(Index):
    """Approximate nearest neighbours by walks in a hierarchy of graphs.

    links      M: links that a vector makes on each layer; it keeps up to M above the ground, and up to 2 M on it
    ef_build   candidates that its links are chosen from
    ef         candidates of a search (at least k): the larger, the higher the recall
    seed       of the levels and of the order of building

    Build O(n ef_build M d); search O(ef M d) a query, and O(n) a call; memory twice that of the vectors
    and 8 M bytes a vector. Equal vectors share the second copy and the links.
    """

    _STRUCTURE = ("_points", "_rows", "_starts", "_ground", "_upper", "_slots", "_apart", "_top")

    def __init__(self, *, metric="l2", links=16, ef_build=100, ef=40, seed=0):
        super().__init__(metric, links=links, ef_build=ef_build, ef=ef, seed=seed)
        self.links = check_integer(links, "links", minimum=2)
        self.ef_build = check_integer(ef_build, "ef_build", minimum=1)
        self.ef = check_integer(ef, "ef", minimum=1)
        self.seed = check_integer(seed, "seed", minimum=0)

    def _build(self):
        """Inserts the vectors in batches that grow with the graph: links depend on the batches, not on the threads."""
        rng = np.random.default_rng(self.seed)
        rows, starts = equal_rows(self._vectors, self._ids)
        by_row = np.argsort(rows[starts[:-1]])
        order = _leaf_order(self._vectors[rows[starts[:-1]][by_row]], rng)
        self._rows, self._starts = _in_order(rows, starts, by_row[order])
        self._points = padded(self._vectors[self._rows[self._starts[:-1]]])
        n = len(self._points)
        levels = np.floor(-np.log(1 - rng.random(n)) / np.log(self.links)).astype(np.int64)
        sequence = rng.permutation(n)
        self._slots = np.cumsum(levels) - levels
        self._ground = np.full((n, 2 * self.links), -1, np.int32)
        self._upper = np.full((int(levels.sum()), self.links), -1, np.int32)
        entry, top, done = (int(sequence[0]), int(levels[sequence[0]]), 1) if n else (-1, 0, 0)
        tables = self._ground, self._upper, self._slots

        def room():
            return _walk_room(n, self.ef_build, 2 * self.links)

        while done < n:
            batch = sequence[done : done + min(LARGEST_BATCH, max(1, done // 16))]
            graph = self._points, *tables
            in_threads(len(batch), _find_links, *graph, levels, batch, entry, top, at_least=2, room=room)
            for level in range(min(top, int(levels[batch].max())) + 1):
                self._link_back(batch[levels[batch] >= level], level)
            highest = int(batch[np.argmax(levels[batch])])
            if levels[highest] > top:
                entry, top = highest, int(levels[highest])
            done += len(batch)
            self._report(done / n)
        self._top = np.array([entry, top])
        self._apart = np.flatnonzero(~_reached(self._ground, entry)) if n else np.empty(0, np.int64)

    def _link_back(self, batch, level):
        """Links to a batch from all that its links lead to."""
        table = self._upper if level else self._ground
        own = table[self._slots[batch] + level - 1 if level else batch]
        by_target = np.argsort(own, axis=None, kind="stable")
        by_target = by_target[own.ravel()[by_target] >= 0]
        targets, starts = np.unique(own.ravel()[by_target], return_index=True)
        sources = batch[by_target // own.shape[1]].astype(np.int32)
        starts = np.append(starts, len(sources))
        arguments = self._points, table, self._slots, level, targets, starts, sources
        most = own.shape[1] + int(np.diff(starts).max(initial=0))

        def room():
            return np.empty(most, np.float32), np.empty(most, np.int32)

        in_threads(len(targets), _link_back, *arguments, at_least=64, room=room)

    def _scan_limit(self):
        """Of n rows with n_open open, a scan measures n_open, a walk some ef 2 M n / n_open."""
        return int(np.sqrt(2.0 * self.ef * self.links * self._built))

    def _walk(self, queries, arrivals, k, open_rows, ef):
        """Open rows that a walk finds (n, k), -1 where it meets too few. queries padded."""
        found = np.full((len(queries), k), -1, np.int64)
        graph = self._points, self._ground, self._slots, self._apart
        table = self._rows, self._starts, self._ids, open_rows
        order = np.argsort(arrivals, kind="stable")

        def room():
            return *_walk_room(len(self._points), ef, self._ground.shape[1]), np.empty(k, np.float32)

        in_threads(len(queries), _search, *graph, table, queries, order, arrivals, found, at_least=4, room=room)
        return found

    def _candidate_rows(self, queries, k, open_rows, n_open):
        """Rows of candidates (n, k); -1 where a walk meets fewer, and so few that a scan of the open rows is cheaper.

        A query whose walk of ef vectors met c < k open ones takes one of 2 ef, again and again, as long as the
        vectors measured in the ef k / c that it may need, 2 M each, are no more than the open rows.
        """
        built, (entry, top) = self._built, self._top
        wide, arrivals = padded(queries), np.empty(len(queries), np.int64)
        in_threads(
            len(queries), _arrive, self._points, self._upper, self._slots, entry, top, wide, arrivals, at_least=64
        )
        found, short = np.full((len(queries), k), -1, np.int64), np.arange(len(queries))
        ef = min(-(-max(self.ef, k) * built // n_open), built)
        while len(short):
            found[short] = self._walk(wide[short], arrivals[short], k, open_rows, ef)
            met = (found[short] >= 0).sum(1)
            affordable = 2 * self.links * ef * k <= n_open * np.maximum(met, 1)
            short, ef = short[(met < min(k, n_open)) & affordable], 2 * ef
        return found

    def _nearest(self, queries, k, open_rows):
        """Walks the graph, or scans where that is cheaper; then the rows added since."""
        built = self._built
        n_open = int(np.count_nonzero(open_rows[:built]))
        if n_open <= self._scan_limit() or n_open == 0:
            return super()._nearest(queries, k, open_rows)
        rows = self._candidate_rows(queries, k, open_rows, n_open)
        short = np.flatnonzero((rows >= 0).sum(1) < min(k, n_open))
        if len(short):  # a walk that ended early, in a part that few links leave, or far from what is open
            rows[short] = -1
            found = self._scan(queries[short], k, np.flatnonzero(open_rows[:built]))
            rows[short, : found.shape[1]] = self._rows_of(found)
        if built < len(open_rows):
            tail = self._scan(queries, k, built + np.flatnonzero(open_rows[built:]))
            rows = np.concatenate([rows, self._rows_of(tail)], 1)
        return measure_rows(self._vectors, rows, self._ids, queries, self.metric, k)


def equal_rows(vectors, ids):
    """Rows grouped by equal vectors (n, d) float32 -> rows (n,) int32, by id in each group; starts (groups + 1,) int32.

    Sorted by a hash of their bits, sum_j m_j bits_j mod 2^64 with random odd m_j, then each is compared with the one
    before it. Where the hashes of different vectors agree, which they hardly do, copies may end up in two groups.
    """
    n, d = vectors.shape
    odd, keys = np.random.default_rng(0).integers(0, 2**63, d, np.uint64) * np.uint64(2) + np.uint64(1), []
    for first in range(0, n, 4096):
        bits = (vectors[first : first + 4096] + np.float32(0)).view(np.uint32)  # -0 becomes 0
        keys.append((bits * odd).sum(1, dtype=np.uint64))
    keys = np.concatenate([np.empty(0, np.uint64), *keys])
    rows = np.lexsort((ids, keys)).astype(np.int32)
    same = np.flatnonzero(keys[rows[1:]] == keys[rows[:-1]]) + 1
    new = np.ones(n, bool)
    new[same] = (vectors[rows[same]] != vectors[rows[same - 1]]).any(1)
    return rows, np.append(np.flatnonzero(new), n).astype(np.int32)


def _in_order(rows, starts, order):
    """The groups of `equal_rows` in another order -> rows, starts."""
    counts = np.diff(starts)[order]
    ends = np.cumsum(counts)
    at = np.arange(len(rows)) + np.repeat(starts[order] - (ends - counts), counts)
    return rows[at], np.append(0, ends).astype(np.int32)


def _leaf_order(vectors, rng, leaf=32):
    """(n,) rows in the order of the leaves of one random-projection tree."""
    n, d = vectors.shape
    cuts = 2 ** max(0, int(np.ceil(np.log2(max(n, 1) / leaf)))) - 1
    normals, offsets = np.zeros((1, cuts, d), np.float32), np.zeros((1, cuts), np.float32)
    leaves = np.zeros((1, n), np.int32)
    seeds = rng.integers(0, 2**63, 1).astype(np.uint64)
    _grow_trees(0, 1, vectors, seeds, normals, offsets, leaves, growing_room(n))
    return leaves[0].astype(np.int64)
