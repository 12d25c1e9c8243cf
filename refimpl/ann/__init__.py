"""Nearest-neighbour indexes, k-means, recall, and the tuning of search parameters. docs/ann.md is the start page."""

from .exact import ExactIndex
from .hamming import HammingIndex
from .hnsw import HNSWIndex
from .index import Neighbors
from .ivf import IVFIndex
from .kdtree import KDTreeIndex
from .kmeans import KMeans, kmeans, mini_batch_kmeans
from .lsh import LSHIndex
from .product_quantization import IVFPQIndex, PQIndex
from .rabitq_index import RaBitQIndex
from .recall import knn_recall
from .rp_forest import RPForestIndex
from .scalar_quantization import ScalarQuantizer, fit_scalar_quantizer
from .scann import ScaNNIndex
from .tuning import tune

__all__ = [
    "ExactIndex",
    "HNSWIndex",
    "HammingIndex",
    "IVFIndex",
    "IVFPQIndex",
    "KDTreeIndex",
    "KMeans",
    "LSHIndex",
    "Neighbors",
    "PQIndex",
    "RPForestIndex",
    "RaBitQIndex",
    "ScaNNIndex",
    "ScalarQuantizer",
    "fit_scalar_quantizer",
    "kmeans",
    "knn_recall",
    "mini_batch_kmeans",
    "tune",
]
