"""RaBitQ: one bit a dimension, an unbiased estimate of every distance, and a bound on its error.

Gao and Long, "RaBitQ: quantizing high-dimensional vectors with a theoretical error bound for approximate nearest
neighbor search", SIGMOD 2024. Let r be a vector and s a query, both minus the same centroid and turned by the same
random rotation, in d dimensions. The code keeps the signs of r; scaled to the right length, the vector of signs is

    v = f sign(r)        f = |r|^2 / |r|_1        so that  v.r = |r|^2,  or  v = r + w  with  w orthogonal to r

    v.s = r.s + w.s      |w|^2 = d f^2 - |r|^2

Let s' be the part of s that is orthogonal to r: w.s = w.s'. After a random rotation r has a random direction and, given
r and the angle between r and s, s' has a random direction among those orthogonal to r. Hence w.s has mean 0: v.s is an
unbiased estimate of r.s. And w.s is |w| |s'|, at most |w| |s|, times one coordinate of a random point on a sphere in
d - 1 dimensions. That has deviation 1 / sqrt(d - 1), and exceeds eps0 deviations with probability exp(-eps0^2 / 2) at
most:

    |v.s - r.s| <= eps0 g |s|      g = |w| / sqrt(d - 1)      (Theorem 3.2; both sides: 2 exp(-eps0^2 / 2))

For typical r, |r|_1 is sqrt(2 d / pi) |r|, and g = 0.75 |r| / sqrt(d): the error falls with 1 / sqrt(d).

The query. v.s = v.q - v.c, with q the turned query and c the turned centroid: v.c is a number stored with the code, and
v.q / f is a sum of q's coordinates with signs. Four of them have 16 combinations of signs: a table for each group of
four coordinates, and a code is a row of 4-bit digits (byte_shuffle.py). The paper rounds the query to 4 bits at random
and counts bits; here the entries of the tables are rounded at random to 7 bits, which is finer, and one set of
tables serves all lists. Rounding up or down at random, by a dither that belongs to the entry, keeps the estimate
unbiased over seeds, and a result the same in every batch; its error is in the bound (`table_error`).

    |x - q|^2 = |r|^2 + |s|^2 - 2 r.s  ~  (|r|^2 + 2 v.c) + |s|^2 - 2 f (step S - offset)        S: the sum of look-ups
"""

import numpy as np

from ..kernels import in_threads, inner, kernel
from .byte_shuffle import LARGEST, QUAD, part_bytes, part_entries

GROUP = 4  # coordinates, and bits, of a digit


def random_rotation(d, rng):
    """(d, d) float32: a rotation or reflection, uniform among all: Q of a Gaussian matrix Q R, R with diagonal > 0."""
    q, r = np.linalg.qr(rng.standard_normal((d, d)))
    return np.ascontiguousarray(q * np.where(np.diag(r) < 0, -1.0, 1.0), np.float32)


