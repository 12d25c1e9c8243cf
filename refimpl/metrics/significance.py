"""Is one system better than another, or were the queries kind to it? Tests on the values of a measure, query by query.

Two systems answer the same queries, so what counts are the differences d_i = a_i - b_i: a hard query is hard for
both, and the pairing takes that out. Three questions, in this order:

    how large?      the mean of d with an interval (`bootstrap_interval`), and d in units of its spread (`effect_size`)
    chance?         `paired_t_test`, or `paired_randomization_test`, which assumes nothing but that the labels a and b
                    of a query could have been exchanged
    how many looks? with several systems or measures, `holm` or `benjamini_hochberg` on all the p-values

and before the experiment: `queries_needed`. `compare` does all of it, and `as_markdown` and `as_latex` print it.

a, b: (q,) real, finite, the values of both systems on the same queries in the same order.
Source: Smucker, Allan, Carterette, A comparison of statistical significance tests for information retrieval
evaluation, CIKM 2007; Sakai, Statistical reform in information retrieval?, SIGIR Forum 2014.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import special

from ..validation import check_array, check_integer, check_number

# ---- Two systems ----------------------------------------------------------------------------------------------------


class Test(NamedTuple):
    """A statistic, and the two-sided p-value: the chance of one as extreme if there were no difference."""

    __test__ = False  # not a test of pytest's

    statistic: float
    p_value: float


def paired_t_test(a, b):
    """Student's t of the differences: t = mean(d) / (sd(d) / sqrt(q)), with q - 1 degrees of freedom.

    If all differences are equal, p is 1 when they are 0, and else 0. Source: Student, Biometrika 1908.
    """
    d = _differences(a, b)
    mean, spread = _mean_and_spread(d)
    if spread == 0:
        return Test(0.0, 1.0) if mean == 0 else Test(math.copysign(math.inf, mean), 0.0)
    t = mean / spread * math.sqrt(len(d))
    return Test(t, float(2 * special.stdtr(len(d) - 1, -abs(t))))


def paired_randomization_test(a, b, *, n_permutations=10000, seed=0):
    """Fisher's randomisation test of mean(d): exchange a and b at random in every query, and see how extreme it was.

        p = (1 + #{|mean(+-d)| >= |mean(d)|}) / (1 + B)

    The observed assignment is one of those possible, hence the 1 + on both sides: p is never 0, and no test at level
    alpha rejects a true null hypothesis more often than alpha. The statistic is mean(d). O(B q) time.
    Source: Fisher, The design of experiments, 1935; Phipson and Smyth, Permutation p-values should never be zero, 2010.
    """
    d = _differences(a, b)
    total = check_integer(n_permutations, "n_permutations", minimum=1)
    rng = np.random.default_rng(seed)
    observed = abs(d.sum())
    enough = observed - 1e-12 * np.abs(d).sum()  # the same sum in another order is not smaller
    extreme, block = 0, max(1, 2**21 // len(d))
    for begin in range(0, total, block):
        signs = rng.integers(0, 2, (min(block, total - begin), len(d)), dtype=np.int8) * 2.0 - 1
        extreme += int(np.count_nonzero(np.abs(signs @ d) >= enough))
    return Test(float(d.mean()), (1 + extreme) / (1 + total))


def effect_size(a, b):
    """Cohen's d of paired values: mean(d) / sd(d), in standard deviations of the differences.

    Unlike a p-value it does not grow with the number of queries. 0 if there is no difference at all.
    """
    mean, spread = _mean_and_spread(_differences(a, b))
    return mean / spread if spread > 0 else (0.0 if mean == 0 else math.copysign(math.inf, mean))


def _mean_and_spread(d):
    """Mean and standard deviation of d, both in units of a power of two near the largest value: no square overflows or
    vanishes. Taken from the first value on, so that equal values have no spread, whatever their mean is rounded to.
    """
    d = np.ldexp(d, -int(np.frexp(np.abs(d).max())[1]))
    rest = d - d[0]
    return float(d[0] + rest.mean()), float(rest.std(ddof=1))


def win_tie_loss(a, b, tolerance=0.0):
    """(wins, ties, losses) of a over b: queries with d > tolerance, |d| <= tolerance, d < -tolerance."""
    d = _differences(a, b)
    tolerance = check_number(tolerance, "tolerance", minimum=0)
    wins, losses = int((d > tolerance).sum()), int((d < -tolerance).sum())
    return wins, len(d) - wins - losses, losses


def bootstrap_interval(values, *, confidence=0.95, n_resamples=10000, seed=0):
    """(low, high) of the mean of `values` (q,), by the bias-corrected and accelerated bootstrap.

    Resample q queries with replacement, B times; the percentiles of the B means, moved for bias (z0, from the share
    below the mean) and for skew (acceleration, from the jackknife), bound the mean. Pass a - b for a difference.
    Source: Efron, Better bootstrap confidence intervals, JASA 1987. O(B q) time.
    """
    values = _values(values, "values", least=2)
    confidence = check_number(confidence, "confidence", above=0, below=1)
    total = check_integer(n_resamples, "n_resamples", minimum=1)
    rng, q, mean = np.random.default_rng(seed), len(values), values.mean()
    if np.ptp(values) == 0:
        return float(mean), float(mean)
    block, means = max(1, 2**20 // q), []
    for begin in range(0, total, block):
        means.append(values[rng.integers(0, q, (min(block, total - begin), q))].mean(axis=1))
    means = np.sort(np.concatenate(means))
    margin = 1e-12 * np.abs(values).max()  # the same sum in another order is not below
    below = (np.count_nonzero(means < mean - margin) + np.count_nonzero(means <= mean + margin)) / (2 * total)
    bias = special.ndtri(np.clip(below, 0.5 / total, 1 - 0.5 / total))
    away = (mean - values) / np.abs(mean - values).max()  # proportional to the jackknife's deviations
    acceleration = np.sum(away**3) / (6 * np.sum(away**2) ** 1.5) * -1
    z = bias + special.ndtri([(1 - confidence) / 2, (1 + confidence) / 2])
    room = np.maximum(1 - acceleration * z, 1e-300)  # 0 is a pole: beyond it the interval goes to the extremes
    low, high = np.quantile(means, special.ndtr(bias + z / room))
    return float(low), float(high)


# ---- Several comparisons --------------------------------------------------------------------------------------------


def holm(p_values):
    """Adjusted p-values (n,): reject those <= alpha, and the chance of any false rejection is at most alpha.

        the i-th smallest becomes max over j <= i of (n - j + 1) p_(j), at most 1

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    p, order = _sorted_p(p_values)
    return _unsorted(np.maximum.accumulate((len(p) - np.arange(len(p))) * p), order)


def benjamini_hochberg(p_values):
    """Adjusted p-values (n,): reject those <= alpha, and at most a share alpha of the rejected is expected to be false.

        the i-th smallest becomes min over j >= i of n / j p_(j), at most 1

    For independent or positively dependent tests. Source: Benjamini and Hochberg, JRSS B 1995.
    """
    p, order = _sorted_p(p_values)
    scaled = len(p) / np.arange(1, len(p) + 1) * p
    return _unsorted(np.minimum.accumulate(scaled[::-1])[::-1], order)


# ---- Before the experiment ------------------------------------------------------------------------------------------


def power(effect, n_queries, *, alpha=0.05):
    """The chance that a two-sided paired t-test at level alpha finds an effect (in sd of d) with so many queries.

    1 - T'(t*) + T'(-t*)      T' noncentral t with q - 1 degrees of freedom, noncentrality effect sqrt(q)

    That is the distribution of (Z + effect sqrt(q)) / sqrt(V / (q - 1)), Z standard normal and V chi-squared; for large
    effect sqrt(q) it is computed as the mean over Z of P(V < (q - 1) ((Z + effect sqrt(q)) / t*)^2).
    """
    effect = abs(check_number(effect, "effect"))
    q = check_integer(n_queries, "n_queries", minimum=2)
    degrees = q - 1
    critical = -special.stdtrit(degrees, check_number(alpha, "alpha", above=0, below=1) / 2)
    shift = effect * math.sqrt(q)
    if shift <= 20:  # of the second term nctdtr makes NaN where it is below 1e-13; of the first not before 35
        below = np.nan_to_num(special.nctdtr(degrees, shift, -critical))
        return float(1 - special.nctdtr(degrees, shift, critical) + below)
    z, weights = np.polynomial.hermite_e.hermegauss(9)  # nearly constant in Z: nine points are exact to rounding
    chances = special.chdtr(degrees, degrees * np.minimum((shift + z) / critical, 1e100) ** 2)
    return min(1.0, float(weights @ chances / weights.sum()))


def queries_needed(effect, *, alpha=0.05, chance=0.8):
    """The fewest queries with which a paired t-test at level alpha finds `effect` (in sd of d) with that chance."""
    effect = abs(check_number(effect, "effect"))
    if effect < 1e-3:
        raise ValueError(f"effect: expected at least 0.001 standard deviations, got {effect}")
    chance = check_number(chance, "chance", above=0, below=1)
    low, high = 2, 4
    while power(effect, high, alpha=alpha) < chance:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        if power(effect, middle, alpha=alpha) < chance:
            low = middle + 1
        else:
            high = middle
    return high


# ---- A table --------------------------------------------------------------------------------------------------------


class Comparison(NamedTuple):
    """One system beside the baseline, on one measure."""

    system: str
    mean: float
    difference: float
    low: float
    high: float
    effect: float
    wins: int
    ties: int
    losses: int
    p_value: float
    adjusted: float
    confidence: float = 0.95  # of the interval from low to high


def compare(systems, baseline, *, n_permutations=10000, confidence=0.95, seed=0):
    """A list of `Comparison`, one for every system but the baseline, with p-values adjusted by Holm's method.

    systems: {name: (q,) values on the same queries}, or {name: {query: value}} as `evaluate` returns them for a
    measure, which must have the same queries. The p-value is that of the randomisation test, the interval that of the
    difference.
    """
    if baseline not in systems:
        raise ValueError(f"baseline: expected one of {', '.join(map(repr, systems))}, got {baseline!r}")
    values = _aligned(systems, baseline)
    rows = []
    for name, mine in values.items():
        if name != baseline:
            d = _differences(mine, values[baseline])
            low, high = bootstrap_interval(d, confidence=confidence, seed=seed)
            p = paired_randomization_test(mine, values[baseline], n_permutations=n_permutations, seed=seed).p_value
            size, counts = effect_size(mine, values[baseline]), win_tie_loss(mine, values[baseline])
            means = float(mine.mean()), float(d.mean())
            rows.append(Comparison(name, *means, low, high, size, *counts, p, p, float(confidence)))
    if not rows:
        raise ValueError("systems: expected at least one beside the baseline, got none")
    return [row._replace(adjusted=float(p)) for row, p in zip(rows, holm([row.p_value for row in rows]))]


def as_markdown(comparisons):
    """The comparisons as a Markdown table. Raises ValueError if their intervals differ in confidence."""
    header, *rows = _table(comparisons)
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines) + "\n"


