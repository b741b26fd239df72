"""Hundreds of hostile files, the same for the same seed: what they are, and what may become of them.

``python generate.py FOLDER`` makes them. Nothing here imports restune.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import socket
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.torch
import torch
from PIL import Image
from pyarrow import parquet

USED, REFUSED, EITHER = "used", "refused", "either"
LIMIT = 89_478_485
"""Pixels of the largest image that is decoded by default."""


@dataclass(frozen=True)
class Case:
    """A hostile file.

    Args:
        family: which reader it is for: image, table, array, archive, weights or recipe.
        kind: what is wrong with it.
        path: where it is, below the folder.
        expected: what must become of it: ``used``, ``refused`` with a reason, or ``either``.
    """

    family: str
    kind: str
    path: str
    expected: str


Content = tuple[str, str, bytes, str]
"""Kind, name, content and what is expected."""


def generate(folder: Path, seed: int = 0) -> list[Case]:
    """Make every file below `folder`, and ``cases.json`` which lists them."""
    random = np.random.default_rng(seed)
    cases: list[Case] = []
    families: dict[str, Callable[..., Iterator[Content]]] = {
        "image": images,
        "table": tables,
        "array": arrays,
        "archive": archives,
        "weights": weights,
        "recipe": recipes,
    }
    for family, make in families.items():
        place = folder / (f"{family}/hostile" if family == "image" else family)
        place.mkdir(parents=True)
        made = make(random, folder / "code ran") if family == "weights" else make(random)
        for kind, name, content, expected in made:
            path = place / name
            with path.open("xb") as file:
                file.write(content)
            cases.append(Case(family, kind, path.relative_to(folder).as_posix(), expected))
    cases += special_files(folder / "image" / "hostile", folder)
    for name in ("image/plain", "table/plain"):
        (folder / name).mkdir()
        for number in range(2):
            (folder / name / f"{number}.jpg").write_bytes(encoded(photo(random), "JPEG"))
    listed = [asdict(case) for case in cases]
    (folder / "cases.json").write_text(json.dumps(listed), encoding="ascii")
    return cases


def photo(random: np.random.Generator, width: int = 24, height: int = 18) -> Image.Image:
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def flipped(content: bytes, random: np.random.Generator, bits: int, within: int | None = None) -> bytes:
    """`content` with some bits turned, among its first `within` bytes."""
    changed = bytearray(content)
    for place in random.integers(0, 8 * min(within or len(content), len(content)), bits).tolist():
        changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def damaged(content: bytes, stem: str, suffix: str, random: np.random.Generator, each: int) -> Iterator[Content]:
    """Cut at any byte, and with bits turned anywhere and near the start, where headers are."""
    for number, length in enumerate(sorted(random.integers(1, len(content), each).tolist())):
        yield "cut", f"{stem} cut {number}.{suffix}", content[:length], EITHER
    for number in range(each):
        within = 128 if number % 2 else None
        yield (
            "bits turned",
            f"{stem} turned {number}.{suffix}",
            flipped(content, random, 1 + number % 8, within),
            EITHER,
        )


# Images


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
    floats = Image.fromarray(random.uniform(0, 255, (18, 24)).astype(np.float32))
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
        yield "metadata bomb", f"{name}.png", content, EITHER
    texts = [(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_000_000), 1))] * 200
    yield "metadata bomb", "texts.png", png(2, 2, colour=0, chunks=texts, data=zlib.compress(bytes(6))), EITHER
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


# Tables


def tables(random: np.random.Generator) -> Iterator[Content]:
    good = "file,label\nplain/0.jpg,a\nplain/1.jpg,b\n"
    yield "byte order mark", "bom.csv", b"\xef\xbb\xbf" + good.encode(), USED
    for name, mark in (("semicolon", ";"), ("tab", "\t"), ("bar", "|")):
        yield "another delimiter", f"{name}.csv", good.replace(",", mark).encode(), USED
    yield "another delimiter", "commas.tsv", good.encode(), REFUSED
    yield "another delimiter", "spaces.csv", good.replace(",", " ").encode(), REFUSED
    yield "line ends", "crlf.csv", good.replace("\n", "\r\n").encode(), USED
    yield "line ends", "cr.csv", good.replace("\n", "\r").encode(), EITHER
    yield "line ends", "blank lines.csv", good.replace("\n", "\n\n").encode(), EITHER
    yield "missing files", "missing.csv", b"file,label\nnot there.jpg,a\nplain/1.jpg,b\n", USED
    yield "missing files", "odd paths.csv", b'file,label\n/dev/zero,a\n../../..,b\n"a\0b.jpg",c\n~root/x,d\n', USED
    yield "missing files", "long path.csv", b"file,label\n" + b"x" * 100_000 + b",a\nplain/1.jpg,b\n", USED
    lines = {
        "duplicate columns": "file,label,file\na,b,c\n",
        "duplicate columns, spaces": "file,label, file\na,b,c\n",
        "ragged": "file,label\nplain/0.jpg,a\nplain/1.jpg,b,c,d\n",
        "ragged, short": "file,label\nplain/0.jpg,a\nplain/1.jpg\n",
        "header only": "file,label\n",
        "header only, no end": "file,label",
        "one column": "file\nplain/0.jpg\n",
        "no label": "file,label\nplain/0.jpg,a\nplain/1.jpg,\n",
        "no path": "file,label\nplain/0.jpg,a\n,b\n",
        "listed twice": good + "plain/1.jpg,b\n",
        "one class": "file,label\nplain/0.jpg,a\nplain/1.jpg,a\n",
        "fractions": "file,label\nplain/0.jpg,0.25\nplain/1.jpg,nan\n",
        "unknown split": "file,label,split\nplain/0.jpg,a,train\nplain/1.jpg,b,\0\n",
        "new lines only": "\n\n\n\n",
        "open quote": 'file,label\n"plain/0.jpg,a\nplain/1.jpg,b\n',
        "no names": ",,,\n,,,\n",
    }
    for kind, text in lines.items():
        yield kind, f"{kind}.csv", text.encode(), REFUSED
    yield "NUL bytes", "nul.csv", good.replace("a", "\0").encode(), EITHER
    yield "NUL bytes", "nul names.csv", b"\0,\0\0\na,b\n", REFUSED
    yield "NUL bytes", "zeros.csv", bytes(5000), REFUSED
    yield "empty", "empty.csv", b"", REFUSED
    yield "empty", "empty.parquet", b"", REFUSED
    yield "encoding", "utf-16.csv", good.encode("utf-16"), REFUSED
    yield "encoding", "latin-1.csv", good.replace("b\n", "é\n").encode("latin-1"), REFUSED
    yield "one long line", "long line.csv", b"file,label\n" + b"x" * 3_000_000, REFUSED
    columns = ",".join(f"c{number}" for number in range(20_000))
    yield "many columns", "columns.csv", f"{columns}\n{columns}\n".encode(), REFUSED
    names = "".join(f"{number}.jpg,{number}\n" for number in range(20_000))
    yield "many classes", "classes.csv", f"file,label\n{names}".encode(), USED
    yield "another format", "picture.csv", encoded(photo(random), "PNG"), REFUSED
    yield "another format", "gzip.csv", gzip.compress(good.encode()), REFUSED
    yield "another format", "text.parquet", good.encode(), REFUSED
    for number in range(6):
        yield "noise", f"noise {number}.csv", random.bytes(3000), REFUSED
    yield from damaged(good.encode() * 2, "table", "csv", random, each=6)
    table = pa.table({"file": ["plain/0.jpg", "plain/1.jpg"], "label": ["a", "b"], "split": ["train", None]})
    content = as_parquet(table)
    yield "whole", "whole.parquet", content, USED
    yield from damaged(content, "table", "parquet", random, each=10)
    for number in range(6):  # the footer, which describes all
        footer = flipped(content[-400:], random, 1 + number)
        yield "bits turned", f"footer {number}.parquet", content[:-400] + footer, EITHER
    typed = {
        "lists": pa.array([["a"], ["b"]]),
        "structs": pa.array([{"bytes": b"x", "path": "p"}, {"bytes": b"y", "path": "q"}]),
        "nulls": pa.nulls(2),
        "bytes": pa.array([b"\xff", b"\0"]),
        "times": pa.array([0, 2**60], pa.timestamp("ns")),
    }
    for name, column in typed.items():
        yield "odd types", f"{name}.parquet", as_parquet(table.set_column(1, "label", column)), EITHER
        yield "odd types", f"{name} as paths.parquet", as_parquet(table.set_column(0, "file", column)), EITHER
    same = pa.table({"file": pa.array(["plain/0.jpg"] * 3_000_000).dictionary_encode(), "label": [0] * 3_000_000})
    yield "bomb", "rows.parquet", as_parquet(same), REFUSED


def as_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


# Arrays


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    """An .npy whose header may say what it likes."""
    text = header.encode("latin-1") + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text)) + text + data


def npz(**members: bytes | np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            if isinstance(content, np.ndarray):
                array = io.BytesIO()
                np.save(array, content)
                content = array.getvalue()
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def arrays(random: np.random.Generator) -> Iterator[Content]:
    pixels, labels = random.integers(0, 256, (4, 6, 6, 3), dtype=np.uint8), np.array([0, 1, 0, 1])
    whole = npz(images=pixels, labels=labels)
    yield "whole", "whole.npz", whole, USED
    yield from damaged(whole, "array", "npz", random, each=12)
    say = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}".format
    headers = {
        "negative": say("|u1", "(-1, 6, 6)"),
        "negative pair": say("|u1", "(-4, -6, 6)"),
        "huge": say("|u1", "(4, 1000000, 1000000)"),
        "overflowing": say("|u1", "(4294967296, 4294967296, 4)"),
        "thousand digits": say("|u1", f"({'9' * 1000}, 6, 6)"),
        "fraction": say("|u1", "(4.5, 6, 6)"),
        "no tuple": say("|u1", "'abc'"),
        "short": say("|u1", "(4, 6, 6000)"),
        "deep": say("|u1", "(" * 200 + ")" * 200),
        "dimensions": say("|u1", "(" + "1," * 500 + ")"),
        "wide type": say("<U500000000", "(4, 6, 6)"),
        "void": say("|V2000000000", "(4, 6, 6)"),
        "objects": say("|O", "(4, 6, 6)"),
        "no type": say("hello", "(4, 6, 6)"),
        "code": "__import__('os').mkdir('code ran')",
        "nothing": "",
        "long": " " * 60_000,
    }
    for name, header in headers.items():
        content = npz(images=npy(header, bytes(4 * 6 * 6)), labels=labels)
        yield "lying header", f"{name}.npz", content, REFUSED
    yield "lying header", "version 9.npz", npz(images=npy("{}", version=9), labels=labels), REFUSED
    objects = np.array([{}, None], dtype=object)
    yield "pickled objects", "labels.npz", npz(images=pixels[:2], labels=objects), REFUSED
    yield "pickled objects", "images.npz", npz(images=objects, labels=labels[:2]), REFUSED
    yield "pickled objects", "pickle.npz", pickle.dumps(objects), REFUSED
    wrong: dict[str, tuple[Any, Any]] = {
        "counts": (pixels, labels[:3]),
        "five dimensions": (pixels[None], labels),
        "one dimension": (pixels.ravel(), labels),
        "fractions": (pixels, labels + 0.5),
        "complex": (pixels, labels + 1j),
        "dates": (pixels, labels.astype("M8[s]")),
        "no items": (pixels[:0], labels[:0]),
        "no characters": (pixels, np.frombuffer(b"\xff\xff\xff\x7f\0\0\x11\0" * 4, "<U2")),
    }
    for name, (x, y) in wrong.items():
        yield "wrong arrays", f"{name}.npz", npz(images=x, labels=y), REFUSED
    # open_dataset takes these; each item is left out with its reason
    odd = {
        "nan": np.full((4, 6, 6), np.nan),
        "infinite": np.full((4, 6, 6), np.inf),
        "negative": -pixels.astype(int),
        "complex": pixels + 1j,
        "text": np.full((4, 6, 6), "x"),
        "seven channels": np.zeros((4, 6, 6, 7), np.uint8),
        "no pixels": np.zeros((4, 0, 6), np.uint8),
    }
    for name, x in odd.items():
        yield "wrong pixels", f"pixels {name}.npz", npz(images=x, labels=labels), REFUSED
    yield "other names", "names.npz", npz(pictures=pixels, labels=labels), REFUSED
    yield "other names", "outside.npz", npz(**{"../images": pixels, "/labels": labels}), REFUSED
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        archive.writestr("images.npy", npy(say("|u1", "(4, 6000, 6000)"), bytes(4 * 6000 * 6000)))
        archive.writestr("labels.npy", npy(say("|u1", "(4,)"), bytes([0, 1, 0, 1])))
    yield "bomb", "bomb.npz", buffer.getvalue(), REFUSED
    yield "empty", "empty.npz", b"", REFUSED
    yield "empty", "no members.npz", npz(), REFUSED


# Archives


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, content in members:
            info.size = len(content) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def archives(random: np.random.Generator) -> Iterator[Content]:
    first, second = encoded(photo(random), "JPEG"), encoded(photo(random), "PNG")
    good = [(member("a/1.jpg"), first), (member("b/2.png"), second)]
    whole = tar(*good)
    yield "whole", "whole.tar", whole, USED
    yield from damaged(whole, "tar", "tar", random, each=12)
    yield from damaged(gzip.compress(whole), "tgz", "tgz", random, each=8)
    hostile = {
        "absolute paths": [(member("/etc/a/1.jpg"), first)],
        "paths upwards": [(member("../../../a/5.jpg"), first), (member("a/../../b/3.jpg"), second)],
        "soft link out": [(member("a/link.jpg", tarfile.SYMTYPE, "/etc/passwd"), b"")],
        "hard link out": [(member("a/link.jpg", tarfile.LNKTYPE, "../../etc/passwd"), b"")],
        "link to itself": [(member("a/link.jpg", tarfile.LNKTYPE, "a/link.jpg"), b"")],
        "character device": [(member("a/device.jpg", tarfile.CHRTYPE), b"")],
        "block device": [(member("a/device.jpg", tarfile.BLKTYPE), b"")],
        "FIFO": [(member("a/pipe.jpg", tarfile.FIFOTYPE), b"")],
        "folder named .jpg": [(member("a/folder.jpg", tarfile.DIRTYPE), b"")],
        "unknown type": [(member("a/unknown.jpg", b"Z"), first)],
        "broken image": [(member("a/broken.jpg"), b"broken")],
        "long name": [(member("a/" + "x" * 5000 + ".jpg"), first)],
        "deep name": [(member("a/" + "d/" * 2000 + "1.jpg"), first)],
        "new line in a name": [(member("a/new\nline 🐝.jpg"), first)],
        "name that is no UTF-8": [(member("a/\udcff.jpg"), first)],
    }
    for name, members in hostile.items():
        yield "members", f"{name}.tar", tar(*good, *members), USED
    yield "members", "listed twice.tar", tar(*good, (member("/a/1.jpg"), second)), REFUSED
    yield "members", "only links.tar", tar((member("a/1.jpg", tarfile.SYMTYPE, "x"), b"")), REFUSED
    yield "empty", "empty.tar", b"", REFUSED
    yield "empty", "zeros.tar", bytes(10240), REFUSED
    yield "empty", "empty.tgz", gzip.compress(b""), REFUSED
    for name, field in {"negative": b"\xff" * 12, "huge": b"\x80" + b"\x7f" * 11, "letters": b"abcdefghijk\0"}.items():
        yield "lying size", f"size {name}.tar", resized(whole, field), EITHER
    yield "extended headers", "pax.tar", b"".join(pax_header(b"path=a/1.jpg") for _ in range(3000)) + whole, EITHER
    yield "extended headers", "pax size.tar", pax_header(b"size=-512") + whole, EITHER
    yield "extended headers", "pax letters.tar", pax_header(b"size=abc") + whole, EITHER
    yield "extended headers", "pax sparse.tar", pax_header(b"GNU.sparse.map=1,2,x") + whole, EITHER
    yield "bomb", "bomb.tgz", gzip.compress(bytes(60_000_000), 1), REFUSED
    yield "another format", "picture.tar", first, REFUSED
    yield "another format", "noise.tar", b"\x01" + random.bytes(20_000), REFUSED
    yield "another format", "noise.tgz", b"\x1f\x8b" + random.bytes(2000), REFUSED


def resized(content: bytes, field: bytes) -> bytes:
    """A tar whose first header claims another size, with a checksum that is right."""
    header = bytearray(content[:512])
    header[124:136] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content[512:]


def pax_header(record: bytes) -> bytes:
    length = next(length for length in range(200) if length == len(f"{length} ") + len(record) + 1)
    body = f"{length} ".encode() + record + b"\n"
    info = member("pax", tarfile.XHDTYPE)
    info.size = len(body)
    return info.tobuf(tarfile.USTAR_FORMAT) + body.ljust(512, b"\0")


# Weights


class RunsCode:
    """What a pickle does that makes a folder when it is read."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.makedirs, (str(self.proof),))


