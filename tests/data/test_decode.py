"""Pixels against Pillow and hand computation, for every form an image comes in; and every way it can be broken."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from restune.data.decode import DecodeError, decode_image


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def png(header, data):
    """A PNG by hand: its header chunk, its data chunk, its end."""
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


@pytest.fixture
def colours():
    rows = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return Image.fromarray(rows)


def pixels(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP"])
def test_lossless_forms_are_pillows_pixels(colours, form):
    content = encoded(colours, format=form, **({"lossless": True} if form == "WEBP" else {}))
    assert torch.equal(decode_image(content), pixels(Image.open(io.BytesIO(content)).convert("RGB")))


def test_jpeg_is_pillows_pixels(colours):
    content = encoded(colours.resize((200, 100)), format="JPEG", quality=80)
    difference = decode_image(content).int() - pixels(Image.open(io.BytesIO(content))).int()
    assert difference.abs().max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_honoured(orientation, form):
    upright = Image.new("RGB", (64, 32), "black")
    upright.paste("white", (0, 0, 16, 16))  # top left
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(upright, format=form, exif=exif)
    ours = decode_image(content)
    theirs = pixels(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))
    assert ours.shape == theirs.shape
    assert (ours.int() - theirs.int()).abs().max() <= 2
    assert (orientation in (5, 6, 7, 8)) == (ours.shape[1] == 64)


def test_palette(colours):
    image = colours.quantize(16)
    assert torch.equal(decode_image(encoded(image, format="PNG")), pixels(image.convert("RGB")))


def test_transparency_lies_over_white():
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (10, 20, 30, 0))
    assert decode_image(encoded(image, format="PNG"))[:, 0].T.tolist() == [[255, 0, 0], [255, 255, 255]]
    half = Image.new("LA", (1, 1), (0, 128))
    assert decode_image(encoded(half, format="PNG"))[:, 0, 0].tolist() == [127, 127, 127]


def test_transparent_palette_lies_over_white():
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 200, 0, 0])
    image.putpixel((1, 0), 1)
    content = encoded(image, format="PNG", transparency=0)
    assert decode_image(content)[:, 0].T.tolist() == [[255, 255, 255], [200, 0, 0]]


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_greys_are_scaled_not_clipped(form):
    levels = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    decoded = decode_image(encoded(Image.fromarray(levels), format=form))
    assert decoded[:, 0].tolist() == [[0, 1, 128, 255]] * 3


def test_sixteen_bit_rgb_png():
    row = b"\0" + b"".join(struct.pack(">HHH", *rgb) for rgb in ((65535, 0, 0), (0, 32896, 65535)))
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    content = png(header, zlib.compress(row))
    assert decode_image(content)[:, 0].T.tolist() == [[255, 0, 0], [0, 128, 255]]


def test_cmyk_jpeg_and_tiff():
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # red
    for form in ("JPEG", "TIFF"):
        red, green, blue = decode_image(encoded(cmyk, format=form))[:, 4, 4].tolist()
        assert red > 200
        assert green < 60
        assert blue < 60


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation(form):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    content = encoded(frames[0], format=form, save_all=True, append_images=frames[1:])
    assert decode_image(content)[0].min() > 240


def test_one_bit_and_grey():
    assert decode_image(encoded(Image.new("1", (3, 2), 1), format="PNG")).tolist() == [[[255] * 3] * 2] * 3
    assert decode_image(encoded(Image.new("L", (1, 1), 7), format="PNG"), channels=1).tolist() == [[[7]]]


def test_one_channel_is_luma(colours):
    assert torch.equal(
        decode_image(encoded(colours, format="PNG"), channels=1)[0], torch.from_numpy(np.array(colours.convert("L")))
    )


def test_arrays():
    grey = np.array([[0, 255]], dtype=np.uint8)
    assert decode_image(grey).tolist() == [[[0, 255]]] * 3
    assert decode_image(grey.astype(np.float32) / 255, channels=1).tolist() == [[[0, 255]]]
    assert decode_image(np.array([[0, 65535]], dtype=np.uint16), channels=1).tolist() == [[[0, 255]]]
    assert decode_image(np.zeros((5, 4, 7), np.uint8), channels=7).shape == (7, 5, 4)
    assert decode_image(np.zeros((3, 5, 6), np.uint8)).shape == (3, 5, 6)


def test_the_type_decides_the_scale_never_the_values():
    dark = np.full((2, 2), 3)
    assert decode_image(dark.astype(np.int64), channels=1).unique().tolist() == [3]
    assert decode_image(dark.astype(np.uint16), channels=1).unique().tolist() == [0]
    with pytest.raises(DecodeError, match="floats run from 0 to 1"):
        decode_image(dark.astype(np.float32), channels=1)
    with pytest.raises(DecodeError, match="integers run from 0 to 255"):
        decode_image(np.full((2, 2), 300), channels=1)


@pytest.mark.parametrize(
    "array", [np.zeros(3), np.zeros((2, 2, 2, 2)), np.full((2, 2), np.nan), np.array([["a"]]), np.array([[-1.0]])]
)
def test_arrays_that_are_no_images(array):
    with pytest.raises(DecodeError):
        decode_image(array)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_truncated_anywhere_is_an_error_or_an_image_never_a_crash(colours, form):
    content = encoded(colours, format=form)
    refused = 0
    for length in range(0, len(content), max(1, len(content) // 40)):
        try:
            decode_image(content[:length])
        except DecodeError:
            refused += 1
    assert refused >= 30


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"%PDF-1.4", "PDF"),
        (b"hello", "not an image"),
        (bytes(1000), "not an image"),
    ],
)
def test_what_is_no_image_says_what_it_is(content, reason):
    with pytest.raises(DecodeError, match=reason):
        decode_image(content)


def test_a_bomb_is_refused_before_it_is_decoded():
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = png(header, bytes(100))
    with pytest.raises(DecodeError, match="pixels"):
        decode_image(bomb)


def test_the_pixel_limit_can_be_set(colours, monkeypatch):
    monkeypatch.setenv("RESTUNE_MAX_PIXELS", "100")
    with pytest.raises(DecodeError, match="30x20 is too many pixels"):
        decode_image(encoded(colours, format="PNG"))
