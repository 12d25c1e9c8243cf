"""Each augmentation by its own law, its numbers by theirs; the whole by its seed and its independence of threads."""

import colorsys

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from refimpl.images import apply_views, draw_views, identity_views, resize, simclr_views

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
UNIT = IMAGES / np.float32(255)
IDENTITY = identity_views(6, 16, 16)


def jitter(kind, factors):
    table = IDENTITY.jitter.copy()
    table[:, kind] = factors
    return IDENTITY._replace(jitter=table)


def luminance(images):
    return images @ np.array([0.299, 0.587, 0.114])


def test_identity_parameters_give_the_picture():
    np.testing.assert_allclose(apply_views(IMAGES, IDENTITY, 16), UNIT, atol=1e-6)


def test_flip_mirrors_and_is_its_own_inverse():
    views = IDENTITY._replace(flip=np.array([True, False] * 3))
    once = apply_views(IMAGES, views, 16)
    np.testing.assert_allclose(once[::2], UNIT[::2, :, ::-1], atol=1e-6)
    np.testing.assert_allclose(once[1::2], UNIT[1::2], atol=1e-6)
    twice = apply_views(np.round(once * 255).astype(np.uint8), views, 16)
    np.testing.assert_allclose(twice, UNIT, atol=1e-6)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_quarter_turn_moves_pixels_exactly(quarters):
    views = IDENTITY._replace(angle=np.full(6, quarters * np.pi / 2, np.float32))
    turned = apply_views(IMAGES, views, 16)
    np.testing.assert_allclose(turned, np.rot90(UNIT, -quarters, axes=(1, 2)), atol=1e-4)


@given(st.integers(0, 8), st.integers(0, 8), st.integers(1, 8), st.integers(1, 8))
def test_a_box_of_whole_pixels_is_cut_out(top, left, height, width):
    size = 4
    box = np.tile(np.array([top, left, size, size], np.float32), (6, 1))
    crop = apply_views(IMAGES, IDENTITY._replace(box=box), size)
    np.testing.assert_allclose(crop, UNIT[:, top : top + size, left : left + size], atol=1e-6)
    # Any other box: within the range of the pixels that it touches.
    box = np.tile(np.array([top, left, height, width], np.float32), (6, 1))
    crop = apply_views(IMAGES, IDENTITY._replace(box=box), 5)
    around = UNIT[:, max(top - 1, 0) : top + height + 1, max(left - 1, 0) : left + width + 1]
    assert (crop.max((1, 2)) <= around.max((1, 2)) + 1e-6).all()
    assert (crop.min((1, 2)) >= around.min((1, 2)) - 1e-6).all()


@pytest.mark.parametrize("times", [2, 3, 5, 8])
def test_shrinking_averages_whole_blocks(times):
    """A grid of places in each pixel, at pixel centres of the source: the mean of the block."""
    size = 16 // times
    side = size * times
    views = IDENTITY._replace(box=np.tile(np.array([0, 0, side, side], np.float32), (6, 1)))
    blocks = UNIT[:, :side, :side].reshape(6, size, times, size, times, 3)
    np.testing.assert_allclose(apply_views(IMAGES, views, size), blocks.mean((2, 4)), atol=2e-6)


def test_enlarging_agrees_with_bilinear_resizing():
    large = apply_views(IMAGES, IDENTITY, 32)
    expected = np.stack([resize(image, 32) for image in IMAGES]) / 255
    assert abs(large - expected).max() <= 1.01 / 255


def test_brightness_contrast_saturation_against_their_formulas():
    factors = np.array([0.0, 0.3, 0.8, 1.2, 1.6, 2.0], np.float32)
    f = factors[:, None, None, None]
    mean = luminance(UNIT).mean((1, 2))[:, None, None, None]
    grey = luminance(UNIT)[..., None]
    for kind, expected in enumerate([f * UNIT, f * UNIT + (1 - f) * mean, f * UNIT + (1 - f) * grey]):
        np.testing.assert_allclose(apply_views(IMAGES, jitter(kind, factors), 16), np.clip(expected, 0, 1), atol=2e-6)


def test_contrast_of_a_large_picture():
    """One colour has no contrast: it stays, however many pixels are added up."""
    large = np.full((1, 8, 8, 3), 200, np.uint8)
    views = identity_views(1, 8, 8)._replace(jitter=np.array([[1, 0.2, 1, 0]], np.float32))
    np.testing.assert_allclose(apply_views(large, views, 700), 200 / 255, rtol=1e-4)


