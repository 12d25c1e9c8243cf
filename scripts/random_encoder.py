"""The encoder to compare with: the same network, untrained."""

import numpy as np

from refimpl.nn import resnet


def settled(params, state, draw, seed, *, encoder=resnet, batches=20):
    """`state` after some batches of draw(rng) -> x: an untrained encoder is judged with statistics that fit its
    pictures."""
    rng = np.random.default_rng(seed)
    for _ in range(batches):
        _, _, state = encoder(params, state, draw(rng), training=True)
    return state
