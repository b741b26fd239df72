"""Hostile .npz files."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from hostile_files.parts import REFUSED, USED, Content, damaged


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
