"""An .npz with `images` (or `x`) and `labels` (or `y`): images, or series."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note
from restune.core.errors import UserError
from restune.core.machine import memory_bytes
from restune.data.dataset import ArrayLocation, Dataset, Item
from restune.data.sources.series import from_series

_MOST_EXPANSION = 200
_SMALL = 64 * 2**20
"""Bytes allowed to an array at any compression ratio: sorted labels compress to almost nothing."""


def open_npz(path: Path, kind: str | None = None) -> Dataset:
    """Open an npz: rows of the images array, ``[N, H, W]`` or ``[N, H, W, C]``; labels are integers or strings.

    Float arrays ``[N, L]``, and with the kind ``signal`` any numeric ``[N, L]`` or ``[N, C, L]``, are series. Pickled
    objects are refused. Raises UserError.
    """
    try:
        _reject_bombs(path)
        with np.load(path, allow_pickle=False) as content:
            images = _array(content, ("images", "x"), path)
            labels = _array(content, ("labels", "y"), path)
    except UserError:
        raise
    except Exception as error:  # numpy raises arbitrary exceptions on a broken file
        text = next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
        reason = "it holds pickled objects, which are never loaded" if "pickle" in text.lower() else text
        raise UserError(f"this npz cannot be read: {reason}", where=str(path)) from error
    if kind not in (None, "image", "signal"):
        raise UserError(f"this npz is read as images or as series, not as {kind}", where=str(path))
    is_series = kind == "signal" or (kind is None and images.ndim == 2 and images.dtype.kind == "f")
    return (series_from_arrays if is_series else from_arrays)(images, labels, source=str(path))


def _reject_bombs(path: Path) -> None:
    """Raise UserError for arrays larger than memory, or with an implausible compression ratio."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    for member in members:
        if member.file_size > _SMALL + _MOST_EXPANSION * member.compress_size:
            raise UserError(
                f"{member.filename} expands more than {_MOST_EXPANSION} times, which no array of images does",
                where=str(path),
                fix="save it with numpy.savez, uncompressed, if you trust it",
            )
    size, room = sum(member.file_size for member in members), memory_bytes()
    if size > room:
        raise UserError(
            f"these arrays take {size / 2**30:.1f} GiB, this machine has {room / 2**30:.1f}",
            where=str(path),
            fix="store the images as files in class folders",
        )


def from_arrays(images: NDArray[Any], labels: NDArray[Any], source: str) -> Dataset:
    """Build a data set from an array of images and one label per item."""
    if images.ndim not in (3, 4):
        raise UserError(
            f"the images have the shape {list(images.shape)}",
            where=source,
            fix="make it [N, H, W] or [N, H, W, C]",
        )
    labels = _checked(labels, len(images), "images", source)
    images = _grey_levels(images)
    values = sorted(set(labels.tolist()))
    index = {value: position for position, value in enumerate(values)}
    digits = len(str(max(len(images) - 1, 0)))
    items = tuple(
        Item(id=f"{row:0{digits}d}", location=ArrayLocation(images, row), target=index[value])
        for row, value in enumerate(labels.tolist())
    )
    return Dataset(items=items, classes=tuple(str(value) for value in values), source=source)


def series_from_arrays(series: NDArray[Any], labels: NDArray[Any], source: str) -> Dataset:
    """Build a data set of series ``[N, L]`` or ``[N, C, L]``, one label per item; trailing NaNs are padding."""
    if series.ndim not in (2, 3) or 0 in series.shape[1:]:
        raise UserError(
            f"the series have the shape {list(series.shape)}", where=source, fix="make it [N, L] or [N, C, L]"
        )
    if series.dtype.kind not in "iufb":
        raise UserError(f"the series are of type {series.dtype}", where=source, fix="store numbers")
    labels = _checked(labels, len(series), "series", source)
    return from_series(series, [str(label) for label in labels.tolist()], source)


def _checked(labels: NDArray[Any], count: int, what: str, source: str) -> NDArray[Any]:
    """Return one label per item, as integers or text. Raises UserError."""
    labels = np.squeeze(labels)
    if labels.shape != (count,):
        raise UserError(
            f"there are {count} {what} and labels of the shape {list(labels.shape)}",
            where=source,
            fix="give one label per item, in one dimension",
        )
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "replace")
    if labels.dtype.kind not in "iubUf":
        raise UserError(f"the labels are of type {labels.dtype}", where=source, fix="store whole numbers or strings")
    if labels.dtype.kind == "U":
        labels = _as_text(labels, source)
    if labels.dtype.kind == "f":
        raise UserError(
            "the labels are floats",
            where=source,
            fix="store classes as whole numbers or strings: labels.astype(int)",
        )
    return labels


def _as_text(labels: NDArray[Any], source: str) -> NDArray[Any]:
    """Check that text holds valid characters: numpy stores any 32 bits, and fails only when the text is used."""
    refused = UserError("a label holds an invalid character", where=source, fix="store the labels anew")
    codes = np.ascontiguousarray(labels.astype(labels.dtype.newbyteorder("="))).view(np.uint32)
    if codes.size and codes.max() > sys.maxunicode:
        raise refused
    try:
        for label in labels.tolist():
            label.encode()
    except (ValueError, OverflowError, SystemError) as error:
        raise refused from error
    return labels


def _grey_levels(images: NDArray[Any]) -> NDArray[Any]:
    """Convert images with values 0..255 in another dtype to uint8: decided for all images at once."""
    wide = images.dtype == np.uint16 or images.dtype.kind == "f"
    if not wide or not images.size or not 1 < images.max() <= 255 or images.min() < 0:
        return images
    note(f"the images are {images.dtype} and go up to {images.max():g}: taken as grey levels from 0 to 255")
    return images.round().astype(np.uint8) if images.dtype.kind == "f" else images.astype(np.uint8)


def _array(content: Any, names: tuple[str, ...], path: Path) -> NDArray[Any]:
    for name in names:
        if name in content:
            array: NDArray[Any] = content[name]
            return array
    have = ", ".join(content) or "nothing"
    raise UserError(f"there is no {' or '.join(map(repr, names))} in this npz; it has {have}", where=str(path))
