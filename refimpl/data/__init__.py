"""Where pictures come from: public data sets, folders, zips, and a synthetic catalogue with graded similarity."""

from .catalogue import COLOURS, Catalogue, grades, render_catalogue
from .folder import ImageSet, load_folder, split_by_class
from .products import FAMILIES
from .public import DownloadError, OneShotRun, cache_folder, cifar10, clothing, locate, omniglot, omniglot_runs

__all__ = [
    "COLOURS",
    "FAMILIES",
    "Catalogue",
    "DownloadError",
    "ImageSet",
    "OneShotRun",
    "cache_folder",
    "cifar10",
    "clothing",
    "grades",
    "load_folder",
    "locate",
    "omniglot",
    "omniglot_runs",
    "render_catalogue",
    "split_by_class",
]
