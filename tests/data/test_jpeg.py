"""JPEG of every kind against Pillow's pixels and torchvision's, and what is wrong with those that are refused."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from restune.data import pixels
from restune.data.decode import DecodeError, decode_image


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", **options)
    return buffer.getvalue()


def photo(width=203, height=117):
    """Smooth colours with noise on them: both the DCT and the chroma upsampling matter."""
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([127 + 120 * np.sin(x / 17 + y / (11 + 7 * c)) for c in range(3)], -1)
    noise = np.random.default_rng(0).normal(0, 9, waves.shape)
    return Image.fromarray((waves + noise).clip(0, 255).astype(np.uint8))


def assert_pillows(content, name):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    theirs = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    ours = decode_image(content)
    assert ours.shape == theirs.shape
    difference = (ours.int() - theirs.int()).abs()
    print(f"{name}: {(difference == 0).float().mean():.4%} equal, greatest difference {difference.max()}")
    assert difference.max() <= 1
    return ours


KINDS = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True},
    "worst": {"quality": 1},
    "best": {"quality": 100},
    "restart markers": {"restart_marker_blocks": 1},
    "keeps RGB": {"keep_rgb": True},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(203, 117), (1, 50), (50, 1), (1, 1), (17, 16), (15, 33)])
def test_rgb(kind, size, monkeypatch):
    content = encoded(photo().crop((0, 0, *size)), **KINDS[kind])
    monkeypatch.setattr(pixels, "_from_pillow", None)  # none of these may need the slower reader
    assert_pillows(content, f"{kind} {size}")


def test_grey_and_cmyk():
    assert_pillows(encoded(photo().convert("L")), "grey")
    assert_pillows(encoded(photo().convert("L"), progressive=True), "progressive grey")
    assert_pillows(encoded(photo().convert("CMYK")), "CMYK")
    ycck = encoded(photo().convert("CMYK"), subsampling=2)
    assert_pillows(ycck, "CMYK, subsampled")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    ours = assert_pillows(encoded(photo(), exif=exif), f"orientation {orientation}")
    assert (ours.shape[1] > ours.shape[2]) == (orientation >= 5)


@pytest.mark.parametrize("channels", [1, 3])
def test_torchvisions_decoder(channels):
    from torchvision.io import ImageReadMode, decode_jpeg

    exif = Image.Exif()
    exif[0x0112] = 6
    for content in (encoded(photo()), encoded(photo(), progressive=True), encoded(photo().convert("L"), exif=exif)):
        data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        mode = ImageReadMode.RGB if channels == 3 else ImageReadMode.GRAY
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            theirs = decode_jpeg(data, mode=mode, apply_exif_orientation=True)
        assert torch.equal(decode_image(content, channels), theirs)


@pytest.mark.data
def test_real_photos(real_data):
    paths = sorted((real_data / "hymenoptera").rglob("*.jpg"))[::9]
    assert len(paths) >= 30
    for path in paths:
        assert_pillows(path.read_bytes(), path.name)


def test_truncated_is_refused_and_says_so():
    for content in (encoded(photo()), encoded(photo(), progressive=True)):
        for length in (len(content) // 3, len(content) // 2, len(content) - 300):
            with pytest.raises(DecodeError, match=r"a damaged JPEG: .*truncated"):
                decode_image(content[:length])


def test_what_libjpeg_only_warns_of_is_read():
    """Bytes of no meaning between the parts of a file, as some cameras leave them."""
    content = encoded(photo())
    scan = content.index(b"\xff\xda")
    assert torch.equal(decode_image(content[:scan] + bytes(7) + content[scan:]), decode_image(content))
    grey = decode_image(content[:scan] + bytes(7) + content[scan:], channels=1)
    assert torch.equal(grey, decode_image(content, channels=1))
    assert torch.equal(decode_image(content + b"trailing" * 100), decode_image(content))


def test_a_header_that_lies_about_its_size_is_refused():
    content = bytearray(encoded(photo()))
    place = content.index(b"\xff\xc0")
    content[place + 5 : place + 9] = struct.pack(">HH", 60000, 60000)
    with pytest.raises(DecodeError, match="too many pixels"):
        decode_image(bytes(content))


def test_several_pictures_in_one_file():
    buffer = io.BytesIO()
    photo().save(buffer, format="MPO", save_all=True, append_images=[Image.new("RGB", (64, 64), "red")])
    assert Image.open(buffer).format == "MPO"
    assert_pillows(buffer.getvalue(), "MPO")
    exif = Image.Exif()
    exif[0x0112] = 8
    buffer = io.BytesIO()
    photo(40, 30).save(buffer, format="MPO", save_all=True, append_images=[photo(40, 30)], exif=exif)
    assert assert_pillows(buffer.getvalue(), "MPO, turned").shape == (3, 40, 30)


@pytest.mark.parametrize(
    ("marker", "data"),
    [
        (0xE0, b"JFIF"),
        (0xE0, b"JFIF\0\1"),
        (0xE1, b"Exif\0\0" + b"\xff" * 40),
        (0xE2, b"ICC_PROFILE\0\1\2" + bytes(200)),
        (0xE2, b"MPF\0MM\0*\xff\xff\xff\xff"),
        (0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\xff" + bytes(5)),
        (0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\2\1\1"),
        (0xEE, b"Adobe2"),
    ],
)
def test_broken_metadata_costs_no_image(marker, data):
    exif = Image.Exif()
    exif[0x0112] = 6
    for image, options in ((photo(), {}), (photo().convert("CMYK"), {}), (photo(), {"exif": exif})):
        content = encoded(image, **options)
        segment = struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data
        place = content.index(b"\xff\xdb")  # before the tables
        assert torch.equal(decode_image(content[:place] + segment + content[place:]), decode_image(content))
