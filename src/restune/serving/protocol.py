"""The Open Inference Protocol, version 2: health, metadata, and inference with JSON or binary tensors.

Source: KServe's open-inference-protocol and Triton's binary tensor data extension.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import FastAPI, Path, Request, Response
from fastapi.responses import JSONResponse

from restune.core.version import __version__
from restune.data.dataset import Item
from restune.inference.model import Prediction
from restune.serving import protocol_schema as schema
from restune.serving.answers import Refused
from restune.serving.engine import AnswerSettings, Engine
from restune.serving.request_inputs import decoded, in_turn, item_of, parsed_json, series_of

if TYPE_CHECKING:
    from restune.serving.app import Models


def add_routes(app: FastAPI, models: Models) -> None:
    """Add the protocol's endpoints."""
    _add_state(app, models)
    named = _model_name(models)

    @app.post("/v2/models/{name}/infer", responses=schema.INFER, openapi_extra=schema.REQUEST, response_class=Response)
    async def infer(request: Request, name: str = named) -> Response:
        """Predict the elements of one tensor."""
        served = models.find(name)
        engine = served.engine
        body, header = await request.body(), request.headers.get(schema.HEADER)

        def parse() -> tuple[dict[str, Any], list[Item]]:
            head, binary = _parts(body, header)
            return head, _items(head, binary, engine, models.limits.max_queue)

        head, items = await in_turn(len(body), parse)
        wanted = AnswerSettings(topk=len(engine.model.classes))
        predictions = await models.predict(served, engine, items, wanted)
        for prediction in predictions:
            if prediction.error is not None:
                raise Refused(400, f"{prediction.input}: {prediction.error}")
        return _answer(name, head, _outputs(predictions, engine))


def _model_name(models: Models) -> Any:
    """Return the parameter that is a path's model name, whose values OpenAPI lists."""
    return Path(description="The model's name.", json_schema_extra={"enum": [*models.by_name]})


def _add_state(app: FastAPI, models: Models) -> None:
    named = _model_name(models)

    @app.get("/v2", responses=schema.SERVER, response_class=JSONResponse)
    async def server() -> Response:
        """Return the server's name, version and extensions."""
        return JSONResponse({"name": "restune", "version": __version__, "extensions": ["binary_tensor_data"]})

    @app.get("/v2/health/live", responses=schema.LIVE, response_class=JSONResponse)
    async def live() -> Response:
        """Return that the server runs."""
        return JSONResponse({"live": True})

    @app.get("/v2/health/ready", responses=schema.READY, response_class=JSONResponse)
    async def ready() -> Response:
        """Return that the server answers."""
        return JSONResponse({"ready": True})

    @app.get("/v2/models/{name}", responses=schema.METADATA, response_class=JSONResponse)
    async def metadata(name: str = named) -> Response:
        """Return a model's tensors."""
        return JSONResponse(_metadata(name, models.find(name).engine))

    @app.get("/v2/models/{name}/ready", responses=schema.MODEL_READY, response_class=JSONResponse)
    async def model_ready(name: str = named) -> Response:
        """Return that a model answers."""
        return JSONResponse({"name": models.find(name).name, "ready": True})


def _metadata(name: str, engine: Engine) -> dict[str, Any]:
    task, classes = engine.model.info.task, len(engine.model.classes)
    series = engine.kind.name == "signal"
    entry = {"name": "inputs", "datatype": "FP32" if series else "BYTES", "shape": [-1, -1, -1] if series else [-1]}
    values = "values" if task == "regression" else "probabilities"
    outputs = [{"name": values, "datatype": "FP32", "shape": [-1, classes]}]
    if task == "single-label":
        outputs.append({"name": "label", "datatype": "BYTES", "shape": [-1]})
    return {"name": name, "versions": ["1"], "platform": "restune", "inputs": [entry], "outputs": outputs}


def _parts(body: bytes, header: str | None) -> tuple[dict[str, Any], bytes]:
    """Return a request's JSON object and the binary tensors after it. Raises Refused."""
    try:
        length = len(body) if header is None else int(header)
        if not 0 <= length <= len(body):
            raise ValueError
    except ValueError:
        raise Refused(400, "Inference-Header-Content-Length is wrong") from None
    head = parsed_json(body[:length])
    if not isinstance(head, dict) or not isinstance(head.get("inputs"), list) or len(head["inputs"]) != 1:
        raise Refused(400, "a request is an object with one tensor in inputs")
    if not isinstance(head["inputs"][0], dict):
        raise Refused(400, "a tensor is an object")
    return head, body[length:]


