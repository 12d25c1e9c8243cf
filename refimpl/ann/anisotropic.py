"""Anisotropic product quantization: an error along the vector costs more than one across it.

Guo et al., "Accelerating large-scale inference with anisotropic vector quantization", ICML 2020. A search by inner
product needs q.x right where it is large, and q.x is large where q points along x. The error of q.x~ is q.r for the
residual r = x - x~; so the part of r along x matters more. Weighting pairs by whether q.x >= T |q|, with q uniform on
the sphere, gives (theorems 3.2 and 3.3; the limit for many dimensions)

    loss(x, x~) = |r_perp|^2 + eta |r_par|^2 = |r|^2 + (eta - 1) (r.u)^2        u = x / |x|
    eta = (d - 1) t^2 / (1 - t^2)                                              t = T / |x|

Product codes no longer fall apart into parts: (r.u)^2 couples them through one number, p = r.u, the sum of the parts'
own r_j.u_j. Coordinate descent uses that. With the others fixed, part j takes the entry with the least
|r_j|^2 + (eta - 1) (p_others + r_j.u_j)^2; each step can only lower the loss. The same holds for the codebooks: given
the codes, an entry b of part j with the vectors I that use it has the best place where the gradient is zero,

    [ sum over I of  1 + (eta - 1) u_j u_j' ]  b  =  sum over I of  y_j + (eta - 1) (p_others + y_j.u_j) u_j

a system of d / m unknowns an entry. (The paper solves for all entries at once, a matrix of (2^bits d)^2; part by part
reaches the same kind of optimum and needs nothing that grows with d^2.)

What is coded is y: x itself, or x - c with lists; the direction u is always that of x.
"""

import numpy as np

from ..kernels import in_threads, kernel
from ..validation import check_integer, check_number
from .codebooks import encode, padded, split, train_codebooks

SWEEPS = 10  # over the parts of a vector, at most
ROUNDS = 5  # of codes and codebooks in turn


def anisotropic_eta(threshold, dimension, norm=1.0):
    """eta = (d - 1) t^2 / (1 - t^2), t = threshold / norm: the weight of the error along a vector of this norm.

    threshold T > 0 (inner products with unit queries below it do not matter) and < norm; dimension d >= 1.
    T = 0.2, d = 100, norm 1: 4.125. Guo et al. 2020, theorem 3.4.
    """
    threshold, norm = check_number(threshold, "threshold", above=0), check_number(norm, "norm", above=0)
    dimension = check_integer(dimension, "dimension", minimum=1)
    if threshold >= norm:
        raise ValueError(f"threshold: expected less than the norm {norm}, got {threshold}")
    square = (threshold / norm) ** 2
    return (dimension - 1) * square / (1 - square)


def directions(x):
    """x / |x| (n, d) float32; zeros where x is zero."""
    norms = np.sqrt((x.astype(np.float64) ** 2).sum(1, keepdims=True))
    return (x / np.where(norms > 0, norms, 1)).astype(np.float32)


def anisotropic_loss(y, u, decoded, eta):
    """|r|^2 + (eta - 1) (r.u)^2 of r = y - decoded, (n,) float64; all (n, d)."""
    r = y.astype(np.float64) - decoded
    return (r**2).sum(1) + (eta - 1) * (r * u).sum(1) ** 2


@kernel
def _descend(first, last, y, u, codebooks, eta, sweeps, codes, room):
    """INOUT codes (n, m), rows first to last - 1. y, u (n, m width), padded with zeros."""
    m, size, width = codebooks.shape
    across, along = room  # (m, size): |r_j|^2 and r_j.u_j of each entry
    for i in range(first, last):
        p = 0.0
        for j in range(m):
            for c in range(size):
                square = inner = 0.0
                for w in range(width):
                    r = np.float64(y[i, j * width + w]) - codebooks[j, c, w]
                    square += r * r
                    inner += r * u[i, j * width + w]
                across[j, c], along[j, c] = square, inner
            p += along[j, codes[i, j]]
        for _ in range(sweeps):
            changed = False
            for j in range(m):
                now = codes[i, j]
                others = p - along[j, now]
                best, least = now, across[j, now] + (eta - 1) * p * p
                for c in range(size):
                    total = others + along[j, c]
                    loss = across[j, c] + (eta - 1) * total * total
                    if loss < least:
                        best, least = c, loss
                if best != now:
                    codes[i, j], p, changed = best, others + along[j, best], True
            if not changed:
                break


def anisotropic_codes(y, u, codebooks, eta, codes=None):
    """Codes (n, m) uint8 of y (n, d) by coordinate descent, from `codes` or the nearest entries.

    u (n, d) unit directions or zeros; codebooks (m, k, ceil(d / m)); eta >= 1. No code has a larger loss than where it
    began. eta = 1: the nearest entries. O(n d k).
    """
    codes = encode(y, codebooks) if codes is None else codes.copy()
    arguments = _wide(y, codebooks), _wide(u, codebooks), codebooks, float(eta), SWEEPS, codes
    in_threads(len(y), _descend, *arguments, at_least=64, room=lambda: np.empty((2, *codebooks.shape[:2])))
    return codes


def _wide(x, codebooks):
    return padded(x.astype(np.float32, copy=False), len(codebooks))


@kernel
def _normal_equations(y, u, codes, size, others, eta, matrices, sides):
    """OUT matrices (size, width, width), sides (size, width) = 0: of one part; y, u (n, width), codes, others (n,)."""
    for i in range(len(y)):
        c, total = codes[i], others[i]
        for w in range(y.shape[1]):
            total += np.float64(y[i, w]) * u[i, w]
        for w in range(y.shape[1]):
            sides[c, w] += y[i, w] + (eta - 1) * total * u[i, w]
            matrices[c, w, w] += 1
            for v in range(y.shape[1]):
                matrices[c, w, v] += (eta - 1) * np.float64(u[i, w]) * u[i, v]


def update_codebooks(y, u, codes, codebooks, eta):
    """Codebooks (m, k, width) float32 with the least loss for these codes, one part after the other. O(n d width).

    Entries that no vector uses stay.
    """
    parts, own = split(y, len(codebooks)), split(u, len(codebooks))
    codebooks = codebooks.copy()
    _, size, width = codebooks.shape

    def along(j):
        return ((parts[j] - codebooks[j][codes[:, j]].astype(np.float64)) * own[j]).sum(1)

    p = sum(along(j) for j in range(len(codebooks)))
    for j in range(len(codebooks)):
        others = p - along(j)
        matrices, sides = np.zeros((size, width, width)), np.zeros((size, width))
        _normal_equations(parts[j], own[j], codes[:, j], size, others, float(eta), matrices, sides)
        used = np.bincount(codes[:, j], minlength=size) > 0
        codebooks[j, used] = np.linalg.solve(matrices[used], sides[used][..., None])[..., 0]
        p = others + along(j)
    return codebooks


def train_anisotropic(y, u, m, bits, eta, seed):
    """Codebooks (m, min(2^bits, n), ceil(d / m)) float32: k-means in each part, then ROUNDS of codes and codebooks."""
    codebooks = train_codebooks(y, m, bits, seed)
    if eta == 1:
        return codebooks
    codes = None
    for _ in range(ROUNDS):
        codes = anisotropic_codes(y, u, codebooks, eta, codes)
        codebooks = update_codebooks(y, u, codes, codebooks, eta)
    return codebooks
