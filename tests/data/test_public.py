"""Where data sets are looked for, and downloads from a server on this machine: good, bad, broken off, absent."""

import hashlib
import http.server
import io
import os
import tarfile
import threading
import time
import urllib.request
import zipfile

import numpy as np
import pytest
from PIL import Image

from refimpl.data import DownloadError, cifar10, clothing, locate, omniglot, omniglot_runs, public
from refimpl.data.public import download

CONTENT = bytes(range(256)) * 3000
HASH = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """/good honours ranges, /plain ignores them, /cut stops half way, /waits stops there until the server's `go`.

    Anything else is not there.
    """

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        content = self.server.content
        start = 0
        if self.path in ("/good", "/waits") and (asked := self.headers.get("Range")):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self.send_error(416)
            self.send_response(206)
        elif self.path in ("/good", "/plain", "/cut", "/waits"):
            self.send_response(200)
        else:
            return self.send_error(404)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        half = max(start, len(content) // 2) if self.path in ("/cut", "/waits") else len(content)
        self.wfile.write(content[start:half])
        if self.path == "/waits":
            self.server.go.wait(10)
            self.wfile.write(content[half:])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.content, server.go = [], CONTENT, threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # urlopen keeps the proxies of the process's first call
    monkeypatch.setenv("REFIMPL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REFIMPL_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_good_download(server, tmp_path):
    calls, path = [], tmp_path / "a.bin"
    download(server.url + "/good", path, sha256=HASH, progress=lambda *call: calls.append(call))
    assert path.read_bytes() == CONTENT
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert not list(tmp_path.glob("*.part"))


def test_a_wrong_hash_leaves_nothing(server, tmp_path):
    path = tmp_path / "empty" / "a.bin"
    with pytest.raises(DownloadError, match="SHA-256"):
        download(server.url + "/good", path, sha256="0" * 64)
    assert names(path.parent) == []


def test_a_broken_off_download_is_continued(server, tmp_path):
    path = tmp_path / "a.bin"
    with pytest.raises(DownloadError):
        download(server.url + "/cut", path, sha256=HASH)
    assert not path.exists()
    half = (tmp_path / "a.bin.part").stat().st_size
    assert 0 < half < len(CONTENT)
    download(server.url + "/good", path, sha256=HASH)
    assert server.requests[-1] == ("/good", f"bytes={half}-")
    assert path.read_bytes() == CONTENT


def test_a_server_that_cannot_continue_sends_all_again(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    download(server.url + "/plain", tmp_path / "a.bin", sha256=HASH)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_part_that_is_already_whole(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    download(server.url + "/good", tmp_path / "a.bin", sha256=HASH)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("sha256", [None, HASH])
@pytest.mark.parametrize("second", ["/good", "/cut", "/waits"])
def test_two_downloads_of_one_file_at_the_same_time(server, tmp_path, sha256, second):
    """One is on its way when another begins, which is done sooner, fails, or is done later: no file but a whole one."""
    path, half_way, errors = tmp_path / "a.bin", threading.Event(), []

    def fetch(url, progress=None):
        try:
            download(server.url + url, path, sha256=sha256, progress=progress)
            assert path.read_bytes() == CONTENT and (tmp_path / "a.bin.sha256").read_text().strip() == HASH
        except BaseException as error:
            errors.append(error)

    begun = threading.Thread(target=fetch, args=("/waits", lambda *_: half_way.set()))
    threads = [begun, threading.Thread(target=fetch, args=(second,))]
    begun.start()
    assert half_way.wait(10)
    threads[1].start()
    if second == "/waits":
        while len(server.requests) < 2:
            threads[1].join(0.01)
    else:
        threads[1].join(10)
    server.go.set()
    for thread in threads:
        thread.join(10)
    assert [type(error) for error in errors] == ([DownloadError] if second == "/cut" else [])
    assert path.read_bytes() == CONTENT and (tmp_path / "a.bin.sha256").read_text().strip() == HASH


def test_two_first_downloads_of_different_files_are_not_both_trusted(server, tmp_path):
    path = tmp_path / "a.bin"

    server.content = CONTENT[::-1]

    def later(*_):
        if not path.exists():
            server.content = CONTENT
            download(server.url + "/good", path)

    with pytest.raises(DownloadError, match=f"expected SHA-256 {HASH}"):
        download(server.url + "/good", path, progress=later)
    assert path.read_bytes() == CONTENT and names(tmp_path) == ["a.bin", "a.bin.sha256", "data"]


def test_a_download_stopped_by_hand_is_continued(server, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(server.url + "/good", tmp_path / "a.bin", sha256=HASH, progress=stop)
    done = (tmp_path / "a.bin.part").stat().st_size
    download(server.url + "/good", tmp_path / "a.bin", sha256=HASH)
    assert server.requests[-1] == ("/good", f"bytes={done}-")
    assert names(tmp_path) == ["a.bin", "a.bin.sha256", "data"]


@pytest.mark.parametrize("sha256", [None, HASH])
@pytest.mark.parametrize("age", [0, 2 * public.ABANDONED])
def test_what_a_killed_process_has_left_is_continued_once_it_must_be_gone(server, tmp_path, sha256, age):
    left = tmp_path / f"a.bin.{'0123456789abcdef' * 2}.part"
    left.write_bytes(CONTENT[:1000])
    os.utime(left, (time.time() - age,) * 2)
    download(server.url + "/good", tmp_path / "a.bin", sha256=sha256)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.requests == [("/good", "bytes=1000-" if age and sha256 else None)]
    assert left.exists() == (age == 0)  # of another process that is at work


def test_trust_on_first_use(server, tmp_path):
    path = tmp_path / "a.bin"
    (tmp_path / "a.bin.part").write_bytes(b"of another version")  # must not be continued: no hash would tell
    download(server.url + "/good", path)
    assert path.read_bytes() == CONTENT and (tmp_path / "a.bin.sha256").read_text().strip() == HASH
    path.unlink()
    server.content = CONTENT[::-1]
    with pytest.raises(DownloadError, match=HASH):
        download(server.url + "/good", path)
    assert not path.exists()


def test_absent_and_offline_say_what_to_do(server, tmp_path, monkeypatch):
    source = public.SOURCES["clothing"]
    for url in (server.url + "/absent", "http://127.0.0.1:9/closed"):
        monkeypatch.setitem(public.SOURCES, "clothing", source._replace(url=url))
        with pytest.raises(DownloadError) as caught:
            clothing("train", 32)
        message = str(caught.value)
        assert isinstance(caught.value, OSError) and url in message and "\n" not in message
        assert str(tmp_path / "cache" / source.file) in message and "REFIMPL_DATA" in message


def test_own_data_come_before_the_cache_and_that_before_the_net(server, tmp_path, monkeypatch):
    source = public.SOURCES["clothing"]._replace(url=server.url + "/good")
    monkeypatch.setitem(public.SOURCES, "clothing", source)
    assert locate("clothing") == tmp_path / "cache" / source.file
    assert locate("clothing") == tmp_path / "cache" / source.file and len(server.requests) == 1
    own = tmp_path / "data" / "clothing-small-192.zip"
    own.write_bytes(b"")
    assert locate("clothing") == own


@pytest.mark.parametrize(
    "platform, variable, expected",
    [("linux", "XDG_CACHE_HOME", "refimpl"), ("win32", "LOCALAPPDATA", "refimpl")],
)
def test_the_cache_folder_of_the_system(monkeypatch, tmp_path, platform, variable, expected):
    monkeypatch.delenv("REFIMPL_CACHE")
    monkeypatch.setattr(public.sys, "platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert public.cache_folder() == tmp_path / expected


def picture(value, side=105):
    file = io.BytesIO()
    Image.new("L", (side, side), value).save(file, "PNG")
    return file.getvalue()


def test_clothing_reads_the_original_and_the_scaled_archive(tmp_path):
    path = tmp_path / "data" / "clothing-dataset-small.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("clothing-dataset-small-master/README.md", "words")
        for split in ("train", "test", "validation"):
            for kind in ("hat", "shoes"):
                archive.writestr(f"clothing-dataset-small-master/{split}/{kind}/1.png", picture(50, 40))
    result = clothing("validation", 16)
    assert result.images.shape == (2, 16, 16, 3) and result.class_names == ("hat", "shoes")


def binary_archive(path, records):
    with tarfile.open(path, "w:gz") as archive:
        for name, rows in records.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = rows.size
            archive.addfile(info, io.BytesIO(rows.tobytes()))


def test_cifar_binary(tmp_path):
    rng = np.random.default_rng(0)
    batches = {f"data_batch_{k}.bin": rng.integers(0, 256, (3, 3073)).astype(np.uint8) for k in range(1, 6)}
    batches["test_batch.bin"] = rng.integers(0, 256, (2, 3073)).astype(np.uint8)
    for rows in batches.values():
        rows[:, 0] %= 10
    path = tmp_path / "data" / "cifar-10-binary.tar.gz"
    binary_archive(path, batches)
    train, test = cifar10("train"), cifar10("test", size=16)
    assert train.images.shape == (15, 32, 32, 3) and test.images.shape == (2, 16, 16, 3)
    record = batches["data_batch_2.bin"][1]
    assert train.labels[4] == record[0]
    for y, x, channel in [(0, 0, 0), (5, 7, 1), (31, 30, 2)]:
        assert train.images[4, y, x, channel] == record[1 + channel * 1024 + y * 32 + x]
    batches["test_batch.bin"][0, 0] = 10
    binary_archive(path, batches)
    with pytest.raises(ValueError, match="labels"):
        cifar10("test")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="archive"):
        cifar10("train")


@pytest.mark.parametrize("place", np.linspace(0.05, 0.999, 12))
def test_a_damaged_byte_of_the_archive_is_a_value_error(tmp_path, place):
    """Whether zlib, gzip or tarfile is the first to notice."""
    noise = np.random.default_rng(0).integers(0, 10, (20, 3073)).astype(np.uint8)
    path = tmp_path / "data" / "cifar-10-binary.tar.gz"
    binary_archive(path, {"test_batch.bin": noise})
    whole = path.read_bytes()
    at = int(place * len(whole))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    with pytest.raises(ValueError, match="broken archive"):
        public.read_cifar_binary(path, "test")


def test_omniglot(tmp_path):
    folder = tmp_path / "data" / "omniglot"
    folder.mkdir()
    with zipfile.ZipFile(folder / "images_background_small1.zip", "w") as archive:
        for alphabet, character in [("Greek", 1), ("Greek", 2), ("Latin", 1)]:
            for drawer in (1, 2):
                name = f"images_background_small1/{alphabet}/character{character:02}/{drawer}.png"
                archive.writestr(name, picture(100 * (character - 1)))
    result = omniglot("background_small1", size=28)
    assert result.images.shape == (6, 28, 28, 3)
    assert result.class_names == ("Greek/character01", "Greek/character02", "Latin/character01")
    assert result.labels.tolist() == [0, 0, 1, 1, 2, 2] and result.images[2, 0, 0, 0] == 100
    with zipfile.ZipFile(folder / "all_runs.zip", "w") as archive:
        for run in ("run01", "run02"):
            for k in range(1, 4):
                archive.writestr(f"{run}/training/class{k:02}.png", picture(k))
                archive.writestr(f"{run}/test/item{k:02}.png", picture(10 * k))
            lines = [f"{run}/test/item{k:02}.png {run}/training/class{k % 3 + 1:02}.png\n" for k in range(1, 4)]
            archive.writestr(f"{run}/class_labels.txt", "".join(lines))
    runs = omniglot_runs(size=20)
    assert len(runs) == 2 and runs[0].training.shape == (3, 20, 20, 3)
    assert runs[1].labels.tolist() == [1, 2, 0]
    assert runs[0].test[:, 0, 0, 0].tolist() == [10, 20, 30] and runs[0].training[:, 0, 0, 0].tolist() == [1, 2, 3]


def test_wrong_arguments():
    with pytest.raises(ValueError, match="^split"):
        cifar10("validation")
    with pytest.raises(ValueError, match="^which"):
        omniglot("all")
    with pytest.raises(ValueError, match="^name"):
        locate("imagenet")
