"""`evaluate` against trec_eval's rules written out, against `ranking`, and on every kind of input."""

from collections import ChainMap
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl import metrics

from . import definitions
from .strategies import judged_runs

MEASURES = [
    "map", "map@3", "mrr", "mrr@3", "ndcg", "ndcg@3", "ndcg_exponential@4", "dcg", "dcg_exponential@4", "precision",
    "precision@3", "recall", "recall@3", "hit_rate@3", "hit_rate", "r_precision", "rbp", "rbp@0.5", "err", "err@3",
    "bpref",
]  # fmt: skip


def by_the_rules(judged, run, top, level=1, depth=None, judged_only=False):
    """Every measure of one query: sort, look up, and apply the definitions. `judged`, `run` are dictionaries."""
    order = sorted(run, key=lambda name: (run[name], name.encode()), reverse=True)[:depth]
    grades = {name: g for name, g in judged.items() if g >= 0}
    if judged_only:
        order = [name for name in order if name in grades]
    rel = [grades.get(name, 0) for name in order]
    is_judged = [name in grades for name in order]
    hits = [1 if name in grades and grades[name] >= level else 0 for name in order]
    r = sum(g >= level for g in grades.values())
    n = len(grades) - r
    best = sorted(grades.values(), reverse=True)

    def ndcg(k, kind):
        ideal = definitions.dcg(best, k, kind)
        return definitions.dcg(rel, k, kind) / ideal if ideal else 0

    return {
        "map": definitions.average_precision(hits, r),
        "map@3": definitions.average_precision(hits, r, 3),
        "mrr": definitions.reciprocal_rank(hits),
        "mrr@3": definitions.reciprocal_rank(hits, 3),
        "ndcg": ndcg(None, "linear"),
        "ndcg@3": ndcg(3, "linear"),
        "ndcg_exponential@4": ndcg(4, "exponential"),
        "dcg": definitions.dcg(rel, None, "linear"),
        "dcg_exponential@4": definitions.dcg(rel, 4, "exponential"),
        "precision": definitions.precision(hits, len(hits)) if hits else 0,
        "precision@3": definitions.precision(hits, 3),
        "recall": definitions.recall(hits, len(hits), r),
        "recall@3": definitions.recall(hits, 3, r),
        "hit_rate@3": definitions.hit_rate(hits, 3),
        "hit_rate": definitions.hit_rate(hits, len(hits)),
        "r_precision": definitions.r_precision(hits, r),
        "rbp": definitions.rank_biased_precision(hits, 0.8),
        "rbp@0.5": definitions.rank_biased_precision(hits, 0.5),
        "err": definitions.expected_reciprocal_rank(rel, top),
        "err@3": definitions.expected_reciprocal_rank(rel[:3], top),
        "bpref": definitions.bpref(hits, is_judged, r, n),
    }


@settings(max_examples=150)
@given(judged_runs(), st.integers(0, 3), st.sampled_from([None, 1, 3]), st.booleans())
def test_evaluate_equals_the_rules_with_ties_negative_grades_and_levels(case, level, depth, judged_only):
    qrels, run = case
    options = {"relevance_level": level, "depth": depth, "judged_only": judged_only}
    ours = metrics.evaluate(qrels, run, MEASURES, missing="zero", **options)
    top = max(1, max(g for judged in qrels.values() for g in judged.values()))
    for query, judged in qrels.items():
        expected = by_the_rules(judged, run.get(query, {}), top, level, depth, judged_only)
        for name in MEASURES:
            assert ours[name][query] == pytest.approx(float(expected[name]), rel=1e-12, abs=0), (name, query)
    assert list(ours) == MEASURES and all(list(values) == list(qrels) for values in ours.values())


def test_many_long_rankings_equal_the_rules_whether_sorted_or_not_and_in_every_thread():
    rng = np.random.default_rng(0)
    qrels, run = {}, {}
    for i in range(3000):
        names = [f"d{j}" for j in rng.permutation(60)]
        scores = rng.integers(0, 40, 40) / 8
        scores = np.sort(scores)[::-1] if i % 2 else scores
        run[f"q{i}"] = dict(zip(names[:40], scores.tolist()))
        qrels[f"q{i}"] = dict(zip(rng.permutation(names)[:15].tolist(), rng.integers(-1, 4, 15).tolist()))
    ours = metrics.evaluate(qrels, run, MEASURES)
    for query in [f"q{i}" for i in range(0, 3000, 37)]:
        expected = by_the_rules(qrels[query], run[query], 3)
        for name in MEASURES:
            assert ours[name][query] == pytest.approx(float(expected[name]), rel=1e-12, abs=0), (name, query)


