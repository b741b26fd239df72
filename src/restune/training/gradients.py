"""Gradients of a batch: forward and backward pass, in micro-batches where memory requires it, over all processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from restune.core.console import warn
from restune.core.errors import UserError
from restune.core.streams import torch_seed
from restune.data.batches import TrainingBatch
from restune.data.kinds import kind_of
from restune.data.preprocess import Preprocess
from restune.inference.forward import is_out_of_memory
from restune.networks.custom import Network, device_of
from restune.networks.layout import laid_out
from restune.networks.resnet import ResNet
from restune.networks.seeding import seeded
from restune.training.distributed import World
from restune.training.image_sizes import resized
from restune.training.objective import Objective
from restune.training.recipe import Recipe

Cut = str | int | None
"""Where a forward pass begins: above the frozen layers up to here, or at the network's input (None)."""


OwnAugment = Callable[[Tensor, torch.Generator], Tensor]
"""From a batch of samples (images: uint8 ``[N, C, H, W]``) and a generator to as many samples of the same type."""


class _ForwardFrom(nn.Module):
    """A network whose forward pass may begin at a cut, as one module for DistributedDataParallel."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, mask: Tensor | None, cut: Cut) -> Tensor:
        if cut is None:
            logits: Tensor = self.network(x, mask)
            return logits
        assert isinstance(self.network, ResNet)  # features are cached for no other network
        return self.network.forward_from(x, cut, mask)


@dataclass(frozen=True)
class _Inputs:
    """A batch, or a part of one, on the device.

    Args:
        x: the network's input, or features at the cut, ``[N, ...]``.
        mask: of its valid positions.
        targets: class indices ``[N]`` or class shares ``[N, classes]``.
        teacher: a teacher's logits ``[N, classes]``; None without a teacher.
    """

    x: Tensor
    mask: Tensor | None
    targets: Tensor
    teacher: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, part: slice) -> _Inputs:
        mask, teacher = (None if one is None else one[part] for one in (self.mask, self.teacher))
        return _Inputs(self.x[part], mask, self.targets[part], teacher)


class Gradients:
    """Accumulates gradients of batches in a network's parameters.

    Args:
        network: on its device, in its memory format.
        objective: the training loss.
        preprocess: makes the network's input.
        recipe: precision, memory format, micro-batch and seed.
        world: the processes that train together, each with its part of a batch.
        own_augment: see `OwnAugment`.
    """

    def __init__(
        self,
        network: Network,
        objective: Objective,
        preprocess: Preprocess,
        recipe: Recipe,
        world: World,
        own_augment: OwnAugment | None = None,
    ) -> None:
        self.own_augment = own_augment
        self.network, self.objective, self.preprocess = network, objective, preprocess
        self.recipe, self.world = recipe, world
        self.device = device_of(network)
        self.micro_batch: int | None = None
        self.image_size: int | None = None
        """Side to which training images are resized; None: as they are."""
        if recipe.micro_batch is not None and recipe.micro_batch < len(world.share(range(recipe.batch_size))):
            self.micro_batch = recipe.micro_batch
        self.module = _ForwardFrom(network)
        self.rewrap()

    def rewrap(self) -> None:
        """Wrap the network anew; DistributedDataParallel needs it whenever the trainable parameters change."""
        self.wrapped = self.world.wrapped(self.module)

    def limit_micro_batch(self, size: int | None) -> None:
        """Compute at most `size` items per forward pass; None changes nothing."""
        sizes = [limit for limit in (size, self.micro_batch) if limit is not None]
        self.micro_batch = min(sizes, default=None)

    def add(self, batch: TrainingBatch, earlier: Sequence[TrainingBatch], cut: Cut, *, group: int, last: bool) -> float:
        """Add the gradients of a batch.

        When memory runs out, this batch and the earlier ones are computed again in micro-batches of half the size, as
        are all later batches.

        Args:
            batch: to add.
            earlier: batches accumulated since the last optimiser step.
            cut: where the cached features come from that the batch holds in place of images.
            group: number of batches whose gradients are averaged for one optimiser step.
            last: whether an optimiser step follows; processes then exchange their gradients.

        Returns:
            This process's share of the batch's mean loss.

        Raises:
            UserError: where a single item, or a process's part of a batch, does not fit in memory.
        """
        while True:
            try:
                return self._forward_backward(batch, cut, group, exchange=last)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                size = self.micro_batch or len(batch.items)
                if self.world.size > 1:
                    raise _part_does_not_fit(size) from error
            self._halve(size)
            self.network.zero_grad(set_to_none=True)
            for other in earlier:
                self._forward_backward(other, cut, group, exchange=False)

    @torch.no_grad()
    def forward(self, batch: TrainingBatch) -> None:
        """Run the network on a batch for the sake of its batch-norm statistics, in micro-batches as in training."""
        with self._seeded(batch), self._autocast():
            inputs = self._on_device(batch, None)
            size = self.micro_batch or len(inputs)
            for start in range(0, len(inputs), size):
                part = inputs[start : start + size]
                self.network(part.x, part.mask)

    def _forward_backward(self, batch: TrainingBatch, cut: Cut, group: int, *, exchange: bool) -> float:
        """Add the gradients of a batch. Returns its loss."""
        with self._seeded(batch):
            inputs = self._on_device(batch, cut, self.image_size)
            return self._forward_backward_in_parts(inputs, cut, group, exchange=exchange)

    def _forward_backward_in_parts(self, inputs: _Inputs, cut: Cut, group: int, *, exchange: bool) -> float:
        if self.micro_batch is None and self.world.size == 1:
            return self._backward(inputs, 1.0, cut, group, exchange=exchange)
        total_weight = self.world.sum([self.objective.total_weight(inputs.targets)])[0]
        size = self.micro_batch or len(inputs)
        loss = 0.0
        for start in range(0, len(inputs), size):
            part = inputs[start : start + size]
            share = self.objective.total_weight(part.targets) / total_weight
            is_last = start + size >= len(inputs)
            loss += self._backward(part, share, cut, group, exchange=exchange and is_last)
        return loss

    def _backward(self, inputs: _Inputs, share: float, cut: Cut, group: int, *, exchange: bool) -> float:
        """Forward and backward pass of items that count for a share of their batch. Returns their part of its loss."""
        local = nullcontext() if exchange or self.world.size == 1 else self.wrapped.no_sync()  # type: ignore[operator]
        with local:
            with self._autocast():
                logits = self.wrapped(inputs.x, inputs.mask, cut)
            loss = self.objective.loss(logits, inputs.targets, inputs.teacher) * share
            # DistributedDataParallel averages gradients, but the batch's loss is the sum over processes.
            torch.autograd.backward(loss * self.world.size / group)
        return float(loss.detach())

    def _on_device(self, batch: TrainingBatch, cut: Cut, side: int | None = None) -> _Inputs:
        """Move a batch to the device, and normalise, erase, mix and resize its images; features are used as they are.

        Args:
            batch: on the CPU or the device.
            cut: see `add`.
            side: of the images; None: as they are.
        """
        samples = batch.samples.to(self.device, non_blocking=True)
        targets = batch.targets.to(self.device, non_blocking=True)
        teacher = None if batch.teacher is None else batch.teacher.to(self.device, non_blocking=True)
        if cut is not None:
            return _Inputs(self._laid_out(samples), None, targets, teacher)
        if self.own_augment is not None:
            samples = self._augmented(samples, batch)
        x, mask = self.preprocess.inputs(samples)
        x, targets = self.objective.prepare(x, targets, batch.key)
        if batch.lead:
            x, targets = x[batch.lead :], targets[batch.lead :]
            mask = None if mask is None else mask[batch.lead :]
        return _Inputs(self._laid_out(resized(x, side)), mask, targets, teacher)

    def _augmented(self, samples: Tensor, batch: TrainingBatch) -> Tensor:
        """Apply the caller's own augmentation. Raises UserError for a result of another length or type."""
        assert self.own_augment is not None
        generator = torch.Generator(self.device)
        generator.manual_seed(torch_seed(self.recipe.seed, "own augmentation", batch.key.step, self.world.rank))
        changed = self.own_augment(samples, generator)
        if not isinstance(changed, Tensor) or len(changed) != len(samples) or changed.dtype != samples.dtype:
            what = f"{changed.dtype} {list(changed.shape)}" if isinstance(changed, Tensor) else type(changed).__name__
            raise UserError(
                f"the augmentation returned {what} for {samples.dtype} {list(samples.shape)}",
                where="augment=",
                fix="return as many items, of the same type",
            )
        return changed

    def _laid_out(self, x: Tensor) -> Tensor:
        return laid_out(x, channels_last=self.recipe.memory_format == "channels-last")

    def _halve(self, size: int) -> None:
        """Use micro-batches of half the size from now on, with a warning."""
        if size <= 1:
            raise UserError(
                "there is not enough memory for a single item",
                where=f"{kind_of(self.preprocess.kind).sample_noun} of this size",
                fix="use smaller or shorter ones, or a smaller network",
            )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.micro_batch = -(-size // 2)
        warn(
            f"a batch does not fit in memory: computing it in parts of {self.micro_batch} from now on. An optimiser "
            "step still averages the whole batch, but each batch norm normalises one part at a time"
        )

    def _seeded(self, batch: TrainingBatch) -> AbstractContextManager[None]:
        """Seed torch's own draws (dropout, drop path), so that they depend on seed, step and process only."""
        if not (self._may_draw() or self.own_augment or self.objective.own_loss):
            return nullcontext()
        return seeded(torch_seed(self.recipe.seed, "dropout", batch.key.step, self.world.rank), self.device)

    def _may_draw(self) -> bool:
        """Whether the forward pass may draw random numbers."""
        if not isinstance(self.network, ResNet) or self.network.has_registered_blocks:
            return True
        spec = self.network.spec
        return bool(spec.dropout or spec.drop_path or spec.embedding_dropout)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.recipe.precision != "bf16":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def not_finite(loss: float, batches: Sequence[TrainingBatch], step: int, epoch: int) -> UserError:
    """The error for a loss that is NaN or infinite, with the items of the batches since the last optimiser step."""
    items = [item for batch in batches for item in batch.items]
    names = ", ".join(item.id for item in items[:5])
    return UserError(
        f"the loss became {loss} at step {step}, epoch {epoch}",
        where=f"items {names}, ... ({len(items)} in the batch)",
        fix="lower the learning rate (--lr), clip gradients (--set optimizer.clip_norm=1), or use --precision fp32; "
        "the last good checkpoint remains",
    )


def _part_does_not_fit(size: int) -> UserError:
    return UserError(
        "a process's part of a batch does not fit in memory",
        where="--batch-size",
        fix=f"compute it in micro-batches with --set micro_batch={max(1, size // 2)}, or use a smaller batch",
    )
