"""Two rankers on one page: which of them do users click? Far fewer queries than an A/B test, since everyone compares
both.

Both ways to mix rankings A and B show each document once:

    team draft    captains A and B pick in turn their best document that is not yet taken; who picks first is tossed in
                  every round. A click counts for the team of the document.
    balanced      A and B are merged so that every prefix of the page is made of the first i documents of A and the
                  first j of B, with i and j equal or one apart. The ranker wins that has more of the clicked documents
                  among its first ones, down to the least depth at which either ranking shows the lowest of them.

They differ in what they make of users who click at random, whatever the documents are. In a team draft each position is
A's or B's with the same chance as long as both have documents left, so neither gains. Balanced interleaving can prefer
one of them: with A = 1 2 3 4 and B = 2 3 4 1 the page begins 1 2 3 4 or 2 1 3 4, B has shown all but document 1 at less
depth than A, and one click at random prefers B three times out of four (Radlinski et al. 2008; Chapelle et al. 2012).

Then every query has a winner or none, and `preference_test` asks whether the winners could have been tossed.

Source: Radlinski, Kurup, Joachims, How does clickthrough data reflect retrieval quality?, CIKM 2008 (team draft);
Joachims, Evaluating retrieval performance using clickthrough data, 2003 (balanced); Chapelle, Joachims, Radlinski, Yue,
Large-scale validation and analysis of interleaved search evaluation, ACM TOIS 30(1), 2012 (both).
"""

from typing import NamedTuple

import numpy as np
from scipy import special

from ..validation import check_array, check_integer

A, B = 0, 1


def team_draft(a, b, k, rng):
    """(documents, teams), each (m,): a page of m <= k results picked in turn from rankings a and b; teams are 0 (A)
    or 1 (B).

    a, b: (n,) ids, best first, each without repetition; rng: a numpy Generator. Ends early when both lists do.
    """
    a, b, k = _ranking(a, "a"), _ranking(b, "b"), check_integer(k, "k", minimum=1)
    documents, teams, taken, rest = [], [], set(), [iter(a.tolist()), iter(b.tolist())]
    while len(documents) < k:
        first = int(rng.integers(2))
        before = len(documents)
        for team in (first, 1 - first):
            pick = next((d for d in rest[team] if d not in taken), None)
            if pick is not None and len(documents) < k:
                documents.append(pick)
                teams.append(team)
                taken.add(pick)
        if len(documents) == before:
            break
    return np.array(documents, dtype=np.int64), np.array(teams, dtype=np.int64)


def team_draft_winner(teams, clicked):
    """1 if B's documents got more clicks, -1 if A's did, else 0. teams (m,) from `team_draft`, clicked (m,) bool."""
    teams = check_array(teams, "teams", ndim=1)
    if not np.isin(teams, (A, B)).all():
        raise ValueError("teams: expected 0 and 1, got other values")
    clicked = check_array(clicked, "clicked", shape=teams.shape, dtypes=(bool,))
    return int(np.sign((teams[clicked] == B).sum() - (teams[clicked] == A).sum()))


def balanced(a, b, k, a_first):
    """(m,) documents, m <= k: every prefix consists of the tops of a and b, whose lengths differ by at most one until
    the shorter list ends; then the rest of the longer one follows.

    a_first: bool, tossed anew for each query, says whose document comes first where they would be level.
    """
    a, b, k = _ranking(a, "a").tolist(), _ranking(b, "b").tolist(), check_integer(k, "k", minimum=1)
    documents, taken, i, j = [], set(), 0, 0
    while len(documents) < k and (i < len(a) or j < len(b)):
        if j >= len(b) or (i < len(a) and (i < j or (i == j and a_first))):
            pick, i = a[i], i + 1
        else:
            pick, j = b[j], j + 1
        if pick not in taken:
            documents.append(pick)
            taken.add(pick)
    return np.array(documents, dtype=np.int64)


def balanced_winner(a, b, documents, clicked):
    """1 if B has more of the clicked documents in its top, -1 if A has, else 0.

    The top is that of both rankings down to the least depth at which one of them has shown the lowest clicked document.
    documents (m,) from `balanced`, clicked (m,) bool. Random clicks may prefer one: see the top of the file. Raises
    ValueError for a document that is in neither ranking.
    """
    a, b = _ranking(a, "a").tolist(), _ranking(b, "b").tolist()
    documents = _ranking(documents, "documents")
    clicked = check_array(clicked, "clicked", shape=documents.shape, dtypes=(bool,))
    others = sorted(set(documents.tolist()) - set(a) - set(b))
    if others:
        raise ValueError(f"documents: expected those of a and b, got {others[0]}, which is in neither")
    chosen = set(documents[clicked].tolist())
    if not chosen:
        return 0
    lowest = int(documents[clicked][-1])
    depth = min(ranking.index(lowest) + 1 for ranking in (a, b) if lowest in ranking)
    return int(np.sign(len(chosen & set(b[:depth])) - len(chosen & set(a[:depth]))))


class Preference(NamedTuple):
    """Queries won by each, the share of B among the decided, and the two-sided p-value of a fair coin."""

    wins_a: int
    ties: int
    wins_b: int
    share_b: float
    p_value: float


def preference_test(winners):
    """Is one ranker preferred? The sign test on winners (q,), each -1 (A), 0 or 1 (B); ties decide nothing.

    p = 2 P(Binomial(w_a + w_b, 1/2) <= min(w_a, w_b)), at most 1.
    """
    winners = check_array(winners, "winners", ndim=1, min_rows=1)
    if not np.isin(winners, (-1, 0, 1)).all():
        raise ValueError("winners: expected -1, 0 or 1, got other values")
    wins_a, wins_b = int((winners == -1).sum()), int((winners == 1).sum())
    decided = wins_a + wins_b
    p_value = min(1.0, float(2 * special.bdtr(min(wins_a, wins_b), decided, 0.5))) if decided else 1.0
    share = wins_b / decided if decided else 0.5
    return Preference(wins_a, len(winners) - decided, wins_b, share, p_value)


def _ranking(values, name):
    values = check_array(values, name, ndim=1, min_rows=1)
    if values.dtype.kind not in "iu" or len(np.unique(values)) < len(values):
        raise ValueError(f"{name}: expected integer ids without repetition, got {values.dtype} {values[:5]}")
    if values.dtype == np.uint64 and values.max() >= 2**63:
        raise ValueError(f"{name}: expected ids below 2^63, got {values.max()}")
    return values.astype(np.int64)
