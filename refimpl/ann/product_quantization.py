"""Product quantization: a vector cut into m parts, each replaced by the nearest of 2^bits centroids of its own.

    x = (x_1 ... x_m) ~ (c_1[code_1] ... c_m[code_m])        m bytes, for (2^bits)^m different points

Jegou, Douze and Schmid, "Product quantization for nearest neighbor search", 2011. The query stays exact (asymmetric
distance), and the distance to a code is a sum of m table entries. With lists (IVF-PQ) it is the residual r = x - c
from the list's centroid that is coded, in the same codebooks for all lists:

    |q - (c + r)|^2  =  |q - c|^2  +  |r|^2 + 2 c.r  -  2 q.r
                        term 1        term 2            term 3

Term 1 is one number for a query and list. Term 2 does not know the query: one float32 stored with each code. Term 3
does not know the list: one table of m 2^bits numbers for each query, whatever the number of lists it looks into.

OPQ (Ge et al., "Optimized product quantization", 2013): rotate the residuals first, so that the parts share the
variance. The rotation R and the codes are improved in turn; given the codes, the best R has a closed form
(Procrustes): R = U V^T of the singular value decomposition of X^T decoded = U S V^T. Where that ends depends on the
start, which is `balanced_axes`.

Distances to codes only choose `rerank` candidates; those are measured exactly on the stored vectors (index.py).

Layout in memory: blocks of 32 vectors of a list, codes (blocks, m, 32) uint8, a byte for each part: the look-ups of a
part are a loop over 32 codes that lie side by side, and the best are found a block at a time (fast_scan.py, which also
has the scan of codes of at most 4 bits).
What limits it: m table look-ups a vector, from a table of m 2^bits floats that fits into the first-level cache.
"""

import numpy as np

from ..kernels import in_threads, inner, kernel
from ..matrix_product import matrix_product
from ..validation import check_choice, check_integer
from .byte_shuffle import LANES, MOST_PARTS, lanes_up_to
from .candidates import squared_distance
from .codebooks import balanced_axes, decode, encode, padded, train_codebooks
from .fast_scan import (
    blocks_of,
    buffers,
    by_first_list,
    cut,
    in_lanes,
    open_biases,
    pack_codes,
    scan_lists,
    table_books,
    take_best,
    with_some_more,
)
from .ivf import choose_lists, coarse_centroids, list_scan_limit, listed_rows
from .kmeans import assign, group_by_label
from .list_ranking import LIST_CODES, CodedCentroids, code_centroids, rank_lists
from .reorder import ReorderedIndex

SAMPLE = 20_000  # vectors that codebooks and rotation are learned from
COST = 0.3  # of a code, in rows scanned (`list_scan_limit`)


def train_rotation(x, m, bits, seed, rounds=8):
    """OPQ -> R (d, d) orthogonal, float32, such that x @ R is quantized with less error than x.

    In turns (Ge et al., section 3.1): codebooks for x R give what it decodes to, Y; then the R that minimises
    ||x R - Y||, R = U V^T of the singular value decomposition x^T Y = U S V^T (orthogonal Procrustes).
    """
    d = x.shape[1]
    rotation = balanced_axes(x, m)
    for _ in range(rounds):
        rotated = matrix_product(x, rotation)
        codebooks = train_codebooks(rotated, m, bits, seed)
        decoded = decode(encode(rotated, codebooks), codebooks, d)
        left, _, right = np.linalg.svd(matrix_product(x.T.astype(np.float64), decoded.astype(np.float64)))
        rotation = matrix_product(left, right).astype(np.float32)
    return rotation


