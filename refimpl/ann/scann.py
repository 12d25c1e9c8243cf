"""ScaNN: lists, 4-bit codes that are right where it matters, a scan in registers, and exact re-ordering.

Guo et al. 2020 (anisotropic.py) and Sun et al. 2023 (soar.py), with the scan of fast_scan.py. A query goes through
four stages, each of which reads fewer vectors more closely:

    lists       L centroids, ranked by their own 4-bit codes                          -> probes
    codes       of the vectors in these lists, parts / 2 bytes each                   -> rerank and a few more
    vectors     of these, in float32                                                  -> k
    distances   of the k, in float64, as every index returns them

From l2 to inner products. With x~ = c + r~, c the list's centroid and r~ what the code stands for, the distance is an
inner product and known numbers:

    |q - x~|^2 = |q - c|^2 - 2 q.r~ + (|r~|^2 + 2 c.r~)

the first term a number a list, the second the table sum, the third a number stored with the code. r~ lies along the
first principal axes of the residuals (code_axes.py), so that q.r~ needs the query's coordinates along these only.

The lists lie in the order of their centroids along the principal axis, so that near ones are nearer in memory.

Layout in memory: fast_scan.py, twice: the vectors' codes in L lists, and the centroids' codes in one.
"""

import numpy as np

from ..kernels import in_threads, inner, kernel
from ..matrix_product import matrix_product
from ..validation import check_integer, check_number
from .anisotropic import anisotropic_codes, anisotropic_eta, directions, train_anisotropic
from .bits import lowest_bit
from .byte_shuffle import LANES, MOST_PARTS, block_scores, lanes_up_to
from .candidates import offer, squared_distance
from .code_axes import code_axes
from .fast_scan import (
    in_lanes,
    make_tables,
    open_biases,
    pack_codes,
    scan_lists,
    table_books,
    threshold,
    with_some_more,
)
from .ivf import choose_lists, coarse_centroids, list_scan_limit, listed_rows
from .kmeans import assign, group_by_label
from .product_quantization import SAMPLE, decode, encode, padded, train_codebooks
from .reorder import ReorderedIndex
from .soar import second_lists

COST = 0.2  # of a code, in rows scanned (`list_scan_limit`)
WINDOW = 8  # lists that are sorted by distance first, and a few more


@kernel
def _rank_lists(first_query, last_query, packed, biases, books, coded, queries, centroids, found, distances):
    """OUT found (n, p) = -1, distances = inf: see `rank_lists`."""
    m, quads, p = len(books), packed.shape[1], found.shape[1]
    entries, widest, tables = (
        np.empty((m, 16), np.float32),
        np.empty(16, np.float32),
        np.zeros((quads, 8, 16), np.uint8),
    )
    scores = np.empty((len(packed), LANES), np.float32)
    for i in range(first_query, last_query):
        step, offset = make_tables(coded[i], books, entries, widest, tables)
        for block in range(len(packed)):
            at, out = block * LANES, scores[block]
            block_scores(packed, at * 2 * quads, tables, quads, step, offset, biases, at, np.float32(np.inf), out)
        past, done, r = np.float32(-np.inf), np.int64(0), np.int64(WINDOW)
        while done < p:
            limit, count = threshold(scores, r, with_some_more(r))
            last = min(count, p)
            _sort_window(scores, past, limit, queries[i], centroids, found[i, done:last], distances[i, done:last])
            if count < r:  # no more scores are finite
                break
            past, done, r = limit, last, 2 * r + WINDOW


@inner
def _sort_window(scores, past, limit, query, centroids, rows, distances):
    """The nearest of the centroids whose scores are above `past`, up to `limit`. OUT rows (any,), distances."""
    for slot in range(len(scores)):
        lanes = lanes_up_to(scores, slot * LANES, limit)
        while lanes:
            lane = lowest_bit(lanes)
            lanes &= lanes - np.uint64(1)
            if scores[slot, lane] > past:
                row = slot * LANES + lane
                offer(distances, rows, squared_distance(query, centroids[row]), row)