def network_state() -> dict[str, torch.Tensor]:
    """The tensors of the CIFAR ResNet-8 with two classes, from torchvision's parts alone."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}

    def convolution(name: str, norm: str, inputs: int, outputs: int, size: int = 3) -> None:
        state[f"{name}.weight"] = torch.randn(outputs, inputs, size, size, generator=generator) * 0.1
        for part, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            state[f"{norm}.{part}"] = torch.full((outputs,), value)
        state[f"{norm}.num_batches_tracked"] = torch.tensor(0)

    convolution("conv1", "bn1", 3, 16)
    for stage, (inputs, outputs) in enumerate(((16, 16), (16, 32), (32, 64)), start=1):
        convolution(f"layer{stage}.0.conv1", f"layer{stage}.0.bn1", inputs, outputs)
        convolution(f"layer{stage}.0.conv2", f"layer{stage}.0.bn2", outputs, outputs)
    state["fc.weight"] = torch.randn(2, 64, generator=generator) * 0.1
    state["fc.bias"] = torch.zeros(2)
    return state


def torch_file(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def lying_safetensors(content: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The same file with its header changed and its length set right."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    changed = json.dumps(change(header) or header).encode()
    return len(changed).to_bytes(8, "little") + changed + content[8 + size :]


def bundle_header(**changes: Any) -> str:
    """What restune writes into a bundle's header, with something changed."""
    stages = [{"block": "basic", "depth": 1, "width": width, "stride": 1 + (width > 16)} for width in (16, 32, 64)]
    spec = {"stem": "small", "stem_width": 16, "stages": stages, "shortcut": "A", "num_classes": 2}
    preprocess = {"kind": "image", "crop": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    header = {"schema_version": 1, "kind": "image", "task": "single-label", "dtype": "float32", "name": "resnet8"}
    header |= {"spec": spec, "classes": ["a", "b"], "preprocess": preprocess, "calibration": None, "training": {}}
    header |= {"scores": [], "licence": None}
    for key, value in changes.items():
        place, *inner = key.split("__")
        if inner:
            header[place] = {**header[place], inner[0]: value}
        else:
            header[place] = value
    return json.dumps(header)


def weights(random: np.random.Generator, proof: Path) -> Iterator[Content]:
    state = network_state()
    file = safetensors.torch.save(state)
    zipped, legacy = torch_file(state), torch_file(state, _use_new_zipfile_serialization=False)
    yield "whole", "whole.safetensors", file, USED
    yield "whole", "whole.pth", zipped, USED
    yield "whole", "legacy.pth", legacy, USED
    yield from damaged(file, "safetensors", "safetensors", random, each=12)
    yield from damaged(zipped, "zip", "pth", random, each=12)
    yield from damaged(legacy, "legacy", "pth", random, each=8)
    for number in range(8):  # the pickle inside, which says what all the rest is
        place = zipped.index(b"\x80\x02")
        turned = flipped(zipped[place : place + 2000], random, 1 + number)
        yield "bits turned", f"pickle {number}.pth", zipped[:place] + turned + zipped[place + 2000 :], EITHER
    for suffix in ("pth", "pt", "ckpt", "bin"):
        for protocol in (2, 4):
            payload = {**state, "payload": RunsCode(proof)}
            yield "code", f"code {protocol}.{suffix}", torch_file(payload, pickle_protocol=protocol), REFUSED
    yield "code", "code, legacy.pth", torch_file(RunsCode(proof), _use_new_zipfile_serialization=False), REFUSED
    yield "code", "bare pickle.pth", pickle.dumps(RunsCode(proof)), REFUSED
    yield "code", "text pickle.pth", f"cos\nmkdir\n(V{proof}\ntR.".encode(), REFUSED
    yield "code", "code.safetensors", pickle.dumps(RunsCode(proof)), REFUSED
    yield "code", "builtins.pth", b"cbuiltins\neval\n(V__import__('os').getcwd()\ntR.", REFUSED

    fc = state["fc.weight"]
    wrong: dict[str, dict[str, torch.Tensor]] = {
        "nan": {"fc.weight": torch.full_like(fc, torch.nan)},
        "infinite": {"layer1.0.bn1.weight": torch.full((16,), torch.inf)},
        "negative variance": {"bn1.running_var": torch.full((16,), -1.0)},
        "shape": {"layer2.0.conv1.weight": torch.zeros(32, 16, 5, 5)},
        "scalar": {"conv1.weight": torch.tensor(1.0)},
        "vector": {"conv1.weight": torch.zeros(9)},
        "head of one dimension": {"fc.weight": torch.zeros(9)},
        "head of another network": {"fc.weight": torch.zeros(2, 99)},
        "head of a million classes": {"fc.weight": torch.zeros(1_000_000, 1), "fc.bias": torch.zeros(1_000_000)},
        "whole numbers": {"layer1.0.bn1.weight": torch.ones(16, dtype=torch.int64)},
        "truth values": {"layer1.0.bn1.weight": torch.ones(16, dtype=torch.bool)},
        "complex": {"layer1.0.bn1.weight": torch.ones(16, dtype=torch.complex64)},
        "nothing": {"layer1.0.bn1.weight": torch.zeros(0)},
        "nothing, but wide": {"conv1.weight": torch.zeros(0, 10**12, 3, 3)},
        "head of nothing": {"fc.weight": torch.zeros(10**9, 0)},
        "left over": {"extra.weight": torch.zeros(3)},
        "one input channel more": {"conv1.weight": torch.zeros(16, 99_999, 1, 1)},
    }
    for name, changes in wrong.items():
        changed = {**state, **changes}
        yield "wrong tensors", f"{name}.pth", torch_file(changed), REFUSED
        yield "wrong tensors", f"{name}.safetensors", safetensors.torch.save(changed), REFUSED
    only_torch = {
        "sparse": {"fc.weight": torch.sparse_coo_tensor([[0], [0]], [1.0], (10**9, 64))},
        "repeated": {"fc.weight": torch.zeros(1).expand(10**9, 64)},
        "repeated, half": {"fc.weight": torch.zeros(1, dtype=torch.half).expand(10**9, 64)},
        "wide input": {"conv1.weight": torch.zeros(1).expand(16, 10**9, 3, 3)},
        "meta": {"fc.weight": torch.empty(10**9, 64, device="meta")},
        "quantised": {"fc.weight": torch.quantize_per_tensor(fc, 0.1, 0, torch.qint8)},
    }
    for name, changes in only_torch.items():
        yield "wrong tensors", f"{name}.pth", torch_file({**state, **changes}), REFUSED
    yield "other precision", "half.pth", torch_file({k: v.half() for k, v in state.items() if v.ndim}), EITHER
    yield "other precision", "double.pth", torch_file({k: v.double() for k, v in state.items() if v.ndim}), EITHER
    for name, content in {
        "number": 1,
        "none": None,
        "empty mapping": {},
        "list": [fc],
        "nested": {"model": {"a": {}}},
    }.items():
        yield "no weights", f"{name}.pth", torch_file(content), REFUSED
    deep: Any = state
    for _ in range(300):
        deep = {"model": deep}
    yield "no weights", "deep.pth", torch_file(deep), REFUSED
    bomb = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(zipped)) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
        new.writestr("archive/data/9999", bytes(100_000_000))
    yield "bomb", "bomb.pth", bomb.getvalue(), REFUSED

    name = "layer1.0.conv1.weight"
    headers: dict[str, Callable[[dict[str, Any]], Any]] = {
        "overlapping": lambda h: h[name].update(data_offsets=h["conv1.weight"]["data_offsets"]),
        "backwards": lambda h: h[name].update(data_offsets=h[name]["data_offsets"][::-1]),
        "beyond": lambda h: h[name].update(data_offsets=[10**12, 10**12 + 9216]),
        "negative offsets": lambda h: h[name].update(data_offsets=[-9216, 0]),
        "negative shape": lambda h: h[name].update(shape=[-16, -16, 3, 3]),
        "huge shape": lambda h: h[name].update(shape=[2**32, 2**32, 2**32]),
        "shape of text": lambda h: h[name].update(shape="many"),
        "fraction": lambda h: h[name].update(shape=[16.5, 16, 3, 3]),
        "unknown type": lambda h: h[name].update(dtype="F99"),
        "another type": lambda h: h[name].update(dtype="F64"),
        "no offsets": lambda h: h[name].pop("data_offsets"),
        "a list": lambda _: [1, 2, 3],
        "text": lambda _: "header",
        "metadata of numbers": lambda h: h.update(__metadata__={"restune": 1}),
        "metadata of lists": lambda h: h.update(__metadata__=[]),
        "a thousand dimensions": lambda h: h[name].update(shape=[16, 16, 3, 3] + [1] * 1000),
        "no tensors": lambda _: {"__metadata__": {}},
    }
    for kind, change in headers.items():
        yield "lying header", f"header, {kind}.safetensors", lying_safetensors(file, change), REFUSED
    for size in (0, 1, 10**6, 2**40, 2**63, 2**64 - 1):
        content = size.to_bytes(8, "little") + file[8:]
        yield "lying header", f"length {size}.safetensors", content, REFUSED
    nested = b'{"__metadata__":' + b'{"a":' * 100_000
    yield "lying header", "deep.safetensors", len(nested).to_bytes(8, "little") + nested, REFUSED
    yield "lying header", "spaces.safetensors", (50_000_000).to_bytes(8, "little") + b" " * 50_000_000, REFUSED

    big, stage = 10**400, {"block": "basic", "depth": 1, "width": 16}
    bundles: dict[str, Any] = {
        "no JSON": "{",
        "a list": "[]",
        "a number": "7",
        "deep": "[" * 100_000,
        "digits": "9" * 10_000,
        "version": bundle_header(schema_version=[]),
        "width": bundle_header(spec__stem_width=10**6),
        "width beyond": bundle_header(spec__stem_width=big),
        "blocks": bundle_header(spec__stages=[{**stage, "depth": 9_999}] * 4),
        "blocks beyond": bundle_header(spec__stages=[{**stage, "depth": 10**9}]),
        "blocks without end": bundle_header(spec__stages=[{**stage, "width": big}]),
        "stages": bundle_header(spec__stages=[stage] * 50_000),
        "wide stage": bundle_header(spec__stages=[{**stage, "width": 10_000}]),
        "classes": bundle_header(spec__num_classes=10**7),
        "classes beyond": bundle_header(spec__num_classes=2**62),
        "inputs": bundle_header(spec__in_channels=10**6),
        "name": bundle_header(name=["resnet8"]),
        "class names": bundle_header(classes={"a": 1, "b": 2}),
        "crop": bundle_header(preprocess__crop=10**9),
        "crop beyond": bundle_header(preprocess__crop=big),
        "resize": bundle_header(preprocess__resize=10**6),
        "resize beyond": bundle_header(preprocess__resize=32_768),
        "mean": bundle_header(preprocess__mean=["a", "b", "c"]),
        "mean nan": bundle_header(preprocess__mean=[float("nan")] * 3),
        "std zero": bundle_header(preprocess__std=[0.0] * 3),
        "channels": bundle_header(preprocess__mean=[0.5], preprocess__std=[0.5]),
        "interpolation": bundle_header(preprocess__interpolation=["bilinear"]),
        "spec": bundle_header(spec=None),
        "training": bundle_header(training=[]),
        "scores": bundle_header(scores=[1]),
    }
    yield "whole", "bundle.safetensors", safetensors.torch.save(state, {"restune": bundle_header()}), USED
    large = safetensors.torch.save(state, {"restune": bundle_header(preprocess__resize=8192, preprocess__crop=32)})
    yield "whole", "bundle large resize.safetensors", large, USED
    for kind, text in bundles.items():
        content = safetensors.torch.save(state, {"restune": text})
        yield "lying bundle", f"bundle {kind}.safetensors", content, REFUSED
    for suffix in ("pth", "safetensors"):
        yield "empty", f"empty.{suffix}", b"", REFUSED
        yield "another format", f"zeros.{suffix}", bytes(5000), REFUSED
        yield "another format", f"noise.{suffix}", b"\x01" + random.bytes(5000), REFUSED
        yield "another format", f"html.{suffix}", b"<!DOCTYPE html><html>404</html>", REFUSED
        yield "another format", f"lfs.{suffix}", b"version https://git-lfs.github.com/spec/v1\nsize 9\n", REFUSED
    yield "another format", "archive.tar", tar((member("tensors"), b"x"), (member("pickle"), b"x")), REFUSED


