"""search_folder.py in this process: which encoder it takes, and what happens to its table."""

import errno
import importlib
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refimpl.serving import fingerprint, load_encoder, load_table, pretrained_encoder

SCRIPTS = Path(__file__).parents[2] / "scripts"


def write_pictures(folder, count):
    rng = np.random.default_rng(0)
    for i in range(count):
        colours = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        Image.fromarray(colours.repeat(20, axis=0).repeat(16, axis=1)).save(folder / f"{i}.png")


@pytest.fixture
def search(tmp_path, monkeypatch):
    """search(*arguments) -> fingerprint of the encoder that the index was made with."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    folder = tmp_path / "pictures"
    folder.mkdir()
    write_pictures(folder, 6)

    def run(*arguments):
        out = ["--out", str(tmp_path / "page.html")]
        query = ["--query", str(folder / "3.png"), "-k", "2"]
        monkeypatch.setattr(sys, "argv", ["search_folder.py", str(folder), *query, *out, *map(str, arguments)])
        importlib.import_module("search_folder").main()
        return load_table(folder / ".refimpl-index" / "table.npz").encoder

    run.folder = folder
    return run


def test_the_packages_encoder_is_used_and_nothing_is_trained(search, capsys):
    assert search() == fingerprint(pretrained_encoder())
    assert not (search.folder / ".refimpl-index" / "encoder.npz").exists()
    output = capsys.readouterr().out
    assert [line.split()[-1] for line in output.splitlines() if line.startswith("   1 ")] == ["3.png"]


def test_a_trained_encoder_is_kept_and_used_from_then_on(search):
    mark = search("--train", "--minutes", "0.001")
    kept = search.folder / ".refimpl-index" / "encoder.npz"
    assert mark == fingerprint(load_encoder(kept)) != fingerprint(pretrained_encoder())
    assert search() == mark  # without --train, and nothing trained anew
    assert fingerprint(load_encoder(kept)) == mark


def test_more_results_than_pictures_are_all_of_them(search, capsys):
    search("-k", "1000")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.endswith(".png")] == list("123456")


def test_train_and_encoder_exclude_each_other(search, capsys):
    with pytest.raises(SystemExit):
        search("--train", "--encoder", "x.npz")
    assert "--train and --encoder" in capsys.readouterr().err


def test_an_emptied_folder_leaves_its_table(search, tmp_path, capsys):
    """A disk that is not mounted, the index elsewhere."""
    table, query = tmp_path / "index" / "table.npz", tmp_path / "query.png"
    shutil.copy(search.folder / "3.png", query)
    search("--query", query)
    arguments = ["--query", query, "--index", table.parent]
    search(*arguments)
    before = table.read_bytes()
    for picture in search.folder.glob("*.png"):
        picture.unlink()
    with pytest.raises(SystemExit):
        search(*arguments)
    assert "found none" in capsys.readouterr().err and table.read_bytes() == before


def test_what_is_found_in_a_folder_that_cannot_be_read_now_has_no_picture(search, tmp_path, monkeypatch, capsys):
    closed, scandir = search.folder / "closed", os.scandir
    closed.mkdir()
    write_pictures(closed, 1)
    query = tmp_path / "query.png"
    shutil.copy(closed / "0.png", query)
    search("--query", query)

    def breaking(place="."):
        if Path(place) == closed:
            raise OSError(errno.EIO, "Input/output error", os.fspath(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", breaking)
    (closed / "0.png").unlink()
    search("--query", query, "-k", "3")
    output = capsys.readouterr().out
    assert "skipped closed: " in output and "7 kept, 0 removed" in output
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("cannot be read now") == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_training_does_not_wait_for_a_pipe(search, monkeypatch):
    for picture in search.folder.iterdir():
        picture.unlink()
    os.mkfifo(search.folder / "pipe.png")
    module = importlib.import_module("search_folder")
    stages = importlib.import_module("command_line").Stages()
    monkeypatch.setattr(module, "decode", lambda _: pytest.fail("waits for a pipe"))
    with pytest.raises(ValueError, match="found none among 0 files"):
        module.train_on(search.folder, 0.001, 0, stages)


def test_a_process_killed_at_any_moment_loses_nothing(search):
    """Kill it while it embeds and writes, again and again; the next run must end with the table of one undisturbed."""
    write_pictures(search.folder, 60)
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import search_folder; from functools import partial\n"
        "from refimpl.serving import indexing; indexing.KEPT_EVERY = 0  # written as often as it can be\n"
        "search_folder.update_table = partial(indexing.update_table, batch=2)\n"
        "print('ready', flush=True); search_folder.main()"
    )
    query = ["--query", str(search.folder / "3.png"), "--out", str(search.folder.parent / "page.html")]
    command = [sys.executable, "-c", code, str(search.folder), *query]
    index = search.folder / ".refimpl-index"

    def process():
        started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert started.stdout.readline() == b"ready\n", started.stderr.read()
        return started, time.monotonic()

    started, start = process()
    _, errors = started.communicate()
    assert started.returncode == 0, errors
    whole, takes = load_table(index / "table.npz"), time.monotonic() - start
    shutil.rmtree(index)
    for _ in range(4):
        started, start = process()
        time.sleep(random.uniform(0, takes))
        started.kill()
        started.communicate()
        if (index / "table.npz").exists():
            load_table(index / "table.npz")  # whole, whatever was being written
    search()
    for a, b in zip(load_table(index / "table.npz"), whole):
        np.testing.assert_array_equal(a, b)
