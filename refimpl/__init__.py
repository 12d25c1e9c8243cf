"""A complete visual search system from scratch on arrays: images in, a ranked list of similar images out.

    images -> preprocessing -> CNN encoder -> embedding -> ANN index -> ranking -> re-ranking

Each box is a package of this one. They load when first used, so that `import refimpl` costs nothing:

    import refimpl
    refimpl.metrics.average_precision(...)      # imports refimpl.metrics here
"""

import importlib

__version__ = "0.1.0"

_PACKAGES = ("images", "data", "nn", "losses", "training", "compression", "ann", "metrics", "serving")


def __getattr__(name: str):
    if name in _PACKAGES:
        return importlib.import_module(f"refimpl.{name}")
    raise AttributeError(f"module 'refimpl' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_PACKAGES])
