"""Bytes of a picture file to one form: an upright (h, w, 3) uint8 array of RGB.

A file may store grey, a palette, ink, 16 bits a sample, transparency, or a camera's note that it was held sideways.
Everything after this door sees one form only:

    header      the size is read and checked before a single pixel is decoded (decompression bombs)
    pixels      Pillow's decoders; the first frame of an animation
    16 bits     grey of b = 12 or 16 bits: v8 = round(v 255 / (2^b - 1)): white stays white (Pillow's own conversion of
                such a picture clips everything above 255 to white)
    ink         CMYK to RGB by (1 - ink) (1 - black), without colour profiles
    alpha       c' = (a c + (255 - a) 255) / 255: transparent becomes white, the paper under most product pictures
    upright     EXIF orientation o in 1..8: one of the eight ways to turn and mirror a rectangle

What is not done: colour management (ICC profiles are ignored) and high dynamic range (float, signed and 32-bit samples
are refused, because nothing says which value is white). Of 16 bits in more than one channel (RGB, RGBA, grey with
alpha, CMYK) Pillow drops the low byte, which is not rounding: such a value may be off by one.
"""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from ..validation import check_integer

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 64_000_000  # about the largest photograph a phone takes; 192 MB as RGB

# tags of TIFF 6.0, section 8, and a value of the second
BITS_PER_SAMPLE, PHOTOMETRIC, BLACK_IS_ZERO = 258, 262, 1

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
    max_pixels  refuse anything with more pixels than this, before decoding. Pillow refuses by itself what has more than
                twice `PIL.Image.MAX_IMAGE_PIXELS` (2 x 89 million), however large max_pixels is
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
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # a warning where those are errors
        raise ValueError(f"{name}: {error} The limit is Pillow's own, PIL.Image.MAX_IMAGE_PIXELS") from None
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
            raw_mode = image.tile[0][3] if image.tile else None  # gone once the pixels are there
            image.load()
            if "transparency" in image.info:
                image.info["transparency"] = _scaled_key(image.info["transparency"], raw_mode)
            # Turned last: a turned picture has lost what to_rgb asks about the file.
            pixels = to_rgb(image)
            if (turn := _orientation(image)) in UPRIGHT:
                pixels = np.array(Image.fromarray(pixels).transpose(UPRIGHT[turn]))
        except Exception as error:
            raise ValueError(f"{name}: cannot be decoded ({_reason(error)})") from None
    return pixels


def to_rgb(image):
    """A loaded Pillow image of any mode as an (h, w, 3) uint8 array, transparency composed on white.

    It must be the image that was opened, not a copy: `.format` and a TIFF's tags say what the samples mean.
    """
    mode = image.mode
    if mode == "F":
        raise ValueError("float samples: nothing says which value is white")
    if mode == "I" and image.format != "PNG":  # the mode of PNG's 16 bits before Pillow 11
        raise ValueError("signed or 32-bit samples: nothing says which value is white")
    if mode == "I" or mode.startswith("I;16"):
        grey, white = np.asarray(image).astype(np.int64), 65535
        if image.format == "TIFF":
            white = 2 ** image.tag_v2[BITS_PER_SAMPLE][0] - 1
            if image.tag_v2.get(PHOTOMETRIC) != BLACK_IS_ZERO:  # Pillow inverts samples of up to 8 bits, but not these
                grey = white - grey
        return _grey_to_rgb(grey, white, image.info.get("transparency"))
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


def _grey_to_rgb(grey, white, transparent):
    """(h, w) int64 in 0..white -> (h, w, 3) uint8: round(255 grey / white), and 255 where grey is `transparent`."""
    eight = ((grey * 255 + white // 2) // white).astype(np.uint8)
    if isinstance(transparent, int):
        eight[grey == transparent] = 255
    return np.repeat(eight[..., None], 3, axis=2)


def _scaled_key(key, raw_mode):
    """A PNG's colour that stands for transparent, as Pillow has scaled the pixels that it is compared with.

    Grey of 2 and 4 bits is spread over 0..255; of 16 bits in three channels the high bytes are left.
    """
    if raw_mode in ("L;2", "L;4"):
        return key * (85 if raw_mode == "L;2" else 17)
    return tuple(value >> 8 for value in key) if raw_mode == "RGB;16B" else key


def _orientation(image):
    """The EXIF orientation; 1 (upright) if there is none or the EXIF block is broken, which spoils no pixel."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1


def _reason(error):
    return str(error) or type(error).__name__
