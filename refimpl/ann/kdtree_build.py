"""The kd-tree's cuts and its layout in memory: points -> Tree.

The cut: the midpoint of the points' bounding box on its widest axis (sliding midpoint, Maneewongvatana and Mount 1999),
which makes fat cells. The box is that of the points, not of the cell, so both sides get a point and no cut is wasted on
empty space. Two cases would make the tree deep. Points that crowd together geometrically (1, 1/2, 1/4, ...) lose one
point a cut: beyond depth 2 log2 n + 8 the cut is at the median instead. One-hot vectors lose one point a cut even so,
as no axis can halve them: beyond twice that depth the rest is one leaf. So a build takes O(n log n) whatever the data.
Points that coincide are never cut: they share a leaf of any size.

Layout in memory. Nodes are in preorder: the left child of node i is node i + 1.

    axis (nodes,) int32         the axis that is cut; a leaf holds minus the number of its blocks
    link (nodes,) int32         the right child; in a leaf its first block
    planes (nodes, 2) float64   the largest coordinate on the left, and the smallest on the right, of the cut
    blocks (blocks, d, LANES)   coordinates, dimension by dimension: one vector load takes one coordinate of LANES
                                points; float32, or float64 where the last is computed ("ip"). Leaves lie in the order
                                of the tree, so near in space is near in memory.
    rows (blocks, LANES) int32  which row of the data a lane holds, -1 for padding
"""

from typing import NamedTuple

import numpy as np
from numba import get_num_threads

from ..kernels import in_threads, inner, kernel

LANES = 16  # points in a block: two vectors of eight float64 on AVX-512


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


# Points are reordered in place, so that each subtree is a range of them, and so are their row numbers: a point is
# followed by its row number, as an integer of the same size. `points` (n, d + 1) shows that memory as floats, `words`
# as integers, which is how it is moved.


@inner
def _widest(points, start, end):
    """The axis on which points[start:end] spread most, and their least and largest value there."""
    axis, axis_low, axis_high, width = 0, 0.0, 0.0, -1.0
    for j in range(points.shape[1] - 1):
        low = high = points[start, j]
        for i in range(start + 1, end):
            low = min(low, points[i, j])
            high = max(high, points[i, j])
        if high - low > width:
            axis, axis_low, axis_high, width = j, low, high, high - low
    return axis, axis_low, axis_high


@inner
def _median(points, start, end, axis, room):
    """The median of points[start:end, axis] by Hoare's selection, O(end - start) on average. room (n,)"""
    values = room[: end - start]
    for i in range(start, end):
        values[i - start] = points[i, axis]
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


@inner
def _split_value(points, start, end, axis, low, high, balanced, room):
    """The midpoint of low and high, or the median if `balanced`, but low < split <= high: both sides get a point."""
    split = _median(points, start, end, axis, room) if balanced else 0.5 * low + 0.5 * high
    if split <= low:  # half of the points are at low, or no number lies between low and high
        split = high
        for i in range(start, end):
            if low < points[i, axis] < split:
                split = points[i, axis]
    return split


@inner
def _partition(points, words, start, end, axis, split):
    """Move the points below `split` to the front -> where the others begin, and both edges of the gap.

    Lomuto's partition without its branch, which would be mispredicted every other time: every point changes places with
    the first of those that are not below, and that place moves on if the point was below.
    """
    left, low_edge, high_edge = start, -np.inf, np.inf
    for i in range(start, end):
        value = points[i, axis]
        below = value < split
        for j in range(words.shape[1]):
            word = words[i, j]
            words[i, j] = words[left, j]
            words[left, j] = word
        left += below
        low_edge = max(low_edge, value if below else -np.inf)
        high_edge = min(high_edge, np.inf if below else value)
    return left, low_edge, high_edge


@kernel
def _grow(first, last, points, words, branches, depth_limit, leaf_size, axis, link, planes, grown, room):
    """Write the nodes of the trees over some ranges of points, each in preorder.

    branches (any, 4): first point, end of points, depth of the root, place of its node; this does first to last - 1.
    OUT grown (any, 2): end of the nodes, greatest depth. Links count from the root. A leaf: axis = -(number of points),
    link = its first point, planes[0] = its depth.
    """
    todo, values = room  # (any, 4): start, end, the node it is the right child of, depth
    for b in range(first, last):
        root = branches[b, 3]
        todo[0, 0], todo[0, 1], todo[0, 2], todo[0, 3] = branches[b, 0], branches[b, 1], -1, branches[b, 2]
        n_todo, node, deepest = 1, root, branches[b, 2]
        while n_todo:
            n_todo -= 1
            start, end, parent, depth = todo[n_todo, 0], todo[n_todo, 1], todo[n_todo, 2], todo[n_todo, 3]
            deepest = max(deepest, depth)
            if parent >= 0:
                link[parent] = node - root
            is_leaf = end - start <= leaf_size or depth >= 2 * depth_limit
            j, low, high = (0, 0.0, 0.0) if is_leaf else _widest(points, start, end)
            if low == high:
                axis[node] = start - end
                link[node] = start
                planes[node, 0] = depth
            else:
                split = _split_value(points, start, end, j, low, high, depth >= depth_limit, values)
                middle, low_edge, high_edge = _partition(points, words, start, end, j, split)
                axis[node], planes[node, 0], planes[node, 1] = j, low_edge, high_edge
                for right in range(2):  # the left child is taken from the pile next
                    at_top = n_todo + 1 - right
                    todo[at_top, 0] = start if not right else middle
                    todo[at_top, 1] = middle if not right else end
                    todo[at_top, 2] = node if right else -1
                    todo[at_top, 3] = depth + 1
                n_todo += 2
            node += 1
        grown[b, 0], grown[b, 1] = node, deepest


