"""Endpoints that look into a model: the feature maps of its stages for an input, and the drawing of its structure."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated

from fastapi import FastAPI, Query, Request, Response
from starlette.responses import JSONResponse

from restune.networks.describe import describe
from restune.networks.spec import ResNetSpec
from restune.reporting.phrases import phrases
from restune.reporting.structure.figure import NARROW, WIDE, Subject, style_for
from restune.reporting.structure.page import foldable
from restune.serving.answers import DRAWING, REQUEST, STAGES, Refused
from restune.serving.pictures import drawn
from restune.serving.request_inputs import items_of

if TYPE_CHECKING:
    from restune.serving.app import Models
    from restune.serving.engine import Engine

MOST_MAPS = 16
"""Feature maps of each stage in an answer."""
_USUAL_LENGTH, _USUAL_SIDE, _USUAL_FRAMES = 128, 224, 16


def add_routes(app: FastAPI, models: Models) -> None:
    """Add the endpoints."""

    @app.post("/feature-maps", responses=STAGES, openapi_extra=REQUEST, response_class=Response)
    async def feature_maps(
        request: Request,
        model: Annotated[str | None, Query(description="The model's name; the first one by default.")] = None,
        maps: Annotated[int, Query(ge=1, le=MOST_MAPS, description="Number of channels of each stage.")] = 8,
    ) -> Response:
        """Return the most varied channels of each stage for one input, as grey pictures."""
        served = models.find(model)
        engine = served.engine
        items = await items_of(await request.body(), request.headers, engine.kind, models.limits.max_queue)
        if len(items) > 1:
            raise Refused(413, f"{len(items)} inputs are too many", "body", "send one input for its feature maps")
        stages = await models.feature_maps(served, engine, items[0], maps)
        return JSONResponse({"model": served.name, "stages": await asyncio.to_thread(drawn, stages)})

    @app.get("/structure", responses=DRAWING, response_class=Response)
    async def structure(
        model: Annotated[str | None, Query(description="The model's name; the first one by default.")] = None,
        lang: Annotated[str, Query(description="en or zh.")] = "en",
    ) -> Response:
        """Return the drawing of a model's structure."""
        served = models.find(model)
        spec = served.engine.model.spec
        if not isinstance(spec, ResNetSpec):
            raise Refused(422, f"the stages of {spec.custom}, a module of one's own, are not known", "model")
        language = "zh" if lang.startswith("zh") else "en"
        wide, narrow = await asyncio.to_thread(_drawing, spec, _positions(served.engine), served.name, language)
        return JSONResponse({"wide": wide, "narrow": narrow})


@lru_cache(maxsize=16)
def _drawing(spec: ResNetSpec, positions: tuple[int, ...], title: str, language: str) -> tuple[str, str]:
    """Draw a network for wide and for narrow screens."""
    say, subject = phrases(language), Subject(title, describe(spec, positions))
    wide, narrow = (foldable(subject, style_for(subject, style, say), say) for style in (WIDE, NARROW))
    return wide, narrow


def _positions(engine: Engine) -> tuple[int, ...]:
    """Return the size per axis of the input that is drawn."""
    preprocess, dims = engine.model.preprocess, engine.kind.dims
    if dims == 1:
        return (getattr(preprocess, "length", None) or _USUAL_LENGTH,)
    side = preprocess.image_size or _USUAL_SIDE
    return (side, side) if dims == 2 else (getattr(preprocess, "frames", None) or _USUAL_FRAMES, side, side)
