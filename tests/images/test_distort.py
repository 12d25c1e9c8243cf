"""Distortions: none is the identity, each moves what it should, and the draw decides everything."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from refimpl.images import distort
from refimpl.images.distort import _spline_basis

NONE = {"rotation": 0, "scale": 0, "shear": 0, "shift": 0, "elastic": 0}


def pictures(n=3, side=9, seed=0):
    return np.random.default_rng(seed).random((n, side, side), dtype=np.float32)


def centre_of_mass(images):
    places = np.arange(images.shape[1]) + 0.5
    total = images.sum(axis=(1, 2))
    return np.stack([(images.sum(axis=2) @ places) / total, (images.sum(axis=1) @ places) / total])


@given(st.integers(1, 20))
def test_no_distortion_is_the_identity(side):
    images = pictures(side=side)
    np.testing.assert_allclose(distort(images, 0, **NONE), images, atol=2e-5)


@pytest.mark.parametrize("what, value", [("rotation", 40), ("scale", 0.5), ("shear", 0.5), ("elastic", 0.1)])
def test_each_distortion_changes_the_picture_and_not_beyond_its_range(what, value):
    images = pictures()
    found = distort(images, 1, **{**NONE, what: value})
    assert np.abs(found - images).max() > 0.1
    assert found.min() >= 0 and found.max() <= images.max() + 1e-5


def test_elastic_is_twice_the_displacement_of_a_grid_point():
    """A ramp says by its value where it was looked up; pixel 20 of 41 is on the grid of 5."""
    ramp = np.tile(np.arange(41, dtype=np.float32) / 41, (41, 1))
    for images in (ramp, ramp.T):
        found = distort(np.tile(images, (3000, 1, 1)), 0, **{**NONE, "elastic": 0.02})[:, 20, 20]
        np.testing.assert_allclose(found.mean(), 20 / 41, atol=5 * 0.01 / 3000**0.5)
        np.testing.assert_allclose(found.std(), 0.01, rtol=5 / 6000**0.5)


def test_scale_is_uniform_in_the_logarithm_of_each_side():
    places = np.arange(61) - 30
    spot = np.exp(-(places[:, None] ** 2 + places**2) / 32).astype(np.float32)  # standard deviation 4
    found = distort(np.tile(spot, (1000, 1, 1)), 0, **{**NONE, "scale": 0.5}).astype(float)
    total = found.sum(axis=(1, 2))
    logs = np.array([np.log(found.sum(axis=axis) @ places**2 / total / 16) / 2 for axis in (1, 2)])
    assert np.abs(logs).max() < np.log(1.5) + 0.01 and abs(np.corrcoef(logs)[0, 1]) < 0.15
    for log in logs:
        assert stats.kstest(log, "uniform", (-np.log(1.5), 2 * np.log(1.5))).pvalue > 1e-5


def test_shift_moves_the_ink_by_its_amount():
    images = np.zeros((200, 40, 40), np.float32)
    images[:, 18:22, 18:22] = 1
    moved = centre_of_mass(distort(images, 3, **{**NONE, "shift": 0.2})) - 20
    assert np.abs(moved).max() <= 8 + 1e-3 and np.abs(moved).max() > 6
    assert moved[0].std() > 3 and moved[1].std() > 3 and abs(np.corrcoef(*moved)[0, 1]) < 0.3


def test_rotation_keeps_lengths():
    """A dot off the centre stays as far from it, and turns by at most the angle."""
    images = np.zeros((300, 41, 41), np.float32)
    images[:, 20:23, 33:36] = 1
    row, column = centre_of_mass(distort(images, 0, **{**NONE, "rotation": 30})) - 20.5
    first = centre_of_mass(images[:1]) - 20.5
    assert np.abs(np.hypot(row, column) - np.hypot(*first)).max() < 0.15
    turned = np.rad2deg(np.arctan2(row, column) - np.arctan2(*first))
    assert np.abs(turned).max() <= 30.5 and turned.max() > 25 and turned.min() < -25


def test_shear_moves_rows_sideways_by_their_distance_from_the_middle():
    images = np.zeros((200, 41, 41), np.float32)
    images[:, 30, 19:22] = 1  # 10 rows below the middle
    row, column = centre_of_mass(distort(images, 0, **{**NONE, "shear": 0.5}))
    np.testing.assert_allclose(row, 30.5, atol=0.01)
    assert 4.5 < np.abs(column - 20.5).max() <= 5.01


def test_rotation_and_shear_together_keep_areas():
    """Both have determinant 1: a smooth spot keeps its ink."""
    places = np.arange(41) - 20
    spot = np.exp(-(places[:, None] ** 2 + places**2) / 18).astype(np.float32)
    found = distort(np.tile(spot, (100, 1, 1)), 0, **{**NONE, "rotation": 180, "shear": 0.8})
    np.testing.assert_allclose(found.sum(axis=(1, 2)), spot.sum(), rtol=0.01)


@given(st.integers(1, 40), st.integers(2, 8))
def test_splines_sum_to_one(size, grid):
    np.testing.assert_allclose(_spline_basis(size, grid).sum(axis=1), 1, rtol=1e-5)


def test_same_seed_same_bits_at_any_number_of_threads():
    images, threads = pictures(16, 20), numba.get_num_threads()
    first = distort(images, 5, size=14)
    numba.set_num_threads(1)
    try:
        np.testing.assert_array_equal(distort(images, 5, size=14), first)
    finally:
        numba.set_num_threads(threads)
    assert first.shape == (16, 14, 14) and (distort(images, 6, size=14) != first).any()


def test_wrong_arguments():
    for bad in ({"rotation": -1}, {"scale": -0.1}, {"grid": 1}, {"size": 0}, {"elastic": np.nan}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            distort(pictures(), 0, **bad)
    with pytest.raises(ValueError, match="images"):
        distort(pictures().astype(float), 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pictures_must_be_finite(value):
    images = pictures()
    images[1, 2, 3] = value
    with pytest.raises(ValueError, match="images.*finite"):
        distort(images, 0)
