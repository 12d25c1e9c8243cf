"""Which rows to take: the book's ways of sampling, each with what it is unbiased for.

    convenience_sample       what comes first: no chance in it, and biased to whatever comes first
    random_sample            every set of k rows equally likely
    stratified_sample        the same share of every class, as exactly as whole rows allow
    reservoir_sample         k of a stream whose length nobody knows, in one pass
    weighted_sample          k different rows, heavier ones more likely
    importance_sample        drawn from one distribution, weighted so that means are of another

Classes of unequal size: `imbalance`. Rows are int64. The same seed gives the same rows.
"""

import itertools
from typing import NamedTuple

import numpy as np

from ..validation import check_array, check_integer
from .rows import check_groups, rows_by_group


def convenience_sample(n, k):
    """(k,): the first k of n rows. Cheap and biased: files are often sorted by class, logs by time."""
    n, k = _check_sizes(n, k)
    return np.arange(k)


def random_sample(n, k, seed):
    """(k,) different of n rows, sorted; every set equally likely: each row has chance k / n."""
    n, k = _check_sizes(n, k)
    return np.sort(np.random.default_rng(seed).choice(n, k, replace=False))


def stratified_sample(labels, k, seed):
    """(k,) different rows, sorted, with k n_c / n of every class c, rounded so that they add up to k.

    labels  (n,) integers
    k       0 <= k <= n
    Each class gets the whole part of its share k n_c / n; the rows still missing go to classes drawn at random, one at
    most to each, with the fractional part of its share as the chance. So every class is within one row of its share,
    every row's chance is k / n, and the sample's means are unbiased. (Given to the largest fractions instead, the rows
    would leave classes of small fractions below their share in every sample.)
    """
    labels = check_groups(labels, "labels", min_rows=0)
    n, k = _check_sizes(len(labels), k)
    rng = np.random.default_rng(seed)
    members = rows_by_group(labels)
    quota = _rounded_shares(np.array([len(m) for m in members], np.int64), k, rng)
    drawn = [rng.choice(m, q, replace=False) for m, q in zip(members, quota)]
    return np.sort(np.concatenate([np.empty(0, np.int64), *drawn]))


