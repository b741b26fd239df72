"""Real photos in the sizes, modes, file types and EXIF orientations that people have."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Photo = Image.Image


def odd_photos(folder: Path, count: int, *, lossless: bool = False) -> list[tuple[str, bytes]]:
    """Return names and contents of `count` photos of a folder, each in another form than the one before.

    Args:
        folder: read recursively.
        count: how many.
        lossless: only PNG, which every program decodes to the same pixels.
    """
    made, forms = [], [form for name, form in FORMS.items() if not lossless or name in LOSSLESS]
    paths = [path for path in sorted(folder.rglob("*.jpg")) if path.stat().st_size < 2**20]
    for number in range(count):
        path = paths[number % len(paths)]
        form = forms[number % len(forms)]
        content = form(Image.open(path).convert("RGB"), number) if form is not _as_it_is else path.read_bytes()
        made.append((f"{path.stem} {form.__name__.strip('_')}", content))
    return made


def _as_it_is(image: Photo, number: int) -> bytes:
    raise NotImplementedError


def _turned(image: Photo, number: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 2 + number // len(FORMS) % 7
    return _saved(image, "JPEG", exif=exif, quality=92)


def _grey_jpeg(image: Photo, number: int) -> bytes:
    return _saved(image.convert("L"), "JPEG", quality=90)


def _cmyk(image: Photo, number: int) -> bytes:
    return _saved(image.convert("CMYK"), "JPEG", quality=90)


def _palette(image: Photo, number: int) -> bytes:
    return _saved(image.quantize(200), "PNG")


def _transparent(image: Photo, number: int) -> bytes:
    alpha = Image.linear_gradient("L").resize(image.size).point(lambda level: 255 * (level > 90))
    image.putalpha(alpha)
    return _saved(image, "PNG")


def _grey_png(image: Photo, number: int) -> bytes:
    return _saved(image.convert("L"), "PNG")


def _strip(image: Photo, number: int) -> bytes:
    """A strip of 1, 4, 7... pixels along the photo, upright or lying."""
    thickness = 1 + 3 * (number // len(FORMS))
    box = (0, 0, thickness, image.height) if number % 2 else (0, 0, image.width, thickness)
    return _saved(image.crop(box), "PNG")


def _tiny(image: Photo, number: int) -> bytes:
    return _saved(image.resize((5 + number % 40, 3 + number % 37)), "PNG")


def _odd_size(image: Photo, number: int) -> bytes:
    return _saved(image.crop((number % 7, number % 5, image.width - number % 11, image.height - number % 3)), "PNG")


def _large(image: Photo, number: int) -> bytes:
    return _saved(image.resize((801, 801 * image.height // image.width)), "PNG")


def _saved(image: Photo, form: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


FORMS: dict[str, Callable[[Photo, int], bytes]] = {
    function.__name__.strip("_"): function
    for function in (
        _as_it_is,
        _turned,
        _palette,
        _strip,
        _transparent,
        _cmyk,
        _odd_size,
        _grey_jpeg,
        _tiny,
        _grey_png,
        _large,
    )
}
LOSSLESS = ("palette", "strip", "transparent", "odd_size", "tiny", "grey_png", "large")


def share_and_most(pairs: list[tuple[Any, Any]]) -> tuple[float, float]:
    """Return the share of equal pixels, of all photos, and the largest difference in grey levels."""
    differences = [np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64)) for one, other in pairs]
    equal = sum((one == 0).sum() for one in differences) / sum(one.size for one in differences)
    return float(equal), float(max(one.max() for one in differences))
