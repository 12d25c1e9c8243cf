"""SimCLR's augmentations: two random views of a picture, which the encoder must learn to see as the same.

Each view is made by the same steps, each with parameters of its own:

    1  random resized crop   a box of 8-100% of the area and aspect ratio 3/4-4/3, without what sticks out of the
                             picture, resized to the view
    2  rotation              about the centre of the box
    3  horizontal flip
    4  colour jitter         brightness, contrast, saturation and hue, in random order
    5  grey                  all channels become the luminance
    6  blur                  a Gaussian

Steps 1-3 are one map from the view's pixels to places in the source, so that the picture is sampled once:

    source = centre + R(angle) diag(box / size) (pixel + 1/2 - size / 2), the column mirrored for a flip

A place between pixels is interpolated bilinearly. Where the view is coarser than the source, one place would skip
pixels (aliasing): a view's pixel is then the mean of a grid of places, ceil(box / size) to a side.

Randomness: all parameters are drawn by NumPy first (`draw_views`), one row a picture; the kernel that applies them
(`apply_views`) draws nothing, so its result depends neither on the number of threads nor on the order of pictures.

Source: Chen, Kornblith, Norouzi and Hinton, "A Simple Framework for Contrastive Learning of Visual Representations",
2020, appendix A; the constants for 32 x 32 pixels are those of its appendix B.9 (jitter strength 0.5, no blur). The
colour formulas are those of torchvision's `adjust_brightness` ... `adjust_hue`.
"""

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from ..validation import check_array, check_integer, check_number

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
RED, GREEN, BLUE = np.float32(0.299), np.float32(0.587), np.float32(0.114)  # luminance, ITU-R BT.601
ZERO, HALF, ONE, FOUR, SIX = (np.float32(v) for v in (0, 0.5, 1, 4, 6))

# So many times the picture a box may be high and wide, and the view a blur's sigma: more is no picture, only time.
MOST_TIMES = 4
SUMMED = 4096  # so many luminances are added up in float32; in a million of them the last ones would be rounded off


class Views(NamedTuple):
    """The parameters of n views, one row a picture. `identity_views` gives those that change nothing."""

    # (n, 4) float32: top, left, height, width, in pixels of the source; sides above 0, at most 4 times the picture's
    box: np.ndarray
    angle: np.ndarray  # (n,) float32, radians
    flip: np.ndarray  # (n,) bool
    jitter: np.ndarray  # (n, 4) float32: factors of brightness, contrast, saturation (1: none), turn of hue (0: none)
    order: np.ndarray  # (n, 4) int64: the order of the four jitters, a permutation of 0..3
    grey: np.ndarray  # (n,) bool
    # (n,) float32: standard deviation of the blur in pixels of the view, at most 4 times its side; 0 is none
    sigma: np.ndarray


def simclr_views(
    images,
    seed,
    *,
    size=None,
    crop_area=(0.08, 1.0),
    crop_ratio=(3 / 4, 4 / 3),
    flip_probability=0.5,
    rotation=0.0,
    jitter_probability=0.8,
    jitter_strength=0.5,
    grey_probability=0.2,
    blur_probability=0.0,
    blur_sigma=(0.1, 2.0),
):
    """One random view of each picture; call it twice on a batch for the pairs of SimCLR.

    images            (n, h, w, 3) uint8
    seed              an integer or a numpy.random.Generator
    size              side of the views in pixels; None keeps the height of the pictures
    crop_area         range of the part of the area that the box covers
    crop_ratio        range of the width of the box over its height. A box that is higher or wider than the picture is
                      cut to it: its area is then below what was drawn, and in a picture that is not square its ratio
                      may be another (torchvision draws again instead)
    rotation          degrees; angles are uniform in [-rotation, rotation]
    jitter_strength   s: factors of brightness, contrast and saturation are uniform in [1 - 0.8 s, 1 + 0.8 s], the turn
                      of hue in [-0.2 s, 0.2 s] circles
    blur_sigma        range of the standard deviation, in pixels of the view, at most 4 times its side
    *_probability     how often a step takes place at all

    Returns (n, size, size, 3) float32 in [0, 1].
    """
    images = _check_images(images)
    n, height, width, _ = images.shape
    views = draw_views(
        n,
        height,
        width,
        seed,
        crop_area=crop_area,
        crop_ratio=crop_ratio,
        flip_probability=flip_probability,
        rotation=rotation,
        jitter_probability=jitter_probability,
        jitter_strength=jitter_strength,
        grey_probability=grey_probability,
        blur_probability=blur_probability,
        blur_sigma=blur_sigma,
    )
    return apply_views(images, views, height if size is None else size)


