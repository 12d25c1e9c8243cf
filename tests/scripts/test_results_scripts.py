"""The scripts of results, whole and in this process, on a few pictures and with small networks."""

import argparse
import ast
import contextlib
import importlib
import io
import json
import os
import re
import shlex
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from refimpl.data import omniglot
from refimpl.nn import (
    cnn_embedder,
    cnn_init,
    fold_batch_norm,
    gradient_check,
    load_checkpoint,
    mlp_init,
    pretrained,
    resnet_init,
    save_checkpoint,
    whitened_init,
)

from .tiny_data import drawing, save, write_public_data

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_public_data(folder)
    return folder


@pytest.fixture
def run(data, tmp_path, monkeypatch):
    """run(name, *arguments, **constants) -> the record; constants of the script's module are replaced.

    It is written to a path that is given, or, with `default`, to that one, where the script must put it by itself.
    """
    monkeypatch.setenv("REFIMPL_DATA", str(data))
    monkeypatch.setenv("REFIMPL_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def run_script(name, *arguments, default=None, **constants):
        module = importlib.import_module(name)
        for constant, value in constants.items():
            monkeypatch.setattr(module, constant, value)
        path = tmp_path / (default or "record.json")
        monkeypatch.chdir(tmp_path)
        given = [] if default else ["--json", str(path)]
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *given, *map(str, arguments)])
        module.main()
        assert path.with_suffix(".png").stat().st_size > 1000
        assert not default or [p.name for p in path.parent.glob("*.json")] == [path.name]
        record = json.loads(path.read_text())
        assert {"command", "environment", "seed", "results"} <= record.keys()
        assert record["environment"]["cores"] >= 1
        return record["results"]

    return run_script


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


def measures_are_shares(table):
    return all(0 <= value <= 1 for methods in table.values() for m in methods.values() for value in m.values())


def test_the_packages_encoder_is_trained_written_and_judged(run, tmp_path, capsys):
    small = {"WIDTHS": (8, 16), "EMBEDDING": 16, "PROJECTION": 8, "QUERIES": 20}
    arguments = ["--steps", 4, "--items", 32, "--pictures", 60, "--checkpoint", tmp_path]
    first = run("train_pretrained", *arguments, "--weights", tmp_path / "a.npz", **small)
    assert set(first["retrieval"]) == {"clothing", "CIFAR-10", "catalogue, families left out", "Omniglot"}
    methods = {"raw pixels", "colour histogram", "random encoder", "pretrained encoder"}
    assert all(set(table) == methods for table in first["retrieval"].values())
    assert measures_are_shares(first["retrieval"])
    assert first["steps"] == 4 and first["training"]["training FLOP"] > 1e6
    written = (tmp_path / "pretrained.npz").stat().st_mtime_ns
    again = run("train_pretrained", *arguments, "--weights", tmp_path / "b.npz", **small)  # from the checkpoint
    assert (tmp_path / "pretrained.npz").stat().st_mtime_ns == written
    assert again["retrieval"] == first["retrieval"]
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert pretrained(tmp_path / "a.npz").params["head/weight"].shape == (16, 16)
    with pytest.raises(SystemExit):  # the checkpoint is of fewer pictures
        run("train_pretrained", *arguments[:4], *arguments[6:], **small)
    assert "training with pictures None, got 60" in capsys.readouterr().err
    assert (tmp_path / "pretrained.npz").stat().st_mtime_ns == written


def test_a_source_left_out_is_not_trained_on(run):
    small = {"WIDTHS": (8,), "EMBEDDING": 8, "PROJECTION": 8, "QUERIES": 20}
    arguments = ["--steps", 2, "--items", 32, "--pictures", 30, "--without", "clothing"]
    place = "docs/results/train_pretrained_without_clothing_of_30_pictures.json"
    found = run("train_pretrained", *arguments, default=place, **small)
    assert set(found["sources"]) == {"cifar10", "catalogue"} and "clothing" in found["retrieval"]
    assert np.isfinite(found["mAP on the way, held-out training pictures"]).all()


