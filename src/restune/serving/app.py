"""The application: predictions as JSON, models, health, metrics, and the page for people."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from restune.core.errors import UserError
from restune.core.language import translated
from restune.core.machine import cpu_count
from restune.core.version import __version__
from restune.data.dataset import Item
from restune.inference.feature_maps import StageMaps
from restune.inference.model import Prediction
from restune.serving import inside, page, protocol
from restune.serving.answers import ERRORS, PREDICTED, REQUEST, Limits, Refused
from restune.serving.batching import ClosedError, QueueFullError, Slots
from restune.serving.engine import Answer, AnswerSettings, Engine, MapSettings, Served, Settings, load_engine
from restune.serving.guard import Guard
from restune.serving.metrics import Metrics
from restune.serving.request_inputs import items_of

_WATCH_SECONDS = 1.0
_SLOTS = 4
"""Most batches that are computed at a time, each with its share of the cores."""


class Models:
    """The served models by name, with the threads and the slots that they share.

    Args:
        engines: by name; the first one answers requests that name none.
        limits: of queues and batches.
        metrics: told of batches.
        files: the files of models that are watched, by name, as `load_engine` takes them.
    """

    def __init__(
        self, engines: Mapping[str, Engine], limits: Limits, metrics: Metrics, files: Mapping[str, Path] | None = None
    ) -> None:
        self.limits, self._pool, slots = (
            limits,
            ThreadPoolExecutor(cpu_count(), "read"),
            Slots(min(cpu_count(), _SLOTS)),
        )
        self.by_name: dict[str, Served] = {}
        for name, engine in engines.items():
            file = (files or {}).get(name)
            self.by_name[name] = Served(
                name, engine, pool=self._pool, slots=slots, max_queue=limits.max_queue, max_batch=limits.max_batch,
                on_batch=metrics.batch_sizes(name), file=file,
                load=None if file is None else partial(
                    load_engine, str(file), engine.model.device.type, engine.engine, engine.precision
                ),
            )  # fmt: skip
            metrics.watch_queue(name, partial(_length, self.by_name[name]))

    def find(self, name: str | None) -> Served:
        """Return a model, the first one for None. Raises Refused."""
        found = next(iter(self.by_name.values())) if name is None else self.by_name.get(name)
        if found is None:
            raise Refused(404, "there is no such model", "model", f"use one of {', '.join(self.by_name)}")
        return found

    async def predict(
        self, served: Served, engine: Engine, items: Sequence[Item], settings: AnswerSettings
    ) -> list[Prediction]:
        """Return the predictions of items that were made for `engine`. Raises Refused."""
        return cast("list[Prediction]", await self._answers(served, engine, items, settings))

    async def feature_maps(self, served: Served, engine: Engine, item: Item, most: int) -> list[StageMaps]:
        """Return the feature maps of an item that was made for `engine`. Raises Refused."""
        (found,) = await self._answers(served, engine, [item], MapSettings(most))
        return cast("list[StageMaps]", found)

    async def _answers(self, served: Served, engine: Engine, items: Sequence[Item], settings: Settings) -> list[Answer]:
        timeout = self.limits.timeout
        try:
            future = served.submit(items, settings, timeout, engine)
            return await asyncio.wait_for(asyncio.wrap_future(future), timeout)
        except QueueFullError as error:
            raise Refused(503, "the queue is full", fix="try again later", retry_after=error.retry_after) from None
        except ClosedError:
            raise Refused(503, "the server shuts down", retry_after=5) from None
        except TimeoutError:
            raise Refused(504, f"not answered within {timeout:g} s") from None
        except UserError as error:
            raise Refused(422, error.what, error.where, error.fix) from None

    def close(self) -> None:
        """Answer what is accepted, then stop the threads."""
        for served in self.by_name.values():
            served.batcher.close(self.limits.timeout)
        self._pool.shutdown()


def make_app(
    engines: Mapping[str, Engine],
    limits: Limits | None = None,
    *,
    files: Mapping[str, Path] | None = None,
    log: str | None = None,
) -> Guard:
    """Return the ASGI application that serves models.

    Args:
        engines: by name; the first one answers requests that name none.
        limits: what is accepted.
        files: model files that are watched, by name.
        log: ``text`` or ``json``: one line per request on standard error.
    """
    limits, metrics = limits or Limits(), Metrics()
    models = Models(engines, limits, metrics, files)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watcher = asyncio.create_task(_watch(models))
        yield
        watcher.cancel()
        await asyncio.to_thread(models.close)

    app = FastAPI(title="restune", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    _answer_errors(app)
    _add_predictions(app, models)
    _add_state(app, models, metrics)
    page.add_routes(app, models)
    inside.add_routes(app, models)
    protocol.add_routes(app, models)
    return Guard(app, limits, metrics, log)


def _add_predictions(app: FastAPI, models: Models) -> None:
    @app.post("/predict", responses=PREDICTED, openapi_extra=REQUEST, response_class=Response)
    async def predict(
        request: Request,
        model: Annotated[str | None, Query(description="The model's name; the first one by default.")] = None,
        topk: Annotated[int, Query(ge=1, le=100_000, description="Number of classes to list.")] = 5,
        threshold: Annotated[float | None, Query(ge=0, le=1, description="Abstain below this probability.")] = None,
        explain: Annotated[bool, Query(description="Add each input's class activation map.")] = False,
    ) -> Response:
        """Predict one or many inputs: JSON, an upload of files, or the bytes of one input."""
        served = models.find(model)
        engine = served.engine
        settings = AnswerSettings(topk=topk, threshold=threshold, explain=explain)
        items = await items_of(await request.body(), request.headers, engine.kind, models.limits.max_queue)
        answered = await models.predict(served, engine, items, settings)
        predictions = [_told(prediction) for prediction in answered]
        if all("error" in prediction for prediction in predictions):
            content = Refused(422, "no input can be read", "body", "the predictions give the reasons").to_dict()
            return _json({**content, "predictions": predictions}, 422)
        return _json({"model": served.name, "predictions": predictions})


def _add_state(app: FastAPI, models: Models, metrics: Metrics) -> None:
    object_answer: dict[int | str, dict[str, Any]] = {
        200: {"content": {"application/json": {"schema": {"type": "object"}}}, "description": "An object."}
    }

    @app.get("/models", responses={**object_answer, 401: ERRORS[401]}, response_class=Response)
    async def listed() -> Response:
        """Return the models' names, classes and kinds of data."""
        return _json({"models": [{"name": one.name, **one.engine.describe()} for one in models.by_name.values()]})

    @app.get("/healthz", responses=object_answer, response_class=Response)
    async def healthz() -> Response:
        """Return that the server runs, and how often each model was loaded again."""
        return _json({"status": "ok", "reloads": {one.name: one.reloads for one in models.by_name.values()}})

    @app.get(
        "/metrics",
        responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' format."}, 401: ERRORS[401]},
        response_class=Response,
    )
    async def figures() -> Response:
        """Return requests, latencies, queue lengths and batch sizes."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")


def _answer_errors(app: FastAPI) -> None:
    """Answer every error as one JSON object, without a stack trace."""

    def answered(request: Request, error: Refused, headers: Mapping[str, str] | None = None) -> Response:
        of_protocol = request.url.path.startswith("/v2")
        return _json({"error": error.what} if of_protocol else error.to_dict(), error.status, headers)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return answered(request, error, None if error.retry_after is None else {"retry-after": str(error.retry_after)})

    @app.exception_handler(RequestValidationError)
    async def wrong_value(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return answered(request, Refused(422, str(first["msg"]), str(first["loc"][-1])))

    @app.exception_handler(Exception)
    async def fault(_: Request, _error: Exception) -> Response:  # raised on to the guard, which logs it
        return _json(Refused(500, "the server failed; its log says why").to_dict(), 500)

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        return answered(request, Refused(error.status_code, str(error.detail)), error.headers)


async def _watch(models: Models) -> None:
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        for served in models.by_name.values():
            await asyncio.to_thread(served.reload_if_changed)


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
    return Response(text, status, media_type="application/json", headers=dict(headers or {}))


def _told(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction for JSON, an error in the language that the client asks for."""
    told = prediction.to_dict()
    return told if prediction.error is None else {**told, "error": translated(prediction.error)}


def _length(served: Served) -> int:
    return served.batcher.length
