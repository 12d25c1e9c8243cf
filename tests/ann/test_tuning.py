"""tune: recalls are counted, the curve is a Pareto curve, the choice is the cheapest, and the index keeps it."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.ann import ExactIndex, IVFIndex, KDTreeIndex, LSHIndex, tune
from refimpl.ann.tuning import Point, pareto, set_parameters

PROBES = {"probes": (1, 2, 4, 40)}


def normal(n, d, seed):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def fitted(metric="l2"):
    index = IVFIndex(metric=metric, lists=40, probes=3).fit(normal(1500, 8, 0), np.arange(1500) * 2)
    index.remove(np.arange(0, 600, 2))
    return index


def ticking(durations):
    """A clock that lets the calls that it times take these durations, in turn."""
    ticks = itertools.chain.from_iterable((0.0, seconds) for seconds in durations)
    return lambda: next(ticks)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), min_size=1, max_size=20))
def test_the_curve_holds_exactly_the_points_that_none_beats(pairs):
    points = [Point({"ef": -i}, recall / 6, float(rate)) for i, (recall, rate) in enumerate(pairs)]
    curve = pareto(points)
    expected = {
        p[1:] for p in points if not any(q[1] >= p[1] and q[2] >= p[2] and q[1:] != p[1:] for q in points)
    }  # fmt: skip
    assert [p[1:] for p in curve] == sorted(expected)
    for p in curve:  # of equal ones that with the smaller parameters
        assert p.parameters["ef"] == min(q.parameters["ef"] for q in points if q[1:] == p[1:])


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
def test_recall_is_that_of_an_exact_search_among_the_live_vectors(metric):
    index, queries = fitted(metric), normal(50, 8, 1)
    exact = ExactIndex(metric=metric).fit(normal(1500, 8, 0)[300:], np.arange(300, 1500) * 2)
    truth = exact.search(queries, 10).ids
    best, curve = tune(index, queries, 0.9, budgets=PROBES, clock=ticking([1, 2, 3, 4] * 3))
    for point in curve:
        index.probes = point.parameters["probes"]
        ids = index.search(queries, 10).ids
        assert point.recall == pytest.approx(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(ids, truth)]))
    assert curve[-1].recall == 1 and best.recall >= 0.9
    assert all(a.recall < b.recall and a.rate > b.rate for a, b in zip(curve, curve[1:]))


def test_the_fastest_that_reaches_the_target_is_set_by_the_median_and_saved(tmp_path):
    index, queries = fitted(), normal(50, 8, 1)
    rounds = [1, 9, 3, 2, 1, 1, 3, 2, 99, 9, 3, 2]  # medians 1, 9, 3, 2: forty probes are made to seem cheap
    best, curve = tune(index, queries, 0.5, budgets=PROBES, clock=ticking(rounds))
    recall_of_one = curve[0].recall
    assert [p.parameters["probes"] for p in curve] == [1, 40] and [p.rate for p in curve] == [50, 25]
    assert best == (curve[0] if recall_of_one >= 0.5 else curve[1])
    assert index.probes == best.parameters["probes"]
    index.save(tmp_path / "index")
    assert IVFIndex.load(tmp_path / "index").probes == best.parameters["probes"]
    just, _ = tune(index, queries, recall_of_one, budgets=PROBES, clock=ticking(rounds))
    assert just == curve[0]  # to reach the target is enough


def test_a_target_out_of_reach_names_the_best_and_changes_nothing():
    index, queries = fitted(), normal(20, 8, 1)
    with pytest.raises(ValueError, match="recall: .*best.*'probes': 1"):
        tune(index, queries, 1.0, budgets={"probes": (1,)})
    assert index.probes == 3 and index._settings["probes"] == 3


def test_a_given_truth_is_used():
    index, queries = fitted(), normal(20, 8, 1)
    truth = np.full((20, 10), 10**9)
    with pytest.raises(ValueError, match="recall=0.0"):
        tune(index, queries, 0.1, truth=truth, budgets=PROBES)


@pytest.mark.parametrize(
    "change, name",
    [({"recall": 1.5}, "recall"), ({"recall": 0}, "recall"), ({"k": 0}, "k"), ({"rounds": 0}, "rounds"),
     ({"budgets": {"leaves": (1,)}}, "budgets"), ({"budgets": {}}, "budgets"),
     ({"budgets": {"probes": (0,)}}, "probes"), ({"budgets": {"lists": (5,)}}, "budgets"),
     ({"budgets": {"probes": iter(())}}, "budgets"),
     ({"queries": normal(0, 8, 0)}, "queries"), ({"truth": np.zeros((3, 10), np.int64)}, "truth")],
)  # fmt: skip
def test_bad_arguments_are_named(change, name):
    with pytest.raises(ValueError, match=f"^{name}: expected .* got "):
        tune(fitted(), **{"queries": normal(4, 8, 1), **change})


def test_an_index_that_is_not_fitted_is_not_tuned():
    with pytest.raises(ValueError, match="^index: expected one that was fitted"):
        tune(IVFIndex(), normal(3, 4, 1))


def test_an_exact_index_has_nothing_to_tune():
    with pytest.raises(ValueError, match="budgets"):
        tune(ExactIndex().fit(normal(30, 4, 0)), normal(3, 4, 1))


@pytest.mark.parametrize(
    "index, budgets",
    [(LSHIndex(tables=3), {"probes": (None, 50)}), (KDTreeIndex(max_leaves=9), {"eps": ("0.5", Fraction(1, 10))}),
     (IVFIndex(), {"probes": (np.uint8(200),)}), (KDTreeIndex(max_leaves=2), {"max_leaves": (None, np.int64(4))})],
)  # fmt: skip
def test_parameters_are_set_as_the_index_itself_would_have_them(index, budgets, tmp_path):
    """None, fractions and numbers of few bits are accepted, and become what they stand for."""
    index.fit(normal(600, 4, 0))
    index._scan_limit = lambda: 0
    best, curve = tune(index, normal(30, 4, 1), 0.1, budgets=budgets)
    (name,) = budgets
    for value in budgets[name]:
        made = type(index)(**{name: value, **({"tables": 3} if isinstance(index, LSHIndex) else {})})
        set_parameters(index, {name: value})
        assert getattr(index, name) == getattr(made, name)
        index.save(tmp_path / "index")
        assert getattr(type(index).load(tmp_path / "index"), name) == getattr(made, name)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int64])
def test_settings_are_plain_numbers_whatever_they_came_as(dtype, tmp_path):
    index = LSHIndex(tables=dtype(26)).fit(normal(50, 4, 0))
    assert index.probes == 260
    index.save(tmp_path / "index")
    assert LSHIndex.load(tmp_path / "index").probes == 260
