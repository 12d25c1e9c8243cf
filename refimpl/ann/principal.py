"""Principal axes: a few coordinates that hold most of a vector's length, and a bound for what they leave out.

Embeddings of 128 dimensions lie near far fewer. Rotate them so that the first `depth` coordinates x1 carry as much of
their squared lengths as any could, and keep of the others, x2, the length alone. By Cauchy and Schwarz

    q.x = q1.x1 + q2.x2 <= q1.x1 + |q2| |x2| = (q1, |q2|) . (x1, |x2|)

The right side is again an inner product, of depth + 1 coordinates in place of d: a matrix product of depth + 1 steps
bounds all scores (panels.py) from above. Whoever looks for the best skips every pair whose bound is below the best
that it has, and measures the few others: the answer is that of the whole product, whatever the axes. After Li, Chan,
Yiu and Mamoulis, "FEXIPRO: fast and exact inner product retrieval in recommender systems", 2017.

Whether this pays depends on the data. `choose_axes` counts on a sample how many pairs each depth would leave to be
measured, and takes the cheapest depth, or none: vectors with no directions of their own are not rotated.

The projection is computed in float64 and rounded once, so that `panels.rounding_error` covers it. |x2|^2 is the
difference |x|^2 - |x1|^2, off by some d 2^-53 |x|^2; its root then by less than 16 2^-24 |x| up to d of some thousands.
"""

import numpy as np

from ..matrix_product import matrix_product
from ..microkernel import COLUMNS

DEPTHS = (8, 16, 24, 32, 48, 64, 96, 128)
FEW = 4096  # vectors for which no axes are looked for
SAMPLE = 8192  # rows that stand for all vectors
ASKING = 128  # rows that stand for all queries
ROUNDS = 3  # of subspace iteration
COMPARING = 4  # what comparing a tile of bounds costs, in steps of its product
MEASURING = 8000  # what measuring one pair costs, in its share of a step: 1,000 cycles, as it is far away, over 1 / 8


def project(x, axes):
    """x (n, d) float32, axes (d, depth) float64 with orthonormal columns -> (x1, |x2|), (n, depth + 1) float32.

    Axes None: x itself, which bounds its inner products as well. Not by `@`: a BLAS library's threads go on spinning
    after a product, and the kernels that come next would have one core less.
    """
    if axes is None:
        return x
    out = np.empty((len(x), axes.shape[1] + 1), np.float32)
    for start in range(0, len(x), SAMPLE):  # so that no float64 copy of all x stands in memory
        part = x[start : start + SAMPLE].astype(np.float64)
        first = matrix_product(part, axes)
        rest = np.einsum("ij,ij->i", part, part) - np.einsum("ij,ij->i", first, first)
        out[start : start + SAMPLE, :-1] = first
        out[start : start + SAMPLE, -1] = np.sqrt(np.maximum(rest, 0))
    return out


def principal_axes(x, depth):
    """The `depth` orthonormal directions, about, along which x (m, d) has its largest sums of squares -> (d, depth).

    Subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4), largest first. O(m d depth). The long sums are
    ours: a BLAS library's have other last bits with another number of threads, and these axes may go to a file.
    """
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((x.shape[1], depth)))[0]
    for _ in range(ROUNDS):
        basis = np.linalg.qr(matrix_product(x.T, matrix_product(x, basis)))[0]
    scores = matrix_product(x, basis)
    _, turn = np.linalg.eigh(matrix_product(scores.T, scores))
    return basis @ turn[:, ::-1]


def choose_axes(queries, vectors, *, near=1, measuring=MEASURING, compared=None):
    """The axes (d, depth) with which the `near` nearest of `vectors` (n, d) are found at the least cost; None: without.

    queries (m, d) and vectors are float32 samples of what will come, m, n >= 1; `measuring` is what a pair costs that
    is not ruled out, in steps of the product for one pair. compared (m, n) bool: which pairs will be; None: all.
    O((m + n) d depth + m n d).
    """
    d = vectors.shape[1]
    depths = [depth for depth in DEPTHS if 2 * depth <= d]
    both = np.concatenate([queries, vectors]).astype(np.float64)
    if not depths or len(vectors) < COLUMNS or not both.any():
        return None
    matrix = principal_axes(both, min(depths[-1], d))
    (q, x), turned = (both[: len(queries)], both[len(queries) :]), both @ matrix
    squares, bias = np.einsum("ij,ij->i", both, both), -0.5 * np.einsum("ij,ij->i", x, x)
    scores = q @ x.T + bias
    if compared is not None:
        bias = np.where(compared, bias, -np.inf)
        scores = np.where(compared, scores, -np.inf)
    pairs = scores.size if compared is None else max(1, np.count_nonzero(compared))
    limits = np.partition(scores, -min(near, len(x)), axis=1)[:, -min(near, len(x)), None]
    best, least = None, d + COMPARING + measuring * np.count_nonzero(scores >= limits) / pairs
    for depth in depths:
        first = turned[:, :depth]
        rest = np.sqrt(np.maximum(squares - np.einsum("ij,ij->i", first, first), 0))[:, None]
        first = np.concatenate([first, rest], 1)
        bounds = first[: len(q)] @ first[len(q) :].T + bias
        cost = depth + 1 + COMPARING + measuring * np.count_nonzero(bounds >= limits) / pairs
        if cost < least:
            best, least = np.ascontiguousarray(matrix[:, :depth]), cost
    return best


def split_sample(x):
    """Some of x (n, d) to ask with, and others, each evenly spread -> (ASKING, d), (SAMPLE, d) or less."""
    sample = sample_rows(x, ASKING + SAMPLE)
    asking = np.arange(len(sample)) % max(1, len(sample) // ASKING) == 0
    return sample[asking], sample[~asking]


def sample_rows(x, n):
    """About n rows of x, evenly spread."""
    return x[:: max(1, -(-len(x) // n))]
