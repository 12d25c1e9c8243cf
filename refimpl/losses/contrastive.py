"""Contrastive losses: pull a vector towards its positive, push it from its negatives.

All but the oldest (`contrastive_loss`, a spring between two points) are one idea, the book's contrastive training: the
similarities of an anchor to its candidates are logits, softmax makes them a distribution over "which candidate is the
positive?", and cross-entropy trains it. They differ in who the candidates are:

    candidate_cross_entropy  any list of candidates, the positive anywhere among them         (the book's form)
    n_pair_loss              the positives of all anchors, one of them its own; dot products
    info_nce                 its positive, and negatives that the caller brings: a memory bank, a queue, hard ones
    nt_xent                  all other views in the batch; cosine over temperature            (SimCLR)
    decoupled_contrastive    as nt_xent, but the positive is left out of the denominator      (DCL)
    sup_con                  as nt_xent, but every other item of the class is a positive      (SupCon)
    soft_nearest_neighbor    as sup_con, but any positive will do: their chances add up; by squared distance

With equal logits the answer is a guess among the candidates: a loss that stays at log(candidates) means that the
encoder has collapsed (ln(2n - 1) for nt_xent, ln(k + 1) for info_nce, ln n for n_pair_loss).

Memory is O(n^2) for n anchors. No loss enumerates pairs.
"""

import numpy as np

from ..matrix_product import matrix_product
from ..nn import l2_normalize, log_softmax
from ..validation import check_array, check_number
from .checks import check_embeddings, check_labels, no_overflow, same_label
from .cross_entropy import cross_entropy_rows
from .similarity import squared_distance


def contrastive_loss(x1, x2, same, *, margin=1.0):
    """Pairs of points: a spring when they are the same, a push inside the margin when they are not.

        loss = 1/n sum_i  1/2 same_i d_i^2 + 1/2 (1 - same_i) max(0, margin - d_i)^2         d_i = |x1_i - x2_i|

    x1, x2  (n, d) float
    same    (n,) of 0 or 1 (or bool)
    Returns loss (float), (dx1, dx2). At d = 0 the push has no direction: its gradient there is taken as 0.
    Raises ValueError for wrong shapes, non-finite values, distances that overflow, `same` other than 0 or 1, a
    negative margin.
    Source: Hadsell, Chopra and LeCun 2006, equation 4. Some libraries omit the halves or do not square: compare first.
    """
    x1, x2 = check_embeddings(x1=x1, x2=x2)
    margin = check_number(margin, "margin", minimum=0)
    same = check_array(same, "same", shape=(len(x1),)).astype(x1.dtype)
    if not np.isin(same, (0, 1)).all():
        raise ValueError("same: expected only 0 and 1")
    n = len(x1)
    with np.errstate(over="ignore"):
        difference = x1 - x2
        d = no_overflow(np.linalg.norm(difference, axis=1), "squared distance", "x1, x2")
    gap = np.maximum(margin - d, 0)
    loss = np.sum(np.where(same == 1, d, gap).astype(np.float64) ** 2) / (2 * n)
    push = np.divide(gap, d, out=np.zeros_like(d), where=d > 0)
    dx1 = (same - (1 - same) * push)[:, None] * difference / n
    return float(loss), (dx1, -dx1)


