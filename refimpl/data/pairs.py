"""Training pairs: who is the positive of a query, who are its negatives, and the book's training row.

    positives   labels            positives_from_labels; what annotators do to labels: majority_vote, noisy_labels
                interactions      see `interactions`
                self-supervision  view_pairs: two random views of one picture
    negatives   random            random_negatives: any picture of another group
                in-batch          in_batch_negatives: the positives of the other queries, which are embedded anyway
                hard              hard_negatives: the nearest of another group, from any index
    the row     candidate_rows    query, shuffled candidates, the position of the positive    (picture 8 of the book)

Pairs are (m, 2) int64, negatives (m, count) int64: row numbers of one collection, so that the same pictures are stored
once. `groups` (n,) says what counts as similar: labels, or the item in the picture. A negative is never of the query's
group. Pairs mined from clicks may cross groups: give each query's own positive as `positives`, and it is no negative
either. Where there are no groups, `np.arange(n)` makes each picture a group, and only the query itself is left out.
"""

from typing import NamedTuple

import numpy as np

from ..images import simclr_views
from ..images.preprocess import channel_values
from ..validation import check_array, check_integer, check_number
from .rows import as_int64, check_groups, check_pairs, check_rows

# ---- Positives ------------------------------------------------------------------------------------------------------


def positives_from_labels(labels, seed, *, per_query=1):
    """(m, 2): each row that has another of its label, `per_query` times, with one of those drawn uniformly.

    labels  (n,) integers. Rows whose label is unique are no query. Raises ValueError if all are.
    The rows are ordered by query.
    """
    labels = check_groups(labels, "labels")
    per_query = check_integer(per_query, "per_query", minimum=1)
    members = np.argsort(labels, kind="stable")
    first, size = _block(labels[members], labels)
    query = np.repeat(np.flatnonzero(size > 1), per_query)
    if not len(query):
        raise ValueError("labels: expected at least two rows with one label, every label occurs once")
    rank = np.empty(len(labels), np.int64)  # of each row in its own block
    rank[members] = np.arange(len(labels)) - first[members]
    other = np.random.default_rng(seed).integers(0, size[query] - 1)
    other += other >= rank[query]  # the query itself is skipped
    return np.stack([query, members[first[query] + other]], axis=1)


def majority_vote(votes):
    """(labels (n,), agreement (n,)): of several annotators' votes the most frequent, and its share of the votes.

    votes  (n, annotators) integers >= 0. Ties go to the smaller label.
    """
    votes = as_int64(check_array(votes, "votes", ndim=2, min_rows=1), "votes")
    if votes.shape[1] == 0 or votes.min() < 0:
        raise ValueError(f"votes: expected integers >= 0 of one or more annotators, got {votes.dtype} {votes.shape}")
    names, index = np.unique(votes, return_inverse=True)
    n, annotators = votes.shape
    cell = np.arange(n)[:, None] * len(names) + index.reshape(votes.shape)
    counts = np.bincount(cell.ravel(), minlength=n * len(names)).reshape(n, len(names))
    best = counts.argmax(axis=1)
    return names[best], counts[np.arange(n), best] / annotators


def noisy_labels(labels, share, seed):
    """(n,) labels of which each, with chance `share`, has become another one of those that occur, uniformly.

    An annotator who errs without preference. labels (n,) integers with at least two values, unless share is 0.
    """
    labels = check_groups(labels, "labels")
    share = check_number(share, "share", minimum=0, maximum=1)
    names, index = np.unique(labels, return_inverse=True)
    if len(names) < 2 and share > 0:
        raise ValueError(f"labels: expected at least two different ones, got only {names[0]}")
    rng = np.random.default_rng(seed)
    wrong = rng.random(len(labels)) < share
    turn = rng.integers(1, max(len(names), 2), len(labels))
    return names[np.where(wrong, index + turn, index) % len(names)]


