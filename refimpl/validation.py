"""Checks at the public doors: each returns the value it was given, as an array or a number, or raises ValueError.

Every message names the argument, what was expected and what came. Kernels behind the doors trust their caller.
This module, `files` and `microkernel` are the ground that all packages stand on; they import none of them.
"""

import operator

import numpy as np

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class NotFinite(ValueError):
    """A NaN or an infinity where none may be: of the caller's numbers, or of what came of them."""


def check_array(value, name, *, ndim=None, shape=None, dtypes=None, finite=False, min_rows=0):
    """`value` as an ndarray, after checking what is asked for.

    ndim      an int, or a tuple of allowed ranks
    shape     a tuple with one entry an axis: an int that must match, or None where any size will do
    dtypes    allowed dtypes; None allows any real number type (bool, integers, floats)
    finite    no NaN and no infinity
    min_rows  least size of the first axis
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: expected an array, got ragged data ({error})") from None
    if dtypes is not None:
        allowed = [np.dtype(dtype) for dtype in dtypes]
        if array.dtype not in allowed:
            raise ValueError(f"{name}: expected dtype {' or '.join(map(str, allowed))}, got {array.dtype}")
    elif array.dtype.kind not in "biuf":
        raise ValueError(f"{name}: expected real numbers, got dtype {array.dtype}")
    if ndim is not None:
        ranks = (ndim,) if isinstance(ndim, int) else tuple(ndim)
        if array.ndim not in ranks:
            wanted = " or ".join(map(str, ranks))
            raise ValueError(f"{name}: expected {wanted} dimension(s), got shape {array.shape}")
    if shape is not None:
        fits = array.ndim == len(shape) and all(w is None or w == s for w, s in zip(shape, array.shape))
        if not fits:
            wanted = ", ".join("any" if w is None else str(w) for w in shape)
            raise ValueError(f"{name}: expected shape ({wanted}), got {array.shape}")
    if min_rows and (array.ndim == 0 or array.shape[0] < min_rows):
        raise ValueError(f"{name}: expected at least {min_rows} row(s), got shape {array.shape}")
    if finite and array.dtype.kind == "f" and not np.isfinite(array).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise NotFinite(f"{name}: expected finite values, got {array[at]} at index {at}")
    return array


def check_integer(value, name, *, minimum=None, maximum=None):
    """`value` as an int between `minimum` and `maximum` (both inclusive; None is no bound)."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name}: expected an integer, got {value!r}") from None
    if (minimum is not None and number < minimum) or (maximum is not None and number > maximum):
        raise ValueError(f"{name}: expected an integer {_bounds(minimum, maximum)}, got {number}")
    return number


def check_number(value, name, *, minimum=None, maximum=None, above=None, below=None):
    """`value` as a finite float; `minimum` and `maximum` inclusive, `above` and `below` exclusive."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name}: expected a number, got {value!r}") from None
    wrong = (
        not np.isfinite(number)
        or (minimum is not None and number < minimum)
        or (maximum is not None and number > maximum)
        or (above is not None and number <= above)
        or (below is not None and number >= below)
    )
    if wrong:
        bounds = [_bounds(minimum, maximum)]
        bounds += [f"> {above}"] if above is not None else []
        bounds += [f"< {below}"] if below is not None else []
        raise ValueError(f"{name}: expected a finite number {' '.join(filter(None, bounds))}, got {value!r}")
    return number


def check_choice(value, name, choices):
    """`value`, which must be one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def _bounds(minimum, maximum):
    parts = [f">= {minimum}"] if minimum is not None else []
    parts += [f"<= {maximum}"] if maximum is not None else []
    return " and ".join(parts)