def _rounded_shares(sizes, k, rng):
    """Whole numbers that add up to k, each k sizes / sum(sizes) rounded up or down, and that on average.

    Systematic sampling: the rests lie end to end in a random order, behind a random start; a class whose rest holds a
    multiple of n gets a row more. Source: Cochran, "Sampling techniques", 1977, chapter 8.
    """
    n = max(int(sizes.sum()), 1)
    quota, rest = np.divmod(sizes * k, n)
    order = rng.permutation(len(sizes))
    ends = rng.integers(n) + np.cumsum(rest[order])
    quota[order] += np.diff(ends // n, prepend=0)
    return quota


def reservoir_sample(stream, k, seed):
    """k items of any iterable, each set of k equally likely; fewer if there are fewer. Algorithm R.

    The first k fill the reservoir; item t (from 0) replaces a random one of it with chance k / (t + 1).
    stream is read once and k items are kept. Returns a list in the reservoir's order, which is not the stream's.
    Source: Vitter, "Random sampling with a reservoir", 1985, algorithm R (of Waterman).
    """
    k = check_integer(k, "k", minimum=0)
    rng = np.random.default_rng(seed)
    stream = iter(stream)
    reservoir = list(itertools.islice(stream, k))
    if k == 0:
        return reservoir
    for t, item in enumerate(stream, k):
        place = rng.integers(0, t + 1)
        if place < k:
            reservoir[place] = item
    return reservoir


def reservoir_sample_skipping(stream, k, seed):
    """The same distribution as `reservoir_sample` with O(k (1 + log(n / k))) random numbers instead of n. Algorithm L.

    Give every item a uniform key and keep the k smallest: with w the largest key kept, the number of items until the
    next smaller key is geometric, so they can be skipped at once; w is then the largest of k uniforms below w.
    Source: Li, "Reservoir-sampling algorithms of time complexity O(n (1 + log(N / n)))", 1994.
    """
    k = check_integer(k, "k", minimum=0)
    rng = np.random.default_rng(seed)
    stream = iter(stream)
    reservoir = list(itertools.islice(stream, k))
    if len(reservoir) < k or k == 0:
        return reservoir
    log_w = -rng.exponential() / k  # log of the largest of k uniforms
    while True:
        # number of keys >= w before one < w: floor(log U / log(1 - w)), with 1 - w not rounded when w is small
        skip = np.floor(-rng.exponential() / np.log1p(-np.exp(log_w)))
        if skip > 1 << 62:
            return reservoir  # no stream is that long
        item = next(itertools.islice(stream, int(skip), None), _END)
        if item is _END:
            return reservoir
        reservoir[rng.integers(0, k)] = item
        log_w -= rng.exponential() / k


_END = object()


def weighted_sample(weights, k, seed):
    """(k,) different rows, drawn one after the other with chance in proportion to the weights of those left.

    weights  (n,) >= 0, finite; rows of weight 0 are never drawn
    Returns the rows in the order drawn. Raises ValueError if fewer than k weights are above 0.
    Each row gets the key exponential / weight, and the k smallest win: the first ring of n clocks of rates w_i is i's
    with chance w_i / sum w, and clocks have no memory. Chances of being among the k are not k w_i / sum w.
    Source: Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006 (keys u^(1/w), largest first).
    """
    weights = _check_weights(weights, "weights", total_above_0=False)
    k = check_integer(k, "k", minimum=0)
    possible = np.flatnonzero(weights > 0)
    if k > len(possible):
        raise ValueError(f"k: expected at most the {len(possible)} rows with a weight above 0, got {k}")
    keys = np.log(np.random.default_rng(seed).exponential(size=len(weights)))[possible] - np.log(weights[possible])
    return possible[np.argsort(keys, kind="stable")[:k]]


class Importance(NamedTuple):
    """k draws, with replacement, for means over another distribution than they were drawn from."""

    rows: np.ndarray  # (k,) int64
    weights: np.ndarray  # (k,) float64: target / proposal, mean 1 in expectation


def importance_sample(target, proposal, k, seed):
    """`Importance` of k rows drawn from `proposal`, to estimate means over `target`.

        E_target[f]  =  E_proposal[f w],    w = target / proposal

    target, proposal  (n,) >= 0, in any scale; proposal above 0 wherever target is
    The variance is least for a proposal in proportion to target * |f|.
    """
    target, proposal = _check_weights(target, "target"), _check_weights(proposal, "proposal")
    if target.shape != proposal.shape:
        raise ValueError(f"proposal: expected shape {target.shape}, got {proposal.shape}")
    if (proposal[target > 0] == 0).any():
        raise ValueError("proposal: expected values above 0 wherever target is, got 0")
    k = check_integer(k, "k", minimum=1)
    target, proposal = (w / w.max() / (w / w.max()).sum() for w in (target, proposal))  # the sum itself may overflow
    rows = np.random.default_rng(seed).choice(len(proposal), k, p=proposal)
    return Importance(rows, target[rows] / proposal[rows])


class Estimate(NamedTuple):
    """Mean of a function under the target distribution, from weighted draws."""

    mean: float
    standard_error: float
    effective_size: float  # so many plain draws would weigh as evenly: (sum w)^2 / sum w^2, between 1 and k


def importance_mean(values, weights):
    """`Estimate` 1/k sum w f: unbiased, and needs weights in their true scale.

    values   (k,) f at the rows drawn
    weights  (k,) w of `Importance`
    """
    values, weights = _check_draws(values, weights)
    terms = values * weights
    return Estimate(float(terms.mean()), _standard_error(terms - terms.mean()), _effective_size(weights))


def self_normalised_mean(values, weights):
    """`Estimate` sum w f / sum w: any scale of weights; biased by O(1/k), with often less variance; within f's range.

    The standard error is that of a ratio (delta method): of w (f - mean) / mean w.
    Arguments as of `importance_mean`. Source: Owen, "Monte Carlo theory, methods and examples", section 9.2.
    """
    values, weights = _check_draws(values, weights)
    weights = weights / weights.max()
    mean = np.sum(weights * values) / weights.sum()
    return Estimate(float(mean), _standard_error(weights * (values - mean) / weights.mean()), _effective_size(weights))


def _standard_error(centred):
    k = len(centred)
    return float(np.sqrt(np.sum(centred**2) / max(k - 1, 1) / k)) if k > 1 else float("nan")


def _effective_size(weights):
    relative = weights / weights.max()
    return float(relative.sum() ** 2 / np.sum(relative**2))


def _check_draws(values, weights):
    values = check_array(values, "values", ndim=1, finite=True, min_rows=1).astype(np.float64)
    weights = _check_weights(weights, "weights")
    if weights.shape != values.shape:
        raise ValueError(f"weights: expected shape {values.shape}, got {weights.shape}")
    return values, weights


def _check_weights(weights, name, *, total_above_0=True):
    weights = check_array(weights, name, ndim=1, finite=True).astype(np.float64)
    if len(weights) and weights.min() < 0:
        raise ValueError(f"{name}: expected values >= 0, got {weights.min()}")
    if total_above_0 and not weights.any():
        raise ValueError(f"{name}: expected at least one value above 0, got none of {len(weights)}")
    return weights


def _check_sizes(n, k):
    n = check_integer(n, "n", minimum=0)
    return n, check_integer(k, "k", minimum=0, maximum=n)
