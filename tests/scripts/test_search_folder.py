"""search_folder.py in this process: which encoder it takes."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refimpl.serving import fingerprint, load_encoder, load_table, pretrained_encoder

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def search(tmp_path, monkeypatch):
    """search(*arguments) -> fingerprint of the encoder that the index was made with."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        colours = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        Image.fromarray(colours.repeat(20, axis=0).repeat(16, axis=1)).save(folder / f"{i}.png")

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


def test_train_and_encoder_exclude_each_other(search, capsys):
    with pytest.raises(SystemExit):
        search("--train", "--encoder", "x.npz")
    assert "--train and --encoder" in capsys.readouterr().err
