"""The public data sets: clothing, CIFAR-10, Omniglot. Looked for on this machine first, else downloaded once.

Where a file is looked for, in this order:

    $REFIMPL_DATA          a folder that you have filled yourself
    the cache              $REFIMPL_CACHE, or the user's cache folder of the operating system
    the public original    downloaded into the cache

A download goes to a name of its own, so that two processes may download one file at the same time. It is checked
against its SHA-256, and only then takes its final name; after an interruption it waits as `NAME.part` for the next call
to continue it. GitHub packs the archive of a repository anew from time to time, so the clothing set has no hash
that could be written down here: the hash of the first download is kept beside it (`NAME.sha256`), and a later
download must have the same (trust on first use).

`progress` is called as progress(done, total): of bytes while downloading, of files while a folder or zip of pictures
is decoded (not for Omniglot and the binary CIFAR-10, which take a second or two).

Licences: clothing CC0 1.0; CIFAR-10 (Krizhevsky, "Learning multiple layers of features from tiny images", 2009) free
for research; Omniglot (Lake, Salakhutdinov and Tenenbaum, "Human-level concept learning through probabilistic program
induction", 2015) MIT.
"""

import contextlib
import glob
import gzip
import hashlib
import http.client
import os
import sys
import tarfile
import time
import urllib.error
import urllib.request
import uuid
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..files import atomic_write
from ..images import decode, resize
from ..images.preprocess import MODES
from ..validation import check_choice, check_integer
from .folder import FileTree, ImageSet, load_folder

CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
OMNIGLOT_SETS = ("background_small1", "background_small2")
TIMEOUT = 30  # seconds without a byte
ABANDONED = 10 * TIMEOUT  # seconds after which whoever was downloading a file must be gone


class Source(NamedTuple):
    """One public file: the names under which it may lie in $REFIMPL_DATA, and where the original is."""

    local: tuple  # paths below $REFIMPL_DATA, in order of preference
    url: str
    file: str  # name in the cache
    sha256: str | None  # None: trust on first use


