"""train: a residual network from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, overload

from torch import nn

from restune.data.dataset import DataOptions
from restune.runs.record import stored_recipe
from restune.runs.request import Request
from restune.runs.run import Run, run
from restune.runs.seeds import SeedRuns, run_seeds


@overload
def train(
    data: Any = None,
    *,
    seeds: None = None,
    model: str | nn.Module | None = None,
    out: str | Path | None = None,
    recipe: str | Path | None = None,
    data_options: DataOptions | None = None,
    resume: bool = False,
    accept_changes: bool = False,
    set: dict[str, Any] | None = None,
    **options: Any,
) -> Run: ...


@overload
def train(
    data: Any = None,
    *,
    seeds: int,
    model: str | nn.Module | None = None,
    out: str | Path | None = None,
    recipe: str | Path | None = None,
    data_options: DataOptions | None = None,
    resume: bool = False,
    accept_changes: bool = False,
    set: dict[str, Any] | None = None,
    **options: Any,
) -> SeedRuns: ...


def train(
    data: Any = None,
    *,
    seeds: int | None = None,
    model: str | nn.Module | None = None,
    out: str | Path | None = None,
    recipe: str | Path | None = None,
    data_options: DataOptions | None = None,
    resume: bool = False,
    accept_changes: bool = False,
    set: dict[str, Any] | None = None,
    **options: Any,
) -> Run | SeedRuns:
    """Train a residual network from scratch.

    Args:
        data: the labelled items, see `restune.evaluate`; from Python also a DataFrame, (input, label) pairs, a data set
            of PyTorch or of Hugging Face. None, with `resume`: the data that the run began with.
        seeds: number of runs, with `seed` (by default the recipe's) and the seeds after it. Each draws its own split,
            unless the data defines one.
        model: a zoo name; by default the recipe's. Or a module, which is trained in place: from inputs ``[N, C, H, W]``
            to logits ``[N, classes]``.
        out: the run's folder; by default ``runs/train-001`` and so on.
        recipe: a shipped recipe's name or a YAML file; by default ``default`` for images, ``series`` for signals,
            ``text`` or ``video``.
        data_options: how to read the data.
        resume: continue the run in `out`, or start one if there is none. Settings that are not named stay as they were;
            with larger `epochs` or `time` a finished run goes on, too.
        accept_changes: resume even if the data changed since.
        set: recipe settings by dotted key, such as ``{"optimizer.lr": 0.1}``.
        **options: the command line's, with underscores: `epochs`, `time`, `batch_size`, `lr`, `image_size`, `val`,
            `test`, `precision`, `workers`, `threads`, `monitor`, `seed`, `device`, `smoke`, `track`. Options of the
            network, as for `create_model`: `depths`, `width`, `residual`, `block`, `norm`, `act`, ... And functions:
            ``loss(logits, targets)`` returns a scalar or one value per item; ``augment(samples, generator)`` changes a
            batch of samples (images uint8 ``[N, C, H, W]``) before normalisation; ``on_epoch(EpochRecord)`` and
            ``on_step(StepRecord)`` are called in the main process. What they raise reaches the caller unchanged.

    Returns the run, with its folder, best model and result; with `seeds` a `SeedRuns`: the runs, in ``out/seed-0`` and
    so on, with mean and standard deviation of their scores. Raises UserError.

    >>> run = restune.train(photos, model="resnet8", image_size=16, epochs=1, out=folder / "train")
    >>> run.result["val"]["n"]
    4
    """
    settings: dict[str, Any] = {
        "verb": "train", "recipe": recipe, "options": {"model": model, **options}, "changes": set or {}
    }  # fmt: skip
    if seeds is not None:
        return run_seeds(data, settings, seeds, out, data_options, resume=resume, accept_changes=accept_changes)
    request = Request(**settings, resumes=stored_recipe(out, resume=resume))
    return run(data, request, out, data_options, resume=resume, accept_changes=accept_changes)
