"""Colour histograms and perceptual hashes, against their definitions and for what they are used."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.images import colour_histogram, hamming_distance, perceptual_hash, resize
from refimpl.images.perceptual_hash import KINDS


def random_image(seed, height=24, width=20):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def natural_image(seed, side=64):
    """Mostly low frequencies, as photographs have: pictures of 4, 8 and 16 pixels enlarged, the finer the fainter."""
    layers = [resize(random_image(seed, n, n), side) * (4 / n) for n in (4, 8, 16)]
    return (sum(layers) / 1.75).astype(np.uint8)


@given(st.integers(0, 10**6), st.integers(1, 12))
def test_histogram_counts_pixels(seed, bins):
    image = random_image(seed)
    expected = np.zeros((bins,) * 3)
    for pixel in image.reshape(-1, 3):
        expected[tuple(int(v) * bins // 256 for v in pixel)] += 1
    result = colour_histogram(image[None], bins)
    assert result.shape == (1, bins**3) and result.dtype == np.float32
    np.testing.assert_allclose(result[0] ** 2, expected.ravel() / expected.sum(), atol=1e-6)
    assert np.linalg.norm(result[0]) == pytest.approx(1, abs=1e-6)


def test_histogram_ignores_places_and_takes_any_sizes():
    image = random_image(0)
    shuffled = np.random.default_rng(1).permutation(image.reshape(-1, 3)).reshape(image.shape)
    a, b, c = colour_histogram([image, shuffled, np.concatenate([image, image])])
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, c)


def test_ahash_and_dhash_by_hand():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:4] = 255  # upper half bright: the first 32 bits
    assert perceptual_hash(image, "ahash") == np.uint64(0xFFFFFFFF00000000)
    ramp = np.repeat(np.arange(9, dtype=np.uint8)[None, :, None] * 20, 8, axis=0).repeat(3, axis=2)
    assert perceptual_hash(ramp, "dhash") == np.uint64(0xFFFFFFFFFFFFFFFF)
    assert perceptual_hash(ramp[:, ::-1], "dhash") == np.uint64(0)


@given(st.integers(0, 10**6))
def test_phash_by_its_definition(seed):
    grey = np.random.default_rng(seed).integers(0, 256, (32, 32)).astype(np.uint8)
    y, x = np.mgrid[:32, :32]
    frequencies = np.zeros((8, 8))
    for u in range(8):
        for v in range(8):
            wave = np.cos(np.pi * (2 * y + 1) * u / 64) * np.cos(np.pi * (2 * x + 1) * v / 64)
            frequencies[u, v] = (grey * wave).sum()
    bits = frequencies > np.median(frequencies.ravel()[1:])
    bits[0, 0] = False
    expected = sum(1 << (63 - int(k)) for k in np.flatnonzero(bits.ravel()))
    assert perceptual_hash(np.repeat(grey[..., None], 3, axis=2), "phash") == np.uint64(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_near_and_others_far(kind):
    copies, others = [], []
    for seed in range(20):
        image = natural_image(seed)
        value = perceptual_hash(image, kind)
        assert isinstance(value, np.uint64)
        dimmed = (image * 0.9 + 5).astype(np.uint8)
        copies += [hamming_distance(value, perceptual_hash(other, kind)) for other in (resize(image, 48), dimmed)]
        others.append(hamming_distance(value, perceptual_hash(natural_image(seed + 100), kind)))
    assert np.mean(copies) < 4 and np.mean(others) > 16


@pytest.mark.parametrize("kind", KINDS)
def test_a_flat_picture_has_no_bits(kind):
    assert perceptual_hash(np.full((9, 7, 3), 77, np.uint8), kind) == 0


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8), st.integers(0, 2**64 - 1))
def test_hamming_distance_counts_bits(hashes, other):
    result = hamming_distance(np.array(hashes, np.uint64), np.uint64(other))
    assert result.tolist() == [(h ^ other).bit_count() for h in hashes]
    assert hamming_distance(np.uint64(hashes[0]), np.uint64(other)) == (hashes[0] ^ other).bit_count()


def test_wrong_arguments():
    with pytest.raises(ValueError, match="^kind"):
        perceptual_hash(random_image(0), "md5")
    with pytest.raises(ValueError, match="^image"):
        perceptual_hash(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="^bins"):
        colour_histogram([random_image(0)], 0)
    with pytest.raises(ValueError, match="^images"):
        colour_histogram([])
    with pytest.raises(ValueError, match="^a"):
        hamming_distance(3, np.uint64(3))
