"""What the functions that choose rows ask of their arguments, in one place."""

import numpy as np

from ..validation import check_array


def check_groups(groups, name, *, min_rows=1):
    """`groups` (labels, items, owners ...) as (n,) int64: one integer a row, any values."""
    groups = check_array(groups, name, ndim=1, min_rows=min_rows)
    if groups.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected integers, got dtype {groups.dtype}")
    return groups.astype(np.int64)


def rows_by_group(groups):
    """The rows of each group that occurs, in rising order of groups and of rows. Cost: O(n log n), for any number."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(groups) else []


def check_rows(rows, name, n, *, shape=(None,), least=0):
    """`rows` as int64 of that shape, all in [least, n)."""
    rows = check_array(rows, name, shape=shape)
    if rows.dtype.kind not in "iu" and rows.size:
        raise ValueError(f"{name}: expected integers, got dtype {rows.dtype}")
    if rows.size and (rows.min() < least or rows.max() >= n):
        raise ValueError(f"{name}: expected rows in [{least}, {n}), got {rows.min()} to {rows.max()}")
    return rows.astype(np.int64)


def check_pairs(pairs, n):
    """`pairs` as (m, 2) int64, rows (query, positive) of a collection of n."""
    return check_rows(pairs, "pairs", n, shape=(None, 2))
