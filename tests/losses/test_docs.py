"""docs/losses.md names every public function, and its collapsed values are those that the functions give."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from refimpl import losses

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "losses.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `(\w+)` \|.*\| (ln[^|]*) \|$", PAGE, re.MULTILINE))

n, k, c = 6, 4, 5
Z, LABELS = np.ones((n, c)), np.arange(n) % 2
COLLAPSED = {
    "softmax_cross_entropy": lambda: losses.softmax_cross_entropy(Z, LABELS),
    "candidate_cross_entropy": lambda: losses.candidate_cross_entropy(Z, np.ones((n, k, c)), LABELS),
    "n_pair_loss": lambda: losses.n_pair_loss(Z, Z),
    "info_nce": lambda: losses.info_nce(Z, Z, np.ones((k, c)), temperature=0.1),
    "nt_xent": lambda: losses.nt_xent(Z, Z, temperature=0.1),
    "decoupled_contrastive": lambda: losses.decoupled_contrastive(Z, Z, temperature=0.1),
    "sup_con": lambda: losses.sup_con(Z, LABELS, temperature=0.1),
    "soft_nearest_neighbor": lambda: losses.soft_nearest_neighbor(Z, LABELS, temperature=0.1),
}


def test_every_public_function_is_on_the_page():
    assert not [name for name in losses.__all__ if name != "Triplets" and f"`{name}" not in PAGE]
    assert set(ROWS) == set(COLLAPSED)


@pytest.mark.parametrize("name", COLLAPSED)
def test_collapsed_values(name):
    formula = re.sub(r"^ln (.*)$", r"ln(\1)", ROWS[name]) if "ln(" not in ROWS[name] else ROWS[name]
    formula = re.sub(r"(\d)n", r"\1*n", formula)
    value = eval(formula, {"ln": math.log, "n": n, "k": k, "c": c, "positives": n // 2 - 1})
    np.testing.assert_allclose(COLLAPSED[name]()[0], value, rtol=1e-12)
