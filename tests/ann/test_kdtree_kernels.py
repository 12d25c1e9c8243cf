"""The kd-tree's build and search on arrays, against definitions: a sort, and the invariants of its layout."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.ann.kdtree_build import LANES, build_tree
from refimpl.ann.kdtree_search import open_tree, range_tree, search_tree


def distances_by_definition(points, queries):
    """(queries, points) float32: the root of the sum of squares, in float64, in the order of the axes."""
    squares = np.zeros((len(queries), len(points)))
    with np.errstate(over="ignore"):
        for j in range(points.shape[1]):
            squares += (queries[:, j, None] - points[None, :, j]) ** 2
        return np.sqrt(squares).astype(np.float32)


def nearest_by_sort(points, queries, k, keep=None):
    distances = distances_by_definition(points, queries)
    ids, found = np.full((len(queries), k), -1), np.full((len(queries), k), np.inf, np.float32)
    rows = np.flatnonzero(np.ones(len(points), bool) if keep is None else keep)
    for i, row in enumerate(distances[:, rows]):
        order = np.lexsort((rows, row))[:k]
        ids[i, : len(order)], found[i, : len(order)] = rows[order], row[order]
    return ids, found


def planted(points, keep=None, **options):
    tree = build_tree(points.copy(), **options)
    return tree, tree.rows.astype(np.int64), open_tree(tree, keep)


@st.composite
def clouds(draw):
    """Points of many kinds: ties, duplicates, lines, constants, wide ranges of scale; and queries among them."""
    n, d = draw(st.integers(1, 120)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["normal", "grid", "line", "constant", "powers", "few", "drawn"]))
    if kind == "normal":
        points = rng.standard_normal((n, d))
    elif kind == "grid":
        points = rng.integers(-2, 3, (n, d)).astype(float)
    elif kind == "line":
        points = rng.integers(0, 30, (n, 1)) * rng.standard_normal((1, d))
    elif kind == "constant":
        points = np.full((n, d), 0.1)
    elif kind == "powers":
        points = 2.0 ** -rng.integers(0, 200, (n, d))
    elif kind == "few":
        points = rng.standard_normal((3, d))[rng.integers(0, 3, n)]
    else:
        numbers = st.floats(-1e200, 1e200) | st.floats(-1, 1, width=32) | st.sampled_from([0.0, -0.0, 5e-324])
        points = draw(hnp.arrays(np.float64, (min(n, 30), d), elements=numbers))
    own = points[rng.integers(0, len(points), 4)]
    return points, np.concatenate([own, own + 0.01 * rng.standard_normal(own.shape), rng.standard_normal((3, d))])


@given(clouds(), st.integers(1, 130), st.integers(1, 40))
def test_search_agrees_with_a_sort(cloud, k, leaf_size):
    points, queries = cloud
    ids, distances = search_tree(*planted(points, leaf_size=leaf_size), queries, k)
    expected_ids, expected = nearest_by_sort(points, queries, k)
    np.testing.assert_array_equal(distances, expected)
    np.testing.assert_array_equal(ids, expected_ids)


def test_squares_that_overflow_exclude_nothing():
    """Beyond the cut at -1e154 the bound is infinite, and beyond the next on the same axis inf - inf."""
    points = np.array([[0.0, 0], [0, -1.4e154], [0, -1.5e154], [1, 0], [0, 1.4e154]])
    ids, distances = search_tree(*planted(points, leaf_size=1), points, 5)
    expected_ids, expected = nearest_by_sort(points, points, 5)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_array_equal(distances, expected)


@given(clouds(), st.integers(1, 20), st.floats(0, 1), st.integers(0, 99))
def test_filtered_search_is_search_in_the_subset(cloud, k, share, seed):
    points, queries = cloud
    keep = np.random.default_rng(seed).random(len(points)) < share
    ids, distances = search_tree(*planted(points, keep), queries, k)
    expected_ids, expected = nearest_by_sort(points, queries, k, keep)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_array_equal(distances, expected)


@given(clouds(), st.floats(0, 3, width=32), st.booleans())
def test_range_search_is_a_filter_of_a_sort(cloud, radius, from_a_pair):
    points, queries = cloud
    by_definition = distances_by_definition(points, queries)
    if from_a_pair:  # a radius that is exactly a distance
        radius = float(by_definition[0, 0])
    offsets, ids, distances = range_tree(*planted(points), queries, radius)
    expected_ids, expected = nearest_by_sort(points, queries, len(points))
    for i in range(len(queries)):
        inside = expected[i] <= np.float32(radius)
        np.testing.assert_array_equal(ids[offsets[i] : offsets[i + 1]], expected_ids[i, inside])
        np.testing.assert_array_equal(distances[offsets[i] : offsets[i + 1]], expected[i, inside])


@given(clouds(), st.floats(0, 2))
def test_eps_bounds_the_error_of_every_rank(cloud, eps):
    points, queries = cloud
    _, distances = search_tree(*planted(points, leaf_size=2), queries, 5, eps=eps)
    _, expected = nearest_by_sort(points, queries, 5)
    with np.errstate(over="ignore"):
        assert (distances <= np.float32(1 + 1e-6) * np.float32(1 + eps) * expected).all()


@pytest.mark.parametrize("max_leaves", [None, 10**6])
@settings(max_examples=30)
@given(n=st.integers(2, 300), d=st.integers(1, 6), leaf_size=st.integers(1, 20), seed=st.integers(0, 999))
def test_a_cell_that_the_bound_excludes_is_not_read(max_leaves, n, d, leaf_size, seed):
    """The query is the last point, at distance 0 in its own leaf. All other leaves say that they hold it, too."""
    points = np.random.default_rng(seed).standard_normal((n, d))
    tree, lane_ids, opening = planted(points, leaf_size=leaf_size)
    for leaf in np.flatnonzero(tree.axis < 0):
        blocks = slice(tree.link[leaf], tree.link[leaf] - tree.axis[leaf])
        if n - 1 not in tree.rows[blocks]:
            tree.blocks[blocks] = points[-1][None, :, None]
    ids, distances = search_tree(tree, lane_ids, opening, points[-1:], 1, max_leaves=max_leaves)
    assert ids.tolist() == [[n - 1]] and distances.tolist() == [[0]]
    offsets, ids, _ = range_tree(tree, lane_ids, opening, points[-1:], 0.0)
    assert offsets.tolist() == [0, 1] and ids.tolist() == [n - 1]


@settings(max_examples=10)
@given(st.integers(0, 999), st.floats(1, 3), st.sampled_from([None, 10**6]))
def test_eps_leaves_out_cells_that_hold_neighbours(seed, eps, max_leaves):
    rng = np.random.default_rng(seed)
    tree, queries = planted(rng.random((4000, 8))), rng.random((100, 8))
    exact = search_tree(*tree, queries, 5)[1]
    found = search_tree(*tree, queries, 5, eps=eps, max_leaves=max_leaves)[1]
    assert (found > exact).any() and (found <= np.float32(1 + 1e-6) * np.float32(1 + eps) * exact).all()


@given(clouds(), st.integers(1, 8))
def test_a_larger_budget_never_finds_less(cloud, k):
    points, queries = cloud
    tree = planted(points, leaf_size=1)
    before = np.full((len(queries), k), np.inf)
    for max_leaves in (1, 2, 4, 8, 16, None):
        _, distances = search_tree(*tree, queries, k, max_leaves=max_leaves)
        assert (distances <= before).all()
        before = distances
    np.testing.assert_array_equal(before, nearest_by_sort(points, queries, k)[1])


def leaves_by_bound(tree, query):
    """The rows of each leaf, by the distance of the query to its cell."""
    found, todo = [], [(0, np.zeros(len(query)))]
    while todo:
        node, side = todo.pop()
        j = tree.axis[node]
        if j < 0:
            rows = tree.rows[tree.link[node] : tree.link[node] - j]
            found.append((np.sum(side**2), rows[rows >= 0]))
            continue
        low, high = tree.planes[node]
        left, far = query[j] < 0.5 * low + 0.5 * high, side.copy()
        far[j] = high - query[j] if left else query[j] - low
        todo += [(node + 1, side if left else far), (tree.link[node], far if left else side)]
    return [rows for _, rows in sorted(found, key=lambda pair: pair[0])]


@settings(max_examples=50)
@given(
    st.integers(1, 150), st.integers(1, 6), st.integers(1, 9), st.integers(1, 12), st.booleans(), st.integers(0, 999)
)
def test_a_budget_goes_to_the_leaves_with_the_nearest_cells(n, d, k, max_leaves, some, seed):
    """As many as the budget, or more until they hold k; closed ones are not counted."""
    rng = np.random.default_rng(seed)
    points, queries = rng.standard_normal((n, d)), rng.standard_normal((5, d))
    keep = rng.random(n) < 0.3 if some else np.ones(n, bool)
    tree, lane_ids, opening = planted(points, keep, leaf_size=3)
    ids, _ = search_tree(tree, lane_ids, opening, queries, k, max_leaves=max_leaves)
    for query, own in zip(queries, ids):
        rows = [keep_of[keep[keep_of]] for keep_of in leaves_by_bound(tree, query)]
        rows = [open_rows for open_rows in rows if len(open_rows)]
        held = np.cumsum([len(open_rows) for open_rows in rows])
        seen = max(max_leaves, int(np.searchsorted(held, k)) + 1)
        seen = np.isin(np.arange(n), np.concatenate([np.empty(0, int), *rows[:seen]]))
        np.testing.assert_array_equal(own, nearest_by_sort(points, query[None], k, seen)[0][0])


@given(clouds(), st.integers(1, 40))
def test_leaves_hold_every_row_once_and_cuts_separate(cloud, leaf_size):
    points, _ = cloud
    tree = build_tree(points.copy(), leaf_size=leaf_size)
    assert sorted(tree.rows[tree.rows >= 0]) == list(range(len(points)))
    for block, lane in np.argwhere(tree.rows >= 0):
        np.testing.assert_array_equal(tree.blocks[block, :, lane], points[tree.rows[block, lane]])

    def rows_below(node):
        if tree.axis[node] < 0:
            rows = tree.rows[tree.link[node] : tree.link[node] - tree.axis[node]]
            return rows[rows >= 0]
        j, (low, high) = tree.axis[node], tree.planes[node]
        left, right = rows_below(node + 1), rows_below(tree.link[node])
        assert points[left, j].max() == low < high == points[right, j].min()
        return np.concatenate([left, right])

    assert len(rows_below(0)) == len(points)


@pytest.mark.parametrize("kind", ["same", "sorted", "geometric", "one outlier", "two values"])
def test_the_tree_stays_shallow_and_complete_on_data_that_defeat_midpoints(kind):
    n = 20000
    i = np.arange(n)
    x = {
        "same": np.zeros(n),
        "sorted": i.astype(float),
        "geometric": 0.97**i,
        "one outlier": np.where(i == 77, 1e300, i % 100),
        "two values": (i % 2).astype(float),
    }[kind]
    points = np.stack([x, x[::-1]], 1)
    tree, lane_ids, opening = planted(points)
    assert tree.depth <= 2 * n.bit_length() + 8 + 2 * np.log2(n)
    queries = points[:: n // 7]
    ids, distances = search_tree(tree, lane_ids, opening, queries, 3)
    expected_ids, expected = nearest_by_sort(points, queries, 3)
    np.testing.assert_array_equal(distances, expected)
    np.testing.assert_array_equal(ids, expected_ids)


@pytest.mark.parametrize("n", [1, 17, 100, 150, 400, 1000])
def test_the_tree_stays_shallow_where_no_axis_halves_the_points(n):
    """One-hot vectors: a cut of any axis takes one point off."""
    points = np.eye(n)[np.random.default_rng(0).permutation(n)]
    tree, lane_ids, opening = planted(points)
    assert tree.depth <= 2 * (2 * n.bit_length() + 8) and np.array_equal(np.sort(tree.rows[tree.rows >= 0]), range(n))
    ids, distances = search_tree(tree, lane_ids, opening, points[:5], 3)
    expected_ids, expected = nearest_by_sort(points, points[:5], 3)
    np.testing.assert_array_equal(distances, expected)
    np.testing.assert_array_equal(ids, expected_ids)


@settings(max_examples=10)
@given(st.integers(0, 2**32), st.integers(500, 3000))
def test_branches_and_batches_change_nothing(seed, n):
    rng = np.random.default_rng(seed)
    points, queries = rng.standard_normal((n, 3)), rng.standard_normal((100, 3))
    tree = planted(points)
    ids, distances = search_tree(*tree, queries, 4)
    for i in range(0, 100, 9):
        one_id, one_distance = search_tree(*tree, queries[i : i + 1], 4)
        np.testing.assert_array_equal(one_id[0], ids[i])
        np.testing.assert_array_equal(one_distance[0], distances[i])
    np.testing.assert_array_equal(ids, nearest_by_sort(points, queries, 4)[0])
    assert (tree[0].rows >= 0).sum() == n and tree[0].rows.shape[1] == LANES
