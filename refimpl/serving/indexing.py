"""The indexing pipeline: a folder of pictures -> the index table, embedding only what is new or has changed."""

import os
import stat
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..images import decode
from ..validation import check_integer
from .embedding import embed
from .index_table import IndexTable, check_table

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
KEPT_EVERY = 20  # seconds


class Indexed(NamedTuple):
    """What an update of the index did."""

    table: IndexTable
    embedded: int  # pictures embedded now
    kept: int  # pictures whose embedding was still good
    removed: int  # rows whose file is gone or no longer readable
    skipped: list  # (name, reason) of files that could not be read


def find_pictures(folder):
    """Paths below `folder` that look like pictures, sorted; hidden files and folders are left out.

    Only the names are looked at: what cannot be read, or is no file, is among them. Raises ValueError if `folder` is
    none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    # os.path.isdir: where a folder may be listed and not entered, path.is_dir() raises PermissionError
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not os.path.isdir(path))
    return sorted(path for path in paths if not any(p.startswith(".") for p in path.relative_to(folder).parts))


def update_table(table, folder, encoder, *, batch=64, progress=None, keep=None):
    """Bring the table up to date with the folder.

    A file counts as unchanged if its size and its time of modification are. What cannot be decoded or is no regular
    file (a pipe, say, which would be waited for) is skipped, with the reason; the others go on. At most `batch` decoded
    pictures are in memory.

    table     an IndexTable of this encoder's embeddings; `empty_table` to begin with
    progress  called as progress(done, total) over the files to embed
    keep      called with the table so far every KEPT_EVERY seconds, to be saved: whoever is interrupted goes on there
    Returns Indexed, its rows sorted by name. Raises ValueError if `folder` is none, if the table is of another encoder
    or of another width, and if `batch` is not an integer >= 1.
    """
    check_table(table, encoder)
    batch = check_integer(batch, "batch", minimum=1)
    folder = Path(folder)
    known = {name: i for i, name in enumerate(table.names.tolist())}
    names, stamps, rows, fresh, skipped = [], [], [], [], []
    for path in find_pictures(folder):
        name = path.relative_to(folder).as_posix()
        try:
            status = path.stat()
        except OSError as error:  # a link to nowhere, gone since it was found, or in a folder that may not be entered
            skipped.append((name, str(error)))
            continue
        if not stat.S_ISREG(status.st_mode):
            skipped.append((name, f"{path}: not a regular file"))
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
                pictures.append(decode(folder / name))
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
