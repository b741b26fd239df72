"""Hostile images: contents, sizes, names, and what is no regular file."""

from __future__ import annotations

import gzip
import os
import pickle
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hostile_files.parts import EITHER, LIMIT, REFUSED, USED, Case, Content, damaged, encoded, photo


def png(width: int, height: int, *, bits: int = 8, colour: int = 2, chunks: Any = (), data: bytes = b"") -> bytes:
    """A PNG by hand; its header may say what it likes."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    listed = [(b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in listed
    )


def one_bit_png(width: int, height: int, *, palette: bool = False) -> bytes:
    """A true image of any size in a few kilobytes; with a palette it is half transparent."""
    row = b"\0" + b"\x55" * -(-width // 8)
    compressor = zlib.compressobj(1)
    data = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    chunks = [(b"PLTE", bytes([200, 0, 0, 0, 0, 200])), (b"tRNS", b"\x80\xff")] if palette else []
    return png(width, height, bits=1, colour=3 if palette else 0, chunks=chunks, data=data)


def many_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG that claims a size, and repeats its second scan."""
    content = bytearray(encoded(Image.new("RGB", (16, 16), (90, 60, 30)), "JPEG", progressive=True))
    frame = content.index(b"\xff\xc2")
    content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    first = content.index(b"\xff\xda")
    second = content.index(b"\xff\xda", first + 2)
    third = content.index(b"\xff\xda", second + 2)
    scan = content[second:third]
    return bytes(content[:third] + scan * scans + b"\xff\xd9")


