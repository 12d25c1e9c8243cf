"""docs/metrics.md says what is true: its worked example is computed, and its table of disagreements is the tests'."""

import re
from pathlib import Path

import numpy as np
import pytest

from refimpl import metrics

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
EXAMPLE = {
    "rel": np.array([[0, 2, 1, 0, 3]]),
    "R": np.array([4]),
    "ideal": np.array([[3, 2, 1, 1, 0, 0]]),
    "judged": np.array([[True, True, True, False, True]]),
}
ROWS = re.findall(r"^\| [^|]+ \| `(\w+\([^`]*\))` \| ([0-9.]+) \|", PAGE, re.MULTILINE)


def test_the_worked_example_has_all_ranking_metrics():
    from refimpl.metrics import _NAMES

    named = {call.split("(")[0] for call, _ in ROWS} | {"label_ranking_average_precision", "pad_ragged"}
    assert named == set(_NAMES["ranking"])


@pytest.mark.parametrize(("call", "value"), ROWS)
def test_the_worked_example_is_true(call, value):
    names = {name: getattr(metrics, name) for name in metrics.__all__}
    assert f"{eval(call, {**names, **EXAMPLE})[0]:.4f}" == value


def test_the_numbers_beside_the_example_are_true():
    scores, hits = [[0.9, 0.8, 0.5, 0.5, 0.1]], [[0, 1, 1, 0, 1]]
    assert metrics.label_ranking_average_precision(hits, scores)[0] == pytest.approx(0.5333, abs=5e-5)
    assert metrics.tie_averaged_average_precision(hits, scores, 4)[0] == pytest.approx(0.4208, abs=5e-5)
    names = ["x", "b", "c", "y", "a"]
    for c, value in (("c", 0.4), ("z2", 0.4417)):
        run = {name if name != "c" else c: score for name, score in zip(names, scores[0])}
        values = metrics.evaluate({"q": {"a": 3, "b": 2, c: 1, "d": 1, "x": 0, "z": 0}}, {"q": run}, "map")
        assert values["map"]["q"] == pytest.approx(value, abs=5e-5)
    assert metrics.queries_needed(0.2) == 199


def test_every_disagreement_is_in_the_table_and_is_a_test():
    tests = set(re.findall(r"^def (test_row_\w+)", Path(__file__).with_name("test_peers.py").read_text(), re.MULTILINE))
    assert set(re.findall(r"`(test_row_\w+)`", PAGE)) == tests
