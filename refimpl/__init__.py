"""A complete visual search system from scratch on arrays: images in, a ranked list of similar images out.

    images -> preprocessing -> CNN encoder -> embedding -> ANN index -> ranking
    `images`                   `nn`           `serving`    `ann`        `serving`

Beside the path: `data`, `losses` and `training` make the encoder, `metrics` says how good the ranking is; `compression`
is empty so far. Re-ranking is not there yet; docs/book-map.md says of everything in the book where it is, or that it is
not. The packages load when first used, so that `import refimpl` costs nothing:

    import refimpl
    refimpl.metrics.average_precision(...)      # imports refimpl.metrics here
"""

import importlib
import os

# Numba's OpenMP threads spin on the cores for a while after each parallel loop, and NumPy's matrix product, which has
# threads of its own, then waits for them: up to 20 times slower on two cores. Passive threads sleep. The OpenMP library
# reads this when it is loaded; whoever has set it, or has loaded the library before, keeps their choice.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

_PACKAGES = ("images", "data", "nn", "losses", "training", "compression", "ann", "metrics", "serving")


def __getattr__(name: str):
    if name in _PACKAGES:
        return importlib.import_module(f"refimpl.{name}")
    raise AttributeError(f"module 'refimpl' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_PACKAGES])
