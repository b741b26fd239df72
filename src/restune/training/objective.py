"""The training loss: label smoothing, class weights, mixup, cutmix and random erasing included."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from restune.core.errors import UserError
from restune.data.augment import RandomKey, erase, mix
from restune.training.recipe import Recipe
from restune.training.teacher import distillation_loss

OwnLoss = Callable[[Tensor, Tensor], Tensor]


class Objective:
    """The training loss of a recipe: cross-entropy or binary cross-entropy; of regression, Huber or squared error.

    Args:
        recipe: the loss, its label smoothing and class weights, mixup, cutmix and erasing.
        class_counts: training items per class; balanced weights are ``n / (classes * count)``, as scikit-learn's.
        device: of the targets.
        task: of the data. Targets of single-label data are class indices ``[N]``, of multi-label data 0 or 1, of
            regression numbers of mean 0 and deviation 1, both ``[N, classes]``.
        own_loss: from float32 logits ``[N, classes]`` and targets (as those of `loss`) to a scalar, the mean over the
            items, or to one value per item ``[N]``; in place of the recipe's loss.
    """

    def __init__(
        self,
        recipe: Recipe,
        class_counts: Sequence[int],
        device: torch.device,
        own_loss: OwnLoss | None = None,
        task: str = "single-label",
    ) -> None:
        self.recipe, self.own_loss, self.task = recipe, own_loss, task
        self.classes = len(class_counts)
        self.weights: Tensor | None = None
        if recipe.class_weights == "balanced":
            self.weights = balanced_weights(class_counts).to(device)

    def prepare(self, images: Tensor, targets: Tensor, key: RandomKey) -> tuple[Tensor, Tensor]:
        """Erase and mix a batch.

        Args:
            images: normalised, ``[N, C, H, W]``.
            targets: class indices ``[N]``, or target values ``[N, classes]``.
            key: of the random numbers.

        Returns:
            Images, and class indices ``[N]`` or, where images are mixed, class shares ``[N, classes]``.
        """
        if self.recipe.augment.erase:
            images = erase(images, self.recipe.augment.erase, key)
        if self.recipe.mixup or self.recipe.cutmix:
            shares = targets if targets.is_floating_point() else F.one_hot(targets, self.classes).float()
            return mix(images, shares, mixup=self.recipe.mixup, cutmix=self.recipe.cutmix, key=key)
        return images, targets

    def total_weight(self, targets: Tensor) -> float:
        """The divisor of `loss`'s mean: parts of a batch count by their share of the batch's total weight."""
        if self.weights is None or targets.is_floating_point() or self.recipe.loss != "cross-entropy":
            return float(len(targets))
        return float(self.weights[targets].sum())

    def loss(self, logits: Tensor, targets: Tensor, teacher: Tensor | None = None) -> Tensor:
        """The mean loss of logits ``[N, classes]`` against class indices ``[N]`` or class shares ``[N, classes]``.

        Args:
            teacher: a teacher's logits ``[N, classes]``, whose term has the recipe's share.
        """
        logits = logits.float()
        if teacher is not None:
            share, temperature = self.recipe.teacher.weight, self.recipe.teacher.temperature
            return (1 - share) * self.loss(logits, targets) + share * distillation_loss(logits, teacher, temperature)
        if self.own_loss is not None:
            return _mean_of(self.own_loss(logits, targets), len(logits))
        smoothing = self.recipe.label_smoothing
        if self.task != "single-label":
            return task_loss(logits, targets, self.recipe.loss, smoothing)
        if self.recipe.loss == "cross-entropy":
            return F.cross_entropy(logits, targets, weight=self.weights, label_smoothing=smoothing)
        shares = targets if targets.is_floating_point() else F.one_hot(targets, self.classes).float()
        shares = shares * (1 - smoothing) + smoothing / self.classes
        return F.binary_cross_entropy_with_logits(logits, shares, weight=self.weights)


def task_loss(outputs: Tensor, targets: Tensor, loss: str, smoothing: float = 0.0) -> Tensor:
    """Return the mean loss of multi-label data or regression, over items and outputs.

    Args:
        outputs, targets: ``[N, C]``; targets are 0 or 1 (or shares, where items are mixed), or numbers of mean 0 and
            deviation 1.
        loss: ``binary-cross-entropy``, ``huber`` (Huber 1964, linear from an error of one deviation on) or
            ``squared-error``.
        smoothing: draws labels toward 0.5.
    """
    if loss == "huber":
        return F.huber_loss(outputs, targets)
    if loss == "squared-error":
        return F.mse_loss(outputs, targets)
    return F.binary_cross_entropy_with_logits(outputs, targets * (1 - smoothing) + smoothing / 2)


def _mean_of(loss: object, items: int) -> Tensor:
    """Return the mean of a loss function's result. Raises UserError for one that is neither a scalar nor per item."""
    if isinstance(loss, Tensor) and list(loss.shape) in ([], [items]):
        return loss.mean()
    what = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
    raise UserError(
        f"the loss function returned {what}",
        where="loss=",
        fix=f"return a scalar tensor, or one value per item: shape [{items}] for this batch",
    )


def balanced_weights(class_counts: Sequence[int]) -> Tensor:
    """``n / (classes * count)`` for each class."""
    counts = torch.tensor(class_counts, dtype=torch.float32).clamp_min(1)
    return counts.sum() / (len(class_counts) * counts)
