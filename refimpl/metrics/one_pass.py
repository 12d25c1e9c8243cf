"""All measures of all queries in one pass over ranks and grades: the fast twin of `ranking`, tied to it by test.

`ranking` takes the whole ranked list. Here a query is its judged documents only, each with the rank it came at and its
grade; what stands between them is not relevant and only moves the ranks:

    rel      0  2  0  0  1  0 ...  of 100 results        rank   2  5
                                                         grade  2  1

With a hundred results and a few judged ones that is a fraction of the work, and nothing has to be sorted: the rank of a
document is one more than the number of scores above its own.

    rank_by_score    scores -> ranks; says which queries have ties that matter
    measure          ranks and grades -> (measures, q)

The judged documents of query i are entries judged_offsets[i]:judged_offsets[i + 1] of flat arrays. Sums run in the
order of the ranks, as in `ranking` and in trec_eval, so that the last digit agrees too.
"""

import re
from typing import NamedTuple

import numpy as np
from numba import njit

from ..kernels import in_threads
from ..validation import check_integer, check_number
from .matching import take_ragged

PRECISION, RECALL, HIT_RATE, RR, AP, R_PRECISION, DCG, NDCG, DCG_EXP, NDCG_EXP, RBP, ERR, BPREF = range(13)
MEASURES = {
    "map": AP,
    "mrr": RR,
    "ndcg": NDCG,
    "ndcg_exponential": NDCG_EXP,
    "dcg": DCG,
    "dcg_exponential": DCG_EXP,
    "precision": PRECISION,
    "recall": RECALL,
    "hit_rate": HIT_RATE,
    "r_precision": R_PRECISION,
    "rbp": RBP,
    "err": ERR,
    "bpref": BPREF,
}
WITHOUT_CUTOFF = ("r_precision", "bpref")


def parse_measures(measures):
    """(names, plan) of names such as "ndcg@10"; plan: (n,) kinds, (n,) cutoffs with 0 for none, and (n,) p of RBP."""
    names = list(dict.fromkeys([measures] if isinstance(measures, str) else measures))
    if not names:
        raise ValueError("measures: expected at least one name, got none")
    kinds, cutoffs, persistence = [], [], []
    for name in names:
        base, at, number = str(name).partition("@")
        if base not in MEASURES or (at and base in WITHOUT_CUTOFF):
            without = ", ".join(WITHOUT_CUTOFF)
            known = ", ".join(MEASURES)
            raise ValueError(f"measures: expected one of {known}, with @k but for {without}; got {name!r}")
        if at and base != "rbp" and not re.fullmatch("[0-9]{1,18}", number):
            raise ValueError(f"measures: expected a whole number of at most 18 digits after @, got {name!r}")
        kinds.append(MEASURES[base])
        is_cutoff = at and base != "rbp"
        cutoffs.append(check_integer(int(number), f"measures: the cutoff of {name}", minimum=1) if is_cutoff else 0)
        p = number if at and base == "rbp" else 0.8
        persistence.append(check_number(p, f"measures: p of {name}", above=0, below=1))
    return names, (np.array(kinds), np.array(cutoffs), np.array(persistence))


# ---- Scores to ranks ------------------------------------------------------------------------------------------------


def rank_by_score(scores, offsets, found, judged_offsets):
    """(ranks, tied): the rank of each judged document, 0 if it was not retrieved; which queries have ties that matter.

    scores (n,) float64, those of query i at offsets[i]:offsets[i + 1], NaN only as padding at its end; found (m,)
    float64 the scores of its judged documents, NaN where not retrieved, at judged_offsets[i]:judged_offsets[i + 1].
    ranks (m,) int64; tied (q,) bool: a judged document shares its score with another, and has the best rank of its
    group. O(n + m log n) time when the scores descend within each query, and O(n m / q) comparisons when they do not.
    """
    q = len(offsets) - 1
    ranks, tied = np.empty(len(found), dtype=np.int64), np.empty(q, dtype=np.bool_)
    in_threads(q, _rank_by_score, scores, offsets, found, judged_offsets, ranks, tied)
    return ranks, tied


