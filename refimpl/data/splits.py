"""Training and held-out rows without leakage: what must be on one side stays on one side.

    split            fold
    split_rows       k_folds            rows that have nothing to do with each other
    split_by_class   k_folds_by_class   the same share of every class
    split_by_group   k_folds_by_group   all rows of a group (one product, one user, one drawer) on one side
    split_by_time    k_folds_by_time    the future is held out from the past

A split returns (rest, held_out), a k-fold a list of k (rest, held_out); all sorted int64 rows. Every fold but that of
time holds out each row once.

Leakage is when the held-out side contains what training has seen: another picture of the same product, the same
picture saved twice, tomorrow's prices. The score then tells how well the model remembers. Which column is the group is
for you to know; for near-copies, group by a perceptual hash first.
"""

import numpy as np

from ..validation import check_array, check_integer, check_number
from .rows import check_groups, rows_by_group


def split_rows(n, fraction, seed):
    """(rest, held_out): round(fraction * n) of n rows are held out, but at least 1 and at most n - 1.

    n >= 2, 0 < fraction < 1
    """
    n = check_integer(n, "n", minimum=2)
    return _sides(np.random.default_rng(seed).permutation(n)[: _share(n, _check_fraction(fraction))], n)


def split_by_class(labels, fraction, seed):
    """(rest, held_out), the second with `fraction` of every class.

    labels     (n,) integers, at least one of them twice
    fraction   0 < fraction < 1; a class of m gives round(fraction * m), but at least 1 and at most m - 1; a class of
               one picture stays whole in the rest
    """
    labels = check_groups(labels, "labels")
    fraction = _check_fraction(fraction)
    rng = np.random.default_rng(seed)
    held_out = []
    for members in rows_by_group(labels):
        rows = rng.permutation(members)
        if len(rows) > 1:
            held_out += rows[: _share(len(rows), fraction)].tolist()
    if not held_out:
        raise ValueError("labels: expected at least two rows with one label, every label occurs once")
    return _sides(held_out, len(labels))


def split_by_group(groups, fraction, seed):
    """(rest, held_out), no group on both sides.

    groups     (n,) integers, at least two different
    fraction   0 < fraction < 1: round(fraction * number of groups) groups are held out, but at least one and not all.
               It is a share of the groups, not of the rows: groups of any size are equally likely to be held out, so
               that the held-out ones are a fair sample of groups
    """
    groups = check_groups(groups, "groups")
    names = np.unique(groups)
    if len(names) < 2:
        raise ValueError(f"groups: expected at least two different ones, got only {names[0]}")
    chosen = np.random.default_rng(seed).permutation(names)[: _share(len(names), _check_fraction(fraction))]
    return _sides(np.flatnonzero(np.isin(groups, chosen)), len(groups))


def split_by_time(time, fraction):
    """(rest, held_out): the last `fraction` of the rows by time; rows of one moment stay together, in the rest.

    time      (n,) real, finite
    fraction  0 < fraction < 1: the first held-out row would be number n - round(fraction n); with ties there, fewer
    Raises ValueError if nothing would be held out, because the last moment has too many rows.
    """
    time = check_array(time, "time", ndim=1, finite=True, min_rows=2)
    held = _share(len(time), _check_fraction(fraction))
    last_of_rest = np.sort(time)[len(time) - held - 1]
    held_out = np.flatnonzero(time > last_of_rest)
    if not len(held_out):
        raise ValueError(
            f"time: expected fewer rows at the last moment {last_of_rest}, got more than are to be held out"
        )
    return _sides(held_out, len(time))


def k_folds(n, k, seed):
    """[(rest, held_out)] * k of n rows in random order; sizes of the held-out sides differ by at most one.

    2 <= k <= n
    """
    n = check_integer(n, "n", minimum=2)
    k = check_integer(k, "k", minimum=2, maximum=n)
    return _folds(_deal(np.random.default_rng(seed).permutation(n), n, k), k)


def k_folds_by_class(labels, k, seed):
    """The same, and of every class the numbers held out differ by at most one as well.

    labels (n,) integers, 2 <= k <= n. A class of fewer than k rows is missing from some held-out sides.
    """
    labels = check_groups(labels, "labels", min_rows=2)
    k = check_integer(k, "k", minimum=2, maximum=len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    return _folds(_deal(order[np.argsort(labels[order], kind="stable")], len(labels), k), k)


def k_folds_by_group(groups, k, seed):
    """[(rest, held_out)] * k, each group whole in one held-out side, their sizes as even as a simple rule makes them.

    groups (n,) integers, k of them different at least. The largest group first, each goes to the fold that has the
    fewest rows (ties among groups and folds in random order): no fold has more than the mean and one largest group.
    Source: Graham, "Bounds on multiprocessing timing anomalies", 1969 (longest processing time first).
    """
    groups = check_groups(groups, "groups")
    names, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    k = check_integer(k, "k", minimum=2)
    if k > len(names):
        raise ValueError(f"k: expected at most the {len(names)} different groups, got {k}")
    rng = np.random.default_rng(seed)
    fold_of, load, tie = np.empty(len(names), np.int64), np.zeros(k, np.int64), rng.permutation(k)
    for group in np.lexsort((rng.permutation(len(names)), -sizes)):
        fold = tie[np.argmin(load[tie])]
        fold_of[group] = fold
        load[fold] += sizes[group]
    return _folds(fold_of[index], k)


def k_folds_by_time(time, k):
    """[(rest, held_out)] * k, each held-out side a later stretch of time, the rest everything before it.

    The rows in order of time are cut into k + 1 stretches of even size; stretch i is held out with those before it as
    the rest. Rows of one moment stay in one stretch, that of the first of them. The first stretch is never held out,
    and rows after the held-out ones are on neither side.
    time (n,) real, finite. Raises ValueError if ties leave a stretch empty, or for k + 1 > n.
    """
    time = check_array(time, "time", ndim=1, finite=True, min_rows=2)
    k = check_integer(k, "k", minimum=1, maximum=len(time) - 1)
    first_of_moment = np.searchsorted(np.sort(time), time, side="left")
    stretch = first_of_moment * (k + 1) // len(time)
    if len(np.unique(stretch)) < k + 1:
        raise ValueError(f"time: expected moments for {k + 1} stretches, got too many rows of one moment")
    return [(np.flatnonzero(stretch < i), np.flatnonzero(stretch == i)) for i in range(1, k + 1)]


def _check_fraction(fraction):
    return check_number(fraction, "fraction", above=0.0, below=1.0)


def _share(m, fraction):
    return min(max(round(fraction * m), 1), m - 1)


def _sides(held_out, n):
    held = np.zeros(n, bool)
    held[held_out] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _deal(order, n, k):
    """(n,) folds: the rows in `order` are dealt out to k folds in turn."""
    fold_of = np.empty(n, np.int64)
    fold_of[order] = np.arange(n) % k
    return fold_of


def _folds(fold_of, k):
    return [(np.flatnonzero(fold_of != i), np.flatnonzero(fold_of == i)) for i in range(k)]
