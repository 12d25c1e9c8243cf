"""The encoder that comes with the package, and the file it is kept in."""

import configparser
from pathlib import Path

import numpy as np
import pytest

from refimpl.data import render_catalogue
from refimpl.nn import Pretrained, fold_batch_norm, pretrained, resnet, resnet_embedder, resnet_init, save_pretrained
from refimpl.nn.pretrained import WEIGHTS
from refimpl.serving import embed, pretrained_encoder


def small():
    params, state = resnet_init(widths=(4, 8), blocks=1, embedding=5, seed=0)
    mean, std = np.array([0.4, 0.5, 0.6], np.float32), np.array([0.2, 0.25, 0.3], np.float32)
    return Pretrained(params, state, 32, mean, std, "letterbox")


def test_the_package_has_an_encoder_of_at_most_two_megabytes():
    with WEIGHTS.open("rb") as file:
        assert len(file.read()) <= 2_000_000
    encoder = pretrained()
    assert sum(p.size for p in encoder.params.values()) > 100_000
    for section in (encoder.params, encoder.state):
        for name, value in section.items():
            assert value.dtype == np.float32 and np.isfinite(value).all(), name
    assert encoder.mean.shape == encoder.std.shape == (3,) and (encoder.std > 0).all()
    assert encoder.mode in ("stretch", "letterbox", "center_crop")


def test_the_weights_are_part_of_a_wheel():
    setup = configparser.ConfigParser()
    root = Path(__file__).parents[2]
    setup.read(root / "setup.cfg")
    patterns = setup["options.package_data"]["refimpl.nn"].split()
    found = {path for pattern in patterns for path in (root / "refimpl" / "nn").glob(pattern)}
    assert Path(str(WEIGHTS)).name in {path.name for path in found}


def test_it_embeds_the_same_way_every_time_and_can_be_trained_further():
    x = np.random.default_rng(0).standard_normal((3, 32, 32, 3)).astype(np.float32)
    first, second = pretrained(), pretrained()
    embeddings = [resnet_embedder(fold_batch_norm(e.params, e.state))(x) for e in (first, second)]
    np.testing.assert_array_equal(*embeddings)
    assert embeddings[0].shape[0] == 3 and np.isfinite(embeddings[0]).all()
    y, pullback, state = resnet(first.params, first.state, x, training=True)
    assert pullback(np.ones_like(y)).keys() == first.params.keys() and state.keys() == first.state.keys()


def test_it_was_trained():
    """Views of one picture are nearer than other pictures, far more often than by chance."""
    images = render_catalogue(48, 2, size=64, seed=99).images
    z = embed(pretrained_encoder(), images)
    similarity = z[::2] @ z[1::2].T
    found = np.mean(similarity.argmax(axis=1) == np.arange(48))
    assert found > 0.2  # by chance 1/48


def test_what_is_written_comes_back_rounded(tmp_path):
    encoder = small()
    save_pretrained(tmp_path / "a.npz", encoder)
    got = pretrained(tmp_path / "a.npz")
    assert got.size == 32 and got.mode == "letterbox"
    np.testing.assert_array_equal(got.mean, encoder.mean)
    np.testing.assert_array_equal(got.std, encoder.std)
    for section in ("params", "state"):
        assert getattr(got, section).keys() == getattr(encoder, section).keys()
        for name, value in getattr(encoder, section).items():
            wanted = value.astype(np.float16).astype(np.float32) if value.ndim >= 2 else value
            np.testing.assert_array_equal(getattr(got, section)[name], wanted, strict=True)
    save_pretrained(tmp_path / "b.npz", got)
    again = pretrained(tmp_path / "b.npz")
    np.testing.assert_array_equal(again.params["stem/conv/weight"], got.params["stem/conv/weight"])


def test_weights_are_stored_in_half_the_size(tmp_path):
    save_pretrained(tmp_path / "a.npz", small())
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        kinds = {name: archive[name].dtype for name in archive.files}
    assert kinds["params/stem/conv/weight"] == np.float16 and kinds["params/head/weight"] == np.float16
    assert kinds["params/stem/norm/gamma"] == np.float32 and kinds["state/stem/norm/variance"] == np.float32


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e5])
def test_values_that_do_not_fit_are_refused_and_nothing_is_written(value, tmp_path):
    encoder = small()
    encoder.params["head/weight"][0, 0] = value
    with pytest.raises(ValueError, match="head/weight.*expected finite"):
        save_pretrained(tmp_path / "a.npz", encoder)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("std", [[0.2, 0, 0.2], [0.2, -0.1, 0.2], [0.2, 1e-60, 0.2], [0.2, 1e60, 0.2], [0.2, 0.2]])
def test_a_z_score_that_cannot_be_is_refused_and_nothing_is_written(std, tmp_path):
    with pytest.raises(ValueError, match="std: expected"):
        save_pretrained(tmp_path / "a.npz", small()._replace(std=np.array(std)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name, value", [("params/stem/conv/weight", np.nan), ("state/stem/norm/mean", np.inf), ("mean", np.nan), ("std", 0)]
)
def test_weights_that_are_not_finite_are_not_read(name, value, tmp_path):
    path = tmp_path / "a.npz"
    save_pretrained(path, small())
    with np.load(path, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    arrays[name].flat[0] = value
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=f"expected an encoder's weights.*{name}: expected"):
        pretrained(path)


def test_files_that_are_not_one(tmp_path):
    path = tmp_path / "a.npz"
    save_pretrained(path, small())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="expected an encoder's weights"):
        pretrained(path)
    path.write_bytes(b"text")
    with pytest.raises(ValueError, match="expected an encoder's weights"):
        pretrained(path)
    np.savez(path, mean=np.zeros(3))
    with pytest.raises(ValueError, match="no params"):
        pretrained(path)
    with pytest.raises(OSError):
        pretrained(tmp_path / "none.npz")


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "a.npz"
    save_pretrained(path, small())
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(path, **{**arrays, "mode": np.array(Touch(tmp_path / "touched"), object)})
    with pytest.raises(ValueError, match="expected an encoder's weights"):
        pretrained(path)
    assert not (tmp_path / "touched").exists()


class Touch:
    """Unpickling one makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)
