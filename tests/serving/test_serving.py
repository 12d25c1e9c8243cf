"""Embedding, the index table, indexing and prediction."""

import contextlib
import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl import images, serving
from refimpl.nn.pretrained import WEIGHTS

from .pictures import small_encoder, write_pictures

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")


def fresh_table(encoder):
    return serving.empty_table(serving.fingerprint(encoder), 8)


def test_embeddings_are_unit_vectors_and_do_not_depend_on_the_batch():
    pictures = np.random.default_rng(0).integers(0, 256, (7, 16, 20, 3), dtype=np.uint8)
    encoder = small_encoder()
    whole = serving.embed(encoder, pictures)
    assert whole.dtype == np.float32 and whole.shape == (7, 8)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, rtol=1e-5)
    for batch in (1, 3):
        np.testing.assert_array_equal(serving.embed(encoder, list(pictures), batch=batch), whole)
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
    np.testing.assert_array_equal(first.table.embeddings, serving.embed(encoder, pictures))

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


@needs_pipes
def test_a_huge_file_is_listed_and_not_read(tmp_path, monkeypatch):
    with open(tmp_path / "big.png", "wb") as file:
        file.truncate(serving.indexing.MAX_FILE_BYTES + 1)  # of holes: it takes no room
    monkeypatch.setattr(serving.indexing, "decode", lambda path: pytest.fail(f"{path} was read"))
    encoder = small_encoder()
    ((name, reason),) = serving.update_table(fresh_table(encoder), tmp_path, encoder).skipped
    assert name == "big.png" and "limit" in reason


def test_pictures_wait_in_the_encoders_size(tmp_path, monkeypatch):
    encoder, seen = small_encoder(), []
    write_pictures(tmp_path, 3)
    expected = serving.embed(encoder, [images.decode(path) for path in sorted(tmp_path.iterdir())])

    def embed(encoder, pictures):
        seen.extend(picture.shape for picture in pictures)
        return serving.embed(encoder, pictures)

    monkeypatch.setattr(serving.indexing, "embed", embed)
    found = serving.update_table(fresh_table(encoder), tmp_path, encoder).table
    assert seen == [(encoder.size, encoder.size, 3)] * 3
    np.testing.assert_array_equal(found.embeddings, expected)


def test_a_pipe_is_listed_and_not_waited_for(tmp_path, monkeypatch):
    encoder = small_encoder()
    write_pictures(tmp_path, 1)
    os.mkfifo(tmp_path / "pipe.png")

    def decode(path):
        return images.decode(path) if path.name != "pipe.png" else pytest.fail("waits for a pipe")

    monkeypatch.setattr(serving.indexing, "decode", decode)
    indexed = serving.update_table(fresh_table(encoder), tmp_path, encoder)
    assert indexed.table.names.tolist() == ["a00.png"]
    assert indexed.skipped == [("pipe.png", f"{tmp_path / 'pipe.png'}: not a regular file")]


def test_what_may_be_listed_and_not_looked_at_is_skipped(tmp_path, monkeypatch):
    """A folder that may be read and not entered: its names are known, and nothing else. Root may enter every folder."""
    encoder, stat = small_encoder(), os.stat
    write_pictures(tmp_path, 1)
    write_pictures(tmp_path / "closed", 1)

    def refusing(path, *args, **kwargs):
        if os.fspath(path) == os.fspath(tmp_path / "closed" / "a00.png"):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", refusing)
    indexed = serving.update_table(fresh_table(encoder), tmp_path, encoder)
    assert indexed.table.names.tolist() == ["a00.png"]
    assert [name for name, _ in indexed.skipped] == ["closed/a00.png"]


TREE = ["a/a00.png", "a/b/a00.png", "a00.png", "c/a00.png", "c/d/a00.png"]


