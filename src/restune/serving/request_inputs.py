"""A request's body to items: JSON, an upload of several files, or the bytes of one input. Nothing touches the disk."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers

from restune.core.errors import UserError
from restune.data.dataset import Item
from restune.data.inputs import as_items
from restune.data.video_bytes import VideoContent
from restune.serving.answers import Refused

if TYPE_CHECKING:
    from restune.data.kinds import Kind

Parsed = TypeVar("Parsed")

_RAW = ("", "application/octet-stream", "application/x-www-form-urlencoded")  # the last is what curl says of bytes
_RAW_FAMILIES = ("image/", "audio/", "video/", "text/")
_MOST_FIELDS = 100
_MOST_BRACKETS = 200_000
"""Lists and objects of a body of JSON: as Python values, each takes thirty times the bytes that it has there."""
_LARGE = 2**20
_LARGEST_HEAD = 2**14
_large_bodies = threading.Lock()


async def items_of(body: bytes, headers: Headers, kind: Kind, most: int) -> list[Item]:
    """Return the items of a request's body. Raises Refused.

    Args:
        most: items.
    """
    content_type = headers.get("content-type", "")
    return await in_turn(len(body), lambda: _items(body, content_type, kind, most))


async def in_turn(size: int, parse: Callable[[], Parsed]) -> Parsed:
    """Parse a body: a large one in a thread, while no other large one is parsed."""
    return parse() if size <= _LARGE else await asyncio.to_thread(_alone, parse)


def _alone(parse: Callable[[], Parsed]) -> Parsed:
    with _large_bodies:
        return parse()


def parsed_json(body: bytes) -> Any:
    """Parse JSON. Raises Refused, also for what would take far more memory as Python values than it has bytes."""
    if body.count(b"[") + body.count(b"{") > _MOST_BRACKETS:
        raise Refused(413, "the JSON holds too many lists and objects", "body", "send less at a time")
    try:
        return json.loads(body, parse_constant=_not_json)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON", "body") from None


def _items(body: bytes, full_type: str, kind: Kind, most: int) -> list[Item]:
    content_type = full_type.partition(";")[0].strip().lower()
    if content_type == "application/json":
        inputs = _from_json(body, kind, most)
    elif content_type == "multipart/form-data":
        inputs = _uploaded(body, full_type, kind, most)
    elif content_type in _RAW or content_type.startswith(_RAW_FAMILIES):
        if not body:
            raise Refused(422, "the body is empty", "body")
        inputs = [("input 0", body)]
    else:
        fix = "send application/json, multipart/form-data, or bytes as application/octet-stream"
        raise Refused(415, f"Content-Type {content_type[:80]!r} is not accepted", "Content-Type", fix)
    _check_count(len(inputs), most)
    return [item_of(name, content, kind) for name, content in inputs]


def item_of(name: str, content: Any, kind: Kind) -> Item:
    """Return one input as an item. Raises Refused for a type that the kind of data does not have."""
    if kind.name == "video" and isinstance(content, bytes):
        return Item(id=name, location=VideoContent(content), target=-1)
    try:
        (item,) = as_items([content], kind)
    except UserError as error:
        raise Refused(422, error.what, name, error.fix) from None
    return Item(id=name, location=item.location, target=-1)


def _from_json(body: bytes, kind: Kind, most: int) -> list[tuple[str, Any]]:
    content = parsed_json(body)
    inputs = content.get("inputs") if isinstance(content, dict) and len(content) == 1 else None
    if not isinstance(inputs, list) or not inputs:
        raise _other_form("body")
    _check_count(len(inputs), most)
    return [_json_input(one, f"input {number}", kind) for number, one in enumerate(inputs)]


def _json_input(one: Any, name: str, kind: Kind) -> tuple[str, Any]:
    """Return an input's name and content. Raises Refused at the first fault."""
    keys = set(one) if isinstance(one, dict) else set()
    if keys in ({"b64"}, {"b64", "name"}) and isinstance(one["b64"], str):
        own = one.get("name")
        if own is None or isinstance(own, str):
            return own or name, decoded(one["b64"], name)
    if keys == {"text"} and isinstance(one["text"], str):
        if kind.name != "text":
            raise Refused(422, f"this model takes {kind.noun}, not texts", name)
        return name, one["text"]
    if keys == {"series"} and _is_series(one["series"]):
        if kind.name != "signal":
            raise Refused(422, f"this model takes {kind.noun}, not series of numbers", name)
        return name, series_of(one["series"], name)
    raise _other_form(name)


def _is_series(values: Any) -> bool:
    """Return whether a value is a list of numbers, or of such lists."""
    if not isinstance(values, list) or not values:
        return False
    rows = values if all(isinstance(row, list) for row in values) else [values]
    return all(type(value) in (int, float) for row in rows for value in row)


def _other_form(name: str) -> Refused:
    fix = 'send {"inputs": [{"b64": "..."}]}; a text is {"text": "..."}, a series {"series": [1, 2, 3]}'
    return Refused(422, "the JSON does not have the expected form", name, fix)


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise Refused(413, f"{count} inputs are too many", "body", f"send at most {most} in one request")


def decoded(text: str, name: str) -> bytes:
    """Decode base64. Raises Refused."""
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(422, "this is not base64", name) from None


def series_of(values: Any, name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return numbers as an array ``[L]`` or ``[C, L]``. Raises Refused."""
    try:
        with np.errstate(over="ignore"):
            series = np.asarray(values, np.float32)
    except (ValueError, OverflowError):
        raise Refused(422, "the channels of this series have different lengths", name) from None
    if not np.isfinite(series).all():
        raise Refused(422, "a number of this series is too large for float32", name)
    return series


def _uploaded(body: bytes, content_type: str, kind: Kind, most: int) -> list[tuple[str, Any]]:
    inputs: list[tuple[str, Any]] = []
    for options, content in _upload_parts(body, content_type, most + _MOST_FIELDS):
        if b"filename" in options:
            name = options[b"filename"].decode("utf-8", "replace")
            inputs.append((name or f"input {len(inputs)}", content))
        elif options.get(b"name") == b"text" and kind.name == "text":
            inputs.append((f"input {len(inputs)}", content))
    if not inputs:
        raise Refused(422, "the upload does not have a file", "body", "name its parts file")
    return inputs


def _upload_parts(body: bytes, content_type: str, most: int) -> list[tuple[dict[bytes, bytes], bytes]]:
    """Return the options of each part's Content-Disposition, and its content (RFC 7578).

    The body is in memory and is split at once: streaming parsers call back at every line break, which takes minutes for
    a body of line breaks. Raises Refused.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not 1 <= len(boundary) <= 200:
        raise Refused(400, "the Content-Type does not name a boundary", "Content-Type")
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary, most + 2)
    if len(pieces) > most + 2:
        raise Refused(413, "the upload has too many parts", "body", "send less at a time")
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise Refused(400, "the upload is cut off", "body")
    return [_upload_part(piece) for piece in pieces[1:-1]]


def _upload_part(piece: bytes) -> tuple[dict[bytes, bytes], bytes]:
    end = piece.find(b"\r\n\r\n", 0, _LARGEST_HEAD)
    for line in piece[:end].split(b"\r\n") if end >= 0 else ():
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-disposition":
            return parse_options_header(value)[1], piece[end + 4 :]
    raise Refused(400, "a part of the upload does not have a Content-Disposition", "body")


def _not_json(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
