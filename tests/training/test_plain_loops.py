"""Each training is the plain loop of its settings: all of them reach the step, the schedule and the optimizer.

The steps have tests of their own; the loop of airbench is in test_airbench.py.
"""

from math import cos, pi

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.nn import adamw, l2_normalize, mlp_init, one_cycle_schedule, sgd
from refimpl.training import classification, moco, moco_step, simclr, simclr_step, supervised_contrastive, triplet
from refimpl.training.supervised import classification_step, supervised_contrastive_step, triplet_step

from .small import CLASSES, draw_labelled, draw_pairs, encoder

STEPS = 4
schedules = st.fixed_dictionaries(
    {"learning_rate": st.floats(5e-4, 5e-3), "weight_decay": st.floats(0.05, 1), "warmup": st.floats(0, 0.9)}
)
temperatures, seeds = st.floats(0.05, 0.9), st.integers(0, 2**32 - 1)


def plain_adamw(sections, memory, gradients, k, learning_rate, weight_decay, warmup):
    """Step k: up to the peak in the first part `warmup`, then half a cosine to 0, in 100,000ths. INOUT both dicts."""
    at, top, end = round(k / STEPS * 100_000), round(warmup * 100_000), 100_000
    share = (at + 1) / top if at < top else (1 + cos(pi * (at - top) / (end - top))) / 2
    for name, gradient in gradients.items():
        sections[name], memory[name] = adamw(
            sections[name], gradient, memory.get(name, {}), learning_rate=learning_rate * share,
            weight_decay=weight_decay,
        )  # fmt: skip


def assert_near(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


def assert_trained(found, sections, losses):
    for name in ("params", "state", "head"):
        assert_near(getattr(found, name), sections.get(name, {}))
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5)


@settings(max_examples=5)
@given(how=schedules, seed=seeds, temperature=temperatures)
def test_simclr_is_the_plain_loop(how, seed, temperature):
    params, state = encoder()
    found = simclr(
        draw_pairs, params, state, steps=STEPS, temperature=temperature, hidden=12, projection=6, seed=seed, **how
    )
    rng, head = np.random.default_rng(seed), mlp_init((16, 12, 6), seed=seed)
    run, memory, losses = {"params": params, "head": head, "state": state}, {}, []
    for k in range(STEPS):
        loss, dparams, dhead, run["state"] = simclr_step(
            run["params"], run["head"], run["state"], *draw_pairs(rng), temperature=temperature
        )
        plain_adamw(run, memory, {"params": dparams, "head": dhead}, k, **how)
        losses.append(loss)
    assert_trained(found, run, losses)


@settings(max_examples=5)
@given(
    how=schedules,
    seed=seeds,
    of_step=st.fixed_dictionaries(
        {"momentum": st.floats(0, 1), "temperature": temperatures, "groups": st.integers(1, 3)}
    ),
)
def test_moco_is_the_plain_loop(how, seed, of_step):
    """Keys are encoded in an order that is drawn anew in each step, after the views."""
    params, state = encoder()
    found = moco(draw_pairs, params, state, steps=STEPS, queue=40, hidden=12, projection=6, **of_step, seed=seed, **how)
    rng, head = np.random.default_rng(seed), mlp_init((16, 12, 6), seed=seed)
    keys = l2_normalize(np.random.default_rng([seed, 1]).standard_normal((40, 6)).astype(np.float32))[0]
    run, memory, losses = {"params": params, "head": head, "state": state, "queue": {"keys": keys}}, {}, []
    run |= {f"key {name}": run[name] for name in ("params", "head", "state")}
    for k in range(STEPS):
        views = draw_pairs(rng)
        loss, gradients, run = moco_step(run, views, rng.permutation(len(views[1])), **of_step)
        plain_adamw(run, memory, gradients, k, **how)
        losses.append(loss)
    assert_trained(found, run, losses)


@settings(max_examples=5)
@given(how=schedules, seed=seeds, temperature=temperatures)
def test_supervised_contrastive_is_the_plain_loop(how, seed, temperature):
    params, state = encoder()
    found = supervised_contrastive(
        draw_labelled, params, state, steps=STEPS, temperature=temperature, projection=6, seed=seed, **how
    )
    rng, head = np.random.default_rng(seed), mlp_init((16, 16, 6), seed=seed)
    run, memory, losses = {"params": params, "head": head, "state": state}, {}, []
    for k in range(STEPS):
        loss, dparams, dhead, run["state"] = supervised_contrastive_step(
            run["params"], run["head"], run["state"], *draw_labelled(rng), temperature=temperature
        )
        plain_adamw(run, memory, {"params": dparams, "head": dhead}, k, **how)
        losses.append(loss)
    assert_trained(found, run, losses)


@settings(max_examples=5)
@given(how=schedules, seed=seeds, margin=st.floats(0.01, 2))
def test_triplet_is_the_plain_loop(how, seed, margin):
    params, state = encoder()
    found = triplet(draw_labelled, params, state, steps=STEPS, margin=margin, seed=seed, **how)
    rng, run, memory, losses = np.random.default_rng(seed), {"params": params, "state": state}, {}, []
    for k in range(STEPS):
        loss, dparams, run["state"] = triplet_step(run["params"], run["state"], *draw_labelled(rng), margin=margin)
        plain_adamw(run, memory, {"params": dparams}, k, **how)
        losses.append(loss)
    assert_trained(found, run, losses)


@settings(max_examples=5)
@given(
    peak=st.floats(0.005, 0.1), rise=st.floats(0.1, 0.9), smoothing=st.floats(0, 0.5), average=st.floats(0, 0.99),
    rule=st.fixed_dictionaries({"momentum": st.floats(0.1, 0.9), "weight_decay": st.floats(1e-3, 0.1)}),
    seed=seeds,
)  # fmt: skip
def test_classification_is_the_plain_loop(peak, rise, smoothing, average, rule, seed):
    """What is returned are slow copies, which keep the share `average` of themselves in each step."""
    params, state = encoder()
    found = classification(
        draw_labelled, params, state, classes=CLASSES, steps=STEPS, learning_rate=peak, rise=rise,
        label_smoothing=smoothing, average=average, seed=seed, **rule,
    )  # fmt: skip
    weight = np.random.default_rng(seed).standard_normal((16, CLASSES)).astype(np.float32) / 4
    head, rng = {"weight": weight, "bias": np.zeros(CLASSES, np.float32)}, np.random.default_rng(seed)
    slow, memory, losses = {"params": params, "head": head, "state": state}, [{}, {}], []
    for k in range(STEPS):
        loss, dparams, dhead, state = classification_step(
            params, head, state, *draw_labelled(rng), label_smoothing=smoothing
        )
        rate = one_cycle_schedule(round(k / STEPS * 100_000), 100_000, peak, rise=rise)
        params, memory[0] = sgd(params, dparams, memory[0], learning_rate=rate, nesterov=True, **rule)
        head, memory[1] = sgd(head, dhead, memory[1], learning_rate=rate, nesterov=True, **rule)
        for name, fast in (("params", params), ("head", head), ("state", state)):
            slow[name] = {key: average * slow[name][key] + (1 - average) * value for key, value in fast.items()}
        losses.append(loss)
    assert_trained(found, slow, losses)