# Recipes


def recipes(random: np.random.Generator) -> Iterator[Content]:
    laughs = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
        f"{here}: &{here} [{', '.join([f'*{above}'] * 9)}]\n"
        for above, here in zip("abcdefgh", "bcdefghi", strict=True)
    )
    texts = {
        "empty": "",
        "list": "- 1\n- 2\n",
        "number": "7",
        "text": "hello",
        "unknown key": "optimizer:\n  rl: 1\n",
        "key of a number": "1: 2\n",
        "key of a list": "? [a]\n: 1\n",
        "key that is null": "null: 1\n",
        "wrong type": "epochs: many\n",
        "list for a number": "epochs: [1, 2]\n",
        "section of text": "optimizer: sgd\n",
        "section of a list": "optimizer: [1]\n",
        "fraction": "epochs: 1.5\n",
        "truth": "optimizer:\n  lr: yes please\n",
        "nan": "optimizer:\n  lr: .nan\n",
        "infinite": "optimizer:\n  lr: .inf\n",
        "negative": "batch_size: -1\n",
        "huge": "epochs: 1" + "0" * 400 + "\n",
        "five thousand digits": "epochs: 1" + "0" * 5000 + "\n",
        "huge float": "optimizer:\n  lr: 1.0e+999\n",
        "workers": "workers: 1000000000\n",
        "threads": "threads: 1000000000\n",
        "hexadecimal": "epochs: 0x" + "f" * 6000 + "\n",
        "sexagesimal": "epochs: " + "9:" * 5000 + "9\n",
        "date": "epochs: 2024-99-99\n",
        "time": "epochs: 2024-01-01T99:99:99Z\n",
        "binary": "epochs: !!binary '?'\n",
        "empty number": "epochs: !!int ''\n",
        "empty fraction": "epochs: !!float ''\n",
        "no truth": "epochs: !!bool perhaps\n",
        "set": "epochs: !!set {1, 2}\n",
        "code": "epochs: !!python/object/apply:os.mkdir ['code ran']\n",
        "code by name": "epochs: !!python/name:os.system\n",
        "code by module": "epochs: !!python/module:os\n",
        "own tag": "epochs: !mine 1\n",
        "tag directive": "%TAG ! tag:yaml.org,2002:python/\n---\nepochs: !name:os.system\n",
        "billion laughs": laughs,
        "billion laughs in a number": laughs + "epochs: *i\n",
        "billion laughs in a spec": laughs + "spec:\n  width: *i\n",
        "billion laughs that are known": "milestones: &a [1, 1]\nschedule:\n  milestones: *a\n",
        "alias to itself": "spec: &a {width: *a}\n",
        "list in itself": "epochs: &a [*a]\n",
        "alias to nothing": "epochs: *nothing\n",
        "merged": "a: &a {x: 1}\nb: &b {<<: [*a, *a]}\n<<: [*a, *b]\n",
        "deep": "epochs: " + "[" * 5000 + "]" * 5000 + "\n",
        "deep mapping": "".join(f"{' ' * level}a:\n" for level in range(300)),
        "open": "epochs: [1, 2\n",
        "tabs": "optimizer:\n\tlr: 1\n",
        "two documents": "epochs: 1\n---\nepochs: 2\n",
        "NUL": "epochs: 1\0\n",
        "control": "epochs: \x07\n",
        "large": "# " + "x" * 5_000_000 + "\n",
        "many keys": "".join(f"k{number}: 1\n" for number in range(4000)),
        "spec of text": "spec: hello\n",
    }
    for kind, text in texts.items():
        yield kind, f"{kind}.yaml", text.encode(), REFUSED
    yield "listed twice", "twice.yaml", b"epochs: 1\nepochs: 2\n", EITHER
    yield "byte order mark", "bom.yaml", b"\xef\xbb\xbfepochs: 2\n", USED
    yield "number as text", "number as text.yaml", b"optimizer:\n  lr: 1e-3\n", USED
    yield "huge but meant", "seed.yaml", b"seed: 123456789012345678901234567890\n", EITHER
    yield "encoding", "utf-16.yaml", "epochs: 2\n".encode("utf-16"), REFUSED
    yield "encoding", "latin-1.yaml", "model: é\n".encode("latin-1"), REFUSED
    yield "noise", "noise.yaml", b"\xff\x00" + random.bytes(3000), REFUSED
    yield "noise", "zeros.yaml", bytes(3000), REFUSED
    yield "another format", "picture.yaml", encoded(photo(random), "PNG"), REFUSED
    yield from damaged(b"epochs: 3\noptimizer:\n  lr: 0.1\n  name: sgd\n", "recipe", "yaml", random, each=8)


if __name__ == "__main__":
    print(len(generate(Path(sys.argv[1]))))
