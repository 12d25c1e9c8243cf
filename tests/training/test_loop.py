"""The loop: budgets, resuming to the same bits, scores, checkpoints, and what becomes of a loss that is not finite."""

import functools
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.nn import adamw, cnn, load_checkpoint, muon, save_checkpoint, whitened_init
from refimpl.training import airbench, classification, moco, simclr, supervised_contrastive, train, triplet
from refimpl.validation import check_array

from .small import CLASSES, PROTOTYPES, assert_same_bits, draw_labelled, draw_pairs, draw_view, encoder

METHODS = {
    "simclr": lambda **loop: simclr(draw_pairs, *encoder(), **loop),
    "moco": lambda **loop: moco(draw_pairs, *encoder(), **{"queue": 64, "groups": 2, **loop}),
    "simclr by muon": lambda **loop: simclr(draw_pairs, *encoder(), **{"rule": muon, **loop}),
    "moco by muon": lambda **loop: moco(draw_pairs, *encoder(), **{"rule": muon, "queue": 64, "groups": 2, **loop}),
    "supervised_contrastive": lambda **loop: supervised_contrastive(draw_labelled, *encoder(), **loop),
    "supervised_contrastive by muon": lambda **loop: supervised_contrastive(
        draw_labelled, *encoder(), **{"rule": muon, **loop}
    ),
    "triplet": lambda **loop: triplet(draw_labelled, *encoder(), **loop),
    "classification": lambda **loop: classification(draw_labelled, *encoder(), classes=CLASSES, **loop),
    "airbench": lambda **loop: airbench(
        lambda rng, step: draw_labelled(rng),
        *whitened_init(PROTOTYPES, widths=(8, 16), seed=0),
        classes=CLASSES,
        **loop,
    ),
}
# what the checkpoints of each method are told apart by, with values other than METHODS has
SETTINGS = {"learning_rate": 0.03, "weight_decay": 0.03}
BY_COSINE = {**SETTINGS, "warmup": 0.3}
CHANGES = {
    "simclr": {**BY_COSINE, "temperature": 0.3, "rule": muon, "encoder": cnn},
    "moco": {**BY_COSINE, "temperature": 0.3, "momentum": 0.3, "groups": 1, "rule": muon, "encoder": cnn},
    "simclr by muon": {"rule": adamw},
    "moco by muon": {"rule": adamw},
    "supervised_contrastive": {**BY_COSINE, "temperature": 0.3, "rule": muon, "encoder": cnn},
    "supervised_contrastive by muon": {"rule": adamw},
    "triplet": {**BY_COSINE, "margin": 0.3},
    "classification": {**SETTINGS, "momentum": 0.3, "label_smoothing": 0.3, "rise": 0.3, "average": 0.3},
    "airbench": {**SETTINGS, "momentum": 0.3, "label_smoothing": 0.3, "rise": 0.3},
}


class Cut(Exception):
    """The run is cut off here."""


def cut_after(steps):
    def progress(share, done, loss):
        if done == steps:
            raise Cut

    return progress


def walk(run, rng, share):
    """A training without an encoder: a random walk, whose loss is where it stands."""
    position = run["walker"]["position"] + rng.standard_normal()
    return {"walker": {"position": position}}, float(position)


WALKER = {"walker": {"position": np.zeros(())}}


@pytest.mark.parametrize("method", ["simclr", "moco", "supervised_contrastive"])
def test_the_rule_is_what_updates_encoder_and_head(method):
    by_adamw, by_muon = (METHODS[name](steps=1, seed=3) for name in (method, f"{method} by muon"))
    for section in ("params", "head"):
        first, second = getattr(by_adamw, section), getattr(by_muon, section)
        for name, array in first.items():
            assert np.array_equal(array, second[name]) == (array.ndim < 2), name


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_was_cut_off_goes_on_to_the_same_bits(method, tmp_path):
    whole = METHODS[method](steps=7, seed=3)
    path = tmp_path / "run.npz"
    with pytest.raises(Cut):
        METHODS[method](steps=7, seed=3, checkpoint=path, save_seconds=0, progress=cut_after(4))
    seen = []
    resumed = METHODS[method](steps=7, seed=3, checkpoint=path, progress=lambda *a: seen.append(a[1]))
    assert seen == [5, 6, 7]
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    for section in ("params", "state", "head"):
        assert_same_bits(getattr(resumed, section), getattr(whole, section))


def test_a_finished_run_is_read_and_not_repeated(tmp_path):
    first = train(WALKER, walk, seed=0, steps=5, checkpoint=tmp_path / "run.npz")
    again = train(WALKER, lambda *a: 1 / 0, seed=0, steps=5, checkpoint=tmp_path / "run.npz")
    np.testing.assert_array_equal(first.losses, again.losses)


