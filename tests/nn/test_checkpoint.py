"""Checkpoints: what comes back, and a run that was interrupted against one that was not."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.nn import (
    adamw,
    cosine_schedule,
    load_checkpoint,
    resnet,
    resnet_init,
    save_checkpoint,
    sgd,
)


def train(sections, rng, steps, optimizer):
    """`steps` updates towards random targets; everything a run carries along is in its arguments and its result."""
    params, state, opt_state, step = (sections[k] for k in ("params", "state", "opt_state", "schedule"))
    step = int(step["step"])
    for _ in range(steps):
        x = rng.standard_normal((4, 8, 8, 3)).astype(np.float32)
        z, pullback, state = resnet(params, state, x, training=True)
        rate = cosine_schedule(step, 20, 0.05, warmup=2)
        gradients = pullback(z - rng.standard_normal(z.shape).astype(np.float32))
        params, opt_state = optimizer(params, gradients, opt_state, learning_rate=rate)
        step += 1
    return {"params": params, "state": state, "opt_state": opt_state, "schedule": {"step": step}}


def nesterov(*args, **kwargs):
    return sgd(*args, momentum=0.9, nesterov=True, weight_decay=1e-3, **kwargs)


@pytest.mark.parametrize("optimizer", [nesterov, adamw])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(tmp_path, optimizer):
    params, state = resnet_init(widths=(4, 8), embedding=3, seed=5)
    start = {"params": params, "state": state, "opt_state": {}, "schedule": {"step": 0}}
    whole = train(start, np.random.default_rng(6), 6, optimizer)
    rng = np.random.default_rng(6)
    save_checkpoint(tmp_path / "run.npz", train(start, rng, 3, optimizer), rng)
    resumed = train(*load_checkpoint(tmp_path / "run.npz"), 3, optimizer)
    assert resumed.keys() == whole.keys()
    for section in whole:
        assert whole[section].keys() == resumed[section].keys()
        for name, value in whole[section].items():
            np.testing.assert_array_equal(resumed[section][name], value, err_msg=name)


def test_what_goes_in_comes_out(tmp_path):
    sections = {"params": {"a/b": np.arange(6.0).reshape(2, 3)}, "empty": {}, "text": {"name": "résumé", "epoch": 3}}
    save_checkpoint(tmp_path / "deep" / "x.npz", sections)
    loaded, rng = load_checkpoint(tmp_path / "deep" / "x.npz")
    assert rng is None and loaded.keys() == sections.keys() and loaded["empty"] == {}
    np.testing.assert_array_equal(loaded["params"]["a/b"], sections["params"]["a/b"])
    assert loaded["text"] == {"name": "résumé", "epoch": 3}


KINDS = [np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64]


@pytest.mark.parametrize("kind", KINDS)
def test_every_generator_goes_on_where_it_was(tmp_path, kind):
    rng = np.random.Generator(kind(3))
    rng.integers(0, 10, 3, dtype=np.int32)
    save_checkpoint(tmp_path / "x.npz", {}, rng)
    _, loaded = load_checkpoint(tmp_path / "x.npz")
    np.testing.assert_array_equal(loaded.random(5), rng.random(5))


seeds = st.integers(0, 2**200) | st.lists(st.integers(0, 2**70), min_size=1, max_size=4)


@given(kind=st.sampled_from(KINDS), seed=seeds, spawned=st.integers(0, 3), child=st.booleans())
def test_a_generator_that_was_loaded_spawns_what_the_saved_one_would(kind, seed, spawned, child, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "spawn.npz"
    rng = np.random.Generator(kind(np.random.SeedSequence(seed)))
    rng.spawn(spawned)
    rng = rng.spawn(1)[0] if child else rng
    save_checkpoint(path, {}, rng)

    def draws(rng):
        first, second = rng.spawn(2)
        return np.stack([one.random(3) for one in (first, second, second.spawn(1)[0], rng)])

    found = [draws(load_checkpoint(path)[1]) for _ in range(2)]
    np.testing.assert_array_equal(found, [draws(rng)] * 2)


def test_checkpoints_from_before_seeds_were_kept_are_still_read(tmp_path):
    rng = np.random.default_rng(3)
    np.savez(tmp_path / "x.npz", **{"::rng": np.array(json.dumps(rng.bit_generator.state))})
    _, loaded = load_checkpoint(tmp_path / "x.npz")
    np.testing.assert_array_equal(loaded.random(5), rng.random(5))


names = st.text(st.sampled_from(":a.npy/\\\0 é"), max_size=6) | st.text(max_size=3)


@given(st.dictionaries(names, st.dictionaries(names, st.integers(0, 9), max_size=3), max_size=3))
def test_names_come_back_or_are_refused(tmp_path_factory, sections):
    path = tmp_path_factory.getbasetemp() / "names.npz"
    path.unlink(missing_ok=True)
    try:
        save_checkpoint(path, sections)
    except ValueError as error:
        assert str(error).startswith("sections") and not path.exists()
        return
    assert load_checkpoint(path) == (sections, None)


@pytest.mark.parametrize("section, name", [("a:b", ":x"), ("b.npy", "a.npy.b"), ("rng", "rng"), ("x", "a::b")])
def test_odd_names_that_a_file_can_give_back_are_taken(section, name, tmp_path):
    sections = {section: {name: 1}}
    save_checkpoint(tmp_path / "x.npz", sections)
    assert load_checkpoint(tmp_path / "x.npz") == (sections, None)


@pytest.mark.parametrize(
    "section, name", [("a:", "b"), ("a::b", "c"), ("", "rng"), ("a", ""), ("a", "x.npy"), ("a", 1)]
)
def test_names_that_a_file_cannot_give_back_are_refused(section, name, tmp_path):
    with pytest.raises(ValueError, match="^sections"):
        save_checkpoint(tmp_path / "x.npz", {section: {name: np.ones(2)}})
    assert not list(tmp_path.iterdir())


def test_a_failed_save_leaves_the_last_one(tmp_path):
    save_checkpoint(tmp_path / "x.npz", {"params": {"a": np.ones(3)}})
    with pytest.raises(ValueError, match="expected numbers or text, got dtype object"):
        save_checkpoint(tmp_path / "x.npz", {"params": {"a": np.array([{}], dtype=object)}})
    np.testing.assert_array_equal(load_checkpoint(tmp_path / "x.npz")[0]["params"]["a"], np.ones(3))


def test_other_archives_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.ones(3))
    with pytest.raises(ValueError, match="expected a checkpoint"):
        load_checkpoint(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", **{"params::a": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle"):
        load_checkpoint(tmp_path / "y.npz")


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_damaged_files_are_refused(tmp_path, kept):
    path = tmp_path / "x.npz"
    save_checkpoint(path, {"params": {"a": np.random.default_rng(0).random(1000)}}, np.random.default_rng(1))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(ValueError, match="path: expected a checkpoint"):
        load_checkpoint(path)


def test_other_files_are_refused_and_missing_ones_missed(tmp_path):
    np.save(tmp_path / "x.npy", np.ones(3))
    np.savez(tmp_path / "y.npz", **{"::rng": np.array('{"bit_generator": "Dice"}')})
    for name in ("x.npy", "y.npz"):
        with pytest.raises(ValueError, match="path: expected a checkpoint"):
            load_checkpoint(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "z.npz")
