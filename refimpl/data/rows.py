"""What the functions that choose rows ask of their arguments, in one place."""

import numpy as np

from ..validation import check_array


def check_groups(groups, name, *, min_rows=1):
    """`groups` (labels, items, owners ...) as (n,) int64: one integer a row, any values that int64 has."""
    return as_int64(check_array(groups, name, ndim=1, min_rows=min_rows), name)


def as_int64(values, name):
    """An array of integers as int64; ValueError for other dtypes, and where a uint64 would change its value."""
    if values.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected integers, got dtype {values.dtype}")
    if values.dtype == np.uint64 and values.size and values.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name}: expected integers below 2^63, got {values.max()}; view them as int64")
    return values.astype(np.int64)


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
