"""The 4-bit scan: product codes of 16 centroids a part, compared 32 vectors at a time by byte shuffles.

Product codes of 8 bits are scanned at one table look-up from the first-level cache for each part and vector. With 4
bits a table has 16 entries, and if an entry is a byte, the table fits into a vector register, where an instruction
looks up 16 to 64 codes (byte_shuffle.py has that loop). Andre et al. 2015; "fast scan" in faiss, the "lookup table
in registers" of ScaNN.

    score(q, x)  =  base(q, list) + bias(x)  +  sum over parts j of T_j[code_j(x)]         T_j[c] = -2 q_j . book_j[c]

The bytes. Each part's entries minus their minimum, over the step of the part that varies most, so that nothing
saturates and all parts add up in the same unit:

    byte_j[c] = round((T_j[c] - min_j) / step)        step = max over j of (max_j - min_j) / LARGEST
    sum_j T_j[code_j]  =  step * sum_j byte_j[code_j] + sum_j min_j        off by at most m step / 2

The best r of a query's lists without sorting, and without a branch for each vector: the scores of whole blocks go to
a buffer of SLOTS blocks. When it is full, a limit is found that r scores or a few more do not exceed, by halving an
interval: a pass over the buffer counts those up to its middle, a block at a time. What is above goes, and from then on
a block of which nothing is below the limit costs one branch.

A batch is not cut up by list. Its queries are taken in the order of their nearest list instead: those that look into
the same lists follow each other, and find them in the cache, while each query keeps its own limit in a register.

Layout in memory. List l has the blocks block_starts[l] to block_starts[l + 1] - 1, filled up to 32 lanes each.

    packed (blocks, quads, 64) uint8   codes, two a byte; see byte_shuffle.py
    biases (blocks, 32) float32        inf in lanes without a vector: never below a limit
    lane_rows (blocks, 32) int32       the row of each lane, -1 in lanes without one

What limits it: instructions, about 9 of 32 bytes for 64 look-ups; the bytes of a list (parts / 2 a vector) come from
the second-level cache.
"""

import numpy as np

from ..kernels import in_threads, inlined, inner, kernel
from .bits import count_bits, note_lanes
from .byte_shuffle import LANES, LARGEST, QUAD, block_scores, lanes_up_to, part_bytes, part_entries
from .candidates import squared_distance
from .kmeans import group_by_label

LARGEST_FLOAT = np.float32(np.finfo(np.float32).max)
SMALLEST = np.float32(1e-36)  # of a table's range
FEW = 2  # slots of scores that `count_ranks` is for: each score is compared with all
SLOTS = 32  # blocks of scores that wait to be cut: 8 KB with their rows, in the first-level cache


@kernel
def with_some_more(r):
    """How many of the best a cut to r may keep: room in which a limit is found soon. Only the last cut is to r."""
    return r + r // 4 + 8


