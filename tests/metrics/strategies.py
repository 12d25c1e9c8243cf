"""What hypothesis draws for the metrics: judged queries, and rankings of some of their documents."""

import numpy as np
from hypothesis import strategies as st


@st.composite
def judged_rankings(draw, max_queries=4, max_depth=8, max_grade=3, min_grade=0, binary=False):
    """(rel, ideal): (q, depth) grades in ranked order, and (q, m) the same grades and some that were not found."""
    queries = draw(st.integers(1, max_queries))
    depth = draw(st.integers(1, max_depth))
    missed = draw(st.integers(0, 4))
    grade = st.integers(min_grade, 1 if binary else max_grade)
    row = st.lists(grade, min_size=depth + missed, max_size=depth + missed)
    ideal = np.array(draw(st.lists(row, min_size=queries, max_size=queries)))
    order = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).permutation(depth + missed)
    return ideal[:, :depth], ideal[:, order]


@st.composite
def judged_runs(draw, max_queries=3):
    """(qrels, run): few distinct scores, so that most are tied; grades from -2 to 3; names beyond ASCII."""
    names = st.sampled_from(["a", "A", "b9", "b10", "é", "z", "😀", "_", "0", "00"])
    grade, score = st.integers(-2, 3), st.sampled_from([-1.5, 0.0, 0.25, 0.5, 2.0])
    queries = [f"q{i}" for i in range(draw(st.integers(1, max_queries)))]
    qrels = {q: draw(st.dictionaries(names, grade, min_size=1)) for q in queries}
    run = {q: draw(st.dictionaries(names, score)) for q in queries if draw(st.booleans())}
    return qrels, run
