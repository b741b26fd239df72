"""What was measured on this machine, remembered in the cache folder: whether compiling a network pays."""

from __future__ import annotations

import hashlib
import json
import platform
from typing import Any

import torch

from restune.core.console import warn_once
from restune.core.errors import UserError
from restune.core.files import cache_folder, write_text
from restune.core.machine import cpu_count
from restune.networks.spec import ResNetSpec

_FILE = "measured.json"


def record_compile_gain(
    spec: ResNetSpec, shape: tuple[int, ...], precision: str, device: torch.device, gain: float
) -> None:
    """Note how many times faster compiled training steps were; a warning where the cache folder cannot be written."""
    known = _known()
    known[_key(spec, shape, precision, device)] = {"what": "compile", "gain": round(gain, 3)}
    try:
        write_text(cache_folder() / _FILE, json.dumps(known, indent=1, sort_keys=True) + "\n")
    except UserError as error:
        warn_once(
            f"later runs will not know this measurement: {error.what} ({error.where}). RESTUNE_CACHE names another "
            "cache folder",
            about="measurements",
        )


def known_compile_gain(spec: ResNetSpec, shape: tuple[int, ...], precision: str, device: torch.device) -> float | None:
    """How many times faster compiled steps were for such batches on this machine; None where that is not known.

    Args:
        shape: of a batch, as the network takes it.
    """
    found = _known().get(_key(spec, shape, precision, device))
    gain = found.get("gain") if isinstance(found, dict) else None
    return float(gain) if isinstance(gain, int | float) else None


def _known() -> dict[str, Any]:
    try:
        content = json.loads((cache_folder() / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, UserError):
        return {}
    return content if isinstance(content, dict) else {}


def _key(spec: ResNetSpec, shape: tuple[int, ...], precision: str, device: torch.device) -> str:
    """Everything that decides how long a step takes, but the number of classes."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    about = [
        {**spec.to_dict(), "num_classes": 0},
        list(shape),
        precision,
        name,
        cpu_count(),
        torch.get_num_threads(),
        torch.__version__,
    ]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
