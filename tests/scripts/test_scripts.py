"""The scripts as people run them: whole, small, in processes of their own."""

import importlib
import json
import os
import subprocess
import sys
import urllib.request
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


def test_a_wrong_argument_ends_the_process_with_one_line(tmp_path):
    done = run("quickstart.py", "--minutes", "nan", status=2)
    assert len(done.stderr.splitlines()) == 1 and "--minutes: expected a time above 0" in done.stderr


PICTURE = "{tmp}/one/test/cats/0.png"
SEARCH = ["{tmp}/one", "--query", PICTURE, "--out", "{tmp}/page.html"]
OUT = ["--out", "{tmp}/out"]
WRONG = [
    ("book_claims", ["--seeds", "1"], "--seeds: expected at least 2, got 1"),
    ("search_folder", ["x" * 300, "--query", "x.png"], "no such folder"),
    ("quickstart", ["--data", "x" * 300], "--data: expected"),
    ("quickstart", ["--minutes", "-1"], "--minutes"),
    ("quickstart", ["--minutes", "x"], "--minutes"),
    ("quickstart", ["--minutes", "0"], "--minutes"),
    ("quickstart", ["--minutes", "inf"], "--minutes"),
    ("quickstart", ["--minutes", "1", "--steps", "1"], "only one of them"),
    ("quickstart", ["--steps", "0"], "--steps: expected at least 1, got 0"),
    ("quickstart", ["--steps", "1.5"], "--steps"),
    ("quickstart", ["--items", "3"], "--items: expected at least 8, got 3"),
    ("quickstart", ["--views", "-2"], "--views"),
    ("quickstart", ["--seed", "-1"], "--seed"),
    ("quickstart", ["--data", "no/such/folder", *OUT], "no/such/folder"),
    ("quickstart", ["--data", "{tmp}/file", *OUT], "expected a folder or a zip archive"),
    ("quickstart", ["--data", "{tmp}/empty", *OUT], "found none"),
    ("quickstart", ["--data", "{tmp}/broken", *OUT], "not one readable picture"),
    ("quickstart", ["--data", "{tmp}/one/test/cats", *OUT], "expected SPLIT/CLASS/IMAGE or CLASS/IMAGE"),
    ("quickstart", ["--data", "{tmp}/one", "--steps", "1", *OUT], "of a class"),
    ("quickstart", ["--data", "clothing", *OUT], "not on this machine, and the download failed"),
    ("quickstart", ["--data", "cifar10", *OUT], "not on this machine, and the download failed"),
    ("quickstart", ["--data", "omniglot", *OUT], "not on this machine, and the download failed"),
    ("quickstart", ["--out", "{tmp}/file"], "--out"),
    ("quickstart", ["--json", "{tmp}", *OUT], "--json"),
    ("search_folder", ["no/such/folder", "--query", "x.png"], "no/such/folder: no such folder"),
    ("search_folder", ["{tmp}/file", "--query", "x.png"], "file: no such folder"),
    ("search_folder", ["{tmp}/one"], "--query"),
    ("search_folder", ["{tmp}/one", "--query", "{tmp}/none.png"], "none.png"),
    ("search_folder", ["{tmp}/one", "--query", "{tmp}"], "directory"),
    ("search_folder", ["{tmp}/one", "--query", "{tmp}/broken/cats/0.png"], "not a picture"),
    ("search_folder", ["{tmp}/empty", *SEARCH[1:]], "expected at least one readable picture, found none"),
    ("search_folder", ["{tmp}/broken", *SEARCH[1:]], "expected at least one readable picture, found none"),
    ("search_folder", [*SEARCH, "--crop", "1,2,3"], "--crop: expected X,Y,W,H"),
    ("search_folder", [*SEARCH, "--crop", "1,2,x,3"], "--crop: expected X,Y,W,H"),
    ("search_folder", [*SEARCH, "--crop", "0,0,25,10"], "within 24x20 pixels, got 0,0,25,10"),
    ("search_folder", [*SEARCH, "--crop", "0,0,0,10"], "within 24x20 pixels"),
    ("search_folder", [*SEARCH, "--crop=-1,0,5,5"], "crop"),
    ("search_folder", [*SEARCH, "-k", "0"], "-k: expected at least 1"),
    ("search_folder", [*SEARCH, "-k", "many"], "-k"),
    ("search_folder", [*SEARCH, "--minutes", "nan"], "--minutes"),
    ("search_folder", [*SEARCH, "--seed", "-1"], "--seed"),
    ("search_folder", [*SEARCH, "--encoder", "{tmp}/none.npz"], "no such encoder file"),
    ("search_folder", [*SEARCH, "--encoder", "{tmp}/file"], "not an encoder file"),
    ("search_folder", [*SEARCH, "--index", "{tmp}/file"], "--index"),
    ("search_folder", [*SEARCH[:-1], "{tmp}"], "--out"),
    ("omniglot_one_shot", ["--minutes", "0"], "--minutes"),
    ("omniglot_one_shot", ["--json", "{tmp}/a.json", "--checkpoint", "{tmp}/file"], "--checkpoint"),
    ("omniglot_one_shot", ["--json", "{tmp}/a.json"], "the download failed"),
    ("train_cifar_self_supervised", ["--methods", "none"], "--methods"),
    ("train_cifar_self_supervised", ["--json", "{tmp}/a.json"], "the download failed"),
    ("train_cifar_supervised", ["--seed", "-1"], "--seed"),
    ("train_cifar_supervised", ["--pictures", "1"], "--pictures"),
    ("train_cifar_supervised", ["--json", "{tmp}"], "--json"),
    ("train_cifar_supervised", ["--json", "{tmp}/a.json"], "the download failed"),
    ("train_pretrained", ["--steps", "0"], "--steps"),
    ("train_pretrained", ["--items", "0"], "--items"),
    ("train_pretrained", ["--json", "{tmp}/a.json", "--weights", "{tmp}"], "--weights"),
    ("train_pretrained", ["--json", "{tmp}/a.json"], "the download failed"),
    ("clothing_losses", ["--batch", "7"], "--batch"),
    ("clothing_losses", ["--seeds", "0"], "--seeds"),
    ("clothing_losses", ["--json", "{tmp}/a.json"], "the download failed"),
    ("book_claims", ["--items", "1"], "--items"),
    ("book_claims", ["--claims", "none"], "--claims"),
    ("catalogue_sheet", ["--seed", "-1"], "--seed"),
    ("catalogue_sheet", ["--out", "{tmp}"], "--out"),
    ("plot_ann_pages", ["--seed", "-1"], "--seed"),
    ("plot_ann_pages", ["--only", "none"], "--only"),
    ("plot_ann_pages", ["--results", "{tmp}/empty"], "benchmark_ann"),
    ("ann_floors", ["--vectors", "0"], "--vectors"),
    ("ann_tables", ["--docs", "{tmp}/empty"], "benchmark_ann"),
    ("embed_cifar", ["--out", "{tmp}/x.npy", "--views", "0"], "--views"),
    ("embed_cifar", ["--out", "{tmp}"], "--out"),
    ("benchmark_ann", ["--repeats", "0"], "--repeats"),
    ("benchmark_ann", ["--only", "none"], "--only"),
    ("benchmark_ann", ["--skip", "none"], "--skip"),
    ("benchmark_ann", ["--data", "{tmp}/none.npy"], "none.npy"),
    ("benchmark_ann", ["--data", "{tmp}/file"], "file"),
    ("benchmark_ann", ["--plot", "{tmp}"], "--plot"),
    ("benchmark_filtered", ["--repeats", "0"], "--repeats"),
    ("benchmark_filtered", ["--json", "{tmp}"], "--json"),
    ("benchmark_first_call", ["--only", "none"], "--only"),
    ("benchmark_first_call", ["--repeats", "0"], "--repeats"),
    ("benchmark_ann_trees", ["--only", "none"], "--only"),
    ("benchmark_ann_trees", ["--json", "{tmp}"], "--json"),
    ("benchmark_metrics", ["--queries", "0"], "--queries: expected at least 1, got 0"),
    ("benchmark_metrics", ["--json", "{tmp}/file/x.json"], "--json"),
    ("benchmark_nn", ["--repeats", "-1"], "--repeats"),
    ("benchmark_nn", ["--json", "{tmp}"], "--json"),
]