def as_latex(comparisons):
    """The comparisons as a LaTeX tabular. Raises ValueError if their intervals differ in confidence."""
    accents = {"\\": r"\textbackslash{}", "~": r"\~{}", "^": r"\^{}"}
    special_characters = str.maketrans({c: "\\" + c for c in "&%$#_{}"} | accents)
    table = _table(comparisons)
    rows = [" & ".join(cell.translate(special_characters) for cell in row) for row in table]
    body = [rows[0] + r" \\ \hline", *(row + r" \\" for row in rows[1:])]
    return "\n".join([r"\begin{tabular}{l" + "r" * (len(table[0]) - 1) + "}", *body, r"\end{tabular}"]) + "\n"


def _table(comparisons):
    """The rows of the table, as texts; the first is its header."""
    confidences = sorted({row.confidence for row in comparisons})
    if len(confidences) > 1:
        raise ValueError(f"comparisons: expected intervals of one confidence, got {confidences}")
    interval = " ".join([*(f"{100 * confidence:.12g}%" for confidence in confidences), "interval"])
    header = ["system", "mean", "difference", interval, "effect", "win/tie/loss", "p", "p adjusted"]
    return [header, *map(_cells, comparisons)]


def _cells(row):
    return [
        row.system, f"{row.mean:.4f}", f"{row.difference:+.4f}", f"[{row.low:+.4f}, {row.high:+.4f}]",
        f"{row.effect:+.2f}", f"{row.wins}/{row.ties}/{row.losses}", f"{row.p_value:.4f}", f"{row.adjusted:.4f}",
    ]  # fmt: skip


# ---- Checks ---------------------------------------------------------------------------------------------------------


def _values(values, name, least=1):
    values = check_array(values, name, ndim=1, finite=True, min_rows=least)
    return values.astype(np.float64)


def _differences(a, b):
    a = _values(a, "a", least=2)
    return a - check_array(_values(b, "b"), "b", shape=a.shape)


def _aligned(systems, baseline):
    queries = list(systems[baseline]) if isinstance(systems[baseline], dict) else None
    values = {}
    for name, mine in systems.items():
        if isinstance(mine, dict) != (queries is not None) or (queries is not None and set(mine) != set(queries)):
            raise ValueError(f"systems: expected {name!r} to have the queries of {baseline!r}, got others")
        numbers = [mine[query] for query in queries] if queries is not None else mine
        values[name] = _values(numbers, f"systems[{name!r}]")
    return values


def _sorted_p(p_values):
    p = _values(p_values, "p_values")
    if p.min() < 0 or p.max() > 1:
        raise ValueError(f"p_values: expected values from 0 to 1, got {p.min()} to {p.max()}")
    order = np.argsort(p, kind="stable")
    return p[order], order


def _unsorted(adjusted, order):
    result = np.empty(len(order))
    result[order] = np.minimum(adjusted, 1)
    return result
