"""The index table: for every picture of a collection its name, what tells whether it has changed, and its embedding.

One .npz file, rewritten as a whole and atomically: a few thousand rows of a few hundred bytes. It records a
fingerprint of the encoder, because vectors of another encoder are not comparable.
"""

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL

from ..data.folder import CACHE_VERSION
from ..files import atomic_write


class IndexTable(NamedTuple):
    """What a folder's index remembers of its pictures, one row each, sorted by name."""

    names: np.ndarray  # (n,) str, path below the folder, with forward slashes
    stamps: np.ndarray  # (n, 2) int64, size in bytes and time of modification in ns
    embeddings: np.ndarray  # (n, d) float32, unit length
    encoder: str  # fingerprint of the encoder


def empty_table(encoder_fingerprint, dimension):
    """A table without rows."""
    return IndexTable(
        np.zeros(0, "<U1"), np.zeros((0, 2), np.int64), np.zeros((0, dimension), np.float32), encoder_fingerprint
    )


def fingerprint(encoder):
    """A short hash of everything that decides the vectors of an Encoder, decoding and resizing included."""
    digest = hashlib.sha256(f"{CACHE_VERSION} {PIL.__version__} {encoder.size} {encoder.mode}".encode())
    for array in (encoder.mean, encoder.std, *(encoder.weights[name] for name in sorted(encoder.weights))):
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:16]


def check_table(table, encoder):
    """ValueError if the table's embeddings are not of this encoder, or not as wide as what it gives."""
    mark = fingerprint(encoder)
    if table.encoder != mark:
        raise ValueError(f"table: expected embeddings of the encoder {mark}, got those of {table.encoder}")
    shape = (len(table.names), encoder.weights["head/weight"].shape[1])
    if table.embeddings.shape != shape:
        raise ValueError(f"table: expected embeddings of shape {shape}, got {table.embeddings.shape}")


def save_table(path, table):
    """Write the table as .npz, atomically."""
    with atomic_write(path) as file:
        np.savez(file, **table._asdict())


def load_table(path):
    """Read a table; ValueError if the file is damaged or no table, OSError if it cannot be read."""
    data = io.BytesIO(Path(path).read_bytes())  # what fails here is the disk, and what fails below the table
    try:
        with np.load(data, allow_pickle=False) as file:
            table = IndexTable(file["names"], file["stamps"], file["embeddings"], str(file["encoder"]))
    except Exception as error:  # zipfile, zlib, NumPy and KeyError all have their own for a damaged file
        raise ValueError(f"{path}: not an index table ({error})") from None
    n = table.names.size
    wrong = table.names.shape != (n,) or table.names.dtype.kind != "U" or table.stamps.shape != (n, 2)
    wrong |= table.stamps.dtype != np.int64 or table.embeddings.dtype != np.float32
    if wrong or table.embeddings.ndim != 2 or len(table.embeddings) != n:
        raise ValueError(f"{path}: not an index table (columns of other shapes or types)")
    return table
