"""finetune: a pretrained residual network with a new head, frozen or trained further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from restune.data.dataset import DataOptions
from restune.runs.request import Request
from restune.runs.run import Run, run


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
    """Fine-tune a pretrained network: replace its head, freeze or unfreeze its layers.

    Args:
        weights: any form that `restune.load` takes. By default the recipe's, else torchvision's for `model`.
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
    request = Request("finetune", recipe, options, set or {})
    return run(data, request, out, data_options, resume=resume, accept_changes=accept_changes)
