"""A/B tests: who sees what, how many are needed, what came out, and how to look early without fooling oneself.

    assign              a user's bucket, the same at every visit and independent of other experiments
    sample_size_...     users needed in each bucket
    sample_ratio_test   did the buckets get the shares they should have? If not, nothing else is to be believed
    proportion_test     a rate of users (two proportions, z)
    mean_test           a mean over users (Welch)
    ratio_test          a ratio of sums, such as clicks over impressions, when users were assigned (delta method)
    sequential_test     a p-value that stays valid however often it is looked at

Each test returns a `Difference`: B minus A, its standard error, an interval, and a two-sided p-value. The unit is the
user: it is users that were assigned at random, and a user's impressions are alike, so a test that counts impressions
as if they were independent finds effects that are not there.

Source: Kohavi, Tang, Xu, Trustworthy online controlled experiments, Cambridge 2020.
"""

import hashlib
import math
from typing import NamedTuple

import numpy as np
from scipy import special

from ..validation import check_array, check_integer, check_number


class Difference(NamedTuple):
    """B minus A."""

    difference: float
    standard_error: float
    low: float
    high: float
    p_value: float


# ---- Assignment -----------------------------------------------------------------------------------------------------


def assign(user, experiment, weights=(0.5, 0.5)):
    """The bucket (0, 1, ...) of a user in an experiment, a whole number.

        u = first 8 bytes of SHA-256(experiment, user) / 2^64;   the bucket in whose share of [0, 1) u falls

    Sticky: the same user always gets the same bucket, on any machine. Salted with the experiment's name: who is in B
    of one experiment says nothing about another. A share moved from a bucket to its neighbour moves only users between
    these two. user: str or int; experiment: str; weights: the shares of the buckets, summing to 1.
    """
    weights = check_array(weights, "weights", ndim=1, finite=True, min_rows=1)
    if (weights < 0).any() or abs(weights.sum() - 1) > 1e-9:
        raise ValueError(f"weights: expected shares that sum to 1, got {weights.tolist()}")
    if not isinstance(user, (str, int, np.integer)) or not isinstance(experiment, str):
        raise ValueError(f"user: expected str or int, and experiment str, got {user!r} and {experiment!r}")
    text = f"{len(experiment)}:{experiment}{user}"  # the length keeps ("ab", "c") apart from ("a", "bc")
    number = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2.0**64
    return min(int(np.searchsorted(np.cumsum(weights), number, side="right")), len(weights) - 1)


def sample_ratio_test(counts, weights):
    """The chance of buckets as uneven as `counts` if users were assigned with shares `weights`: a p-value
    (chi-squared).

    Below 0.001, look for the bug (lost events, redirects, bots) before looking at any result.
    Source: Fabijan et al., Diagnosing sample ratio mismatch in online controlled experiments, KDD 2019.
    """
    weights = check_array(weights, "weights", ndim=1, finite=True, min_rows=2)
    counts = check_array(counts, "counts", shape=weights.shape, finite=True)
    if (weights <= 0).any() or abs(weights.sum() - 1) > 1e-9:
        raise ValueError(f"weights: expected shares above 0 that sum to 1, got {weights.tolist()}")
    if (counts < 0).any() or counts.sum() == 0:
        raise ValueError(f"counts: expected numbers of users, not all 0, got {counts.tolist()}")
    expected = counts.sum() * weights
    return float(special.chdtrc(len(counts) - 1, np.sum((counts - expected) ** 2 / expected)))


# ---- How many users -------------------------------------------------------------------------------------------------


def sample_size_proportions(rate, lift, *, alpha=0.05, chance=0.8):
    """Users needed in each of two buckets to find rate -> rate + lift with that chance, two-sided at level alpha.

        (z_{1-alpha/2} sqrt(2 m (1 - m)) + z_chance sqrt(p (1 - p) + r (1 - r)))^2 / lift^2
        with r = p + lift and m = (p + r) / 2

    and at least 2. Raises ValueError if 2^63 are too few.
    Source: Fleiss, Levin, Paik, Statistical methods for rates and proportions, eq. 4.14 (without continuity
    correction).
    """
    p = check_number(rate, "rate", above=0, below=1)
    r = check_number(p + check_number(lift, "lift"), "rate + lift", above=0, below=1)
    if r == p:
        raise ValueError("lift: expected a difference, got 0")
    alpha_z, chance_z, m = *_z(alpha, chance), (p + r) / 2
    spread = alpha_z * math.sqrt(2 * m * (1 - m)) + chance_z * math.sqrt(p * (1 - p) + r * (1 - r))
    return _users(spread / abs(r - p), lift)


