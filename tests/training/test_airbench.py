"""airbench: passes without repeats, mirrored in turn; the schedule; the slow copies; and that it learns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.nn import linear, whitened, whitened_init
from refimpl.training import airbench, passes
from refimpl.training.airbench import PACE, airbench_step, lookahead, triangle

from .small import CLASSES, LABELS, PROTOTYPES, draw_view


def network():
    return whitened_init(PROTOTYPES, widths=(16, 16), seed=0)


def draw(rng, step):
    return draw_view(rng), LABELS


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_passes(n, batch, which, seed):
    batch = min(batch, n)
    steps = n // batch
    once = [passes(n, batch, which * steps + i, seed) for i in range(steps)]
    rows = np.concatenate([r for r, _ in once])
    assert len(np.unique(rows)) == len(rows) == steps * batch and rows.min() >= 0 and rows.max() < n
    seen, mirrored = np.full(n, -1), np.concatenate([m for _, m in once])
    seen[rows] = mirrored
    for i in range(steps):
        rows, mirrored = passes(n, batch, (which + 1) * steps + i, seed)
        assert ((seen[rows] == -1) | (seen[rows] == ~mirrored)).all()  # not seen before, or the other way round


def test_passes_are_mixed():
    first, second = (passes(1000, 1000, step, 0)[0] for step in (0, 1))
    assert (first != second).mean() > 0.9 and 400 < passes(1000, 1000, 0, 0)[1].sum() < 600


@given(st.floats(0, 0.99), st.floats(0, 1, exclude_max=True))
def test_the_rate_is_a_triangle(rise, share):
    rate = triangle(share, rise)
    assert 0.07 - 1e-12 <= rate <= 1
    assert triangle(rise, rise) == 1
    nearer = share + 0.5 * (rise - share)
    assert triangle(nearer, rise) >= rate - 1e-12


def test_the_slow_copy_keeps_nothing_at_first_and_most_of_itself_at_the_end():
    slow, fast = {"a": np.array([1.0, 5.0]), "b": np.array(0.1)}, {"a": np.array([3.0, 1.0]), "b": np.array(0.1)}
    np.testing.assert_array_equal(lookahead(slow, fast, 0.0)["a"], fast["a"])
    keep = 0.95**PACE
    end = lookahead(slow, fast, 1.0)
    np.testing.assert_allclose(end["a"], keep * slow["a"] + (1 - keep) * fast["a"])
    assert end["b"] == slow["b"]  # to the last bit: the whitening must not drift


def test_the_gradient_of_the_step():
    rng = np.random.default_rng(0)
    params, state = whitened_init(PROTOTYPES.astype(np.float64), widths=(9, 10), seed=0, dtype=np.float64)
    head = {"weight": rng.standard_normal((10, CLASSES)), "bias": np.zeros(CLASSES)}
    x = draw_view(rng).astype(np.float64)

    def loss(params, head):
        return airbench_step(params, head, state, x, LABELS, label_smoothing=0.2)[0]

    _, dparams, dhead, _ = airbench_step(params, head, state, x, LABELS, label_smoothing=0.2)
    way = {name: rng.standard_normal(p.shape) for name, p in params.items()}
    along = rng.standard_normal(head["weight"].shape)

    def at(t):
        moved = {name: p + t * way[name] for name, p in params.items()}
        return loss(moved, head | {"weight": head["weight"] + t * along})

    slope = sum(np.vdot(dparams[name], way[name]) for name in params) + np.vdot(dhead["weight"], along)
    assert slope == pytest.approx((at(1e-6) - at(-1e-6)) / 2e-6, rel=1e-5)


def test_it_learns_and_leaves_alone_what_it_should():
    params, state = network()
    trained = airbench(draw, params, state, classes=CLASSES, steps=60, learning_rate=20.0)
    assert trained.losses[-5:].mean() < trained.losses[:5].mean() - 0.5
    h = whitened(trained.params, trained.state, draw_view(np.random.default_rng(9)), training=False)[0]
    assert np.mean(linear(h, trained.head["weight"], trained.head["bias"])[0].argmax(1) == LABELS) > 0.8
    kinds = {name: np.array_equal(trained.params[name], params[name]) for name in params}
    assert all(same == name.endswith("gamma") for name, same in kinds.items())
    np.testing.assert_array_equal(trained.state["whitening/weight"], state["whitening/weight"])
    assert not trained.head["bias"].any()


def test_the_training_is_the_plain_loop():
    """Eleven steps written out: two groups of Nesterov SGD, the triangle, and the slow copy after steps 5 and 10."""
    (params, state), rng, n = network(), np.random.default_rng(4), 11
    found = airbench(
        draw, params, state, classes=CLASSES, steps=n, learning_rate=4.0, weight_decay=0.1, momentum=0.8,
        label_smoothing=0.3, rise=0.4, seed=4,
    )  # fmt: skip
    weight = np.random.default_rng(4).uniform(-0.25, 0.25, (16, CLASSES)).astype(np.float32)
    fast = {**params, "head": weight}
    slow, velocity = dict(fast), {name: 0.0 for name in fast}
    for k in range(n):
        x, labels = draw(rng, k)
        params, head = {name: fast[name] for name in params}, {"weight": fast["head"], "bias": np.zeros(CLASSES, "f4")}
        _, dparams, dhead, state = airbench_step(params, head, state, x, labels, label_smoothing=0.3)
        share = k / n
        rate = 4.0 * len(x) / 1024 * (0.2 + 0.8 * share / 0.4 if share < 0.4 else 1 - 0.93 * (share - 0.4) / 0.6)
        for name, gradient in {**dparams, "head": dhead["weight"]}.items():
            faster = {"gamma": 0, "beta": 64}.get(name.split("/")[-1], 1)
            slope = gradient + (0.1 / faster if faster else 0) * fast[name]
            velocity[name] = 0.8 * velocity[name] + slope
            fast[name] = (fast[name] - rate * faster * (slope + 0.8 * velocity[name])).astype(np.float32)
        if k in (4, 9):
            keep = 0.95**5 * share**3
            slow = {name: (keep * slow[name] + (1 - keep) * p).astype(np.float32) for name, p in fast.items()}
            fast = dict(slow)
    for name in params:
        np.testing.assert_allclose(found.params[name], slow[name], rtol=2e-3, atol=2e-3, err_msg=name)
    np.testing.assert_allclose(found.head["weight"], slow["head"] / 9, rtol=2e-3, atol=2e-4)


def test_each_step_draws_its_own_batch():
    steps = []

    def numbered(rng, step):
        steps.append(step)
        return draw(rng, step)

    airbench(numbered, *network(), classes=CLASSES, steps=4)
    assert steps == [0, 1, 2, 3]


def test_wrong_arguments():
    for changes in ({"classes": 1}, {"learning_rate": 0}, {"rise": 1}, {"steps": 0}):
        with pytest.raises(ValueError, match=next(iter(changes))):
            airbench(draw, *network(), **{"classes": CLASSES, "steps": 1, **changes})
    for batch in (0, 11):
        with pytest.raises(ValueError, match="batch"):
            passes(10, batch, 0, 0)