def draw_views(
    n,
    height,
    width,
    seed,
    *,
    crop_area,
    crop_ratio,
    flip_probability,
    rotation,
    jitter_probability,
    jitter_strength,
    grey_probability,
    blur_probability,
    blur_sigma,
):
    """Random `Views` of n pictures of height x width; the arguments are those of `simclr_views`."""
    area_low, area_high = _check_range(crop_area, "crop_area", above=0.0, maximum=1.0)
    ratio_low, ratio_high = _check_range(crop_ratio, "crop_ratio", above=0.0)
    sigma_low, sigma_high = _check_range(blur_sigma, "blur_sigma", minimum=0.0)
    rotation = np.deg2rad(check_number(rotation, "rotation", minimum=0.0, maximum=180.0))
    # Factors must stay >= 0 and the turn of hue within half a circle.
    strength = check_number(jitter_strength, "jitter_strength", minimum=0.0, maximum=1.25)
    chance = {
        "flip_probability": flip_probability,
        "jitter_probability": jitter_probability,
        "grey_probability": grey_probability,
        "blur_probability": blur_probability,
    }
    for name, value in chance.items():
        check_number(value, name, minimum=0.0, maximum=1.0)
    rng = np.random.default_rng(seed)

    # A box of this area and ratio (the ratio uniform in its logarithm: 3/4 as often as 4/3), cut where it sticks out.
    area = rng.uniform(area_low, area_high, n) * height * width
    ratio = np.exp(rng.uniform(np.log(ratio_low), np.log(ratio_high), n))
    box_height = np.minimum(np.sqrt(area / ratio), height)
    box_width = np.minimum(np.sqrt(area * ratio), width)
    top = rng.random(n) * (height - box_height)
    left = rng.random(n) * (width - box_width)

    none = np.array([1.0, 1.0, 1.0, 0.0])
    spread = strength * np.array([0.8, 0.8, 0.8, 0.2])
    jitter = none + spread * rng.uniform(-1.0, 1.0, (n, 4))
    jitter[rng.random(n) >= jitter_probability] = none
    return Views(
        box=np.stack([top, left, box_height, box_width], axis=1).astype(np.float32),
        angle=rng.uniform(-rotation, rotation, n).astype(np.float32),
        flip=rng.random(n) < flip_probability,
        jitter=jitter.astype(np.float32),
        order=rng.random((n, 4)).argsort(axis=1),
        grey=rng.random(n) < grey_probability,
        sigma=np.where(rng.random(n) < blur_probability, rng.uniform(sigma_low, sigma_high, n), 0).astype(np.float32),
    )


def identity_views(n, height, width):
    """The `Views` that only resize: the whole picture, no turn, no colour change."""
    return Views(
        box=np.tile(np.array([0, 0, height, width], np.float32), (n, 1)),
        angle=np.zeros(n, np.float32),
        flip=np.zeros(n, bool),
        jitter=np.tile(np.array([1, 1, 1, 0], np.float32), (n, 1)),
        order=np.tile(np.arange(4), (n, 1)),
        grey=np.zeros(n, bool),
        sigma=np.zeros(n, np.float32),
    )


def apply_views(images, views, size):
    """`images` (n, h, w, 3) uint8 seen through `views`: (n, size, size, 3) float32 in [0, 1].

    Raises ValueError, naming the column, for shapes that differ, values that are not finite as float32, an `order` that
    is no permutation, and a box or sigma beyond what `Views` allows.
    Costs O(size^2) a picture, times ceil(box / size)^2 where the view is coarser than the source, in parallel.
    """
    size = check_integer(size, "size", minimum=1)
    images = _check_images(images)
    n = len(images)
    columns = {"box": (4,), "angle": (), "flip": (), "jitter": (4,), "order": (4,), "grey": (), "sigma": ()}
    kinds = {"flip": np.bool_, "order": np.int64, "grey": np.bool_}
    arrays = []
    for name, rest in columns.items():
        value = check_array(getattr(views, name), f"views.{name}", shape=(n, *rest), finite=True)
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(value, kinds.get(name, np.float32))
        arrays.append(check_array(array, f"views.{name}", finite=True))  # again: float64 may overflow
    # The kernel trusts what it gets: it looks up jitter[n, order], and box and sigma decide how long its loops are.
    most = MOST_TIMES * np.array(images.shape[1:3])
    wrong_order = (np.sort(views.order, axis=1) != np.arange(4)).any(axis=1)
    _refuse("order", views.order, wrong_order, "a permutation of 0..3")
    sides = arrays[0][:, 2:]
    _refuse("box", views.box, ((sides <= 0) | (sides > most)).any(axis=1), f"sides above 0 and at most {most.tolist()}")
    sigma = arrays[-1]
    _refuse("sigma", views.sigma, (sigma < 0) | (sigma > MOST_TIMES * size), f"0 to {MOST_TIMES * size}")
    result = np.empty((n, size, size, 3), np.float32)
    _apply(np.ascontiguousarray(images), *arrays, result)
    return result


