"""The search of a kd-tree: down to the query's own cell, then to those that the bound does not exclude.

The order. An exact search must see every cell that the bound does not exclude, and goes depth first, nearer sides
first: a pile as high as the tree, which stays in the cache. With a budget of leaves the order decides, so then the cell
with the least bound is next ("best bin first", Arya and Mount 1993; Beis and Lowe 1997), from a heap of all that wait.

The bound. `side[j]` is how far the query is outside of the cell on axis j, and the squared distance to the cell is
the sum of side[j]^2. Crossing a cut on axis j changes one term (Arya and Mount 1993, as scipy's cKDTree does it):

    bound(far child) = bound - side[j]^2 + gap^2,     gap = the distance to the nearest point beyond the cut, on axis j

Exactness. Coordinates are float64 when computed with (float32 goes into it without loss) and squared distances are
sums over j in order. Rounding is monotone, so |x_j - q_j| >= side[j] holds for what is computed, and the error of a
bound over 256 levels is below 2^-43 of it; bounds are shrunk by 2^-40 before they exclude anything. Neighbours are
ordered by the float32 distance that is returned, then by id, and a cell is left out only if no distance in it can
round to the worst.

Metrics. "cosine" searches among unit vectors, where |x - q|^2 = 2 (1 - cos). "ip" appends sqrt(M^2 - |x|^2) to each
vector and 0 to the query, M the largest norm: then |x - q|^2 = M^2 + |q|^2 - 2 x.q ranks by inner product (Bachrach
et al. 2014). Where M^2 is much larger than x.q that form has lost the digits of x.q: it only says which lanes may be
near enough, with room for its rounding, (d + 16) 2^-50 of M^2 + |q|^2, and their products are summed on their own.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numba.np import arrayobj

from ..kernels import in_threads, inlined, inner, kernel
from .bits import in_every_lane, lowest_bit, pack_lanes
from .candidates import offer
from .kdtree_build import LANES
from .priority_queue import drop_first, push

SAFE = 1 - 2.0**-40  # times a bound: never above the distance it bounds
L2, COSINE, IP = 0, 1, 2


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


@inner
def _distance(squared, metric, blocks, block, lane, query):
    """The distance to return, from |x - q|^2 in the space of the tree; for "ip", where that cancels, from x."""
    if metric == L2:
        return np.float32(np.sqrt(squared))
    if metric == COSINE:
        return np.float32(0.5 * squared)
    total = np.float64(0)
    for j in range(len(query)):
        total += np.float64(blocks[block, j, lane]) * -query[j]
    return np.float32(total)


@inner
def _largest_squared(distance, metric, shift, d):
    """No |x - q|^2 above this has a float32 distance of `distance` or less; shift = M^2 + |q|^2, for "ip"."""
    if distance == -np.inf:  # inner products beyond float32, which tie
        return np.inf
    up = np.float64(distance) + 2.0**-23 * abs(np.float64(distance)) + 1e-44
    if metric == L2:
        return up * up
    return 2 * up if metric == COSINE else 2 * up + shift + (d + 16) * 2.0**-50 * shift


@kernel
def _has_open(tree, open_lanes, found):
    """OUT found (nodes,) = False: does it hold an open lane?"""
    for node in range(len(tree.axis) - 1, -1, -1):  # children come after their parent
        if tree.axis[node] >= 0:
            found[node] = found[node + 1] or found[tree.link[node]]
        else:
            for block in range(tree.link[node], tree.link[node] - tree.axis[node]):
                found[node] = found[node] or open_lanes[block] != 0


@kernel
def _leaf_of(first, last, tree, queries, leaf):
    """OUT leaf[first:last] uint16: the leaf of each query, as its place in the order of the tree, in 65536ths."""
    axis, link, planes = tree.axis, tree.link, tree.planes
    for i in range(first, last):
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
        if not (far_bound * stretch > limit) and has_open[far]:  # inf - inf, which is NaN, excludes nothing
            todo[n_todo], bounds[n_todo] = far, far_bound
            for e in range(len(side)):
                sides[n_todo, e] = side[e]
            sides[n_todo, j] = gap
            n_todo += 1
    return node, n_todo


@inner
def _at_roots(tree, todo, bounds, sides):
    """The pile at the start of a search. OUT todo, bounds, sides."""
    for root in range(tree.roots):
        todo[root], bounds[root] = (len(tree.axis) - 1) * root, 0.0
        for j in range(sides.shape[1]):
            sides[root, j] = 0.0


def _room(tree, d):
    """For a walk: the pile of what is still to be seen, its bounds and sides; one node's sides; a block's distances."""
    height = tree.depth + 3
    return np.empty(height, np.int64), np.empty(height), np.empty((height, d)), np.empty(d), np.empty(LANES)


def _room_for_best(tree, d):
    """For a search best first: the same; keys and places of a heap of cells, and the cells, their sides, free places.

    Cells that wait hold different leaves.
    """
    most = (len(tree.axis) + 1) // 2 + tree.roots
    heap = np.empty(most), np.empty(most, np.int64)
    return _room(tree, d), heap, (np.empty(most, np.int64), np.empty((most, d)), np.empty(most, np.int64))


@inlined
def _offer_leaf(tree, node, lane_ids, open_lanes, queries, i, shift, metric, limit, near, found, distances):
    """Offer the open points of a leaf to query i -> the new limit. INOUT found (k,), distances (k,)."""
    d = queries.shape[1]
    for block in range(tree.link[node], tree.link[node] - tree.axis[node]):
        lanes = block_distances(tree.blocks, block * d * LANES, queries, i * d, d, limit, near)
        lanes &= open_lanes[block]
        while lanes:
            lane = lowest_bit(lanes)
            lanes &= lanes - np.uint64(1)
            if near[lane] > limit:  # which those before it have lowered
                continue
            distance = _distance(near[lane], metric, tree.blocks, block, lane, queries[i])
            offer(distances, found, distance, lane_ids[block, lane])
            limit = _largest_squared(distances[-1], metric, shift, d)
    return limit


@kernel
def _nearest(
    first, last, tree, lane_ids, open_lanes, has_open, queries, order, shifts, metric, stretch, found, distances, room
):  # fmt: skip
    """OUT found (n, k) = -1, distances (n, k) = inf, for the queries order[first:last]. Depth first."""
    axis, link, planes = tree.axis, tree.link, tree.planes
    todo, bounds, sides, side, near = room
    for i in order[first:last]:
        query, limit, n_todo = queries[i], np.inf, tree.roots
        _at_roots(tree, todo, bounds, sides)
        while n_todo:
            n_todo -= 1
            node, bound = todo[n_todo], bounds[n_todo]
            if bound * stretch > limit:
                continue
            node, n_todo = _descend(
                axis, link, planes, has_open, query, node, bound, stretch, limit, todo, bounds, sides, n_todo, side
            )
            if has_open[node]:
                limit = _offer_leaf(
                    tree, node, lane_ids, open_lanes, queries, i, shifts[i], metric, limit, near, found[i], distances[i]
                )


@kernel
def _nearest_in_leaves(
    first, last, tree, lane_ids, open_lanes, has_open, queries, order, shifts, metric, stretch, max_leaves, found,
    distances, room,
):  # fmt: skip
    """As `_nearest`, best first, in at most `max_leaves` leaves, or as many more as it takes to find k."""
    axis, link, planes = tree.axis, tree.link, tree.planes
    (todo, bounds, sides, side, near), (keys, places), (nodes, waiting, free) = room
    for i in order[first:last]:
        query, limit, leaves, size, used, n_free = queries[i], np.inf, np.int64(0), tree.roots, tree.roots, 0
        if tree.roots == 2 and has_open[len(axis) - 1]:
            leaves = -1
        for root in range(tree.roots):  # what hangs beside the tree comes first, and is not counted
            keys[root], places[root], nodes[root] = 0.0, tree.roots - 1 - root, (len(axis) - 1) * root
            waiting[root, :] = 0.0
        while size and (leaves < max_leaves or found[i, -1] < 0):
            bound, place = keys[0], places[0]
            if bound * stretch > limit:
                break
            drop_first(keys, places, size)
            size -= 1
            for e in range(len(side)):
                sides[0, e] = waiting[place, e]
            free[n_free] = place
            n_free += 1
            node, n_far = _descend(
                axis, link, planes, has_open, query, nodes[place], bound, stretch, limit, todo, bounds, sides, 0, side
            )
            for far in range(n_far):
                if n_free:
                    n_free -= 1
                    place = free[n_free]
                else:
                    place = used
                    used += 1
                nodes[place] = todo[far]
                for e in range(len(side)):
                    waiting[place, e] = sides[far, e]
                push(keys, places, size, bounds[far] if bounds[far] > 0 else 0.0, place)  # NaN excludes nothing
                size += 1
            if has_open[node]:
                leaves += 1
                limit = _offer_leaf(
                    tree, node, lane_ids, open_lanes, queries, i, shifts[i], metric, limit, near, found[i], distances[i]
                )


@kernel
def _within(
    first,
    last,
    tree,
    lane_ids,
    open_lanes,
    has_open,
    queries,
    order,
    shifts,
    metric,
    radius,
    ends,
    found,
    distances,
    room,
):
    """All neighbours of query i with distance <= radius, before place ends[i] of found and distances.

    For i in order[first:last]. ends (n,) INOUT counts down by their number; with empty found and distances, that is
    all that happens.
    """
    d = queries.shape[1]
    axis, link, planes, blocks = tree.axis, tree.link, tree.planes, tree.blocks
    todo, bounds, sides, side, near = room
    for i in order[first:last]:
        query, shift, n_todo = queries[i], shifts[i], tree.roots
        limit = _largest_squared(radius, metric, shift, d)
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
                    distance = _distance(near[lane], metric, blocks, block, lane, query)
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
    if open_rows is not None and not open_rows.all():
        is_open &= open_rows[tree.rows]
    lanes = pack_lanes(is_open)
    every = lanes.all()  # blocks that hold an open lane: then so does every node
    nodes = np.full(len(tree.axis), bool(every))
    if not every:
        _has_open(tree, lanes, nodes)
    return Opening(lanes, nodes)


class Prepared(NamedTuple):
    """Queries as the kernels want them."""

    points: np.ndarray  # (n, d) float64, C-contiguous
    order: np.ndarray  # (n,) the order of their leaves: neighbours share what is in the cache
    shifts: np.ndarray  # (n,) float64, for `_largest_squared`


def _prepare(tree, queries, shifts):
    """The queries in the order of the leaves they fall into: neighbours in it read the same memory."""
    points = np.ascontiguousarray(queries, np.float64)
    leaf = np.empty(len(points), np.uint16)
    in_threads(len(points), _leaf_of, tree, points, leaf)
    shifts = np.zeros(len(points)) if shifts is None else np.ascontiguousarray(shifts, np.float64)
    return Prepared(points, np.argsort(leaf, kind="stable"), shifts)


def search_tree(tree, lane_ids, opening, queries, k, *, metric=L2, shifts=None, eps=0.0, max_leaves=None):
    """The k nearest of each query -> ids (n, k) int64, -1 where there are none, and distances (n, k) float32, +inf.

    lane_ids (blocks, LANES) int64 gives the id of a lane, `opening` which may be found. A cell is left out if (1 + eps)
    times its distance exceeds the k-th so far: what is returned is then at most (1 + eps) times the true one.
    `max_leaves` ends the search after so many, or after k neighbours if those hold fewer; more never find less.
    """
    points, order, shifts = _prepare(tree, queries, shifts)
    found, distances = np.full((len(points), k), -1, np.int64), np.full((len(points), k), np.inf, np.float32)
    arguments = tree, lane_ids, *opening, points, order, shifts, metric, SAFE * (1 + eps) ** 2
    search, make_room, budget = _nearest, _room, ()
    if max_leaves is not None:
        search, make_room, budget = _nearest_in_leaves, _room_for_best, (max_leaves,)
    arguments = *arguments, *budget, found, distances
    in_threads(len(points), search, *arguments, at_least=16, room=lambda: make_room(tree, points.shape[1]))
    return found, distances


def range_tree(tree, lane_ids, opening, queries, radius, *, metric=L2, shifts=None):
    """All with distance <= radius -> offsets (n + 1,), ids, distances; query i has places offsets[i] to offsets[i + 1].

    Sorted by (distance, id). Two passes over the tree: one counts, one writes.
    """
    points, order, shifts = _prepare(tree, queries, shifts)
    found, distances, ends = np.empty(0, np.int64), np.empty(0, np.float32), np.zeros(len(points), np.int64)
    arguments = tree, lane_ids, *opening, points, order, shifts, metric, np.float32(radius)

    def room():
        return _room(tree, points.shape[1])

    in_threads(len(points), _within, *arguments, ends, found, distances, at_least=16, room=room)
    offsets = np.concatenate([[0], np.cumsum(-ends)])
    found, distances = np.empty(offsets[-1], np.int64), np.empty(offsets[-1], np.float32)
    in_threads(len(points), _within, *arguments, offsets[1:].copy(), found, distances, at_least=16, room=room)
    by_query = np.lexsort((found, distances, np.repeat(np.arange(len(points)), np.diff(offsets))))
    return offsets, found[by_query], distances[by_query]