@contextlib.contextmanager
def broken_disk(folder, unread):
    """These folders below `folder` cannot be listed."""
    scandir = os.scandir

    def breaking(place="."):
        if Path(place) in {folder / name for name in unread}:
            raise OSError(errno.EIO, "Input/output error", os.fspath(place))
        return scandir(place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", breaking)
        yield


@given(unread=st.sets(st.sampled_from(["a", "a/b", "c", "c/d", ".hidden"])), gone=st.sets(st.sampled_from(TREE)))
def test_a_folder_that_cannot_be_read_is_listed_and_keeps_its_rows(tmp_path_factory, unread, gone):
    folder, encoder = tmp_path_factory.mktemp("pictures"), small_encoder()
    for i, name in enumerate([*TREE, ".hidden/a00.png"]):
        write_pictures((folder / name).parent, 1, seed=i)
    before = serving.update_table(fresh_table(encoder), folder, encoder).table
    assert before.names.tolist() == TREE
    for name in gone:
        (folder / name).unlink()
    with broken_disk(folder, unread):
        after = serving.update_table(before, folder, encoder)
    unseen = {name for name in TREE if any(name.startswith(f"{place}/") for place in unread)}
    assert sorted(name for name, _ in after.skipped) == sorted(
        place for place in unread - {".hidden"} if not any(place.startswith(f"{other}/") for other in unread)
    )
    assert all("Input/output error" in reason for _, reason in after.skipped)
    rows = [i for i, name in enumerate(TREE) if name in unseen or name not in gone]
    assert (after.embedded, after.kept, after.removed) == (0, len(rows), len(TREE) - len(rows))
    for now, then in zip(after.table[:3], before[:3]):
        np.testing.assert_array_equal(now, then[rows])


def test_a_folder_that_cannot_be_read_itself_is_an_os_error(tmp_path):
    encoder = small_encoder()
    write_pictures(tmp_path, 1)
    with broken_disk(tmp_path, ["."]), pytest.raises(OSError, match="Input/output error"):
        serving.update_table(fresh_table(encoder), tmp_path, encoder)


@pytest.mark.parametrize("rows", [0, 2])
def test_a_table_of_another_encoder_or_width_is_refused(tmp_path, rows):
    encoder, other = small_encoder(), small_encoder(seed=1)
    pictures = write_pictures(tmp_path, max(rows, 1))
    table = fresh_table(encoder)
    if rows:
        table = serving.update_table(table, tmp_path, encoder).table
    narrow = table._replace(embeddings=table.embeddings[:, :7])
    for wrong, its_encoder in ((table, other), (narrow, encoder)):
        with pytest.raises(ValueError, match="^table: expected embeddings of"):
            serving.update_table(wrong, tmp_path, its_encoder)
        with pytest.raises(ValueError, match="^table: expected embeddings of"):
            serving.search(wrong, its_encoder, pictures[0], 1)


@pytest.mark.parametrize("batch", [0, -1, 2.0])
def test_a_batch_that_is_none_is_refused(tmp_path, batch):
    encoder = small_encoder()
    with pytest.raises(ValueError, match="^batch: expected an integer"):
        serving.update_table(fresh_table(encoder), tmp_path, encoder, batch=batch)


def test_another_way_of_decoding_is_another_fingerprint(monkeypatch):
    before = serving.fingerprint(small_encoder())
    monkeypatch.setattr(serving.index_table, "CACHE_VERSION", -1)
    assert serving.fingerprint(small_encoder()) != before


def test_the_weights_of_the_package_are_no_encoder_file():
    with pytest.raises(ValueError, match="general.npz: not an encoder file .*no head/bias and no head/weight"):
        serving.load_encoder(WEIGHTS)


def test_a_table_survives_its_file(tmp_path):
    encoder = small_encoder()
    write_pictures(tmp_path, 3)
    table = serving.update_table(fresh_table(encoder), tmp_path, encoder).table
    serving.save_table(tmp_path / "t.npz", table)
    loaded = serving.load_table(tmp_path / "t.npz")
    assert loaded.encoder == table.encoder
    for column in ("names", "stamps", "embeddings"):
        np.testing.assert_array_equal(getattr(loaded, column), getattr(table, column))


@pytest.mark.parametrize(
    "wrong",
    [
        {"names": np.array("a")},
        {"names": np.array([["a", "b"]])},
        {"names": np.arange(2)},
        {"stamps": np.zeros(2, np.int64)},
        {"stamps": np.zeros((2, 2))},
        {"stamps": np.zeros((1, 2), np.int64)},
        {"embeddings": np.zeros((3, 8), np.float32)},
        {"embeddings": np.zeros(2, np.float32)},
        {"embeddings": np.zeros((2, 8))},
    ],
)
def test_a_file_with_other_columns_is_no_table(tmp_path, wrong):
    columns = {"names": np.array(["a", "b"]), "stamps": np.zeros((2, 2), np.int64), "encoder": "e"}
    columns["embeddings"] = np.zeros((2, 8), np.float32)
    np.savez(tmp_path / "t.npz", **columns)
    assert serving.load_table(tmp_path / "t.npz").names.tolist() == ["a", "b"]
    np.savez(tmp_path / "t.npz", **columns | wrong)
    with pytest.raises(ValueError, match="t.npz: not an index table"):
        serving.load_table(tmp_path / "t.npz")


def test_a_table_that_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    """Whoever builds a damaged table anew would otherwise throw a good one away."""
    serving.save_table(tmp_path / "t.npz", fresh_table(small_encoder()))

    def broken_disk(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", broken_disk)
    with pytest.raises(OSError, match="Input/output error"):
        serving.load_table(tmp_path / "t.npz")


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
