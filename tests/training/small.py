"""A task that is learned in seconds: noisy, dimmed views of a few prototypes."""

import numpy as np

from refimpl.nn import resnet_init, whitened_init

CLASSES = 8
PROTOTYPES = np.random.default_rng(0).standard_normal((3 * CLASSES, 8, 8, 3)).astype(np.float32)
LABELS = np.repeat(np.arange(CLASSES), 3)  # three prototypes a class


def encoder():
    return resnet_init(widths=(8, 16), blocks=1, embedding=16, seed=0)


def whitened_encoder():
    return whitened_init(PROTOTYPES, widths=(16, 32), seed=0)


def draw_view(rng):
    noise = rng.standard_normal(PROTOTYPES.shape, dtype=np.float32)
    return rng.uniform(0.2, 2, (len(PROTOTYPES), 1, 1, 1)).astype(np.float32) * PROTOTYPES + 0.3 * noise


def draw_pairs(rng):
    return draw_view(rng), draw_view(rng)


def draw_labelled(rng):
    return draw_view(rng), LABELS


def assert_same_bits(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name, strict=True)
