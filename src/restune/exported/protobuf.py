"""Read the few fields of an ONNX file that are needed before a runtime sees it, without the package onnx."""

from __future__ import annotations

from collections.abc import Iterator

_MODEL_GRAPH, _MODEL_METADATA, _MODEL_FUNCTIONS = 7, 14, 25
_KEY, _VALUE = 1, 2
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1
_HOLDERS: dict[str, dict[int, str]] = {
    "model": {_MODEL_GRAPH: "graph", _MODEL_FUNCTIONS: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Fields of ONNX's messages that lead to tensors, by number (onnx.proto)."""
_DEEPEST = 64
Field = tuple[int, int | memoryview]


def metadata_of(content: bytes) -> dict[str, str]:
    """Return a model's metadata. Raises ValueError where the content is not whole protobuf."""
    found = {}
    for number, value in _fields(memoryview(content)):
        if number == _MODEL_METADATA and isinstance(value, memoryview):
            entry = {key: bytes(text) for key, text in _fields(value) if isinstance(text, memoryview)}
            found[entry.get(_KEY, b"").decode()] = entry.get(_VALUE, b"").decode()
    return found


def has_external_data(content: bytes) -> bool:
    """Return whether any tensor of a model lies in another file. Raises ValueError for broken protobuf."""
    return _is_external(memoryview(content), "model", 0)


def _is_external(content: memoryview, message: str, depth: int) -> bool:
    if depth > _DEEPEST:
        raise ValueError("the graph is nested too deeply")
    inner = _HOLDERS.get(message, {})
    for number, value in _fields(content):
        if message == "tensor":
            if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value == _EXTERNAL):
                return True
        elif number in inner and isinstance(value, memoryview) and _is_external(value, inner[number], depth + 1):
            return True
    return False


def _fields(content: memoryview) -> Iterator[Field]:
    """Yield each field's number with its value: a whole number, or the bytes of a longer one."""
    place = 0
    while place < len(content):
        tag, place = _varint(content, place)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, place = _varint(content, place)
            yield number, value
            continue
        if kind == 2:
            size, place = _varint(content, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("not a field of protobuf")
        if place + size > len(content):
            raise ValueError("the file ends early")
        yield number, content[place : place + size]
        place += size


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(content):
            raise ValueError("the file ends early")
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("not a number of protobuf")