def sample_size_means(deviation, lift, *, alpha=0.05, chance=0.8):
    """Users needed in each of two buckets to find a difference `lift` in means of this standard deviation.

    2 (z_{1-alpha/2} + z_chance)^2 deviation^2 / lift^2, and at least 2. Raises ValueError if 2^63 are too few.
    """
    deviation, lift = check_number(deviation, "deviation", above=0), check_number(lift, "lift")
    if lift == 0:
        raise ValueError("lift: expected a difference, got 0")
    return _users(math.sqrt(2) * sum(_z(alpha, chance)) * (deviation / abs(lift)), lift)


def _users(root, lift):
    """root^2 users. A root below 0 is of a chance so small that any number reaches it; a variance needs two."""
    if not root < 2**31.5:
        raise ValueError(f"lift: expected one that 2^63 users show at this alpha and with this chance, got {lift}")
    return max(2, math.ceil(max(0.0, root) ** 2))


def _z(alpha, chance):
    alpha, chance = check_number(alpha, "alpha", above=0, below=1), check_number(chance, "chance", above=0, below=1)
    return -float(special.ndtri(alpha / 2)), float(special.ndtri(chance))


# ---- What came out --------------------------------------------------------------------------------------------------


def proportion_test(successes_a, users_a, successes_b, users_b, *, confidence=0.95):
    """Do two rates of users differ? The two-proportion z-test.

    z = (p_b - p_a) / sqrt(p (1 - p) (1/n_a + 1/n_b)),  p the pooled rate;  the interval has the unpooled error
    """
    n_a, n_b = (check_integer(n, name, minimum=1) for n, name in ((users_a, "users_a"), (users_b, "users_b")))
    x_a = check_integer(successes_a, "successes_a", minimum=0, maximum=n_a)
    x_b = check_integer(successes_b, "successes_b", minimum=0, maximum=n_b)
    p_a, p_b, p = x_a / n_a, x_b / n_b, (x_a + x_b) / (n_a + n_b)
    pooled = math.sqrt(p * (1 - p) * (1 / n_a + 1 / n_b))
    error = math.sqrt(p_a * (1 - p_a) / n_a + p_b * (1 - p_b) / n_b)
    p_value = float(2 * special.ndtr(-abs(p_b - p_a) / pooled)) if pooled > 0 else 1.0
    half = _quantile(confidence) * error
    return Difference(p_b - p_a, error, p_b - p_a - half, p_b - p_a + half, p_value)


def mean_test(a, b, *, confidence=0.95):
    """Do two means over users differ? Welch's t-test, which does not suppose equal variances. a, b: (n,), one value a
    user.

    Source: Welch, The generalization of Student's problem when several different population variances are involved,
    1947.
    """
    a, b = _sample(a, "a"), _sample(b, "b")
    level = (1 + check_number(confidence, "confidence", above=0, below=1)) / 2
    # In units of a power of two near the largest value, so that no square overflows or vanishes; from the first value
    # on, so that the mean and the variance of equal values are 0 without rounding.
    exponent = int(np.frexp(max(np.abs(a).max(), np.abs(b).max()))[1])
    a, b = np.ldexp(a, -exponent), np.ldexp(b, -exponent)
    a, b = a - a[0], b - a[0]
    v_a, v_b = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    error, difference = math.sqrt(v_a + v_b), float(b.mean() - a.mean())
    if error == 0:
        half, p_value = 0.0, 1.0 if difference == 0 else 0.0
    else:
        share = v_a / (v_a + v_b)
        freedom = 1 / (share**2 / (len(a) - 1) + (1 - share) ** 2 / (len(b) - 1))
        half = float(special.stdtrit(freedom, level)) * error
        p_value = float(2 * special.stdtr(freedom, -abs(difference / error)))
    numbers = np.ldexp([difference, error, difference - half, difference + half], exponent).tolist()
    return Difference(*numbers, p_value)


