"""Average the weights of several runs of one network: model soups, uniform or greedy by validation score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from restune.core.console import note, progress, quiet
from restune.core.errors import UserError
from restune.core.files import user_path
from restune.data.dataset import Dataset
from restune.data.loader import read_batches
from restune.evaluation.evaluation import Evaluation
from restune.evaluation.score import score_any
from restune.evaluation.tasks import AnyEvaluation
from restune.inference.forward import forward, threads_within_quota
from restune.inference.load import load_model
from restune.inference.model import Model
from restune.networks.custom import CustomSpec
from restune.networks.layout import weights_layout
from restune.networks.resnet import ResNet
from restune.training.norm_statistics import estimating
from restune.weights.bundle import BundleInfo

METHODS = ("greedy", "uniform")
_NORM_ITEMS = 2048
_NORM_BATCH = 128


@dataclass(frozen=True, kw_only=True)
class Ingredient:
    """A run's model and its validation score.

    Args:
        run: its folder.
        model: loaded.
        val: its scores on the validation items.
    """

    run: Path
    model: Model = field(repr=False)
    val: AnyEvaluation = field(repr=False)

    @property
    def state(self) -> Mapping[str, Tensor]:
        """Its weights."""
        return self.model.module.state_dict()


@dataclass(frozen=True, kw_only=True)
class Soup:
    """An average of runs.

    Args:
        kept: the runs whose weights are in the average, best first.
        left_out: those that made the validation score worse.
        model: with the averaged weights.
        val: its scores on the validation items.
    """

    kept: tuple[Ingredient, ...]
    left_out: tuple[Ingredient, ...]
    model: Model = field(repr=False)
    val: AnyEvaluation = field(repr=False)


def load_ingredients(runs: Sequence[str | Path], val: Dataset, device: str) -> list[Ingredient]:
    """Load the runs' models and score each on the validation items, best first.

    Raises UserError for models that do not fit together: other structures, classes or preprocessing.
    """
    models = []
    for run in runs:
        with quiet():
            models.append((user_path(run), load_model(run, device=device)))
    first = models[0][1]
    for folder, model in models:
        _reject_other(first, model, folder)
    ingredients = [Ingredient(run=folder, model=model, val=score_any(model, val)) for folder, model in models]
    return sorted(ingredients, key=lambda one: goodness(one.val), reverse=True)


def goodness(evaluation: AnyEvaluation) -> tuple[float, float]:
    """Return a score that is higher where a model is better: accuracy (of other tasks their main score), then loss."""
    if isinstance(evaluation, Evaluation):
        return evaluation.accuracy, -float(evaluation.measures.items.nll.mean())
    summary = evaluation.summary()
    value = summary[summary["metric"]]
    return (-value if summary["metric"] in ("mae", "rmse") else value), 0.0


def cook(ingredients: Sequence[Ingredient], method: str, train: Dataset, val: Dataset) -> Soup:
    """Average runs.

    Args:
        ingredients: best first, at least two.
        method: ``uniform``: all of them; ``greedy``: beginning with the best, each that does not make the validation
            score worse.
        train: items on which the average's batch-norm statistics are estimated.
        val: items that `greedy` chooses by.

    Source: Wortsman et al. 2022, "Model soups" (arXiv:2203.05482), recipe 1; batch-norm statistics of averaged weights
    as in Izmailov et al. 2018 (arXiv:1803.05407), section 3.2.
    """
    if method == "uniform":
        model = averaged(ingredients, train)
        return Soup(kept=tuple(ingredients), left_out=(), model=model, val=score_any(model, val))
    best = ingredients[0]
    soup = Soup(kept=(best,), left_out=(), model=best.model, val=best.val)
    with progress("average", len(ingredients) - 1) as advance:
        for candidate in ingredients[1:]:
            model = averaged((*soup.kept, candidate), train)
            with quiet():
                scores = score_any(model, val)
            if goodness(scores)[0] >= goodness(soup.val)[0]:
                soup = replace(soup, kept=(*soup.kept, candidate), model=model, val=scores)
            else:
                soup = replace(soup, left_out=(*soup.left_out, candidate))
            advance(1)
    return soup


def averaged(ingredients: Sequence[Ingredient], train: Dataset) -> Model:
    """Return a model with the mean of the runs' weights, and batch-norm statistics of these weights.

    The statistics are estimated over at most 2,048 training items, in the norms where the runs' own differ: what frozen
    layers share stays as the runs were trained with it.
    """
    states = [one.state for one in ingredients]
    mean: dict[str, Tensor] = {}
    for name, tensor in states[0].items():
        values = [state[name] for state in states]
        is_one = all(torch.equal(value, tensor) for value in values[1:])
        mean[name] = tensor if is_one else torch.stack([value.double() for value in values]).mean(dim=0).to(tensor)
    first = ingredients[0].model
    assert isinstance(first.module, ResNet), "checked when loaded"
    network = ResNet(first.module.spec)
    network.load_state_dict(mean)
    network.eval().requires_grad_(False).to(first.device).to(memory_format=weights_layout(first.module.spec.dims))
    info = replace(first.info, calibration=None, novelty=None, scores=())
    model = Model(network, info, "the average", device=first.device)
    norms = {name.rpartition(".")[0] for name in mean if name.endswith("running_mean") and _differ(states, name)}
    if norms:
        _estimate_statistics(model, train, norms)
    return model


def reject_same_weights(ingredients: Sequence[Ingredient]) -> None:
    """Raise UserError where all runs have equal weights, of which the average says nothing."""
    states = [one.state for one in ingredients]
    if not any(_differ(states, name) for name in states[0]):
        raise UserError(
            "these runs have the same weights",
            where=", ".join(str(one.run) for one in ingredients),
            fix="average runs that differ, in --lr, --set augment... or the number of epochs",
        )


def note_other_starts(infos: Sequence[BundleInfo]) -> None:
    """Note where runs did not begin with the same pretrained weights: averages of such runs are rarely any good."""
    starts = {str(info.training.get("weights")) for info in infos}
    if starts == {"None"}:
        note(
            "these runs began with random weights: networks that were not fine-tuned from the same weights rarely "
            "have a good average"
        )
    elif len(starts) > 1:
        note("these runs began with different weights: their average is rarely any good")


def _estimate_statistics(model: Model, train: Dataset, norms: Set[str]) -> None:
    """Replace these norms' running statistics by those of the model's own weights on training items, not augmented."""
    network = model.module
    step = max(1, len(train) // _NORM_ITEMS)
    chosen = [train.items[place] for place in range(0, len(train), step)][:_NORM_ITEMS]
    network.eval()
    for name in norms:  # `estimating` resets those in training mode
        network.get_submodule(name).train()
    with torch.no_grad(), threads_within_quota(), estimating(network):
        for batch in read_batches(chosen, model.preprocess, batch_size=_NORM_BATCH):
            if batch.samples is not None and (len(batch.samples) > _NORM_BATCH // 2 or len(chosen) < _NORM_BATCH):
                forward(network, model.preprocess, batch.samples.flatten(0, 1).to(model.device))
    network.eval()


def _reject_other(first: Model, model: Model, folder: Path) -> None:
    """Raise UserError for a model that cannot be averaged with the first."""
    if isinstance(model.spec, CustomSpec) or not isinstance(model.module, ResNet):
        raise UserError("only restune's own networks are averaged", where=str(folder))
    for what, one, other in (
        ("another structure", first.spec, model.spec),
        ("other classes", first.classes, model.classes),
        ("another preprocessing", first.preprocess, model.preprocess),
        ("another task", first.info.task, model.info.task),
    ):
        if one != other:
            raise UserError(
                f"this run's network has {what} than that of {first.source}" if what != "another task" else
                "this run learned another task than the first",
                where=str(folder),
                fix="average runs of one network, on the same data",
            )  # fmt: skip


def _differ(states: Sequence[Mapping[str, Tensor]], name: str) -> bool:
    return any(not torch.equal(state[name], states[0][name]) for state in states[1:])
