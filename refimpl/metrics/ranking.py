"""How good is a ranked list? Each measure from its definition, for many queries at once.

Everything here works on `rel`, the relevance of the results in ranked order: row i is a query, column j the document
at rank j + 1, and the entry its grade. A grade above 0 is relevant; 0 is irrelevant, unjudged, or padding. So a short
list is padded on the right with zeros (`pad_ragged`), and how wide the padding is changes nothing.

    rel = [[1, 0, 2, 0, 0],      query 0: relevant documents at ranks 1 and 3
           [0, 0, 0, 1, 0]]      query 1: one, at rank 4

What the list alone cannot tell has to be said beside it: `n_relevant`, the number of documents that are relevant to
the query whether or not they were found (R below), and `ideal`, the grades of all of them. A measure that divides by
what was found instead rewards a system for finding less. A query without relevant documents scores 0, as in trec_eval.

    rel          (q, depth)  real, finite       the grades, best rank first
    k            int >= 1                       the cutoff; beyond the end of a list there is nothing relevant
    n_relevant   (q,) or one int, >= 0          R, at least the number of relevant documents in the row
    returns      (q,) float64                   one value a query; average them with .mean()

`evaluate` computes the same measures from documents and scores, and `ties` what they are when scores are tied.
"""

import numpy as np

from ..validation import check_array, check_choice, check_integer, check_number

# ---- What was found, in no order ------------------------------------------------------------------------------------


def precision_at_k(rel, k):
    """The share of the first k results that is relevant.

        P@k = #{i <= k : rel_i > 0} / k

    Divides by k even if the list is shorter (trec_eval does; some libraries divide by the length).
    Ignores: the order within the first k, the grades, and how many relevant documents there are - with R < k even
    a perfect ranking stays below 1.
    """
    hits = _hits(rel)
    k = check_integer(k, "k", minimum=1)
    return hits[:, :k].sum(axis=1) / k


def recall_at_k(rel, k, n_relevant):
    """The share of the relevant documents that is among the first k results.

        R@k = #{i <= k : rel_i > 0} / R

    Ignores: the order within the first k, the grades. With many relevant documents it is small whatever the system
    does, since at most k of them fit.
    """
    hits = _hits(rel)
    k = check_integer(k, "k", minimum=1)
    return _over(hits[:, :k].sum(axis=1), _relevant(n_relevant, hits))


def hit_rate_at_k(rel, k):
    """1 if anything among the first k results is relevant, else 0 (also called success@k).

    Ignores: where the hit is, how many there are, the grades.
    """
    hits = _hits(rel)
    k = check_integer(k, "k", minimum=1)
    return hits[:, :k].any(axis=1).astype(np.float64)


def r_precision(rel, n_relevant):
    """Precision at rank R, where the number of relevant documents is the cutoff: P@R = R@R.

        #{i <= R : rel_i > 0} / R

    A perfect ranking reaches 1 for every query, which precision at a fixed k does not allow.
    Ignores: the order within the first R, everything after them, the grades.
    """
    hits = _hits(rel)
    n_relevant = _relevant(n_relevant, hits)
    within = np.arange(hits.shape[1]) < n_relevant[:, None]
    return _over((hits & within).sum(axis=1), n_relevant)


# ---- Where it was found ---------------------------------------------------------------------------------------------


def reciprocal_rank(rel, k=None):
    """One over the rank of the first relevant result; its mean over queries is MRR.

        RR = 1 / min{i : rel_i > 0},  0 if there is none (among the first k, when k is given)

    Ignores: every relevant result after the first, and the grades.
    Source: Voorhees, The TREC-8 question answering track report, 1999.
    """
    hits = _first(_hits(rel), k)
    first = hits.argmax(axis=1)
    return np.where(hits.any(axis=1), 1.0 / (first + 1), 0.0)