@settings(max_examples=20)
@given(st.floats(-0.5, 0.5))
def test_hue_turns_as_in_hsv(turn):
    views = identity_views(1, 16, 16)._replace(jitter=np.array([[1, 1, 1, turn]], np.float32))
    result = apply_views(IMAGES[:1], views, 16)
    np.testing.assert_allclose(result.max(-1), UNIT[:1].max(-1), atol=1e-6)  # value and chroma stay
    np.testing.assert_allclose(result.min(-1), UNIT[:1].min(-1), atol=1e-6)
    for (y, x), pixel in zip(np.ndindex(4, 4), UNIT[0, :4, :4].reshape(-1, 3)):
        h, s, v = colorsys.rgb_to_hsv(*map(float, pixel))
        np.testing.assert_allclose(result[0, y, x], colorsys.hsv_to_rgb((h + turn) % 1, s, v), atol=1e-4)


def test_grey_pixels_have_no_hue_to_turn():
    grey = np.repeat(IMAGES[..., :1], 3, axis=3)
    np.testing.assert_allclose(apply_views(grey, jitter(3, 0.3), 16), grey / 255, atol=1e-6)


def test_grey_is_the_luminance():
    result = apply_views(IMAGES, IDENTITY._replace(grey=np.ones(6, bool)), 16)
    np.testing.assert_allclose(result, np.repeat(luminance(UNIT)[..., None], 3, axis=3), atol=1e-6)


def test_the_order_of_the_jitters_is_respected():
    table = np.tile(np.array([1.8, 0.4, 1, 0], np.float32), (6, 1))
    first = apply_views(IMAGES, IDENTITY._replace(jitter=table), 16)
    other = apply_views(IMAGES, IDENTITY._replace(jitter=table, order=np.tile([1, 0, 2, 3], (6, 1))), 16)
    bright = np.clip(1.8 * UNIT, 0, 1)
    mean = luminance(bright).mean((1, 2))[:, None, None, None]
    np.testing.assert_allclose(first, np.clip(0.4 * bright + 0.6 * mean, 0, 1), atol=3e-6)
    assert abs(first - other).max() > 0.01


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
def test_blur_is_convolution_with_a_gaussian(sigma):
    result = apply_views(IMAGES, IDENTITY._replace(sigma=np.full(6, sigma, np.float32)), 16)
    radius = int(np.ceil(3 * np.float32(sigma)))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    expected = UNIT.astype(np.float64)
    for axis in (1, 2):
        padded = np.pad(expected, [(radius, radius) if a == axis else (0, 0) for a in range(4)], mode="edge")
        expected = sum(w * np.take(padded, np.arange(16) + t, axis=axis) for t, w in enumerate(kernel))
    np.testing.assert_allclose(result, expected, atol=3e-6)


EVERYTHING = dict(rotation=30, blur_probability=0.5, grey_probability=0.3, jitter_strength=1.0)


@settings(max_examples=15)
@given(st.integers(0, 10**9), st.sampled_from([8, 16, 21]))
def test_views_are_in_range_and_follow_the_seed(seed, size):
    views = simclr_views(IMAGES, seed, size=size, **EVERYTHING)
    assert views.shape == (6, size, size, 3) and views.dtype == np.float32
    assert np.isfinite(views).all() and views.min() >= 0 and views.max() <= 1
    np.testing.assert_array_equal(views, simclr_views(IMAGES, np.random.default_rng(seed), size=size, **EVERYTHING))
    assert (views != simclr_views(IMAGES, seed + 1, size=size, **EVERYTHING)).any()


def test_the_number_of_threads_changes_nothing():
    before = numba.get_num_threads()
    try:
        results = []
        for threads in {1, before}:
            numba.set_num_threads(threads)
            results.append(simclr_views(IMAGES, 3, **EVERYTHING))
    finally:
        numba.set_num_threads(before)
    for result in results:
        np.testing.assert_array_equal(result, results[0])


def test_two_calls_with_one_generator_differ():
    rng = np.random.default_rng(0)
    assert (simclr_views(IMAGES, rng) != simclr_views(IMAGES, rng)).any()


def test_probability_zero_and_the_whole_area_change_nothing():
    views = simclr_views(
        IMAGES, 0, crop_area=(1, 1), crop_ratio=(1, 1), flip_probability=0, jitter_probability=0, grey_probability=0
    )
    np.testing.assert_allclose(views, UNIT, atol=1e-5)


UNLIKELY = 1e-7  # how often chance alone may fail one of the checks of a law
chances = st.floats(0.05, 0.95)


