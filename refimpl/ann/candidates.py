"""What the approximate indexes do with a candidate: measure it, and keep it if it is among the k best so far.

Distances here are squared l2 in float32, summed in vector registers in an order of the compiler's choice: good for
choosing k among the candidates. The index recomputes the distances of those k before it returns them.
"""

import numpy as np
from numba import njit

SUMS = {"reassoc", "contract", "nsz"}  # sums may be reordered; infinities stay what they are


@njit(cache=True, fastmath=SUMS)
def squared_distance(a, b):
    """sum_j (a[j] - b[j])^2 of two float32 vectors."""
    total = np.float32(0)
    for j in range(len(a)):
        gap = a[j] - b[j]
        total += gap * gap
    return total


@njit(cache=True, fastmath=SUMS)
def dot(a, b):
    """sum_j a[j] b[j] of two float32 vectors."""
    total = np.float32(0)
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


@njit(cache=True)
def met_by_none(n):
    """For each of n rows the last query that met it: -1. (A function, as Numba takes long over fills in a prange.)"""
    return np.full(n, -1, np.int32)


@njit(cache=True, inline="always")
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
