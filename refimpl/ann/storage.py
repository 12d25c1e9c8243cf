"""Index files: named arrays behind a line of JSON, under a checksum of every byte, read by mapping them into memory.

    refimpl index 4\\n           the format
    64 hexadecimal digits\\n     SHA-256 of all that follows
    {"arrays": ...}\\n           JSON: what the caller says of itself; dtype, shape and offset of each array
    zeros                       up to a multiple of 64 bytes in the file
    the arrays                  in C order, each filled up with zeros to a multiple of 64 bytes

An array at a multiple of 64 bytes begins at a cache line. It is not read when it is mapped but when it is used, apart
from the one pass of the checksum, and processes that map the same file share its pages. Pages are private when they
are written to (copy on write): the file never changes.

Nothing is unpickled, and nothing is believed before the checksum agrees: a file that is cut short or altered in any
bit raises ValueError.
"""

import hashlib
import json

import numpy as np

from ..files import atomic_write

_MAGIC = b"refimpl index 4\n"
_DIGEST = 65  # bytes of the digest's line
_ALIGNMENT = 64


def joined(arrays, axis=0):
    """numpy.concatenate of float32 arrays, the first element at the start of a cache line.

    A row of d = 16 i coordinates then lies in i lines, elsewhere in i + 1.
    """
    shape = list(arrays[0].shape)
    shape[axis] = sum(array.shape[axis] for array in arrays)
    raw = np.empty(4 * int(np.prod(shape)) + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    out = raw[start : len(raw) - _ALIGNMENT + start].view(np.float32).reshape(shape)
    return np.concatenate(arrays, axis, out=out)


def write_arrays(path, about, arrays):
    """Write {name: array} and the JSON object `about` to `path`, in one step. Copies only arrays not in C order."""
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    places, at = {}, 0
    for name, array in arrays.items():
        places[name] = {"dtype": array.dtype.str, "shape": array.shape, "offset": at}
        at += array.nbytes + -array.nbytes % _ALIGNMENT
    header = json.dumps({**about, "arrays": places}, default=_plain).encode() + b"\n"
    parts = [header, bytes(-(len(_MAGIC) + _DIGEST + len(header)) % _ALIGNMENT)]
    for array in arrays.values():
        parts += [array.reshape(-1).view(np.uint8), bytes(-array.nbytes % _ALIGNMENT)]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    with atomic_write(path) as file:
        file.write(_MAGIC + digest.hexdigest().encode() + b"\n")
        for part in parts:
            file.write(part)


def read_arrays(path):
    """What `write_arrays` wrote -> about, {name: array mapped from the file}; ValueError if any bit has changed."""
    with open(path, "rb") as file:
        magic, digest = file.read(len(_MAGIC)), file.read(_DIGEST)
        if magic != _MAGIC:
            raise ValueError(f"path: expected an index, got {path}, which does not begin as one")
        at = file.tell()
        data = np.memmap(file, np.uint8, "c")  # of this file, even if another has taken its name since
        file.seek(at)
        if hashlib.sha256(data[at:]).hexdigest().encode() + b"\n" != digest:
            raise ValueError(f"path: expected a whole index, got {path}, whose checksum does not match")
        about = json.loads(file.readline())
        start = file.tell() + -file.tell() % _ALIGNMENT
    arrays = {}
    for name, place in about.pop("arrays").items():
        dtype, shape, at = np.dtype(place["dtype"]), tuple(place["shape"]), start + place["offset"]
        size = int(np.prod(shape)) * dtype.itemsize
        arrays[name] = np.asarray(data[at : at + size]).view(dtype).reshape(shape)
    return about, arrays


def _plain(number):
    """A NumPy number as JSON knows it."""
    return number.item()
