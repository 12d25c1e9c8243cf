"""The scripts as people run them: whole, small, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPTS = Path(__file__).parents[2] / "scripts"
METHODS = {"random order", "raw pixels", "colour histogram", "random encoder", "trained encoder"}
MEASURES = {"mrr", "recall@10", "precision@10", "map", "ndcg@10"}
SMALL = ["--items", "32", "--views", "3", "--steps", "3"]


def run(script, *arguments, status=0, **variables):
    command = [sys.executable, SCRIPTS / script, *map(str, arguments)]
    environment = {**os.environ, **variables}
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=environment)
    assert done.returncode == status, done.stderr
    return done


def write_folder(folder, classes=("cats", "dogs"), count=4):
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / name / f"{i}.png")


def test_quickstart_twice_gives_identical_figures(tmp_path):
    figures = []
    for name in ("first", "second"):
        done = run("quickstart.py", *SMALL, "--out", tmp_path / name)
        assert "trained encoder" in done.stdout
        figures.append((tmp_path / name / "metrics.json").read_text())
    assert figures[0] == figures[1]
    metrics = json.loads(figures[0])
    assert set(metrics) == METHODS
    assert all(set(values) == MEASURES and all(0 <= v <= 1 for v in values.values()) for values in metrics.values())
    page = (tmp_path / "first" / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page and "https://" not in page and "src=" not in page  # opens without a network
    assert page.count("<section>") == 6 and "data:image/jpeg;base64," in page


def test_quickstart_gives_the_same_figures_while_it_compiles_and_from_the_cache(tmp_path):
    """A kernel that Numba links from its cache must round like one that it inlines while compiling."""
    figures = []
    for name in ("compiling", "cached"):
        out = tmp_path / name
        run("quickstart.py", *SMALL, "--out", out, NUMBA_CACHE_DIR=str(tmp_path / "numba-cache"))
        figures.append((out / "metrics.json").read_text())
    assert figures[0] == figures[1]


def test_quickstart_on_a_folder(tmp_path):
    write_folder(tmp_path / "pictures")
    run("quickstart.py", "--data", tmp_path / "pictures", "--steps", 2, "--out", tmp_path / "out")
    assert set(json.loads((tmp_path / "out" / "metrics.json").read_text())) == METHODS


def test_search_folder_finds_the_picture_and_embeds_only_once(tmp_path):
    write_folder(tmp_path / "pictures")
    (tmp_path / "pictures" / "broken.png").write_bytes(b"not a picture")
    if sys.platform == "linux":  # where any bytes are a name
        (tmp_path / "pictures" / os.fsdecode(b"\xff.png")).write_bytes(b"not a picture either")
    query = tmp_path / "pictures" / "cats" / "2.png"
    run("quickstart.py", *SMALL, "--out", tmp_path / "out")
    arguments = [tmp_path / "pictures", "--query", query, "-k", 3, "--encoder", tmp_path / "out" / "encoder.npz"]
    first = run("search_folder.py", *arguments, "--out", tmp_path / "page.html")
    assert "8 embedded, 0 kept" in first.stdout and "skipped broken.png: " in first.stdout
    assert [line.split()[2] for line in first.stdout.splitlines() if line.startswith("   1 ")] == ["cats/2.png"]
    assert "cats/2.png" in (tmp_path / "page.html").read_text(encoding="utf-8")
    second = run("search_folder.py", *arguments, "--crop", "2,2,10,10", "--out", tmp_path / "page.html")
    assert "0 embedded, 8 kept" in second.stdout
    (tmp_path / "pictures" / ".refimpl-index" / "table.npz").write_bytes(b"damaged")
    third = run("search_folder.py", *arguments, "--out", tmp_path / "page.html")
    assert "building it anew" in third.stdout and "8 embedded, 0 kept" in third.stdout


@pytest.mark.parametrize(
    "script, arguments, words",
    [
        ("quickstart.py", ["--minutes", "-1"], "--minutes"),
        ("quickstart.py", ["--minutes", "x"], "--minutes"),
        ("quickstart.py", ["--minutes", "1", "--steps", "1"], "only one of them"),
        ("quickstart.py", ["--seed", "-1"], "--seed"),
        ("omniglot_one_shot.py", ["--minutes", "0"], "--minutes"),
        ("train_cifar_self_supervised.py", ["--methods", "none"], "--methods"),
        ("train_cifar_supervised.py", ["--seed", "-1"], "--seed"),
        ("quickstart.py", ["--data", "no/such/folder", "--out", "{tmp}"], "no/such/folder"),
        ("search_folder.py", ["no/such/folder", "--query", "x.png"], "no/such/folder: no such folder"),
        ("search_folder.py", ["{tmp}", "--query", "{tmp}/none.png"], "none.png"),
        ("search_folder.py", ["{tmp}"], "--query"),
        ("quickstart.py", ["--out", "{tmp}/file"], "--out"),
        ("quickstart.py", ["--json", "{tmp}", "--out", "{tmp}/out"], "--json"),
        ("quickstart.py", ["--data", "{tmp}/pictures", "--steps", "1", "--out", "{tmp}/out"], "of a class"),
        ("search_folder.py", ["{tmp}", "--query", "{tmp}/pictures/test/cats/0.png", "--out", "{tmp}"], "--out"),
        ("search_folder.py", ["{tmp}", "--query", "x.png", "--crop", "1,2,3"], "--crop: expected X,Y,W,H"),
        ("search_folder.py", ["{tmp}", "--query", "x.png", "-k", "0"], "-k: expected at least 1"),
    ],
)
def test_wrong_arguments_end_in_one_line(tmp_path, script, arguments, words):
    (tmp_path / "file").write_text("not a folder")
    for split in ("train", "test"):  # one picture a class: no query has anything to find
        write_folder(tmp_path / "pictures" / split, count=1)
    done = run(script, *(argument.replace("{tmp}", str(tmp_path)) for argument in arguments), status=2)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and words in lines[0] and "Traceback" not in done.stderr