def images(random: np.random.Generator) -> Iterator[Content]:
    forms = {"jpg": "JPEG", "png": "PNG", "gif": "GIF", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP", "ppm": "PPM"}
    forms |= {"tga": "TGA", "avif": "AVIF", "jp2": "JPEG2000"}
    for suffix, form in forms.items():
        try:
            content = encoded(photo(random), form)
        except (KeyError, OSError):  # Pillow was built without it
            continue
        yield "whole", f"whole.{suffix}", content, USED
        yield from damaged(content, suffix, suffix, random, each=7)
        yield "empty", f"empty.{suffix}", b"", REFUSED
        yield "header, then garbage", f"garbage.{suffix}", content[:40] + random.bytes(2000), EITHER
        yield "header, then nothing", f"header.{suffix}", content[:24], REFUSED
        yield "header, then zeros", f"zeros.{suffix}", content[:60] + bytes(2000), EITHER
    yield from image_variants(random)
    yield from image_sizes()
    yield from image_names(random)
    yield from wrong_extensions(random)


def image_variants(random: np.random.Generator) -> Iterator[Content]:
    rgb = photo(random)
    grey = rgb.convert("L")
    deep = Image.fromarray(random.integers(0, 65536, (18, 24), dtype=np.uint16))
    transparent = rgb.convert("RGBA")
    transparent.putalpha(grey)
    cmyk = rgb.convert("CMYK")
    floats = Image.fromarray(random.uniform(0, 1, (18, 24)).astype(np.float32))
    animation = {"save_all": True, "append_images": [grey.convert("RGB"), rgb.rotate(90)]}
    variants = {
        "png": [("1", rgb.convert("1")), ("grey", grey), ("grey alpha", transparent.convert("LA"))],
        "bmp": [("1", rgb.convert("1")), ("palette", rgb.quantize(7)), ("alpha", transparent)],
        "gif": [("palette", rgb.quantize(200)), ("1", rgb.convert("1"))],
        "tif": [("cmyk", cmyk), ("deep", deep), ("floats", floats), ("alpha", transparent), ("lab", None)],
        "jpg": [("grey", grey), ("cmyk", cmyk)],
        "webp": [("alpha", transparent)],
    }
    variants["png"] += [("palette", rgb.quantize(9)), ("alpha", transparent), ("deep", deep)]
    forms = {"jpg": "JPEG", "tif": "TIFF"}
    for suffix, listed in variants.items():
        for name, image in listed:
            if image is not None:
                content = encoded(image, forms.get(suffix, suffix.upper()))
                yield "variant", f"variant {name}.{suffix}", content, USED
    for suffix in ("gif", "png", "webp", "tif"):
        yield "animation", f"frames.{suffix}", encoded(rgb, forms.get(suffix, suffix.upper()), **animation), USED
    yield "variant", "progressive.jpg", encoded(rgb, "JPEG", progressive=True), USED
    yield "variant", "two pictures.jpg", encoded(rgb, "MPO", **animation), USED
    for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield "variant", f"{name}.tif", encoded(rgb, "TIFF", compression=name), USED
    yield "not finite", "nan.tif", encoded(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF"), REFUSED
    yield "deeper than 16 bit", "int32.tif", encoded(Image.fromarray(np.full((4, 4), 10**9, np.int32)), "TIFF"), REFUSED
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for suffix, form in (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")):
            content = encoded(rgb, form, exif=exif)
            yield "orientation", f"orientation {orientation}.{suffix}", content, USED
    whole = Image.Exif()
    whole[0x0112] = 6
    broken = {
        "long": b"Exif\0\0" + random.bytes(60_000),
        "cut": whole.tobytes()[:12],
        "99": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0",
        "loop": b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x87\x69\0\x04\0\0\0\x01\0\0\0\x08" * 200,
        "far": b"Exif\0\0II*\0\xff\xff\xff\xff",
        "many": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\xff\x06\0\0\0",
    }
    for name, exif_bytes in broken.items():
        for suffix, form in (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")):
            yield "broken EXIF", f"exif {name}.{suffix}", encoded(rgb, form, exif=exif_bytes), USED


def image_sizes() -> Iterator[Content]:
    for width, height in ((1, 1), (30_000, 1), (1, 30_000), (65_500, 1), (2, 3), (1, 7)):
        strip = Image.new("RGB", (width, height), (9, 99, 199))
        for suffix, form in (("jpg", "JPEG"), ("png", "PNG"), ("bmp", "BMP"), ("tif", "TIFF")):
            yield "absurd shape", f"{width}x{height}.{suffix}", encoded(strip, form), USED
    yield "absurd shape", "3000000x1.png", one_bit_png(3_000_000, 1), USED
    side = int(LIMIT**0.5)
    yield "at the limit", "transparent at the limit.png", one_bit_png(side, side, palette=True), USED
    yield "bomb", "over the limit.png", one_bit_png(side + 10, side + 10), REFUSED
    for width, height in ((60_000, 60_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (0, 0), (1, 0)):
        yield "bomb", f"{width}x{height}.png", png(width, height, data=zlib.compress(bytes(9))), REFUSED
    gif = bytearray(encoded(Image.new("L", (8, 8)), "GIF"))
    gif[6:10] = b"\xff\xff\xff\xff"
    yield "bomb", "bomb.gif", bytes(gif), REFUSED
    frame = bytearray(encoded(Image.new("L", (8, 8)), "GIF"))
    place = frame.index(b",\0\0\0\0")
    frame[place + 5 : place + 9] = b"\xff\xff\xff\xff"
    yield "bomb", "frame beyond the screen.gif", bytes(frame), REFUSED
    bmp = bytearray(encoded(Image.new("RGB", (8, 8)), "BMP"))
    bmp[18:26] = struct.pack("<ii", 2**30, 2**30)
    yield "bomb", "bomb.bmp", bytes(bmp), REFUSED
    bmp[18:26] = struct.pack("<ii", 8, -(2**31))
    yield "bomb", "upside down.bmp", bytes(bmp), REFUSED
    yield "bomb", "bomb.ppm", b"P6 99999 99999 255\n" + bytes(99), REFUSED
    yield "bomb", "digits.ppm", b"P6 " + b"9" * 5000 + b" 9 255\n" + bytes(99), REFUSED
    yield "bomb", "bomb.tga", b"\0\0\x02" + bytes(9) + struct.pack("<HHBB", 65535, 65535, 24, 0) + bytes(99), REFUSED
    jpeg = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    place = jpeg.index(b"\xff\xc0")
    jpeg[place + 5 : place + 9] = b"\xff\xff\xff\xff"
    yield "bomb", "bomb.jpg", bytes(jpeg), REFUSED
    yield "many scans", "many scans.jpg", many_scans(9000, 9000, 3000), REFUSED
    yield "many scans", "too many scans.jpg", many_scans(4000, 4000, 500), REFUSED
    yield "many scans", "many scans of few pixels.jpg", many_scans(16, 16, 300), EITHER
    webp = b"VP8X" + struct.pack("<II", 10, 0) + (16382).to_bytes(3, "little") * 2
    yield "bomb", "bomb.webp", b"RIFF" + struct.pack("<I", 4 + len(webp)) + b"WEBP" + webp, REFUSED
    lossless = b"\x2f" + struct.pack("<I", 16383 | 16383 << 14) + bytes(100)
    body = b"WEBPVP8L" + struct.pack("<I", len(lossless)) + lossless + b"\0"
    yield "bomb", "lossless.webp", b"RIFF" + struct.pack("<I", len(body)) + body, REFUSED
    for name, profile in (("iCCP", b"x\0\0"), ("zTXt", b"Comment\0\0")):
        chunk = (name.encode(), profile + zlib.compress(bytes(50_000_000), 1))
        content = png(2, 2, colour=0, chunks=[chunk], data=zlib.compress(bytes(6)))
        yield "metadata bomb", f"{name}.png", content, USED
    texts = [(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_000_000), 1))] * 200
    yield "metadata bomb", "texts.png", png(2, 2, colour=0, chunks=texts, data=zlib.compress(bytes(6))), USED
    tiff = struct.pack("<2sHIH", b"II", 42, 8, 1) + struct.pack("<HHII", 256, 4, 2**32 - 1, 2**31)
    yield "bomb", "tag without end.tif", tiff + struct.pack("<I", 8), REFUSED


def image_names(random: np.random.Generator) -> Iterator[Content]:
    content = encoded(photo(random), "JPEG")
    names = ["new\nline.jpg", "return\rhere.jpg", "tab\there.jpg", "🐝🌻.jpg", "é" * 125 + "a.jpg", "x" * 251 + ".jpg"]
    names += ["-rf.jpg", "--help.jpg", " .jpg", "a b  c.jpg", "'quoted\".jpg", "[red].jpg", "100%s{0}.jpg", "*.jpg"]
    names += ["semi;colon,comma.jpg", "\u202egpj.exe.jpg", "\x01\x1b[31mred.jpg", "CON.jpg", "a\\b.jpg", "UPPER.JPG"]
    names += ["$(touch x).jpg", "<script>alert(1)</script>.jpg".replace("/", "\u2215"), "nul\u2400.jpg", "e\u0301.jpg"]
    for name in names:
        yield "name", name, content, USED
    for raw in (b"\xff.jpg", b"latin-\xe9.jpg", b"\xed\xa0\x80 half a pair.jpg", b"\xc3\n\xff.jpg"):
        yield "name", os.fsdecode(raw), content, USED


def wrong_extensions(random: np.random.Generator) -> Iterator[Content]:
    yield "wrong extension", "png called.jpg", encoded(photo(random), "PNG"), USED
    yield "wrong extension", "jpeg called.png", encoded(photo(random), "JPEG"), USED
    yield "wrong extension", "webp called.gif", encoded(photo(random), "WEBP"), USED
    others = {
        "html": b"<!DOCTYPE html><html>404</html>",
        "svg": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
        "pdf": b"%PDF-1.7\n" + random.bytes(300),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(%pipe%id) (w) file\nshowpage\n",
        "eps, binary": b"\xc5\xd0\xd3\xc6" + bytes(40),
        "elf": b"\x7fELF\x02\x01\x01" + bytes(300),
        "zip": b"PK\x03\x04" + random.bytes(300),
        "gzip": gzip.compress(random.bytes(300)),
        "psd": b"8BPS\0\x01" + bytes(6) + struct.pack(">HIIHH", 3, 30000, 30000, 8, 3) + bytes(20),
        "ico": b"\0\0\x01\0\x01\0" + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, 100, 22) + bytes(100),
        "fits": b"SIMPLE  =                    T" + b" " * 2850,
        "text": "Not an image. 图像\n".encode() * 20,
        "json": b'{"image": true}',
        "pickle": pickle.dumps({"image": 1}),
        "one byte": b"\xff",
        "zeros": bytes(5000),
        "ones": b"\xff" * 5000,
        "noise": b"\x01\x02\x03" + random.bytes(5000),
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "mp4": b"\0\0\0\x18ftypisom" + bytes(300),
    }
    for name, content in others.items():
        yield "wrong extension", f"{name} called.jpg", content, REFUSED


def special_files(place: Path, folder: Path) -> list[Case]:
    """What is no regular file, in a folder of images."""
    made: list[tuple[str, Path, str]] = []

    def add(kind: str, name: str, expected: str = REFUSED) -> Path:
        made.append((kind, place / name, expected))
        return place / name

    (place / "folder.jpg").mkdir()
    inside = add("folder named .jpg", "folder.jpg/inside.jpg", USED)
    inside.write_bytes((place / "whole.jpg").read_bytes())
    deep = place
    for _ in range(40):
        deep = deep / "deeper"
        deep.mkdir()
    made.append(("deep below", deep / "deep.jpg", USED))
    (deep / "deep.jpg").write_bytes((place / "whole.jpg").read_bytes())
    os.mkfifo(add("FIFO", "pipe.jpg"))
    with suppress(OSError):  # a socket's path has 100 characters at most
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(place / "socket.jpg"))
        add("socket", "socket.jpg")
    for name, target in {"self.jpg": "self.jpg", "a.jpg": "b.jpg", "b.jpg": "a.jpg", "gone.jpg": "not there"}.items():
        add("link", name).symlink_to(target)
    for target in ("/dev/zero", "/dev/null", "/dev/full"):
        add("link to a device", f"device {Path(target).name}.jpg").symlink_to(target)
    add("link", "good link.jpg", USED).symlink_to("whole.jpg")
    (place / "up.jpg").symlink_to(place.parent, target_is_directory=True)  # a folder above: not walked again
    with add("sparse, 1 GiB", "sparse.jpg").open("wb") as file:
        file.truncate(2**30)
    with add("sparse, 200 MiB", "smaller sparse.jpg").open("wb") as file:
        file.truncate(200 * 2**20)
    locked = add("no permission", "locked.jpg", EITHER if os.geteuid() == 0 else REFUSED)  # root reads everything
    locked.write_bytes((place / "whole.jpg").read_bytes())
    locked.chmod(0)
    return [Case("image", kind, path.relative_to(folder).as_posix(), expected) for kind, path, expected in made]
