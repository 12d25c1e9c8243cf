"""KD-tree: space cut in two by axis-parallel planes, again and again, until few points are left in a cell.

The idea. A node cuts its points at the middle of the axis on which they spread most. A query goes down to its own
cell and finds near points at once; a cell on the far side of a cut is visited only if it is nearer than the worst of
the k neighbours in hand. In few dimensions that leaves a handful of cells, O(log n) time; the number of cells that
touch the neighbourhood of a point grows like 2^d, so from some 15 dimensions on a tree visits most of its leaves and
a plain scan is faster (Friedman, Bentley and Finkel 1977; Weber, Schek and Blott 1998). docs/ann-kdtree.md measures
where.

The cut: the midpoint of the points' bounding box (sliding midpoint, Maneewongvatana and Mount 1999), which makes fat
cells. The box is that of the points, not of the cell, so both sides get a point and no cut is wasted on empty space.
Points that crowd together geometrically would make a deep tree of it: beyond depth 2 log2 n + 8 it is at the median,
so that a build takes O(n log n) whatever the data. Points that coincide are never cut: they share a leaf of any
size.

The bound. `side[j]` is how far the query is outside of the cell on axis j, and the squared distance to the cell is
the sum of side[j]^2. Crossing a cut on axis j changes one term (Arya and Mount 1993, as scipy's cKDTree does it):

    bound(far child) = bound - side[j]^2 + gap^2,     gap = the distance to the nearest point beyond the cut, on axis j

Layout in memory. Nodes are in preorder: the left child of node i is node i + 1.

    axis (nodes,) int32         the axis that is cut; a leaf holds minus the number of its blocks
    link (nodes,) int32         the right child; in a leaf its first block
    planes (nodes, 2) float64   the largest coordinate on the left, and the smallest on the right, of the cut
    blocks (blocks, d, LANES)   coordinates, dimension by dimension: one vector load takes one coordinate of LANES
                                points; float32, or float64 where the last is computed ("ip"). Leaves lie in the order
                                of the tree, so near in space is near in memory.
    rows (blocks, LANES) int32  which row of the data a lane holds, -1 for padding

Exactness. Coordinates are float64 when computed with (float32 goes into it without loss) and squared distances are
sums over j in order. Rounding is monotone, so |x_j - q_j| >= side[j] holds for what is computed, and the error of a
bound over 256 levels is below 2^-43 of it; bounds are shrunk by 2^-40 before they exclude anything. Neighbours are
ordered by the float32 distance that is returned, then by id, and a cell is left out only if no distance in it can
round to the worst.

Metrics. "cosine" searches among unit vectors, where |x - q|^2 = 2 (1 - cos). "ip" appends sqrt(M^2 - |x|^2) to each
vector and 0 to the query, M the largest norm: then |x - q|^2 = M^2 + |q|^2 - 2 x.q ranks by inner product (Bachrach
et al. 2014).
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import get_num_threads, njit, prange, types
from numba.extending import intrinsic
from numba.np import arrayobj

from ..validation import check_integer, check_number
from .bits import in_every_lane, lowest_bit, pack_lanes
from .candidates import offer
from .index import METRICS, Index, _measure, thread_count

LANES = 16  # points in a block: two vectors of eight float64 on AVX-512
SAFE = 1 - 2.0**-40  # times a bound: never above the distance it bounds
L2, COSINE, IP = 0, 1, 2
CHUNK = 32  # queries of one turn of a thread; neighbours in space, so that they find their leaves in the cache


class Tree(NamedTuple):
    """What a search reads; shapes in the head of this file.

    depth: of the deepest leaf. roots: 1, or 2 if the last node is a leaf on its own, which every search scans.
    """

    axis: np.ndarray
    link: np.ndarray
    planes: np.ndarray
    blocks: np.ndarray
    rows: np.ndarray
    depth: int
    roots: int


# Build. `points` (n, d) and `rows` (n,) are reordered in place, so that each subtree is a range of them.


@njit(cache=True)
def _widest(points, start, end):
    """The axis on which points[start:end] spread most, and their least and largest value there."""
    axis, axis_low, axis_high, width = 0, 0.0, 0.0, -1.0
    for j in range(points.shape[1]):
        low = high = points[start, j]
        for i in range(start + 1, end):
            low = min(low, points[i, j])
            high = max(high, points[i, j])
        if high - low > width:
            axis, axis_low, axis_high, width = j, low, high, high - low
    return axis, axis_low, axis_high


@njit(cache=True)
def _median(points, start, end, axis):
    """The median of points[start:end, axis] by Hoare's selection, O(end - start) on average."""
    values = points[start:end, axis].copy()
    first, last, middle = 0, len(values) - 1, len(values) // 2
    while first < last:
        pivot, i, j = values[(first + last) // 2], first, last
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if middle <= j:
            last = j
        elif middle >= i:
            first = i
        else:
            break
    return values[middle]


@njit(cache=True)
def _split_value(points, start, end, axis, low, high, balanced):
    """The midpoint of low and high, or the median if `balanced`, but low < split <= high: both sides get a point."""
    split = _median(points, start, end, axis) if balanced else 0.5 * low + 0.5 * high
    if split <= low:  # half of the points are at low, or no number lies between low and high
        split = high
        for i in range(start, end):
            if low < points[i, axis] < split:
                split = points[i, axis]
    return split


@njit(cache=True)
def _partition(points, rows, spare, spare_rows, start, end, axis, split):
    """Move the points below `split` to the front, order kept -> where the others begin, and both edges of the gap."""
    d = points.shape[1]
    left, right = start, start
    low_edge, high_edge = -np.inf, np.inf
    for i in range(start, end):
        value, row = points[i, axis], rows[i]
        below = value < split
        # Every point is written to both sides, and one of the two moves on: no branch to mispredict.
        for j in range(d):
            x = points[i, j]
            points[left, j] = x
            spare[right, j] = x
        rows[left] = row
        spare_rows[right] = row
        left += below
        right += not below
        low_edge = max(low_edge, value if below else -np.inf)
        high_edge = min(high_edge, np.inf if below else value)
    for i in range(end - left):
        for j in range(d):
            points[left + i, j] = spare[start + i, j]
        rows[left + i] = spare_rows[start + i]
    return left, low_edge, high_edge


@njit(cache=True)
def _grow(points, rows, spare, spare_rows, start, end, depth, depth_limit, leaf_size, at, axis, link, planes):
    """Write the nodes of the tree over points[start:end], in preorder, from node `at` on -> their end, greatest depth.

    Links count from `at`. A leaf: axis = -(number of points), link = its first point, planes[0] = its depth.
    """
    todo = np.empty((4 * depth_limit, 4), np.int64)  # start, end, the node it is the right child of, depth
    todo[0, 0], todo[0, 1], todo[0, 2], todo[0, 3] = start, end, -1, depth
    n_todo, node, deepest = 1, at, depth
    while n_todo:
        n_todo -= 1
        start, end, parent, depth = todo[n_todo, 0], todo[n_todo, 1], todo[n_todo, 2], todo[n_todo, 3]
        deepest = max(deepest, depth)
        if parent >= 0:
            link[parent] = node - at
        j, low, high = (0, 0.0, 0.0) if end - start <= leaf_size else _widest(points, start, end)
        if low == high:
            axis[node] = start - end
            link[node] = start
            planes[node, 0] = depth
        else:
            split = _split_value(points, start, end, j, low, high, depth >= depth_limit)
            middle, low_edge, high_edge = _partition(points, rows, spare, spare_rows, start, end, j, split)
            axis[node], planes[node, 0], planes[node, 1] = j, low_edge, high_edge
            for right in range(2):  # the left child is taken from the pile next
                at_top = n_todo + 1 - right
                todo[at_top, 0] = start if not right else middle
                todo[at_top, 1] = middle if not right else end
                todo[at_top, 2] = node if right else -1
                todo[at_top, 3] = depth + 1
            n_todo += 2
        node += 1
    return node, deepest


@njit(cache=True, parallel=True)
def _grow_branches(
    points, rows, spare, spare_rows, starts, ends, depths, depth_limit, leaf_size, axis, link, planes, grown
):
    """One subtree a branch. m points make fewer than 2 m nodes: that from point s on has room from node 2 s on."""
    for b in prange(len(starts)):
        first, depth = 2 * starts[b], depths[b]
        grown[b, 0] = first
        state = points, rows, spare, spare_rows
        limits = depth, depth_limit, leaf_size
        grown[b, 1], grown[b, 2] = _grow(*state, starts[b], ends[b], *limits, first, axis, link, planes)


@njit(cache=True, parallel=True)
def _splice_branches(
    grown, axis, link, planes, points, rows, places, first_blocks, out_axis, out_link, out_planes, blocks, out_rows
):
    """Copy the nodes of each branch to its place in the tree, and the points of its leaves into their blocks."""
    d = points.shape[1]
    for b in prange(len(places)):
        begin, at, block = grown[b, 0], places[b], first_blocks[b]
        for node in range(begin, grown[b, 1]):
            if axis[node] >= 0:
                out_axis[at], out_link[at] = axis[node], places[b] + link[node]
                out_planes[at, 0], out_planes[at, 1] = planes[node, 0], planes[node, 1]
            else:
                start, size = link[node], -axis[node]
                n_blocks = (size + LANES - 1) // LANES
                out_axis[at], out_link[at] = -n_blocks, block
                out_planes[at, 0], out_planes[at, 1] = 0.0, 0.0
                for i in range(n_blocks * LANES):
                    lane = i % LANES
                    out_rows[block + i // LANES, lane] = rows[start + i] if i < size else -1
                    for j in range(d):
                        blocks[block + i // LANES, j, lane] = points[start + i, j] if i < size else 0.0
                block += n_blocks
            at += 1


def build_tree(points, *, leaf_size=LANES):
    """The Tree over points (n, d), float32 or float64, which it reorders. O(d n log n) time, n d numbers of scratch.

    The top is cut by one thread until there is work for all, then the branches grow independently. A node depends on
    its points alone, so the tree is the same whatever the number of threads.
    """
    n, d = points.shape
    if n == 0:
        return hang_leaf(None, points, np.empty(0, np.int32))
    rows = np.arange(n, dtype=np.int32)
    depth_limit = 2 * n.bit_length() + 8
    axis, link = np.empty(4 * n, np.int32), np.empty(4 * n, np.int32)  # untouched room costs nothing
    planes, top = np.empty((4 * n, 2)), 2 * n
    state = points, rows, np.empty_like(points), np.empty_like(rows)
    share = max(leaf_size, n // (4 * get_num_threads()))
    top_end, _ = _grow(*state, 0, n, 0, depth_limit, share, top, axis, link, planes)
    top_axis, top_link = axis[top:top_end].copy(), link[top:top_end].copy()
    branches = np.flatnonzero(top_axis < 0)
    starts = top_link[branches].astype(np.int64)
    grown = np.empty((len(starts), 3), np.int64)  # first node, end of nodes, depth
    depths = planes[top + branches, 0].astype(np.int64)
    ends = starts - top_axis[branches]
    _grow_branches(*state, starts, ends, depths, depth_limit, leaf_size, axis, link, planes, grown)

    # Where each top node and each branch goes: a leaf of the top gives way to all nodes of its branch.
    sizes = np.ones(len(top_axis), np.int64)
    sizes[branches] = grown[:, 1] - grown[:, 0]
    places = np.cumsum(sizes) - sizes
    leaf_sizes = [-axis[first:end][axis[first:end] < 0] for first, end, _ in grown]
    n_blocks = np.array([((leaves + LANES - 1) // LANES).sum() for leaves in leaf_sizes])
    tree = Tree(
        np.empty(sizes.sum(), np.int32),
        np.empty(sizes.sum(), np.int32),
        np.empty((sizes.sum(), 2)),
        np.empty((n_blocks.sum(), d, LANES), points.dtype),
        np.empty((n_blocks.sum(), LANES), np.int32),
        int(grown[:, 2].max()),
        1,
    )
    inner = np.flatnonzero(top_axis >= 0)
    tree.axis[places[inner]] = top_axis[inner]
    tree.link[places[inner]] = places[top_link[inner]]
    tree.planes[places[inner]] = planes[top + inner]
    first_blocks = np.cumsum(n_blocks) - n_blocks
    _splice_branches(grown, axis, link, planes, points, rows, places[branches], first_blocks, *tree[:5])
    return tree


def hang_leaf(tree, points, rows):
    """`tree` (None: no tree) and a leaf beside its root: points (m, d) with row numbers `rows` (m,). O(n + m)."""
    m, d = points.shape
    n_blocks = max(1, (m + LANES - 1) // LANES)  # one that is closed, if there are no points
    padded, lane_rows = np.zeros((n_blocks * LANES, d), points.dtype), np.full(n_blocks * LANES, -1, np.int32)
    padded[:m], lane_rows[:m] = points, rows
    blocks = np.ascontiguousarray(padded.reshape(n_blocks, LANES, d).transpose(0, 2, 1))
    first = 0 if tree is None else len(tree.blocks)
    leaf = np.int32([-n_blocks]), np.int32([first]), np.zeros((1, 2)), blocks, lane_rows.reshape(n_blocks, LANES)
    if tree is None:
        return Tree(*leaf, 0, 1)
    return Tree(*(np.concatenate(both) for both in zip(tree, leaf)), tree.depth, 2)


# Search.


@intrinsic
def block_distances(typing, blocks, at, query, query_at, d, limit, out):
    """out[lane] = sum_j (blocks[at + j LANES + lane] - query[query_at + j])^2; -> the lanes <= limit, as bits.

    blocks float32 or float64, the others float64; offsets in elements from their start. The loop over j keeps LANES
    sums in vector registers.
    """
    index = types.intp
    signature = types.uint64(blocks, index, query, index, index, types.float64, out)

    def emit(context, builder, signature, values):
        blocks, query, out = (
            arrayobj.make_array(signature.args[i])(context, builder, values[i]).data for i in (0, 2, 6)
        )
        at, query_at, d, limit = values[1], values[3], values[4], values[5]
        i64, vector = ir.IntType(64), ir.VectorType(ir.DoubleType(), LANES)
        stored = ir.VectorType(context.get_data_type(signature.args[0].dtype), LANES)
        zero, one, block = ir.Constant(i64, 0), ir.Constant(i64, 1), builder.gep(blocks, [at])
        start, step, done = builder.block, builder.append_basic_block("step"), builder.append_basic_block("done")
        builder.branch(step)

        builder.position_at_end(step)
        j, total = builder.phi(i64), builder.phi(vector)
        coordinates = builder.gep(block, [builder.mul(j, ir.Constant(i64, LANES))])
        x = builder.load(builder.bitcast(coordinates, stored.as_pointer()), align=4)
        x = x if stored == vector else builder.fpext(x, vector)
        q = builder.load(builder.gep(query, [builder.add(query_at, j)]))
        gap = builder.fsub(x, in_every_lane(builder, q, LANES))
        next_total = builder.fadd(total, builder.fmul(gap, gap))
        next_j = builder.add(j, one)
        for phi, first, following in ((j, zero, next_j), (total, ir.Constant(vector, [0.0] * LANES), next_total)):
            phi.add_incoming(first, start)
            phi.add_incoming(following, step)
        builder.cbranch(builder.icmp_signed("<", next_j, d), step, done)

        builder.position_at_end(done)
        builder.store(next_total, builder.bitcast(out, vector.as_pointer()), align=8)
        near = builder.fcmp_ordered("<=", next_total, in_every_lane(builder, limit, LANES))
        return builder.zext(builder.bitcast(near, ir.IntType(LANES)), i64)

    return signature, emit


@njit(cache=True)
def _distance(squared, metric, shift):
    """The distance to return for |x - q|^2 in the space of the tree; shift = M^2 + |q|^2, for "ip"."""
    if metric == L2:
        return np.float32(np.sqrt(squared))
    return np.float32(0.5 * squared) if metric == COSINE else np.float32(0.5 * (squared - shift))


@njit(cache=True)
def _largest_squared(distance, metric, shift):
    """No |x - q|^2 above this has a float32 distance of `distance` or less."""
    up = np.float64(distance) + 2.0**-23 * abs(np.float64(distance)) + 1e-44
    if metric == L2:
        return up * up
    return 2 * up if metric == COSINE else 2 * up + shift + 2.0**-48 * abs(shift)


@njit(cache=True)
def _has_open(tree, open_lanes):
    """For each node: does it hold an open lane?"""
    found = np.zeros(len(tree.axis), np.bool_)
    for node in range(len(tree.axis) - 1, -1, -1):  # children come after their parent
        if tree.axis[node] >= 0:
            found[node] = found[node + 1] or found[tree.link[node]]
        else:
            for block in range(tree.link[node], tree.link[node] - tree.axis[node]):
                found[node] = found[node] or open_lanes[block] != 0
    return found


@njit(cache=True, parallel=True)
def _leaf_of(tree, queries, leaf):
    """OUT leaf (n,) uint16: the leaf of each query, as its place in the order of the tree, in 65536ths."""
    axis, link, planes = tree.axis, tree.link, tree.planes
    for i in prange(len(queries)):
        node = 0
        while axis[node] >= 0:
            q = queries[i, axis[node]]
            node = node + 1 if q < 0.5 * planes[node, 0] + 0.5 * planes[node, 1] else link[node]
        leaf[i] = (node << 16) // len(axis)


@njit(cache=True, inline="always")
def _descend(axis, link, planes, has_open, query, node, bound, stretch, limit, todo, bounds, sides, n_todo, side):
    """Go from `node` to the leaf on the query's side of each cut; pile up the other sides -> leaf, height of the pile.

    sides[n_todo] holds side[j] of `node`, which the near child keeps. todo, bounds, sides: INOUT; side: scratch (d,).
    """
    for e in range(len(side)):
        side[e] = sides[n_todo, e]
    while axis[node] >= 0 and has_open[node]:
        j = axis[node]
        q, low, high = query[j], planes[node, 0], planes[node, 1]
        if q < 0.5 * low + 0.5 * high:
            far, gap, node = link[node], high - q, node + 1
        else:
            far, gap, node = node + 1, q - low, link[node]
        far_bound = bound - side[j] * side[j] + gap * gap
        if far_bound * stretch <= limit and has_open[far]:
            todo[n_todo], bounds[n_todo] = far, far_bound
            for e in range(len(side)):
                sides[n_todo, e] = side[e]
            sides[n_todo, j] = gap
            n_todo += 1
    return node, n_todo


@njit(cache=True)
def _at_roots(tree, todo, bounds, sides):
    """The pile at the start of a search. OUT todo, bounds, sides."""
    for root in range(tree.roots):
        todo[root], bounds[root] = (len(tree.axis) - 1) * root, 0.0
        for j in range(sides.shape[1]):
            sides[root, j] = 0.0


@njit(cache=True, parallel=True)
def _nearest(
    tree, lane_ids, open_lanes, has_open, queries, order, shifts, metric, stretch, max_leaves, found, distances
):
    """OUT found (n, k) = -1, distances (n, k) = inf. Depth first, nearer sides first, at most `max_leaves` leaves."""
    n, d = queries.shape
    axis, link, planes, blocks, k = tree.axis, tree.link, tree.planes, tree.blocks, found.shape[1]
    for c in prange(-(-n // CHUNK)):
        todo, bounds = np.empty(tree.depth + 3, np.int64), np.empty(tree.depth + 3)
        sides, side, near = np.empty((tree.depth + 3, d)), np.empty(d), np.empty(LANES)
        for o in range(c * CHUNK, min(n, (c + 1) * CHUNK)):
            i = order[o]
            query, shift = queries[i], shifts[i]
            limit, leaves, n_todo = np.inf, 1 - tree.roots, tree.roots
            _at_roots(tree, todo, bounds, sides)
            while n_todo and leaves < max_leaves:
                n_todo -= 1
                node, bound = todo[n_todo], bounds[n_todo]
                if bound * stretch > limit:
                    continue
                node, n_todo = _descend(
                    axis, link, planes, has_open, query, node, bound, stretch, limit, todo, bounds, sides, n_todo, side
                )
                if not has_open[node]:
                    continue
                leaves += 1
                for block in range(link[node], link[node] - axis[node]):
                    lanes = block_distances(blocks, block * d * LANES, queries, i * d, d, limit, near)
                    lanes &= open_lanes[block]
                    while lanes:
                        lane = lowest_bit(lanes)
                        lanes &= lanes - np.uint64(1)
                        offer(distances[i], found[i], _distance(near[lane], metric, shift), lane_ids[block, lane])
                        limit = _largest_squared(distances[i, k - 1], metric, shift)


@njit(cache=True, parallel=True)
def _within(tree, lane_ids, open_lanes, has_open, queries, order, shifts, metric, radius, ends, found, distances):
    """All neighbours of query i with distance <= radius, before place ends[i] of found and distances.

    ends (n,) INOUT counts down by their number; with empty found and distances, that is all that happens.
    """
    n, d = queries.shape
    axis, link, planes, blocks = tree.axis, tree.link, tree.planes, tree.blocks
    for c in prange(-(-n // CHUNK)):
        todo, bounds = np.empty(tree.depth + 3, np.int64), np.empty(tree.depth + 3)
        sides, side, near = np.empty((tree.depth + 3, d)), np.empty(d), np.empty(LANES)
        for o in range(c * CHUNK, min(n, (c + 1) * CHUNK)):
            i = order[o]
            query, shift, n_todo = queries[i], shifts[i], tree.roots
            limit = _largest_squared(radius, metric, shift)
            _at_roots(tree, todo, bounds, sides)
            while n_todo:
                n_todo -= 1
                node, bound = todo[n_todo], bounds[n_todo]
                node, n_todo = _descend(
                    axis, link, planes, has_open, query, node, bound, SAFE, limit, todo, bounds, sides, n_todo, side
                )
                if not has_open[node]:
                    continue
                for block in range(link[node], link[node] - axis[node]):
                    lanes = block_distances(blocks, block * d * LANES, queries, i * d, d, limit, near)
                    lanes &= open_lanes[block]
                    while lanes:
                        lane = lowest_bit(lanes)
                        lanes &= lanes - np.uint64(1)
                        distance = _distance(near[lane], metric, shift)
                        if distance <= radius:
                            ends[i] -= 1
                            if len(found):
                                found[ends[i]], distances[ends[i]] = lane_ids[block, lane], distance


class Opening(NamedTuple):
    """Which lanes may be found."""

    lanes: np.ndarray  # (blocks,) uint64: a bit for each lane
    nodes: np.ndarray  # (nodes,) bool: does the node hold any?


def open_tree(tree, open_rows=None):
    """The Opening for a bool mask over the rows of the data; None opens all. O(n)."""
    is_open = tree.rows >= 0
    if open_rows is not None and is_open.any():
        is_open &= open_rows[tree.rows]
    lanes = pack_lanes(is_open)
    return Opening(lanes, _has_open(tree, lanes))


class Prepared(NamedTuple):
    """Queries as the kernels want them."""

    points: np.ndarray  # (n, d) float64, C-contiguous
    order: np.ndarray  # (n,) the order of their leaves: neighbours share what is in the cache
    shifts: np.ndarray  # (n,) float64, for `_distance`


def _prepare(tree, queries, shifts):
    points = np.ascontiguousarray(queries, np.float64)
    leaf = np.empty(len(points), np.uint16)
    _leaf_of(tree, points, leaf)
    shifts = np.zeros(len(points)) if shifts is None else np.ascontiguousarray(shifts, np.float64)
    return Prepared(points, np.argsort(leaf, kind="stable"), shifts)


def search_tree(tree, lane_ids, opening, queries, k, *, metric=L2, shifts=None, eps=0.0, max_leaves=None):
    """The k nearest of each query -> ids (n, k) int64, -1 where there are none, and distances (n, k) float32, +inf.

    lane_ids (blocks, LANES) int64 gives the id of a lane, `opening` which may be found. A cell is left out if (1 + eps)
    times its distance exceeds the k-th so far: what is returned is then at most (1 + eps) times the true one.
    `max_leaves` ends the search after so many; more never find less.
    """
    points, order, shifts = _prepare(tree, queries, shifts)
    found, distances = np.full((len(points), k), -1, np.int64), np.full((len(points), k), np.inf, np.float32)
    stretch, budget = SAFE * (1 + eps) ** 2, np.iinfo(np.int64).max if max_leaves is None else max_leaves
    _nearest(tree, lane_ids, *opening, points, order, shifts, metric, stretch, budget, found, distances)
    return found, distances


def range_tree(tree, lane_ids, opening, queries, radius, *, metric=L2, shifts=None):
    """All with distance <= radius -> offsets (n + 1,), ids, distances; query i has places offsets[i] to offsets[i + 1].

    Sorted by (distance, id). Two passes over the tree: one counts, one writes.
    """
    points, order, shifts = _prepare(tree, queries, shifts)
    found, distances, ends = np.empty(0, np.int64), np.empty(0, np.float32), np.zeros(len(points), np.int64)
    arguments = tree, lane_ids, *opening, points, order, shifts, metric, np.float32(radius)
    _within(*arguments, ends, found, distances)
    offsets = np.concatenate([[0], np.cumsum(-ends)])
    found, distances = np.empty(offsets[-1], np.int64), np.empty(offsets[-1], np.float32)
    _within(*arguments, offsets[1:].copy(), found, distances)
    by_query = np.lexsort((found, distances, np.repeat(np.arange(len(points)), np.diff(offsets))))
    return offsets, found[by_query], distances[by_query]


class KDTreeIndex(Index):
    """Exact nearest neighbours in few dimensions.

    leaf_size    points in a leaf, at most (coinciding points apart)
    eps          >= 0: distances up to (1 + eps) times the true ones will do; l2 in the stored form (index.py)
    max_leaves   at most so many leaves are searched for a query; None for an exact answer

    Build O(d n log n); search O(log n) in few dimensions, O(n) in many.
    """

    _STRUCTURE = ("_axis", "_link", "_planes", "_blocks", "_rows", "_depth")

    def __init__(self, *, metric="l2", leaf_size=LANES, eps=0.0, max_leaves=None):
        super().__init__(metric, leaf_size=leaf_size, eps=eps, max_leaves=max_leaves)
        self.leaf_size = check_integer(leaf_size, "leaf_size", minimum=1)
        self.eps = check_number(eps, "eps", minimum=0)
        self.max_leaves = None if max_leaves is None else check_integer(max_leaves, "max_leaves", minimum=1)

    def _coordinates(self, vectors):
        """A copy; for "ip" with the last coordinate to all digits: the bounds of the search stand on it."""
        if self.metric != "ip":
            return vectors.copy()
        points = vectors.astype(np.float64)
        points[:, -1] = np.sqrt(np.maximum(self._largest_norm**2 - (points[:, :-1] ** 2).sum(1), 0))
        return points

    def _build(self):
        tree = build_tree(self._coordinates(self._vectors), leaf_size=self.leaf_size)
        self._axis, self._link, self._planes, self._blocks, self._rows = tree[:5]
        self._depth = np.int64([tree.depth])

    def _changed(self):
        super()._changed()
        self._tree = Tree(self._axis, self._link, self._planes, self._blocks, self._rows, int(self._depth[0]), 1)
        if self._built < len(self._ids):
            tail = self._coordinates(self._vectors[self._built :])
            self._tree = hang_leaf(self._tree, tail, np.arange(self._built, len(self._ids), dtype=np.int32))
        self._lane_ids = np.append(self._ids, -1)[self._tree.rows]  # padding has row -1
        self._opening = open_tree(self._tree, self._live)

    def _arguments(self, queries, open_rows):
        opening = self._opening if open_rows is self._live else open_tree(self._tree, open_rows)
        options = {"metric": METRICS.index(self.metric)}
        if self.metric == "ip":
            options["shifts"] = self._largest_norm**2 + (queries.astype(np.float64) ** 2).sum(1)
        return self._tree, self._lane_ids, opening, queries, options

    def _nearest(self, queries, k, open_rows):
        *arguments, options = self._arguments(queries, open_rows)
        options.update(eps=self.eps, max_leaves=self.max_leaves)
        return self._exactly(queries, *search_tree(*arguments, k, **options))

    def _exactly(self, queries, ids, distances):
        """For "ip" the tree knows distances up to a rounding; for the others they are what _measure would say."""
        if self.metric != "ip":
            return ids, distances
        found, measured = np.full_like(ids, -1), np.full_like(distances, np.inf)
        _measure(self._vectors, self._rows_of(ids), self._ids, queries, METRICS.index("ip"), found, measured)
        return found, measured

    def range_search(self, queries, radius, *, allow=None, threads=None):
        """All with distance <= radius, ascending -> offsets (n + 1,), ids, distances; query i from offsets[i] on."""
        radius = check_number(radius, "radius")
        queries, open_rows = self._check_search(queries, allow)
        with thread_count(threads):
            *arguments, options = self._arguments(queries, open_rows)
            return range_tree(*arguments, radius, **options)
