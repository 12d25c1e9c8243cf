"""Decoding over a zoo of formats and modes, all orientations, and files broken in every way."""

import io
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from refimpl.images import decode

from . import zoo

sides = st.integers(1, 20)


@pytest.mark.parametrize("kind, mode, tolerance", zoo.KINDS)
@settings(max_examples=8)
@given(height=sides, width=sides, seed=st.integers(0, 10**6))
def test_every_format_and_mode(kind, mode, tolerance, height, width, seed):
    data, truth = zoo.make(kind, mode, height, width, seed)
    pixels = decode(data)
    assert pixels.dtype == np.uint8 and pixels.shape == (height, width, 3)
    assert abs(pixels.astype(int) - truth).max() <= tolerance


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_exif_orientation(kind, turn):
    upright = zoo.smooth_pixels(9, 14, 3, turn)
    file = io.BytesIO()
    options = {"WEBP": {"lossless": True, "exact": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(kind, {})
    Image.fromarray(np.ascontiguousarray(zoo.stored(upright, turn))).save(
        file, kind, exif=zoo.exif_with_orientation(turn), **options
    )
    pixels = decode(file.getvalue())
    assert pixels.shape == upright.shape
    assert abs(pixels.astype(int) - upright.astype(int)).max() <= (12 if kind == "JPEG" else 0)


@pytest.mark.parametrize("turn", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_changes_nothing(turn):
    data, truth = zoo.make("PNG", "RGB", 3, 5, 0, exif=zoo.exif_with_orientation(turn))
    np.testing.assert_array_equal(decode(data), truth)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_spoils_no_pixel():
    data, truth = zoo.make("PNG", "RGB", 3, 5, 0, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    np.testing.assert_array_equal(decode(data), truth)


def test_a_palette_with_transparency_is_composed_on_white():
    data, truth = zoo.make("PNG", "P", 6, 7, 3, transparency=bytes([0, 128] + [255] * 14))
    index = np.random.default_rng(3).integers(0, 16, (6, 7))
    alpha = np.array([0, 128] + [255] * 14, np.uint8)[index]
    np.testing.assert_array_equal(decode(data), zoo.on_white(truth, alpha))


def test_a_transparent_grey_of_16_bits_is_white():
    grey = np.array([[0, 1000, 65535]], np.uint16)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    chunk = b"tRNS" + (1000).to_bytes(2, "big")
    chunk = (2).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    start = file.getvalue().index(b"IDAT") - 4
    data = file.getvalue()[:start] + chunk + file.getvalue()[start:]
    np.testing.assert_array_equal(decode(data)[0, :, 0], [0, 255, 255])


@pytest.mark.parametrize("bits, key", [(1, 0), (1, 1), (2, 1), (2, 3), (4, 0), (4, 9), (8, 77), (16, 1000)])
def test_a_transparent_grey_of_any_width_is_white(bits, key):
    grey = np.array([[0, 1, 2, 3], [key, 9, 77, 1000]]) % 2**bits
    truth = np.where(grey == key, 255, np.round(grey * 255 / (2**bits - 1)))
    pixels = decode(zoo.png(grey, bits, 0, transparent=(key,)))
    np.testing.assert_array_equal(pixels, np.repeat(truth[..., None], 3, axis=2))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_transparent_colour_is_white(bits):
    """Of 16 bits Pillow keeps the high bytes."""
    scale = 1 if bits == 8 else 256
    colour = np.array([[(9, 8, 7), (9, 8, 6), (200, 8, 7)]])
    data = zoo.png(colour * scale + scale // 2, bits, 2, transparent=[c * scale + scale // 2 for c in (9, 8, 7)])
    np.testing.assert_array_equal(decode(data)[0], [(255, 255, 255), (9, 8, 6), (200, 8, 7)])


@pytest.mark.parametrize("bits, kind", [(16, 2), (16, 4), (16, 6)])
def test_of_16_bits_in_several_channels_the_high_byte_is_kept(bits, kind):
    channels = {2: 3, 4: 2, 6: 4}[kind]
    samples = np.random.default_rng(kind).integers(0, 65536, (5, 6, channels))
    eight = samples >> 8
    colour = np.repeat(eight[..., :1], 3, axis=2) if kind == 4 else eight[..., :3]
    truth = zoo.on_white(colour, eight[..., -1]) if kind != 2 else colour
    np.testing.assert_array_equal(decode(zoo.png(samples, bits, kind)), truth)


@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
@pytest.mark.parametrize("turn", [1, 6])
def test_grey_tiff_of_any_width(bits, order, white_is_zero, turn):
    """White is white whatever number says so; what Pillow does not read is refused."""
    upright = np.random.default_rng(bits).integers(0, 2**bits, (3, 8))
    upright[0, :2] = 0, 2**bits - 1
    stored = zoo.stored(upright[..., None], turn)[..., 0]
    samples = 2**bits - 1 - stored if white_is_zero else stored
    data = zoo.tiff(samples, bits, order=order, white_is_zero=white_is_zero, turn=turn)
    truth = np.round(upright * 255 / (2**bits - 1))
    try:
        pixels = decode(data)
    except ValueError:  # of Pillow 13; another may read more
        assert (bits, order) == (12, "MM") or white_is_zero and (bits, order) in ((12, "II"), (16, "MM"))
    else:
        np.testing.assert_array_equal(pixels, np.repeat(truth[..., None], 3, axis=2))


@pytest.mark.parametrize("bits, signed", [(16, True), (32, False), (32, True)])
def test_signed_and_32_bit_samples_are_refused_whatever_their_values(bits, signed):
    with pytest.raises(ValueError, match="samples: nothing says which value is white"):
        decode(zoo.tiff(np.array([[0, 1, 200]]), bits, signed=signed))


def test_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "lime")]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode(file.getvalue()), np.full((4, 5, 3), (255, 0, 0)))


@pytest.mark.parametrize("turn", range(1, 9))
def test_cmyk_without_adobes_mark_is_not_inverted(turn):
    data, _ = zoo.make("JPEG", "CMYK", 8, 12, 1, exif=zoo.exif_with_orientation(turn))
    start = data.index(b"\xff\xee")  # APP14: two bytes of length that count themselves
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    plain = data[:start] + data[start + 2 + length :]
    # The same samples now mean ink instead of 255 - ink.
    inverted = 255 - np.asarray(Image.open(io.BytesIO(data)), np.int64)
    truth = np.round((255 - inverted[..., :3]) * (255 - inverted[..., 3:]) / 255)
    assert abs(zoo.stored(decode(plain), turn) - truth).max() <= 1


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=400)
@given(kind=st.sampled_from(zoo.KINDS), place=st.floats(0, 1), flips=st.integers(0, 4), seed=st.integers(0, 10**6))
def test_a_broken_file_gives_pixels_or_value_error(kind, place, flips, seed):
    data, _ = zoo.make(*kind[:2], 12, 11, seed)
    rng = np.random.default_rng(seed)
    broken = bytearray(data[: int(place * len(data))] if flips == 0 else data)
    for _ in range(flips):
        broken[int(place * (len(broken) - 1))] ^= 1 << rng.integers(8)
        place = rng.random()
    try:
        pixels = decode(bytes(broken), name="zoo.bin", max_pixels=100_000)
    except ValueError as error:
        assert str(error).startswith("zoo.bin: ")
    else:
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3


@pytest.mark.parametrize("kind, mode", [("PNG", "RGB"), ("JPEG", "RGB"), ("WEBP", "RGB"), ("GIF", "P"), ("BMP", "RGB")])
def test_half_a_file_is_refused(kind, mode):
    data, _ = zoo.make(kind, mode, 40, 40, 0)
    with pytest.raises(ValueError, match="half: "):
        decode(data[: len(data) // 2], name="half")


@pytest.mark.parametrize("data, reason", [(b"", "empty"), (b"hello", "not a picture"), (b"%PDF-1.7", "not a picture")])
def test_what_is_no_picture_is_refused(data, reason, tmp_path):
    path = tmp_path / "file.png"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"file.png.*{reason}"):
        decode(path)


@pytest.mark.parametrize("pillows_own_limit", [None, 10, 10**9])
def test_the_limit_on_pixels_holds_whatever_pillows_is(monkeypatch, pillows_own_limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows_own_limit)
    data, _ = zoo.make("PNG", "L", 30, 40, 0)
    with pytest.raises(ValueError, match="bomb"):
        decode(data, max_pixels=1199, name="bomb")


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_pillows_own_limit_is_named_where_it_is_the_lower(monkeypatch, action):
    data, truth = zoo.make("PNG", "L", 30, 40, 0)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)  # above this a warning, above twice this an error
    with warnings.catch_warnings():
        warnings.simplefilter(action, Image.DecompressionBombWarning)
        if action == "ignore":
            np.testing.assert_array_equal(decode(data, max_pixels=1200), truth)
            monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 599)
        with pytest.raises(ValueError, match=r"^bomb: .* PIL\.Image\.MAX_IMAGE_PIXELS$"):
            decode(data, max_pixels=1200, name="bomb")