@njit(nogil=True, cache=True)
def _rank_by_score(first, last, scores, offsets, found, judged_offsets, ranks, tied):
    """The rank of each found score among those of its query; tied[q] if ids must decide."""
    for q in range(first, last):
        begin, end = offsets[q], offsets[q + 1]
        rises = 0
        for j in range(begin + 1, end):
            rises += scores[j] > scores[j - 1]
        tied[q] = False
        for i in range(judged_offsets[q], judged_offsets[q + 1]):
            score = found[i]
            if np.isnan(score):
                ranks[i] = 0
                continue
            above, equal = 0, 0
            if rises == 0:
                low, high = begin, end  # the first place where the score is not above this one
                while low < high:
                    middle = (low + high) >> 1
                    if scores[middle] > score:
                        low = middle + 1
                    else:
                        high = middle
                above = low - begin
                equal = 1 + (low + 1 < end and scores[low + 1] == score)
            else:
                for j in range(begin, end):  # no branches: eight comparisons at a time
                    above += scores[j] > score
                    equal += scores[j] == score
            ranks[i] = above + 1
            if equal > 1:
                tied[q] = True


class Names(NamedTuple):
    """Names as bytes, text[starts[j]:][:lengths[j]]. Their order is that of strcmp: byte by byte, unsigned."""

    text: np.ndarray  # uint8
    starts: np.ndarray  # (n,) int64
    lengths: np.ndarray  # (n,) integers

    def take(self, pick):
        return Names(self.text, self.starts[pick], self.lengths[pick])


def break_ties(ranks, tied, scores, offsets, names, found, judged_offsets, judged_names):
    """Move the ranks of judged documents in the queries `tied` down by the equal scores with a greater name.

    The arguments are those of `rank_by_score`; names(rows) and judged_names(rows) are the `Names` of queries, end to
    end.
    """
    rows = np.flatnonzero(tied)
    if len(rows):
        pick, offsets = take_ragged(offsets, rows)
        judged_pick, judged_offsets = take_ragged(judged_offsets, rows)
        below = np.zeros(len(judged_pick), dtype=np.int64)
        lists = *names(rows), scores[pick], offsets, *judged_names(rows), found[judged_pick], judged_offsets
        in_threads(len(rows), _greater_names, *lists, below, at_least=64)
        ranks[judged_pick] += below


@njit(nogil=True, cache=True)
def _greater_names(
    first, last, text, starts, lengths, scores, offsets, judged_text, judged_starts, judged_lengths, found,
    judged_offsets, below,
):  # fmt: skip
    """below[i]: how many documents have the score of judged document i and a greater name."""
    for q in range(first, last):
        for i in range(judged_offsets[q], judged_offsets[q + 1]):
            for j in range(offsets[q], offsets[q + 1]):
                if scores[j] == found[i]:
                    a, b, n, m = starts[j], judged_starts[i], lengths[j], judged_lengths[i]
                    c = 0
                    while c < n and c < m and text[a + c] == judged_text[b + c]:
                        c += 1
                    if c < n and (c == m or text[a + c] > judged_text[b + c]):
                        below[i] += 1


# ---- Ranks to measures ----------------------------------------------------------------------------------------------


def measure(plan, grades, ranks, judged_offsets, counts, *, level=1, top=1, judged_only=False):
    """(measures, q) float64, the values of the measures in `plan` (see `parse_measures`).

    grades (m,) int64, negative: not judged; ranks (m,) int64, 0: not retrieved; judged_offsets (q + 1,); counts (q,)
    int64, how many results the list has - ranks beyond it count as not retrieved. level: the least relevant grade.
    top: the highest grade of the scale, for ERR. judged_only: take unjudged documents out of the ranking. Putting
    the judged documents of a query in order is an insertion sort, quadratic in their number; the rest is linear, but
    for grades above 255: each query then looks at every grade that occurs in any.
    """
    kinds, cutoffs, persistence = plan
    if top > 1000 and np.isin(kinds, (DCG_EXP, NDCG_EXP, ERR)).any():
        raise ValueError(f"measures: expected grades up to 1000 for a gain of 2^grade, got {top}")
    levels = np.arange(max(top, 0) + 1)
    if top > 255:  # the kernel counts grades, so few different ones are numbered: levels[code] is the grade
        levels = np.unique(np.append(grades[grades >= 0], 0))
        grades = np.where(grades < 0, -1, np.searchsorted(levels, grades))
        level = int(np.searchsorted(levels, level))
    gains = np.stack([levels, np.exp2(np.minimum(levels, 1000)) - 1])
    most = int(np.diff(judged_offsets).max(initial=0))
    deepest = max(int(counts.max(initial=0)), most)
    discounts = np.concatenate([[np.inf], np.log2(np.arange(2, deepest + 3))])  # discounts[rank]
    values = np.empty((len(kinds), len(counts)))
    args = kinds, cutoffs, persistence, grades, ranks, judged_offsets, counts, level, judged_only
    in_threads(len(counts), _measure, *args, most, discounts, gains, 2.0 ** min(top, 1000), values)
    return values


