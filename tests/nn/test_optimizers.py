"""Optimizers, clipping and schedules: one step by hand, descent, purity, bad input."""

import numpy as np
import pytest

from refimpl import nn

RULES = {
    "sgd": (nn.sgd, {}),
    "momentum": (nn.sgd, {"momentum": 0.9}),
    "nesterov": (nn.sgd, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "adam": (nn.adam, {"weight_decay": 0.01}),
    "adamw": (nn.adamw, {}),
    "lars": (nn.lars, {"trust": 0.5}),
    "muon": (nn.muon, {}),
    "rmsprop": (nn.rmsprop, {}),
    "adagrad": (nn.adagrad, {}),
}


def problem(dtype=np.float64):
    rng = np.random.default_rng(0)
    return {"w": rng.standard_normal((4, 3)).astype(dtype), "b": rng.standard_normal(3).astype(dtype)}


@pytest.mark.parametrize("rule", RULES)
def test_goes_downhill_without_touching_its_arguments(rule):
    optimizer, options = RULES[rule]
    params, opt_state = problem(np.float32), {}
    first = {name: p.copy() for name, p in params.items()}
    start = params
    for _ in range(60):
        gradients = {name: p + 0 for name, p in params.items()}  # of |p|^2 / 2
        kept = {name: value.copy() for name, value in opt_state.items()}
        before = opt_state
        params, opt_state = optimizer(params, gradients, opt_state, learning_rate=0.05, **options)
        assert all(np.array_equal(before[name], kept[name]) for name in kept)
    assert all(np.array_equal(start[name], first[name]) for name in first)
    for name, p in params.items():
        assert p.dtype == np.float32 and np.linalg.norm(p) < 0.75 * np.linalg.norm(first[name])
    assert all(np.asarray(value).dtype in (np.float32, np.int64) for value in opt_state.values())


def test_two_steps_by_hand():
    p, g = {"w": np.array([1.0])}, {"w": np.array([2.0])}

    def two_steps(rule, **options):
        first, state = rule(p, g, {}, learning_rate=0.1, **options)
        second, _ = rule(first, g, state, learning_rate=0.1, **options)
        return [float(first["w"][0]), float(second["w"][0])]

    assert np.allclose(two_steps(nn.sgd), [0.8, 0.6])
    assert np.allclose(two_steps(nn.sgd, momentum=0.5), [0.8, 0.5])
    assert np.allclose(two_steps(nn.sgd, momentum=0.5, nesterov=True), [0.7, 0.35])
    assert np.allclose(two_steps(nn.adam), [0.9, 0.8])
    assert np.allclose(two_steps(nn.adamw, weight_decay=0.5), [0.85, 0.7075])
    assert np.allclose(two_steps(nn.rmsprop, decay=0.75), [0.8, 0.8 - 0.1 * 2 / np.sqrt(1.75)])
    assert np.allclose(two_steps(nn.adagrad), [0.9, 0.9 - 0.1 / np.sqrt(2)])


def test_lars_steps_are_in_proportion_to_the_weight_and_spare_biases():
    params = problem()
    gradients = {"w": 1e6 * np.ones((4, 3)), "b": np.ones(3)}
    new, _ = nn.lars(params, gradients, {}, learning_rate=1.0, momentum=0.0, trust=0.01, weight_decay=0.1)
    assert np.isclose(np.linalg.norm(new["w"] - params["w"]), 0.01 * np.linalg.norm(params["w"]), rtol=1e-3)
    np.testing.assert_allclose(new["b"], params["b"] - 1)


def test_clipping():
    gradients = {"a": np.array([3.0]), "b": np.array([[4.0]], np.float32)}
    same, norm = nn.clip_gradients(gradients, 5.0)
    assert norm == 5 and same["a"] == 3
    clipped, norm = nn.clip_gradients(gradients, 1.0)
    assert norm == 5 and np.isclose(clipped["a"], 0.6) and np.isclose(clipped["b"], 0.8)
    assert clipped["b"].dtype == np.float32
    for max_norm, expected in ((10.0, [3.0, 4.0]), (1.0, [0.6, 0.8])):
        np.testing.assert_allclose(nn.clip_gradients({"w": [3.0, 4.0]}, max_norm)[0]["w"], expected)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "float16", ">f8"])
def test_gradients_of_other_dtypes_are_not_clipped(dtype):
    """Integers would become zeros, and so would what float16 has no numbers for."""
    for max_norm in (1e-6, 1e6):
        with pytest.raises(ValueError, match=r"gradients\['w'\]: expected dtype float32 or float64, got "):
            nn.clip_gradients({"w": np.array([3, 4]).astype(dtype)}, max_norm)


