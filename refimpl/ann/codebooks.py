"""Codebooks: vectors cut into m parts, each replaced by the nearest of k centroids of its own part.

    x = (x_1 ... x_m) ~ (c_1[code_1] ... c_m[code_m])

What product_quantization.py, scann.py and list_ranking.py share. Parts are coordinates in a row; where m does not
divide d some have one more than others, and those that have one less end in a zero.
"""

import numpy as np

from ..matrix_product import matrix_product
from .kmeans import assign, kmeans


def parts_of(d, m):
    """The part of each of d coordinates, (d,): 0 to m - 1, ascending."""
    return np.arange(d) * m // d


def places(d, m):
    """Where each of d coordinates is in m parts of ceil(d / m) places side by side, (d,)."""
    part = parts_of(d, m)
    return part * -(-d // m) + np.arange(d) - np.searchsorted(part, part)


def padded(x, m):
    """x (n, d) with a zero at the end of each part that is shorter than others -> (n, m ceil(d / m))."""
    n, d = x.shape
    if d % m == 0:
        return np.ascontiguousarray(x)
    wide = np.zeros((n, m * -(-d // m)), x.dtype)
    wide[:, places(d, m)] = x
    return wide


def split(x, m):
    """x (n, d) -> (m, n, ceil(d / m)) float32: its parts, as in `padded`."""
    wide = padded(x.astype(np.float32, copy=False), m)
    return np.ascontiguousarray(wide.reshape(len(x), m, wide.shape[1] // m).transpose(1, 0, 2))


def train_codebooks(x, m, bits, seed):
    """Codebooks (m, min(2^bits, n), ceil(d / m)) float32 for x (n, d), n >= 1: k-means in each part."""
    k = min(1 << bits, len(x))
    return np.stack([kmeans(part, k, init="random", max_iter=12, seed=seed + j).centroids
                     for j, part in enumerate(split(x, m))])  # fmt: skip


def encode(x, codebooks):
    """x (n, d) -> codes (n, m) uint8, the nearest centroid of each part."""
    parts = split(x, len(codebooks))
    codes = np.empty((len(x), len(codebooks)), np.uint8)
    for j, book in enumerate(codebooks):
        codes[:, j] = assign(parts[j], book)
    return codes


def decode(codes, codebooks, d):
    """codes (n, m) -> (n, d) float32, what they stand for."""
    parts = [book[codes[:, j]] for j, book in enumerate(codebooks)]
    return np.ascontiguousarray(np.concatenate(parts, 1)[:, places(d, len(codebooks))])


def deal(variances, m):
    """Which axes, of variances (d,), each of m parts gets, so that the products in the parts are alike -> (d,) int.

    Part by part, as `split` cuts. Largest variance first, each to the part with room whose product is the smallest so
    far: eigenvalue allocation, the optimum for Gaussian data (Ge et al., section 3.2).
    """
    d, products = len(variances), np.zeros(m)
    slots = [list(np.flatnonzero(parts_of(d, m) == j)) for j in range(m)]
    largest, dealt = max(variances.max(), 1e-300), np.empty(d, np.int64)
    for axis in np.argsort(-variances, kind="stable"):
        part = min((j for j in range(m) if slots[j]), key=lambda j: products[j])
        products[part] += 28 + np.log(max(variances[axis] / largest, 1e-12))  # 28: no term is below 0
        dealt[slots[part].pop(0)] = axis
    return dealt


def balanced_axes(x, m):
    """The principal axes of x (n, d), dealt to the m parts by `deal` -> (d, d) float32, a column each."""
    centred = x - x.mean(0, dtype=np.float64)
    variances, axes = np.linalg.eigh(matrix_product(centred.T, centred) / len(x))
    return axes[:, deal(variances, m)].astype(np.float32)
