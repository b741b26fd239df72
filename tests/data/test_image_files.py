"""TIFFs of every number type, PNGs heavy with metadata, HEIC; and a name for whatever is refused."""

from __future__ import annotations

import builtins
import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from restune.data.decode import DecodeError, decode_image


def tiff(array, *, photometric=None, extra=(), order="<", bits=None, sample_format=None):
    """An uncompressed TIFF of one strip, written by hand from ``[H, W]`` or ``[H, W, bands]``."""
    array = np.atleast_3d(array)
    height, width, bands = array.shape
    kind = array.dtype.newbyteorder(order)
    formats = {"u": 1, "i": 2, "f": 3}
    tags = [
        (256, [width]), (257, [height]), (258, [bits or 8 * kind.itemsize] * bands), (259, [1]),
        (262, [photometric if photometric is not None else 2 if bands in (3, 4) else 1]), (273, [0]),
        (277, [bands]), (278, [height]), (279, [0]), (284, [1]),
        *([(338, list(extra))] if extra else []), (339, [sample_format or formats[kind.kind]] * bands),
    ]  # fmt: skip
    data = array.astype(kind).tobytes() if bits is None else _packed(array)
    after = 8 + 2 + 12 * len(tags) + 4
    entries, outside = b"", b""
    for tag, values in tags:
        long = tag in (273, 279)
        if long:
            values = [8 + 2 + 12 * len(tags) + 4 + 256 if tag == 273 else len(data)]
        body = struct.pack(f"{order}{len(values)}{'I' if long else 'H'}", *values)
        if len(body) > 4:
            body, outside = struct.pack(f"{order}I", after + len(outside)), outside + body
        entries += struct.pack(f"{order}HHI", tag, 4 if long else 3, len(values)) + body.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return head + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + outside.ljust(256, b"\0") + data


def _packed(array):
    """12-bit numbers, two in three bytes."""
    first, second = array.reshape(-1, 2).astype(np.uint32).T
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()


def row(content, channels=1):
    return decode_image(content, channels=channels)[:, 0].T.tolist()


def random_image(*shape):
    return np.random.default_rng(1).integers(0, 256, shape or (9, 14), dtype=np.uint8)


@pytest.mark.parametrize("order", ["<", ">"])
def test_float_tiffs_run_from_0_to_1_as_float_arrays_do(order):
    picture = random_image()
    floats = (picture / 255).astype(np.float32)
    assert decode_image(tiff(floats, order=order), channels=1)[0].tolist() == picture.tolist()
    halves = np.array([[0, 0.5, 1]], np.float32)
    assert row(tiff(halves, order=order)) == [[0], [128], [255]]
    assert row(tiff(halves, order=order, photometric=0)) == [[255], [127], [0]]


def test_a_float_tiff_written_by_pillow():
    buffer = io.BytesIO()
    Image.fromarray(random_image().astype(np.float32) / 255).save(buffer, format="TIFF", compression="tiff_lzw")
    assert torch.equal(decode_image(buffer.getvalue(), channels=1)[0], torch.from_numpy(random_image()))


@pytest.mark.parametrize("most", [1.5, 255, 65535])
def test_other_floats_are_refused_with_their_range(most):
    picture = (random_image() / 255 * most).astype(np.float32)
    with pytest.raises(DecodeError, match=rf"to {picture.max():g}; floats run from 0 to 1 \(float32: scale"):
        decode_image(tiff(picture))


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_floats_that_are_no_numbers_are_counted(broken):
    picture = np.zeros((4, 4), np.float32)
    picture[1, 1:3] = broken
    with pytest.raises(DecodeError, match="2 of its values are NaN or infinite"):
        decode_image(tiff(picture))
    with pytest.raises(DecodeError, match="2 of its values are NaN or infinite"):
        decode_image(picture)


@pytest.mark.parametrize("order", ["<", ">"])
def test_whole_numbers(order):
    assert row(tiff(np.array([[0, 257, 32896, 65535]], np.uint16), order=order)) == [[0], [1], [128], [255]]
    for kind in (np.int16, np.int32):
        assert row(tiff(np.array([[0, 7, 255]], kind), order=order)) == [[0], [7], [255]]
        for levels in ([[0, 256]], [[-1, 0]]):
            with pytest.raises(DecodeError, match="integers run from 0 to 255"):
                decode_image(tiff(np.array(levels, kind), order=order))


def test_signed_bytes_and_32_bits():
    assert row(tiff(np.array([[0, 100, 127]], np.int8))) == [[0], [100], [127]]
    with pytest.raises(DecodeError, match=r"from -1 to 0.*int8"):
        decode_image(tiff(np.array([[-1, 0]], np.int8)))
    assert row(tiff(np.array([[0, 255]], np.uint32))) == [[0], [255]]
    with pytest.raises(DecodeError, match=r"4\.29497e\+09.*uint32"):
        decode_image(tiff(np.array([[0, 2**32 - 1]], np.uint32)))


