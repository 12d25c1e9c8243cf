"""Nearest-neighbour indexes, k-means, and the recall of a search."""

from .exact import ExactIndex
from .hamming import HammingIndex
from .index import Neighbors
from .ivf import IVFIndex
from .kdtree import KDTreeIndex
from .kmeans import KMeans, kmeans
from .lsh import LSHIndex
from .product_quantization import IVFPQIndex, PQIndex
from .recall import knn_recall
from .rp_forest import RPForestIndex

__all__ = [
    "ExactIndex",
    "HammingIndex",
    "IVFIndex",
    "IVFPQIndex",
    "KDTreeIndex",
    "KMeans",
    "LSHIndex",
    "Neighbors",
    "PQIndex",
    "RPForestIndex",
    "kmeans",
    "knn_recall",
]
