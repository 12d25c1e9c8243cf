"""Learning from labels: each loop lowers its loss and finds the classes."""

import numpy as np
import pytest

from refimpl.nn import linear, mlp_init, resnet
from refimpl.training import classification, knn_predict, supervised_contrastive, triplet
from refimpl.training.supervised import classification_step, supervised_contrastive_step, triplet_step

from .small import CLASSES, LABELS, draw_labelled, draw_view, encoder


def same_class_next_to_each(params, state):
    """Share of new views whose nearest among other views is of their class."""
    sets = [resnet(params, state, draw_view(np.random.default_rng(seed)), training=False)[0] for seed in range(8, 16)]
    return np.mean([knn_predict(sets[0], LABELS, views, k=1) == LABELS for views in sets[1:]])


@pytest.mark.parametrize("method", [supervised_contrastive, triplet])
def test_embeddings_learn_the_classes(method):
    before = same_class_next_to_each(*encoder())
    trained = method(draw_labelled, *encoder(), steps=160)
    assert trained.losses[-5:].mean() < trained.losses[:5].mean() * 0.7
    assert same_class_next_to_each(trained.params, trained.state) > before + 0.1


def test_classification_learns_the_classes():
    trained = classification(draw_labelled, *encoder(), classes=CLASSES, steps=80, average=0.9)
    assert trained.losses[-5:].mean() < trained.losses[:5].mean() - 0.5
    h = resnet(trained.params, trained.state, draw_view(np.random.default_rng(9)), training=False)[0]
    logits, _ = linear(h, trained.head["weight"], trained.head["bias"])
    assert np.mean(logits.argmax(1) == LABELS) > 0.8


def test_the_average_is_of_the_parameters():
    """With decay 0 the last parameters come back; with a decay near 1, nearly the first."""
    first, _ = encoder()
    last = classification(draw_labelled, *encoder(), classes=CLASSES, steps=3, average=0.0)
    lazy = classification(draw_labelled, *encoder(), classes=CLASSES, steps=3, average=0.999)
    moved = last.params["stem/conv/weight"] - first["stem/conv/weight"]
    behind = lazy.params["stem/conv/weight"] - first["stem/conv/weight"]
    assert 0 < np.abs(behind).max() < 0.01 * np.abs(moved).max()


def test_the_triplet_step_sums_over_all_triplets_of_a_picture():
    """Along a random direction of the head, the loss changes as the gradient says."""
    params, state = ({name: a.astype(np.float64) for name, a in d.items()} for d in encoder())
    x, rng = draw_view(np.random.default_rng(1)).astype(np.float64), np.random.default_rng(2)
    way = rng.standard_normal(params["head/weight"].shape)

    def step(t):
        return triplet_step({**params, "head/weight": params["head/weight"] + t * way}, state, x, LABELS, margin=0.5)

    slope = (step(1e-6)[0] - step(-1e-6)[0]) / 2e-6
    assert slope == pytest.approx(np.sum(step(0.0)[1]["head/weight"] * way), rel=1e-4)


STEPS = {
    "supervised contrastive": lambda *run: supervised_contrastive_step(*run, LABELS, temperature=0.4),
    "classification": lambda *run: classification_step(*run, LABELS, label_smoothing=0.2),
}


@pytest.mark.parametrize("name", STEPS)
def test_the_gradient_of_a_step_is_that_of_its_loss(name):
    """Along a random direction of all parameters, the head's too."""
    params, state = ({key: a.astype(np.float64) for key, a in d.items()} for d in encoder())
    rng = np.random.default_rng(5)
    if name == "classification":
        head = {"weight": rng.standard_normal((16, CLASSES)), "bias": rng.standard_normal(CLASSES)}
    else:
        head = mlp_init((16, 12, 6), seed=5, dtype=np.float64)
    ways = [{key: rng.standard_normal(a.shape) for key, a in d.items()} for d in (params, head)]
    x = draw_view(rng).astype(np.float64)

    def step(t):
        moved = ({key: a + t * way[key] for key, a in d.items()} for d, way in zip((params, head), ways))
        return STEPS[name](*moved, state, x)

    slope = sum(np.vdot(d[key], way[key]) for d, way in zip(step(0.0)[1:3], ways) for key in way)
    assert (step(1e-6)[0] - step(-1e-6)[0]) / 2e-6 == pytest.approx(slope, rel=1e-6)
