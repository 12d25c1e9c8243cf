"""Pictures of known pixels in every format and mode that the decoder promises to read."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

# (format, mode, how far the decoded picture may be from the truth: lossy formats and palettes)
KINDS = [
    ("PNG", "1", 0),
    ("PNG", "L", 0),
    ("PNG", "LA", 0),
    ("PNG", "P", 0),
    ("PNG", "RGB", 0),
    ("PNG", "RGBA", 0),
    ("PNG", "I;16", 0),
    ("TIFF", "1", 0),
    ("TIFF", "L", 0),
    ("TIFF", "I;16", 0),
    ("TIFF", "RGB", 0),
    ("TIFF", "RGBA", 0),
    ("TIFF", "CMYK", 1),
    ("BMP", "1", 0),
    ("BMP", "L", 0),
    ("BMP", "P", 0),
    ("BMP", "RGB", 0),
    ("GIF", "L", 0),
    ("GIF", "P", 0),
    ("JPEG", "L", 12),
    ("JPEG", "RGB", 25),
    ("JPEG", "CMYK", 25),
    ("WEBP", "RGB", 0),
    ("WEBP", "RGBA", 0),
]


def smooth_pixels(height, width, channels, seed):
    """Gradients, which survive JPEG: (height, width, channels) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    a, b, c = rng.uniform(-90, 90, (3, channels))
    return np.clip(128 + a * x + b * y + c * x * y, 0, 255).astype(np.uint8)


def on_white(colour, alpha):
    """The definition, in exact integers: round((a c + (255 - a) 255) / 255)."""
    a = alpha.astype(int)[..., None]
    return ((a * colour.astype(int) + (255 - a) * 255) / 255 + 0.5).astype(int)


def make(kind, mode, height, width, seed, **options):
    """(bytes of a file, the (h, w, 3) RGB values that it stands for)."""
    if mode == "1":
        bits = smooth_pixels(height, width, 1, seed)[..., 0] > 128
        image, truth = Image.fromarray(bits), np.repeat(bits[..., None] * 255, 3, axis=2)
    elif mode == "I;16":
        grey = np.random.default_rng(seed).integers(0, 65536, (height, width)).astype(np.uint16)
        image, truth = Image.fromarray(grey), np.repeat(np.round(grey / 257).astype(int)[..., None], 3, axis=2)
    elif mode == "P":
        index = np.random.default_rng(seed).integers(0, 16, (height, width)).astype(np.uint8)
        palette = np.random.default_rng(seed + 1).integers(0, 256, (16, 3)).astype(np.uint8)
        image, truth = Image.fromarray(index, "P"), palette[index]
        image.putpalette(palette.tobytes())
    elif mode in ("L", "LA"):
        pixels = smooth_pixels(height, width, len(mode), seed)
        image = Image.fromarray(pixels if mode == "LA" else pixels[..., 0], mode)
        truth = np.repeat(pixels[..., :1], 3, axis=2)
        truth = on_white(truth, pixels[..., 1]) if mode == "LA" else truth
    elif mode == "CMYK":
        pixels = smooth_pixels(height, width, 4, seed) // 2
        image = Image.fromarray(pixels, "CMYK")
        truth = np.round((255 - pixels[..., :3].astype(int)) * (255 - pixels[..., 3:].astype(int)) / 255)
    else:
        pixels = smooth_pixels(height, width, len(mode), seed)
        image = Image.fromarray(pixels, mode)
        truth = on_white(pixels[..., :3], pixels[..., 3]) if mode == "RGBA" else pixels
    if kind == "WEBP":
        options |= {"lossless": True, "exact": True}
    if kind == "JPEG":
        options |= {"quality": 95, "subsampling": 0} if mode != "L" else {"quality": 95}
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue(), np.asarray(truth).astype(int)


def packed(samples, bits):
    """Rows of integers as bytes: `bits` a sample, the highest bit first, each row padded to whole bytes."""
    rows = np.asarray(samples).reshape(len(samples), -1, 1)
    return np.packbits(((rows >> np.arange(bits)[::-1]) & 1).astype(np.uint8).reshape(len(rows), -1), axis=1)


def png(samples, bits, kind, transparent=None):
    """A PNG file, byte by byte, of the widths that Pillow does not write.

    samples      (h, w) or (h, w, channels) integers
    kind         the colour type: 0 grey, 2 RGB, 4 grey and alpha, 6 RGBA
    transparent  the samples of the colour that stands for transparent (tRNS)
    """
    height, width = np.shape(samples)[:2]
    rows = packed(samples, bits)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))]
    if transparent is not None:
        chunks.append((b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)))
    chunks.append((b"IDAT", zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())))  # 0 before each row: no filter
    chunks.append((b"IEND", b""))
    written = [struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def tiff(samples, bits, *, order="II", white_is_zero=False, signed=False, turn=1):
    """A grey TIFF file, byte by byte, uncompressed: the header, one directory of tags, one strip of pixels.

    samples  (h, w) integers; `order` is that of the bytes in a sample of 16 or 32 bits: "II" little, "MM" big end first
    """
    height, width = np.shape(samples)
    rows = packed(samples, bits)
    if order == "II" and bits > 12:
        rows = rows.reshape(height, width, bits // 8)[..., ::-1]
    tags = {
        256: width, 257: height, 258: bits, 259: 1, 262: 0 if white_is_zero else 1, 273: 0, 274: turn, 277: 1,
        278: height, 279: rows.size, 339: 2 if signed else 1,
    }  # fmt: skip
    tags[273] = 8 + 2 + 12 * len(tags) + 4  # where the pixels begin
    end = "<" if order == "II" else ">"
    directory = b"".join(struct.pack(end + "HHII", tag, 4, 1, value) for tag, value in tags.items())
    header = order.encode() + struct.pack(end + "HIH", 42, 8, len(tags))
    return header + directory + bytes(4) + rows.tobytes()


def exif_with_orientation(turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    return exif.tobytes()


def stored(upright, turn):
    """The pixels that a camera stores under EXIF orientation `turn` for a picture that is `upright`.

    EXIF 2.32: the 0th stored row and the 0th stored column are, of the upright picture, the ... side.
    """
    return {
        1: upright,  # top, left
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.transpose(1, 0, 2),  # left, top
        6: upright[:, ::-1].transpose(1, 0, 2),  # right, top
        7: upright[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
        8: upright[::-1].transpose(1, 0, 2),  # left, bottom
    }[turn]
