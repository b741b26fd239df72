"""What training makes smaller: the loss, with all that changes its targets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from restune.data.augment import RandomKey, erase, mix
from restune.training.recipe import Recipe


class Objective:
    """The loss of a recipe: cross-entropy or binary cross-entropy, label smoothing, class weights, mixing.

    Args:
        recipe: what is on.
        class_counts: training items a class; balanced weights are ``n / (classes * count)``, as scikit-learn's.
        device: where targets are.
    """

    def __init__(self, recipe: Recipe, class_counts: Sequence[int], device: torch.device) -> None:
        self.recipe = recipe
        self.classes = len(class_counts)
        self.weights: Tensor | None = None
        if recipe.class_weights == "balanced":
            self.weights = balanced_weights(class_counts).to(device)

    def prepare(self, images: Tensor, targets: Tensor, key: RandomKey) -> tuple[Tensor, Tensor]:
        """Normalised images ``[N, C, H, W]`` and class indices ``[N]`` as the network and the loss will see them."""
        if self.recipe.augment.erase:
            images = erase(images, self.recipe.augment.erase, key)
        if self.recipe.mixup or self.recipe.cutmix:
            shares = F.one_hot(targets, self.classes).float()
            return mix(images, shares, mixup=self.recipe.mixup, cutmix=self.recipe.cutmix, key=key)
        return images, targets

    def mass(self, targets: Tensor) -> float:
        """What items weigh in the mean that `loss` takes: a batch's loss is its parts' by their share of mass."""
        if self.weights is None or targets.is_floating_point() or self.recipe.loss != "cross-entropy":
            return float(len(targets))
        return float(self.weights[targets].sum())

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """A number to make smaller, from logits ``[N, classes]`` and targets ``[N]`` or shares ``[N, classes]``."""
        logits = logits.float()
        smoothing = self.recipe.label_smoothing
        if self.recipe.loss == "cross-entropy":
            return F.cross_entropy(logits, targets, weight=self.weights, label_smoothing=smoothing)
        shares = targets if targets.is_floating_point() else F.one_hot(targets, self.classes).float()
        shares = shares * (1 - smoothing) + smoothing / self.classes
        return F.binary_cross_entropy_with_logits(logits, shares, weight=self.weights)


def balanced_weights(class_counts: Sequence[int]) -> Tensor:
    """``n / (classes * count)`` for each class."""
    counts = torch.tensor(class_counts, dtype=torch.float32).clamp_min(1)
    return counts.sum() / (len(class_counts) * counts)
