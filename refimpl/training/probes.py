"""How good is an encoder that nobody told the classes? Ask two simple classifiers on its frozen features.

knn_predict     the most similar training pictures vote: nothing is trained
linear_probe    a softmax regression on standardised features: what a linear layer can read from them

Neither touches the encoder. The probe's weight decay is chosen on a part of the training split that it does not see;
the test split is for `probe_predict` alone. A random encoder is the score to compare with, not chance.
"""

from typing import NamedTuple

import numpy as np

from ..losses import softmax_cross_entropy
from ..matrix_product import matrix_product
from ..nn import fold_batch_norm, global_avg_pool, l2_normalize, resnet_embedder, whitened_maps
from ..validation import FLOATS, check_array, check_integer, check_number
from .lbfgs import lbfgs

BLOCK = 256  # queries whose similarities to all training rows are in memory at a time
PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


def pooled_features(params, state, images, mean, std, *, batch=500):
    """The features (n, d) float32 of an encoder: the maps of its last stage, pooled over the pixels.

    For a residual network (`resnet_init`) this is the mean, without the network's own linear head; d is the width of
    the last stage. For `whitened_init` it is the maximum, which is the network's embedding, and beside it the mean; d
    is twice the width of the last stage.

    params, state  of one of these two networks
    images         (n, h, w, c) uint8, n >= 1
    mean, std      (c,), of the z-score, for pixels scaled to [0, 1]; std > 0
    batch          pictures that are encoded at a time
    Raises ValueError for other shapes and dtypes, and values out of range.
    """
    images = check_array(images, "images", ndim=4, dtypes=(np.uint8,), min_rows=1)
    mean, std = (
        check_array(value, name, shape=images.shape[3:], finite=True).astype(np.float32)
        for value, name in ((mean, "mean"), (std, "std"))
    )
    if (std <= 0).any():
        raise ValueError(f"std: expected numbers > 0, got {std.tolist()}")
    batch = check_integer(batch, "batch", minimum=1)
    if "head/weight" in params:
        width = len(params["head/weight"])
        open_head = {"head/weight": np.eye(width, dtype=np.float32), "head/bias": np.zeros(width, np.float32)}
        embed = resnet_embedder(fold_batch_norm({**params, **open_head}, state))
    else:
        embed = _maximum_and_mean(whitened_maps(fold_batch_norm(params, state)))
    scale, shift = np.float32(1 / 255) / std, mean / std
    parts = []
    for first in range(0, len(images), batch):
        x = images[first : first + batch].astype(np.float32) * scale - shift
        parts.append(embed(x))
    return np.concatenate(parts)


def _maximum_and_mean(maps):
    def embed(images):
        x = maps(images)
        return np.concatenate([x.max(axis=(1, 2)), global_avg_pool(x)[0]], axis=1)

    return embed


def knn_predict(features, labels, queries, *, k=200, temperature=0.1):
    """Labels (q,) of the queries by weighted vote of their k nearest training rows.

        score_c = sum over the k most similar i with label c of exp(cosine(query, features_i) / temperature)

    features  (n, d) float, labels (n,) integers from 0, queries (q, d) of the dtype of the features
    k         at most n are used
    Raises ValueError for wrong shapes and dtypes, k < 1, temperature <= 0.
    Source: Wu, Xiong, Yu and Lin 2018 (arXiv:1805.01978), section 3.4.
    Cost: 2 n q d operations, n times 256 similarities in memory.
    """
    features, labels = _check(features, labels)
    queries = check_array(queries, "queries", shape=(None, features.shape[1]), dtypes=(features.dtype,), finite=True)
    k = min(check_integer(k, "k", minimum=1), len(features))
    temperature = check_number(temperature, "temperature", above=0)
    features, queries = l2_normalize(features)[0], l2_normalize(queries)[0]
    classes = labels.max() + 1
    predicted = np.empty(len(queries), np.int64)
    for first in range(0, len(queries), BLOCK):
        similarity = matrix_product(features, queries[first : first + BLOCK].T).T
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        near = np.take_along_axis(similarity, nearest, axis=1).astype(np.float64)
        weight = np.exp((near - near.max(axis=1, keepdims=True)) / temperature)  # a common factor changes no vote
        rows = np.arange(len(near))[:, None] * classes
        votes = np.bincount((rows + labels[nearest]).ravel(), weight.ravel(), minlength=len(near) * classes)
        predicted[first : first + BLOCK] = votes.reshape(-1, classes).argmax(axis=1)
    return predicted