@kernel
def _encode(first, last, residuals, centroids, labels, digits, factors):
    """`encode` for rows first to last - 1. OUT digits = 0, factors."""
    d = residuals.shape[1]
    for i in range(first, last):
        square, length, cross = 0.0, 0.0, 0.0  # |r|^2, |r|_1, sign(r).c
        for j in range(d):
            x, c = np.float64(residuals[i, j]), np.float64(centroids[labels[i], j])
            square += x * x
            if x >= 0:
                digits[i, j // GROUP] |= np.uint8(1 << (j % GROUP))
                length, cross = length + x, cross + c
            else:
                length, cross = length - x, cross - c
        scale = square / length if length > 0 else 0.0
        spread = np.sqrt(max(d * scale * scale - square, 0.0) / max(d - 1, 1))
        factors[0, i], factors[1, i], factors[2, i] = square + 2 * scale * cross, scale, spread


def encode(residuals, centroids, labels):
    """residuals (n, d), turned, of the centroids (L, d), turned, with these labels (n,) -> digits, factors.

    digits (n, ceil(d / 4)) uint8: bit i of digit g is set if coordinate 4 g + i is >= 0.
    factors (3, n) float32: bias |r|^2 + 2 v.c, scale f and spread g, as at the head of this file. A residual of 0 has
    all three 0: its estimate is exact.
    """
    digits = np.zeros((len(residuals), -(-residuals.shape[1] // GROUP)), np.uint8)
    factors = np.empty((3, len(residuals)), np.float32)
    in_threads(len(residuals), _encode, residuals, centroids, labels, digits, factors)
    return digits, factors


def signs_of(digits, d):
    """digits (n, g) -> (n, d) float64 of 1 and -1."""
    bits = digits[:, :, None] >> np.arange(GROUP) & 1
    return np.where(bits.reshape(len(digits), -1)[:, :d] == 1, 1.0, -1.0)


_SIGNS = np.where(np.arange(1 << GROUP) >> np.arange(GROUP)[:, None] & 1, 1, -1).astype(np.float32)  # (bit, digit)


@inner
def _tables_of(query, dither, signs, largest, tables, room):
    """The tables of one query -> step, offset. OUT tables (quads, 8, 16). room: see `query_tables`."""
    groups, size, (entries, widest, padded), offset = dither.shape[0], 1 << GROUP, room, np.float32(0)
    widest[:] = 0
    for j in range(len(query)):
        padded[j] = query[j]
    for g in range(groups):
        offset -= part_entries(padded, g * GROUP, signs, 0, GROUP, entries, g * size, widest)
    reach = np.float32(0)
    for t in range(size):
        reach = max(reach, widest[t])
    per_step = largest / reach if reach > 0 else np.float32(0)
    for g in range(groups):
        for t in range(size):  # part_bytes adds 1/2, and rounds down
            entries[g, t] = min(entries[g, t] * per_step + (dither[g, t] - np.float32(0.5)), largest)
        at = g // QUAD * 8 + (g & 1) * 4 + (g & 2)
        part_bytes(entries, g * size, np.float32(1), tables, at * size)
    return reach / largest, offset


@kernel
def _fill_tables(first, last, queries, dither, signs, largest, tables, steps, offsets, room):
    for i in range(first, last):
        steps[i], offsets[i] = _tables_of(queries[i], dither, signs, largest, tables[i], room)


def query_tables(queries, dither):
    """queries (n, d) float32, turned; dither (G, 16) float32 in [0, 1) -> tables (n, quads, 8, 16), steps, offsets.

    For any signs z (d,) with the digits of `encode`: z.q ~ step S - offset, S the sum over g of the entries of digit g.
    An entry is (the group's part of z.q + its largest) / step, rounded down after adding the dither: up with a
    probability that is its fraction. The order of the tables is that of byte_shuffle.py; steps, offsets (n,) float32.
    """
    n, groups = len(queries), len(dither)
    tables = np.zeros((n, -(-groups // QUAD), 8, 1 << GROUP), np.uint8)
    steps, offsets = np.empty(n, np.float32), np.empty(n, np.float32)
    arguments = queries, dither, _SIGNS, np.float32(largest_entry(groups)), tables, steps, offsets

    def room():
        size = 1 << GROUP
        return np.empty((groups, size), np.float32), np.empty(size, np.float32), np.zeros(groups * GROUP, np.float32)

    in_threads(n, _fill_tables, *arguments, at_least=64, room=room)
    return tables, steps, offsets


def largest_entry(groups):
    """What a table may hold so that two look-ups add up to a byte, and all groups to 16 bits."""
    return min(LARGEST, 65535 // groups)


def table_error(steps, groups):
    """What eps0 is multiplied with for the error of the rounded tables' sum: sqrt(G) step / 2, (n,).

    Each entry is off by one of two values, a step apart, with mean 0; independent ones are, in sum, beyond eps0
    sqrt(G) step / 2 with probability 2 exp(-eps0^2 / 2) at most (Hoeffding).
    """
    return 0.5 * np.sqrt(groups) * steps
