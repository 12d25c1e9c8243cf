"""A small encoder and small pictures for the tests of the system around the model."""

import numpy as np
from PIL import Image

from refimpl.nn import resnet_init
from refimpl.serving import make_encoder


def small_encoder(seed=0):
    return make_encoder(
        *resnet_init(widths=(8,), blocks=1, embedding=8, seed=seed), size=12, mean=(0.5,) * 3, std=(0.25,) * 3
    )


def write_pictures(folder, count, seed=0):
    """`count` noisy PNG files a00.png, a01.png ...; returns their pixels."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (count, 16, 20, 3), dtype=np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"a{i:02}.png")
    return pictures
