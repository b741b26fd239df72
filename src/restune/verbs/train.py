"""train and finetune: from data and a recipe to a run's folder with a model, its scores and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from restune.data.dataset import DataOptions
from restune.runs.request import Request
from restune.runs.run import Run, perform


def train(
    data: Any,
    *,
    model: str | None = None,
    out: str | Path | None = None,
    recipe: str | Path | None = None,
    data_options: DataOptions | None = None,
    resume: bool = False,
    accept_changes: bool = False,
    set: dict[str, Any] | None = None,
    **options: Any,
) -> Run:
    """Train a residual network from scratch.

    Args:
        data: what to learn from, see `restune.evaluate`; from Python also a DataFrame, (input, label) pairs, a data set
            of PyTorch or of Hugging Face.
        model: a zoo name; by default the recipe's.
        out: the run's folder; by default ``runs/train-001`` and so on.
        recipe: a shipped recipe's name or a YAML file; by default ``default`` for images, ``series`` for signals,
            ``text`` or ``video``.
        data_options: how to read the data.
        resume: go on with the run in `out`; start it where there is none.
        accept_changes: go on even if the data changed since.
        set: recipe settings by dotted key, such as ``{"optimizer.lr": 0.1}``.
        **options: the command line's, with underscores: `epochs`, `time`, `batch_size`, `lr`, `image_size`, `val`,
            `test`, `precision`, `workers`, `threads`, `monitor`, `seed`, `device`, `smoke`.

    Returns the run: its folder, its best model, its results. Raises UserError.
    """
    asked = Request("train", recipe, {"model": model, **options}, set or {})
    return perform(data, asked, out, data_options, resume=resume, accept_changes=accept_changes)


def finetune(
    data: Any,
    *,
    model: str | None = None,
    weights: str | Path | None = None,
    freeze: str | int | None = None,
    time: str | float | None = None,
    out: str | Path | None = None,
    recipe: str | Path | None = None,
    data_options: DataOptions | None = None,
    resume: bool = False,
    accept_changes: bool = False,
    set: dict[str, Any] | None = None,
    **options: Any,
) -> Run:
    """Fine-tune a pretrained network: its head replaced, its layers frozen or thawed.

    Args:
        weights: any form that `restune.load` takes. By default the recipe's, else torchvision's for `model`.
        freeze: ``auto`` (the head is solved, then stages thaw from the top while validation improves), ``all`` (the
            head is solved, nothing else changes), ``none``, or K (the stem and stages 1 to K stay as they are; 0 the
            stem alone). What frozen layers compute is kept in the cache folder and used again.
        time: a budget such as ``"10m"`` or in seconds; the schedule ends when it does.

    The other arguments are `train`'s; of its options `views` is only for this: how many looks of each training item
    frozen layers see.
    """
    named = {"model": model, "weights": weights, "freeze": freeze, "time": time, **options}
    asked = Request("finetune", recipe, named, set or {})
    return perform(data, asked, out, data_options, resume=resume, accept_changes=accept_changes)