def test_families_left_out_are_never_rendered_for_training(run, script):
    module = script("train_pretrained")
    args = type("Args", (), {"items": 64, "seed": 0, "pictures": 20, "without": None})
    chosen, _ = module.sources(args)
    colours = 10
    assert set(np.unique(chosen["catalogue"].kind // colours)) == set(range(16)) - set(module.LEFT_OUT)


def test_the_level_part_of_the_schedule_does_not_depend_on_the_number_of_steps(script):
    rate = script("train_pretrained").learning_rate
    assert [rate(done, 1000) for done in range(700)] == [rate(done, 2000) for done in range(700)]
    rates = np.array([rate(done, 1000) for done in range(1001)])
    assert rates[0] > 0 and rates.max() == rates[300] and rates[1000] == 0
    assert (np.diff(rates[700:]) < 0).all() and (np.diff(rates[:60]) > 0).all()


def test_all_losses_on_clothes(run, tmp_path):
    arguments = ["--steps", 2, "--batch", 20, "--seeds", 2, "--checkpoint", tmp_path]
    found = run("clothing_losses", *arguments, WIDTHS=(8, 8), EMBEDDING=16)
    table = found["test split"]
    contenders = script_contenders()
    assert set(table) == {"raw pixels", "colour histogram", "random encoder", *contenders}
    for name in contenders:
        assert len(table[name]["map"]["by seed"]) == 2
        assert table[name]["map"]["mean"] == pytest.approx(np.mean(table[name]["map"]["by seed"]))
        assert table[name]["map"]["spread"] == pytest.approx(np.std(table[name]["map"]["by seed"], ddof=1))
    again = run("clothing_losses", *arguments, WIDTHS=(8, 8), EMBEDDING=16)
    assert again["test split"] == table


def test_a_checkpoint_of_other_batches_is_refused(run, tmp_path, capsys):
    arguments = ["--losses", "SupCon", "--steps", 1, "--seeds", 1, "--checkpoint", tmp_path]
    run("clothing_losses", *arguments, "--batch", 20, WIDTHS=(8, 8), EMBEDDING=16)
    with pytest.raises(SystemExit):
        run("clothing_losses", *arguments, "--batch", 40, WIDTHS=(8, 8), EMBEDDING=16)
    assert "training with batch 40, got 20" in capsys.readouterr().err
    (tmp_path / "SupCon-0.npz").rename(tmp_path / "n-pair-0.npz")
    with pytest.raises(SystemExit):
        run("clothing_losses", *arguments, "--batch", 20, "--losses", "n-pair", WIDTHS=(8, 8), EMBEDDING=16)
    assert "training with loss n-pair, got SupCon" in capsys.readouterr().err


def test_a_checkpoint_of_other_views_is_refused(run, tmp_path, capsys):
    arguments = ["--losses", "SupCon", "--steps", 1, "--batch", 20, "--seeds", 1, "--checkpoint", tmp_path]
    small = {"WIDTHS": (8, 8), "EMBEDDING": 16}
    run("clothing_losses", *arguments, **small)
    for constant, value, words in (("VIEWS", {"crop_area": (0.9, 1.0)}, "views"), ("MARGIN", 0.7, "margin")):
        with pytest.raises(SystemExit), pytest.MonkeyPatch.context() as patch:
            patch.setattr(importlib.import_module("clothing_losses"), constant, value)
            run("clothing_losses", *arguments, **small)
        assert f"training with {words}" in capsys.readouterr().err


def test_a_training_from_a_checkpoint_took_what_it_took(run, tmp_path):
    arguments = ["--losses", "SupCon", "--steps", 2, "--batch", 20, "--seeds", 1, "--checkpoint", tmp_path]
    run("clothing_losses", *arguments, WIDTHS=(8, 8), EMBEDDING=16)
    sections, rng = load_checkpoint(tmp_path / "SupCon-0.npz")
    sections["loop"]["seconds"] = np.array(700.0)
    save_checkpoint(tmp_path / "SupCon-0.npz", sections, rng)
    found = run("clothing_losses", *arguments, WIDTHS=(8, 8), EMBEDDING=16)
    assert found["seconds"]["SupCon, seed 0"] >= 700


def test_what_a_training_is_about(script):
    """Options of the data and the budget, and none that `train` compares by itself, or that says which are done."""
    results = script("results")
    kept = {"batch": 20, "pictures": None, "validate": True, "without": "clothing", "minutes": 3}
    changing = {"checkpoint": "out", "json": "a.json", "seed": 1, "seeds": 2, "steps": 5, "weights": "w"}
    which = {name: ["one"] for name in ("methods", "losses", "claims", "sets")} | {"ablations": "moco"}
    assert results.about(argparse.Namespace(**kept, **changing, **which)) == kept


def script_contenders():
    return importlib.import_module("clothing_losses").CONTENDERS


def test_gradients_of_what_the_losses_do_with_a_batch(script):
    """Selecting rows, grouping and normalising: each contender against central differences, its draws held fixed."""
    module = script("clothing_losses")
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 4)
    for name, contender in module.CONTENDERS.items():
        z = rng.standard_normal((16, 5))

        def function(z, contender=contender):
            value, dz = contender.loss(z, labels, np.random.default_rng(1))
            return np.asarray(value), lambda dy: (dy * dz,)

        errors = gradient_check(function, (z,))
        assert max(errors.direction, errors.element) < 1e-5, name


def test_the_books_claims(run, script, tmp_path, monkeypatch):
    monkeypatch.setattr(script("claim_focal"), "TRAIN_RARE", 5)
    monkeypatch.setattr(script("claim_focal"), "TEST_RARE", 8)
    monkeypatch.setattr(script("claim_distances"), "DIMENSIONS", (4, 32))
    arguments = ["--steps", 2, "--items", 32, "--seeds", 2, "--checkpoint", tmp_path]
    found = run("book_claims", *arguments)
    claims = importlib.import_module("book_claims").CLAIMS
    assert set(claims) <= set(found)
    for name in claims:
        assert found[name]["verdict"].startswith(("Held", "Did not hold"))
        assert found[name]["verdict"] == claims[name].verdict(found[name]["numbers"])
    assert run("book_claims", *arguments) == found  # from what was kept
    with pytest.raises(SystemExit):
        run("book_claims", *arguments[:2], "--items", 48, *arguments[4:])


@pytest.mark.parametrize("claim", ["negatives", "supervision"])
def test_a_checkpoint_of_another_shop_is_refused(run, tmp_path, capsys, claim):
    arguments = ["--claims", claim, "--steps", 1, "--items", 16, "--checkpoint", tmp_path]
    run("book_claims", *arguments, "--seeds", 2)
    (tmp_path / f"claims-{claim}.json").unlink()  # the numbers, which would be refused before the trainings
    for changed, words in (
        (["--items", 20, "--seeds", 2], "training with products 20, got 16"),
        (["--seed", 1, "--seeds", 2], "training with seed of the catalogue 1, got 0"),  # seed 1 was trained on shop 0
    ):
        with pytest.raises(SystemExit):
            run("book_claims", *arguments, *changed)
        assert words in capsys.readouterr().err


def test_the_record_of_some_claims_does_not_replace_that_of_all(run, script, monkeypatch):
    monkeypatch.setattr(script("claim_focal"), "TRAIN_RARE", 5)
    arguments = ["--claims", "focal", "--steps", 1, "--seeds", 2]
    found = run("book_claims", *arguments, default="docs/results/book_claims_focal.json")
    assert "focal" in found and "distances" not in found


def test_numbers_kept_of_other_constants_are_refused(run, script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script("claim_focal"), "TRAIN_RARE", 5)
    arguments = ["--claims", "focal", "--steps", 1, "--seeds", 2, "--checkpoint", tmp_path]
    found = run("book_claims", *arguments)
    assert run("book_claims", *arguments) == found
    monkeypatch.setattr(script("claim_focal"), "SHIFT", 3.0)
    with pytest.raises(SystemExit):
        run("book_claims", *arguments)
    assert "measured with" in capsys.readouterr().err


def test_a_claim_beats_by_more_than_the_differences_of_its_seeds(script):
    """All that the seeds have in common is no noise; and a row that is better in the mean alone is not better."""
    beats = script("claims").beats
    assert beats([0.07, 0.12, 0.17], [0.05, 0.10, 0.15]) and not beats([0.05, 0.10, 0.15], [0.07, 0.12, 0.17])
    assert not beats([0.3, 0.1, 0.2], [0.1, 0.2, 0.1])


def test_both_sets_of_the_claim_on_focal_loss_are_as_imbalanced_as_they_are_called(script):
    module = script("claim_focal")
    for imbalance in module.IMBALANCES:
        for rare in (module.TRAIN_RARE, module.TEST_RARE):
            x, target = module.points(imbalance, rare, np.random.default_rng(0))
            assert len(x) == len(target) and np.bincount(target).tolist() == [imbalance * rare, rare]


def test_the_verdict_on_negatives_follows_the_numbers(script):
    verdict = script("claim_negatives").verdict
    counts = [1, 16, 127]
    rising = {"negatives": counts, "map": [[0.2, 0.22], [0.38, 0.4], [0.4, 0.42]]}
    assert verdict(rising) == "Held: mAP 0.210 with 1 and 0.410 with 127; 16 negatives already bring 90% of the gain."
    flat = {"negatives": counts, "map": [[0.2, 0.3], [0.25, 0.25], [0.21, 0.4]]}
    assert verdict(flat).startswith("Did not hold") and "did not change" in verdict(flat)
    falling = {"negatives": counts, "map": [[0.4, 0.41], [0.3, 0.3], [0.2, 0.2]]}
    assert verdict(falling).startswith("Did not hold") and "fell" in verdict(falling)


def test_the_verdict_on_distances_follows_the_numbers(script):
    verdict = script("claim_distances").verdict

    def numbers(euclidean):
        one = {name: [[0.9, 0.9], [0.9, 0.9]] for name in ("cosine", "dot", "Euclidean")}
        varied = {**one, "Euclidean": [[value] * 2 for value in euclidean]}
        return {"dimensions": [2, 64], "map": {"varied lengths": varied, "length 1": one}}

    assert verdict(numbers([0.88, 0.5])).startswith("Held only without normalisation")
    assert "and the gap grows" in verdict(numbers([0.88, 0.5]))
    assert "does not grow" in verdict(numbers([0.5, 0.5]))
    assert verdict(numbers([0.9, 0.9])).startswith("Did not hold")
    broken = numbers([0.88, 0.5])
    broken["map"]["length 1"]["Euclidean"][-1] = [0.4, 0.4]
    assert verdict(broken).startswith("Held: ") and "they still differ by 0.500" in verdict(broken)


def test_the_verdict_on_distances_takes_the_seeds_for_the_noise(script):
    verdict = script("claim_distances").verdict

    def numbers(first, last):
        """With a cosine of 0.9 in two seeds, the mAP by Euclidean distance in the first and the last dimension."""
        even = {s: [[0.9, 0.9], [0.9, 0.9]] for s in ("cosine", "dot", "Euclidean")}
        tables = {"varied lengths": {**even, "Euclidean": [first, last]}, "length 1": even}
        return {"dimensions": [2, 64], "map": tables}

    assert verdict(numbers([0.9, 0.9], [0.89, 0.91])).startswith("Did not hold")
    assert verdict(numbers([0.9, 0.9], [0.7, 0.9])).startswith("Did not hold")  # 0.1 behind, and the spread is 0.14
    assert "and the gap grows" in verdict(numbers([0.9, 0.9], [0.895, 0.895]))  # little, and without any noise
    assert "does not grow" in verdict(numbers([0.7, 0.9], [0.7, 0.7]))


def test_distances_rank_unit_vectors_alike_and_varied_ones_differently(script):
    module = script("claim_distances")
    for varied in (True, False):
        x, labels = module.vectors(64, varied, np.random.default_rng(0))
        got = {s: module.quality(x, labels, s, np.random.default_rng(0)) for s in module.SIMILARITIES}
        if varied:
            assert got["cosine"] > got["dot"] > got["Euclidean"]
        else:
            assert np.ptp(list(got.values())) < 1e-3


def test_the_verdict_on_supervision_follows_the_numbers(script):
    module = script("claim_supervision")
    table = {"labels": [[0.5, 0.52], [0.2, 0.22]], "clicks": [[0.4, 0.42], [0.3, 0.32]]}
    table |= {"clicks, debiased": [[0.41, 0.43], [0.31, 0.33]], module.ALONE: [[0.2, 0.22]]}

    def verdict(**changed):
        """With other rows without noise."""
        rows = {**table, **{name.replace("_", ", "): [row, table["clicks"][1]] for name, row in changed.items()}}
        alone = {module.ALONE: [changed["alone"]]} if "alone" in changed else {}
        return module.verdict({"noise": [0, 0.6], "map": {**rows, **alone}})

    assert verdict().startswith("Held: mAP is 0.210 by self-supervision") and "Without noise" not in verdict()
    assert "clicks, clicks, debiased still does better" in verdict()
    # better than all the others, but clicks are no better than self-supervision
    in_part = verdict(clicks=[0.1, 0.1], clicks_debiased=[0.1, 0.1], alone=[0.3, 0.32])
    assert in_part.startswith("Held in part: ") and "Without noise, self-supervision did better than clicks." in in_part
    near = verdict(labels=[0.41, 0.45])  # above clicks by less than the differences of the seeds
    assert near.startswith("Held in part: ")
    assert "Without noise, labels and debiased clicks could not be told apart." in near and near.count("Without") == 1
    raw = verdict(clicks=[0.48, 0.52])  # the better of the two kinds
    assert raw.startswith("Held in part: ") and "labels and clicks could not be told apart" in raw
    neither = verdict(labels=[0.3, 0.31], alone=[0.40, 0.44])
    assert neither.startswith("Did not hold: ") and "debiased clicks did better than labels." in neither
    assert "Without noise, debiased clicks and self-supervision could not be told apart." in neither


@pytest.mark.parametrize("name", ["negatives", "supervision", "distances", "focal"])
def test_the_recorded_verdicts_are_those_of_the_recorded_numbers(script, name):
    recorded = json.loads((SCRIPTS.parent / "docs" / "results" / "book_claims.json").read_text())["results"][name]
    assert script(f"claim_{name}").verdict(recorded["numbers"]) == recorded["verdict"]


def test_cross_entropy_had_learned_where_focal_loss_was_judged():
    """Else the record would compare who learns first, not what is learned."""
    recorded = json.loads((SCRIPTS.parent / "docs" / "results" / "book_claims.json").read_text())["results"]["focal"]
    table = recorded["numbers"]["average precision"]
    assert np.mean(table["cross-entropy"][-1]) > 0.75 * np.mean(table["weighted cross-entropy"][-1])


def test_noise_in_labels_and_clicks_is_what_it_says(script):
    module = script("claim_supervision")
    shop = module.make_shop(32, 0)
    item = shop.catalogue.item
    right = {}
    for noise in module.NOISE:
        found = {"labels": module.labelled_pairs(shop, noise, 0), **module.clicked_pairs(shop, noise, 0)}
        for source, pairs in found.items():
            assert np.isin(pairs, shop.train).all() and (pairs[:, 0] != pairs[:, 1]).all()
            right.setdefault(source, []).append(np.mean(item[pairs[:, 0]] == item[pairs[:, 1]]))
    for source, shares in right.items():
        assert shares[0] > shares[1] > shares[2], source
    assert right["labels"][0] == 1


def test_the_verdict_on_focal_loss_follows_the_numbers(script):
    module = script("claim_focal")
    table = {name: [[0.9, 0.9], [0.5, 0.52]] for name in module.LOSSES}
    numbers = {"imbalance": [1, 100], "average precision": table, "F1": table}
    assert module.verdict(numbers).startswith("Did not hold: at 1:100")
    within_noise = {**table, "focal, no alpha": [[0.9, 0.9], [0.51, 0.55]]}
    found = module.verdict({**numbers, "average precision": within_noise})
    assert found.startswith("Did not hold") and "which cannot be told apart" in found
    worse = {**table, **{name: [[0.9, 0.9], [0.3, 0.32]] for name in module.FOCAL}}
    found = module.verdict({**numbers, "average precision": worse})
    assert found.startswith("Did not hold") and "told apart" not in found
    better = {**table, "focal, no alpha": [[0.9, 0.9], [0.7, 0.72]]}
    assert module.verdict({**numbers, "average precision": better}).startswith("Held: at 1:100")


def test_cifar_self_supervised(run, tmp_path, capsys):
    arguments = ["--minutes", 0.001, "--pictures", 60, "--checkpoint", tmp_path]
    batches = {"simclr": (16, 3), "moco": (16, 2)}
    phases = {"simclr": ((17, 1, 4e-3),), "moco": ((17, 0.6, 1e-3), (25, 0.4, 5e-4))}
    widths = {"simclr": (8, 16), "moco": (8, 12)}
    found = run("train_cifar_self_supervised", *arguments, WIDTHS=widths, BATCHES=batches, PHASES=phases)
    assert {"random encoder 8-16", "random encoder 8-12", "simclr", "moco"} <= set(found)
    assert all(0 <= found[name]["linear"] <= 1 and 0 <= found[name]["kNN"] <= 1 for name in ("simclr", "moco"))
    for name in ("linear", "linear, 25 and 32 pixels"):
        assert 0 <= found["simclr"][f"{name}, mean with the mirror image"] <= 1
    for name, (pictures, views) in batches.items():
        assert found[name]["widths"] == list(widths[name])
        phases, of_a_step = found[name]["phases"], {"simclr": pictures * views, "moco": 2 * pictures}[name]
        assert found[name]["steps"] == sum(phase["steps"] for phase in phases)
        assert [score[0] for score in found[name]["kNN on the way"]][-1] == found[name]["steps"]
        for phase in phases:  # of MoCo's two views one is a key, through which nothing learns
            assert phase["training"]["pictures"] == of_a_step * phase["steps"]
        assert found[name]["training FLOP"] == sum(phase["training"]["training FLOP"] for phase in phases) > 0
    assert [phase["pixels"] for phase in found["moco"]["phases"]] == [17, 25]
    batches["simclr"] = (16, 2)
    with pytest.raises(SystemExit):
        run("train_cifar_self_supervised", *arguments, WIDTHS=widths, BATCHES=batches)
    assert "training with views of each 2, got 3" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["moco", "rules"])
