"""Classes of very unequal size: rows to train on, so that rare ones are seen.

    oversample     all rows, the smaller classes repeated        nothing is lost; repeated pictures are learned by heart
    undersample    of each class as many as the smallest has     nothing is repeated; most of the data is not used
    balanced_rows  a random class, then a random row of it       batches for training, of any length

They change what the model takes for the frequency of a class: predicted chances are then off by the ratio of the
frequencies. The other way is in the loss: `losses.class_balanced_weights`, `focal_loss`, `softmax_focal_loss`.
Split first: an oversampled row on both sides of a split is a leak.
"""

import numpy as np

from ..validation import check_integer
from .rows import check_groups, rows_by_group


def oversample(labels, seed, *, to=None):
    """Rows, sorted, that hold every row of each class, repeated to the size of the largest class, or to `to`.

    labels  (n,) integers. A class is repeated whole as often as it fits; the rest are different rows of it, at random.
    to      at least the size of the largest class
    """
    labels = check_groups(labels, "labels")
    classes = rows_by_group(labels)
    largest = max(map(len, classes))
    to = largest if to is None else check_integer(to, "to", minimum=largest)
    rng = np.random.default_rng(seed)
    rows = []
    for members in classes:
        whole, rest = divmod(to, len(members))
        rows += [np.repeat(members, whole), rng.choice(members, rest, replace=False)]
    return np.sort(np.concatenate(rows))


def undersample(labels, seed, *, to=None):
    """Different rows, sorted: of each class as many as the smallest has, or `to` (a smaller class then gives all)."""
    labels = check_groups(labels, "labels")
    classes = rows_by_group(labels)
    to = min(map(len, classes)) if to is None else check_integer(to, "to", minimum=1)
    rng = np.random.default_rng(seed)
    return np.sort(np.concatenate([rng.choice(m, min(to, len(m)), replace=False) for m in classes]))


def balanced_rows(labels, n, seed, *, class_chances=None):
    """(n,) rows with replacement: a class, then a row of it.

    labels         (m,) integers
    class_chances  (c,) >= 0, in any scale, of the labels that occur in rising order, such as those of
                   `losses.class_balanced_weights` times the classes' counts; None: every class the same
    """
    labels = check_groups(labels, "labels")
    n = check_integer(n, "n", minimum=0)
    names, sizes = np.unique(labels, return_counts=True)
    chances = np.ones(len(names)) if class_chances is None else np.asarray(class_chances, np.float64)
    if chances.shape != names.shape or not np.isfinite(chances).all() or (chances < 0).any() or not chances.any():
        raise ValueError(f"class_chances: expected {len(names)} values >= 0, not all 0, got {class_chances!r}")
    rng = np.random.default_rng(seed)
    chances = chances / chances.max()
    chosen = rng.choice(len(names), n, p=chances / chances.sum())
    first = np.cumsum(sizes) - sizes
    return np.argsort(labels, kind="stable")[first[chosen] + rng.integers(0, sizes[chosen])]