def test_twelve_bits_and_white_at_zero():
    assert row(tiff(np.array([[0, 16, 2056, 4095]], np.uint16), bits=12)) == [[0], [1], [128], [255]]
    assert row(tiff(np.array([[0, 257, 65535]], np.uint16), photometric=0)) == [[255], [254], [0]]
    assert row(tiff(np.array([[0, 7, 255]], np.uint8), photometric=0)) == [[255], [248], [0]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_rgb(order):
    colours = np.array([[[65535, 0, 0], [0, 32896, 65535]]], np.uint16)
    assert row(tiff(colours, order=order), 3) == [[255, 0, 0], [0, 128, 255]]
    alpha = np.concatenate([colours, np.array([[[65535], [0]]], np.uint16)], 2)
    assert row(tiff(alpha, order=order, extra=[2]), 3) == [[255, 0, 0], [255, 255, 255]]


def test_grey_with_a_second_band():
    two = random_image(5, 6, 2)
    two[..., 1] |= 128
    assert decode_image(tiff(two, extra=[0]), channels=1)[0].tolist() == two[..., 0].tolist()  # of no stated meaning
    half = np.array([[[0, 128], [100, 255]]], np.uint8)
    assert row(tiff(half, extra=[2])) == [[127], [100]]
    premultiplied = np.array([[[0, 128], [100, 255]]], np.uint8)
    assert row(tiff(premultiplied, extra=[1])) == [[127], [100]]


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (np.zeros((4, 4, 5), np.uint8), r"5 bands of uint8 \(grey\)"),
        (np.zeros((4, 4, 5), np.uint16), r"5 bands of uint16 \(grey\)"),
        (np.zeros((4, 4, 2), np.uint8), r"2 bands of uint8 \(grey\)"),
        (np.zeros((4, 4, 3), np.float32), r"3 bands of float32 \(RGB\)"),
        (np.zeros((4, 4), np.float64), r"1 band of float64 \(grey\)"),
        (np.zeros((4, 4), np.float16), r"1 band of float16 \(grey\)"),
        (np.zeros((4, 4), np.uint64), r"1 band of uint64 \(grey\)"),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_what_no_reader_takes_is_named(array, named, order):
    with pytest.raises(DecodeError, match=rf"a TIFF of {named}, which cannot be read.*arrays \(\.npz\)"):
        decode_image(tiff(array, order=order))


def test_tiffs_that_are_broken():
    whole = tiff(random_image())
    for content in (whole[:4], whole[:9], b"II*\0" + b"\xff" * 40, whole[:60]):
        with pytest.raises(DecodeError, match="TIFF"):
            decode_image(content)
    with pytest.raises(DecodeError, match="a damaged TIFF: "):
        decode_image(whole[:-40])


def test_one_bit_and_palette_tiffs():
    bits = Image.fromarray(random_image() > 127)
    colours = Image.fromarray(random_image(9, 14, 3)).quantize(7)
    for image in (bits, colours):
        for compression in ("raw", "packbits", "tiff_lzw", *(["group4"] if image is bits else [])):
            buffer = io.BytesIO()
            image.save(buffer, format="TIFF", compression=compression)
            expected = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
            assert torch.equal(decode_image(buffer.getvalue()), expected)


def chunk(name, data, checksum=None):
    checksum = zlib.crc32(name + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def png_with(*chunks, image=None, at_the_end=False):
    """A PNG with these chunks after its header or before its end."""
    buffer = io.BytesIO()
    (image or Image.fromarray(random_image(9, 14, 3))).save(buffer, format="PNG")
    content = buffer.getvalue()
    place = len(content) - 12 if at_the_end else 33
    return content[:place] + b"".join(chunks) + content[place:]


MIB = 2**20
HEAVY = {
    "profile": [chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(50 * MIB)))],
    "compressed text": [chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(50 * MIB)))],
    "international text": [chunk(b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(bytes(50 * MIB)))],
    "plain text": [chunk(b"tEXt", b"workflow\0" + b"a" * 70 * MIB)],
    "many texts": [chunk(b"tEXt", b"part\0" + b"a" * MIB)] * 70,
    "broken profile": [chunk(b"iCCP", b"profile\0\0not compressed at all")],
    "wrong checksum": [chunk(b"tEXt", b"comment\0hello", checksum=1), chunk(b"pHYs", bytes(9), checksum=2)],
    "broken EXIF": [chunk(b"eXIf", b"MM\0*" + b"\xff" * 40), chunk(b"eXIf", b"", checksum=3)],
}


@pytest.mark.parametrize("at_the_end", [False, True])
@pytest.mark.parametrize("kind", HEAVY)
def test_metadata_never_costs_an_image(kind, at_the_end):
    content = png_with(*HEAVY[kind], at_the_end=at_the_end)
    expected = torch.from_numpy(random_image(9, 14, 3)).permute(2, 0, 1)
    assert torch.equal(decode_image(content), expected)