def average_precision(rel, n_relevant, k=None):
    """The precision at each relevant result, averaged over all relevant documents; its mean over queries is mAP.

        AP = 1/R sum_i [rel_i > 0] P@i        (i <= k, when k is given)

    A relevant document that was not found contributes 0: the sum is divided by R, not by the number found, and with a
    cutoff also by R, not min(R, k) (trec_eval's map_cut).
    Ignores: the grades.
    Source: Buckley and Voorhees, Retrieval system evaluation, in: TREC, MIT Press 2005.
    """
    hits = _hits(rel)
    n_relevant = _relevant(n_relevant, hits)
    hits = _first(hits, k)
    precision = hits.cumsum(axis=1) / _ranks(hits)
    return _over(_total(precision * hits), n_relevant)


def rank_biased_precision(rel, p=0.8):
    """The expected rate at which a patient reader finds relevant documents.

        RBP = (1 - p) sum_i [rel_i > 0] p^(i - 1)

    The reader looks at the first result, and at each next one with probability p. What lies below the list is unknown:
    the value could grow by up to p^depth if everything there were relevant. R does not enter, so that a perfect finite
    list stays below 1.
    Ignores: the grades, and how many relevant documents were missed.
    Source: Moffat and Zobel, Rank-biased precision for measurement of retrieval effectiveness, TOIS 2008, eq. 7.
    """
    hits = _hits(rel)
    p = check_number(p, "p", above=0, below=1)
    return (1 - p) * _total(hits * p ** (_ranks(hits) - 1.0))


def bpref(rel, judged, n_relevant, n_nonrelevant):
    """How rarely a document judged irrelevant stands above a relevant one; unjudged documents are passed over.

        bpref = 1/R sum over relevant results i of  1 - min(N_i, R) / min(N, R)

    N_i is the number of results above i that are judged and irrelevant, N (`n_nonrelevant`) the number that were judged
    irrelevant at all. `judged` (q, depth) bool tells a judged 0 from an unjudged one.
    Ignores: everything unjudged, the grades, and where in the list the documents stand.
    Source: Buckley and Voorhees, Retrieval evaluation with incomplete information, SIGIR 2004; with the
    min(N, R) of trec_eval, whose value this is.
    """
    hits = _hits(rel)
    n_relevant = _relevant(n_relevant, hits)
    judged = check_array(judged, "judged", shape=hits.shape, dtypes=(bool,))
    if (hits & ~judged).any():
        raise ValueError("judged: expected every relevant document to be judged, got a grade above 0 where it is False")
    nonrelevant = judged & ~hits
    n_nonrelevant = _counts(n_nonrelevant, "n_nonrelevant", nonrelevant)
    above = np.minimum(nonrelevant.cumsum(axis=1), n_relevant[:, None])
    most = np.maximum(np.minimum(n_nonrelevant, n_relevant), 1)
    return _over(_total(hits * (1 - above / most[:, None])), n_relevant)


# ---- What it was worth ----------------------------------------------------------------------------------------------


def dcg_at_k(rel, k, gain="linear"):
    """The gain of the first k results, discounted by the logarithm of the rank.

        DCG@k = sum_{i <= k} g(rel_i) / log2(i + 1)     g(r) = r ("linear") or 2^r - 1 ("exponential"), 0 for r < 0

    The two gains agree on grades 0 and 1, and can reverse two systems when there are more: with 2^r - 1 one perfect
    result outweighs several good ones.
    Ignores: what a perfect ranking could have gained, so values of different queries do not compare.
    Source: Jarvelin and Kekalainen, TOIS 2002 (linear); Burges et al., Learning to rank, ICML 2005 (exponential).
    """
    rel = _grades(rel, "rel")[:, : check_integer(k, "k", minimum=1)]
    return _total(_gain(rel, gain) / np.log2(_ranks(rel) + 1))