def assert_uniform(values, low, high):
    assert values.min() >= low - 1e-5 * (abs(low) + 1) and values.max() <= high + 1e-5 * (abs(high) + 1)
    assert stats.kstest((values.astype(np.float64) - low) / (high - low), "uniform").pvalue > UNLIKELY


def assert_chance(flags, p):
    low, high = stats.binom.interval(1 - UNLIKELY, len(flags), p)
    assert low <= flags.sum() <= high


@settings(max_examples=20)
@given(
    low=st.floats(0.05, 0.2), high=st.floats(0.3, 0.5), ratio=st.floats(1.1, 1.5), rotation=st.floats(1, 180),
    strength=st.floats(0.1, 1.25), p=st.tuples(chances, chances, chances, chances), sigma=st.floats(0.1, 1),
    shape=st.sampled_from([(32, 32), (28, 24)]), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_views_are_drawn_by_their_law(low, high, ratio, rotation, strength, p, sigma, shape, seed):
    """Each number by itself. Areas up to a half at ratios up to 3/2 stick out of neither picture: no box is cut."""
    n, (flip, change, grey, blur) = 20_000, p
    views = draw_views(
        n, *shape, seed, crop_area=(low, high), crop_ratio=(1 / ratio, ratio), flip_probability=flip, rotation=rotation,
        jitter_probability=change, jitter_strength=strength, grey_probability=grey, blur_probability=blur,
        blur_sigma=(sigma, 2.0),
    )  # fmt: skip
    top, left, height, width = views.box.astype(np.float64).T
    area, aspect = height * width / (shape[0] * shape[1]), np.log(width / height)
    down, right = top / (shape[0] - height), left / (shape[1] - width)
    assert_uniform(area, low, high)
    assert_uniform(aspect, -np.log(ratio), np.log(ratio))
    assert_uniform(down, 0, 1)
    assert_uniform(right, 0, 1)
    assert_uniform(views.angle, -np.deg2rad(rotation), np.deg2rad(rotation))
    assert_uniform(views.sigma[views.sigma > 0], sigma, 2.0)
    changed = (views.jitter != np.float32([1, 1, 1, 0])).any(axis=1)
    for kind, (middle, reach) in enumerate([(1, 0.8), (1, 0.8), (1, 0.8), (0, 0.2)]):
        assert_uniform(views.jitter[changed, kind], middle - reach * strength, middle + reach * strength)
    for flags, chance in ((views.flip, flip), (changed, change), (views.grey, grey), (views.sigma > 0, blur)):
        assert_chance(flags, chance)
    _, counts = np.unique(views.order @ [64, 16, 4, 1], return_counts=True)
    assert len(counts) == 24 and stats.chisquare(counts).pvalue > UNLIKELY
    drawn = [area, aspect, down, right, views.angle, views.flip, views.grey, views.sigma > 0, changed]
    for columns in (np.array(drawn), views.jitter[changed].T):
        assert np.abs(np.corrcoef(columns) - np.eye(len(columns))).max() < 7 / np.sqrt(columns.shape[1])


@settings(max_examples=10)
@given(st.sampled_from([(32, 32), (64, 128), (90, 30)]), st.integers(0, 2**32 - 1))
def test_a_box_that_sticks_out_is_cut_to_the_picture(shape, seed):
    """Heights, widths, areas and ratios at the defaults are those of boxes drawn here, by another generator."""
    n, nothing = 5000, dict.fromkeys(["rotation", "jitter_strength", "grey_probability", "blur_probability"], 0)
    views = draw_views(
        n, *shape, seed, crop_area=(0.08, 1), crop_ratio=(3 / 4, 4 / 3), flip_probability=0.5, jitter_probability=0.8,
        blur_sigma=(0.1, 2), **nothing,
    )  # fmt: skip
    rng = np.random.default_rng(seed + 2**32)
    area, ratio = rng.uniform(0.08, 1, n) * shape[0] * shape[1], (4 / 3) ** rng.uniform(-1, 1, n)
    expected = np.minimum((area / ratio) ** 0.5, shape[0]), np.minimum((area * ratio) ** 0.5, shape[1])
    top, left, height, width = views.box.astype(np.float64).T
    assert (top >= 0).all() and (top + height <= shape[0] + 1e-3).all()
    assert (left >= 0).all() and (left + width <= shape[1] + 1e-3).all()
    for of in (lambda h, w: h, lambda h, w: w, np.multiply, np.divide):
        assert stats.ks_2samp(of(height, width), of(*expected)).pvalue > UNLIKELY


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([8, 13]), p=st.tuples(chances, chances, chances, chances))
def test_a_view_is_what_was_drawn_applied(seed, size, p):
    images = np.random.default_rng(seed).integers(0, 256, (9, 16, 12, 3), dtype=np.uint8)
    options = {
        "crop_area": (0.2, 0.7), "crop_ratio": (0.8, 1.3), "flip_probability": p[0], "rotation": 25.0,
        "jitter_probability": p[1], "jitter_strength": 0.7, "grey_probability": p[2], "blur_probability": p[3],
        "blur_sigma": (0.3, 1.1),
    }  # fmt: skip
    expected = apply_views(images, draw_views(9, 16, 12, seed, **options), size)
    np.testing.assert_array_equal(simclr_views(images, seed, size=size, **options), expected)


