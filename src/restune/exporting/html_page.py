"""Write one HTML file that classifies images in the browser: model and runtime inside, no server, no network."""

from __future__ import annotations

import base64
import gzip
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from restune.core.errors import UserError
from restune.core.files import write_text
from restune.core.language import current_language
from restune.data.decode import MAX_PIXELS
from restune.data.preprocess.image import ImagePreprocess
from restune.data.resize import longest_aspect
from restune.exporting.web_runtime import WebRuntime
from restune.inference.model import Model
from restune.reporting.pages import render
from restune.reporting.phrases import phrases

WORDS = (
    "about", "drop", "waiting", "working", "unreadable", "too_large", "not_sure", "novel", "map", "press", "time",
    "picture", "failed",
)  # fmt: skip
"""Phrases that the page's script needs, ``web_...`` in the table of phrases."""
SURE = 0.6
"""Probability below which the page says that it is not sure."""


def write_page(model: Model, core: Path, runtime: WebRuntime, path: Path) -> Path:
    """Write the page.

    Args:
        model: an image model.
        core: its ONNX graph from resized and cropped pixels, uint8 ``[N, C, crop, crop]``.
        runtime: ONNX Runtime Web.

    Raises UserError for a model of another kind, or of other channels than 1 or 3.
    """
    preprocess = reject_other_inputs(model)
    name = f"{model.info.name or 'residual network'}: {len(model.classes)} classes"
    write_text(
        path,
        render(
            "classifier.html",
            language=current_language(),
            name=name,
            settings=_script_json(_settings(model, preprocess)),
            words=_script_json({one: {key: phrases(one)(f"web_{key}") for key in WORDS} for one in ("en", "zh")}),
            runtime=_packed(runtime.script),
            wasm=_packed(runtime.binary),
            model=_packed(core.read_bytes()),
            script=_script(),
        ),
    )
    return path


def reject_other_inputs(model: Model) -> ImagePreprocess:
    """Return the preprocessing of an image model with 1 or 3 channels; raise UserError for any other."""
    preprocess = model.preprocess
    if model.info.task != "single-label":
        raise UserError(
            f"the page shows one class per image, this is a {model.info.task} model",
            where="--to html, --int8",
            fix="use --to onnx, openvino or torch without --int8",
        )
    if not isinstance(preprocess, ImagePreprocess) or preprocess.channels not in (1, 3):
        raise UserError(
            f"the page takes images with 1 or 3 channels, the model takes {model.kind.noun}",
            where="--to html",
            fix="use --to onnx for other kinds of data",
        )
    return preprocess


def _settings(model: Model, preprocess: ImagePreprocess) -> dict[str, Any]:
    return {
        "classes": list(model.classes),
        "crop": preprocess.crop,
        "resize": preprocess.resize,
        "interpolation": preprocess.interpolation,
        "channels": preprocess.channels,
        "aspect": None if preprocess.resize is None else longest_aspect(preprocess.resize),
        "most_pixels": MAX_PIXELS,
        "sure": SURE,
        "novelty_threshold": None if model.novelty is None else model.novelty.threshold,
        "language": current_language(),
    }


def _script_json(value: Any) -> str:
    """Return JSON that cannot end the script element it stands in."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _script() -> str:
    """Return both modules as one: a page opened from a file cannot import another file."""
    web = files("restune.exporting") / "web"
    pixels = (web / "pixels.js").read_text(encoding="utf-8").replace("export function", "function")
    classifier = (web / "classifier.js").read_text(encoding="utf-8")
    lines = [line for line in classifier.splitlines() if not line.startswith("import ")]
    return "\n".join([pixels, *lines])
