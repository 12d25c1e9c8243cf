"""Which lists are nearest to a query: centroids ranked by 4-bit codes, the best of them by distance.

With 1,024 lists of 200 vectors, of which three are read, the centroids are more than the vectors: they decide how long
a query takes. So they are an index of their own, one list of codes around the origin (fast_scan.py, code_axes.py): a
centroid is some 16 look-ups, 64 of which are an instruction. WINDOW and a few more of the best codes are found by
counting, and sorted by the distances of their centroids.

    |q - c~|^2 = |q|^2 - 2 q.c~ + |c~|^2        the last stored with the code, the first the same for all

Which lists are found depends on the codes a little: of the 4 nearest of 1,024 hardly one in a thousand is another, of
the 8 nearest one in 25, and then a list that is about as near.
"""

from typing import NamedTuple

import numpy as np

from ..kernels import in_threads, inlined, kernel
from ..matrix_product import matrix_product
from .bits import note_lanes
from .byte_shuffle import LANES, block_scores, lanes_up_to
from .candidates import offer, squared_distance
from .code_axes import code_axes
from .codebooks import decode, encode, padded, train_codebooks
from .fast_scan import (
    FEW,
    count_ranks,
    in_lanes,
    make_tables,
    pack_codes,
    table_books,
    table_room,
    threshold,
    with_some_more,
)

WINDOW = 8  # lists that are sorted by distance first, and a few more


#: the attributes of an index that hold the fields of a CodedCentroids, for its file
LIST_CODES = ("_list_axes", "_list_books", "_list_codes", "_list_biases")


class CodedCentroids(NamedTuple):
    """What a file keeps beside the centroids (L, d).

    axes (d, depth)                   of the codes, orthonormal columns
    books (m, depth / m, 16)          the codebooks as `make_tables` takes them
    packed (blocks, quads, 64) uint8  codes; biases (blocks, LANES): |c~|^2, inf in lanes without a centroid
    """

    axes: np.ndarray
    books: np.ndarray
    packed: np.ndarray
    biases: np.ndarray


def code_centroids(centroids, seed):
    """centroids (L, d) float32, L >= 1 -> CodedCentroids."""
    axes, m = code_axes(centroids)
    y = matrix_product(centroids, axes)
    codebooks = train_codebooks(y, m, 4, seed)
    codes = encode(y, codebooks)
    squares = (decode(codes, codebooks, y.shape[1]).astype(np.float64) ** 2).sum(1)
    with np.errstate(over="ignore"):
        squares = squares.astype(np.float32)
    _, packed, lanes = pack_codes(codes, np.array([0, len(codes)]))
    biases = in_lanes(squares, lanes, len(packed), np.inf)
    return CodedCentroids(axes, table_books(codebooks), packed, biases)


@kernel
def _rank_lists(first_query, last_query, packed, biases, books, coded, queries, centroids, found, distances, room):
    """OUT found (n, p) = -1, distances = inf: see `rank_lists`."""
    quads, p = packed.shape[1], found.shape[1]
    entries, widest, tables, scores, squares, rows, lanes = room
    for i in range(first_query, last_query):
        step, offset = make_tables(coded[i], books, entries, widest, tables)
        for block in range(len(packed)):
            at, out = block * LANES, scores[block]
            block_scores(packed, at * 2 * quads, tables, quads, step, offset, biases, at, np.float32(np.inf), out)
        past, done, r = np.float32(-np.inf), np.int64(0), np.int64(WINDOW)
        overflown = not -np.inf < offset < np.inf
        while done < p and not overflown:
            limit, count = threshold(scores, r, with_some_more(r), lanes)
            last = count if count < p else p
            window = _window(scores, past, limit, rows)
            _sort_window(rows[:window], queries[i], centroids, squares, found[i, done:last], distances[i, done:last])
            past, done = limit, last
            if count < r:  # no more scores are finite
                break
            r = 2 * r + WINDOW
        row = np.int64(0)
        while done < p:  # with those whose scores are beyond float32
            if overflown or not scores[row // LANES, row % LANES] <= past:
                found[i, done] = row
                done += 1
            row += 1


@inlined
def _window(scores, past, limit, rows):
    """The centroids whose scores are above `past`, up to `limit` -> how many. OUT rows (any,)."""
    count = np.int64(0)
    for slot in range(len(scores)):
        lanes = lanes_up_to(scores, slot * LANES, limit) & ~lanes_up_to(scores, slot * LANES, past)
        count = note_lanes(lanes, slot * LANES, rows, count)
    return count


@inlined
def _sort_window(rows, query, centroids, squares, found, distances):
    """The nearest of the centroids `rows`, ascending. OUT found (any,) = -1, distances = inf; `squares` is room."""
    slots = -(-len(rows) // LANES)
    flat = squares.reshape(squares.size)
    for c in range(len(rows)):  # all of them first: none waits for the one before
        flat[c] = squared_distance(query, centroids[rows[c]])
    for c in range(len(rows), slots * LANES):
        flat[c] = np.inf
    filled = np.int64(0)
    if slots <= FEW:
        _, filled = count_ranks(squares[:slots], rows, found)
    if filled < len(found):
        for c in range(len(found)):
            found[c] = -1
        for c in range(len(rows)):
            offer(distances, found, flat[c], rows[c])


def rank_lists(coded, centroids, queries, p, own=None):
    """The lists to look into, nearest first -> (n, p) int64, p <= L; a larger p only appends.

    coded: CodedCentroids of centroids (L, d); queries (n, d); own (n, any): these along coded.axes, if at hand.

    WINDOW and a few more of the best codes, sorted by (distance, list); if p is larger, then the next 2 WINDOW,
    4 WINDOW and so on. Of the last window the nearest. Lists whose scores are beyond float32 come last, in order.
    """
    if len(centroids) == 1:
        return np.zeros((len(queries), p), np.int64)
    own = padded(matrix_product(queries, coded.axes) if own is None else own, len(coded.books))
    found, distances = np.full((len(queries), p), -1, np.int64), np.full((len(queries), p), np.inf, np.float32)
    arguments = coded.packed, coded.biases, coded.books, own, queries, centroids, found, distances

    def room():
        scores, squares = np.empty((2, len(coded.packed), LANES), np.float32)
        rows, lanes = np.empty(scores.size + 1, np.int64), np.empty(LANES, np.float32)
        return *table_room(len(coded.books), coded.packed.shape[1]), scores, squares, rows, lanes

    in_threads(len(queries), _rank_lists, *arguments, at_least=16, room=room)
    return found
