"""The library versions that results depend on besides the recipe."""

from __future__ import annotations

from importlib import metadata

import torch

from restune.core.version import __version__


def versions() -> dict[str, str]:
    """Return the versions of restune, torch and torchvision."""
    return {"restune": __version__, "torch": torch.__version__, "torchvision": metadata.version("torchvision")}
