"""What stands between a decoded picture and the encoder: one size, values in [0, 1], z-score.

    resize      any (h, w) to (size, size), in one of three ways:

                stretch       both sides to `size`; everything is kept, proportions are not
                letterbox     the longer side to `size`, white bars beside the shorter; keeps both
                center_crop   the shorter side to `size`, the ends of the longer cut off; keeps proportions

    scale       x / 255
    z-score     (x / 255 - mean) / std, a mean and a std for each channel, fitted on the training split alone
                (`channel_statistics`): statistics that have seen the test split have seen the answer sheet

Shrinking must average all the pixels that fall into one, or thin lines vanish and stripes turn into other stripes
(aliasing). Pillow's bilinear filter does: its triangle widens with the scale.
"""

import numpy as np
from PIL import Image

from ..validation import check_array, check_choice, check_integer

MODES = ("stretch", "letterbox", "center_crop")
WHITE = 255


def resize(image, size, mode="stretch"):
    """`image` (h, w, 3) uint8 as (size, size, 3) uint8; `mode` is "stretch", "letterbox" or "center_crop"."""
    check_array(image, "image", shape=(None, None, 3), dtypes=(np.uint8,))
    check_choice(mode, "mode", MODES)
    size = check_integer(size, "size", minimum=1)
    height, width = image.shape[:2]
    if height == 0 or width == 0:
        raise ValueError(f"image: expected at least one pixel, got shape {image.shape}")
    picture = Image.fromarray(np.ascontiguousarray(image))
    if mode == "stretch":
        return np.array(picture.resize((size, size), Image.Resampling.BILINEAR))
    if mode == "center_crop":
        side = min(height, width)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        return np.array(picture.resize((size, size), Image.Resampling.BILINEAR, box=box))
    longer = max(height, width)
    inner_height, inner_width = (max(1, round(side * size / longer)) for side in (height, width))
    top, left = (size - inner_height) // 2, (size - inner_width) // 2
    canvas = np.full((size, size, 3), WHITE, np.uint8)
    inner = picture.resize((inner_width, inner_height), Image.Resampling.BILINEAR)
    canvas[top : top + inner_height, left : left + inner_width] = inner
    return canvas


def preprocess(images, size, mean, std, *, mode="stretch"):
    """Pictures as the encoder wants them: (n, size, size, 3) float32, y = (x / 255 - mean) / std.

    images     (n, h, w, 3) uint8, or a sequence of (h, w, 3) uint8 of any sizes
    size       side of the result in pixels
    mean, std  one number, or one a channel (R, G, B), in units of [0, 1]; std > 0
    mode       how other sizes become (size, size), see `resize`
    """
    size = check_integer(size, "size", minimum=1)
    check_choice(mode, "mode", MODES)
    mean, std = channel_values(mean, "mean"), channel_values(std, "std")
    if (std <= 0).any():
        raise ValueError(f"std: expected numbers > 0, got {std.tolist()}")
    if isinstance(images, np.ndarray):
        check_array(images, "images", shape=(None, None, None, 3), dtypes=(np.uint8,), min_rows=1)
    elif len(images) == 0:
        raise ValueError("images: expected at least one picture, got none")
    result = np.empty((len(images), size, size, 3), np.float32)
    for row, image in zip(result, images):
        fits = isinstance(image, np.ndarray) and image.shape == row.shape and image.dtype == np.uint8
        row[:] = image if fits else resize(image, size, mode)
    # (x / 255 - mean) / std with one product and one sum a value
    result *= (1 / (255 * std)).astype(np.float32)
    result -= (mean / std).astype(np.float32)
    return result


def channel_statistics(images):
    """Mean and standard deviation of each channel over all pixels, in units of [0, 1]: two (3,) float64 arrays.

    images   (n, h, w, 3) uint8, the training split, or a sequence of (h, w, 3) uint8 of any sizes

    Computed from the counts of the 256 values of each channel, so exact however many pixels there are.
    """
    if isinstance(images, np.ndarray):
        check_array(images, "images", shape=(None, None, None, 3), dtypes=(np.uint8,), min_rows=1)
    counts = np.zeros((3, 256), np.int64)
    for image in images:
        check_array(image, "images", shape=(None, None, 3), dtypes=(np.uint8,))
        for channel in range(3):
            counts[channel] += np.bincount(image[..., channel].ravel(), minlength=256)
    n = counts.sum(1)
    if (n == 0).any():
        raise ValueError("images: expected at least one pixel, got none")
    values = np.arange(256) / 255
    mean = counts @ values / n
    variance = (counts * (values - mean[:, None]) ** 2).sum(1) / n
    return mean, np.sqrt(variance)


def channel_values(value, name):
    """(3,) float64 of one number or three, finite as float32 too."""
    value = check_array(value, name, ndim=(0, 1), finite=True).astype(np.float64)
    if value.shape not in ((), (1,), (3,)):
        raise ValueError(f"{name}: expected one number or three, got shape {value.shape}")
    with np.errstate(over="ignore"):
        check_array(value.astype(np.float32), name, finite=True)
    return np.broadcast_to(value, (3,))