def _refuse(name, values, wrong, expected):
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"views.{name}: expected {expected}, got {np.asarray(values)[row].tolist()} in row {row}")


@njit(parallel=True, cache=True)
def _apply(images, box, angle, flip, jitter, order, grey, sigma, result):
    size = result.shape[1]
    for n in prange(len(images)):
        # One plane a channel: the colour steps then run over consecutive values, as vector instructions.
        picture = np.empty((3, size * size), np.float32)
        resample(images[n], box[n], angle[n], flip[n], size, picture)
        for step in order[n]:
            factor = jitter[n, step]
            if step == BRIGHTNESS and factor != ONE:
                adjust_brightness(picture, factor)
            elif step == CONTRAST and factor != ONE:
                adjust_contrast(picture, factor)
            elif step == SATURATION and factor != ONE:
                adjust_saturation(picture, factor)
            elif step == HUE and factor != ZERO:
                turn_hue(picture, factor)
        if grey[n]:
            adjust_saturation(picture, ZERO)
        if sigma[n] > ZERO:
            blur(picture, sigma[n], size)
        for i in range(size):
            for j in range(size):
                for channel in range(3):
                    result[n, i, j, channel] = picture[channel, i * size + j]


@njit(cache=True)
def resample(image, box, angle, flip, size, picture):
    """Crop, rotation and flip: picture[:, pixel] = image at the pixel's place in the source, in [0, 1]."""
    top, left, box_height, box_width = box
    step_y, step_x = box_height / np.float32(size), box_width / np.float32(size)
    cosine, sine = np.cos(angle), np.sin(angle)
    grid_y, grid_x = max(1, int(np.ceil(step_y))), max(1, int(np.ceil(step_x)))
    weight = ONE / np.float32(255 * grid_y * grid_x)
    middle_y, middle_x = top + HALF * box_height, left + HALF * box_width
    mirror = -ONE if flip else ONE
    for i in range(size):
        for j in range(size):
            red = green = blue = ZERO
            for a in range(grid_y):
                dy = (np.float32(i) + (np.float32(a) + HALF) / np.float32(grid_y)) * step_y - HALF * box_height
                for b in range(grid_x):
                    dx = (np.float32(j) + (np.float32(b) + HALF) / np.float32(grid_x)) * step_x - HALF * box_width
                    dx *= mirror
                    r, g, b_ = _bilinear(image, middle_y + cosine * dy - sine * dx, middle_x + sine * dy + cosine * dx)
                    red += r
                    green += g
                    blue += b_
            pixel = i * size + j
            picture[0, pixel] = min(red * weight, ONE)  # rounding alone can pass 1
            picture[1, pixel] = min(green * weight, ONE)
            picture[2, pixel] = min(blue * weight, ONE)


@njit(cache=True)
def _bilinear(image, y, x):
    """The colour at (y, x), pixel centres at half-integers; beyond the border the nearest border pixel counts."""
    last_y, last_x = image.shape[0] - 1, image.shape[1] - 1
    y = min(max(y - HALF, ZERO), np.float32(last_y))
    x = min(max(x - HALF, ZERO), np.float32(last_x))
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, last_y), min(x0 + 1, last_x)
    down, right = y - np.float32(y0), x - np.float32(x0)
    w00, w01 = (ONE - down) * (ONE - right), (ONE - down) * right
    w10, w11 = down * (ONE - right), down * right
    p00, p01, p10, p11 = image[y0, x0], image[y0, x1], image[y1, x0], image[y1, x1]
    red = w00 * np.float32(p00[0]) + w01 * np.float32(p01[0]) + w10 * np.float32(p10[0]) + w11 * np.float32(p11[0])
    green = w00 * np.float32(p00[1]) + w01 * np.float32(p01[1]) + w10 * np.float32(p10[1]) + w11 * np.float32(p11[1])
    blue = w00 * np.float32(p00[2]) + w01 * np.float32(p01[2]) + w10 * np.float32(p10[2]) + w11 * np.float32(p11[2])
    return red, green, blue


@njit(cache=True)
def _clip(value):
    return min(max(value, ZERO), ONE)


