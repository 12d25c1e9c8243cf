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

The first term is one number for a query and list, the second the sum of table look-ups, the third a number stored with
the code. r~ lies along the first principal axes of the residuals (code_axes.py), so that q.r~ needs the query's
coordinates along these only.

The lists lie in the order of their centroids along the principal axis, so that near ones are nearer in memory.

Layout in memory: fast_scan.py, twice: the vectors' codes in L lists, and the centroids' in one (list_ranking.py).
"""

import numpy as np

from ..matrix_product import matrix_product
from ..microkernel import columns_of, pack_panels
from ..validation import check_integer, check_number
from .anisotropic import anisotropic_codes, anisotropic_eta, directions, train_anisotropic
from .byte_shuffle import MOST_PARTS
from .code_axes import code_axes, moments
from .codebooks import decode, padded
from .fast_scan import in_lanes, open_biases, pack_codes, scan_lists, table_books
from .ivf import choose_lists, coarse_centroids, list_scan_limit, listed_rows
from .kmeans import assign, group_by_label
from .list_ranking import LIST_CODES, CodedCentroids, code_centroids, rank_lists
from .product_quantization import SAMPLE
from .reorder import ReorderedIndex
from .soar import second_lists

COST = 0.2  # of a code, in rows scanned (`list_scan_limit`)


def near_in_memory(centroids):
    """The order (L,) of the centroids along their principal axis."""
    shifted = centroids - centroids.mean(0, dtype=np.float64)
    axis = np.linalg.eigh(moments(shifted))[1][:, -1]
    return np.argsort((shifted * axis).sum(1), kind="stable")


class ScaNNIndex(ReorderedIndex):
    """Approximate nearest neighbours by 4-bit codes in lists, scanned in registers and re-ordered exactly.

    lists, probes   as for IVFIndex
    parts           of a code, 4 bits each, at most 512; None: as few, along principal axes, as rank as well as d / 2
                    parts of two coordinates without axes (code_axes.py)
    threshold       T of the anisotropic loss (anisotropic.py), as a share of each vector's norm, in (0, 1); None: the
                    plain loss
    spill           None: each vector in one list. A number: each in two, the second chosen by SOAR (soar.py) with this
                    weight (1 is usual)
    rerank          codes to keep for each query (at least k) and rank by their exact distances
    seed            of clusterings and samples

    Build O(n d (L + 16)); search O(parts (d + L + probes n / L)) a query, most of it look-ups of which a vector
    instruction makes 16 to 64; memory parts / 2 + 8 bytes a vector beside the vectors, twice that with spilling.
    """

    _STRUCTURE = (
        "_center", "_centroids", "_axes", "_codebooks", "_starts", "_codes", "_biases", "_code_rows",
        *LIST_CODES,
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
        for name, array in zip(LIST_CODES, code_centroids(self._centroids, self.seed)):
            setattr(self, name, array)

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
        biases = (coded.astype(np.float64) ** 2 + 2 * own * coded.astype(np.float64)).sum(1).astype(np.float32)
        self._biases = in_lanes(biases, lanes, len(self._codes), np.inf)
        self._code_rows = in_lanes(rows.astype(np.int32), lanes, len(self._codes), -1)

    def _changed(self):
        super()._changed()
        self._books = table_books(self._codebooks)
        self._coded_lists = CodedCentroids(*(getattr(self, name) for name in LIST_CODES))
        self._listed = listed_rows(self._starts, self._code_rows, self._live)
        axes = np.concatenate([self._axes, self._coded_lists.axes], 1)  # one product for both codes
        self._both_axes = axes, pack_panels(axes, columns_of(axes.dtype))

    def _scan_limit(self):
        return max(self.rerank, list_scan_limit(self._built, self.probes, len(self._centroids), COST))

    def _rows(self, queries, k, open_rows):
        """Rows of the best `rerank` approximate scores, both copies of a row counted; more lists if too few."""
        shifted = queries - self._center
        along, width = matrix_product(shifted, *self._both_axes), self._axes.shape[1]
        coded, along = padded(along[:, :width], len(self._codebooks)), along[:, width:]
        lists = self._starts, self._codes, open_biases(self._biases, self._code_rows, open_rows), self._code_rows
        twice = self.spill is not None and len(self._centroids) > 1
        copies = 2 if twice else 1  # of a row among the candidates, at most
        kept = copies * min(max(k, self.rerank), max(k, self._built))

        def rank(some, m):
            return rank_lists(self._coded_lists, self._centroids, shifted[some], m, along[some])

        probes = choose_lists(rank, len(queries), self.probes, self._listed, open_rows, copies * k)
        return scan_lists(lists, self._centroids, self._books, shifted, coded, probes, kept)
