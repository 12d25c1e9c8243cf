"""Folders and zips in every accepted layout, and files that cannot be used."""

import errno
import io
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from refimpl.data import folder, load_folder

SPLIT_LAYOUT = [f"{split}/{kind}/{k}.png" for split in ("test", "train") for kind in ("cat", "dog") for k in range(2)]


def png(value, side=4):
    file = io.BytesIO()
    Image.new("RGB", (side, side), (value, value, value)).save(file, "PNG")
    return file.getvalue()


def write(tmp_path, files, container):
    if container == "zip":
        path = tmp_path / "pictures.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    for name, data in files.items():
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "pictures"


@pytest.mark.parametrize("container", ["zip", "folder"])
@pytest.mark.parametrize("wrapper", ["", "repository-main/"])
def test_splits(tmp_path, container, wrapper):
    files = {wrapper + name: png(10 * k) for k, name in enumerate(SPLIT_LAYOUT)}
    path = write(tmp_path, files, container)
    train = load_folder(path, split="train")
    assert train.images.shape == (4, 4, 4, 3) and train.images.dtype == np.uint8
    assert train.class_names == ("cat", "dog") and train.labels.tolist() == [0, 0, 1, 1]
    assert train.names == tuple(wrapper + name for name in SPLIT_LAYOUT[4:])
    assert train.images[:, 0, 0, 0].tolist() == [40, 50, 60, 70]
    assert train.skipped == () and train.source == str(path)
    everything = load_folder(path, size=8)
    assert everything.images.shape == (8, 8, 8, 3) and everything.labels.tolist() == [0, 0, 1, 1] * 2
    with pytest.raises(ValueError, match="split.*'test', 'train'.*'valid'"):
        load_folder(path, split="valid")


@pytest.mark.parametrize("container", ["zip", "folder"])
@pytest.mark.parametrize("wrapper", ["", "my pictures/"])
def test_classes_alone(tmp_path, container, wrapper):
    path = write(tmp_path, {f"{wrapper}{kind}/a.png": png(9) for kind in "xyz"}, container)
    result = load_folder(path)
    assert result.class_names == ("x", "y", "z") and result.labels.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="split"):
        load_folder(path, split="train")


def test_one_split_is_a_split_and_not_a_wrapper(tmp_path):
    path = write(tmp_path, {f"train/{kind}/a.png": png(9) for kind in "xy"}, "folder")
    assert load_folder(path, split="train").class_names == ("x", "y")
    path = write(tmp_path / "capital", {f"Train/{kind}/a.png": png(9) for kind in "xy"}, "folder")
    assert load_folder(path, split="Train").class_names == ("x", "y")


@given(
    st.sets(st.tuples(st.sampled_from(["train", "test", "val"]), st.sampled_from("abcd")), min_size=1),
    st.sampled_from(["zip", "folder"]),
)
def test_a_label_is_the_same_class_in_all_splits(parts, container):
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), {f"{split}/{kind}/1.png": png(ord(kind)) for split, kind in parts}, container)
        for split in {split for split, _ in parts}:
            found = load_folder(path, split=split)
            assert found.class_names == tuple(sorted({kind for _, kind in parts}))
            assert [found.class_names[label] for label in found.labels] == [n.split("/")[1] for n in found.names]
            assert [ord(found.class_names[label]) for label in found.labels] == found.images[:, 0, 0, 0].tolist()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_listed_and_not_waited_for(tmp_path):
    path = write(tmp_path, {"a/1.png": png(9)}, "folder")
    os.mkfifo(path / "a" / "2.png")
    result = load_folder(path)
    assert result.names == ("a/1.png",) and result.skipped == (("a/2.png", "not a regular file"),)


def test_a_file_that_grows_beyond_the_limit_is_not_read_whole(tmp_path, monkeypatch):
    path = write(tmp_path, {"a/1.png": png(1)}, "folder")
    with folder.FileTree(path) as files:
        monkeypatch.setattr(folder, "MAX_FILE_BYTES", files.stamps["a/1.png"][0])
        assert len(files.read("a/1.png")) == folder.MAX_FILE_BYTES
        with open(path / "a" / "1.png", "ab") as file:
            file.write(b"more")
        with pytest.raises(ValueError, match="more than the limit"):
            files.read("a/1.png")


