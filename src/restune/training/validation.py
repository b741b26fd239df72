"""Validation after each epoch: loss and accuracy on the held-out items, decoded once where they fit in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from restune.data.dataset import Dataset, Item
from restune.data.loader import read_batches
from restune.data.preprocess import ImagePreprocess
from restune.data.survey import Survey
from restune.networks.resnet import ResNet
from restune.training.cached import CachedBatches
from restune.training.distributed import World
from restune.training.recipe import Recipe

_MAX_BYTES = 2 * 2**30


class Validation:
    """Measures a network on items.

    Args:
        dataset: the items.
        preprocess: the network's input.
        survey: holds the pixels that are in memory.
        recipe: its precision and batch size.
        device: where the network is.
        world: the processes that share the items, each of which is measured by one of them.
    """

    def __init__(
        self,
        dataset: Dataset,
        preprocess: ImagePreprocess,
        survey: Survey,
        recipe: Recipe,
        device: torch.device,
        world: World,
    ) -> None:
        self.preprocess, self.survey, self.world = preprocess, survey, world
        self.recipe, self.device = recipe, device
        self.mine = world.share(range(len(dataset)))
        self.items = dataset.items[self.mine.start : self.mine.stop]
        size = preprocess.channels * preprocess.crop**2 * len(self.items)
        self.kept: list[tuple[Tensor, Tensor]] | None = [] if size <= _MAX_BYTES else None

    def __call__(self, network: ResNet, cached: CachedBatches | None = None) -> dict[str, float]:
        """``val_loss`` (cross-entropy) and ``val_accuracy`` over the ``n`` items that can be read.

        Args:
            network: may be left in eval mode.
            cached: where these items' features under a frozen part are known.
        """
        network.eval()
        loss, correct, count = 0.0, 0, 0
        channels_last = self.recipe.memory_format == "channels-last"
        layout = torch.channels_last if channels_last else torch.contiguous_format
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.recipe.precision == "bf16"),
        ):
            known = cached if cached is not None and cached.val is not None else None
            for images, targets in self._features(known) if known else self._batches():
                x = images.to(self.device)
                x = (x if known else self.preprocess.normalize(x)).contiguous(memory_format=_fitting(layout, x))
                logits = (network.run_above(x, known.cut) if known else network(x)).float()
                targets = targets.to(self.device)
                loss += float(F.cross_entropy(logits, targets, reduction="sum"))
                correct += int((logits.argmax(1) == targets).sum())
                count += len(targets)
        loss, right, total = self.world.sum([loss, correct, count])
        return {"val_loss": loss / max(1, total), "val_accuracy": right / max(1, total), "n": total}

    def _features(self, cached: CachedBatches) -> Iterator[tuple[Tensor, Tensor]]:
        size = self.recipe.micro_batch or max(64, self.recipe.batch_size)
        for start in range(0, len(self.items), size):
            assert cached.val is not None
            stop = min(start + size, len(self.items))
            yield cached.val[self.mine.start + start : self.mine.start + stop], _targets(self.items[start:stop])

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.kept:
            yield from self.kept
            return
        for batch in self._read():
            if self.kept is not None:
                self.kept.append(batch)
            yield batch

    def _read(self) -> Iterator[tuple[Tensor, Tensor]]:
        items, size = self.items, self.recipe.micro_batch or max(64, self.recipe.batch_size)
        # Deployment knows no store_size, so neither does validation.
        if self.recipe.store_size is None and all(item.id in self.survey.pixels for item in items):
            for start in range(0, len(items), size):
                part = items[start : start + size]
                views = [self.survey.inference_view(item, self.preprocess) for item in part]
                yield torch.stack([view for view in views if view is not None]), _targets(part)
            return
        for batch in read_batches(items, self.preprocess, batch_size=size, workers=self.recipe.workers):
            if batch.pixels is not None:
                yield batch.pixels, _targets(batch.readable())


def _fitting(layout: torch.memory_format, x: Tensor) -> torch.memory_format:
    """The layout for images and maps; pooled features have no other than their own."""
    return layout if x.ndim == 4 else torch.contiguous_format


def _targets(items: Sequence[Item]) -> Tensor:
    return torch.tensor([item.target for item in items])