@pytest.mark.parametrize("rule", [nn.adamw, nn.muon, nn.sgd])
@pytest.mark.parametrize("rate", [2e-3, 5e-4, 2e-4])
def test_a_small_decay_is_not_lost_in_float32(rule, rate):
    """1 - rate * decay is rounded to multiples of 6e-8 there, and to 1 where it is less than 3e-8 below."""

    def mean(dtype, decay):
        rng, shape = np.random.default_rng(0), (200, 100)
        params, state = {"w": rng.uniform(1, 2, shape).astype(np.float32).astype(dtype)}, {}
        for _ in range(20):
            gradients = {"w": rng.standard_normal(shape, dtype=np.float32).astype(dtype)}
            params, state = rule(params, gradients, state, learning_rate=rate, weight_decay=decay)
        return params["w"].mean(dtype=np.float64)

    found, exact = (mean(dtype, 0.0) - mean(dtype, 1e-4) for dtype in (np.float32, np.float64))
    np.testing.assert_allclose(found, exact, rtol=0.05)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "gradients, message",
    [
        ({"w": np.full((4, 3), np.nan), "b": np.zeros(3)}, r"gradients\['w'\]: expected finite values, got nan"),
        ({"w": np.zeros((3, 4)), "b": np.zeros(3)}, r"gradients\['w'\]: expected shape \(4, 3\), got \(3, 4\)"),
        ({"w": np.zeros((4, 3), np.float32), "b": np.zeros(3)}, r"gradients\['w'\]: expected dtype float64"),
        ({"w": np.zeros((4, 3))}, r"expected the names of params, got a difference in \['b'\]"),
    ],
)
def test_bad_gradients(rule, gradients, message):
    optimizer, options = RULES[rule]
    with pytest.raises(ValueError, match=message):
        optimizer(problem(), gradients, {}, learning_rate=0.1, **options)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", ["int64", "float16", ">f8"])
def test_parameters_of_other_dtypes_are_refused(rule, dtype):
    """Integers would never move; byte-swapped floats have no kernels."""
    optimizer, options = RULES[rule]
    params = {name: p.astype(dtype) for name, p in problem().items()}
    with pytest.raises(ValueError, match=r"params\['w'\]: expected dtype float32 or float64, got "):
        optimizer(params, params, {}, learning_rate=0.1, **options)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "sgd"])  # which remembers nothing
@pytest.mark.parametrize(
    "change, message",
    [
        (lambda a: a[:1], r"opt_state\['{}'\]: expected shape"),
        (lambda a: a.ravel()[:1], r"opt_state\['{}'\]: expected shape"),
        (lambda a: np.concatenate([a, a]), r"opt_state\['{}'\]: expected shape"),
        (lambda a: a.astype(np.float32), r"opt_state\['{}'\]: expected dtype float64, got float32"),
    ],
)
def test_what_is_remembered_must_fit_the_parameters(rule, change, message):
    optimizer, options = RULES[rule]
    params = problem()
    _, state = optimizer(params, params, {}, learning_rate=0.1, **options)
    for name in state.keys() - {"step"}:
        with pytest.raises(ValueError, match=message.format(name)):
            optimizer(params, params, state | {name: change(state[name])}, learning_rate=0.1, **options)


@pytest.mark.parametrize("rule", ["adam", "adamw", "muon"])
def test_the_step_is_a_number_of_steps(rule):
    optimizer, options = RULES[rule]
    params = problem()
    _, state = optimizer(params, params, {}, learning_rate=0.1, **options)
    for step in (-1, 0.5):
        with pytest.raises(ValueError, match=r"opt_state\['step'\]: expected an integer"):
            optimizer(params, params, state | {"step": step}, learning_rate=0.1, **options)


def test_lars_without_a_gradient_decays_at_ratio_1():
    params = problem()
    still = {name: np.zeros_like(p) for name, p in params.items()}
    new, _ = nn.lars(params, still, {}, learning_rate=0.5, momentum=0.0, trust=0.01, weight_decay=0.1)
    np.testing.assert_allclose(new["w"], 0.95 * params["w"])
    np.testing.assert_array_equal(new["b"], params["b"])


def test_bad_options():
    params = problem()
    for options in ({"learning_rate": -1}, {"learning_rate": 0.1, "momentum": 1.0}, {"learning_rate": np.nan}):
        with pytest.raises(ValueError):
            nn.sgd(params, params, {}, **options)
    with pytest.raises(ValueError, match="nesterov: expected a momentum above 0"):
        nn.sgd(params, params, {}, learning_rate=0.1, nesterov=True)


def test_schedules():
    cosine = [nn.cosine_schedule(step, 10, 2.0, warmup=2, floor=0.5) for step in range(11)]
    assert cosine[:3] == [1.0, 2.0, 2.0] and np.isclose(cosine[6], 1.25) and np.isclose(cosine[10], 0.5)
    assert all(a >= b for a, b in zip(cosine[1:], cosine[2:]))
    assert [nn.warmup_schedule(s, 4, 1.0) for s in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert np.allclose([nn.step_schedule(s, (2, 4), 1.0) for s in range(6)], [1, 1, 0.1, 0.1, 0.01, 0.01])
    cycle = [nn.one_cycle_schedule(s, 20, 1.0) for s in range(20)]
    assert np.isclose(cycle[0], 1 / 25) and np.isclose(max(cycle), 1) and cycle[5] == max(cycle)
    assert np.isclose(cycle[19], 1 / 25 / 1e4)
    with pytest.raises(ValueError, match="step: expected an integer"):
        nn.cosine_schedule(11, 10, 1.0)
    with pytest.raises(ValueError, match="warmup"):
        nn.cosine_schedule(0, 10, 1.0, warmup=11)


@pytest.mark.parametrize("peak", [None, -1.0, np.nan])
@pytest.mark.parametrize(
    "schedule",
    [
        lambda peak: nn.warmup_schedule(3, 2, peak),
        lambda peak: nn.cosine_schedule(3, 10, peak),
        lambda peak: nn.one_cycle_schedule(3, 10, peak),
        lambda peak: nn.step_schedule(3, (2,), peak),
    ],
)
def test_schedules_have_a_peak(schedule, peak):
    with pytest.raises(ValueError, match="peak: expected a"):
        schedule(peak)