@given(judged_runs())
def test_an_increasing_map_of_the_scores_changes_nothing(case):
    qrels, run = case
    mapped = {q: {name: float(np.exp(score)) - 7 for name, score in documents.items()} for q, documents in run.items()}
    ours, again = (metrics.evaluate(qrels, x, MEASURES, missing="zero") for x in (run, mapped))
    assert ours == again


@given(judged_runs())
def test_the_order_of_the_dictionaries_changes_nothing(case):
    qrels, run = case
    turned = [{q: dict(reversed(list(d.items()))) for q, d in reversed(list(x.items()))} for x in case]
    ours, again = (metrics.evaluate(a, b, MEASURES, missing="zero") for a, b in ((qrels, run), turned))
    assert ours == again


# ---- Arrays ---------------------------------------------------------------------------------------------------------


def random_arrays(seed, q=40, m=7, depth=12, n_documents=30):
    rng = np.random.default_rng(seed)
    judged = np.stack([rng.permutation(n_documents)[:m] for _ in range(q)])
    retrieved = np.stack([rng.permutation(n_documents)[:depth] for _ in range(q)])
    judged[rng.random(q) < 0.3, 5:] = -1
    for i in range(q):
        retrieved[i, rng.integers(3, depth + 1) :] = -1
    return judged, rng.integers(-1, 4, judged.shape), retrieved, rng.integers(0, 6, retrieved.shape) / 4


def as_dicts(ids, values):
    return {f"q{i:03}": {f"{d:09}": v for d, v in zip(*row) if d >= 0} for i, row in enumerate(zip(ids, values))}


def test_padding_does_not_tie_with_a_score_of_minus_infinity():
    options = {"measures": "mrr", "scores": [[1.0, -np.inf, np.nan]]}
    assert metrics.evaluate_arrays([[7]], [[1]], [[3, 7, -1]], **options)["mrr"] == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_arrays_equal_dictionaries(seed):
    judged, grades, retrieved, scores = random_arrays(seed)
    qrels = as_dicts(judged.tolist(), grades.tolist())
    for given_scores in (scores, None):
        ranked = scores if given_scores is not None else -np.tile(np.arange(12.0), (40, 1))
        expected = metrics.evaluate(qrels, as_dicts(retrieved.tolist(), ranked.tolist()), MEASURES)
        ours = metrics.evaluate_arrays(judged, grades, retrieved, MEASURES, scores=given_scores)
        for name in MEASURES:
            assert ours[name].tolist() == list(expected[name].values()), name
    assert metrics.mean(ours) == {name: values.mean() for name, values in ours.items()}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_padding_is_padding_among_unsigned_grades(dtype):
    judged, grades, retrieved, _ = random_arrays(5)
    grades = np.maximum(grades, 0)
    expected = metrics.evaluate_arrays(judged, grades, retrieved, MEASURES)
    padded = np.where(judged < 0, np.iinfo(dtype).max, grades.astype(dtype))
    for given_grades in (grades.astype(dtype), padded):
        ours = metrics.evaluate_arrays(judged, given_grades, retrieved, MEASURES)
        for name in MEASURES:
            np.testing.assert_array_equal(ours[name], expected[name], err_msg=name)


def test_the_fast_kernel_equals_the_plain_definitions():
    judged, grades, retrieved, _ = random_arrays(9, q=400)
    rel = np.zeros(retrieved.shape, dtype=np.int64)
    known = np.zeros(retrieved.shape, dtype=bool)
    for i, (names, values) in enumerate(zip(judged, np.where(judged < 0, -1, grades))):
        for name, value in zip(names, values):
            if value >= 0:
                rel[i][retrieved[i] == name] = value
                known[i] |= retrieved[i] == name
    ideal = np.where(judged < 0, 0, grades)
    r, n = (ideal > 0).sum(axis=1), ((judged >= 0) & (grades == 0)).sum(axis=1)
    ours = metrics.evaluate_arrays(judged, grades, retrieved, MEASURES)
    plain = {
        "map": metrics.average_precision(rel, r),
        "map@3": metrics.average_precision(rel, r, 3),
        "mrr": metrics.reciprocal_rank(rel),
        "mrr@3": metrics.reciprocal_rank(rel, 3),
        "ndcg": metrics.ndcg_at_k(rel, 99, ideal),
        "ndcg@3": metrics.ndcg_at_k(rel, 3, ideal),
        "ndcg_exponential@4": metrics.ndcg_at_k(rel, 4, ideal, "exponential"),
        "dcg": metrics.dcg_at_k(rel, 99),
        "dcg_exponential@4": metrics.dcg_at_k(rel, 4, "exponential"),
        "precision@3": metrics.precision_at_k(rel, 3),
        "recall": metrics.recall_at_k(rel, 99, r),
        "recall@3": metrics.recall_at_k(rel, 3, r),
        "hit_rate": metrics.hit_rate_at_k(rel, 99),
        "hit_rate@3": metrics.hit_rate_at_k(rel, 3),
        "r_precision": metrics.r_precision(rel, r),
        "rbp": metrics.rank_biased_precision(rel),
        "rbp@0.5": metrics.rank_biased_precision(rel, 0.5),
        "err": metrics.expected_reciprocal_rank(rel, 3),
        "err@3": metrics.expected_reciprocal_rank(rel, 3, 3),
        "bpref": metrics.bpref(rel, known, r, n),
    }
    for name, values in plain.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-14, atol=0, err_msg=name)


