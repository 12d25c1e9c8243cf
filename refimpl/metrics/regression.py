"""How far off is a prediction of numbers? Three ways to weigh the errors e = target - prediction.

    MSE     e^2                       the mean minimises it; one far outlier outweighs everything
    MAE     |e|                       the median minimises it; all errors count in proportion
    Huber   e^2 / 2 up to delta,      quadratic where the model can still improve, and linear
            delta (|e| - delta / 2)   where the example may just be wrong

targets and predictions: real, finite, of one shape; returns the mean over all entries, a float.
"""

import numpy as np

from ..validation import check_array, check_number


def mean_squared_error(targets, predictions):
    """1/n sum (y - f)^2, in squared units of the target; its root is in the target's own."""
    return float(np.mean(_errors(targets, predictions) ** 2))


def mean_absolute_error(targets, predictions):
    """1/n sum |y - f|, in units of the target."""
    return float(np.mean(np.abs(_errors(targets, predictions))))


def huber(targets, predictions, delta=1.0):
    """1/n sum of e^2 / 2 where |e| <= delta, and delta (|e| - delta / 2) beyond; continuous, with a continuous slope.

    Towards a large delta it is MSE / 2, and over delta towards a small one MAE.
    Source: Huber, Robust estimation of a location parameter, 1964.
    """
    delta = check_number(delta, "delta", above=0)
    size = np.abs(_errors(targets, predictions))
    return float(np.mean(np.where(size <= delta, size**2 / 2, delta * (size - delta / 2))))


def _errors(targets, predictions):
    targets = check_array(targets, "targets", finite=True)
    predictions = check_array(predictions, "predictions", shape=targets.shape, finite=True)
    if targets.size == 0:
        raise ValueError(f"targets: expected at least one value, got shape {targets.shape}")
    return targets.astype(np.float64) - predictions.astype(np.float64)