def candidate_cross_entropy(query, candidates, position, *, temperature=1.0):
    """The book's training row: a query, candidates of which one is similar, and where that one stands.

        logits_ij = q_i . c_ij / temperature            loss = mean cross-entropy of logits_i with label position_i

    query       (n, d) float
    candidates  (n, k, d), in any order; `data.candidate_rows` makes such rows
    position    (n,) integers in [0, k): the row of the positive
    Dot products as they come: normalise first where cosine is meant.
    Returns loss (float), (dquery, dcandidates).
    Raises ValueError for wrong shapes, non-finite values, logits that overflow, positions outside [0, k),
    temperature <= 0.
    Source: Aminian and Xu, "Machine Learning System Design Interview", 2023, chapter 2 (contrastive training).
    """
    (query,) = check_embeddings(query=query)
    n, d = query.shape
    candidates = check_array(candidates, "candidates", shape=(n, None, d), dtypes=[query.dtype], finite=True)
    position = check_labels(position, n, classes=candidates.shape[1], name="position")
    temperature = check_number(temperature, "temperature", above=0)
    with np.errstate(over="ignore"):
        logits = no_overflow(np.einsum("nd,nkd->nk", query, candidates) / temperature, "logit", "query, candidates")
    loss, dlogits = cross_entropy_rows(logits, position, "query, candidates")
    dlogits /= temperature
    return loss, (np.einsum("nk,nkd->nd", dlogits, candidates), dlogits[:, :, None] * query[:, None, :])


def n_pair_loss(anchor, positive):
    """Each anchor must find its own positive among all n positives.

        loss = cross-entropy of logits = anchor @ positive.T with labels 0 .. n-1

    anchor, positive  (n, d) float; not normalised here. Returns loss (float), (danchor, dpositive).
    Raises ValueError for wrong shapes, non-finite values, dot products that overflow.
    Source: Sohn 2016, equation 6, without its L2 penalty on the embeddings. It is one-way InfoNCE at temperature 1.
    """
    anchor, positive = check_embeddings(anchor=anchor, positive=positive)
    logits = no_overflow(matrix_product(anchor, positive.T), "dot product", "anchor, positive")
    loss, dlogits = cross_entropy_rows(logits, np.arange(len(anchor)), "anchor, positive")
    return loss, (matrix_product(dlogits, positive), matrix_product(dlogits.T, anchor))


def info_nce(query, positive, negatives, *, temperature):
    """Each query must find its positive among k negatives.

        logits_i = [q_i . p_i, q_i . n_1, ..., q_i . n_k] / temperature            loss = cross-entropy with label 0

    query, positive  (n, d) float
    negatives        (k, d), shared by all queries (MoCo's queue), or (n, k, d), each query's own; k >= 1
    Dot products as they come: normalise first where cosine is meant.
    Returns loss (float), (dquery, dpositive, dnegatives).
    Raises ValueError for wrong shapes, no negatives, non-finite values, logits that overflow, temperature <= 0.
    Source: van den Oord, Li and Vinyals 2018, equation 4; He et al. 2020 (MoCo), equation 1.
    """
    query, positive = check_embeddings(query=query, positive=positive)
    negatives = check_array(negatives, "negatives", ndim=(2, 3), dtypes=[query.dtype], finite=True)
    n, d = query.shape
    if negatives.shape[-1] != d or negatives.shape[-2] == 0 or (negatives.ndim == 3 and len(negatives) != n):
        raise ValueError(f"negatives: expected shape (k, {d}) or ({n}, k, {d}), k >= 1, got {negatives.shape}")
    temperature = check_number(temperature, "temperature", above=0)
    first = np.zeros(n, np.int64)
    if negatives.ndim == 3:
        candidates = np.concatenate([positive[:, None], negatives], axis=1)
        loss, (dquery, dcandidates) = candidate_cross_entropy(query, candidates, first, temperature=temperature)
        return loss, (dquery, dcandidates[:, 0], dcandidates[:, 1:])
    with np.errstate(over="ignore"):
        to_positive = np.sum(query * positive, axis=1, keepdims=True)
        logits = np.concatenate([to_positive, matrix_product(query, negatives.T)], axis=1) / temperature
    no_overflow(logits, "logit", "query, positive, negatives")
    loss, dlogits = cross_entropy_rows(logits, first, "query, positive, negatives")
    dlogits /= temperature
    dpositive, drest = dlogits[:, :1] * query, dlogits[:, 1:]
    dquery = matrix_product(drest, negatives) + dlogits[:, :1] * positive
    return loss, (dquery, dpositive, matrix_product(drest.T, query))


