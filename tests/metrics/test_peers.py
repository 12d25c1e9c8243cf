"""The well-known libraries: where they agree with this one on random data, and each place where they do not.

Every test named `test_row_...` is a row of the table of disagreements in docs/metrics.md.
"""

import numpy as np
import pytest

from refimpl import metrics

NAMES = {
    "map": ("map", "AP"),
    "map@5": ("map_cut_5", "AP@5"),
    "mrr": ("recip_rank", "RR"),
    "ndcg": ("ndcg", "nDCG"),
    "ndcg@10": ("ndcg_cut_10", "nDCG@10"),
    "precision": ("set_P", "SetP"),
    "precision@5": ("P_5", "P@5"),
    "recall@5": ("recall_5", "R@5"),
    "hit_rate@5": ("success_5", "Success@5"),
    "r_precision": ("Rprec", "Rprec"),
    "bpref": ("bpref", "Bpref"),
}
RANX = {
    "map": "map", "map@5": "map@5", "mrr": "mrr", "mrr@3": "mrr@3", "ndcg": "ndcg", "ndcg@10": "ndcg@10",
    "ndcg_exponential@10": "ndcg_burges@10", "precision@5": "precision@5", "recall@5": "recall@5",
    "hit_rate@5": "hit_rate@5", "r_precision": "r-precision",
}  # fmt: skip


def random_case(seed, *, ties, lowest=-2, queries=60):
    """(qrels, run) whose scores are exact in float32, which is what pytrec_eval keeps of them."""
    rng = np.random.default_rng(seed)
    qrels, run = {}, {}
    for i in range(queries):
        names = [f"{prefix}{j}" for j, prefix in enumerate(rng.choice(["d", "D", "é", "x"], 40))]
        scores = rng.integers(0, 6, 40) / 4 if ties else rng.permutation(40) / 64
        judged, found = rng.permutation(40)[: rng.integers(5, 25)], rng.permutation(40)[: rng.integers(5, 40)]
        qrels[f"q{i}"] = {names[j]: int(rng.integers(lowest, 4)) for j in judged} | {names[judged[0]]: 2}
        run[f"q{i}"] = {names[j]: float(scores[j]) for j in found}
    return qrels, run


def ours(measure, qrels, run, **options):
    return metrics.evaluate(qrels, run, [measure], **options)[measure]["q"]


def pytrec(measure, qrels, run, **options):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {measure}, **options)
    return evaluator.evaluate(run)["q"][measure]


def ranx(measure, qrels, run):
    library = pytest.importorskip("ranx")
    return float(library.evaluate(library.Qrels(qrels), library.Run(run), measure))


# ---- Where they agree -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("judged_only", [False, True])
def test_pytrec_eval_gives_the_same_bits_with_ties_and_negative_grades(ties, level, judged_only):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    qrels, run = random_case(level, ties=ties)
    options = {"relevance_level": level, "judged_docs_only_flag": judged_only}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {name for name, _ in NAMES.values()}, **options).evaluate(run)
    mine = metrics.evaluate(qrels, run, list(NAMES), relevance_level=level, judged_only=judged_only)
    for measure, (name, _) in NAMES.items():
        assert mine[measure] == {query: values[name] for query, values in theirs.items()}, measure


def test_files_give_what_pytrec_eval_prints(tmp_path):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    qrels, run = random_case(5, ties=True)
    lines = [f"{q} 0 {d} {g}\n" for q, judged in qrels.items() for d, g in judged.items()]
    (tmp_path / "qrels").write_text("".join(lines), encoding="utf-8")
    lines = [f"{q} Q0 {d} 0 {s!r} s\n" for q, found in run.items() for d, s in found.items()]
    (tmp_path / "run").write_text("".join(lines), encoding="utf-8")
    with open(tmp_path / "qrels", encoding="utf-8") as a, open(tmp_path / "run", encoding="utf-8") as b:
        qrels, run = pytrec_eval.parse_qrel(a), pytrec_eval.parse_run(b)
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"map", "ndcg", "bpref"}).evaluate(run)
    mine = metrics.evaluate(tmp_path / "qrels", tmp_path / "run", ["map", "ndcg", "bpref"])
    for measure in mine:
        printed = {query: f"{values[measure]:6.4f}" for query, values in theirs.items()}
        assert {query: f"{value:6.4f}" for query, value in mine[measure].items()} == printed


