"""Knowledge distillation: a teacher's logits of the augmented views that the student trains on, computed once each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from restune.core.console import note
from restune.core.errors import UserError, shorten
from restune.data.augment import Augment, RandomKey
from restune.data.dataset import Dataset, Item
from restune.data.kinds import kind_of
from restune.inference.features import FeatureCache, FeatureRows, View, view_key
from restune.inference.model import Model
from restune.networks.resnet import ResNet
from restune.training.recipe import Recipe

_MOST_VIEWS = 8
"""Augmented views per item where the recipe does not say how many."""
_SHARE_OF_TIME = 0.3
"""Of a time budget that the teacher may take."""


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A trained model whose outputs another network learns to reproduce.

    Args:
        cache: of its embeddings of the training items.
        weight, bias: of its head, rows in the order of the student's classes.
        views: what epochs show in turn; [None] where nothing is augmented.
        tables: its embeddings of the training items, one table per view.

    Epoch ``e`` shows view ``e mod V`` of every item to both networks: what the student sees is what the teacher was
    asked about ("consistent teaching", Beyer et al. 2022, arXiv:2106.05237).
    """

    cache: FeatureCache
    weight: Tensor
    bias: Tensor
    views: Sequence[View | None]
    tables: Sequence[FeatureRows]

    @property
    def view_count(self) -> int:
        """Number of views of each item, which epochs show in turn."""
        return len(self.views)

    def key(self, epoch: int, items: Sequence[Item]) -> RandomKey | None:
        """Return the key that augments these items in this epoch; None where nothing is augmented."""
        view = self.views[epoch % len(self.views)]
        return None if view is None else view_key(view, self.cache.keys(items))

    def logits(self, epoch: int, chosen: NDArray[np.int64]) -> Tensor:
        """Return the teacher's logits ``[N, classes]`` of the training items at these positions, in this epoch."""
        rows = self.tables[epoch % len(self.tables)].take(chosen)
        return F.linear(rows.float(), self.weight, self.bias)


def make_teacher(
    model: Model, train: Dataset, recipe: Recipe, augment: Augment, epochs: int | None
) -> Teacher:  # fmt: skip
    """Compute a teacher's embeddings of the training items, one table per view, through the feature cache.

    Args:
        model: the teacher.
        train: the student's training items.
        recipe: its `teacher` and seed.
        augment: the student's augmentation.
        epochs: of the student; None: unknown.

    Raises UserError for a teacher of other classes or another kind of data.
    """
    rows = rows_of_classes(model, train)
    assert isinstance(model.module, ResNet)  # `rows_of_classes` has checked it
    cache = FeatureCache(
        model.module, model.preprocess, cut="all", device=model.device, bf16=recipe.precision == "bf16",
        on_disk=recipe.cache, workers=recipe.workers,
    )  # fmt: skip
    views: list[View | None] = [None]
    if augment != Augment(repeats=augment.repeats):
        count = recipe.teacher.views or _affordable_views(cache, train, recipe, epochs)
        views = [View(augment=augment, seed=recipe.seed, number=number) for number in range(1, count + 1)]
    found = [cache.of(train.items, view) for view in views]
    for table in found:
        for name, reason in table.failures.items():
            raise UserError(f"the teacher cannot read an item: {reason}", where=name, fix="leave it out, or mend it")
    computed = sum(table.computed for table in found)
    note(
        f"teacher {model.source}: {len(views)} views per item, {computed} computed now; temperature "
        f"{recipe.teacher.temperature:g}, weight {recipe.teacher.weight:g}"
    )
    head = model.module.fc
    return Teacher(
        cache=cache,
        weight=head.weight.detach().cpu().float()[rows],
        bias=head.bias.detach().cpu().float()[rows],
        views=views,
        tables=[table.rows.loaded() for table in found],
    )


def _affordable_views(cache: FeatureCache, train: Dataset, recipe: Recipe, epochs: int | None) -> int:
    """Return the number of views: one per epoch, at most 8, and no more than a share of a time budget pays for."""
    count = min(_MOST_VIEWS, epochs or _MOST_VIEWS)
    if recipe.time is None:
        return count
    seconds_a_view = len(train) * cache.time_an_item(train.items)
    return max(1, min(count, int(_SHARE_OF_TIME * recipe.time / max(1e-9, seconds_a_view))))


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the divergence of the softened outputs ``[N, C]`` from the teacher's, times the squared temperature.

    Source: Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2: the factor keeps the gradients' size as the
    temperature changes.

    >>> logits = Tensor([[2.0, 0.0]])
    >>> float(distillation_loss(logits, logits, 4.0))
    0.0
    """
    student = F.log_softmax(logits / temperature, dim=1)
    target = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(student, target, reduction="batchmean", log_target=True) * temperature**2


def rows_of_classes(model: Model, train: Dataset) -> list[int]:
    """Return the teacher's outputs in the order of the data's classes. Raises UserError if it has others."""
    if not isinstance(model.module, ResNet):
        raise UserError("a teacher is one of restune's own networks", where=f"--teacher {model.source}")
    if model.info.task != "single-label" or train.task != "single-label":
        raise UserError(
            "a teacher is for data with one class per item",
            where=f"--teacher {model.source}", fix="train without it",
        )  # fmt: skip
    if model.preprocess.kind != train.kind:
        raise UserError(
            f"this teacher takes {model.kind.noun}, the data is {kind_of(train.kind).noun}",
            where=f"--teacher {model.source}", fix="name a model of the same kind of data",
        )  # fmt: skip
    missing = [name for name in train.classes if name not in model.classes]
    if missing or len(model.classes) != len(train.classes):
        named = shorten(missing or [name for name in model.classes if name not in train.classes], 3)
        raise UserError(
            f"teacher and data have different classes: {named}", where=f"--teacher {model.source}",
            fix="fine-tune the teacher on this data first",
        )  # fmt: skip
    return [model.classes.index(name) for name in train.classes]
