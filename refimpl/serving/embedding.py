"""The embedding service: pictures in, unit vectors out. Indexing and queries both come through here.

If the catalogue and the query were preprocessed differently, their vectors would lie in different places; so the
preprocessing travels with the weights, in one file.
"""

from typing import NamedTuple

import numpy as np

from ..files import atomic_write
from ..images import preprocess
from ..nn import fold_batch_norm, l2_normalize, pretrained, resnet_inference
from ..validation import check_integer


class Encoder(NamedTuple):
    """Everything that turns a picture into a vector."""

    weights: dict  # of `refimpl.nn.fold_batch_norm`
    size: int  # pixels: pictures are brought to (size, size)
    mean: np.ndarray  # (3,) z-score of the training split, in units of [0, 1]
    std: np.ndarray  # (3,)
    mode: str  # how: "stretch", "letterbox" or "center_crop"


def make_encoder(params, state, *, size, mean, std, mode="stretch"):
    """The Encoder of a trained network: batch norm folded into the convolutions, preprocessing beside it."""
    return Encoder(
        fold_batch_norm(params, state), size, np.asarray(mean, np.float32), np.asarray(std, np.float32), mode
    )


def pretrained_encoder():
    """The Encoder that comes with the package; see `refimpl.nn.pretrained`."""
    return make_encoder(**pretrained()._asdict())


def embed(encoder, images, *, batch=256, progress=None):
    """Embeddings (n, d) float32 of unit length.

    images    a sequence of (h, w, 3) uint8 pictures of any sizes, or one array (n, h, w, 3)
    batch     how many pictures are on their way at a time; it bounds the memory and does not change the result
    progress  called as progress(done, total)
    """
    batch = check_integer(batch, "batch", minimum=1)
    parts = []
    for first in range(0, len(images), batch):
        x = preprocess(images[first : first + batch], encoder.size, encoder.mean, encoder.std, mode=encoder.mode)
        parts.append(l2_normalize(resnet_inference(encoder.weights, x))[0])
        if progress is not None:
            progress(min(first + batch, len(images)), len(images))
    return np.concatenate(parts) if parts else np.zeros((0, encoder.weights["head/weight"].shape[1]), np.float32)


def save_encoder(path, encoder):
    """Write an Encoder as .npz, atomically."""
    weights = {f"weights/{name}": array for name, array in encoder.weights.items()}
    with atomic_write(path) as file:
        np.savez(file, size=encoder.size, mean=encoder.mean, std=encoder.std, mode=encoder.mode, **weights)


def load_encoder(path):
    """Read an Encoder; ValueError if the file is not one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            weights = {name.removeprefix("weights/"): file[name] for name in file if name.startswith("weights/")}
            if missing := {"head/weight", "head/bias"} - weights.keys():
                raise ValueError(f"no {' and no '.join(sorted(missing))}")
            return Encoder(weights, int(file["size"]), file["mean"], file["std"], str(file["mode"]))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such encoder file") from None
    except Exception as error:  # zipfile, zlib, NumPy and KeyError all have their own for a damaged file
        raise ValueError(f"{path}: not an encoder file ({error})") from None
