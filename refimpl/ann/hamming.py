"""Flat scan of binary codes, and exact re-ranking: the Hamming distance estimates the angle, 128 bits at a time.

Each vector is reduced to the signs of its projections on random directions, one bit each. Two vectors at angle a
differ in a bit with probability a / pi (lsh_theory.py), so of b bits b a / pi differ on average, with a deviation
below sqrt(b) / 2: the count ranks by angle, roughly. The scan counts for every vector, keeps the best few hundred,
and those are ranked again by their exact distances. That costs 16 bytes and 4 vector instructions a vector instead
of 512 bytes.

The directions are orthonormal within each group of d (the Q of a Gaussian matrix): the bits then agree less by
chance than those of independent directions, and the estimate varies less (Ji et al., "Super-bit LSH", 2012).

Layout in memory. `codes` (blocks, words, LANES) uint64: word w of LANES consecutive vectors side by side, so that
one vector load takes one word of several of them, eight with AVX-512. A tile of TILE blocks stays in the first-level
cache while all queries of a chunk pass over it: each byte is read from memory once for CHUNK queries.

What limits it: instructions. Eight codes take, for each of 2 words, an xor and a population count (AVX-512's
VPOPCNTQ, which LLVM selects for llvm.ctpop), then an add and a compare; a block of 32 takes a branch that is hardly
ever taken.

The k best without sorting: distances are integers from 0 to b, so a histogram of those kept so far gives the k-th
smallest, and only codes strictly below it are looked at. Codes are scanned in the order of their rows: among equals
the first stays.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

from ..kernels import in_threads, inner, kernel
from ..validation import check_integer
from .bits import in_every_lane, lowest_bit, pack_lanes
from .index import Index
from .lsh import project

LANES = 32  # codes in a block: their mask is one branch
TILE = 64  # blocks that stay in the cache: 32 KB at 128 bits
CHUNK = 16  # queries that share a tile


def random_directions(d, bits, seed):
    """(d, bits) float32 unit columns, orthonormal within each group of d."""
    rng = np.random.default_rng(seed)
    groups = [np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(-(-bits // d))]
    return np.ascontiguousarray(np.concatenate(groups, 1)[:, :bits], np.float32)


def sign_codes(vectors, directions):
    """The signs of vectors (n, d) @ directions (d, bits) -> (n, words) uint64, bit i of the code in word i // 64."""
    bits = directions.shape[1]
    codes = np.zeros((len(vectors), 8 * -(-bits // 64)), np.uint8)
    for start in range(0, len(vectors), 1 << 16):  # so that the projections stay small
        part = np.ascontiguousarray(vectors[start : start + (1 << 16)], np.float32)
        projections = project(part, directions)
        codes[start : start + len(part), : -(-bits // 8)] = np.packbits(projections >= 0, axis=1, bitorder="little")
    return codes.view("<u8").astype(np.uint64, copy=False)


def block_codes(codes):
    """codes (n, words) -> (blocks, words, LANES), the last block padded with zeros."""
    n, words = codes.shape
    padded = np.zeros((-(-n // LANES) * LANES, words), np.uint64)
    padded[:n] = codes
    return np.ascontiguousarray(padded.reshape(-1, LANES, words).transpose(0, 2, 1))


@intrinsic
def block_hamming(typing, codes, at, query, query_at, words, limit, out):
    """out[lane] = sum over w of popcount(codes[at + w LANES + lane] ^ query[query_at + w]).

    Returns the lanes < limit, as bits. uint64 arrays, offsets in elements from their start; out int64.
    """
    index = types.intp
    signature = types.uint64(codes, index, query, index, index, types.int64, out)

    def emit(context, builder, signature, values):
        codes, query, out = (
            arrayobj.make_array(signature.args[i])(context, builder, values[i]).data for i in (0, 2, 6)
        )
        at, query_at, words, limit = values[1], values[3], values[4], values[5]
        i64, vector = ir.IntType(64), ir.VectorType(ir.IntType(64), LANES)
        zero, one, block = ir.Constant(i64, 0), ir.Constant(i64, 1), builder.gep(codes, [at])
        name, function = f"llvm.ctpop.v{LANES}i64", ir.FunctionType(vector, [vector])
        popcount = cgutils.get_or_insert_function(builder.module, function, name)
        start, step, done = builder.block, builder.append_basic_block("step"), builder.append_basic_block("done")
        builder.branch(step)

        builder.position_at_end(step)
        w, total = builder.phi(i64), builder.phi(vector)
        pointer = builder.gep(block, [builder.mul(w, ir.Constant(i64, LANES))])
        code = builder.load(builder.bitcast(pointer, vector.as_pointer()), align=8)
        word = builder.load(builder.gep(query, [builder.add(query_at, w)]))
        differ = builder.xor(code, in_every_lane(builder, word, LANES))
        next_total, next_w = builder.add(total, builder.call(popcount, [differ])), builder.add(w, one)
        for phi, first, following in ((w, zero, next_w), (total, ir.Constant(vector, [0] * LANES), next_total)):
            phi.add_incoming(first, start)
            phi.add_incoming(following, step)
        builder.cbranch(builder.icmp_signed("<", next_w, words), step, done)

        builder.position_at_end(done)
        builder.store(next_total, builder.bitcast(out, vector.as_pointer()), align=8)
        near = builder.icmp_signed("<", next_total, in_every_lane(builder, limit, LANES))
        return builder.zext(builder.bitcast(near, ir.IntType(LANES)), i64)

    return signature, emit


@inner
def _take(row, distance, k, rows, distances, histogram, state):
    """Keep a code whose distance is below the k-th so far. state = number kept, number within `kth`, kth. INOUT."""
    kept, within, kth = state
    rows[kept], distances[kept] = row, distance
    kept, within = kept + 1, within + 1
    histogram[distance] += 1
    while within - histogram[kth] >= k:
        within -= histogram[kth]
        kth -= 1
    if kept == len(rows):  # full: what is beyond the k-th goes. At most k - 1 below it and k at it stay.
        kept = 0
        for i in range(len(rows)):
            if distances[i] <= kth:
                rows[kept], distances[kept] = rows[i], distances[i]
                kept += 1
    return kept, within, kth


def _room(k, furthest):
    """For `_scan`: codes kept for each query of a chunk, their distances and numbers; places of one; a block's."""
    rows, distances = np.empty((2, CHUNK, 4 * k + 64), np.int64)
    histogram, counts = np.empty((CHUNK, furthest + 1), np.int64), np.empty((3, CHUNK), np.int64)
    return rows, distances, histogram, *counts, np.empty(furthest + 1, np.int64), np.empty(LANES, np.int64)


@kernel
def _scan(first_chunk, last_chunk, codes, open_lanes, queries, out_rows, out_distances, room):
    """`scan_codes` for chunks of CHUNK queries. OUT out_rows, out_distances."""
    n_blocks, words, _ = codes.shape
    k, furthest = out_rows.shape[1], 64 * words + 1
    rows, distances, histogram, kept, within, kth, place, near = room
    for c in range(first_chunk, last_chunk):
        first, size = c * CHUNK, min(len(queries) - c * CHUNK, CHUNK)
        histogram[:], kept[:], within[:], kth[:] = 0, 0, 0, furthest
        for tile in range(0, n_blocks, TILE):
            for q in range(size):
                for block in range(tile, min(tile + TILE, n_blocks)):
                    at, query_at = block * words * LANES, (first + q) * words
                    lanes = block_hamming(codes, at, queries, query_at, words, kth[q], near)
                    if lanes:
                        lanes &= open_lanes[block]
                        while lanes:
                            lane = lowest_bit(lanes)
                            lanes &= lanes - np.uint64(1)
                            if near[lane] < kth[q]:
                                state = kept[q], within[q], kth[q]
                                kept[q], within[q], kth[q] = _take(
                                    block * LANES + lane, near[lane], k, rows[q], distances[q], histogram[q], state
                                )
        for q in range(size):  # a counting sort of what is left, which keeps the order of the rows
            place[0] = 0
            for distance in range(furthest):
                place[distance + 1] = place[distance] + histogram[q, distance]
            for i in range(kept[q]):
                distance = distances[q, i]
                if place[distance] < k and distance <= kth[q]:
                    out_rows[first + q, place[distance]] = rows[q, i]
                    out_distances[first + q, place[distance]] = distance
                    place[distance] += 1


def scan_codes(codes, open_lanes, queries, k):
    """The k rows with the fewest bits unlike each query's -> rows, distances (n, k) int64; ties to the smaller row.

    codes (blocks, words, LANES); open_lanes (blocks,) uint64, a bit for each lane to be found; queries (n, words).
    Where there are fewer than k, row -1 and distance 64 words + 1.
    """
    rows = np.full((len(queries), k), -1, np.int64)
    distances = np.full((len(queries), k), 64 * codes.shape[1] + 1, np.int64)
    arguments = codes, open_lanes, np.ascontiguousarray(queries), rows, distances
    furthest = 64 * codes.shape[1] + 1
    in_threads(-(-len(queries) // CHUNK), _scan, *arguments, at_least=1, room=lambda: _room(k, furthest))
    return rows, distances


class HammingIndex(Index):
    """Approximate nearest neighbours by a flat scan of sign codes, and exact re-ranking.

    bits     of a code
    rerank   codes to keep for each query (at least k) and rank by their exact distances
    seed     of the directions

    The codes are of the vectors minus their mean: on one side of the origin, all signs would agree.

    Build O(n d bits); search O(n bits / 64) a query, and O(d) for each code kept; memory beside the
    vectors: 8 ceil(bits / 64) bytes each.
    """

    _STRUCTURE = ("_mean", "_directions", "_codes")

    def __init__(self, *, metric="l2", bits=128, rerank=200, seed=0):
        super().__init__(metric, bits=bits, rerank=rerank, seed=seed)
        self.bits = check_integer(bits, "bits", minimum=1)
        self.rerank = check_integer(rerank, "rerank", minimum=1)
        self.seed = check_integer(seed, "seed", minimum=0)

    def _build(self):
        n, d = self._vectors.shape
        self._mean = self._vectors.mean(0, dtype=np.float64).astype(np.float32) if n else np.zeros(d, np.float32)
        self._directions = random_directions(d, self.bits, self.seed)
        self._codes = block_codes(sign_codes(self._vectors - self._mean, self._directions))

    def _candidates(self, queries, k, open_rows, share):
        """Ids of the `rerank` rows (at least k) whose codes differ in the fewest bits."""
        open_lanes = np.zeros(len(self._codes) * LANES, bool)
        open_lanes[: self._built] = open_rows[: self._built]
        codes = sign_codes(queries - self._mean, self._directions)
        kept = min(max(k, self.rerank), max(self._built, 1))
        rows, _ = scan_codes(self._codes, pack_lanes(open_lanes.reshape(-1, LANES)), codes, kept)
        return np.where(rows < 0, -1, np.append(self._ids, -1)[rows])
