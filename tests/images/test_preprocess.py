"""Sizes, values and statistics of preprocessing, against their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.images import channel_statistics, preprocess, resize
from refimpl.images.preprocess import MODES

sides = st.integers(1, 40)


def random_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(sides, sides, st.integers(1, 24), st.sampled_from(MODES), st.integers(0, 254))
def test_a_constant_picture_stays_constant(height, width, size, mode, value):
    result = resize(np.full((height, width, 3), value, np.uint8), size, mode)
    assert result.shape == (size, size, 3) and result.dtype == np.uint8
    inside = (result == value).all(axis=2)
    if mode == "letterbox":  # a rectangle of it, the longer side full, white around
        rows, columns = inside.any(axis=1), inside.any(axis=0)
        longer, shorter = (rows, columns) if height >= width else (columns, rows)
        assert longer.all() and shorter.sum() == max(1, round(min(height, width) * size / max(height, width)))
        np.testing.assert_array_equal(inside, rows[:, None] & columns[None, :])
        assert (result[~inside] == 255).all()
    else:
        assert inside.all()


@given(st.integers(1, 30), st.sampled_from(MODES))
def test_a_square_of_the_right_size_is_unchanged(size, mode):
    image = random_image(size, size, size)
    np.testing.assert_array_equal(resize(image, size, mode), image)


@given(st.integers(1, 12), st.integers(1, 4), st.sampled_from(MODES))
def test_shrinking_averages(size, times, mode):
    """No pixel is skipped: the mean of the picture survives, at stripes of one pixel too."""
    image = np.zeros((size * times * 4, size * times * 4, 3), np.uint8)
    image[:, ::2] = 200
    result = resize(image, size, mode)
    if size >= 3:  # away from the borders, where the filter is cut off
        assert abs(result[:, 1:-1].astype(int) - 100).max() <= 8
    assert abs(result.mean() - 100) <= 25


@given(st.integers(1, 20), st.integers(0, 30))
def test_center_crop_keeps_the_middle(side, extra):
    image = random_image(side, side + 2 * extra)
    np.testing.assert_array_equal(resize(image, side, "center_crop"), image[:, extra : extra + side])
    tall = np.ascontiguousarray(image.transpose(1, 0, 2))
    np.testing.assert_array_equal(resize(tall, side, "center_crop"), tall[extra : extra + side])


@settings(max_examples=25)
@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=4), st.integers(1, 16), st.sampled_from(MODES))
def test_preprocess_is_the_formula_on_resized_pictures(shapes, size, mode):
    images = [random_image(h, w, k) for k, (h, w) in enumerate(shapes)]
    mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.25, 0.3])
    result = preprocess(images, size, mean, std, mode=mode)
    expected = np.stack([(resize(image, size, mode) / 255 - mean) / std for image in images])
    assert result.dtype == np.float32 and result.shape == (len(images), size, size, 3)
    np.testing.assert_allclose(result, expected, atol=2e-6)


def test_preprocess_takes_one_array_and_scalars():
    images = np.stack([random_image(8, 8, k) for k in range(3)])
    np.testing.assert_allclose(preprocess(images, 8, 0, 1), images / 255, atol=1e-7)
    np.testing.assert_array_equal(preprocess(images, 5, 0.5, 0.25), preprocess(list(images), 5, 0.5, 0.25))


def test_statistics_are_those_of_all_pixels():
    images = [random_image(h, w, h) for h, w in [(3, 5), (7, 2), (1, 1)]]
    pixels = np.concatenate([image.reshape(-1, 3) for image in images]) / 255
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(0), rtol=1e-12)


def test_preprocessed_training_split_has_mean_0_and_variance_1():
    images = np.stack([random_image(16, 16, k) for k in range(20)])
    result = preprocess(images, 16, *channel_statistics(images)).reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(result.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(result.std(0), 1, atol=1e-5)


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: resize(np.zeros((4, 4), np.uint8), 8), "image"),
        (lambda: resize(np.zeros((4, 4, 3)), 8), "image"),
        (lambda: resize(np.zeros((0, 4, 3), np.uint8), 8), "image"),
        (lambda: resize(random_image(4, 4), 0), "size"),
        (lambda: resize(random_image(4, 4), 8, "squeeze"), "mode"),
        (lambda: preprocess([], 8, 0, 1), "images"),
        (lambda: preprocess(random_image(4, 4), 8, 0, 1), "images"),
        (lambda: preprocess([random_image(4, 4)], 8, [0, 0], 1), "mean"),
        (lambda: preprocess([random_image(4, 4)], 8, 0, 0), "std"),
        (lambda: preprocess([random_image(4, 4)], 8, np.nan, 1), "mean"),
        (lambda: channel_statistics([]), "images"),
    ],
)
def test_wrong_arguments(call, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        call()
