"""Arrays on memory that earlier arrays left behind.

The operating system hands out fresh memory page by page, zeroed, at the first touch: for the activations of a training
step, a second pass over all of them, and they are of the same sizes at every step. `empty` is numpy.empty on memory
kept from arrays that nobody refers to any more. There is nothing to give back by hand and nothing to get wrong: an
array owns its memory as long as it or any view of it lives (NumPy keeps `base` alive), and only then can another one
get it.

Memory waits by its exact size, KEEP bytes in all. When it is full, sizes that were asked for longest ago make room,
but only for sizes that were asked for later: where one step needs more than KEEP, the first arrays of a step do not
drive out the last ones, which the next step would then drive out again.

There is no lock: memory can be freed at any moment, also while the thread that frees it is in `empty`. Each change of
the dicts and lists is one operation of the interpreter, and what is popped from a list belongs to who popped it.
"""

import itertools
import math

import numpy as np

SMALLEST = 1 << 16  # bytes; below, the allocator of the C library does the same
ALIGNMENT = 64  # bytes of a cache line: a vector of AVX-512 that starts elsewhere is two accesses
KEEP = 1 << 32  # bytes that wait for reuse at most: the activations of a step of 1,024 pictures are 2 GiB
ROOM = 1 / 8  # of KEEP: how much is made at a time, so that the sizes are seldom sorted

_free = {}  # size in bytes -> list of raw arrays
_asked = {}  # size in bytes -> when `empty` was last asked for it, by _clock
_clock = itertools.count()
_kept = 0


class _Owner:
    """What arrays from `empty` have as their base: it lives as long as they do, and then frees the memory."""

    def __init__(self, raw, shape, dtype):
        self.raw = raw
        self.__array_interface__ = {
            "shape": shape,
            "typestr": dtype.str,
            "data": (raw.ctypes.data + -raw.ctypes.data % ALIGNMENT, False),
            "version": 3,
        }

    def __del__(self):
        global _kept
        size = self.raw.nbytes - ALIGNMENT
        if _kept + size > KEEP >= size:
            _make_room(KEEP - max(size, int(ROOM * KEEP)), _asked.get(size, 0))
        if _kept + size <= KEEP:
            _kept += size
            _free.setdefault(size, []).append(self.raw)


def _fresh(size):
    """Memory that was not used before; where there is none, that which waits is given back first."""
    try:
        return np.empty(size, np.uint8)
    except MemoryError:
        _make_room(0, math.inf)
        return np.empty(size, np.uint8)


def _make_room(most, before):
    """Give memory back until `most` bytes wait: of sizes asked for before `before`, longest ago first."""
    global _kept
    old = [(asked, size) for size, asked in _asked.copy().items() if asked < before and _free.get(size)]
    for _, size in sorted(old):
        while _kept > most:
            try:
                _free[size].pop()
            except IndexError:
                break
            _kept -= size


def empty(shape, dtype):
    """numpy.empty(shape, dtype), C-contiguous, on memory used before where there is some of that size.

    The first element is at the start of a cache line.
    """
    global _kept
    dtype = np.dtype(dtype)
    if min(shape, default=0) < 0:
        raise ValueError(f"shape: expected no negative size, got {tuple(shape)}")
    size = math.prod(shape) * dtype.itemsize
    if size < SMALLEST:
        raw = np.empty(size + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        return raw[start : start + size].view(dtype).reshape(shape)
    _asked[size] = next(_clock)
    try:
        raw = _free.get(size, []).pop()
        _kept -= size
    except IndexError:
        raw = _fresh(size + ALIGNMENT)
    return np.asarray(_Owner(raw, tuple(shape), dtype))