# ---- What is missing, and other kinds of input ----------------------------------------------------------------------

QRELS = {"q1": {"a": 1, "b": 0}, "q2": {"a": 2}, "q3": {"c": 1}}
RUN = {"q1": {"a": 0.5, "b": 0.5}, "q2": {"a": 1.0}, "q9": {"a": 1.0}}


def test_missing_queries_are_a_choice():
    assert metrics.evaluate(QRELS, RUN, "mrr") == {"mrr": {"q1": 0.5, "q2": 1.0}}
    assert metrics.evaluate(QRELS, RUN, "mrr", missing="zero") == {"mrr": {"q1": 0.5, "q2": 1.0, "q3": 0.0}}
    with pytest.raises(ValueError, match="q3.*q9"):
        metrics.evaluate(QRELS, RUN, "mrr", missing="error")
    assert metrics.evaluate({"q1": QRELS["q1"]}, {"q1": RUN["q1"]}, "mrr", missing="error") == {"mrr": {"q1": 0.5}}


def test_an_empty_answer_scores_zero_and_an_empty_judgement_is_none():
    values = metrics.evaluate({**QRELS, "q4": {}}, {"q1": {}, "q4": {"a": 1.0}}, ["mrr", "precision", "ndcg"])
    assert values == {"mrr": {"q1": 0.0}, "precision": {"q1": 0.0}, "ndcg": {"q1": 0.0}}


def test_triples_are_read_like_dictionaries():
    qrels = [(q, d, g) for q, judged in QRELS.items() for d, g in judged.items()]
    run = ((q, d, s) for q, found in RUN.items() for d, s in found.items())
    assert metrics.evaluate(qrels, run, ["map", "ndcg"]) == metrics.evaluate(QRELS, RUN, ["map", "ndcg"])


def test_any_mapping_is_read_like_a_dictionary():
    qrels, run = (MappingProxyType({q: MappingProxyType(d) for q, d in source.items()}) for source in (QRELS, RUN))
    assert metrics.evaluate(qrels, run, ["map", "ndcg"]) == metrics.evaluate(QRELS, RUN, ["map", "ndcg"])
    assert metrics.evaluate(QRELS, ChainMap(RUN), ["map"]) == metrics.evaluate(QRELS, RUN, ["map"])
    assert metrics.evaluate(QRELS, {"q1": ChainMap(RUN["q1"])}, ["map"])["map"] == {"q1": 0.5}


def test_a_cutoff_may_be_far_beyond_every_list():
    deep = metrics.evaluate(QRELS, RUN, ["map@999999999999999999", "recall@999999999999999999"])
    assert list(deep.values()) == list(metrics.evaluate(QRELS, RUN, ["map", "recall"]).values())


def test_grades_may_be_large():
    qrels = {"q": {"a": 999, "b": 5, "c": -3, "d": 70}}
    values = metrics.evaluate(qrels, {"q": {"b": 3.0, "a": 2.0, "c": 1.0}}, ["ndcg", "ndcg_exponential@1", "err"])
    ideal = 999 + 70 / np.log2(3) + 5 / 2
    assert values["ndcg"]["q"] == pytest.approx((5 + 999 / np.log2(3)) / ideal)
    assert values["ndcg_exponential@1"]["q"] == pytest.approx(31 / (2.0**999 - 1))
    assert values["err"]["q"] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="measures: expected grades up to 1000"):
        metrics.evaluate({"q": {"a": 1001}}, {"q": {"a": 1.0}}, "err")