def test_cifar_ablations(run, script, kind):
    module = script("train_cifar_self_supervised")
    few = {kind: dict(list(variants.items())[::3]) for kind, variants in module.ABLATIONS.items()}
    small = {"WIDTHS": {"simclr": (8, 16)}, "NARROW": (8, 16), "SMALL_BATCH": (16, 2), "BATCHES": {"simclr": (16, 3)}}
    arguments = ["--ablations", kind, "--minutes", 0.001, "--pictures", 60]
    place = f"docs/results/train_cifar_{kind}_ablations_of_60_pictures.json"
    found = run("train_cifar_self_supervised", *arguments, default=place, ABLATIONS=few, **small)
    assert set(found) >= {*few[kind], "random encoder 8-16"}
    for name in few[kind]:
        assert "linear" not in found[name] and 0 <= found[name]["kNN on the way"][-1][1] <= 1  # no test split
        rate = found[name]["phases"][0]["learning_rate"]
        assert kind == "moco" or name == f"{found[name]['rule']} {rate:g}"


def test_views_of_the_same_pictures_differ(script):
    images = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
    module = script("train_cifar_self_supervised")
    views = module.view_drawer(images, np.float32(0), np.float32(1), 5, 4, 21, 0.5)(np.random.default_rng(1))
    assert [view.shape for view in views] == [(5, 21, 21, 3)] * 4
    assert all(not np.array_equal(views[0], view) for view in views[1:])
    flat = np.full((9, 32, 32, 3), np.arange(9, dtype=np.uint8)[:, None, None, None] * 28)  # known by its brightness
    first, second = module.view_drawer(flat, np.float32(0), np.float32(1), 9, 2, 25, 0.5)(np.random.default_rng(1))
    assert np.corrcoef(first.mean((1, 2, 3)), second.mean((1, 2, 3)))[0, 1] > 0.5  # row i shows the same picture


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n=st.integers(1, 5), side=st.integers(1, 6), more=st.integers(0, 4), seed=st.integers(0, 2**32 - 1))
def test_a_square_of_each_picture_is_hidden(script, n, side, more, seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(1, 2, (n, side + more, side + more, 3))
    corners = rng.integers(0, more + 1, (2, n))
    hidden = x.copy()
    script("train_cifar_supervised").hide_squares(hidden, corners, side)
    for picture, found, top, left in zip(x, hidden, *corners):
        assert np.all(found[top : top + side, left : left + side] == 0)
        found[top : top + side, left : left + side] = picture[top : top + side, left : left + side]
        np.testing.assert_array_equal(found, picture)


def test_cifar_supervised(run, tmp_path, capsys):
    arguments = ["--minutes", 0.001, "--checkpoint", tmp_path]
    found = run("train_cifar_supervised", *arguments, "--pictures", 60, WIDTHS=(8, 16), BATCH=16)
    assert 0 <= found["accuracy"] <= 1 and found["split"] == "test" and found["training"]["training FLOP"] > 0
    for changed, constants, words in (
        (50, {}, "training with pictures 50, got 60"),
        (60, {"CUTOUT": 4}, "training with cutout 4, got 8"),
    ):
        with pytest.raises(SystemExit):
            run("train_cifar_supervised", *arguments, "--pictures", changed, WIDTHS=(8, 16), BATCH=16, **constants)
        assert words in capsys.readouterr().err


def test_cifar_as_vectors(script, data, tmp_path, monkeypatch):
    monkeypatch.setenv("REFIMPL_DATA", str(data))
    monkeypatch.setenv("REFIMPL_CACHE", str(tmp_path / "cache"))
    module, found = script("embed_cifar"), {}
    for views in (1, 3):
        path = tmp_path / f"{views}.npy"
        arguments = ["--out", str(path), "--views", str(views), "--pictures", "7"]
        monkeypatch.setattr(sys, "argv", ["embed_cifar.py", *arguments])
        module.main()
        found[views] = np.load(path)
    n = len(found[1])
    assert n == 14 and found[3].shape == (3 * n, found[1].shape[1]) and found[1].dtype == np.float32
    assert np.array_equal(found[3][:n], found[1])
    np.testing.assert_allclose(np.linalg.norm(found[3], axis=1), 1, rtol=1e-5)
    views = found[3].reshape(3, n, -1)
    assert all(np.abs(views[i] - views[j]).max(axis=1).min() > 1e-3 for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize(
    "name, given, place",
    [
        ("clothing_losses", ["--losses", "SupCon", "n-pair"], "clothing_losses_some"),
        ("omniglot_one_shot", ["--sets", "background_small2"], "omniglot_one_shot_background_small2"),
        ("train_cifar_self_supervised", ["--methods", "simclr"], "train_cifar_simclr"),
        ("train_cifar_supervised", ["--pictures", 100], "train_cifar_supervised_of_100_pictures"),
        (
            "train_cifar_self_supervised",
            ["--methods", "moco", "--pictures", 7],
            "train_cifar_moco_of_7_pictures",
        ),
        ("train_pretrained", ["--without", "cifar10"], "train_pretrained_without_cifar10"),
        ("train_cifar_self_supervised", ["--methods", "moco", "simclr"], "train_cifar_self_supervised"),
        ("omniglot_one_shot", [], "omniglot_one_shot"),
    ],
)
def test_the_record_of_a_part_does_not_replace_that_of_the_whole(script, tmp_path, monkeypatch, name, given, place):
    module, found = script(name), []
    monkeypatch.chdir(tmp_path)

    class Understood(Exception):
        pass

    def stop(parser):
        raise Understood

    def watch(parser, args, *rest):
        record_of_a_part(parser, args, *rest)
        found.append(args.json)

    record_of_a_part = script("results").record_of_a_part
    monkeypatch.setattr(script("results"), "record_of_a_part", watch)
    if hasattr(module, "record_of_a_part"):
        monkeypatch.setattr(module, "record_of_a_part", watch)
    monkeypatch.setattr(module, "one_line_errors", stop)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, given)])
    with pytest.raises(Understood):
        module.main()
    assert [path.stem for path in found[-1:]] == ([place] if place != name else [])