def ndcg_at_k(rel, k, ideal, gain="linear"):
    """DCG@k over the DCG@k of the best possible ranking.

        nDCG@k = DCG@k(rel) / DCG@k(the judged grades, sorted descending)

    `ideal` (q, m): the grades of all judged documents of each query, in any order, found or not, padded with 0. Sorting
    only what was found is a common mistake: a list with one poor document in it would then be perfect.
    Of two kinds of floats the finer is rounded to the coarser: 0.1 in float32 is more than 0.1 in float64.
    Ignores: that grades may not exist - on clicks, or any yes and no, it is a rank discount and nothing more.
    Source: Jarvelin and Kekalainen, Cumulated gain-based evaluation of IR techniques, TOIS 2002.
    """
    rel = _grades(rel, "rel")
    rel, ideal = _same_precision(rel, _grades(ideal, "ideal", rows=len(rel)), "rel")
    best = np.sort(np.maximum(ideal, 0), axis=1)[:, ::-1]
    _check_ideal(rel, best)
    ideal_dcg = dcg_at_k(best, k, gain)
    return _over(dcg_at_k(rel, k, gain), ideal_dcg)


def expected_reciprocal_rank(rel, max_grade, k=None):
    """The expected reciprocal rank at which a reader who may stop at every result is satisfied.

        ERR = sum_i 1/i  s_i prod_{j < i} (1 - s_j)        s_i = (2^rel_i - 1) / 2^max_grade

    A result of the top grade satisfies with probability 1 - 2^-max_grade, so what comes after it hardly counts: unlike
    in DCG, the worth of a result depends on those above it.
    max_grade is the top of the scale, at most 1000, and the same for all queries and systems that are compared.
    Ignores: how many relevant documents there are; even a perfect ranking stays below 1.
    Source: Chapelle, Metzler, Zhang, Grinspan, Expected reciprocal rank for graded relevance, CIKM 2009, eq. 4-5.
    """
    rel = _first(_grades(rel, "rel"), k)
    max_grade = check_number(max_grade, "max_grade", above=0, maximum=1000)
    if rel.max() > max_grade:
        raise ValueError(f"max_grade: expected the highest grade there is, got {max_grade:g} with {rel.max():g} in rel")
    satisfied = _gain(rel, "exponential") / 2.0**max_grade
    still_reading = np.ones_like(satisfied)
    still_reading[:, 1:] = np.cumprod(1 - satisfied, axis=1)[:, :-1]
    return _total(satisfied * still_reading / _ranks(rel))


# ---- Labels, without a list -----------------------------------------------------------------------------------------


def label_ranking_average_precision(relevant, scores):
    """Average precision over the relevant labels of each row, when every label has a score.

        LRAP = 1/R sum over relevant j of  #{relevant l : s_l >= s_j} / #{l : s_l >= s_j}

    It equals AP of the sorted row when no scores are tied; with ties a label shares the worst rank of its group.
    relevant (q, m) bool or 0/1, scores (q, m) real, finite -> (q,) float64. A row in which all labels or none are
    relevant has nothing to rank and scores 1 (scikit-learn's convention).
    Ignores: how far apart the scores are.
    Source: Schapire and Singer, BoosTexter, Machine Learning 2000; Tsoumakas et al., Mining multi-label data, 2010.
    """
    scores = check_array(scores, "scores", ndim=2, finite=True, min_rows=1)
    relevant = check_array(relevant, "relevant", shape=scores.shape, finite=True)
    if not np.isin(relevant, (0, 1)).all():
        raise ValueError("relevant: expected True and False, or 1 and 0, got other values")
    relevant = relevant.astype(bool)
    values = np.ones(len(scores))
    for i, (r, s) in enumerate(zip(relevant, scores)):
        if 0 < r.sum() < len(r):
            mine = s[r]
            at_least = len(s) - np.searchsorted(np.sort(s), mine, side="left")
            relevant_at_least = len(mine) - np.searchsorted(np.sort(mine), mine, side="left")
            values[i] = (relevant_at_least / at_least).mean()
    return values


# ---- Lists of different lengths -------------------------------------------------------------------------------------