def pack_bytes(codes, starts):
    """codes (n, m) uint8, grouped by list at starts (L + 1,) -> block_starts, packed, lanes; see `blocks_of`.

    packed (blocks, m, LANES): the same part of 32 vectors side by side, 0 where there is none.
    """
    block_starts, lanes = blocks_of(starts)
    packed = np.zeros((block_starts[-1], codes.shape[1], LANES), np.uint8)
    packed[lanes // LANES, :, lanes % LANES] = codes
    return block_starts, packed, lanes


def scan_books(codebooks):
    """codebooks (m, size, width) -> (m, width, size) float32, -2 times each, as `scan_codes` takes them."""
    return np.ascontiguousarray(-2 * codebooks.transpose(0, 2, 1), np.float32)


@inner
def table_sums(codes, block, table, base, biases, out):
    """OUT out[lane] = base + biases[block, lane] + the sum of table[j, codes[block, j, lane]] over j, in order."""
    for lane in range(LANES):
        out[lane] = base + biases[block, lane]
    for j in range(len(table)):
        for lane in range(LANES):
            out[lane] += table[j, codes[block, j, lane]]


@kernel
def _scan_codes(
    first, last, block_starts, codes, biases, lane_rows, centroids, books, queries, order, probes, found, room
):
    """`scan_codes` for the queries order[first:last]. OUT found (n, r) = -1."""
    (m, width, size), r = books.shape, found.shape[1]
    table, scores, rows, lanes, places = room
    for i in order[first:last]:
        query, limit, used = queries[i], np.float32(np.inf), np.int64(0)
        for j in range(m):  # -2 q.c of all entries c at once, coordinate by coordinate: whole vectors
            for c in range(size):
                table[j, c] = 0
            for t in range(width):
                for c in range(size):
                    table[j, c] += query[j * width + t] * books[j, t, c]
        for list_ in probes[i]:
            if list_ < 0:
                continue
            term1 = squared_distance(query, centroids[list_])
            for block in range(block_starts[list_], block_starts[list_ + 1]):
                table_sums(codes, block, table, term1, biases, scores[used])
                if lanes_up_to(scores, used * LANES, limit):
                    for lane in range(LANES):
                        rows[used, lane] = lane_rows[block, lane]
                    used += 1
                    if used == len(scores):
                        limit, kept = cut(scores, rows, used, r, with_some_more(r), lanes, places)
                        used = -(-kept // LANES)
        take_best(scores, rows, used, lanes, places, found[i])


def scan_codes(lists, centroids, books, queries, probes, r):
    """The best r rows of each query's lists -> rows (n, r) int64, -1 for none, in no order.

    lists = block_starts, codes (blocks, m, LANES), biases, lane_rows, as for `scan_lists`, whose buffer this shares;
    biases: term 2. books from `scan_books`; queries (n, m width) padded as the codebooks; centroids (lists, m width)
    likewise; probes (n, p) lists, -1 for none.
    """
    found = np.full((len(queries), r), -1, np.int64)
    arguments = *lists, centroids, books, queries, by_first_list(probes, len(centroids)), probes, found

    def room():
        return np.empty((len(books), books.shape[2]), np.float32), *buffers(r)

    in_threads(len(queries), _scan_codes, *arguments, at_least=4, room=room)
    return found


class IVFPQIndex(ReorderedIndex):
    """Approximate nearest neighbours by the product codes of residuals, in the lists of the nearest centroids.

    lists, probes   as for IVFIndex
    parts           m, the parts of a vector (d, if that is less); with bits <= 4 at most 512
    bits            of the code of a part, 1 to 8; it is stored in a byte, with bits <= 4 in half a byte
    rotation        "none", or "opq": rotate the residuals before they are cut into parts
    rerank          codes to keep for each query (at least k) and rank by their exact distances
    seed            of clusterings and samples

    Build O(n d (L + 2^bits)); search O(d L + d 2^bits + parts probes n / L) a query; memory beside the vectors:
    parts + 8 bytes each, with bits <= 4 parts / 2 + 8.
    """

    _STRUCTURE = (
        "_center", "_rotation", "_centroids", "_starts", "_codebooks", "_codes", "_term2", "_code_rows", *LIST_CODES,
    )  # fmt: skip

    def __init__(self, *, metric="l2", lists=None, probes=8, parts=16, bits=8, rotation="none", rerank=100, seed=0):
        super().__init__(
            metric, lists=lists, probes=probes, parts=parts, bits=bits, rotation=rotation, rerank=rerank, seed=seed
        )
        self.lists = None if lists is None else check_integer(lists, "lists", minimum=1)
        self.probes = check_integer(probes, "probes", minimum=1)
        self.parts = check_integer(parts, "parts", minimum=1)
        self.bits = check_integer(bits, "bits", minimum=1, maximum=8)
        if self._in_registers():
            check_integer(parts, "parts", maximum=MOST_PARTS)
        self.rotation = check_choice(rotation, "rotation", ("none", "opq"))
        self.rerank = check_integer(rerank, "rerank", minimum=1)
        self.seed = check_integer(seed, "seed", minimum=0)

    def _build(self):
        """Lists by k-means, then codebooks for what is left of the vectors without their centroids, and the codes."""
        n, d = self._vectors.shape
        m = min(self.parts, d)
        self._center = np.zeros(d, np.float32)
        if n:
            self._center = self._vectors.mean(0, dtype=np.float64).astype(np.float32)
        shifted = self._vectors - self._center
        self._centroids = coarse_centroids(shifted, self.lists or int(4 * np.sqrt(n)), self.seed)
        labels = assign(shifted, self._centroids)
        self._report(0.3)
        self._code_rows, self._starts = group_by_label(labels, len(self._centroids))
        residuals = shifted[self._code_rows] - self._centroids[labels[self._code_rows]]
        rng = np.random.default_rng(self.seed)
        sample = residuals[rng.choice(n, min(n, SAMPLE), replace=False)] if n else np.zeros((1, d), np.float32)
        self._rotation = np.eye(d, dtype=np.float32)
        if self.rotation == "opq":
            self._rotation = train_rotation(sample, m, self.bits, self.seed)
            self._report(0.6)
        self._centroids, residuals = (matrix_product(x, self._rotation) for x in (self._centroids, residuals))
        for name, array in zip(LIST_CODES, code_centroids(self._centroids, self.seed)):
            setattr(self, name, array)
        self._codebooks = train_codebooks(matrix_product(sample, self._rotation), m, self.bits, self.seed)
        self._report(0.9)
        self._codes = encode(residuals, self._codebooks)
        decoded = decode(self._codes, self._codebooks, d).astype(np.float64)
        own = self._centroids[labels[self._code_rows]]
        self._term2 = (decoded**2 + 2 * own * decoded).sum(1).astype(np.float32)
        pack = pack_codes if self._in_registers() else pack_bytes
        self._starts, self._codes, lanes = pack(self._codes, self._starts)
        self._term2 = in_lanes(self._term2, lanes, len(self._codes), np.inf)
        self._code_rows = in_lanes(self._code_rows.astype(np.int32), lanes, len(self._codes), -1)

    def _in_registers(self):
        """Whether tables fit into registers (fast_scan.py)."""
        return self.bits <= 4

    def _changed(self):
        super()._changed()
        m = len(self._codebooks)
        self._padded_centroids = padded(self._centroids, m)
        self._coded_lists = CodedCentroids(*(getattr(self, name) for name in LIST_CODES))
        self._listed = listed_rows(self._starts, self._code_rows, self._live)
        self._books = (table_books if self._in_registers() else scan_books)(self._codebooks)

    def _scan_limit(self):
        return max(self.rerank, list_scan_limit(self._built, self.probes, len(self._centroids), COST))

    def _scan_codes(self, queries, probes, open_rows, r):
        """Rows (n, r) of the nearest codes in the probed lists, -1 for none. Queries padded."""
        biases = open_biases(self._term2, self._code_rows, open_rows)
        lists = self._starts, self._codes, biases, self._code_rows
        if self._in_registers():
            return scan_lists(lists, self._padded_centroids, self._books, queries, queries, probes, r)
        return scan_codes(lists, self._padded_centroids, self._books, queries, probes, r)

    def _rows(self, queries, k, open_rows):
        """Rows of the `rerank` smallest approximate distances; more lists where a filter leaves too few."""
        rotated = queries - self._center
        if self.rotation != "none":
            rotated = matrix_product(rotated, self._rotation)
        own, kept = padded(rotated, len(self._codebooks)), min(max(k, self.rerank), max(k, self._built))

        def rank(some, m):
            return rank_lists(self._coded_lists, self._centroids, rotated[some], m)

        return self._scan_codes(
            own, choose_lists(rank, len(queries), self.probes, self._listed, open_rows, k), open_rows, kept
        )


class PQIndex(IVFPQIndex):
    """Approximate nearest neighbours by the product codes of all vectors: IVF-PQ with one list, around the mean.

    parts, bits, rotation, rerank, seed as for IVFPQIndex. Search O(d 2^bits + parts n) a query.
    """

    def __init__(self, *, metric="l2", parts=16, bits=8, rotation="none", rerank=100, seed=0):
        super().__init__(
            metric=metric, lists=1, probes=1, parts=parts, bits=bits, rotation=rotation, rerank=rerank, seed=seed
        )
        del self._settings["lists"], self._settings["probes"]

    def _scan_limit(self):
        return self.rerank