@pytest.mark.parametrize("container", ["zip", "folder"])
def test_what_cannot_be_used_is_listed(tmp_path, container):
    good = {f"c{k}/{k}.PNG": png(k) for k in range(3)}
    bad = {"c0/broken.png": png(1)[:40], "c0/empty.jpg": b"", "c1/notes.txt": b"hi", "stray.png": png(1)}
    ignored = {"__MACOSX/c0/._0.png": b"junk", ".hidden/a.png": png(1), "c0/.DS_Store": b"junk"}
    result = load_folder(write(tmp_path, good | bad | ignored, container))
    assert result.names == tuple(good) and result.class_names == ("c0", "c1", "c2")
    assert {name for name, _ in result.skipped} == set(bad)
    reasons = dict(result.skipped)
    assert "empty" in reasons["c0/empty.jpg"] and "suffixes" in reasons["c1/notes.txt"]
    assert "folders deep" in reasons["stray.png"] and not reasons["c0/broken.png"].startswith("c0/")


@pytest.mark.parametrize("how", ["permissions", "disk"])
def test_a_folder_that_cannot_be_read_is_listed(tmp_path, monkeypatch, how):
    files = {f"{kind}/{k}.png": png(9) for kind in ("open", "shut", ".shut") for k in range(2)}
    path, scandir = write(tmp_path, files, "folder"), os.scandir
    shut = (path / "shut", path / ".shut")

    def broken_disk(place):
        if Path(place) in shut:
            raise OSError(errno.EIO, "Input/output error", os.fspath(place))
        return scandir(place)

    if how == "disk":
        monkeypatch.setattr(os, "scandir", broken_disk)
    try:
        if how == "permissions":
            for place in shut:
                place.chmod(0)
            if os.access(shut[0], os.R_OK):
                pytest.skip("permissions do not bind this user")  # root, or anybody on Windows
        result = load_folder(path)
    finally:
        for place in shut:
            place.chmod(0o755)
    assert result.names == ("open/0.png", "open/1.png") and [name for name, _ in result.skipped] == ["shut"]
    assert result.skipped[0][1] == ("Permission denied" if how == "permissions" else "Input/output error")


def test_a_source_that_cannot_be_read_is_an_os_error(tmp_path, monkeypatch):
    path = write(tmp_path, {"a/1.png": png(9)}, "folder")

    def broken_disk(place):
        raise OSError(errno.EIO, "Input/output error", os.fspath(place))

    monkeypatch.setattr(os, "scandir", broken_disk)
    with pytest.raises(OSError, match="Input/output error"):
        load_folder(path)


def test_a_linked_folder_is_listed_and_not_followed(tmp_path):
    path = write(tmp_path, {"a/1.png": png(9)}, "folder")
    write(tmp_path / "elsewhere", {"b/2.png": png(9)}, "folder")
    try:
        for name, target in (("linked", tmp_path / "elsewhere/pictures/b"), ("a/round", path), (".hidden", path)):
            (path / name).symlink_to(target, target_is_directory=True)
    except OSError:  # Windows without the right to
        pytest.skip("no links here")
    result = load_folder(path)
    assert result.names == ("a/1.png",) and result.class_names == ("a",)
    assert result.skipped == (("a/round", "a link to a folder"), ("linked", "a link to a folder"))
    (path / "a" / "1.png").unlink()
    with pytest.raises(ValueError, match="found none in 0 files; a/round was not read: a link to a folder"):
        load_folder(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "MAX_FILE_BYTES", 200)
    path = write(tmp_path, {"a/1.png": png(1), "a/2.bmp": b"BM" + bytes(10_000)}, "zip")
    result = load_folder(path)
    assert result.names == ("a/1.png",) and "limit" in result.skipped[0][1]


def test_names_that_climb_out_are_read_in_place(tmp_path):
    path = write(tmp_path, {"a/b/../../../evil/1.png": png(1)}, "zip")
    with pytest.raises(ValueError):
        load_folder(path)
    assert [p.name for p in tmp_path.iterdir()] == ["pictures.zip"]


