"""Labelled pictures from a folder or a zip archive laid out as `SPLIT/CLASS/IMAGE` or `CLASS/IMAGE`.

The folder that holds a picture is its class; the folder above that, if there is one, is its split. Which layout it is
follows from the depth that most pictures have; pictures at another depth are skipped. A single folder around everything
(as in an archive of a repository) does not count, unless its name is that of a split.

A zip is read in place and never unpacked to disk, so names such as `../../x` can do no harm; a file in it that claims
or turns out to be larger than `MAX_FILE_BYTES` is not read, and every picture's pixel count is checked before it is
decoded. What cannot be used is listed in `skipped` with the reason, also folders that cannot be read and links to
folders; nothing is dropped silently but hidden files and the `__MACOSX` folders that Apple's archiver adds.
"""

import concurrent.futures
import contextlib
import hashlib
import os
import stat
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL

from ..files import atomic_write
from ..images import decode, resize
from ..images.preprocess import MODES
from ..validation import check_choice, check_integer

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
SPLITS = ("train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval")
MAX_FILE_BYTES = 200_000_000
CACHE_VERSION = 2  # of the decoded arrays; raise it when decoding or resizing changes


class ImageSet(NamedTuple):
    """n labelled pictures of one size, in the order of their names."""

    images: np.ndarray  # (n, size, size, 3) uint8
    labels: np.ndarray  # (n,) int64, index into class_names
    class_names: tuple  # sorted, of all splits of the source: a label is the same class in each
    names: tuple  # n paths inside the folder or archive, with "/"
    skipped: tuple  # (name, reason) of every file or folder that could not be used
    source: str  # the folder or file that the pictures came from


def load_folder(source, *, split=None, size=None, mode="stretch", progress=None, cache=None):
    """All pictures of a folder or zip archive, as an `ImageSet`.

    source    path of a folder or zip laid out as SPLIT/CLASS/IMAGE or CLASS/IMAGE
    split     name of the split to read; None reads all
    size      side in pixels to which pictures are resized; None if all have one square size already
    mode      how they are resized, see `images.resize`
    progress  called as progress(files done, files in all)
    cache     a folder for the decoded arrays, so that the next call only reads them; None keeps nothing. An entry
              holds for the same files (name, size, time of change), split, size, mode and version of Pillow. None is
              written when a file could not be read: the next call, with the network or the right back, tries again.

    Raises ValueError if there is no such split or not one usable picture, OSError if `source` cannot be read.
    """
    size = None if size is None else check_integer(size, "size", minimum=1)
    check_choice(mode, "mode", MODES)
    with FileTree(source) as files:
        chosen, classes, skipped = _layout(files, split)
        key = _cache_key(files, chosen, size, mode)
        stored = None if cache is None else Path(cache) / f"decoded-{key}.npz"
        if stored is not None and (arrays := _read_cache(stored)) is not None:
            images, kept, broken = arrays
        else:
            images, kept, broken, all_read = _decode_all(files, chosen, size, mode, progress)
            if stored is not None and all_read:
                _write_cache(stored, images, kept, broken)
    names = tuple(chosen[i] for i in kept)
    number = {name: label for label, name in enumerate(classes)}
    labels = np.array([number[name.split("/")[-2]] for name in names], np.int64)
    return ImageSet(images, labels, classes, names, tuple(skipped + broken), str(source))


class FileTree:
    """The files below a folder or in a zip, to be used in a `with`.

    .names       sorted, with "/" between folders
    .stamps      {name: what tells a changed file}: (bytes, time of change), in a zip (bytes, CRC)
    .unread      [(name, reason)] of folders that could not be read, and of links to folders: they are not followed, as
                 one may lead back to where it stands
    .read(name)  the bytes of a file; may be called from several threads

    Hidden files and folders and `__MACOSX` are left out.
    """

    def __init__(self, source):
        self.path, self.unread = Path(source), []
        if self.path.is_dir():
            self.archive = None
            self.stamps = dict(self._walk())
        elif not self.path.exists():
            raise FileNotFoundError(f"{source}: no such file or folder")
        else:
            try:
                self.archive = zipfile.ZipFile(self.path)
            except zipfile.BadZipFile as error:
                raise ValueError(f"{source}: expected a folder or a zip archive ({error})") from None
            entries = [entry for entry in self.archive.infolist() if not entry.is_dir()]
            self.stamps = {entry.filename: (entry.file_size, entry.CRC) for entry in entries}
        self.names = sorted(name for name in self.stamps if not _hidden(name))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.archive is not None:
            self.archive.close()

    def _walk(self):
        def unreadable(error):
            if Path(error.filename) == self.path:
                raise error
            self.unread.append((Path(error.filename).relative_to(self.path).as_posix(), _reason(error)))

        for folder, subfolders, files in os.walk(self.path, onerror=unreadable):
            subfolders[:] = [name for name in subfolders if not _hidden(name)]
            links = [path for path in (Path(folder) / name for name in subfolders) if _is_link(path)]
            self.unread += [(path.relative_to(self.path).as_posix(), "a link to a folder") for path in links]
            for file in files:
                path = Path(folder) / file
                try:
                    state = path.stat()
                except OSError:  # a dangling link, or a file that has just gone: reading it gives the reason
                    yield path.relative_to(self.path).as_posix(), (0, 0)
                else:
                    yield path.relative_to(self.path).as_posix(), (state.st_size, state.st_mtime_ns)

    def read(self, name):
        """The bytes of a file; ValueError or OSError with the reason why not."""
        size = self.stamps[name][0]
        if size > MAX_FILE_BYTES:
            raise ValueError(f"{size} bytes are more than the limit of {MAX_FILE_BYTES}")
        if self.archive is None:
            path = self.path / name
            if not stat.S_ISREG(path.stat().st_mode):  # a pipe, say, would be waited for
                raise ValueError("not a regular file")
            with path.open("rb") as file:
                return self._limited(file)
        try:
            with self.archive.open(name) as file:
                return self._limited(file)
        except OSError as error:  # of the disk or the network, so perhaps not of the next try
            raise OSError(f"cannot be read from the archive ({_reason(error)})") from None
        except Exception as error:  # zipfile raises its own, zlib's, RuntimeError (passwords), NotImplementedError
            raise ValueError(f"cannot be read from the archive ({error})") from None

    @staticmethod
    def _limited(file):
        """All of it: what its folder or archive says of its size need not be true."""
        data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ValueError(f"it holds more than the limit of {MAX_FILE_BYTES} bytes")
        return data