def blocks_of(starts):
    """Lists at starts (L + 1,) -> block_starts (L + 1,), lanes (n,): lanes[i] = 32 block + lane is where i goes."""
    counts = np.diff(starts)
    block_starts = np.concatenate([[0], np.cumsum(-(-counts // LANES))])
    return block_starts, np.arange(starts[-1]) + np.repeat(LANES * block_starts[:-1] - starts[:-1], counts)


def pack_codes(codes, starts):
    """codes (n, m) uint8 < 16, grouped by list at starts (L + 1,) -> block_starts, packed, lanes; see `blocks_of`."""
    m = codes.shape[1]
    block_starts, lanes = blocks_of(starts)
    quads = -(-m // QUAD)
    wide = np.zeros((LANES * block_starts[-1], QUAD * quads), np.uint8)
    wide[lanes, :m] = codes
    # (block, which half of the lanes, lane of it, quad, pair of parts, part of it) -> bytes as in byte_shuffle.py
    pairs = wide.reshape(-1, 2, LANES // 2, quads, 2, 2)
    packed = (pairs[..., 0] | pairs[..., 1] << 4).transpose(0, 3, 4, 2, 1)
    return block_starts, np.ascontiguousarray(packed).reshape(-1, quads, 2 * LANES), lanes


def in_lanes(values, lanes, n_blocks, empty):
    """values (n,) at their lanes -> (n_blocks, LANES), `empty` in the others."""
    out = np.full(n_blocks * LANES, empty, values.dtype)
    out[lanes] = values
    return out.reshape(-1, LANES)


def open_biases(biases, lane_rows, open_rows):
    """The biases with inf in the lanes of rows that are not open."""
    return biases if open_rows.all() else np.where((lane_rows >= 0) & open_rows[lane_rows], biases, np.float32(np.inf))


def table_books(codebooks):
    """codebooks (m, k <= 16, width) -> (m, width, 16) float32: -2 c, coordinate by coordinate, the last c repeated."""
    k = codebooks.shape[1]
    filled = -2 * codebooks[:, np.minimum(np.arange(16), k - 1)]
    return np.ascontiguousarray(filled.transpose(0, 2, 1), np.float32)


@kernel
def make_tables(query, books, entries, widest, tables):
    """The tables of one query (m width,) in bytes -> step, offset: table sums are step * sum of bytes + offset.

    OUT tables (quads, 8, 16) uint8, in the order of byte_shuffle.py; parts beyond m are left as they are, 0.
    books from `table_books`; entries (m, 16), widest (16,) float32 are room to work in.
    """
    m, width, _ = books.shape
    offset = np.float32(0)
    widest[:] = 0
    for j in range(m):
        offset += part_entries(query, j * width, books, j * width * 16, width, entries, j * 16, widest)
    largest = np.float32(0)
    for entry in widest:
        largest = entry if entry > largest else largest
    if not SMALLEST < largest < np.inf:  # below, the scale would be infinite
        tables[:] = 0
        return np.float32(0), offset
    scale = np.float32(LARGEST) / largest
    for j in range(m):
        slot = j // QUAD * 8 + (j & 1) * 4 + (j & 2)
        part_bytes(entries, j * 16, scale, tables, slot * 16)
    return largest / np.float32(LARGEST), offset


@inner
def count_up_to(scores, limit):
    """How many of scores (slots, LANES) are <= limit."""
    count = np.int64(0)
    for slot in range(len(scores)):
        count += count_bits(lanes_up_to(scores, slot * LANES, limit))
    return count


@inner
def count_ranks(scores, rows, best):
    """Put each of `rows` where as many scores are less as it says: no branch to be guessed. INOUT best (k,) = -1.

    scores (slots, LANES), those of the rows at the front; inf in the rest, and for a row that is none. Returns how
    many are finite, and how many places have a row. Rows of equal scores come to the same place, the last of them
    stays, and leave empty ones before it.
    """
    flat, finite = scores.reshape(scores.size), count_up_to(scores, LARGEST_FLOAT)
    for c in range(len(rows)):
        at = count_up_to(scores, flat[c]) - 1
        if at < len(best) and flat[c] < np.inf:
            best[at] = rows[c]
    filled = np.int64(0)
    for row in best:
        filled += row >= 0
    return finite, filled


@inlined
def _ends(scores, r, lanes):
    """The least score, and one that at least r are up to, or all finite ones, of scores (slots, LANES).

    Lane by lane, so that whole vectors are compared. The largest of the lanes' least scores has LANES up to it, which
    is near the r-th best where there are many slots. lanes (LANES,) float32 is room.
    """
    lanes[:], low, high = np.inf, np.float32(np.inf), np.float32(-np.inf)
    for slot in range(len(scores)):
        for lane in range(LANES):
            lanes[lane] = scores[slot, lane] if scores[slot, lane] < lanes[lane] else lanes[lane]
    for lane in range(LANES):
        low = lanes[lane] if lanes[lane] < low else low
        high = lanes[lane] if lanes[lane] > high else high
    if r <= LANES and high < np.inf:
        return low, high
    lanes[:], high = -np.inf, np.float32(-np.inf)
    for slot in range(len(scores)):
        for lane in range(LANES):
            lanes[lane] = scores[slot, lane] if lanes[lane] < scores[slot, lane] < np.inf else lanes[lane]
    for lane in range(LANES):
        high = lanes[lane] if lanes[lane] > high else high
    return low, high


@kernel
def threshold(scores, r, most, lanes):
    """A limit with r to `most` of scores (slots, LANES) float32 up to it, unless ties prevent that -> limit, count.

    By halving the interval; with ties at the r-th best it is just that. All, if there are no more than `most` finite.
    lanes (LANES,) float32 is room.
    """
    low, high = _ends(scores, r, lanes)
    count = count_up_to(scores, high)
    if count <= most:
        return high, count
    lowest = count_up_to(scores, low)
    if lowest < r and low == -np.inf:  # no interval from there has a middle
        low = -LARGEST_FLOAT
        lowest = count_up_to(scores, low)
    if lowest >= r:
        return low, lowest
    while True:  # fewer than r are <= low, more than `most` are <= high
        gap = high - low
        middle = low + gap * np.float32(0.5) if gap < np.inf else low * np.float32(0.5) + high * np.float32(0.5)
        if not low < middle < high:
            return high, count
        inside = count_up_to(scores, middle)
        if inside < r:
            low = middle
        else:
            high, count = middle, inside
            if inside <= most:
                return high, count


@kernel
def cut(scores, rows, used, r, most, lanes, places):
    """Move r to `most` of the best in the first `used` slots to the front -> limit, how many. INOUT scores, rows.

    Where fewer than r are finite the limit is inf: whatever comes may be among the best.
    scores, rows (slots, LANES); the rest of the last slot that is kept is filled with inf. They keep their order, and
    of too many that tie at the limit the first stay. lanes (LANES,) float32, places (slots LANES + 1,) are room.
    """
    flat, flat_rows = scores.reshape(scores.size), rows.reshape(rows.size)
    limit, count = threshold(scores[:used], r, most, lanes)
    ties = count
    if count > most:
        ties = most
        for i in range(used * LANES):
            ties -= flat[i] < limit
    near, kept = np.int64(0), np.int64(0)
    for slot in range(used):
        near = note_lanes(lanes_up_to(scores, slot * LANES, limit), slot * LANES, places, near)
    for i in range(near):
        at = places[i]
        if flat[at] == limit:
            ties -= 1
            if ties < 0:
                continue
        flat[kept], flat_rows[kept] = flat[at], flat_rows[at]
        kept += 1
    for at in range(kept, -(-kept // LANES) * LANES):
        flat[at] = np.inf
    return limit if kept >= r else np.float32(np.inf), kept


@inlined
def take_best(scores, rows, used, lanes, places, found):
    """OUT found (r,), -1 so far: the rows of the r best in the first `used` slots. INOUT scores, rows."""
    r = len(found)
    _, kept = cut(scores, rows, used, r, with_some_more(r), lanes, places)
    if kept > r:
        _, kept = cut(scores, rows, -(-kept // LANES), r, r, lanes, places)
    for i in range(kept):
        found[i] = rows[i // LANES, i % LANES]


def buffers(r):
    """Room to choose the best r in: scores and rows (slots, LANES), lanes (LANES,), places (slots LANES + 1,)."""
    slots = -(-with_some_more(r) // LANES) + SLOTS
    scores, rows = np.empty((slots, LANES), np.float32), np.empty((slots, LANES), np.int32)
    return scores, rows, np.empty(LANES, np.float32), np.empty(slots * LANES + 1, np.int64)


def table_room(m, quads):
    """Room for `make_tables`: entries, widest, tables."""
    return np.empty((m, 16), np.float32), np.empty(16, np.float32), np.zeros((quads, 8, 16), np.uint8)


@inlined
def _scan_query(block_starts, packed, biases, lane_rows, centroids, books, query, coded, probes, room, found):
    """One query. OUT found (r,) = -1. room = `table_room` and `buffers`."""
    entries, widest, tables, scores, rows, lanes, places = room
    r, quads, slots = len(found), packed.shape[1], len(scores)
    most = with_some_more(r)
    step, offset = make_tables(coded, books, entries, widest, tables)
    limit, used, kept = np.float32(np.inf), np.int64(0), 0  # a plain 0 is a type of its own: `cut` compiled once more
    for list_ in probes:
        if list_ < 0:
            continue
        base = squared_distance(query, centroids[list_]) + offset
        for block in range(block_starts[list_], block_starts[list_ + 1]):
            at = block * LANES
            near = block_scores(packed, at * 2 * quads, tables, quads, step, base, biases, at, limit, scores[used])
            if near:
                for lane in range(LANES):  # a loop, as Numba takes long over assigned rows
                    rows[used, lane] = lane_rows[block, lane]
                used += 1
                if used == slots:
                    limit, kept = cut(scores, rows, used, r, most, lanes, places)
                    used = -(-kept // LANES)
    take_best(scores, rows, used, lanes, places, found)


@kernel
def _scan_lists(
    first, last, block_starts, packed, biases, lane_rows, centroids, books, queries, coded, order, probes, found, room
):
    """OUT found (n, r) = -1, for the queries order[first:last]; the rest as for `scan_lists`."""
    for i in order[first:last]:
        _scan_query(
            block_starts, packed, biases, lane_rows, centroids, books, queries[i], coded[i], probes[i], room, found[i]
        )


def scan_lists(lists, centroids, books, queries, coded, probes, r):
    """The best r rows of each query's lists -> rows (n, r) int64, -1 for none, in no order; more only add to fewer.

    lists = block_starts, packed, biases, lane_rows. base(q, list) is |q - centroid|^2, of queries (n, any) and
    centroids (L, any). books from `table_books`; coded (n, m width): the queries in the coordinates of the codes,
    padded with zeros as the parts are. probes (n, p) lists, nearest first, -1 for none. What shall not be found has
    the bias inf.
    """
    found = np.full((len(queries), r), -1, np.int64)
    arguments = *lists, centroids, books, queries, coded, by_first_list(probes, len(centroids)), probes, found

    def room():
        return *table_room(len(books), lists[1].shape[1]), *buffers(r)

    in_threads(len(queries), _scan_lists, *arguments, at_least=8, room=room)
    return found


def by_first_list(probes, n_lists):
    """The order of the queries by their nearest list, (n,): probes (n, p >= 1)."""
    return group_by_label(np.maximum(probes[:, 0], 0), n_lists)[0]