def test_minutes_become_steps_that_give_the_same_bits(tmp_path):
    timed = train(WALKER, walk, seed=1, minutes=1 / 6000, checkpoint=tmp_path / "run.npz")
    counted = train(WALKER, walk, seed=1, steps=len(timed.losses))
    np.testing.assert_array_equal(timed.losses, counted.losses)
    assert load_checkpoint(tmp_path / "run.npz")[0]["loop"]["steps planned"] == len(timed.losses)


def test_a_plan_of_minutes_is_kept_over_an_interruption(tmp_path):
    path, shares = tmp_path / "run.npz", []
    with pytest.raises(Cut):
        train(WALKER, walk, seed=1, minutes=1 / 6000, checkpoint=path, save_seconds=0, progress=cut_after(3))
    planned = load_checkpoint(path)[0]["loop"]["steps planned"]
    train(WALKER, walk, seed=1, minutes=1, checkpoint=path, progress=lambda *a: shares.append(a[0]))
    assert len(shares) == planned - 3 and shares[-1] == 1


def test_shares_and_scores():
    shares = []

    def step(run, rng, share):
        shares.append(share)
        return walk(run, rng, share)

    run = train(WALKER, step, seed=0, steps=8, evaluate=lambda run: float(run["walker"]["position"]), evaluations=4)
    assert shares == [i / 8 for i in range(8)]
    assert run.scores[:, 0].tolist() == [2, 4, 6, 8]
    np.testing.assert_allclose(run.scores[:, 1], run.losses[[1, 3, 5, 7]], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(bad, tmp_path):
    def breaks(run, rng, share):
        run, loss = walk(run, rng, share)
        return (run, loss) if share < 0.5 else ({"walker": {"position": np.array(np.nan)}}, bad)

    with pytest.raises(FloatingPointError, match="at step 4"):
        train(WALKER, breaks, seed=0, steps=8, checkpoint=tmp_path / "run.npz", save_seconds=0)
    sections, _ = load_checkpoint(tmp_path / "run.npz")
    assert np.isfinite(sections["walker"]["position"]) and sections["loop"]["steps done"] == 4


def test_parameters_that_are_not_finite_replace_no_good_checkpoint(tmp_path):
    def breaks(run, rng, share):
        run, loss = walk(run, rng, share)
        return (run, loss) if share < 0.5 else ({"walker": {"position": np.array(np.nan)}}, loss)

    with pytest.raises(FloatingPointError, match="walker: position"):
        train(WALKER, breaks, seed=0, steps=8, checkpoint=tmp_path / "run.npz", save_seconds=0)
    assert load_checkpoint(tmp_path / "run.npz")[0]["loop"]["steps done"] == 4


def test_checkpoints_of_another_training_are_refused(tmp_path):
    path = tmp_path / "run.npz"
    train(WALKER, walk, seed=0, steps=3, checkpoint=path)
    for how in ({"seed": 1, "steps": 3}, {"seed": 0, "steps": 4}):
        with pytest.raises(ValueError, match="checkpoint: expected seed"):
            train(WALKER, walk, checkpoint=path, **how)
    with pytest.raises(ValueError, match="'walker'"):
        train({"walker": {"position": np.zeros(2)}}, walk, seed=0, steps=3, checkpoint=path)
    with pytest.raises(ValueError, match="exactly one"):
        train(WALKER, walk, seed=0)


def test_what_a_training_is_about_tells_arrays_and_partial_functions_apart(tmp_path):
    def about(momentum, size):
        return {"rule": functools.partial(muon, momentum=momentum), "mean": np.arange(size), "folder": tmp_path}

    train(WALKER, walk, seed=0, steps=3, checkpoint=tmp_path / "run.npz", about=about(0.9, 3))
    train(WALKER, walk, seed=0, steps=3, checkpoint=tmp_path / "run.npz", about=about(0.9, 3))
    for other, name in ((about(0.8, 3), "rule"), (about(0.9, 4), "mean")):
        with pytest.raises(ValueError, match=f"training with {name}"):
            train(WALKER, walk, seed=0, steps=3, checkpoint=tmp_path / "run.npz", about=other)
    with pytest.raises(ValueError, match="^about: expected"):
        train(WALKER, walk, seed=0, steps=3, about={"rule": object()})


def test_checkpoints_of_a_training_about_something_else_are_refused(tmp_path):
    path, of = tmp_path / "run.npz", {"pictures": 60, "rate": np.float32(0.5), "views": (1, 2), "rule": muon}
    first = train(WALKER, walk, seed=0, steps=3, about=of, checkpoint=path)
    again = train(WALKER, walk, seed=0, steps=3, about=dict(reversed(of.items())), checkpoint=path)
    np.testing.assert_array_equal(again.losses, first.losses)
    for name, value in {"pictures": None, "rate": np.float32(0.25), "views": (2, 1), "rule": adamw}.items():
        with pytest.raises(ValueError, match=f"checkpoint: expected one of a training with {name} "):
            train(WALKER, walk, seed=0, steps=3, about={**of, name: value}, checkpoint=path)
    for name in of:  # there and not here
        with pytest.raises(ValueError, match=f"with {name} None, got "):
            train(WALKER, walk, seed=0, steps=3, about={k: v for k, v in of.items() if k != name}, checkpoint=path)
    with pytest.raises(ValueError, match="with sorted True, got None"):
        train(WALKER, walk, seed=0, steps=3, about={**of, "sorted": True}, checkpoint=path)


@pytest.mark.parametrize("method", METHODS)
def test_checkpoints_with_other_settings_are_refused(method, tmp_path):
    how = {"steps": 1, "seed": 3, "about": {"pictures": "small"}, "checkpoint": tmp_path / "run.npz"}
    first = METHODS[method](**how)
    again = METHODS[method](**how, progress=lambda *a: pytest.fail("a step of a training that was done"))
    np.testing.assert_array_equal(again.losses, first.losses)
    for name, value in {**CHANGES[method], "about": {"pictures": "large"}}.items():
        name_there = "pictures" if name == "about" else name
        with pytest.raises(ValueError, match=f"checkpoint: expected one of a training with {name_there} "):
            METHODS[method](**{**how, name: value})
    assert METHODS[method](**how).losses == first.losses  # nothing was written over it


@pytest.mark.parametrize("method", ["simclr", "moco"])
def test_a_training_that_diverges_ends_with_a_floating_point_error_and_a_good_checkpoint(method, tmp_path):
    path = tmp_path / "run.npz"
    with pytest.raises(FloatingPointError):
        METHODS[method](steps=8, learning_rate=1e30, checkpoint=path, save_seconds=0)
    sections, rng = load_checkpoint(path)
    assert 1 <= sections["loop"]["steps done"] < 8 and rng is not None
    for section, values in sections.items():
        if section != "loop":
            assert all(np.isfinite(value).all() for value in values.values()), section


@pytest.mark.parametrize("method", [simclr, moco])
def test_pictures_that_are_not_finite_are_the_callers_own(method):
    """In the first step nothing can have diverged: a ValueError, as for any other bad argument."""

    def draw(rng):
        return np.full_like(PROTOTYPES, np.nan), draw_view(rng)

    with pytest.raises(ValueError, match="expected finite values, got nan"):
        method(draw, *encoder(), steps=2)


def test_numbers_that_stop_being_finite_are_divergence(tmp_path):
    """What a check within the step finds, from the second step on; the first error stays as its cause."""

    def breaks(run, rng, share):
        run, loss = walk(run, rng, share)
        check_array(np.array([loss if share < 0.5 else np.inf]), "z", finite=True)
        return run, loss

    with pytest.raises(FloatingPointError, match="at step 4: z: expected finite.*smaller learning_rate") as caught:
        train(WALKER, breaks, seed=0, steps=8, checkpoint=tmp_path / "run.npz", save_seconds=0)
    assert isinstance(caught.value.__cause__, ValueError)
    assert load_checkpoint(tmp_path / "run.npz")[0]["loop"]["steps done"] == 4


def test_numbers_that_are_not_finite_in_an_evaluation_are_divergence():
    """A step can leave parameters that are not finite behind a finite loss; an evaluation sees them first."""

    def evaluate(run):
        check_array(run["walker"]["position"] * np.nan, "z", finite=True)

    with pytest.raises(FloatingPointError, match="after step 1: z: expected finite") as caught:
        train(WALKER, walk, seed=0, steps=8, evaluate=evaluate, evaluations=4)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("seed", [None, -1, 2**63, 0.5, [0, 1], "1"])
def test_seeds_that_a_checkpoint_cannot_hold_are_refused_at_the_start(seed):
    with pytest.raises(ValueError, match="seed: expected an integer"):
        train(WALKER, lambda *a: pytest.fail("a step was taken"), seed=seed, steps=3)


def test_the_largest_seed_is_saved_and_found(tmp_path):
    first = train(WALKER, walk, seed=np.uint64(2**63 - 1), steps=2, checkpoint=tmp_path / "run.npz")
    again = train(WALKER, walk, seed=2**63 - 1, steps=2, checkpoint=tmp_path / "run.npz")
    np.testing.assert_array_equal(first.losses, again.losses)


def test_a_rehearsal_can_diverge_too():
    def breaks(run, rng, share):
        check_array(run["walker"]["position"], "z", finite=True)
        return {"walker": {"position": np.array(np.inf)}}, 1.0

    with pytest.raises(FloatingPointError, match="at step 1: z: expected finite"):
        train(WALKER, breaks, seed=0, minutes=1)


class Clock:
    """The loop's time, which passes only in a step: `first` seconds in the first one, `cost` in all others."""

    def __init__(self, first, cost):
        self.now, self.next, self.cost, self.steps = 0.0, first, cost, 0

    def step(self, run, rng, share):
        self.now, self.next, self.steps = self.now + self.next, self.cost, self.steps + 1
        return walk(run, rng, share)

    def ticking(self):
        return mock.patch("refimpl.training.loop.time", SimpleNamespace(perf_counter=lambda: self.now))


@settings(max_examples=40)
@given(minutes=st.floats(1, 10), first=st.floats(0, 20), cost=st.floats(0.5, 5))
def test_a_budget_in_minutes_is_used_and_kept(minutes, first, cost):
    """Compilation and rehearsal included, on a machine of constant speed."""
    clock = Clock(first, cost)
    with clock.ticking():
        run = train(WALKER, clock.step, seed=0, minutes=minutes)
    assert 60 * minutes - 2.001 * cost <= clock.now <= 60 * minutes + 1e-6
    assert run.seconds == pytest.approx(len(run.losses) * cost)  # without the rehearsal
    assert clock.steps - len(run.losses) <= 5 + 0.02 * 60 * minutes / cost


@settings(max_examples=20)
@given(cuts=st.sets(st.integers(1, 11), min_size=1, max_size=3), n=st.integers(1, 12), cost=st.floats(0.5, 5))
def test_scores_and_seconds_of_before_each_interruption_are_kept(tmp_path_factory, cuts, n, cost):
    how = {"seed": 3, "steps": 12, "evaluations": n, "evaluate": lambda run: run["walker"]["position"]}
    whole, clock = train(WALKER, walk, **how), Clock(cost, cost)
    how["checkpoint"] = tmp_path_factory.mktemp("run") / "run.npz"
    with clock.ticking():
        for cut in sorted(cuts):
            with pytest.raises(Cut):
                train(WALKER, clock.step, **how, save_seconds=0, progress=cut_after(cut))
            clock.now += 1000  # nobody trains meanwhile
        resumed = train(WALKER, clock.step, **how)
    np.testing.assert_array_equal(resumed.scores, whole.scores)
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    assert resumed.seconds == pytest.approx(12 * cost)


@settings(max_examples=20)
@given(steps=st.integers(1, 20), each=st.integers(1, 6))
def test_a_checkpoint_is_written_every_so_many_seconds_and_at_the_end(tmp_path_factory, steps, each):
    clock, saved = Clock(1, 1), []

    def save(path, sections, rng):
        saved.append(int(sections["loop"]["steps done"]))
        save_checkpoint(path, sections, rng)

    path = tmp_path_factory.mktemp("run") / "run.npz"
    with clock.ticking(), mock.patch("refimpl.training.loop.save_checkpoint", save):
        train(WALKER, clock.step, seed=0, steps=steps, checkpoint=path, save_seconds=each)
    assert saved == sorted({*range(each, steps + 1, each), steps})
    assert load_checkpoint(path)[0]["loop"]["steps done"] == steps


def test_a_step_that_spawns_generators_goes_on_to_the_same_bits(tmp_path):
    """NumPy's own way of handing randomness on: what was spawned before counts."""

    def step(run, rng, share):
        return walk(run, rng.spawn(1)[0], share)

    whole = train(WALKER, step, seed=0, steps=7)
    with pytest.raises(Cut):
        train(WALKER, step, seed=0, steps=7, checkpoint=tmp_path / "run.npz", save_seconds=0, progress=cut_after(4))
    resumed = train(WALKER, step, seed=0, steps=7, checkpoint=tmp_path / "run.npz")
    np.testing.assert_array_equal(resumed.losses, whole.losses)


def test_the_name_of_the_checkpoints_own_section_is_refused_at_the_start():
    with pytest.raises(ValueError, match="sections: expected none of the name 'loop'"):
        train({"loop": {}}, lambda *a: pytest.fail("a step was taken"), seed=0, steps=3)
