"""The metadata that travels inside every export: classes, preprocessing, temperature, licence."""

from __future__ import annotations

import json
from typing import Any

from restune.core.version import __version__
from restune.inference.model import Model


def metadata(model: Model) -> dict[str, str]:
    """Return text by key, as ONNX and OpenVINO store it; values other than names are JSON."""
    info = model.info
    values: dict[str, Any] = {
        "restune": __version__,
        "name": info.name or "",
        "task": info.task,
        "kind": info.kind,
        "classes": list(info.classes),
        "preprocess": info.preprocess.to_dict(),
        "temperature": 1.0 if model.calibration is None else model.calibration.temperature,
        "licence": info.licence or "",
    }
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
        for key, value in values.items()
    }