def rank_lists(list_codes, list_biases, books, coded, queries, centroids, p):
    """The lists to look into, nearest first -> (n, p) int64; a larger p only appends.

    By the codes of the centroids, WINDOW and a few more of the best; these are sorted by the distance of the centroids
    themselves. If p is larger, then the next 2 WINDOW, 4 WINDOW and so on. Of the last window the nearest are taken.
    coded: the queries in the coordinates of the codes.
    """
    found, distances = np.full((len(queries), p), -1, np.int64), np.full((len(queries), p), np.inf, np.float32)
    arguments = list_codes, list_biases, books, coded, queries, centroids, found, distances
    in_threads(len(queries), _rank_lists, *arguments, at_least=16)
    return found


def near_in_memory(centroids):
    """The order (L,) of the centroids along their principal axis."""
    shifted = centroids - centroids.mean(0, dtype=np.float64)
    axis = np.linalg.eigh(matrix_product(shifted.T, shifted))[1][:, -1]
    return np.argsort(matrix_product(shifted, axis[:, None])[:, 0], kind="stable")


class ScaNNIndex(ReorderedIndex):
    """Approximate nearest neighbours by 4-bit codes in lists, scanned in registers and re-ordered exactly.

    lists, probes   as for IVFIndex
    parts           of a code, 4 bits each, at most 512; None: as few as rank as well as d / 2 would without axes
    threshold       T of the anisotropic loss, as a share of each vector's norm, in (0, 1); None: the plain loss
    spill           weight of SOAR's second term (1 is usual): each vector in two lists; None: in one
    rerank          codes to keep for each query (at least k) and rank by their exact distances
    seed            of clusterings and samples

    Build O(n d (L + 16)); search O(parts (d + L + probes n / L)) a query, most of it look-ups of which a vector
    instruction makes 16 to 64; memory parts / 2 + 8 bytes a vector beside the vectors, twice that with spilling.
    """

    _STRUCTURE = (
        "_center", "_centroids", "_axes", "_codebooks", "_starts", "_codes", "_biases", "_code_rows",
        "_list_axes", "_list_books", "_list_codes", "_list_biases",
    )  # fmt: skip

    def __init__(
        self, *, metric="l2", lists=None, probes=8, parts=None, threshold=0.2, spill=None, rerank=30, seed=0
    ):  # fmt: skip
        super().__init__(
            metric, lists=lists, probes=probes, parts=parts, threshold=threshold, spill=spill, rerank=rerank, seed=seed
        )
        self.lists = None if lists is None else check_integer(lists, "lists", minimum=1)
        self.probes = check_integer(probes, "probes", minimum=1)
        self.parts = None if parts is None else check_integer(parts, "parts", minimum=1, maximum=MOST_PARTS)
        self.threshold = None if threshold is None else check_number(threshold, "threshold", above=0)
        if threshold is not None and self.threshold >= 1:
            raise ValueError(f"threshold: expected a number in (0, 1), got {threshold}")
        self.spill = None if spill is None else check_number(spill, "spill", minimum=0)
        self.rerank = check_integer(rerank, "rerank", minimum=1)
        self.seed = check_integer(seed, "seed", minimum=0)

    def _build(self):
        """Lists, each row perhaps in a second one (SOAR), then anisotropic codebooks of residuals, and the codes."""
        n, d = self._vectors.shape
        self._center = np.zeros(d, np.float32)
        if n:
            self._center = self._vectors.mean(0, dtype=np.float64).astype(np.float32)
        shifted = self._vectors - self._center
        centroids = coarse_centroids(shifted, self.lists or int(4 * np.sqrt(n)), self.seed)
        self._centroids = np.ascontiguousarray(centroids[near_in_memory(centroids)])
        self._report(0.3)
        labels, rows = assign(shifted, self._centroids).astype(np.int64), np.arange(n)
        if self.spill is not None and len(self._centroids) > 1:
            labels = np.concatenate([labels, second_lists(shifted, self._centroids, labels, self.spill)])
            rows = np.concatenate([rows, rows])
        order, starts = group_by_label(labels, len(self._centroids))
        self._report(0.5)
        self._encode(shifted, rows[order], labels[order], starts)
        self._encode_centroids()

    def _encode(self, shifted, rows, labels, starts):
        """Train on a sample of the residuals, then code all: entry i is shifted[rows[i]] in list labels[i]."""
        n, d = shifted.shape
        eta = 1.0 if self.threshold is None else max(1.0, anisotropic_eta(self.threshold, d))
        u, rng = directions(shifted), np.random.default_rng(self.seed)
        sample = np.sort(rng.choice(len(rows), min(len(rows), SAMPLE), replace=False))
        residuals = shifted[rows] - self._centroids[labels]
        self._axes, m = code_axes(residuals[sample], self.parts)
        y, along = matrix_product(residuals, self._axes), matrix_product(u, self._axes)[rows]
        if n:
            self._codebooks = train_anisotropic(y[sample], along[sample], m, 4, eta, self.seed)
        else:
            self._codebooks = np.zeros((m, 1, -(-y.shape[1] // m)), np.float32)
        self._report(0.8)
        codes = anisotropic_codes(y, along, self._codebooks, eta)
        coded, own = decode(codes, self._codebooks, y.shape[1]), matrix_product(self._centroids, self._axes)[labels]
        self._starts, self._codes, lanes = pack_codes(codes, starts)
        self._biases = in_lanes(_bias(coded, own), lanes, len(self._codes), np.inf)
        self._code_rows = in_lanes(rows.astype(np.int32), lanes, len(self._codes), -1)

    def _encode_centroids(self):
        """The centroids' own codes, in one list around the origin."""
        self._list_axes, m = code_axes(self._centroids)
        y = matrix_product(self._centroids, self._list_axes)
        self._list_books = train_codebooks(y, m, 4, self.seed)
        codes = encode(y, self._list_books)
        coded = decode(codes, self._list_books, y.shape[1])
        _, self._list_codes, lanes = pack_codes(codes, np.array([0, len(codes)]))
        self._list_biases = in_lanes(_bias(coded, np.zeros_like(coded)), lanes, len(self._list_codes), np.inf)

    def _changed(self):
        super()._changed()
        self._books, self._ranking_books = table_books(self._codebooks), table_books(self._list_books)
        self._listed = listed_rows(self._starts, self._code_rows, self._live)

    def _scan_limit(self):
        return max(self.rerank, list_scan_limit(self._built, self.probes, len(self._centroids), COST))

    def _rows(self, queries, k, open_rows):
        """Rows of the best `rerank` approximate scores, both copies of a row counted; more lists if too few."""
        shifted = queries - self._center
        coded = padded(matrix_product(shifted, self._axes), len(self._codebooks))
        ranking = padded(matrix_product(shifted, self._list_axes), len(self._list_books))
        lists = self._starts, self._codes, open_biases(self._biases, self._code_rows, open_rows), self._code_rows
        twice = self.spill is not None and len(self._centroids) > 1
        copies = 2 if twice else 1  # of a row among the candidates, at most
        kept = copies * min(max(k, self.rerank), max(k, self._built))

        def rank(some, m):
            return rank_lists(
                self._list_codes, self._list_biases, self._ranking_books, ranking[some], shifted[some],
                self._centroids, m,
            )  # fmt: skip

        probes = choose_lists(rank, len(queries), self.probes, self._listed, open_rows, copies * k)
        return scan_lists(lists, self._centroids, self._books, shifted, coded, probes, kept)


def _bias(coded, own):
    """|c + r~|^2 - |c|^2 = |r~|^2 + 2 c.r~, (n,) float32: coded, own are r~ and c along the axes, (n, depth)."""
    coded = coded.astype(np.float64)
    return (coded**2 + 2 * own * coded).sum(1).astype(np.float32)