def pad_ragged(values, offsets, fill=0):
    """Lists that lie one after the other in `values` as the rows of a matrix, padded on the right.

    values   (n,)                the lists, end to end
    offsets  (q + 1,) integers   list i is values[offsets[i]:offsets[i + 1]]; from 0 to n, never falling
    returns  (q, longest) array of the dtype of `values`, at least one column wide
    """
    values = check_array(values, "values", ndim=1)
    offsets = check_array(offsets, "offsets", ndim=1, min_rows=2)
    falls = (offsets[1:] < offsets[:-1]).any()
    if offsets.dtype.kind not in "iu" or offsets[0] != 0 or offsets[-1] != len(values) or falls:
        raise ValueError(f"offsets: expected integers rising from 0 to {len(values)} = len(values), got {offsets}")
    lengths = np.diff(offsets)
    filled = np.arange(max(lengths.max(), 1)) < lengths[:, None]
    matrix = np.full(filled.shape, fill, values.dtype)
    matrix[filled] = values
    return matrix


# ---- Checks and the pieces of the formulas --------------------------------------------------------------------------


def _grades(rel, name, rows=None):
    rel = check_array(rel, name, ndim=2, shape=(rows, None), finite=True, min_rows=1)
    if rel.shape[1] == 0:
        raise ValueError(f"{name}: expected at least one column, got shape {rel.shape}")
    return rel


def _hits(rel):
    return _grades(rel, "rel") > 0


def _counts(count, name, found):
    """`count` for every row, checked to be at least what `found` (q, depth) bool has in it."""
    count = check_array(count, name, ndim=(0, 1))
    if count.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected integers, got dtype {count.dtype}")
    if count.ndim and len(count) != len(found):
        raise ValueError(f"{name}: expected one number a query, ({len(found)},), got shape {count.shape}")
    count = np.broadcast_to(count.astype(np.int64), len(found))
    short = np.flatnonzero(count < found.sum(axis=1))
    if len(short):
        i = short[0]
        raise ValueError(f"{name}: expected at least the {found[i].sum()} in row {i} of rel, got {count[i]}")
    return count


def _relevant(n_relevant, hits):
    return _counts(n_relevant, "n_relevant", hits)


def _check_ideal(rel, best):
    """Raise unless the i-th best grade found is at most the i-th best judged, for every i (else nDCG could pass 1)."""
    found = np.sort(np.maximum(rel, 0), axis=1)[:, ::-1]
    width = min(found.shape[1], best.shape[1])
    bad = (found[:, :width] > best[:, :width]).any(axis=1) | (found[:, width:] > 0).any(axis=1)
    if bad.any():
        raise ValueError(f"ideal: expected all judged grades, got too few or too low for row {bad.argmax()} of rel")


def _same_precision(rel, ideal, name):
    """Both, in the coarser of two dtypes of floats, so that the same grade is the same number in both."""
    if rel.dtype.kind == ideal.dtype.kind == "f" and rel.dtype != ideal.dtype:
        coarser = min(rel.dtype, ideal.dtype, key=lambda dtype: dtype.itemsize)
        with np.errstate(over="ignore"):
            rel, ideal = rel.astype(coarser), ideal.astype(coarser)
        return _grades(rel, name), _grades(ideal, "ideal")
    return rel, ideal


def _first(rel, k):
    return rel if k is None else rel[:, : check_integer(k, "k", minimum=1)]


def _ranks(rel):
    return np.arange(1, rel.shape[1] + 1)


def _gain(rel, gain):
    check_choice(gain, "gain", ("linear", "exponential"))
    grades = np.maximum(rel, 0).astype(np.float64)
    if gain == "linear":
        return grades
    if grades.max() > 1000:
        raise ValueError(f"gain: expected grades up to 1000 for 2^grade, got {grades.max():g}")
    return np.exp2(grades) - 1


def _total(terms):
    """The sum of each row from the left, so that neither padding nor the other rows change a bit (as .sum() may)."""
    return np.cumsum(terms, axis=1)[:, -1]


def _over(value, total):
    """value / total, 0 where the total is 0."""
    return np.divide(value, total, out=np.zeros(len(value)), where=total > 0)