def test_scores_are_compared_in_float64_and_infinities_are_scores():
    qrels = {"q": {"a": 1}}
    assert metrics.evaluate(qrels, {"q": {"a": 0.5 + 1e-15, "b": 0.5}}, "mrr")["mrr"]["q"] == 1
    assert metrics.evaluate(qrels, {"q": {"a": -np.inf, "b": np.inf, "c": 0.0}}, "mrr")["mrr"]["q"] == 1 / 3


def test_documents_tie_in_the_order_of_their_bytes():
    names = ["b", "B", "é", "z", "10", "9", "😀", "\uffff"]
    ranked = sorted(names, key=lambda name: name.encode(), reverse=True)
    for name in names:
        values = metrics.evaluate({"q": {name: 1}}, {"q": dict.fromkeys(names, 0.5)}, "mrr")
        assert values["mrr"]["q"] == 1 / (1 + ranked.index(name))


@pytest.mark.parametrize(
    ("qrels", "run", "message"),
    [
        ({"q": {"a": 1.0}}, RUN, "qrels: expected whole grades, got 1.0 for 'a' of query 'q'"),
        ({"q": {"a": "1"}}, RUN, "qrels: expected whole grades"),
        ({"q": {1: 1}}, RUN, "qrels: expected document ids of type str"),
        ({"q": [("a", 1)]}, RUN, "qrels: expected {str"),
        ({}, RUN, "qrels: expected at least one"),
        (3, RUN, "qrels: expected a dictionary"),
        ([("q", "a")], RUN, "qrels: expected .query, document, value"),
        ([("q", "a", 1), ("q", "a", 1)], RUN, "qrels: document 'a' occurs twice"),
        (QRELS, {"q1": {"a": float("nan")}}, "run: expected scores that are numbers, got nan for 'a' of query 'q1'"),
        (QRELS, {"q1": {"a": "0.5"}}, "run: expected scores that are numbers, got '0.5'"),
        (QRELS, {"q1": {"a": None}}, "run: expected scores that are numbers, got None"),
        (QRELS, {"q1": {1: 0.5}}, "run: expected document ids of type str"),
        (QRELS, {"q1": {"a": 1.0, 5: 0.5}}, "run: expected document ids of type str, got 5 for query 'q1'"),
        (QRELS, {"q7": {"a": 0.5}}, "run: expected at least one query"),
        (QRELS, {7: {"a": 0.5}}, "run: expected {str"),
        (QRELS, [("q1", "a", 0.5), ("q1", "a", 0.4)], "run: document 'a' occurs twice"),
    ],
)
def test_bad_input_is_named(qrels, run, message):
    with pytest.raises(ValueError, match=message):
        metrics.evaluate(qrels, run, ["map"])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"measures": ["map@0"]}, "measures"),
        ({"measures": ["map@x"]}, "measures"),
        ({"measures": ["ndcg@99999999999999999999"]}, "measures"),
        ({"measures": ["ndcg@" + "9" * 5000]}, "measures"),
        ({"measures": ["bpref@3"]}, "measures"),
        ({"measures": ["accuracy"]}, "measures"),
        ({"measures": ["rbp@1.5"]}, "measures"),
        ({"measures": []}, "measures"),
        ({"relevance_level": -1}, "relevance_level"),
        ({"missing": "ignore"}, "missing"),
        ({"depth": 0}, "depth"),
    ],
)
def test_bad_options_are_named(options, named):
    with pytest.raises(ValueError, match=f"^{named}:"):
        metrics.evaluate(QRELS, RUN, **{"measures": ["map"], **options})


IDS, GRADES = np.array([[1, 2], [3, 4]]), np.array([[1, 0], [2, 1]])


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"retrieved": np.array([[1, 1], [3, 4]])}, "retrieved.*occurs twice"),
        ({"retrieved": np.array([[-1, 1], [3, 4]])}, "retrieved.*behind padding"),
        ({"judged": np.array([[1, 1], [3, 4]])}, "judged.*occurs twice"),
        ({"judged": IDS[0]}, "judged"),
        ({"retrieved": IDS[:1]}, "retrieved"),
        ({"retrieved": IDS.astype(float)}, "retrieved"),
        ({"grades": GRADES * 1.0}, "grades"),
        ({"grades": np.array([[1, 0], [2, 2**63]], np.uint64)}, "grades: expected integers below"),
        ({"grades": GRADES[:, :1]}, "grades"),
        ({"scores": np.array([[1, np.nan], [1, 2]])}, "scores"),
        ({"scores": np.ones((2, 3))}, "scores"),
    ],
)
def test_bad_arrays_are_named(changed, named):
    with pytest.raises(ValueError, match=f"^{named}"):
        metrics.evaluate_arrays(**{"judged": IDS, "grades": GRADES, "retrieved": IDS, "measures": "map", **changed})
