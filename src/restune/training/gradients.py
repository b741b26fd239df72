"""From a batch to gradients: forward and back, in parts where memory does not suffice, with other processes' parts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from restune.core.console import warn
from restune.core.errors import UserError
from restune.core.streams import torch_seed
from restune.data.batches import TrainingBatch
from restune.data.preprocess import SAMPLE_NOUNS, Preprocess
from restune.networks.layout import laid_out
from restune.networks.resnet import ResNet
from restune.networks.seeding import seeded
from restune.training.distributed import World
from restune.training.objective import Objective
from restune.training.recipe import Recipe


class _Above(nn.Module):
    """The part of a network above a cut; without one, all of it."""

    def __init__(self, network: ResNet) -> None:
        super().__init__()
        self.network = network
        self.cut: str | int | None = None

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        logits: Tensor = self.network(x, mask) if self.cut is None else self.network.forward_from(x, self.cut, mask)
        return logits


class Gradients:
    """Adds gradients of batches to a network's parameters.

    Args:
        network: on its device, in its memory format.
        objective: what is to become smaller.
        preprocess: the network's input.
        recipe: precision, memory format, accumulation and seed.
        world: the processes that train together, each with its part of a batch.
    """

    def __init__(
        self, network: ResNet, objective: Objective, preprocess: Preprocess, recipe: Recipe, world: World
    ) -> None:
        self.network, self.objective, self.preprocess = network, objective, preprocess
        self.recipe, self.world = recipe, world
        self.device = network.fc.weight.device
        part = len(world.share(range(recipe.batch_size)))
        small = recipe.micro_batch is not None and recipe.micro_batch < part
        self.micro_batch: int | None = recipe.micro_batch if small else None
        self.path = _Above(network)
        self.group = 1
        self.renew()

    def renew(self) -> None:
        """Take notice of other layers that learn."""
        self.engine = self.world.wrapped(self.path)

    def add(
        self, batch: TrainingBatch, earlier: Sequence[TrainingBatch], cut: str | int | None, *, group: int, last: bool
    ) -> float:
        """Add a batch's gradients. Returns this process's share of the batch's mean loss.

        Where memory does not suffice, the batch, and the earlier ones whose gradients it would join, are computed
        again in parts, as all others are from then on.

        Args:
            earlier: batches since the last step of the optimiser.
            cut: where the frozen layers end whose features the batch holds in the place of images.
            group: batches that are averaged for a step.
            last: whether the optimiser steps next, and processes exchange what they gathered.
        """
        self.path.cut, self.group = cut, group
        while True:
            try:
                return self._forward_and_back(batch, exchange=last)
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                if self.world.size > 1:
                    size = max(1, (self.micro_batch or len(batch.items)) // 2)
                    raise UserError(
                        "a process's part of a batch does not fit in memory",
                        where="--batch-size",
                        fix=f"compute it in parts with --set micro_batch={size}, or use a smaller batch",
                    ) from error
            self._halve(self.micro_batch or len(batch.items))
            for parameter in self.network.parameters():
                parameter.grad = None
            for other in earlier:
                self._forward_and_back(other, exchange=False)

    def _forward_and_back(self, batch: TrainingBatch, *, exchange: bool) -> float:
        with self._seeded(batch):
            return self._forward_and_back_in_parts(batch, exchange=exchange)

    def _forward_and_back_in_parts(self, batch: TrainingBatch, *, exchange: bool) -> float:
        x, mask, targets = self._on_device(batch)
        if self.micro_batch is None and self.world.size == 1:
            return self._part(x, mask, targets, 1.0, exchange=exchange)
        whole = self.world.sum([self.objective.mass(targets)])[0]
        size = self.micro_batch or len(x)
        loss = 0.0
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            share = self.objective.mass(targets[part]) / whole
            known = None if mask is None else mask[part]
            loss += self._part(x[part], known, targets[part], share, exchange=exchange and start + size >= len(x))
        return loss

    def _part(self, x: Tensor, mask: Tensor | None, targets: Tensor, share: float, *, exchange: bool) -> float:
        """Add the gradients of some items, which count for a share of the batch; their part of its loss."""
        silent = nullcontext() if exchange or self.world.size == 1 else self.engine.no_sync()  # type: ignore[operator]
        with silent:
            with self._autocast():
                logits = self.engine(x, mask)
            loss = self.objective.loss(logits, targets) * share
            # DistributedDataParallel averages gradients where the batch's loss is a sum over processes.
            torch.autograd.backward(loss * self.world.size / self.group)
        return float(loss.detach())

    def _on_device(self, batch: TrainingBatch) -> tuple[Tensor, Tensor | None, Tensor]:
        """Input, or what the frozen layers said of it, its mask, and targets, as the network will see them."""
        samples = batch.samples.to(self.device, non_blocking=True)
        targets = batch.targets.to(self.device, non_blocking=True)
        if self.path.cut is not None:
            return self._laid_out(samples), None, targets
        x, mask = self.preprocess.inputs(samples)
        x, targets = self.objective.prepare(x, targets, batch.key)
        if batch.lead:
            x, targets = x[batch.lead :], targets[batch.lead :]
            mask = None if mask is None else mask[batch.lead :]
        return self._laid_out(x), mask, targets

    def _laid_out(self, x: Tensor) -> Tensor:
        return laid_out(x, channels_last=self.recipe.memory_format == "channels-last")

    def _halve(self, size: int) -> None:
        if size <= 1:
            raise UserError(
                "there is not enough memory for a single item",
                where=f"{SAMPLE_NOUNS[self.preprocess.kind]} of this size",
                fix="use smaller or shorter ones, or a smaller network",
            )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.micro_batch = -(-size // 2)
        warn(
            f"a batch does not fit in memory: it is computed in parts of {self.micro_batch} from now on; a step still "
            "sees the whole batch, but each batch norm only one part at a time"
        )

    def _seeded(self, batch: TrainingBatch) -> AbstractContextManager[None]:
        """What torch draws itself (dropout, drop path) depends on the seed, the step and the process, not on the
        past."""
        spec = self.network.spec
        if not (spec.dropout or spec.drop_path or spec.embedding_dropout):
            return nullcontext()
        return seeded(torch_seed(self.recipe.seed, "dropout", batch.key.step, self.world.rank), self.device)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.recipe.precision != "bf16":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