def ratio_of_sums(numerator, denominator):
    """(ratio, variance) of sum(x) / sum(y) over users: clicks over impressions, say, by the delta method.

        var(x-bar / y-bar) = (s_xx - 2 r s_xy + r^2 s_yy) / (n y-bar^2),   r = x-bar / y-bar

    x and y (n,), one entry a user.
    Source: Deng, Knoblich, Lu, Applying the delta method in metric analytics, KDD 2018.
    """
    x = _sample(numerator, "numerator")
    y = check_array(_sample(denominator, "denominator"), "denominator", shape=x.shape)
    if y.sum() <= 0:
        raise ValueError(f"denominator: expected a sum above 0, got {y.sum()}")
    ratio = x.mean() / y.mean()
    return float(ratio), float(np.var((x - ratio * y) / y.mean(), ddof=1) / len(x))


def ratio_test(numerator_a, denominator_a, numerator_b, denominator_b, *, confidence=0.95):
    """Do two ratios of sums differ, such as click-through rates, when users were assigned? See `ratio_of_sums`."""
    (r_a, v_a), (r_b, v_b) = ratio_of_sums(numerator_a, denominator_a), ratio_of_sums(numerator_b, denominator_b)
    difference, error, quantile = r_b - r_a, math.sqrt(v_a + v_b), _quantile(confidence)
    if max(abs(difference), error) <= 64 * np.finfo(np.float64).eps * max(abs(r_a), abs(r_b)):
        return Difference(0.0, 0.0, 0.0, 0.0, 1.0)  # the last digits of the same ratio, which all users have
    p_value = float(2 * special.ndtr(-abs(difference / error))) if error > 0 else 0.0
    return Difference(difference, error, difference - quantile * error, difference + quantile * error, p_value)


# ---- Looking early --------------------------------------------------------------------------------------------------


def sequential_test(difference, standard_error, prior_deviation, *, confidence=0.95):
    """A `Difference` that holds however often one looks and whenever one stops: the mixture sequential probability
    ratio test.

    difference, standard_error  B minus A and its standard error so far, as of `mean_test` or `ratio_test`
    prior_deviation             the size of effect to be most sensitive to, fixed beforehand

        V = standard_error^2, T = prior_deviation^2
        L = sqrt(V / (V + T)) exp(T difference^2 / (2 V (V + T)))     p = min(1, 1 / L)
        half width of the interval = sqrt(V (V + T) / T (2 log(1 / alpha) + log((V + T) / V)))

    Under the null hypothesis L is a martingale if V is known, so the chance that 1 / L ever falls below alpha is at
    most alpha, whenever one stops; an ordinary p-value checked daily is fooled several times as often. An estimated
    standard error is as good as a known one once it comes from some dozens of users a bucket; from two or three it may
    be small by chance, and of experiments looked at from the second user on, one in seven may be fooled. The price is a
    wider interval. A later look may give a larger p, but the smaller one stays valid: keep the least one seen.
    Source: Johari, Koomen, Pekelis, Walsh, Always valid inference, Operations Research 2022, eq. 11; Robbins, 1970.
    """
    difference = check_number(difference, "difference")
    error = check_number(standard_error, "standard_error", above=0)
    prior = check_number(prior_deviation, "prior_deviation", above=0)
    alpha = 1 - check_number(confidence, "confidence", above=0, below=1)
    # Without squares, which may overflow or vanish: sqrt(V + T), T / (V + T), and log((V + T) / V) / 2.
    spread = math.hypot(error, prior)
    known, log_wider = prior / spread, math.log(spread) - math.log(error)
    signal = abs(difference / error) * known
    half = error * (spread / prior) * math.sqrt(2 * (math.log(1 / alpha) + log_wider))
    p_value = math.exp(min(0.0, log_wider - signal * signal / 2))
    return Difference(difference, error, difference - half, difference + half, p_value)


def _quantile(confidence):
    return float(special.ndtri((1 + check_number(confidence, "confidence", above=0, below=1)) / 2))


def _sample(values, name):
    return check_array(values, name, ndim=1, finite=True, min_rows=2).astype(np.float64)
