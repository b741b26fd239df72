"""The schemas of the Open Inference Protocol's endpoints in OpenAPI."""

from __future__ import annotations

from typing import Any

HEADER = "inference-header-content-length"
"""The length of the JSON before the binary tensors, in Triton's binary tensor data extension."""

_NAME = {"name": {"type": "string"}}
_SHAPE = {"type": "array", "items": {"type": "integer"}}
_TYPE = {"type": "string", "enum": ["BYTES", "FP32"]}
_DATA = {"type": "array", "items": {"type": ["string", "number", "array"]}}


def _object(properties: dict[str, Any], required: tuple[str, ...] | None = None, *, more: bool = False) -> Any:
    """Return the schema of an object; all properties are required unless some are named."""
    needed = list(properties if required is None else required)
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": more}


def _list(items: dict[str, Any], **limits: int) -> dict[str, Any]:
    return {"type": "array", "items": items, **limits}


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_ERROR = _object({"error": {"type": "string"}})
_REASONS = {
    400: "The request is not what the protocol says, or an input cannot be read.",
    401: "No API key, or an unknown one.",
    404: "No such model.",
    408: "The body took too long to arrive.",
    413: "The body is too large.",
    415: "The body is compressed.",
    422: "A wrong value.",
    503: "The queue is full, or the server shuts down; Retry-After says when to try again.",
    504: "Not answered in time.",
}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: _answer(_REASONS[status], _ERROR) for status in statuses}


_TENSOR = _object({**_NAME, "datatype": _TYPE, "shape": _SHAPE})
SERVER: dict[int | str, dict[str, Any]] = {
    200: _answer(
        "The server and its extensions.",
        _object({**_NAME, "version": {"type": "string"}, "extensions": _list({"type": "string"})}),
    ),
    **_errors(401),
}
LIVE: dict[int | str, dict[str, Any]] = {200: _answer("It runs.", _object({"live": {"type": "boolean"}}))}
READY: dict[int | str, dict[str, Any]] = {200: _answer("It answers.", _object({"ready": {"type": "boolean"}}))}
MODEL_READY: dict[int | str, dict[str, Any]] = {
    200: _answer("The model answers.", _object({**_NAME, "ready": {"type": "boolean"}})),
    **_errors(401, 404),
}
METADATA: dict[int | str, dict[str, Any]] = {
    200: _answer(
        "The model's tensors.",
        _object(
            {
                **_NAME,
                "versions": _list({"type": "string"}),
                "platform": {"type": "string"},
                "inputs": _list(_TENSOR),
                "outputs": _list(_TENSOR),
            }
        ),
    ),
    **_errors(401, 404),
}
_OUTPUT = _object(
    {
        **_NAME,
        "datatype": _TYPE,
        "shape": _SHAPE,
        "data": _list({"type": ["string", "number"]}),
        "parameters": _object({"binary_data_size": {"type": "integer"}}),
    },
    ("name", "datatype", "shape"),
)
_INFERRED = _object(
    {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "outputs": _list(_OUTPUT),
        "id": {"type": "string"},
    },
    ("model_name", "model_version", "outputs"),
)
_BINARY = {"type": "string", "format": "binary"}
INFER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The outputs, in JSON, or as binary tensors after the JSON.",
        "content": {"application/json": {"schema": _INFERRED}, "application/octet-stream": {"schema": _BINARY}},
        "headers": {
            HEADER: {"description": "Of binary tensors: the length of the JSON.", "schema": {"type": "integer"}}
        },
    },
    **_errors(400, 401, 404, 408, 413, 415, 422, 503, 504),
}
_INPUT = _object(
    {
        "name": {"type": "string"},
        "datatype": _TYPE,
        "shape": _list({"type": "integer", "minimum": 0}, minItems=1),
        "data": {
            **_DATA,
            "description": "Of a BYTES tensor: texts, or files in base64; of an FP32 tensor: the numbers of series.",
        },
        "parameters": _object({"binary_data_size": {"type": "integer"}}, (), more=True),
    },
    ("name", "datatype", "shape"),
    more=True,
)
_WANTED = _object(
    {
        **_NAME,
        "parameters": _object({"binary_data": {"type": "boolean"}}, (), more=True),
    },
    ("name",),
    more=True,
)
REQUEST: dict[str, Any] = {
    "parameters": [
        {
            "name": HEADER,
            "in": "header",
            "required": False,
            "description": "Of binary tensors after the JSON: the length of the JSON.",
            "schema": {"type": "integer", "minimum": 0},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": _object(
                    {
                        "id": {"type": "string"},
                        "parameters": _object({"binary_data_output": {"type": "boolean"}}, (), more=True),
                        "inputs": _list(_INPUT, minItems=1, maxItems=1),
                        "outputs": _list(_WANTED),
                    },
                    ("inputs",),
                    more=True,
                )
            },
            "application/octet-stream": {"schema": _BINARY},
        },
    },
}