def test_ir_measures_gives_the_same_without_ties():
    ir_measures = pytest.importorskip("ir_measures")
    pytest.importorskip("pytrec_eval")
    qrels, run = random_case(2, ties=False)
    mine = metrics.evaluate(qrels, run, list(NAMES))
    for measure, (_, name) in NAMES.items():
        theirs = ir_measures.iter_calc([ir_measures.parse_measure(name)], qrels, run)
        assert {x.query_id: pytest.approx(x.value, abs=1e-12) for x in theirs} == mine[measure], measure


def test_ranx_gives_the_same_without_ties_and_negative_grades():
    library = pytest.importorskip("ranx")
    qrels, run = random_case(3, ties=False, lowest=0)
    theirs, results = library.Qrels(qrels), library.Run(run)
    library.evaluate(theirs, results, list(RANX.values()))
    mine = metrics.evaluate(qrels, run, list(RANX))
    for measure, name in RANX.items():
        for query, value in results.scores[name].items():
            assert mine[measure][query] == pytest.approx(value, abs=1e-12), (measure, query)


def test_scikit_learn_gives_the_same_when_it_is_shown_every_judged_document():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(4)
    grades, scores = rng.integers(0, 4, (30, 12)), rng.permuted(np.tile(np.arange(12.0), (30, 1)), axis=1)
    rel = np.take_along_axis(grades, np.argsort(-scores, axis=1), axis=1)
    for k in (3, 12):
        mine = metrics.ndcg_at_k(rel, k, grades)
        theirs = [sklearn_metrics.ndcg_score(g[None], s[None], k=k) for g, s in zip(grades, scores)]
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)
    hits = grades > 1
    mine = metrics.average_precision(rel > 1, hits.sum(axis=1))
    theirs = [sklearn_metrics.average_precision_score(h, s) if h.any() else 0 for h, s in zip(hits, scores)]
    np.testing.assert_allclose(mine, theirs, rtol=1e-12)
    tied = np.round(scores / 4)
    mine = metrics.label_ranking_average_precision(hits, tied).mean()
    assert mine == pytest.approx(sklearn_metrics.label_ranking_average_precision_score(hits, tied))


# ---- Where they disagree: the table ---------------------------------------------------------------------------------

THREE_TIED = {"q": {"a": 0.5, "b": 0.5, "x": 0.5}}


def test_row_ties_ranx_keeps_the_order_of_the_dictionary():
    for name, rank in (("x", 1), ("b", 2), ("a", 3)):
        assert ours("mrr", {"q": {name: 1}}, THREE_TIED) == 1 / rank
        assert pytrec("recip_rank", {"q": {name: 1}}, THREE_TIED) == 1 / rank
    assert ranx("mrr", {"q": {"a": 1}}, THREE_TIED) == 1  # the first that was put in
    assert ranx("mrr", {"q": {"x": 1}}, THREE_TIED) == pytest.approx(1 / 3)


def test_row_ties_scikit_learn_averages_ndcg_and_merges_the_group_in_average_precision():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    grades, scores = [[1, 0, 2]], [[0.5, 0.5, 0.5]]
    averaged = metrics.tie_averaged_ndcg_at_k(grades, scores, 3, grades)
    assert sklearn_metrics.ndcg_score(grades, scores) == pytest.approx(averaged[0])
    hits = [[1, 0, 1]]
    assert sklearn_metrics.average_precision_score(hits[0], scores[0]) == pytest.approx(2 / 3)  # the group's precision
    orders = np.mean([metrics.average_precision(order, 2)[0] for order in ([[1, 0, 1]], [[1, 1, 0]], [[0, 1, 1]])])
    assert metrics.tie_averaged_average_precision(hits, scores, 2)[0] == pytest.approx(orders) != 2 / 3


def test_row_precision_of_scores_pytrec_eval_keeps_float32():
    qrels, run = {"q": {"a": 1}}, {"q": {"a": 0.5 + 1e-12, "b": 0.5}}
    assert ours("mrr", qrels, run) == 1
    assert ranx("mrr", qrels, run) == 1
    assert pytrec("recip_rank", qrels, run) == 0.5  # a tie, and b is the greater name


def test_row_nan_scores_are_accepted_in_silence():
    qrels, run = {"q": {"a": 1}}, {"q": {"b": float("nan"), "a": 0.5}}
    with pytest.raises(ValueError, match="nan for 'b'"):
        ours("mrr", qrels, run)
    assert 0 < pytrec("recip_rank", qrels, run) <= 1
    assert 0 < ranx("mrr", qrels, run) <= 1


