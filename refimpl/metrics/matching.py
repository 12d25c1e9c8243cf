"""Where in each ranked list is each judged document? One hash table a query, so that the cost is a look a document.

The lists of all queries lie end to end: list i is keys[offsets[i]:offsets[i + 1]], and the documents wanted from it
are wanted[wanted_offsets[i]:wanted_offsets[i + 1]]. A key is a whole number from 0 to 2^63 - 1; a negative one ends
its list.

The table has open addressing with linear probing and is at most an eighth full, so that a collision, which the
processor cannot foresee, is rare. It holds positions, and is as large as the query's own list asks for; at 100 results
it is 1,024 entries, 4 kB, and stays in the nearest cache.
"""

import numpy as np
from numba import njit

from ..kernels import in_threads

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: the high bits of key * GOLDEN are well spread (Knuth)


def match(keys, offsets, wanted, wanted_offsets):
    """(position, counts, problem): where each wanted key is in the list of its query, counted from 0, or -1.

    keys (n,) int64, offsets (q + 1,) int64; wanted (m,) int64, wanted_offsets (q + 1,) int64; negative wanted keys
    match nothing. counts (q,) int64 is how many keys come before the padding. problem (q,) int64 is -1, or the place
    in its list of a key that was there before or that stands behind padding. O(n + m) time.
    """
    q = len(offsets) - 1
    position = np.empty(len(wanted), dtype=np.int64)
    counts, problem = np.empty(q, dtype=np.int64), np.empty(q, dtype=np.int64)
    longest = int(np.diff(offsets).max(initial=1))
    in_threads(q, _match, keys, offsets, wanted, wanted_offsets, longest, position, counts, problem)
    return position, counts, problem


@njit(nogil=True, cache=True)
def _match(first, last, keys, offsets, wanted, wanted_offsets, longest, position, counts, problem):
    """Looks each wanted key up among those of its query: a hash table with linear probing, one query at a time."""
    room = np.empty(16 * longest, dtype=np.int32)
    for q in range(first, last):
        begin, end = offsets[q], offsets[q + 1]
        bits = 3  # the least power of two that is at least eight times the length
        while 1 << bits < 8 * (end - begin):
            bits += 1
        table, mask, shift = room[: 1 << bits], (1 << bits) - 1, np.uint64(64 - bits)
        table[:] = -1
        n, bad = end - begin, -1
        for j in range(end - begin):
            key = keys[begin + j]
            if key < 0:
                n = min(n, j)
                continue
            slot = np.int64((np.uint64(key) * GOLDEN) >> shift)
            while table[slot] >= 0 and keys[begin + table[slot]] != key:
                slot = (slot + 1) & mask
            if table[slot] >= 0 or n < j:
                bad = j
            table[slot] = j
        counts[q], problem[q] = n, bad
        for i in range(wanted_offsets[q], wanted_offsets[q + 1]):
            position[i] = -1
            key = wanted[i]
            if key >= 0:
                slot = np.int64((np.uint64(key) * GOLDEN) >> shift)
                while table[slot] >= 0 and keys[begin + table[slot]] != key:
                    slot = (slot + 1) & mask
                position[i] = table[slot]


def take_ragged(offsets, rows):
    """(pick, new_offsets): the indices of the entries of ragged `rows`, end to end, and where each row then begins."""
    rows = np.asarray(rows, dtype=np.int64)
    lengths = offsets[rows + 1] - offsets[rows]
    new = np.concatenate([[0], np.cumsum(lengths)])
    return np.arange(new[-1]) + np.repeat(offsets[rows] - new[:-1], lengths), new