def test_omniglot_one_shot(run, tmp_path):
    small = {"WIDTHS": (8, 8), "EMBEDDING": 8, "VIEWS": 1, "CLASSES": 8}
    found = run("omniglot_one_shot", "--minutes", 0.001, "--checkpoint", tmp_path, **small)
    assert set(found) == {"modified Hausdorff", "background_small1", "background_small2", "mean of the sets"}
    with pytest.raises(SystemExit):  # the checkpoint is of another budget
        run("omniglot_one_shot", "--minutes", 0.002, "--checkpoint", tmp_path, **small)
    assert all(0 <= table["error"] <= 1 for table in found.values())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n=st.integers(1, 5), m=st.integers(1, 5), views=st.integers(1, 4), seed=st.integers(0, 99))
def test_the_best_match_is_the_largest_product_of_any_two_views(script, n, m, views, seed):
    rng = np.random.default_rng(seed)
    asked, known = rng.standard_normal((n, views, 3)), rng.standard_normal((m, views, 3))
    found = script("omniglot_one_shot").best_match(asked, known)
    expected = [[max(float(a @ b) for a in asked[i] for b in known[j]) for j in range(m)] for i in range(n)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_projections_are_unit_vectors_and_the_first_view_is_the_picture_itself(script):
    module, rng = script("omniglot_one_shot"), np.random.default_rng(0)
    pictures = module.ink(np.stack([drawing(rng) for _ in range(3)]))
    params, state = cnn_init(widths=(4,), embedding=5, size=(module.SIZE,) * 2, channels=1, seed=0)
    embed, head = cnn_embedder(fold_batch_norm(params, state)), mlp_init((5, 5, 4), seed=0)
    one, three = (module.projections(embed, head, pictures, views, 7) for views in (1, 3))
    assert three.shape == (3, 3, 4)
    np.testing.assert_allclose(np.linalg.norm(three, axis=2), 1, rtol=1e-5)
    assert np.array_equal(one[:, 0], three[:, 0])
    assert np.array_equal(one, module.projections(embed, head, pictures, 1, 8))  # nothing is drawn for it
    assert np.abs(three[:, 1] - three[:, 2]).max() > 1e-4 < np.abs(three[:, 0] - three[:, 1]).max()


@pytest.mark.parametrize("seed", range(5))
def test_runs_like_the_official_ones(script, data, monkeypatch, seed):
    """Two drawers a run, the asked one's characters in another order; every alphabet as often as any other."""
    monkeypatch.setenv("REFIMPL_DATA", str(data))
    module = script("omniglot_one_shot")
    found = omniglot("background_small1", size=module.STORED)
    runs = module.runs_from("background_small1", np.random.default_rng(seed), count=3)
    assert len(runs) == 6
    alphabets = []
    place = {picture.tobytes(): row for row, picture in enumerate(found.images)}
    for training, test, labels in runs:
        rows = [[place[picture.tobytes()] for picture in pictures] for pictures in (training, test)]
        known, asked = (found.labels[r] for r in rows)
        assert len(set(known)) == len(known) and np.array_equal(known[labels], asked)
        drawers = [{int(row - np.flatnonzero(found.labels == found.labels[row])[0]) for row in r} for r in rows]
        assert all(len(d) == 1 for d in drawers) and drawers[0] != drawers[1]
        alphabets.append({found.class_names[c].split("/")[0] for c in known})
    assert [len(a) for a in alphabets] == [1] * 6 and alphabets[0] == alphabets[2] != alphabets[3] == alphabets[5]


@pytest.mark.parametrize("which", ["background_small1", "background_small2"])
def test_validation_runs_are_of_alphabets_not_trained_on(script, data, monkeypatch, which):
    monkeypatch.setenv("REFIMPL_DATA", str(data))
    module = script("omniglot_one_shot")
    background = omniglot(which, size=module.STORED)
    seen = {picture.tobytes() for picture in background.images}
    (other,) = {"background_small1", "background_small2"} - {which}
    shared = [picture.tobytes() in seen for picture in omniglot(other, size=module.STORED).images]
    assert 0 < sum(shared) < len(shared)  # or this shows nothing
    runs = module.validation_runs(background, which, 0)
    assert len(runs) == 20  # of the one alphabet that is new
    assert all(p.tobytes() not in seen for training, test, _ in runs for p in (*training, *test))


def test_validation_judges_on_these_runs(script, data, monkeypatch, tmp_path):
    monkeypatch.setenv("REFIMPL_DATA", str(data))
    module, judged = script("omniglot_one_shot"), []
    trained = SimpleNamespace(params={}, state={}, losses=[0.0], seconds=0.0, head=None)
    monkeypatch.setattr(module, "supervised_contrastive", lambda *_, **__: trained)
    for name in ("fold_batch_norm", "cnn_embedder", "training_cost"):
        monkeypatch.setattr(module, name, lambda *_: None)
    monkeypatch.setattr(module, "errors", lambda embed, head, runs, *_: judged.append(runs) or np.zeros(len(runs)))
    monkeypatch.setattr(sys, "argv", ["", "--validate", "--json", str(tmp_path / "a.json")])
    module.main()
    backgrounds = {which: omniglot(which, size=module.STORED) for which in module.OMNIGLOT_SETS}
    expected = [module.validation_runs(found, which, 0) for which, found in backgrounds.items() for _ in range(2)]
    assert len(judged) == len(expected) == 4
    for found, wanted in zip(judged, expected):
        assert all(np.array_equal(a, b) for f, w in zip(found, wanted, strict=True) for a, b in zip(f, w))


def test_quickstart_searches_alphabets_that_were_not_trained_on(script, data, monkeypatch):
    monkeypatch.setenv("REFIMPL_DATA", str(data))
    module = script("quickstart")
    found = module.load("omniglot", module.CHARACTERS, 0, 0, 0, lambda *_: None)
    trained = {name.split("/")[0] for name in omniglot("background_small1").class_names}
    assert {label.split("/")[0] for label in found.labels} == {"alphabet2"} and "alphabet1" in trained
    assert not {p.tobytes() for p in found.test} & {p.tobytes() for p in found.train}
    assert found.grades(np.arange(10)).sum() == 2 * 5 * 5 and len(found.labels) == len(found.test) == 10


def cifar_copy(folder, suffix):
    """A REFIMPL_DATA with a picture a split in a folder "cifar10"; their paths."""
    paths = [folder / "cifar10" / split / "cat" / f"0{suffix}" for split in ("train", "test")]
    for path in paths:
        save(path, np.full((32, 32, 3), 100, np.uint8))
    return paths


@pytest.mark.parametrize("suffix, lossy", [(".png", False), (".jpg", True), (".JPEG", True)])
def test_a_jpeg_copy_is_known_by_its_pictures(script, tmp_path, monkeypatch, suffix, lossy):
    folder = tmp_path / ("jpg" if suffix == ".png" else "data")
    cifar_copy(folder, suffix)
    monkeypatch.setenv("REFIMPL_DATA", str(folder))
    assert script("cifar").is_jpeg() is lossy
    (folder / "cifar-10-binary.tar.gz").write_bytes(b"")
    assert script("cifar").is_jpeg() is False


def test_a_replaced_picture_of_cifar_is_noticed(script, tmp_path, monkeypatch):
    train, test = cifar_copy(tmp_path, ".png")
    monkeypatch.setenv("REFIMPL_DATA", str(tmp_path))
    monkeypatch.setenv("REFIMPL_CACHE", str(tmp_path / "cache"))
    pictures = script("cifar").pictures
    assert pictures("train")[0].max() == pictures("test")[0].max() == 100
    save(train, np.full((32, 32, 3), 7, np.uint8))
    os.utime(train, ns=(0, 0))  # its own time differs, even on a clock of seconds; that of the folder cifar10 does not
    assert pictures("train")[0].max() == 7 and pictures("test")[0].max() == 100


def test_the_original_of_cifar_is_read_once(script, tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        member.size = 3073
        archive.addfile(member, io.BytesIO(bytes(3073)))
    monkeypatch.setenv("REFIMPL_DATA", str(tmp_path))
    monkeypatch.setenv("REFIMPL_CACHE", str(tmp_path / "cache"))
    module = script("cifar")
    first = module.pictures("test")
    monkeypatch.setattr(module, "cifar10", None)
    second = module.pictures("test")
    assert all(np.array_equal(a, b) for a, b in zip(first, second)) and first[0].shape == (1, 32, 32, 3)


def on_a_full_disk(picture, file, *_, **__):
    """A method that saves, to a path or an open file, and does not come to the end."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(file, "wb")) if isinstance(file, (str, Path)) else file
        file.write(b"half of it")
        raise OSError("no space left")


def test_a_figure_that_fails_leaves_the_old_one(script, tmp_path, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure")
    module, args = script("results"), SimpleNamespace(json=tmp_path / "a.json")
    (tmp_path / "a.png").write_bytes(b"the old one")
    with monkeypatch.context() as patch:
        patch.setattr(figure.Figure, "savefig", on_a_full_disk)
        with pytest.raises(OSError):
            module.save_figure(args, lambda axes: axes.plot([1, 2]))
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"] and (tmp_path / "a.png").read_bytes() == b"the old one"
    module.save_figure(args, lambda axes: axes.plot([1, 2]))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_contact_sheet_that_fails_leaves_the_old_one(script, tmp_path, monkeypatch):
    module, path = script("catalogue_sheet"), tmp_path / "catalogue.png"
    small = Image.new("RGB", (20, 10))
    monkeypatch.setattr(module, "product_sheet", lambda rows, seed: small)
    monkeypatch.setattr(module, "view_sheet", lambda rows, seed: small)
    path.write_bytes(b"the old one")
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", on_a_full_disk)
        with pytest.raises(OSError):
            module.draw(path, 7)
    assert [p.name for p in tmp_path.iterdir()] == ["catalogue.png"] and path.read_bytes() == b"the old one"
    module.draw(path, 7)
    assert Image.open(path).size == (20, 10 + module.TILE // 6 + 10)


@pytest.mark.parametrize("queries", [1, 2, 6, 7])
def test_a_picture_of_results_with_few_queries(script, tmp_path, queries):
    module, quickstart = script("quickstart_report"), script("quickstart")
    pictures = np.zeros((9, 8, 8, 3), np.uint8)
    collection = quickstart.Collection(
        "", pictures, None, pictures, ["a"] * 9, lambda q: np.zeros((len(q), 9), np.uint8), 1, ("no", "yes"), 1
    )
    ids = np.arange(queries * 3).reshape(queries, 3) % 9
    outcome = quickstart.Outcome(
        collection, quickstart.CATALOGUE._replace(stored=8), None, None, np.arange(queries), {module.BEST: (ids,)}, {}
    )
    module.draw_results(tmp_path / "a.png", outcome)
    assert Image.open(tmp_path / "a.png").height == 8 + 16 * min(6, queries)


@pytest.mark.parametrize("splits", ["", "train/", "test/"])
def test_quickstart_names_what_it_skips_once(script, tmp_path, splits):
    for folder in ("train/", "test/") if splits else ("",):
        for i in range(10):
            save(tmp_path / f"{folder}cats" / f"{i}.png", np.full((8, 8, 3), i, np.uint8))
    (tmp_path / f"{splits}cats" / "broken.png").write_bytes(b"junk")
    (tmp_path / f"{splits}cats" / "words.txt").write_bytes(b"words")
    module = script("quickstart")
    found = module.load(str(tmp_path), module.PHOTOGRAPHS, 0, 0, 0, lambda *_: None)
    assert sorted(note.split(": ")[0] for note in found.notes if note.startswith("skipped")) == [
        f"skipped {splits}cats/broken.png",
        f"skipped {splits}cats/words.txt",
    ]


@pytest.mark.parametrize(
    "splits, trained_on, searched",
    [
        (("train", "val"), "train", "val"),
        (("training", "test", "val"), "training", "test"),
        (("a", "val"), None, None),
        (("Training", "Test"), "Training", "Test"),
        (("TRAIN", "VAL"), "TRAIN", "VAL"),
    ],
)
def test_quickstart_takes_the_splits_of_a_folder_and_says_so_if_there_are_none(
    script, tmp_path, splits, trained_on, searched
):
    shade = {split: 40 * (number + 1) for number, split in enumerate(splits)}
    for split in splits:
        for i in range(10):
            save(tmp_path / split / "cats" / f"{i}.png", np.full((8, 8, 3), shade[split], np.uint8))
    module = script("quickstart")
    found = module.load(str(tmp_path), module.PHOTOGRAPHS, 0, 0, 0, lambda *_: None)
    shades = [set(np.unique(images)) for images in (found.train, found.test)]
    if trained_on is None:
        assert shades == [set(shade.values())] * 2 and "no splits called train and test" in found.notes[0]
    else:
        assert shades == [{shade[trained_on]}, {shade[searched]}] and not found.notes


@pytest.mark.parametrize("size", [24, 32, 17])
def test_multiply_adds(script, size):
    """Against the sum written out for each network: side^2 kernel^2 c_in c_out of each convolution, and the head."""
    count = script("arithmetic").multiply_adds
    params, _ = resnet_init(widths=(4, 6), blocks=2, embedding=5, seed=0)
    half = (size + 1) // 2
    stem, stage0 = size**2 * 9 * 3 * 4, 4 * size**2 * 9 * 4 * 4
    stage1 = half**2 * (9 * 4 * 6 + 3 * 9 * 6 * 6 + 4 * 6)
    assert count(params, size) == stem + stage0 + stage1 + 6 * 5
    params, _ = cnn_init(widths=(4, 6), embedding=5, size=(size, size), seed=0)
    assert count(params, size) == size**2 * 27 * 4 + (size // 2) ** 2 * 9 * 4 * 6 + (size // 4) ** 2 * 6 * 5
    params, _ = whitened_init(np.random.default_rng(0).random((2, 8, 8, 3), np.float32), widths=(4, 6), seed=0)
    sides = size - 1, (size - 1) // 2, (size - 1) // 2, (size - 1) // 4
    assert count(params, size) == 9 * sum(s**2 * m for s, m in zip(sides, (24 * 4, 4 * 4, 4 * 6, 6 * 6)))


class Parsed(Exception):
    """The command line was understood."""


def examples():
    """[(script, arguments)] of the command lines in the scripts' docstrings, what is optional included."""
    found = []
    for path in sorted(SCRIPTS.glob("*.py")):
        page = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        for name, rest in re.findall(r"^ *python scripts/(\w+)\.py(.*)$", page, re.MULTILINE):
            words = re.split(r" {3,}", rest)[0]  # behind it stands what it does
            found.append((name, words.replace("[", "").replace("]", "")))
    return found


@pytest.mark.parametrize("name, words", examples())
def test_the_examples_in_the_docstrings_are_command_lines(script, monkeypatch, name, words):
    parser = script("command_line").Parser
    understood = parser.parse_args

    def parse_and_stop(self):
        understood(self)
        raise Parsed

    monkeypatch.setattr(parser, "parse_args", parse_and_stop)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *shlex.split(words)])
    with pytest.raises(Parsed):
        script(name).main()