@njit(nogil=True, cache=True, error_model="numpy")
def _measure(
    first, last, kinds, cutoffs, persistence, grades, ranks, judged_offsets, counts, level, judged_only,
    most, discounts, gains, scale, values,
):  # fmt: skip
    """All measures of each query from the ranks and grades of its judged documents."""
    rank, grade, best = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    at_grade = np.zeros(gains.shape[1], np.int64)
    for q in range(first, last):
        retrieved, n_found, n_judged, n_best = counts[q], 0, 0, 0
        n_relevant = np.int64(0)  # a plain 0 is a type of its own, for which _value would be compiled once more
        for i in range(judged_offsets[q], judged_offsets[q + 1]):
            if grades[i] >= 0:
                at_grade[grades[i]] += 1
                n_judged += 1
                n_relevant += grades[i] >= level
                if 0 < ranks[i] <= retrieved:  # into its place by rank
                    j = n_found
                    while j > 0 and rank[j - 1] > ranks[i]:
                        rank[j], grade[j] = rank[j - 1], grade[j - 1]
                        j -= 1
                    rank[j], grade[j] = ranks[i], grades[i]
                    n_found += 1
        for g in range(len(at_grade) - 1, -1, -1):  # the ideal order, by counting
            for _ in range(at_grade[g] if g > 0 else 0):
                best[n_best] = g
                n_best += 1
            at_grade[g] = 0
        if judged_only:
            retrieved = n_found
            for j in range(n_found):
                rank[j] = j + 1
        for m in range(len(kinds)):
            kind, cut = kinds[m], cutoffs[m]
            if kind == R_PRECISION:
                cut = n_relevant
            elif cut == 0:
                cut = retrieved
            n = 0  # how many judged documents are within the cutoff
            while n < n_found and rank[n] <= cut:
                n += 1
            if kind == DCG or kind == NDCG or kind == DCG_EXP or kind == NDCG_EXP:
                gain = gains[1 if kind == DCG_EXP or kind == NDCG_EXP else 0]
                value, ideal = 0.0, 0.0
                for j in range(n):
                    value += gain[grade[j]] / discounts[rank[j]]
                if kind == NDCG or kind == NDCG_EXP:
                    for j in range(n_best if cutoffs[m] == 0 or cutoffs[m] > n_best else cutoffs[m]):
                        ideal += gain[best[j]] / discounts[j + 1]
                    value = value / ideal if ideal > 0 else 0.0
                values[m, q] = value
            else:
                values[m, q] = _value(
                    kind, rank, grade, n, level, cut, n_relevant, n_judged - n_relevant, persistence[m], scale, gains
                )


@njit(nogil=True, cache=True, error_model="numpy")
def _value(kind, rank, grade, n, level, cut, n_relevant, n_nonrelevant, p, scale, gains):
    """One measure of one query from its first n judged documents in ranked order; the formulas are in `ranking`."""
    value, hits, still_reading = 0.0, 0, 1.0
    fewer = n_nonrelevant if n_nonrelevant < n_relevant else n_relevant
    for j in range(n):
        if kind == ERR:
            satisfied = gains[1, grade[j]] / scale
            value += satisfied * still_reading / rank[j]
            still_reading *= 1 - satisfied
        elif grade[j] >= level:
            hits += 1
            if kind == AP:
                value += hits / rank[j]
            elif kind == RR and hits == 1:
                value = 1 / rank[j]
            elif kind == RBP:
                value += p ** (rank[j] - 1.0)
            elif kind == BPREF:
                above = j + 1 - hits  # 1 - 0/0 is 1: nothing irrelevant can stand above
                value += 1 - (above if above < n_relevant else n_relevant) / fewer if above > 0 else 1.0
    if kind == PRECISION:
        return hits / cut if cut > 0 else 0.0
    if kind == HIT_RATE:
        return 1.0 if hits > 0 else 0.0
    if kind == RBP:
        return (1 - p) * value
    if kind == RECALL or kind == R_PRECISION:
        value = float(hits)
    if kind == RECALL or kind == R_PRECISION or kind == AP or kind == BPREF:
        return value / n_relevant if n_relevant > 0 else 0.0
    return value