def _items(head: dict[str, Any], binary: bytes, engine: Engine, most: int) -> list[Item]:
    tensor = head["inputs"][0]
    shape, wanted = tensor.get("shape"), "FP32" if engine.kind.name == "signal" else "BYTES"
    whole = isinstance(shape, list) and shape and all(type(side) is int and side >= 0 for side in shape)
    if not whole or tensor.get("datatype") != wanted:
        raise Refused(400, f"this model takes a {wanted} tensor with a shape")
    count = int(shape[0])
    if not 1 <= count <= most:
        raise Refused(400, f"the first dimension must be 1 to {most}")
    parameters = tensor.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is not None and size != len(binary):
        raise Refused(400, "binary_data_size is not the size of the data")
    if wanted == "FP32":
        values = _floats(binary if size is not None else tensor.get("data"), shape)
        return [item_of(f"input {place}", series_of(one, "inputs"), engine.kind) for place, one in enumerate(values)]
    contents = list(_strings(binary)) if size is not None else _encoded(tensor.get("data"), engine)
    if len(contents) != int(np.prod([int(side) for side in shape], dtype=object)):
        raise Refused(400, "the shape does not fit the number of elements")
    return [item_of(f"input {place}", content, engine.kind) for place, content in enumerate(contents)]


def _floats(data: Any, shape: list[int]) -> Any:
    try:
        values = np.frombuffer(data, "<f4") if isinstance(data, bytes) else np.asarray(data, np.float32)
        return values.reshape(shape)
    except (ValueError, TypeError, OverflowError):
        raise Refused(400, "the data does not fit the shape") from None


def _strings(binary: bytes) -> Iterator[bytes]:
    """Yield the elements of a BYTES tensor: each is preceded by its length, four bytes, the lowest first."""
    place = 0
    while place < len(binary):
        if place + 4 > len(binary):
            raise Refused(400, "a BYTES tensor is cut off")
        (length,) = struct.unpack_from("<I", binary, place)
        place += 4
        if place + length > len(binary):
            raise Refused(400, "a BYTES tensor is cut off")
        yield binary[place : place + length]
        place += length


def _encoded(data: Any, engine: Engine) -> list[bytes]:
    """Return the elements of a BYTES tensor in JSON: texts as they are, files in base64."""
    if not isinstance(data, list) or not all(isinstance(one, str) for one in data):
        raise Refused(400, "data must be a list of strings: texts, or files in base64")
    if engine.kind.name == "text":
        return [one.encode("utf-8", "replace") for one in data]
    return [decoded(one, f"input {place}") for place, one in enumerate(data)]


def _outputs(predictions: list[Prediction], engine: Engine) -> dict[str, list[Any]]:
    """Return the output tensors' rows by name."""
    classes, task = engine.model.classes, engine.model.info.task
    if task == "regression":
        return {"values": [[(one.values or {})[name] for name in classes] for one in predictions]}
    if task == "multi-label":
        return {"probabilities": [[(one.probabilities or {})[name] for name in classes] for one in predictions]}
    tops = [dict(one.top) for one in predictions]
    return {
        "probabilities": [[top[name] for name in classes] for top in tops],
        "label": [one.top[0][0] for one in predictions],
    }


def _answer(name: str, head: dict[str, Any], outputs: dict[str, list[Any]]) -> Response:
    wanted, binaries = _wanted(head, outputs), []
    described: list[dict[str, Any]] = []
    for output, is_binary in wanted.items():
        rows = outputs[output]
        entry: dict[str, Any] = {"name": output, "datatype": "BYTES" if output == "label" else "FP32"}
        entry["shape"] = [len(rows)] if output == "label" else [len(rows), len(rows[0])]
        if is_binary:
            binaries.append(_binary(output, rows))
            entry["parameters"] = {"binary_data_size": len(binaries[-1])}
        else:
            entry["data"] = rows if output == "label" else [value for row in rows for value in row]
        described.append(entry)
    answer = {"model_name": name, "model_version": "1", "outputs": described}
    if isinstance(head.get("id"), str):
        answer["id"] = head["id"]
    content = json.dumps(answer).encode()
    if not binaries:
        return Response(content, media_type="application/json")
    headers = {schema.HEADER: str(len(content))}
    return Response(content + b"".join(binaries), media_type="application/octet-stream", headers=headers)


def _binary(output: str, rows: list[Any]) -> bytes:
    if output != "label":
        return np.asarray(rows, "<f4").tobytes()
    labels = [label.encode() for label in rows]
    return b"".join(struct.pack("<I", len(label)) + label for label in labels)


def _wanted(head: dict[str, Any], outputs: dict[str, list[Any]]) -> dict[str, bool]:
    """Return the outputs that a request names, all where it names none, and whether each is binary. Raises Refused."""
    parameters = head.get("parameters")
    all_binary = isinstance(parameters, dict) and parameters.get("binary_data_output") is True
    named = head.get("outputs")
    if not named:
        return dict.fromkeys(outputs, all_binary)
    wanted: dict[str, bool] = {}
    for entry in named if isinstance(named, list) else [None]:
        one = entry if isinstance(entry, dict) else {}
        name, own = one.get("name"), one.get("parameters")
        if not isinstance(name, str) or name not in outputs:
            raise Refused(400, f"the outputs are {', '.join(outputs)}")
        binary = own.get("binary_data", all_binary) if isinstance(own, dict) else all_binary
        wanted[name] = binary is True
    return wanted
