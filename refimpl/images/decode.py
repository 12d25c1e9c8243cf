"""Bytes of a picture file to one form: an upright (h, w, 3) uint8 array of RGB.

A file may store grey, a palette, ink, 16 bits a sample, transparency, or a camera's note that it was held sideways.
Everything after this door sees one form only:

    header      the size is read and checked before a single pixel is decoded (decompression bombs)
    pixels      Pillow's decoders; the first frame of an animation
    upright     EXIF orientation o in 1..8: one of the eight ways to turn and mirror a rectangle
    16 bits     v8 = round(v16 * 255 / 65535): white stays white (dropping the low byte is not rounding, and Pillow's
                own conversion of such a picture clips everything above 255 to white)
    ink         CMYK to RGB by (1 - ink) (1 - black), without colour profiles
    alpha       c' = (a c + (255 - a) 255) / 255: transparent becomes white, the paper under most product pictures

What is not done: colour management (ICC profiles are ignored) and high dynamic range (float samples are refused,
because nothing says which value is white).
"""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from ..validation import check_integer

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 64_000_000  # about the largest photograph a phone takes; 192 MB as RGB

# EXIF orientation -> what makes it upright (EXIF 2.32, tag 0x0112: where the stored row 0 and column 0 belong)
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(source, *, max_pixels=MAX_PIXELS, name=None):
    """The picture in `source`, upright, as (h, w, 3) uint8 RGB.

    source      bytes of a JPEG, PNG, WebP, GIF, BMP or TIFF file, or the path of one
    max_pixels  refuse anything with more pixels than this, before decoding
    name        what errors call the picture; the path by default

    Raises ValueError, with the name and the reason, for a file that is empty, no picture, of another format, broken,
    truncated or too large; OSError if a path cannot be read.
    """
    max_pixels = check_integer(max_pixels, "max_pixels", minimum=1)
    if isinstance(source, (str, os.PathLike)):
        name = str(source) if name is None else name
        data = Path(source).read_bytes()
    elif isinstance(source, (bytes, bytearray, memoryview)):
        name = "picture" if name is None else name
        data = bytes(source)
    else:
        raise ValueError(f"source: expected bytes or a path, got {type(source).__name__}")
    if not data:
        raise ValueError(f"{name}: the file is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError:
        raise ValueError(f"{name}: not a picture in any of the formats {', '.join(FORMATS)}") from None
    except Exception as error:
        raise ValueError(f"{name}: broken header ({_reason(error)})") from None
    with image:
        width, height = image.size
        if width * height > max_pixels:
            raise ValueError(f"{name}: {width} x {height} pixels are more than the limit of {max_pixels}")
        if width * height == 0:
            raise ValueError(f"{name}: a picture without pixels, {width} x {height}")
        # Broken files make the decoders raise nearly anything (SyntaxError, struct.error, IndexError, KeyError ...).
        try:
            image.load()
            pixels = to_rgb(image.transpose(UPRIGHT[turn]) if (turn := _orientation(image)) in UPRIGHT else image)
        except Exception as error:
            raise ValueError(f"{name}: cannot be decoded ({_reason(error)})") from None
    return pixels


def to_rgb(image):
    """A loaded Pillow image of any mode as an (h, w, 3) uint8 array, transparency composed on white."""
    mode = image.mode
    if mode == "F":
        raise ValueError("float samples: nothing says which value is white")
    if mode == "I" or mode.startswith("I;16"):
        return _sixteen_bits_to_rgb(np.asarray(image).astype(np.int64), image.info.get("transparency"))
    if mode == "CMYK":
        # Pillow inverts the inks of every CMYK JPEG, as Adobe's files need; those without Adobe's mark do not.
        rgb = np.asarray(image.convert("RGB"))
        if image.format == "JPEG" and "adobe" not in image.info:
            ink = 255 - np.asarray(image)
            rgb = np.asarray(Image.fromarray(ink, "CMYK").convert("RGB"))
        return np.array(rgb)
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return compose_on_white(np.asarray(image.convert("RGBA")))
    return np.array(image.convert("RGB"))


def compose_on_white(rgba):
    """(h, w, 4) uint8 -> (h, w, 3) uint8: c' = round((a c + (255 - a) 255) / 255)."""
    colour = rgba[..., :3].astype(np.uint16)  # the sum is at most 255 * 255 + 127, which fits 16 bits
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((colour * alpha + (255 - alpha) * 255 + 127) // 255).astype(np.uint8)


def _sixteen_bits_to_rgb(grey, transparent):
    if grey.min() < 0 or grey.max() > 65535:
        raise ValueError("32-bit samples: nothing says which value is white")
    eight = ((grey * 255 + 32767) // 65535).astype(np.uint8)
    if isinstance(transparent, int):
        eight[grey == transparent] = 255
    return np.repeat(eight[..., None], 3, axis=2)


def _orientation(image):
    """The EXIF orientation; 1 (upright) if there is none or the EXIF block is broken, which spoils no pixel."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1


def _reason(error):
    return str(error) or type(error).__name__