@pytest.fixture(scope="module")
def wrong_files(tmp_path_factory):
    """A file that is no folder, an empty folder, one of unreadable pictures, and one with one picture a class."""
    tmp = tmp_path_factory.mktemp("wrong")
    (tmp / "file").write_text("not a folder")
    (tmp / "empty").mkdir()
    (tmp / "broken" / "cats").mkdir(parents=True)
    (tmp / "broken" / "cats" / "0.png").write_bytes(b"not a picture")
    for split in ("train", "test"):  # no query has anything to find
        write_folder(tmp / "one" / split, count=1)
    return tmp


@pytest.mark.parametrize("script, arguments, words", WRONG)
def test_wrong_arguments_end_in_one_line(wrong_files, tmp_path, monkeypatch, capsys, script, arguments, words):
    """In this process; an exception that is not SystemExit would be a traceback."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setenv("REFIMPL_DATA", str(tmp_path))  # no data sets, and no network
    monkeypatch.setenv("REFIMPL_CACHE", str(tmp_path))
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(urllib.request, "_opener", None)  # it would keep these proxies for the tests that follow
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # quickstart starts no other processes then
    filled = [argument.replace("{tmp}", str(wrong_files)) for argument in arguments]
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *filled])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(script).main()
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and len(lines) == 1 and words in lines[0]