def view_pairs(images, seed, *, size=None, mean=0.0, std=1.0, **views):
    """Two random views (x1, x2) of each picture, z-scored: the positives of self-supervision, ready for the encoder.

    images     (n, h, w, 3) uint8
    seed       an integer or a numpy.random.Generator; the two views are drawn one after the other
    size       side of the views in pixels; None keeps the height of the pictures
    mean, std  numbers or (3,), of pictures in [0, 1]
    views      as of `images.simclr_views`: crop_area, rotation, jitter_strength ...
    Returns two arrays (n, size, size, 3) float32.
    """
    rng = np.random.default_rng(seed)
    mean, std = channel_values(mean, "mean").astype(np.float32), channel_values(std, "std").astype(np.float32)
    if (std <= 0).any():
        raise ValueError(f"std: expected values above 0, got {std}")
    pair = []
    for _ in range(2):
        x = simclr_views(images, rng, size=size, **views)
        x -= mean
        x /= std
        pair.append(x)
    return tuple(pair)


# ---- Negatives ------------------------------------------------------------------------------------------------------


def random_negatives(groups, queries, count, seed, *, positives=None):
    """(m, count): for each query, `count` different rows of other groups, drawn uniformly; in no particular order.

    groups     (n,) integers
    queries    (m,) row numbers
    positives  (m,) row numbers: of each query one row, of any group, that is none of its negatives
    Raises ValueError if some query has fewer than `count` such rows.
    Cost: O(n log n + m count^2) time.
    """
    groups = check_groups(groups, "groups")
    queries = check_rows(queries, "queries", len(groups))
    members = np.argsort(groups, kind="stable")
    blocks = [_block(groups[members], groups[queries])]
    if positives is not None:
        positives = check_rows(positives, "positives", len(groups), shape=(len(queries),))
        place = np.argsort(members)[positives]
        blocks.append((place, (groups[positives] != groups[queries]).astype(np.int64)))  # 0: it lies in the first block
    return members[_draw_outside(len(groups), blocks, count, seed)]


def in_batch_negatives(groups, pairs, count, seed):
    """(m, count): for each pair of a batch, `count` of the other pairs' positives, of other groups than the query.

    Their embeddings are there anyway, so they cost no further pass through the encoder; but the more often a picture is
    a positive, the more often it is a negative. A picture that is the positive of several pairs counts several times,
    and is a negative of none of them.

    groups  (n,) integers, of the collection; a pair's positive may be of another group than its query
    pairs   (m, 2) rows (query, positive): the batch
    Raises ValueError if for some pair the batch has fewer than `count` positives that may be its negatives.
    """
    groups = check_groups(groups, "groups")
    pairs = check_pairs(pairs, len(groups))
    query, positive = pairs.T
    # By group, then by row: what is of the query's group lies together, and so does what is the pair's own positive.
    _, group = np.unique(groups[positive], return_inverse=True)
    key = group * len(groups) + positive
    members = np.argsort(key, kind="stable")
    first, size = _block(groups[positive[members]], groups[query])
    own_first, own_size = _block(key[members], key)
    own_size[groups[positive] == groups[query]] = 0  # it lies in the other block
    return positive[members[_draw_outside(len(pairs), [(first, size), (own_first, own_size)], count, seed)]]


def hard_negatives(groups, queries, neighbours, count, *, skip=0, positives=None):
    """(m, count): for each query its nearest neighbours of other groups, the hardest first.

    groups      (n,) integers
    queries     (m,) row numbers
    neighbours  (m, k) row numbers of the queries' neighbours, nearest first, -1 where there is none: the ids of any
                index of `refimpl.ann`, searched with the present encoder's embeddings
    skip        leave out that many of the nearest of other groups: where labels are noisy, those are often
                positives that nobody has marked
    positives   (m,) row numbers: of each query one row, of any group, that is none of its negatives
    Raises ValueError if some query has fewer than skip + count neighbours of other groups: search for more.
    """
    groups = check_groups(groups, "groups")
    queries = check_rows(queries, "queries", len(groups))
    neighbours = check_rows(neighbours, "neighbours", len(groups), shape=(len(queries), None), least=-1)
    count = check_integer(count, "count", minimum=1)
    skip = check_integer(skip, "skip", minimum=0)
    other = (neighbours >= 0) & (groups[neighbours] != groups[queries][:, None])
    if positives is not None:
        other &= neighbours != check_rows(positives, "positives", len(groups), shape=(len(queries),))[:, None]
    found = other.sum(axis=1)
    if len(found) and found.min() < skip + count:
        at = int(found.argmin())
        raise ValueError(
            f"neighbours: expected at least {skip + count} of other groups for every query, "
            f"got {found[at]} for row {at}; search for more"
        )
    nearest = np.argsort(~other, axis=1, kind="stable")[:, skip : skip + count]
    return np.take_along_axis(neighbours, nearest, axis=1)


