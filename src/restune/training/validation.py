"""Validation after each epoch: loss and accuracy on the held-out items, decoded once where they fit in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from restune.core.errors import UserError
from restune.core.machine import local_processes, memory_bytes
from restune.data.dataset import Dataset, Item
from restune.data.items import targets_of
from restune.data.loader import read_batches
from restune.data.preload import Preloaded
from restune.data.preprocess import Preprocess
from restune.data.targets import TargetScale
from restune.evaluation.metrics import balanced_scores
from restune.inference.forward import forward
from restune.networks.custom import Network
from restune.networks.layout import laid_out
from restune.networks.resnet import ResNet
from restune.training.distributed import World
from restune.training.feature_batches import FeatureBatches
from restune.training.recipe import Recipe
from restune.training.task_scores import Collected, learnt_values, task_scores

_MAX_BYTES = 2 * 2**30


VAL_SCORES = ("val_loss", "val_accuracy", "val_balanced_accuracy", "val_macro_f1")
"""The names of the scores."""


class Validation:
    """Scores a network on the validation items.

    Args:
        dataset: the validation items.
        preprocess: the network's preprocessing.
        preloaded: images held in memory.
        recipe: source of precision and batch sizes.
        device: device of the network.
        world: the processes among which the items are divided.
        scale: of the training targets of regression.
    """

    def __init__(
        self,
        dataset: Dataset,
        preprocess: Preprocess,
        preloaded: Preloaded,
        recipe: Recipe,
        device: torch.device,
        world: World,
        scale: TargetScale | None = None,
    ) -> None:
        self.dataset, self.scale = dataset, scale
        self.values = learnt_values(dataset, scale)
        self.preprocess, self.preloaded, self.world = preprocess, preloaded, world
        self.recipe, self.device = recipe, device
        self.total = len(dataset)
        self.mine = world.share(range(self.total))
        self.items = dataset.items[self.mine.start : self.mine.stop]
        self.kept: list[tuple[Tensor, Tensor]] | None = []
        self.most = min(_MAX_BYTES, memory_bytes() / 8 / local_processes())

    def __call__(self, network: Network, cached: FeatureBatches | None = None) -> dict[str, float]:
        """Return `VAL_SCORES` (the loss is cross-entropy) and ``n``, the number of items; no score of zero items.

        Of other tasks the scores are `TASK_SCORES`.

        Raises UserError for an item that cannot be read after several attempts.

        Args:
            network: set to eval mode and left so.
            cached: activations of frozen layers for these items, if cached.
        """
        if self.dataset.task != "single-label":
            return self._task_scores(network, cached)
        network.eval()
        loss, classes = 0.0, network.spec.num_classes
        counts = torch.zeros(3, classes, dtype=torch.int64)  # predicted right, items, predicted as the class
        channels_last = self.recipe.memory_format == "channels-last"
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.recipe.precision == "bf16"),
        ):
            known = cached if cached is not None and cached.val is not None else None
            for samples, targets in self._features(known) if known else self._batches():
                logits = self._logits(network, samples.to(self.device), known, channels_last)
                targets = targets.to(self.device)
                loss += float(F.cross_entropy(logits, targets, reduction="sum"))
                predicted = logits.argmax(1)
                for row, of_class in enumerate((targets[predicted == targets], targets, predicted)):
                    counts[row] += torch.bincount(of_class, minlength=classes).cpu()
        loss, *flat = self.world.sum([loss, *map(float, counts.flatten().tolist())])
        hits, actual, guessed = np.array(flat).reshape(3, classes).astype(np.int64)
        total = int(actual.sum())
        assert total == self.total, "every validation item counts once"
        if not total:
            return {"n": 0}
        balanced, macro_f1 = balanced_scores(hits, actual, guessed)
        return {
            "val_loss": loss / total,
            "val_accuracy": int(hits.sum()) / total,
            "val_balanced_accuracy": balanced,
            "val_macro_f1": macro_f1,
            "n": total,
        }

    def _task_scores(self, network: Network, cached: FeatureBatches | None) -> dict[str, float]:
        """Return the scores of multi-label data or regression: they need the outputs of all items at once."""
        network.eval()
        collected = Collected(self.total, network.spec.num_classes)
        channels_last, start = self.recipe.memory_format == "channels-last", self.mine.start
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.recipe.precision == "bf16"),
        ):
            known = cached if cached is not None and cached.val is not None else None
            for samples, targets in self._features(known) if known else self._batches():
                collected.put(start, self._logits(network, samples.to(self.device), known, channels_last), targets)
                start += len(targets)
        if not self.total:
            return {"n": 0}
        outputs, targets = collected.halves(self.world.sum(collected.rows.flatten().tolist()))
        scores = task_scores(self.dataset.task, self.recipe.loss, outputs, targets, self.scale)
        return {**scores, "n": self.total}

    def _targets(self, items: Sequence[Item]) -> Tensor:
        rows = targets_of(items)
        return torch.from_numpy(rows.astype(np.int64) if self.values is None else self.values[rows])

    def _logits(self, network: Network, samples: Tensor, known: FeatureBatches | None, channels_last: bool) -> Tensor:
        if known is not None:
            assert isinstance(network, ResNet)  # features are cached for no other network
            return network.forward_from(laid_out(samples, channels_last=channels_last), known.cut).float()
        return forward(network, self.preprocess, samples, channels_last=channels_last)

    def _features(self, cached: FeatureBatches) -> Iterator[tuple[Tensor, Tensor]]:
        size = self.recipe.micro_batch or max(64, self.recipe.batch_size)
        for start in range(0, len(self.items), size):
            assert cached.val is not None
            stop = min(start + size, len(self.items))
            yield cached.val[self.mine.start + start : self.mine.start + stop], self._targets(self.items[start:stop])

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.kept:
            yield from self.kept
            return
        kept: list[tuple[Tensor, Tensor]] | None = None if self.kept is None else []
        held = 0
        for batch in self._read():
            held += batch[0].nbytes
            if kept is not None and held <= self.most:
                kept.append(batch)
            else:
                kept = None
            yield batch
        self.kept = kept

    def _read(self) -> Iterator[tuple[Tensor, Tensor]]:
        items, size = self.items, self.recipe.micro_batch or max(64, self.recipe.batch_size)
        # Inference does not apply store_size, so validation does not either.
        if self.recipe.store_size is None and self.preloaded.kept.holds(items):
            for start in range(0, len(items), size):
                part = items[start : start + size]
                views = [self.preloaded.inference_view(item, self.preprocess) for item in part]
                yield self.preprocess.stack([view for view in views if view is not None]), self._targets(part)
            return
        for batch in read_batches(items, self.preprocess, batch_size=size, workers=self.recipe.workers, retry=True):
            for position, reason in batch.failures.items():
                raise lost_item(batch.items[position].id, reason)
            assert batch.samples is not None
            yield batch.samples[:, 0], self._targets(batch.items)


def lost_item(name: str, reason: str) -> UserError:
    """The error for an item of a run that could be read before and cannot be now."""
    return UserError(
        f"an item that could be read before cannot be now: {reason}",
        where=name,
        fix="restore it; the run goes on from its last checkpoint with --resume",
    )