def nt_xent(z1, z2, *, temperature):
    """SimCLR's normalised, temperature-scaled cross-entropy: each view must find the other view of its image.

        z = [z1; z2] / |.|             s_ij = z_i . z_j / temperature
        loss = -1/2n sum_i  log ( exp(s_{i, partner(i)}) / sum_{j != i} exp(s_ij) )

    z1, z2  (n, d) float, n >= 1: row i of both is a view of image i. Normalised here; a zero vector stays zero.
    Returns loss (float), (dz1, dz2). The mean is over all 2n anchors; the paper's pseudo-code sums and halves to the
    same. Equals sup_con with one positive an anchor.
    Raises ValueError for wrong shapes, non-finite values, temperature <= 0.
    Source: Chen et al. 2020 (SimCLR), equation 1 and algorithm 1.
    """
    z1, z2 = check_embeddings(z1=z1, z2=z2)
    n = len(z1)
    partner = np.concatenate([np.arange(n, 2 * n), np.arange(n)])
    z, unnormalise = l2_normalize(np.concatenate([z1, z2]))
    s, temperature = _similarities(z, temperature)
    loss, ds = cross_entropy_rows(s, partner)
    dz = unnormalise(_through_similarities(ds, z, temperature))
    return loss, (dz[:n], dz[n:])


def decoupled_contrastive(z1, z2, *, temperature):
    """NT-Xent without the positive in its denominator: pull and push no longer weaken each other.

        z, s as in `nt_xent`            loss = 1/2n sum_i  -s_{i, partner(i)} + log sum_{j != i, partner(i)} exp(s_ij)

    In NT-Xent pull and push carry the factor 1 - p(partner), which is small when the positive is easy and negatives
    are few (small batches); here it is gone. Per anchor NT-Xent is softplus of this, log(1 + exp(.)), so this one goes
    below 0: to -2 / temperature + log(2n - 2) with negatives opposite the anchor. Collapsed: log(2n - 2).

    z1, z2  (n, d) float, n >= 2. Normalised here; a zero vector stays zero.
    Returns loss (float), (dz1, dz2).
    Raises ValueError for wrong shapes, one row (no negatives), non-finite values, temperature <= 0.
    Source: Yeh et al. 2022, "Decoupled contrastive learning", L_DC, without their optional weights of the positives.
    """
    z1, z2 = check_embeddings(z1=z1, z2=z2)
    n = len(z1)
    if n < 2:
        raise ValueError(f"z1: expected at least 2 rows, the negatives of each other, got shape {z1.shape}")
    rows, partner = np.arange(2 * n), np.concatenate([np.arange(n, 2 * n), np.arange(n)])
    z, unnormalise = l2_normalize(np.concatenate([z1, z2]))
    s, temperature = _similarities(z, temperature)
    to_partner = s[rows, partner]
    s[rows, partner] = -np.inf
    log_p, _ = log_softmax(s)
    # log sum = s_ij - log p_ij for any negative j; the nearest, where log p is small
    j = np.argmax(s, axis=1)
    loss = np.mean(s[rows, j] - log_p[rows, j] - to_partner)
    ds = np.exp(log_p, out=log_p)
    ds[rows, partner] = -1
    ds /= z.dtype.type(2 * n)
    dz = unnormalise(_through_similarities(ds, z, temperature))
    return float(loss), (dz[:n], dz[n:])


