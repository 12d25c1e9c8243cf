"""What the losses ask of their arguments, in one place."""

import numpy as np

from ..validation import FLOATS, NotFinite, check_array


def check_embeddings(**arrays):
    """The named arrays as finite (n, d) of one dtype and one shape, n >= 1."""
    checked = []
    for name, array in arrays.items():
        array = check_array(array, name, ndim=2, dtypes=FLOATS, finite=True, min_rows=1)
        if checked and (array.shape != checked[0].shape or array.dtype != checked[0].dtype):
            first = checked[0]
            raise ValueError(f"{name}: expected {first.dtype} {first.shape}, got {array.dtype} {array.shape}")
        checked.append(array)
    return checked


def no_overflow(values, what, name="x"):
    """`values`, computed from the finite arguments of that `name`; NotFinite if one left the range of their dtype."""
    if not np.isfinite(values).all():
        raise NotFinite(f"{name}: expected every {what} within {values.dtype}, got one that overflows")
    return values


def check_labels(labels, n, classes=None, name="labels"):
    """`labels` as (n,) int64; with `classes`, all within [0, classes)."""
    labels = check_array(labels, name, shape=(n,))
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected integers, got dtype {labels.dtype}")
    if n and classes is not None and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(f"{name}: expected values in [0, {classes}), got {labels.min()} to {labels.max()}")
    return labels.astype(np.int64)


def same_label(labels, n):
    """(n, n) bool: another row with the same label. Raises ValueError if there is none at all."""
    labels = check_labels(labels, n)
    same = labels[:, None] == labels[None, :]
    np.fill_diagonal(same, False)
    if not same.any():
        raise ValueError("labels: expected at least two rows with one label, every label occurs once")
    return same
