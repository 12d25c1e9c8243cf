"""What the approximate indexes do with a candidate: measure it, and keep it if it is among the k best so far.

Most distances here are squared l2 in float32, summed in vector registers in an order of the compiler's choice: good
for choosing k among the candidates. The distances of those k are recomputed before they are returned (`measure`).
"""

import numpy as np

from ..kernels import inlined, inner, inner_sum


@inner_sum
def squared_distance(a, b):
    """sum_j (a[j] - b[j])^2 of two float32 vectors."""
    total = np.float32(0)
    for j in range(len(a)):
        gap = a[j] - b[j]
        total += gap * gap
    return total


@inner_sum
def dot(a, b):
    """sum_j a[j] b[j] of two float32 vectors."""
    total = np.float32(0)
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


@inlined
def _distance(total, metric):
    """The distance, from the sum that index.py defines."""
    if metric == 2:
        return np.float32(total)
    return np.float32(np.sqrt(total)) if metric == 0 else np.float32(0.5 * total)


@inner_sum
def _square(x, q):
    """sum_j (x[j] - q[j])^2 in float64, in an order of the compiler's choice."""
    total = np.float64(0)
    for j in range(len(x)):
        gap = np.float64(x[j]) - np.float64(q[j])
        total += gap * gap
    return total


@inner_sum
def _product(x, q):
    """-x.q and sum_j |x[j] q[j]| in float64, in an order of the compiler's choice."""
    total, size = np.float64(0), np.float64(0)
    for j in range(len(x)):
        term = np.float64(x[j]) * np.float64(q[j])
        total -= term
        size += abs(term)
    return total, size


@inlined
def _in_order(x, q, metric):
    """The sum that index.py defines: float64, over j in order. Each addition waits for the one before."""
    total = np.float64(0)
    for j in range(len(x)):
        if metric == 2:
            total += np.float64(x[j]) * -np.float64(q[j])
        else:
            gap = np.float64(x[j]) - np.float64(q[j])
            total += gap * gap
    return total


@inner
def exact_distance(x, q, metric):
    """The distance of x and q as index.py defines it, to the last bit. metric: 0 l2, 1 cosine, 2 ip.

    Sums of d float64 terms in two orders differ by less than (d + 8) 2^-52 of the terms' sizes. Where both ends of that
    interval are one float32, as they are but some d times in 10^8, the order does not matter.
    """
    if metric == 2:
        total, size = _product(x, q)
    else:
        total = _square(x, q)
        size = total
    off = (len(x) + 8) * 2.0**-52 * size
    low, high = _distance(total - off, metric), _distance(total + off, metric)
    if low == high and low != 0:  # a zero has a sign
        return low
    return _distance(_in_order(x, q, metric), metric)


@inlined
def measure(vectors, rows, count, query, metric, out):
    """OUT out[i] = the exact distance of vectors[rows[i]], i < count."""
    for i in range(count):
        out[i] = exact_distance(vectors[rows[i]], query, metric)


@inner
def is_beyond(x, q, kth, error, metric):
    """Whether the distance of x and q is certainly above `kth`, by float32 sums, which are quick. False if in doubt.

    metric: 0 l2, 1 cosine, 2 ip, as index.py defines them.

    A sum of squares is off by (d + 2) 2^-24 of itself in any order, and by d 10^-44 where it underflows; an inner
    product by `error`, as a score is.
    """
    if metric == 2:
        return -np.float64(dot(x, q)) - error > np.float64(kth) + abs(np.float64(kth)) * 2.0**-22
    limit = np.float64(kth) * (np.float64(kth) if metric == 0 else 2.0)
    square = np.float64(squared_distance(x, q))
    least = square * (1.0 - (len(q) + 16) * 2.0**-24) - len(q) * 1e-44
    return square < np.inf and least > limit * (1.0 + 2.0**-21)


@inlined
def offer(distances, ids, distance, id):
    """Put a neighbour into the lists sorted by (distance, id), if it is better than their last. INOUT distances, ids.

    The lists start as +inf and -1. O(k) for a neighbour that enters, which few do; O(1) for the others.
    """
    at = len(distances) - 1
    if distance < distances[at] or (distance == distances[at] and (id < ids[at] or ids[at] < 0)):
        while at > 0 and (
            distances[at - 1] > distance or (distances[at - 1] == distance and (id < ids[at - 1] or ids[at - 1] < 0))
        ):
            distances[at], ids[at] = distances[at - 1], ids[at - 1]
            at -= 1
        distances[at], ids[at] = distance, id


@inlined
def offer_row(squares, rows, ids, square, row):
    """`offer` for a list of rows: by (square, id), and no row twice: one may be in two lists. INOUT squares, rows."""
    for other in rows:
        if other == row:
            return
    at = len(rows) - 1
    if square < squares[at] or rows[at] < 0 or (square == squares[at] and ids[row] < ids[rows[at]]):
        while at > 0 and (
            rows[at - 1] < 0 or squares[at - 1] > square or (squares[at - 1] == square and ids[rows[at - 1]] > ids[row])
        ):
            squares[at], rows[at] = squares[at - 1], rows[at - 1]
            at -= 1
        squares[at], rows[at] = square, row