# ---- The training row -----------------------------------------------------------------------------------------------


class CandidateRows(NamedTuple):
    """m training rows as the book draws them; all numbers are rows of the collection."""

    query: np.ndarray  # (m,) int64
    candidates: np.ndarray  # (m, 1 + count) int64: the positive among the negatives, shuffled
    position: np.ndarray  # (m,) int64: where in its row the positive stands, the label


def candidate_rows(pairs, negatives, seed):
    """`CandidateRows` of pairs and their negatives, each row of candidates in a random order.

    pairs      (m, 2) rows (query, positive)
    negatives  (m, count) rows, not the pair's own positive: ValueError, since it would be right and wrong at once
    For `losses.candidate_cross_entropy(z[rows.query], z[rows.candidates], rows.position)`. The loss does not care for
    the order; a model that saw the candidates as a sequence would learn that the first is right.
    """
    pairs = check_pairs(pairs, np.inf)
    negatives = check_rows(negatives, "negatives", np.inf, shape=(len(pairs), None))
    twice = np.flatnonzero((negatives == pairs[:, 1:]).any(axis=1))
    if len(twice):
        raise ValueError(f"negatives: expected others than the pair's positive, got it in row {twice[0]}")
    candidates = np.concatenate([pairs[:, 1:], negatives], axis=1)
    order = np.tile(np.arange(candidates.shape[1]), (len(pairs), 1))
    order = np.random.default_rng(seed).permuted(order, axis=1)
    return CandidateRows(pairs[:, 0].copy(), np.take_along_axis(candidates, order, axis=1), order.argmin(axis=1))


# ---- Drawing --------------------------------------------------------------------------------------------------------


def _block(in_order, wanted):
    """first (m,), size (m,): in_order[first : first + size] are those equal to wanted."""
    first = np.searchsorted(in_order, wanted, side="left")
    return first, np.searchsorted(in_order, wanted, side="right") - first


def _draw_outside(n, blocks, count, seed):
    """(m, count): different numbers below n outside of the row's blocks, every set of them equally likely.

    blocks  [(first (m,), size (m,))]: in each row disjoint
    """
    count = check_integer(count, "count", minimum=1)
    first, size = (np.stack(column) for column in zip(*blocks))
    others = n - size.sum(axis=0)
    if len(others) and others.min() < count:
        raise ValueError(f"count: expected at most {others.min()}, the rows that some query may have, got {count}")
    chosen = _distinct(others, count, np.random.default_rng(seed))
    order = np.argsort(first, axis=0, kind="stable")
    for start, length in zip(np.take_along_axis(first, order, axis=0), np.take_along_axis(size, order, axis=0)):
        chosen += np.where(chosen >= start[:, None], length[:, None], 0)  # the lower block is skipped first
    return chosen


def _distinct(limits, count, rng):
    """(m, count): in row i `count` different numbers below limits[i], every set equally likely.

    Floyd's algorithm: for j = limit - count ... limit - 1, take a random t <= j, or j if t is taken already.
    Source: Bentley and Floyd, "A sample of brilliance", CACM 1987.
    """
    chosen = np.empty((len(limits), count), np.int64)
    for i in range(count):
        j = limits - count + i
        t = rng.integers(0, j + 1)
        taken = (chosen[:, :i] == t[:, None]).any(axis=1)
        chosen[:, i] = np.where(taken, j, t)
    return chosen