@njit(cache=True)
def adjust_brightness(picture, factor):
    """c' = clip(f c)."""
    for channel in range(3):
        plane = picture[channel]
        for p in range(len(plane)):
            plane[p] = _clip(factor * plane[p])


@njit(cache=True)
def adjust_contrast(picture, factor):
    """c' = clip(f c + (1 - f) m), m the mean luminance of the picture."""
    red, green, blue = picture
    total = 0.0
    for first in range(0, len(red), SUMMED):
        part = ZERO
        for p in range(first, min(first + SUMMED, len(red))):
            part += RED * red[p] + GREEN * green[p] + BLUE * blue[p]
        total += part
    rest = (ONE - factor) * np.float32(total) / np.float32(len(red))
    for channel in range(3):
        plane = picture[channel]
        for p in range(len(plane)):
            plane[p] = _clip(factor * plane[p] + rest)


@njit(cache=True)
def adjust_saturation(picture, factor):
    """c' = clip(f c + (1 - f) l), l the luminance of the pixel; f = 0 is grey."""
    red, green, blue = picture
    for p in range(len(red)):
        rest = (ONE - factor) * (RED * red[p] + GREEN * green[p] + BLUE * blue[p])
        red[p] = _clip(factor * red[p] + rest)
        green[p] = _clip(factor * green[p] + rest)
        blue[p] = _clip(factor * blue[p] + rest)


@njit(cache=True)
def turn_hue(picture, turn):
    """Turns the hue of the HSV model by `turn` circles; value and saturation stay.

    With V the largest channel, C = V - the smallest, and the hue h counted in sixths of the circle from red,

        channel(n) = V - C clip(min(k, 4 - k)),  k = (n + h) mod 6,  n = 5, 3, 1 for red, green, blue.
    """
    red, green, blue = picture
    shift = SIX * turn
    for p in range(len(red)):
        r, g, b = red[p], green[p], blue[p]
        value = max(r, max(g, b))
        chroma = value - min(r, min(g, b))
        scale = ONE / (chroma if chroma > ZERO else ONE)  # a grey pixel has no hue; any will do
        hue = (r - g) * scale + FOUR
        hue = (b - r) * scale + np.float32(2) if value == g else hue
        hue = (g - b) * scale if value == r else hue
        hue += shift
        red[p] = _hue_channel(value, chroma, hue + np.float32(5))
        green[p] = _hue_channel(value, chroma, hue + np.float32(3))
        blue[p] = _hue_channel(value, chroma, hue + np.float32(1))


@njit(cache=True)
def _hue_channel(value, chroma, k):
    k -= SIX * np.floor(k * (ONE / SIX))
    return value - chroma * _clip(min(k, FOUR - k))


@njit(cache=True)
def blur(picture, sigma, size):
    """Convolution with a Gaussian cut off at three sigma, rows and then columns; the border pixels repeat."""
    radius = int(np.ceil(np.float32(3) * sigma))
    kernel = np.empty(radius + 1, np.float32)
    total = ZERO
    for t in range(radius + 1):
        kernel[t] = np.exp(-HALF * (np.float32(t) / sigma) ** 2)
        total += kernel[t] if t == 0 else kernel[t] + kernel[t]
    kernel /= total
    rows = np.empty((size, size), np.float32)
    for channel in range(3):
        plane = picture[channel].reshape(size, size)
        for i in range(size):
            for j in range(size):
                value = kernel[0] * plane[i, j]
                for t in range(1, radius + 1):
                    value += kernel[t] * (plane[i, max(j - t, 0)] + plane[i, min(j + t, size - 1)])
                rows[i, j] = value
        for i in range(size):
            for j in range(size):
                value = kernel[0] * rows[i, j]
                for t in range(1, radius + 1):
                    value += kernel[t] * (rows[max(i - t, 0), j] + rows[min(i + t, size - 1), j])
                plane[i, j] = min(value, ONE)


def _check_images(images):
    images = check_array(images, "images", shape=(None, None, None, 3), dtypes=(np.uint8,), min_rows=1)
    if images.shape[1] == 0 or images.shape[2] == 0:
        raise ValueError(f"images: expected at least one pixel, got shape {images.shape}")
    return images


def _check_range(value, name, *, minimum=None, maximum=None, above=None):
    try:
        low, high = value
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected a pair (low, high), got {value!r}") from None
    low = check_number(low, name, minimum=minimum, maximum=maximum, above=above)
    high = check_number(high, name, minimum=minimum, maximum=maximum, above=above)
    if low > high:
        raise ValueError(f"{name}: expected low <= high, got {value!r}")
    return low, high