_OMNIGLOT = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
SOURCES = {
    "clothing": Source(
        ("clothing-dataset-small", "clothing-dataset-small.zip", "clothing-small-192.zip", "clothing", "clothing.zip"),
        "https://github.com/alexeygrigorev/clothing-dataset-small/archive/HEAD.zip",
        "clothing-dataset-small.zip",
        None,
    ),
    # The binary version: plain bytes. (The Python version is a pickle, which could run anything.)
    "cifar10": Source(
        ("cifar-10-binary.tar.gz", "cifar10-jpg.zip", "cifar10", "cifar10.zip"),
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
    "omniglot background_small1": Source(
        ("omniglot/images_background_small1.zip", "images_background_small1.zip"),
        _OMNIGLOT + "images_background_small1.zip",
        "images_background_small1.zip",
        "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
    ),
    "omniglot background_small2": Source(
        ("omniglot/images_background_small2.zip", "images_background_small2.zip"),
        _OMNIGLOT + "images_background_small2.zip",
        "images_background_small2.zip",
        "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
    ),
    "omniglot all_runs": Source(
        ("omniglot/all_runs.zip", "all_runs.zip"),
        _OMNIGLOT + "one-shot-classification/all_runs.zip",
        "all_runs.zip",
        "437c1eeab0af8484112e1b4cc0f3d541ec727f7c47b9b202da738af9dfd6c325",
    ),
}


class DownloadError(OSError):
    """A data set is neither on this machine nor could it be downloaded; the message says what to do."""


class OneShotRun(NamedTuple):
    """One of Omniglot's 20 runs of 20-way one-shot classification."""

    training: np.ndarray  # (20, size, size, 3) uint8, one picture a class
    test: np.ndarray  # (20, size, size, 3) uint8
    labels: np.ndarray  # (20,) int64: test[i] is the same character as training[labels[i]]


def clothing(split, size, *, mode="stretch", progress=None):
    """Photographs of clothes in 10 classes, as an `ImageSet`.

    split   "train", "test" or, in the original, "validation"
    size    side in pixels; `mode` is how they get it, see `images.resize`
    """
    path = locate("clothing", progress)
    return load_folder(path, split=split, size=size, mode=mode, progress=progress, cache=cache_folder())


def cifar10(split, *, size=32, progress=None):
    """CIFAR-10, as an `ImageSet`: split "train" (50,000 pictures) or "test" (10,000).

    The original is lossless. A `cifar10-jpg.zip` in $REFIMPL_DATA is JPEG: say so beside any figure (`.source` tells).
    """
    check_choice(split, "split", ("train", "test"))
    size = check_integer(size, "size", minimum=1)
    path = locate("cifar10", progress)
    if not str(path).endswith(".tar.gz"):
        return load_folder(path, split=split, size=size, progress=progress, cache=cache_folder())
    images, labels = read_cifar_binary(path, split)
    if size != 32:
        images = np.stack([resize(image, size) for image in images])
    names = tuple(f"{split}/{CIFAR_CLASSES[label]}/{row:05d}" for row, label in enumerate(labels))
    return ImageSet(images, labels, CIFAR_CLASSES, names, (), str(path))


def omniglot(which="background_small1", *, size=105, mode="stretch", progress=None):
    """One of Omniglot's minimal background sets ("background_small1", "background_small2"), as an `ImageSet`.

    Black strokes on white, 20 drawers a character; a class is called "ALPHABET/CHARACTER". The channels are equal.
    Two of the five alphabets of each, Greek and Latin, are in both sets, with the same drawings: to train on one and
    judge on the other, leave these out.
    """
    check_choice(which, "which", OMNIGLOT_SETS)
    size = check_integer(size, "size", minimum=1)
    check_choice(mode, "mode", MODES)
    path = locate(f"omniglot {which}", progress)
    with FileTree(path) as files:
        names = [name for name in files.names if name.endswith(".png")]
        classes = ["/".join(name.split("/")[-3:-1]) for name in names]
        images = np.stack([resize(decode(files.read(name), name=name), size, mode) for name in names])
    class_names, labels = np.unique(classes, return_inverse=True)
    return ImageSet(images, labels.astype(np.int64), tuple(map(str, class_names)), tuple(names), (), str(path))


def omniglot_runs(*, size=105, mode="stretch", progress=None):
    """Omniglot's official one-shot test, a tuple of 20 `OneShotRun`: 400 trials in all."""
    size = check_integer(size, "size", minimum=1)
    check_choice(mode, "mode", MODES)
    runs = []
    with FileTree(locate("omniglot all_runs", progress)) as files:

        def picture(name):
            return resize(decode(files.read(name), name=name), size, mode)

        for run in sorted({name.split("/")[0] for name in files.names}):
            # a line: run01/test/item01.png run01/training/class08.png
            lines = files.read(f"{run}/class_labels.txt").decode("ascii").split("\n")
            pairs = [line.split() for line in lines if line.strip()]
            training = sorted(name for name in files.names if name.startswith(f"{run}/training/"))
            labels = np.array([training.index(answer) for _, answer in pairs], np.int64)
            test = np.stack([picture(question) for question, _ in pairs])
            runs.append(OneShotRun(np.stack([picture(name) for name in training]), test, labels))
    return tuple(runs)


def read_cifar_binary(path, split):
    """(images (n, 32, 32, 3) uint8, labels (n,) int64) from `cifar-10-binary.tar.gz`, in the order of the files.

    A record is 3073 bytes: the label, then the red, green and blue planes of 32 x 32, row by row.
    """
    wanted = ["test_batch.bin"] if split == "test" else [f"data_batch_{k}.bin" for k in range(1, 6)]
    found = {}
    try:
        with gzip.open(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as archive:
            for member in archive:  # read in place: nothing is unpacked to disk
                name = member.name.rsplit("/", 1)[-1]
                if member.isfile() and name in wanted:
                    found[name] = archive.extractfile(member).read()
            while unpacked.read(1 << 20):  # to the end, where the checksum is: a wrong byte may unpack to other pixels
                pass
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise ValueError(f"{path}: broken archive ({error})") from None
    if len(found) != len(wanted):
        raise ValueError(f"{path}: expected {', '.join(wanted)}, found {', '.join(sorted(found)) or 'none of them'}")
    data = np.frombuffer(b"".join(found[name] for name in wanted), np.uint8)
    if len(data) == 0 or len(data) % 3073:
        raise ValueError(f"{path}: expected records of 3073 bytes, got {len(data)} bytes")
    records = data.reshape(-1, 3073)
    if records[:, 0].max() > 9:
        raise ValueError(f"{path}: expected labels 0..9, got {records[:, 0].max()}")
    images = np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return images, records[:, 0].astype(np.int64)


def cache_folder():
    """The folder for downloads and decoded pictures: $REFIMPL_CACHE, or `refimpl` in the user's cache folder."""
    if chosen := os.environ.get("REFIMPL_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "refimpl"


def locate(name, progress=None):
    """The path of a data set's file or folder on this machine, downloaded if need be; see the module's head.

    name       key of SOURCES
    progress   called as progress(bytes done, bytes in all), the second 0 if the server does not say

    Raises DownloadError, naming the URL and where the file may be put instead.
    """
    source = SOURCES[check_choice(name, "name", tuple(SOURCES))]
    if own := os.environ.get("REFIMPL_DATA"):
        for local in source.local:
            if (Path(own) / local).exists():
                return Path(own) / local
    path = cache_folder() / source.file
    if not path.exists():
        try:
            download(source.url, path, sha256=source.sha256, progress=progress)
        except OSError as error:
            raise DownloadError(
                f"{name}: not on this machine, and the download failed ({error}). Put the file from {source.url} "
                f"at {path}, or name a folder with {source.local[0]} in REFIMPL_DATA"
            ) from None
    return path


def download(url, path, *, sha256=None, progress=None):
    """`url` as the file `path`, complete and checked, or OSError and no such file.

    sha256   hexadecimal; None compares with `path`.sha256 if that exists and writes it if not

    If the hash is known, an interrupted download stays in `path`.part, and the next call continues it; without one
    nothing would tell that the two halves belong to the same file. While it runs it has a name that no other call uses:
    calls at the same time each download the whole, and each hashes and renames what it has written itself.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part, record = path.with_name(path.name + ".part"), path.with_name(path.name + ".sha256")
    own = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    if sha256 is None:
        sha256 = _recorded(record)
    _take_over(part, own, sha256 is not None)
    try:
        _fetch(url, own, progress)
    except BaseException:  # also whoever stops it by hand may go on one day
        with contextlib.suppress(OSError):
            if sha256 is None:
                own.unlink()
            else:
                os.replace(own, part)
        raise
    found = _sha256(own)
    if sha256 is None:
        sha256 = _recorded(record)  # another call may have been first
    if sha256 is not None and found != sha256:
        own.unlink()
        raise DownloadError(f"{url}: expected SHA-256 {sha256}, got {found}; the file was thrown away")
    if not record.exists():
        with atomic_write(record) as file:
            file.write(found.encode() + b"\n")
    try:
        os.replace(own, path)
    except PermissionError:  # Windows, where another call was first and its file is being read already
        same = path.exists() and _sha256(path) == found
        own.unlink()
        if not same:
            raise


def _take_over(part, own, known):
    """Rename to `own` what an interrupted download has left, to continue it; remove it if no hash is known.

    Left is `part`, and of a process that was killed the name that it used, when nobody has written there for ABANDONED
    seconds. Two calls may want the same: the rename gives it to one of them.
    """
    for left in (part, *part.parent.glob(f"{glob.escape(part.stem)}.{32 * '?'}.part")):
        with contextlib.suppress(OSError):  # not there or no longer, or on Windows still open
            if left != part and time.time() - left.stat().st_mtime < ABANDONED:
                continue
            if known and not own.exists():
                os.utime(left)  # or the next call would take it away again before the first byte comes
                os.rename(left, own)
            else:
                left.unlink()


def _recorded(record):
    return record.read_text().strip() if record.exists() else None


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(url, part, progress):
    """Download `url` to `part`, after what is there already if the server can continue."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "refimpl"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            continued = done > 0 and answer.status == 206
            done = done if continued else 0
            length = answer.headers.get("Content-Length")
            total = done + int(length) if length else 0
            with open(part, "ab" if continued else "wb") as file:
                while block := answer.read(1 << 18):
                    file.write(block)
                    done += len(block)
                    if progress is not None:
                        progress(done, total)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # nothing is left to send: the part is whole, or not what the server has
            return
        raise DownloadError(f"{url}: {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise DownloadError(f"{url}: no connection ({error.reason})") from None
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{url}: interrupted after {done} bytes ({error})") from None
    if total and done != total:
        raise DownloadError(f"{url}: ended after {done} of {total} bytes")
