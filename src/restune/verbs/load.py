"""load: a model ready to use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from restune.inference.load import load_model
from restune.inference.model import Model


def load(
    model: str | Path | Model,
    *,
    weights: str | Path | None = None,
    device: str = "auto",
    module: nn.Module | None = None,
    **preprocess: Any,
) -> Model:
    """Load a model to predict, evaluate and embed with.

    Args:
        model: a bundle (.safetensors), a run's folder, a checkpoint, a published name, or a zoo name.
        weights: with a zoo name: a file, a bundle, a run's folder or a published name.
        device: ``auto``, ``cpu`` or ``cuda``.
        module: for a model that `restune.train` made from a module of your own: a module of the same structure. The
            weights are loaded into it, in place.
        **preprocess: `image_size`, `crop`, `interpolation`, `mean`, `std`, to replace those in the file.

    Raises UserError if nothing of that name exists, if the weights belong to another network, or if they are
    missing. Runs no code from any file and, for local files, needs no internet connection.

    >>> model = restune.load(run_folder)
    >>> model.classes
    ('blue', 'red')
    """
    return load_model(model, weights=weights, device=device, module=module, **preprocess)
