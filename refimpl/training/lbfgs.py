"""The minimum of a smooth function of many numbers, by limited-memory BFGS.

Newton's step is H g, the gradient times the inverse of the second derivatives. BFGS learns H from what the gradient did
on the way: from each step s = x' - x and y = g' - g. Its limited-memory form never has the matrix: it keeps the last
MEMORY pairs, with rho = 1 / (s . y), and takes H g by two loops over them,

    q <- g
    q <- q - a_i y_i, with a_i = rho_i (s_i . q)          for each pair, the newest first
    q <- q / (rho (y . y))                                of the newest
    q <- q + (a_i - rho_i (y_i . q)) s_i                  for each pair, the oldest first

A step is halved until it gains enough (Armijo's condition); a pair of a function that was not convex there is left out.

Source: Nocedal and Wright, "Numerical Optimization", 2006, algorithms 7.4 and 7.5, with the line search of 3.1.

Why not `scipy.optimize.minimize`: it leaves its sums to BLAS, whose bits depend on the number of its threads; and those
threads, while they wait for more work, keep the cores from the threads of the objective. Here sums are taken in an
order that depends on their length alone.
"""

import numpy as np

MEMORY = 10
ENOUGH = 1e-4  # of the gain that the slope promises
HALVINGS = 20
GAIN, SLOPE = 2.2e-9, 1e-5  # where to stop: scipy's


def lbfgs(objective, x, iterations):
    """Where L-BFGS comes to from x (n,) float64 in at most `iterations` steps.

    objective  function of x that returns its value and its gradient (n,), in float64
    It ends where no derivative is beyond SLOPE, a step gains less than GAIN of the value (or of 1), or none gains
    enough. Cost: an objective a step, seldom more, and 4 MEMORY n operations; memory for 2 MEMORY n numbers.
    """
    value, gradient = objective(x)
    pairs = []  # (s, y, rho), the newest last
    for _ in range(iterations):
        if np.abs(gradient).max() <= SLOPE:
            break
        direction = _direction(gradient, pairs)
        slope = _dot(gradient, direction)
        for halvings in range(HALVINGS):
            rate = 0.5**halvings
            new = x - rate * direction
            new_value, new_gradient = objective(new)
            if new_value <= value - ENOUGH * rate * slope:
                break
        else:  # what is left is rounding
            break
        s, y = new - x, new_gradient - gradient
        if _dot(s, y) > 0:
            pairs = [*pairs[1 - MEMORY :], (s, y, 1 / _dot(s, y))]
        gain = (value - new_value) / max(abs(value), abs(new_value), 1)
        x, value, gradient = new, new_value, new_gradient
        if gain <= GAIN:
            break
    return x


def _direction(gradient, pairs):
    """H g by the two loops; without a pair, the gradient, of length 1 at most."""
    if not pairs:
        return gradient / max(1, _dot(gradient, gradient) ** 0.5)
    q, shares = gradient.copy(), []
    for s, y, rho in reversed(pairs):
        shares.append(rho * _dot(s, q))
        q -= shares[-1] * y
    _, y, rho = pairs[-1]
    q /= rho * _dot(y, y)
    for (s, y, rho), share in zip(pairs, reversed(shares)):
        q += (share - rho * _dot(y, q)) * s
    return q


def _dot(a, b):
    """Not by BLAS, see above."""
    return float(np.sum(a * b))
