"""finetune: a pretrained residual network with a new head, frozen or trained further."""

from __future__ import annotations

from pathlib import Path
from typing import Any, overload

from restune.data.dataset import DataOptions
from restune.runs.record import stored_recipe
from restune.runs.request import Request
from restune.runs.run import Run, run
from restune.runs.seeds import SeedRuns, run_seeds


@overload
def finetune(
    data: Any = None,
    *,
    seeds: None = None,
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
) -> Run: ...


@overload
def finetune(
    data: Any = None,
    *,
    seeds: int,
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
) -> SeedRuns: ...


def finetune(
    data: Any = None,
    *,
    seeds: int | None = None,
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
) -> Run | SeedRuns:
    """Fine-tune a pretrained network: replace its head, freeze or unfreeze its layers.

    Args:
        weights: any form that `restune.load` takes. By default the recipe's, else torchvision's for `model`. ``auto``:
            of the published weights in the cache and the runs in ``runs/``, those with the lowest cross-validated loss
            of a head on the training items' features.
        freeze: ``auto`` (the head is fitted by logistic regression, then stages are unfrozen from the top while
            validation improves), ``all`` (only the head is fitted), ``none`` (all layers train), or K (the stem and
            stages 1 to K stay frozen; 0 the stem alone). Activations of frozen layers are cached and reused.
        time: a time budget such as ``"10m"``, or in seconds; the schedule ends with it.

    Options of the network that contradict the weights are an error. The other arguments are those of `restune.train`,
    and the option `views`: augmented copies per training item, for
    frozen layers only.

    >>> weights = restune.train(photos, model="resnet8", image_size=16, epochs=1, out=folder / "pretrained").out
    >>> run = restune.finetune(photos, weights=weights, freeze="all", out=folder / "finetuned")
    >>> run.model.classes
    ('blue', 'red')
    """
    options = {"model": model, "weights": weights, "freeze": freeze, "time": time, **options}
    settings: dict[str, Any] = {"verb": "finetune", "recipe": recipe, "options": options, "changes": set or {}}
    if seeds is not None:
        return run_seeds(data, settings, seeds, out, data_options, resume=resume, accept_changes=accept_changes)
    request = Request(**settings, resumes=stored_recipe(out, resume=resume))
    return run(data, request, out, data_options, resume=resume, accept_changes=accept_changes)
