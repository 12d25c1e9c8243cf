"""Nearest-neighbour indexes."""

from .hamming import HammingIndex
from .index import Neighbors
from .kdtree import KDTreeIndex
from .lsh import LSHIndex
from .rp_forest import RPForestIndex

__all__ = ["HammingIndex", "KDTreeIndex", "LSHIndex", "Neighbors", "RPForestIndex"]
