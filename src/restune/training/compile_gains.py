"""Speed-ups of compiled training measured on this machine, stored in the cache folder."""

from __future__ import annotations

import hashlib
import json
import platform

import torch

from restune.core.console import warn_once
from restune.core.errors import UserError
from restune.core.files import cache_folder, cached_json, write_text
from restune.core.machine import cpu_count
from restune.networks.custom import CustomSpec
from restune.networks.spec import ResNetSpec

_FILE = "measured.json"


def record_compile_gain(
    spec: ResNetSpec, shape: tuple[int, ...], precision: str, device: torch.device, gain: float
) -> None:
    """Store the measured speed-up of compiled training steps. Warn if the cache folder cannot be written."""
    known = cached_json(_FILE)
    known[_key(spec, shape, precision, device)] = {"what": "compile", "gain": round(gain, 3)}
    try:
        write_text(cache_folder() / _FILE, json.dumps(known, indent=1, sort_keys=True) + "\n")
    except UserError as error:
        warn_once(
            f"this measurement is not stored for later runs: {error.what} ({error.where}). To use another cache "
            "folder, set RESTUNE_CACHE",
            about="measurements",
        )


def known_compile_gain(
    spec: ResNetSpec | CustomSpec, shape: tuple[int, ...], precision: str, device: torch.device
) -> float | None:
    """Return the measured speed-up of compiled steps for such batches on this machine; None if not measured.

    Args:
        shape: the network's input shape, batch included.
    """
    entry = cached_json(_FILE).get(_key(spec, shape, precision, device))
    gain = entry.get("gain") if isinstance(entry, dict) else None
    return float(gain) if isinstance(gain, int | float) else None


def _key(spec: ResNetSpec | CustomSpec, shape: tuple[int, ...], precision: str, device: torch.device) -> str:
    """Hash everything that determines the time of a step, except the number of classes."""
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
