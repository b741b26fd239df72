"""What a server accepts and answers: limits, refusals, and the schemas of OpenAPI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from restune.core.language import translated


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server accepts.

    Args:
        max_body: bytes of a request's body.
        max_queue: items that are accepted and not yet answered, for each model; more are answered 503.
        max_batch: items computed at a time.
        timeout: seconds for a request's body to arrive, and for its answer.
        api_keys: any of them opens the endpoints; empty: they are open.
    """

    max_body: int = 32 * 2**20
    max_queue: int = 256
    max_batch: int = 32
    timeout: float = 30.0
    api_keys: tuple[str, ...] = ()


_NUMBERS = {"type": "array", "items": {"type": "number"}}
_INPUT = {
    "oneOf": [
        {
            "type": "object",
            "properties": {"b64": {"type": "string"}, "name": {"type": ["string", "null"]}},
            "required": ["b64"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"text": {"type": "string"}},
            "required": ["text"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"series": {"oneOf": [_NUMBERS, {"type": "array", "items": _NUMBERS}], "minItems": 1}},
            "required": ["series"],
            "additionalProperties": False,
        },
    ]
}
_BINARY = {"type": "string", "format": "binary"}
REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"inputs": {"type": "array", "items": _INPUT, "minItems": 1}},
                    "required": ["inputs"],
                    "additionalProperties": False,
                }
            },
            "application/octet-stream": {"schema": _BINARY},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "array", "items": _BINARY, "minItems": 1}},
                    "required": ["file"],
                }
            },
        },
    }
}

_TOP = {
    "type": "array",
    "items": {
        "type": "array",
        "items": {"type": ["string", "number"]},
        "minItems": 2,
        "maxItems": 2,
    },
}
_OPTIONAL_NUMBER = {"type": "number"}
_SOME_NUMBERS = {"type": "array", "items": {"type": ["number", "null"]}}
_EXPLANATION = {
    "oneOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {
                "pieces": {
                    "type": "array",
                    "items": {"type": "array", "items": {"type": ["string", "number", "null"]}},
                    "description": "Of a text: its characters in runs of one value of the map.",
                }
            },
            "required": ["pieces"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"frames": {"type": "string"}, "map": {"type": "string"}},
            "required": ["frames", "map"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {
                "length": {"type": "integer"},
                "heat": _SOME_NUMBERS,
                "channels": {"type": "array", "items": _SOME_NUMBERS},
                "all_channels": {"type": "integer"},
            },
            "required": ["length", "heat", "channels", "all_channels"],
            "additionalProperties": False,
        },
    ]
}
_PREDICTION = {
    "type": "object",
    "properties": {
        "input": {"type": "string"},
        "label": {"type": ["string", "null"]},
        "probability": _OPTIONAL_NUMBER,
        "top": _TOP,
        "error": {"type": "string"},
        "labels": {"type": "array", "items": {"type": "string"}},
        "probabilities": {"type": "object", "additionalProperties": {"type": "number"}},
        "values": {"type": "object", "additionalProperties": {"type": "number"}},
        "abstained": {"type": "boolean"},
        "novel": {"type": "boolean"},
        "novelty": _OPTIONAL_NUMBER,
        "explanation": _EXPLANATION,
    },
    "required": ["input"],
    "additionalProperties": False,
}
_PREDICTIONS = {"type": "array", "items": _PREDICTION}
_ERROR = {
    "type": "object",
    "properties": {
        "what": {"type": "string"},
        "where": {"type": ["string", "null"]},
        "fix": {"type": ["string", "null"]},
    },
    "required": ["what", "where", "fix"],
    "additionalProperties": False,
}


def _described(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _failed(description: str, more: dict[str, Any] | None = None) -> dict[str, Any]:
    properties = {"error": _ERROR, **(more or {})}
    return _described(
        description,
        {"type": "object", "properties": properties, "required": ["error"], "additionalProperties": False},
    )


ERRORS: dict[int | str, dict[str, Any]] = {
    400: _failed("The body is not what its Content-Type says."),
    401: _failed("No API key, or an unknown one."),
    404: _failed("No such model."),
    408: _failed("The body took too long to arrive."),
    413: _failed("The body is too large, or holds too many inputs."),
    415: _failed("An unknown Content-Type."),
    422: _failed("A wrong value, or no input can be read.", {"predictions": _PREDICTIONS}),
    503: _failed("The queue is full, or the server shuts down; Retry-After says when to try again."),
    504: _failed("Not answered in time."),
}
PREDICTED: dict[int | str, dict[str, Any]] = {
    200: _described(
        "One prediction per input, in order; an input that cannot be read has an error.",
        {
            "type": "object",
            "properties": {"model": {"type": "string"}, "predictions": _PREDICTIONS},
            "required": ["model", "predictions"],
            "additionalProperties": False,
        },
    ),
    **ERRORS,
}

_STAGE = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "maps": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "channel": {"type": "integer"},
                    "least": {"type": "number"},
                    "largest": {"type": "number"},
                    "image": {"type": "string"},
                },
                "required": ["channel", "least", "largest", "image"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["name", "shape", "maps"],
    "additionalProperties": False,
}
STAGES: dict[int | str, dict[str, Any]] = {
    200: _described(
        "The feature maps of each stage.",
        {
            "type": "object",
            "properties": {"model": {"type": "string"}, "stages": {"type": "array", "items": _STAGE}},
            "required": ["model", "stages"],
            "additionalProperties": False,
        },
    ),
    **ERRORS,
}
DRAWING: dict[int | str, dict[str, Any]] = {
    200: _described(
        "SVG elements for wide and for narrow screens.",
        {
            "type": "object",
            "properties": {"wide": {"type": "string"}, "narrow": {"type": "string"}},
            "required": ["wide", "narrow"],
            "additionalProperties": False,
        },
    ),
    **{status: ERRORS[status] for status in (401, 404, 422)},
}


class Refused(Exception):  # noqa: N818 (an answer, not a fault)
    """A request is answered with an error.

    Args:
        status: of HTTP.
        what, where, fix: as in `UserError`.
        retry_after: seconds, for the header of that name.
    """

    def __init__(
        self,
        status: int,
        what: str,
        where: str | None = None,
        fix: str | None = None,
        *,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(what)
        self.status, self.what, self.where, self.fix, self.retry_after = status, what, where, fix, retry_after

    def to_dict(self) -> dict[str, Any]:
        """Return the answer's body, in the language that the client asks for."""
        fix = None if self.fix is None else translated(self.fix)
        return {"error": {"what": translated(self.what), "where": self.where, "fix": fix}}