def test_a_damaged_member_is_skipped(tmp_path):
    data = png(7, 30)
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a/1.png", data)
        archive.writestr("a/2.png", png(8, 30))
    raw = bytearray(path.read_bytes())
    raw[raw.index(data) + 50] ^= 255
    path.write_bytes(raw)
    result = load_folder(path)
    assert result.names == ("a/2.png",) and "archive" in result.skipped[0][1]


def test_pictures_of_different_sizes_need_a_size(tmp_path):
    path = write(tmp_path, {"a/1.png": png(1, 4), "a/2.png": png(1, 5)}, "folder")
    with pytest.raises(ValueError, match="^size"):
        load_folder(path)
    assert load_folder(path, size=3).images.shape == (2, 3, 3, 3)


def test_the_cache_returns_the_same_and_notices_changes(tmp_path, monkeypatch):
    files = {"a/1.png": png(1), "a/2.png": png(2), "b/3.png": png(3)[:30]}
    path, cache = write(tmp_path, files, "zip"), tmp_path / "cache"
    first = load_folder(path, cache=cache)
    with monkeypatch.context() as patch:
        patch.setattr(folder, "decode", None)  # the second call must not decode
        second = load_folder(path, cache=cache)
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a, b)
    assert len(list(cache.iterdir())) == 1
    path = write(tmp_path, files | {"a/1.png": png(200)}, "zip")
    assert load_folder(path, cache=cache).images[0, 0, 0, 0] == 200
    for entry in cache.iterdir():  # a spoilt cache is decoded again
        entry.write_bytes(b"junk")
    assert load_folder(path, cache=cache).images[0, 0, 0, 0] == 200


@pytest.mark.parametrize("container", ["zip", "folder"])
def test_a_file_that_could_not_be_read_is_tried_again(tmp_path, monkeypatch, container):
    """Unlike one that is broken, which stays so while its size and time are the same."""
    files = {f"a/{k}.png": png(k) for k in range(3)} | {"b/broken.png": png(3)[:30]}
    path, cache = write(tmp_path, files, container), tmp_path / "cache"
    whole, name = (zipfile.ZipFile, "open") if container == "zip" else (Path, "open")
    read = getattr(whole, name)

    def no_network(self, *arguments):
        if "1.png" in str((self, *arguments)):
            raise OSError(errno.EHOSTDOWN, "Host is down")
        return read(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(whole, name, no_network)
        first = load_folder(path, cache=cache)
    assert first.names == ("a/0.png", "a/2.png") and "Host is down" in dict(first.skipped)["a/1.png"]
    second = load_folder(path, cache=cache)
    assert second.names == ("a/0.png", "a/1.png", "a/2.png") and len(list(cache.iterdir())) == 1
    assert [name for name, _ in second.skipped] == ["b/broken.png"]


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_cache_entry_cut_off_at_any_length_is_decoded_again(tmp_path, length):
    path, cache = write(tmp_path, {"a/1.png": png(1), "a/2.png": png(2)}, "zip"), tmp_path / "cache"
    first = load_folder(path, cache=cache)
    (entry,) = cache.iterdir()
    entry.write_bytes(entry.read_bytes()[:length])
    np.testing.assert_array_equal(load_folder(path, cache=cache).images, first.images)


def test_progress_counts_to_the_end(tmp_path):
    calls = []
    path = write(tmp_path, {f"a/{k}.png": png(k) for k in range(5)}, "folder")
    load_folder(path, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (5, 5)


TOO_DEEP = {"x/y/z/w/1.png": b"", "u/y/z/w/1.png": b""}


@pytest.mark.parametrize("files", [{"a/readme.txt": b""}, {"a/1.png": b"junk"}, TOO_DEEP])
def test_nothing_usable_is_an_error(tmp_path, files):
    with pytest.raises(ValueError, match="pictures"):
        load_folder(write(tmp_path, files, "folder"))


def test_wrong_sources(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_folder(tmp_path / "missing")
    (tmp_path / "file.zip").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="file.zip"):
        load_folder(tmp_path / "file.zip")