def test_row_fractional_grades_ranx_accepts_them():
    pytrec_eval = pytest.importorskip("pytrec_eval")
    qrels, run = {"q": {"a": 1.5, "b": 0.5}}, {"q": {"b": 1.0, "a": 0.5}}
    with pytest.raises(ValueError, match="whole grades"):
        ours("ndcg", qrels, run)
    with pytest.raises(TypeError):
        pytrec_eval.RelevanceEvaluator(qrels, {"ndcg"})
    assert 0 < ranx("ndcg", qrels, run) < 1


@pytest.mark.filterwarnings("ignore")
def test_row_bpref_ranx_divides_by_zero_without_judged_irrelevant_documents():
    qrels, run = {"q": {"a": 1, "b": 1}}, {"q": {"a": 1.0}}
    assert ours("bpref", qrels, run) == pytrec("bpref", qrels, run) == 0.5
    assert np.isnan(ranx("bpref", qrels, run))


def test_row_rank_biased_precision_ranx_multiplies_by_the_grade_and_can_pass_1():
    qrels, run = {"q": {"a": 6, "b": 6}}, {"q": {"a": 1.0, "b": 0.5}}
    assert ours("rbp@0.8", qrels, run) == pytest.approx(0.2 * (1 + 0.8))
    assert ranx("rbp.80", qrels, run) == pytest.approx(0.2 * (6 + 6 * 0.8))


def test_row_missing_queries():
    pytrec_eval, ir_measures = pytest.importorskip("pytrec_eval"), pytest.importorskip("ir_measures")
    library = pytest.importorskip("ranx")
    qrels, run = {"q": {"a": 1}, "r": {"a": 1}}, {"q": {"a": 1.0}}
    assert list(metrics.evaluate(qrels, run, "mrr")["mrr"]) == ["q"]
    assert list(pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(run)) == ["q"]  # the mean is 1
    with_zero = metrics.mean(metrics.evaluate(qrels, run, "mrr", missing="zero"))["mrr"]
    assert ir_measures.calc_aggregate([ir_measures.RR], qrels, run)[ir_measures.RR] == with_zero == 0.5
    with pytest.raises(AssertionError):
        library.evaluate(library.Qrels(qrels), library.Run(run), "mrr")


def test_row_ndcg_of_what_was_retrieved_only_scikit_learn_cannot_know_the_rest():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    rel, judged = np.array([[1, 0]]), np.array([[1, 0, 2, 2]])
    assert metrics.ndcg_at_k(rel, 2, judged)[0] == pytest.approx(1 / (2 + 2 / np.log2(3)))
    assert sklearn_metrics.ndcg_score(rel, [[0.9, 0.1]]) == 1
    assert pytrec("ndcg_cut_2", {"q": {"a": 1, "c": 2, "d": 2}}, {"q": {"a": 0.9, "b": 0.1}}) == pytest.approx(
        metrics.ndcg_at_k(rel, 2, judged)[0]
    )


def test_row_average_precision_of_what_was_retrieved_only_scikit_learn_cannot_know_the_rest():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    assert metrics.average_precision([[1, 0]], 4)[0] == 0.25
    assert sklearn_metrics.average_precision_score([1, 0], [0.9, 0.1]) == 1
    assert pytrec("map", {"q": dict.fromkeys("acde", 1)}, {"q": {"a": 0.9, "b": 0.1}}) == 0.25


def test_row_negative_grades_scikit_learn_refuses_them():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    with pytest.raises(ValueError):
        sklearn_metrics.ndcg_score([[1, -1]], [[0.1, 0.9]])
    qrels, run = {"q": {"a": 1, "b": -1}}, {"q": {"b": 1.0, "a": 0.5}}
    assert ours("ndcg", qrels, run) == pytrec("ndcg", qrels, run) == pytest.approx(1 / np.log2(3))


def test_row_gain_the_same_name_means_two_things():
    qrels, run = {"q": {"a": 1, "b": 3}}, {"q": {"a": 1.0, "b": 0.5}}
    linear, exponential = ours("ndcg@10", qrels, run), ours("ndcg_exponential@10", qrels, run)
    assert pytrec("ndcg_cut_10", qrels, run) == linear == pytest.approx(ranx("ndcg@10", qrels, run))
    assert ranx("ndcg_burges@10", qrels, run) == pytest.approx(exponential) and exponential < linear


def test_row_precision_without_a_cutoff_divides_by_the_number_retrieved():
    qrels, run = {"q": {"a": 1}}, {"q": {"a": 1.0, "b": 0.5, "c": 0.25, "d": 0.125}}
    assert ours("precision", qrels, run) == pytrec("set_P", qrels, run) == ranx("precision", qrels, run) == 0.25
    assert ours("precision@10", qrels, run) == pytrec("P_10", qrels, run) == ranx("precision@10", qrels, run) == 0.1