def test_orientation_and_transparency_are_not_metadata():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(random_image(9, 14, 3))
    upright = torch.from_numpy(np.array(picture.transpose(Image.Transpose.ROTATE_270))).permute(2, 0, 1)
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    profile = b"\nexif\n%8d\n" % len(b"Exif\0\0" + body) + (b"Exif\0\0" + body).hex().encode()
    xmp = b'<x:xmpmeta tiff:Orientation="6"></x:xmpmeta>'
    for name, data in (
        (b"eXIf", body),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile)),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp)),
    ):
        for extra in ([], HEAVY["profile"]):
            assert torch.equal(decode_image(png_with(chunk(name, data), *extra)), upright), (name, data[:30])
    palette = Image.new("P", (2, 1), 1)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    palette.putpixel((0, 0), 0)
    buffer = io.BytesIO()
    palette.save(buffer, format="PNG", transparency=0)
    content = buffer.getvalue()
    assert row(content[:33] + HEAVY["compressed text"][0] + content[33:], 3) == [[255, 255, 255], [200, 0, 0]]


def test_a_png_cut_short_is_refused():
    content = png_with(*HEAVY["compressed text"])
    for length in (20, 40, len(content) - 100, len(content) - 40):
        with pytest.raises(DecodeError):
            decode_image(content[:length])


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_of_several_frames(form):
    frames = [Image.fromarray(random_image(9, 14, 3)), Image.new("RGB", (14, 9), "red"), Image.new("RGB", (14, 9))]
    frames = [frame.quantize(32).convert("RGB") for frame in frames]
    buffer = io.BytesIO()
    options = {"lossless": True} if form == "WEBP" else {}
    frames[0].save(buffer, format=form, save_all=True, append_images=frames[1:], **options)
    expected = torch.from_numpy(np.array(frames[0])).permute(2, 0, 1)
    assert torch.equal(decode_image(buffer.getvalue()), expected)


def heic(image, **options):
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(64, 48), (33, 21)])
def test_heic(size):
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    picture = np.stack([4 * x % 256, 5 * y, 3 * x], -1).clip(0, 255).astype(np.uint8)
    decoded = decode_image(heic(Image.fromarray(picture), quality=-1, chroma=444))
    difference = (decoded.permute(1, 2, 0).int() - torch.from_numpy(picture).int()).abs()
    assert decoded.shape == (3, size[1], size[0])
    assert difference.float().mean() < 2
    assert not any("HEIF" in form for form in Image.OPEN)  # Pillow is left as it was


def test_heic_stands_upright():
    image = Image.new("RGB", (64, 32), "black")
    image.paste("white", (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode_image(heic(image, quality=90, exif=exif.tobytes()))
    assert decoded.shape == (3, 64, 32)
    assert decoded[:, 2:10, 22:30].min() > 200
    assert decoded[:, 2:10, 2:10].max() < 60


def test_heic_within_the_limits(monkeypatch):
    content = heic(Image.new("RGB", (64, 48), "red"))
    monkeypatch.setenv("RESTUNE_MAX_PIXELS", "4000")
    with pytest.raises(DecodeError, match=r"64x48 is too many pixels .the limit is half of 4,000 for HEIF"):
        decode_image(content)
    monkeypatch.delenv("RESTUNE_MAX_PIXELS")
    for length in (30, len(content) // 2):
        with pytest.raises(DecodeError, match=r"damaged HEI[CF]"):
            decode_image(content[:length])


def test_heic_without_its_reader_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name == "pillow_heif":
            raise ImportError(name)
        return real(name, *rest, **named)

    content = heic(Image.new("RGB", (64, 48), "red"))
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DecodeError, match=r"an HEIC photo, which needs the extra heic: pip install 'restune\[heic\]'"):
        decode_image(content)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"<?xml version='1.0'?><svg width='3'></svg>", "an SVG drawing"),
        (b"\xef\xbb\xbf<!DOCTYPE html>", "web page"),
        (b"8BPS\0\1" + bytes(40), "Photoshop"),
        (b"\xff\x0a" + bytes(40), "JPEG XL"),
        (b"\0\0\0\x18ftypisom" + bytes(40), "a video"),
        (b"\0\0\0\x18ftypavif" + bytes(40), "AVIF"),
        (bytes(128) + b"DICM" + bytes(40), "DICOM"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"PK\3\4" + bytes(40), "ZIP"),
        (b"\x93NUMPY\1\0" + bytes(40), "NumPy"),
        (b"RIFF\0\0\0\0AVI " + bytes(40), "a video"),
        (b"\xff\xd8\xff\xe0" + bytes(40), "JPEG that is damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "damaged PNG"),
        (b"GIF89a", "damaged GIF"),
    ],
)
def test_whatever_is_refused_says_what_it_is(content, named):
    with pytest.raises(DecodeError, match=named):
        decode_image(content)
