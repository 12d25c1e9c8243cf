"""The encoder that comes with the package: weights on disk, read without a network.

    encoder = pretrained()
    embed = resnet_embedder(fold_batch_norm(encoder.params, encoder.state))       # to use it
    embeddings, pullback, state = resnet(encoder.params, encoder.state, x, training=True)       # to train it further

It was trained by scripts/train_pretrained.py; docs/pretrained.md says on what, and how good it is. `refimpl.serving`
has `pretrained_encoder`, which takes pictures of any size.

On disk, convolutions and the linear layer are float16: half the size, for a rounding of 1 in 2000, which is less than
training leaves undecided. Norms and running statistics stay float32: they are a hundredth of the numbers, and each of
them scales or shifts everything behind it. In memory everything is float32 again.
"""

from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..files import atomic_write
from ..validation import check_array, check_integer

WEIGHTS = files(__package__) / "weights" / "general.npz"
SECTIONS = ("params", "state")


class Pretrained(NamedTuple):
    """A residual network and what its pictures must look like."""

    params: dict  # of `resnet`
    state: dict
    size: int  # pixels: whole pictures are brought to (size, size)
    mean: np.ndarray  # (3,) float32, z-score in units of [0, 1]
    std: np.ndarray  # (3,) float32
    mode: str  # how they are brought to size, see `refimpl.images.resize`


def pretrained(path=None):
    """The Pretrained encoder of the package, or of a file that `save_pretrained` wrote.

    Raises ValueError if the file is not one or holds numbers that are none, OSError if it cannot be read.
    """
    with (WEIGHTS if path is None else Path(path)).open("rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            sections = {section: _section(arrays, section) for section in SECTIONS}
            mean, std = _z_score(arrays["mean"], arrays["std"])
            return Pretrained(**sections, size=int(arrays["size"]), mean=mean, std=std, mode=str(arrays["mode"]))
        except Exception as error:  # zipfile, zlib, NumPy and KeyError all have their own for a damaged file
            raise ValueError(f"path: expected an encoder's weights, got {path or WEIGHTS} ({error})") from None


def save_pretrained(path, encoder):
    """Write a Pretrained, atomically: arrays of two dimensions or more as float16, the rest as float32.

    Raises ValueError for what does not fit: values that are not finite, weights beyond float16's 65504, std <= 0. What
    `mode` may be is for `refimpl.images` to say, which this package does not import.
    """
    arrays = {"size": np.int64(check_integer(encoder.size, "size", minimum=1)), "mode": np.str_(encoder.mode)}
    arrays["mean"], arrays["std"] = _z_score(encoder.mean, encoder.std)
    for section in SECTIONS:
        for name, value in getattr(encoder, section).items():
            value = check_array(value, f"{section}[{name!r}]", finite=True)
            with np.errstate(over="ignore"):
                small = value.astype(np.float16 if value.ndim >= 2 else np.float32)
            arrays[f"{section}/{name}"] = check_array(small, f"{section}[{name!r}] as {small.dtype}", finite=True)
    with atomic_write(path) as file:
        np.savez(file, **arrays)


def _section(arrays, section):
    """{name: float32 array} of one section of the file, without the prefix."""
    prefix = f"{section}/"
    found = {k: check_array(v, k, finite=True) for k, v in arrays.items() if k.startswith(prefix)}
    if not found:
        raise ValueError(f"no {section}")
    return {k.removeprefix(prefix): v.astype(np.float32) for k, v in found.items()}


def _z_score(mean, std):
    """`mean` and `std` as finite (3,) float32, the latter above 0."""
    with np.errstate(over="ignore"):
        mean, std = (
            check_array(value, name, shape=(3,)).astype(np.float32) for name, value in (("mean", mean), ("std", std))
        )
    if (std <= 0).any():
        raise ValueError(f"std: expected numbers > 0, got {std.tolist()}")
    return check_array(mean, "mean", finite=True), check_array(std, "std", finite=True)