def sup_con(z, labels, *, temperature):
    """Supervised contrastive loss: each anchor must find all the others of its class.

        loss = 1/|A| sum_{i in A}  -1/|P(i)| sum_{p in P(i)}  log ( exp(s_ip) / sum_{j != i} exp(s_ij) )

        s_ij = cosine(z_i, z_j) / temperature;  P(i) the others with i's label;  A the anchors with a positive

    z       (n, d) float; normalised here
    labels  (n,) integers
    Returns loss (float), dz (n, d).
    Raises ValueError for wrong shapes, non-finite values, temperature <= 0, or if no anchor has a positive.
    Source: Khosla et al. 2020, equation 2 (L_out: the mean is outside the logarithm; L_in, inside, trains worse),
    without the constant factor temperature / base_temperature of the published code.
    """
    (z,) = check_embeddings(z=z)
    positive = same_label(labels, len(z)).astype(z.dtype)
    positives = positive.sum(axis=1, keepdims=True)
    anchor = positives > 0
    z, unnormalise = l2_normalize(z)
    s, temperature = _similarities(z, temperature)
    log_p, _ = log_softmax(s)
    target = positive / np.maximum(positives, 1)
    loss = -np.sum(target * np.where(positive > 0, log_p, 0)) / anchor.sum()
    ds = np.where(anchor, np.exp(log_p) - target, 0) / anchor.sum().astype(z.dtype)
    return float(loss), unnormalise(_through_similarities(ds, z, temperature))


def soft_nearest_neighbor(z, labels, *, temperature):
    """How likely a neighbour drawn by distance has the anchor's class.

        w_ij = exp(-|z_i - z_j|^2 / temperature), w_ii = 0
        loss = -1/|A| sum_{i in A}  log ( sum_{j in P(i)} w_ij / sum_j w_ij )

    z       (n, d) float; not normalised
    labels  (n,) integers;  P(i) and A as in `sup_con`
    Returns loss (float), dz (n, d).
    Raises ValueError for wrong shapes, non-finite values, temperature <= 0, or if no anchor has a positive.
    Source: Frosst, Papernot and Hinton 2019, equation 1, with the logarithms computed exactly instead of their epsilon.
    """
    (z,) = check_embeddings(z=z)
    temperature = check_number(temperature, "temperature", above=0)
    positive = same_label(labels, len(z))
    anchor = positive.any(axis=1)
    squared, through_squared = squared_distance(z, z)
    among_all = -squared / z.dtype.type(temperature)
    np.fill_diagonal(among_all, -np.inf)
    among_positives = np.where(positive, among_all, -np.inf)[anchor]
    log_all, _ = log_softmax(among_all[anchor])
    log_positives, _ = log_softmax(among_positives)
    # log sum_P w - log sum_all w = (s_ij - log_positives_ij) - (s_ij - log_all_ij) for any positive j of i
    j = np.argmax(among_positives, axis=1)[:, None]
    log_ratio = np.take_along_axis(log_all, j, 1) - np.take_along_axis(log_positives, j, 1)
    ds = np.zeros_like(squared)
    ds[anchor] = (np.exp(log_positives) - np.exp(log_all)) / z.dtype.type(anchor.sum() * temperature)
    left, right = through_squared(ds)
    return float(-log_ratio.mean()), left + right


def _similarities(z, temperature):
    """z z^T / temperature, an anchor's similarity to itself masked out; (n, n)."""
    temperature = z.dtype.type(check_number(temperature, "temperature", above=0))
    with np.errstate(over="ignore", divide="ignore"):
        no_overflow(z.dtype.type(3) / temperature, "difference of cosines over it", "temperature")
    s = matrix_product(z, z.T)
    s /= temperature
    np.fill_diagonal(s, -np.inf)
    return s, temperature


def _through_similarities(ds, z, temperature):
    """The pullback of s = z z^T / temperature: z_i stands in row i and in column i. Overwrites ds."""
    _add_transpose(ds)
    return matrix_product(ds, z) / temperature


def _add_transpose(a, tile=128):
    """a += a.T in place, a pair of tiles at a time: a whole transpose would miss the cache at every value."""
    for i in range(0, len(a), tile):
        for j in range(0, i + 1, tile):
            upper, lower = a[j : j + tile, i : i + tile], a[i : i + tile, j : j + tile]
            total = lower + upper.T
            lower[:], upper[:] = total, total.T
