"""A request's body to items: JSON, an upload of several files, or the bytes of one input. Nothing touches the disk."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import threading
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from restune.core.errors import UserError
from restune.data.dataset import Item
from restune.data.inputs import as_items
from restune.serving.answers import BODY, EncodedInput, Refused, TextInput

if TYPE_CHECKING:
    from restune.data.kinds import Kind

_RAW = ("", "application/octet-stream")
_RAW_FAMILIES = ("image/", "audio/", "text/")
_MOST_FIELDS = 100
_LARGE = 2**20
_large_bodies = threading.Lock()


async def items_of(body: bytes, headers: Headers, kind: Kind, most: int) -> list[Item]:
    """Return the items of a request's body. Raises Refused.

    Args:
        most: items.
    """
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json":
        inputs = await asyncio.to_thread(_in_turn, body, kind) if len(body) > _LARGE else _from_json(body, kind)
    elif content_type == "multipart/form-data":
        inputs = await _uploaded(body, headers, kind, most)
    elif content_type in _RAW or content_type.startswith(_RAW_FAMILIES):
        if not body:
            raise Refused(422, "the body is empty", "body")
        inputs = [("input 0", body)]
    else:
        fix = "send application/json, multipart/form-data, or bytes as application/octet-stream"
        raise Refused(415, f"Content-Type {content_type[:80]!r} is not accepted", "Content-Type", fix)
    if len(inputs) > most:
        raise Refused(413, f"{len(inputs)} inputs are too many", "body", f"send at most {most} in one request")
    return [item_of(name, content, kind) for name, content in inputs]


def _in_turn(body: bytes, kind: Kind) -> list[tuple[str, Any]]:
    """Parse a large body while no other one is parsed: as Python values it takes many times its memory."""
    with _large_bodies:
        return _from_json(body, kind)


def item_of(name: str, content: Any, kind: Kind) -> Item:
    """Return one input as an item. Raises Refused for a type that the kind of data does not have."""
    try:
        (item,) = as_items([content], kind)
    except UserError as error:
        raise Refused(422, error.what, name, error.fix) from None
    return Item(id=name, location=item.location, target=-1)


def _from_json(body: bytes, kind: Kind) -> list[tuple[str, Any]]:
    try:
        content = json.loads(body, parse_constant=_not_json)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON", "body") from None
    try:
        parsed = BODY.validate_python(content)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"][:2]) or "body"
        fix = 'send {"inputs": [{"b64": "..."}]}; a text is {"text": "..."}, a series {"series": [1, 2, 3]}'
        raise Refused(422, "the JSON does not have the expected form", place, fix) from None
    inputs: list[tuple[str, Any]] = []
    for number, one in enumerate(parsed.inputs):
        name = f"input {number}"
        if isinstance(one, EncodedInput):
            inputs.append((one.name or name, decoded(one.b64, name)))
        elif isinstance(one, TextInput):
            if kind.name != "text":
                raise Refused(422, f"this model takes {kind.noun}, not texts", name)
            inputs.append((name, one.text))
        else:
            if kind.name != "signal":
                raise Refused(422, f"this model takes {kind.noun}, not series of numbers", name)
            inputs.append((name, series_of(one.series, name)))
    return inputs


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


async def _uploaded(body: bytes, headers: Headers, kind: Kind, most: int) -> list[tuple[str, Any]]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body
        yield b""

    parser = MultiPartParser(headers, stream(), max_files=most, max_fields=_MOST_FIELDS, max_part_size=len(body) + 1)
    parser.spool_max_size = len(body) + 1  # larger ones would go to the disk
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        what = error.message if isinstance(error, MultiPartException) else "the upload is malformed"
        raise Refused(400, what, "body") from None
    inputs: list[tuple[str, Any]] = []
    for key, value in form.multi_items():
        if isinstance(value, UploadFile):
            inputs.append((value.filename or f"input {len(inputs)}", await value.read()))
        elif key == "text" and kind.name == "text":
            inputs.append((f"input {len(inputs)}", value))
    await form.close()
    if not inputs:
        raise Refused(422, "the upload does not have a file", "body", "name its parts file")
    return inputs


def _not_json(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
