"""MoCo: who moves, in which order the queue moves, and that it learns."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.nn import l2_normalize, mlp, mlp_init, resnet, whitened
from refimpl.training import moco, moco_step, simclr
from refimpl.training.moco import encode, enqueue, momentum_update

from .small import assert_same_bits, draw_pairs, draw_view, encoder, whitened_encoder


def first_run(queue=30):
    params, state = encoder()
    other, _ = encoder()
    other = {name: array + np.float32(0.01) for name, array in other.items()}
    head = mlp_init((16, 8), seed=0)
    keys = l2_normalize(np.random.default_rng(1).standard_normal((queue, 8)).astype(np.float32))[0]
    return {
        "params": params, "head": head, "state": state, "key params": other, "key head": head, "key state": state,
        "queue": {"keys": keys},
    }  # fmt: skip


def encoded(params, head, state, views, groups, order):
    """(views, pictures, d): batch norm sees all views of the pictures of a group, which are neighbours in `order`."""
    found = np.full((len(views), len(order), 8), np.nan)
    for group in np.array_split(order, groups):
        h, _, state = resnet(params, state, np.concatenate([view[group] for view in views]), training=True)
        found[:, group] = l2_normalize(mlp(head, h)[0])[0].reshape(len(views), len(group), 8)
    return found


def one_step(run, momentum, groups=1):
    x1, x2 = draw_pairs(np.random.default_rng(2))
    shuffle = np.random.default_rng(3).permutation(len(x1))
    return (x1, x2, shuffle), moco_step(run, (x1, x2), shuffle, momentum=momentum, temperature=0.2, groups=groups)


def test_momentum_1_keeps_the_keys_encoder_and_0_copies():
    run = first_run()
    assert_same_bits(one_step(run, 1.0)[1][2]["key params"], run["key params"])
    assert_same_bits(one_step(run, 0.0)[1][2]["key params"], run["params"])


@given(st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_momentum_update_is_the_mean_of_its_definition(m, seed):
    key, query = np.random.default_rng(seed).standard_normal((2, 5)).astype(np.float32)
    moved = momentum_update({"a": key}, {"a": query}, m)["a"]
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, m * key.astype(float) + (1 - m) * query.astype(float), rtol=1e-5, atol=1e-6)


@given(st.integers(1, 20), st.lists(st.integers(1, 30), max_size=6))
def test_the_queue_is_first_in_first_out(capacity, batches):
    """Rows numbered in the order of their arrival: the queue always holds the last `capacity` of all."""
    arrived = np.arange(capacity + sum(batches), dtype=np.float32)[:, None]
    queue, done = arrived[:capacity], capacity
    for n in batches:
        queue = enqueue(queue, arrived[done : done + n])
        done += n
        np.testing.assert_array_equal(queue, arrived[done - capacity : done])


@pytest.mark.parametrize("groups", [1, 3])
def test_a_step_follows_the_pseudo_code(groups):
    """Keys by the moved encoder, against the queue as it was before them, which then follow in the batch's order."""
    run = first_run()
    (x1, x2, shuffle), (loss, _, after) = one_step(run, 0.5, groups)
    key_params = {name: 0.5 * p + 0.5 * run["params"][name] for name, p in run["key params"].items()}
    k = encoded(key_params, run["key head"], run["key state"], [x2], groups, shuffle)[0]
    q = encoded(run["params"], run["head"], run["state"], [x1], groups, np.arange(len(x1)))[0]
    before = run["queue"]["keys"]
    logits = np.concatenate([(q * k).sum(1, keepdims=True), q @ before.T], axis=1).astype(float) / 0.2
    assert loss == pytest.approx(np.mean(np.log(np.exp(logits).sum(1)) - logits[:, 0]), rel=1e-5)
    np.testing.assert_allclose(after["queue"]["keys"][-len(k) :], k, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(after["queue"]["keys"][: -len(k)], before[len(k) :])


@pytest.mark.parametrize("n_views, groups", [(3, 1), (4, 2), (3, 4)])
def test_of_more_views_each_is_a_query_of_all_the_others(n_views, groups):
    run, rng, n = first_run(queue=150), np.random.default_rng(2), 20
    views = tuple(draw_view(rng)[:n] for _ in range(n_views))
    shuffle = rng.permutation(n)
    loss, _, after = moco_step(run, views, shuffle, momentum=1.0, temperature=0.2, groups=groups)
    before = run["queue"]["keys"]
    q = encoded(run["params"], run["head"], run["state"], views, groups, np.arange(n))
    k = encoded(run["key params"], run["key head"], run["key state"], views, groups, shuffle)
    terms = []
    for i in range(n):
        for v in range(n_views):
            for other in set(range(n_views)) - {v}:
                logits = np.concatenate([[q[v, i] @ k[other, i]], before @ q[v, i]]) / 0.2
                terms.append(np.log(np.exp(logits).sum()) - logits[0])
    assert loss == pytest.approx(np.mean(terms), rel=1e-5)
    keys = k.swapaxes(0, 1).reshape(-1, 8)  # of one picture after the other
    np.testing.assert_allclose(after["queue"]["keys"][-len(keys) :], keys, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(after["queue"]["keys"][: -len(keys)], before[len(keys) :])


def test_a_picture_is_in_the_company_of_its_group_alone():
    """Another picture changes all views of the pictures of its group, and none of the others'."""
    run, x = first_run(), np.stack([draw_view(np.random.default_rng(i))[:20] for i in range(4)], axis=1)
    other = x.copy()
    other[3] += 1
    before, after = (encode(resnet, run["params"], run["head"], run["state"], part, 2)[0] for part in (x, other))
    changed = (before != after).any(axis=2)
    assert changed[:10].all() and not changed[10:].any()


@pytest.mark.parametrize("n_views", [2, 3])
def test_the_gradient_of_a_step_is_that_of_its_loss(n_views):
    """The keys' encoder stands still (momentum 1), so the loss is a function of the queries' parameters."""
    run = {name: {k: v.astype(np.float64) for k, v in part.items()} for name, part in first_run().items()}
    rng = np.random.default_rng(4)
    views = tuple(draw_view(rng)[:10].astype(np.float64) for _ in range(n_views))
    shuffle = rng.permutation(10)

    def loss_of(run):
        return moco_step(run, views, shuffle, momentum=1.0, temperature=0.5)

    _, gradients, _ = loss_of(run)
    for section, name in (("params", "head/weight"), ("head", "layer0/weight")):
        way = rng.standard_normal(run[section][name].shape)

        def value(t, section=section, name=name, way=way):
            return loss_of({**run, section: {**run[section], name: run[section][name] + t * way}})[0]

        slope = np.sum(gradients[section][name] * way)
        assert (value(1e-5) - value(-1e-5)) / 2e-5 == pytest.approx(slope, rel=1e-4, abs=1e-7)


def test_groups_sum_their_gradients():
    """The directional derivative of the loss, measured, is that of the gradients."""
    params, state = encoder()
    params = {name: p.astype(np.float64) for name, p in params.items()}
    state = {name: s.astype(np.float64) for name, s in state.items()}
    head = mlp_init((16, 8), seed=0, dtype=np.float64)
    x = np.stack(draw_pairs(np.random.default_rng(2)), axis=1)[:9].astype(np.float64)
    z, pullback, _ = encode(resnet, params, head, state, x, 3)
    rng = np.random.default_rng(5)
    dz = rng.standard_normal(z.shape)
    dparams, dhead = pullback(dz)
    name, way = "head/weight", rng.standard_normal(params["head/weight"].shape)

    def value(t):
        return np.sum(dz * encode(resnet, {**params, name: params[name] + t * way}, head, state, x, 3)[0])

    assert (value(1e-5) - value(-1e-5)) / 2e-5 == pytest.approx(np.sum(dparams[name] * way), rel=1e-5)
    assert dhead.keys() == head.keys()


@pytest.mark.parametrize("by, first, rate", [(resnet, encoder, 2e-3), (whitened, whitened_encoder, 5e-3)])
def test_moco_learns(by, first, rate):
    trained = moco(draw_pairs, *first(), encoder=by, steps=60, queue=64, momentum=0.9, groups=2, learning_rate=rate)
    # The first queue is noise, which is easy to tell apart; after three batches it is full of keys.
    assert abs(trained.losses[3:8].mean() - np.log(65)) < 0.6
    assert trained.losses[-5:].mean() < trained.losses[3:8].mean() - 1


@pytest.mark.parametrize(
    "layers, shapes", [(0, [(16, 8)]), (1, [(16, 24), (24, 8)]), (2, [(16, 24), (24, 24), (24, 8)])]
)
def test_the_head_has_the_layers_asked_for(layers, shapes):
    trained = moco(draw_pairs, *encoder(), steps=1, queue=64, groups=1, hidden_layers=layers, hidden=24, projection=8)
    assert [trained.head[f"layer{i}/weight"].shape for i in range(len(shapes))] == shapes
    assert len(trained.head) == 2 * len(shapes)


def test_a_training_goes_on_from_another_with_its_head():
    first = moco(draw_pairs, *encoder(), steps=40, queue=64, momentum=0.9, groups=1)
    start = first.params, first.state
    for train in (moco, simclr):
        went_on = train(draw_pairs, *start, head=first.head, steps=1, learning_rate=1e-9)
        for name, weight in first.head.items():
            np.testing.assert_allclose(went_on.head[name], weight, atol=1e-8)
    fresh = simclr(draw_pairs, *start, steps=1, learning_rate=1e-9)
    assert went_on.losses[0] < fresh.losses[0]


def test_the_queue_of_a_training_that_goes_on_is_as_wide_as_its_head():
    settings = {"steps": 1, "queue": 64, "groups": 1}
    first = moco(draw_pairs, *encoder(), projection=8, **settings)
    went_on = moco(draw_pairs, first.params, first.state, head=first.head, **settings)
    assert went_on.head["layer1/weight"].shape == first.head["layer1/weight"].shape == (16, 8)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="views"):
        moco(lambda rng: (draw_view(rng),), *encoder(), steps=1, queue=64)
    for name, value in (("momentum", 1.5), ("queue", 0), ("groups", 0), ("hidden_layers", -1), ("learning_rate", 0)):
        with pytest.raises(ValueError, match=name):
            moco(draw_pairs, *encoder(), steps=1, **{name: value})


def test_a_loss_that_is_not_finite_stops(monkeypatch):
    module = sys.modules["refimpl.training.moco"]
    monkeypatch.setattr(module, "info_nce", lambda q, k, queue, temperature: (np.nan, (q, k, queue)))
    with pytest.raises(FloatingPointError, match="nan at step 0"):
        moco(draw_pairs, *encoder(), steps=2, queue=64, groups=1)