def _hidden(name):
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _is_link(folder):
    """Whether os.walk will not go into it: a symbolic link, or a junction of Windows (from Python 3.12 on)."""
    return folder.is_symlink() or getattr(os.path, "isjunction", os.path.islink)(folder)


def _reason(error):
    return error.strerror or str(error)


def _layout(files, split):
    """(names of the pictures to read, classes of all splits, skipped) from the paths alone."""
    skipped, parts = sorted(files.unread), {}
    for name in files.names:
        if name.lower().endswith(SUFFIXES):
            parts[name] = name.split("/")
        else:
            skipped.append((name, f"not one of the suffixes {' '.join(SUFFIXES)}"))
    if not parts:
        unread = "".join(f"; {name} was not read: {reason}" for name, reason in sorted(files.unread)[:1])
        count = len(skipped) - len(files.unread)
        raise ValueError(f"{files.path}: expected pictures ({' '.join(SUFFIXES)}), found none in {count} files{unread}")
    depths = [len(p) - 1 for p in parts.values()]
    depth = max(set(depths), key=lambda d: (depths.count(d), d))
    for name in [name for name, p in parts.items() if len(p) - 1 != depth]:
        skipped.append((name, f"not {depth} folders deep, as most pictures here are"))
        del parts[name]
    outer = {p[0] for p in parts.values()}
    wrapped = depth >= 2 and len(outer) == 1 and not {name.lower() for name in outer} & set(SPLITS)
    levels = depth - wrapped
    if levels not in (1, 2):
        raise ValueError(f"{files.path}: expected SPLIT/CLASS/IMAGE or CLASS/IMAGE, got {next(iter(parts))!r}")
    if levels == 1 and split is not None:
        raise ValueError(f"split: {files.path} has none (CLASS/IMAGE), got {split!r}; see split_by_class")
    classes = tuple(sorted({p[-2] for p in parts.values()}))
    if split is not None:
        splits = sorted({p[-3] for p in parts.values()})
        check_choice(split, "split", splits)
        parts = {name: p for name, p in parts.items() if p[-3] == split}
    return list(parts), classes, skipped


def _decode_all(files, names, size, mode, progress):
    """Decode on all cores (Pillow's decoders run without Python's lock): images, rows kept, broken, all_read.

    broken is [(name, reason)]; all_read is false if a file could not be read, whatever it holds.
    """

    def one(name):
        try:
            image = decode(files.read(name), name=name)
            return (image if size is None else resize(image, size, mode)), None, True
        except (ValueError, OSError) as error:
            return None, str(error).removeprefix(f"{name}: "), not isinstance(error, OSError)

    images, kept, broken, all_read = None, [], [], True
    block = 256  # tasks at a time: enough for all cores, and progress is seen
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for start in range(0, len(names), block):
            for row, (image, reason, read) in enumerate(pool.map(one, names[start : start + block]), start):
                all_read &= read
                if reason is not None:
                    broken.append((names[row], reason))
                    continue
                if images is None:
                    side = image.shape[0] if size is None else size
                    images = np.empty((len(names), side, side, 3), np.uint8)
                if image.shape != images.shape[1:]:
                    raise ValueError(
                        f"size: needed, because the pictures differ: {names[row]} is "
                        f"{image.shape[1]} x {image.shape[0]} pixels, expected {images.shape[2]} x {images.shape[1]}"
                    )
                images[len(kept)] = image
                kept.append(row)
            if progress is not None:
                progress(min(start + block, len(names)), len(names))
    if not kept:
        raise ValueError(f"{files.path}: not one readable picture; the first: {broken[0][0]}: {broken[0][1]}")
    return images[: len(kept)], np.array(kept, np.int64), broken, all_read


def _cache_key(files, names, size, mode):
    digest = hashlib.sha256(repr((CACHE_VERSION, PIL.__version__, str(files.path.resolve()), size, mode)).encode())
    for name in names:
        digest.update(repr((name, files.stamps[name])).encode())
    return digest.hexdigest()[:32]


def _read_cache(path):
    try:
        with np.load(path, allow_pickle=False) as arrays:
            broken = [(str(name), str(reason)) for name, reason in arrays["broken"]]
            return arrays["images"], arrays["kept"], broken
    except Exception:  # none yet, or spoilt, of which NumPy and zipfile make nearly anything: decode again
        return None


def _write_cache(path, images, kept, broken):
    text = np.array(broken, dtype=np.str_).reshape(len(broken), 2)
    with contextlib.suppress(OSError), atomic_write(path) as file:  # a full or read-only disk costs time, not the data
        np.savez(file, images=images, kept=kept, broken=text)
