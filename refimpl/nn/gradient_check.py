"""Checking a hand-written gradient against finite differences, for the operations here and for your own.

For a function with array inputs x and array output y, fix a random upstream gradient dy, so that s(x) = <dy, f(x)> is
one number. Its gradient is what the pullback returns for dy, and central differences measure it with error O(h^2):

    <dx, v>  ~  (s(x + h v) - s(x - h v)) / (2 h)

in a random direction v (one number checks all of dx at once), and for single elements (v a unit vector: it says where).
The error is |a - n| / (|a| + |n|), where a is the analytic and n the numeric value; infinity, if one is not finite. In
float64 with h = 1e-5 a right gradient of a smooth function is at 1e-7 or below, and a wrong one near 1. At kinks (ReLU,
max) a step across one spoils n.
"""

from typing import NamedTuple

import numpy as np

from ..validation import check_array, check_integer, check_number


class GradientErrors(NamedTuple):
    """Largest errors over all inputs: in a random direction, and over single elements."""

    direction: float
    element: float


def gradient_check(function, arrays, *, seed=0, step=1e-5, elements=20):
    """The errors of the pullback of `function` at `arrays`, against central differences.

    function  called as function(*arrays); returns y, pullback, and anything more is ignored; pullback(dy) returns the
              gradients of the arrays in order (an array, if there is one), None for those not to be checked
    arrays    float64 arrays
    step      h; the default suits arrays whose values are about 1
    elements  how many elements of each array are checked one by one, drawn at random; all, if it has no more
    Returns GradientErrors. Raises ValueError for arrays that are not float64 or not finite, and for a pullback whose
    gradients are not as many as the arrays, or of other shapes.
    """
    arrays = [check_array(a, f"arrays[{i}]", dtypes=(np.float64,), finite=True) for i, a in enumerate(arrays)]
    step = check_number(step, "step", above=0)
    elements = check_integer(elements, "elements", minimum=0)
    rng = np.random.default_rng(seed)
    y, pullback, *_ = function(*arrays)
    dy = rng.standard_normal(y.shape)
    gradients = pullback(dy)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    if len(gradients) != len(arrays):
        raise ValueError(f"function: expected a pullback with {len(arrays)} gradients, got {len(gradients)}")

    def slope(i, direction):
        ends = (function(*arrays[:i], arrays[i] + h * direction, *arrays[i + 1 :])[0] for h in (step, -step))
        return np.vdot(dy, next(ends) - next(ends)) / (2 * step)

    worst_direction = worst_element = 0.0
    for i, (array, gradient) in enumerate(zip(arrays, gradients)):
        if gradient is None:
            continue
        if gradient.shape != array.shape:
            raise ValueError(f"function: expected a gradient of shape {array.shape}, got {gradient.shape}")
        direction = rng.standard_normal(array.shape)
        error = relative_error(np.vdot(gradient, direction), slope(i, direction))
        worst_direction = max(worst_direction, error)
        # Elements are compared on the scale of the largest one: an element of dx that is 0 has no relative error.
        scale = np.abs(gradient).max(initial=0.0)
        for at in rng.permutation(array.size)[:elements]:
            unit = np.zeros(array.size)
            unit[at] = 1.0
            error = relative_error(gradient.flat[at], slope(i, unit.reshape(array.shape)), scale)
            worst_element = max(worst_element, error)
    return GradientErrors(float(worst_direction), float(worst_element))


def relative_error(analytic, numeric, scale=0.0):
    """|a - n| / max(|a| + |n|, scale), 0 where all are 0, infinity where one is not finite."""
    if not np.isfinite([analytic, numeric, scale]).all():  # their error would be NaN, which no bound is below
        return np.inf
    total = max(abs(analytic) + abs(numeric), scale)
    return abs(analytic - numeric) / total if total else 0.0