@kernel
def _splice_branches(
    first, last, spans, axis, link, planes, points, words, places, first_blocks, out_axis, out_link, out_planes, blocks,
    out_rows,
):  # fmt: skip
    """Copy the nodes of each branch to its place in the tree, and the points of its leaves into their blocks.

    spans (any, 2): where the nodes of a branch begin and end.
    """
    d = points.shape[1] - 1
    for b in range(first, last):
        at, block = places[b], first_blocks[b]
        for node in range(spans[b, 0], spans[b, 1]):
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
                    out_rows[block + i // LANES, lane] = words[start + i, d] if i < size else -1
                    for j in range(d):
                        blocks[block + i // LANES, j, lane] = points[start + i, j] if i < size else 0.0
                block += n_blocks
            at += 1


def build_tree(points, *, leaf_size=LANES):
    """The Tree over points (n, d), float32 or float64. O(d n log n) time, n (d + 1) numbers of scratch.

    Branches grow independently: first from the root to halves, then from these to parts enough for all threads, then to
    the leaves. A node depends on its points alone, so the tree is the same whatever the number of threads.
    """
    n, d = points.shape
    if n == 0:
        return hang_leaf(None, points, np.empty(0, np.int32))
    own = np.empty((n, d + 1), points.dtype)
    words = own.view(f"i{own.itemsize}")
    own[:, :d], words[:, d] = points, np.arange(n)
    depth_limit = 2 * n.bit_length() + 8
    nodes = np.empty(2 * n, np.int32), np.empty(2 * n, np.int32), np.empty((2 * n, 2))  # untouched room costs nothing

    def room():
        # of every level one child waits at most, and both of the last
        return np.empty((2 * depth_limit + 1, 4), np.int64), np.empty(n, points.dtype)

    def grow(top, size):
        """Branches at the leaves of `top` -> the leaves, where the nodes of each branch begin and end, the depth."""
        axis, link, planes = top
        leaves = np.flatnonzero(axis < 0)
        starts, depths = link[leaves].astype(np.int64), planes[leaves, 0].astype(np.int64)
        # m points make fewer than 2 m nodes: the branch from point s on has room from node 2 s on.
        branches = np.stack([starts, starts - axis[leaves], depths, 2 * starts], 1)
        grown = np.empty((len(branches), 2), np.int64)
        in_threads(len(branches), _grow, own, words, branches, depth_limit, size, *nodes, grown, at_least=1, room=room)
        return leaves, np.stack([branches[:, 3], grown[:, 0]], 1), int(grown[:, 1].max())

    top = np.int32([-n]), np.int32([0]), np.zeros((1, 2))  # axis, link, planes of one leaf of all points
    for size in (n // 2, n // (4 * get_num_threads())):
        leaves, spans, _ = grow(top, max(leaf_size, size))
        top = _spliced(top, leaves, spans, nodes)
    leaves, spans, depth = grow(top, leaf_size)

    leaf_sizes = [-nodes[0][first:end][nodes[0][first:end] < 0] for first, end in spans]
    n_blocks = np.array([((points_of + LANES - 1) // LANES).sum() for points_of in leaf_sizes])
    blocks = np.empty((n_blocks.sum(), d, LANES), points.dtype), np.empty((n_blocks.sum(), LANES), np.int32)
    places, tree = _with_room(top, leaves, spans)
    arguments = spans, *nodes, own, words, places[leaves], np.cumsum(n_blocks) - n_blocks, *tree, *blocks
    in_threads(len(spans), _splice_branches, *arguments, at_least=1)
    return Tree(*tree, *blocks, depth, 1)


def _with_room(top, leaves, spans):
    """Where the nodes of `top` go if each leaf gives way to the nodes of its branch -> places, axis, link, planes.

    The nodes that are no leaves are there already.
    """
    axis, link, planes = top
    sizes, inner = np.ones(len(axis), np.int64), np.flatnonzero(axis >= 0)
    sizes[leaves] = spans[:, 1] - spans[:, 0]
    places = np.cumsum(sizes) - sizes
    new = tuple(np.empty((sizes.sum(), *array.shape[1:]), array.dtype) for array in top)
    for out, values in zip(new, (axis[inner], places[link[inner]], planes[inner])):
        out[places[inner]] = values
    return places, new


def _spliced(top, leaves, spans, nodes):
    """`top` with the branches of its leaves, nodes[spans[i, 0] : spans[i, 1]], whose links count from their root."""
    places, new = _with_room(top, leaves, spans)
    for place, (first, end) in zip(places[leaves], spans):
        for out, values in zip(new, nodes):
            out[place : place + end - first] = values[first:end]
        new[1][place : place + end - first] += np.where(nodes[0][first:end] >= 0, place, 0).astype(np.int32)
    return new


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
