"""Embedding, the index table, indexing and prediction."""

import contextlib
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl import serving

from .pictures import small_encoder, write_pictures


def fresh_table(encoder):
    return serving.empty_table(serving.fingerprint(encoder), 8)


def test_embeddings_are_unit_vectors_and_do_not_depend_on_the_batch():
    pictures = np.random.default_rng(0).integers(0, 256, (7, 16, 20, 3), dtype=np.uint8)
    encoder = small_encoder()
    whole = serving.embed(encoder, pictures)
    assert whole.dtype == np.float32 and whole.shape == (7, 8)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(serving.embed(encoder, list(pictures), batch=3), whole, atol=1e-5)
    assert serving.embed(encoder, []).shape == (0, 8)


def test_an_encoder_survives_its_file(tmp_path):
    encoder = small_encoder()
    serving.save_encoder(tmp_path / "e.npz", encoder)
    loaded = serving.load_encoder(tmp_path / "e.npz")
    assert serving.fingerprint(loaded) == serving.fingerprint(encoder)
    assert serving.fingerprint(small_encoder(seed=1)) != serving.fingerprint(encoder)
    assert serving.fingerprint(encoder._replace(size=13)) != serving.fingerprint(encoder)


@pytest.mark.parametrize("load", [serving.load_encoder, serving.load_table])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"not an archive"])
def test_damaged_files_are_refused(tmp_path, load, content):
    path = tmp_path / "damaged.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged.npz: not an"):
        load(path)


def test_only_new_and_changed_files_are_embedded(tmp_path):
    encoder = small_encoder()
    pictures = write_pictures(tmp_path, 5)
    first = serving.update_table(fresh_table(encoder), tmp_path, encoder, batch=2)
    assert (first.embedded, first.kept, first.removed, first.skipped) == (5, 0, 0, [])
    assert first.table.names.tolist() == [f"a{i:02}.png" for i in range(5)]
    np.testing.assert_allclose(first.table.embeddings, serving.embed(encoder, pictures), atol=1e-5)

    again = serving.update_table(first.table, tmp_path, encoder)
    assert (again.embedded, again.kept, again.removed) == (0, 5, 0)
    np.testing.assert_array_equal(again.table.embeddings, first.table.embeddings)

    (tmp_path / "a03.png").unlink()
    os.utime(tmp_path / "a01.png", ns=(1, 1))
    write_pictures(tmp_path / "deeper", 1, seed=8)
    write_pictures(tmp_path / ".hidden", 1)
    third = serving.update_table(again.table, tmp_path, encoder)
    assert (third.embedded, third.kept, third.removed) == (2, 3, 1)
    assert third.table.names.tolist() == ["a00.png", "a01.png", "a02.png", "a04.png", "deeper/a00.png"]


@given(interruptions=st.lists(st.integers(1, 4), max_size=4))
def test_whoever_is_interrupted_goes_on_where_the_table_was_kept(tmp_path_factory, interruptions):
    folder, encoder = tmp_path_factory.mktemp("pictures"), small_encoder()
    write_pictures(folder, 7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving.indexing, "KEPT_EVERY", 0)
        table = fresh_table(encoder)
        for after in interruptions:
            kept = []

            def keep(so_far, kept=kept, after=after):
                kept.append(so_far)
                if len(kept) == after:
                    raise KeyboardInterrupt

            with contextlib.suppress(KeyboardInterrupt):
                serving.update_table(table, folder, encoder, batch=2, keep=keep)
            table = kept[-1] if kept else table
    resumed = serving.update_table(table, folder, encoder)
    whole = serving.update_table(fresh_table(encoder), folder, encoder)
    assert resumed.embedded == max(0, 7 - 2 * sum(interruptions))
    for a, b in zip(resumed.table, whole.table):
        np.testing.assert_array_equal(a, b)


def test_unreadable_files_are_listed_and_the_others_go_on(tmp_path):
    encoder = small_encoder()
    write_pictures(tmp_path, 2)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    indexed = serving.update_table(fresh_table(encoder), tmp_path, encoder)
    assert indexed.table.names.tolist() == ["a00.png", "a01.png"]
    assert sorted(name for name, _ in indexed.skipped) == ["broken.jpg", "empty.png", "link.png"]
    assert all(name in reason for name, reason in indexed.skipped)


def test_a_table_survives_its_file(tmp_path):
    encoder = small_encoder()
    write_pictures(tmp_path, 3)
    table = serving.update_table(fresh_table(encoder), tmp_path, encoder).table
    serving.save_table(tmp_path / "t.npz", table)
    loaded = serving.load_table(tmp_path / "t.npz")
    assert loaded.encoder == table.encoder
    for column in ("names", "stamps", "embeddings"):
        np.testing.assert_array_equal(getattr(loaded, column), getattr(table, column))


def test_every_picture_finds_itself(tmp_path):
    encoder = small_encoder()
    pictures = write_pictures(tmp_path, 6)
    table = serving.update_table(fresh_table(encoder), tmp_path, encoder).table
    for i, picture in enumerate(pictures):
        rows, scores = serving.search(table, encoder, picture, 3)
        assert rows[0] == i and scores[0] > 0.9999
        assert np.all(np.diff(scores) <= 0)
    rows, scores = serving.search(table, encoder, pictures[0], 50)
    assert len(rows) == len(scores) == 6
    assert len(serving.search(fresh_table(encoder), encoder, pictures[0], 5)[0]) == 0


def test_crop_is_the_part_it_names():
    picture = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    np.testing.assert_array_equal(serving.crop(picture, (2, 1, 3, 4)), picture[1:5, 2:5])
    for box in [(0, 0, 8, 1), (0, 0, 0, 1), (3, 3, 1, 3), (-1, 0, 2, 2)]:
        with pytest.raises(ValueError, match="crop: expected"):
            serving.crop(picture, box)