def test_the_limit_is_checked_before_decoding():
    header, _ = zoo.make("PNG", "L", 30, 40, 0)
    cut = header[: header.index(b"IDAT") + 6]  # no pixel could be decoded from this
    with pytest.raises(ValueError, match="1200|40 x 30"):
        decode(cut, max_pixels=1199)


def test_float_samples_are_refused():
    file = io.BytesIO()
    Image.fromarray(np.zeros((3, 3), np.float32)).save(file, "TIFF")
    with pytest.raises(ValueError, match="float"):
        decode(file.getvalue())


def test_paths_and_wrong_arguments(tmp_path):
    data, truth = zoo.make("PNG", "RGB", 3, 4, 0)
    path = tmp_path / "a.png"
    path.write_bytes(data)
    np.testing.assert_array_equal(decode(str(path)), truth)
    with pytest.raises(OSError):
        decode(tmp_path / "missing.png")
    with pytest.raises(ValueError, match="source"):
        decode(3)
    with pytest.raises(ValueError, match="max_pixels"):
        decode(data, max_pixels=0)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind, mode", [kind[:2] for kind in zoo.KINDS])
def test_a_file_cut_off_at_any_byte_is_refused_unless_every_pixel_is_there(kind, mode):
    data, _ = zoo.make(kind, mode, 4, 5, 3)
    whole = decode(data)
    for length in range(len(data)):
        try:
            pixels = decode(data[:length], name="cut")
        except ValueError as error:
            assert str(error).startswith("cut: ")
        else:
            np.testing.assert_array_equal(pixels, whole)
