"""The indexing pipeline: a folder of pictures -> the index table, embedding only what is new or has changed."""

import os
import stat
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..data.folder import MAX_FILE_BYTES
from ..images import decode, resize
from ..validation import check_integer
from .embedding import embed
from .index_table import IndexTable, check_table

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
KEPT_EVERY = 20  # seconds


class Indexed(NamedTuple):
    """What an update of the index did."""

    table: IndexTable
    embedded: int  # pictures embedded now
    kept: int  # pictures whose embedding was still good, or could not be looked at, as their folder cannot be read
    removed: int  # rows whose file is gone or no longer readable
    skipped: list  # (name, reason) of files and folders that could not be read


def find_pictures(folder):
    """Paths below `folder` that look like pictures, sorted; hidden files and folders are left out.

    Only the names are looked at: a file that cannot be read, or is none, is among them. Links to folders are not
    followed, and what is in a folder that cannot be read is missing; `update_table` lists such folders. Raises
    ValueError if `folder` is none, OSError if it cannot be read.
    """
    return _find(folder)[0]


def _find(folder):
    """(paths of pictures, sorted; [(path, error)] of the folders below that cannot be read)."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    unread = []

    def unreadable(error):
        if Path(error.filename) == folder:
            raise error
        unread.append((Path(error.filename), error))

    paths = []
    for place, subfolders, files in os.walk(folder, onerror=unreadable):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        paths += [Path(place) / name for name in files if not name.startswith(".")]
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES), unread


def update_table(table, folder, encoder, *, batch=64, progress=None, keep=None):
    """Bring the table up to date with the folder.

    A file counts as unchanged if its size and its time of modification are. A file is skipped, with the reason, if it
    cannot be decoded, is larger than MAX_FILE_BYTES, or is not a regular file (reading a pipe, say, would wait); the
    others go on. A folder that cannot be read is skipped too, but its rows stay, since nobody knows what is in it now.
    In memory at any time are one decoded picture and at most `batch` pictures of the encoder's size.

    table     an IndexTable of this encoder's embeddings; `empty_table` to begin with
    batch     pictures that are embedded at a time
    progress  called as progress(done, total) over the files to embed
    keep      called every KEPT_EVERY seconds with the table so far; save it, and after an interruption go on from it
    Returns Indexed, its rows sorted by name. Raises ValueError if `folder` is no folder, if the table is of another
    encoder or of another width, and if `batch` is not an integer >= 1; OSError if `folder` itself cannot be read.
    """
    check_table(table, encoder)
    batch = check_integer(batch, "batch", minimum=1)
    folder = Path(folder)
    known = {name: i for i, name in enumerate(table.names.tolist())}
    names, stamps, rows, fresh, skipped = [], [], [], [], []
    paths, unread = _find(folder)
    for place, error in unread:
        inside = place.relative_to(folder).as_posix()
        skipped.append((inside, str(error)))
        for name, row in known.items():
            if name.startswith(f"{inside}/"):
                names.append(name)
                stamps.append(table.stamps[row])
                rows.append(table.embeddings[row])
    for path in paths:
        name = path.relative_to(folder).as_posix()
        try:
            status = path.stat()
        except OSError as error:  # a link to nowhere, gone since it was found, or in a folder that may not be entered
            skipped.append((name, str(error)))
            continue
        if not stat.S_ISREG(status.st_mode):
            skipped.append((name, f"{path}: not a regular file"))
            continue
        if status.st_size > MAX_FILE_BYTES:
            skipped.append((name, f"{path}: {status.st_size} bytes are more than the limit of {MAX_FILE_BYTES}"))
            continue
        stamp = (status.st_size, status.st_mtime_ns)
        if name in known and tuple(table.stamps[known[name]].tolist()) == stamp:
            names.append(name)
            stamps.append(stamp)
            rows.append(table.embeddings[known[name]])
        else:
            fresh.append((name, stamp))
    kept, saved = len(names), time.monotonic()

    def so_far():
        order = np.argsort(np.array(names, dtype=object), kind="stable").astype(np.int64)
        return IndexTable(
            np.array(names, dtype=str)[order],
            np.array(stamps, np.int64).reshape(-1, 2)[order],
            np.array(rows, np.float32).reshape(-1, table.embeddings.shape[1])[order],
            table.encoder,
        )

    for first in range(0, len(fresh), batch):
        pictures, read = [], []
        for name, stamp in fresh[first : first + batch]:
            try:
                pictures.append(resize(decode(folder / name), encoder.size, encoder.mode))  # a photograph is large
                read.append((name, stamp))
            except (ValueError, OSError) as error:
                skipped.append((name, str(error)))
        rows.extend(embed(encoder, pictures))
        names.extend(name for name, _ in read)
        stamps.extend(stamp for _, stamp in read)
        if progress is not None:
            progress(min(first + batch, len(fresh)), len(fresh))
        if keep is not None and time.monotonic() - saved >= KEPT_EVERY:
            keep(so_far())
            saved = time.monotonic()
    return Indexed(so_far(), len(names) - kept, kept, len(set(known) - set(names)), skipped)