def test_the_defaults_are_those_of_the_paper_for_32_pixels():
    """Chen et al. 2020, appendices A and B.9."""
    paper = {
        "crop_area": (0.08, 1.0), "crop_ratio": (3 / 4, 4 / 3), "flip_probability": 0.5, "rotation": 0,
        "jitter_probability": 0.8, "jitter_strength": 0.5, "grey_probability": 0.2, "blur_probability": 0,
    }  # fmt: skip
    images = np.repeat(IMAGES, 50, axis=0)
    np.testing.assert_array_equal(simclr_views(images, 7), simclr_views(images, 7, size=16, **paper))


@pytest.mark.parametrize(
    "options, name",
    [
        ({"crop_area": (0, 1)}, "crop_area"),
        ({"crop_area": (0.5, 0.2)}, "crop_area"),
        ({"crop_ratio": 1}, "crop_ratio"),
        ({"flip_probability": 1.5}, "flip_probability"),
        ({"jitter_strength": 2}, "jitter_strength"),
        ({"blur_sigma": (-1, 1)}, "blur_sigma"),
        ({"rotation": np.nan}, "rotation"),
        ({"size": 0}, "size"),
    ],
)
def test_wrong_arguments(options, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        simclr_views(IMAGES, 0, **options)


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("order", [0, 1, 2, 4]),
        ("order", [0, 1, 2, -1]),
        ("order", [0, 1, 1, 3]),
        ("order", [0, 1, 2, 3.5]),
        ("order", [0, 1, 2, 2**40]),
        ("sigma", -0.1),
        ("sigma", 65.0),
        ("sigma", 1e9),
        ("sigma", 1e300),
        ("angle", 1e300),  # infinite as float32, and then no place in the picture
        ("box", [0, 0, 0, 16]),
        ("box", [0, 0, 16, -1]),
        ("box", [0, 0, 1e9, 16]),
        ("box", [0, 0, 16, 64.1]),
        ("box", [1e300, 0, 16, 16]),
        ("jitter", [1, 1, 1, 1e300]),
    ],
)
@given(row=st.integers(0, 5))
def test_parameters_that_would_lead_the_kernel_astray(name, wrong, row):
    column = getattr(IDENTITY, name).astype(np.result_type(getattr(IDENTITY, name), np.asarray(wrong)))
    column[row] = wrong
    with pytest.raises(ValueError, match=rf"^views\.{name}: expected "):
        apply_views(IMAGES, IDENTITY._replace(**{name: column}), 16)


def test_parameters_at_their_limits():
    box = np.tile(np.array([-24, -24, 64, 64], np.float32), (6, 1))
    assert apply_views(IMAGES, IDENTITY._replace(box=box, sigma=np.full(6, 64, np.float32)), 16).shape == (6, 16, 16, 3)
    assert simclr_views(IMAGES, 0, size=1, blur_probability=1.0).shape == (6, 1, 1, 3)
    with pytest.raises(ValueError, match=r"^views\.sigma: expected 0 to 64, got "):
        simclr_views(IMAGES, 0, blur_probability=1.0, blur_sigma=(1e3, 1e12))


def test_a_list_of_pictures_is_as_good_as_an_array():
    np.testing.assert_array_equal(simclr_views(list(IMAGES), 0), simclr_views(IMAGES, 0))


def test_wrong_pictures_and_parameters():
    for shape in ((1, 0, 4, 3), (1, 4, 0, 3), (0, 4, 4, 3)):
        with pytest.raises(ValueError, match="^images"):
            simclr_views(np.zeros(shape, np.uint8), 0)
    with pytest.raises(ValueError, match="^images"):
        simclr_views(UNIT, 0)
    with pytest.raises(ValueError, match="^views.box"):
        apply_views(IMAGES, identity_views(5, 16, 16), 16)
