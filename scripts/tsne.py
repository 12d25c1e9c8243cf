"""t-SNE for the report's map: places points in the plane so that near neighbours stay near.

    p_ij  how likely i would choose j as its neighbour, by a Gaussian whose width fits a given perplexity
    q_ij  the same in the plane, by a Student t distribution: 1 / (1 + |y_i - y_j|^2), normalised
    minimise KL(p || q) by gradient descent:  dC/dy_i = 4 sum_j (p_ij - q_ij) q'_ij (y_i - y_j),  q' unnormalised

Exact, O(n^2) an iteration: for the few hundred pictures of a page. Source: van der Maaten and Hinton 2008.
"""

import numpy as np


def tsne(x, *, perplexity=20.0, iterations=400, seed=0, progress=None):
    """Positions (n, 2) float64 in the plane for the rows of x (n, d)."""
    n = len(x)
    p = _neighbour_probabilities(x, min(perplexity, max((n - 1) / 3, 1.0)))
    p = np.maximum((p + p.T) / (2 * n), 1e-12)
    y = 1e-2 * _principal_plane(x) + 1e-4 * np.random.default_rng(seed).standard_normal((n, 2))
    velocity, gain = np.zeros_like(y), np.ones_like(y)
    for step in range(iterations):
        exaggeration = 8.0 if step < iterations // 4 else 1.0  # first form clusters, then relax
        w = 1 / (1 + _squared_distances(y))
        np.fill_diagonal(w, 0)
        force = (exaggeration * p - w / w.sum()) * w
        gradient = 4 * (force.sum(axis=1)[:, None] * y - force @ y)
        gain = np.where(np.sign(gradient) != np.sign(velocity), gain + 0.2, gain * 0.8).clip(0.01)
        velocity = (0.5 if step < iterations // 4 else 0.8) * velocity - n / 12 * gain * gradient
        y = y + velocity
        y -= y.mean(axis=0)
        if progress is not None:
            progress(step + 1, iterations)
    return y


def _principal_plane(x):
    """The two directions of largest variance, scaled to unit variance; a start that gives the same map every time."""
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    plane = np.zeros((len(x), 2))
    plane[:, : min(2, len(s))] = u[:, :2]
    return plane / max(plane.std(), 1e-12)


def _neighbour_probabilities(x, perplexity):
    """Rows p_j|i with the entropy log(perplexity), their widths found by bisection for all rows at once."""
    squared = _squared_distances(np.asarray(x, np.float64))
    np.fill_diagonal(squared, np.inf)
    squared -= squared.min(axis=1, keepdims=True)
    low, high = np.full((len(x), 1), 1e-6), np.full((len(x), 1), 1e6)
    for _ in range(60):
        beta = np.sqrt(low * high)
        w = np.exp(-beta * squared)
        p = w / w.sum(axis=1, keepdims=True)
        entropy = -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=1, keepdims=True)
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, beta, low), np.where(wide, high, beta)
    return p


def _squared_distances(x):
    norms = np.sum(x * x, axis=1)
    return np.maximum(norms[:, None] + norms[None, :] - 2 * x @ x.T, 0)