class Probe(NamedTuple):
    """A linear classifier of features."""

    weight: np.ndarray  # (d, classes)
    bias: np.ndarray  # (classes,)
    mean: np.ndarray  # (d,) of the training features, and
    std: np.ndarray  # (d,)
    penalty: float  # the weight decay that was chosen
    validation: float  # accuracy of the chosen one on the part held out, before the fit to all


def linear_probe(features, labels, *, penalties=PENALTIES, held_out=0.1, seed=0, iterations=200):
    """Softmax regression on frozen features: mean cross-entropy + penalty / 2 |weight|^2, by L-BFGS.

    features    (n, d) float, n >= 2, standardised inside
    labels      (n,) integers from 0
    penalties   candidates for `penalty`: the best is the one with the highest accuracy on a share `held_out` of the
                rows, drawn with `seed`, after a fit to the others; with it all rows are then fitted
    iterations  of L-BFGS, at most, for each fit
    Returns Probe. Raises ValueError for wrong shapes, no penalties, held_out outside (0, 1), iterations < 1.
    """
    features, labels = _check(features, labels)
    held_out = check_number(held_out, "held_out", above=0, below=1)
    iterations = check_integer(iterations, "iterations", minimum=1)
    penalties = [check_number(penalty, "penalties", minimum=0) for penalty in penalties]
    if not penalties or len(features) < 2:
        raise ValueError("penalties, features: expected at least one penalty and two rows")
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    std = np.maximum(features.std(axis=0, dtype=np.float64), 1e-6).astype(np.float32)
    x = (features - mean).astype(np.float32) / std
    order = np.random.default_rng(seed).permutation(len(x))
    cut = min(max(1, round(held_out * len(x))), len(x) - 1)
    validation, train = order[:cut], order[cut:]
    classes, best, start = int(labels.max()) + 1, (-1.0, None), None
    for penalty in sorted(penalties, reverse=True):  # each starts where the stronger penalty ended
        start = _fit(x[train], labels[train], classes, penalty, iterations, start)
        accuracy = float(np.mean((matrix_product(x[validation], start[0]) + start[1]).argmax(1) == labels[validation]))
        if accuracy > best[0]:
            best = accuracy, penalty
    weight, bias = _fit(x, labels, classes, best[1], iterations, start)
    return Probe(weight, bias, mean, std, best[1], best[0])


def probe_predict(probe, features):
    """Labels (n,) that the probe reads from features (n, d), float32 or float64; it computes in float32."""
    features = check_array(features, "features", shape=(None, len(probe.mean)), dtypes=FLOATS, finite=True)
    x = (features - probe.mean).astype(np.float32) / probe.std
    return (matrix_product(x, probe.weight) + probe.bias).argmax(axis=1)


def _fit(x, labels, classes, penalty, iterations, start):
    """Weight and bias at the minimum of cross-entropy + penalty / 2 |weight|^2, by L-BFGS from `start`."""
    d = x.shape[1]

    def objective(flat):
        weight, bias = flat[: d * classes].reshape(d, classes), flat[d * classes :]
        logits = matrix_product(x, weight.astype(np.float32)) + bias.astype(np.float32)
        loss, dlogits = softmax_cross_entropy(logits, labels)
        dweight = matrix_product(x.T, dlogits) + penalty * weight
        return loss + penalty / 2 * np.sum(weight**2), np.concatenate([dweight.ravel(), dlogits.sum(0)]).astype(float)

    first = np.zeros((d + 1) * classes) if start is None else np.concatenate([a.ravel() for a in start]).astype(float)
    flat = lbfgs(objective, first, iterations)
    return flat[: d * classes].reshape(d, classes).astype(np.float32), flat[d * classes :].astype(np.float32)


def _check(features, labels):
    features = check_array(features, "features", ndim=2, dtypes=FLOATS, finite=True, min_rows=1)
    labels = check_array(labels, "labels", shape=(len(features),))
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError("labels: expected integers from 0")
    return features, labels.astype(np.int64)
