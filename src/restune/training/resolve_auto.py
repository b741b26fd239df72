"""Resolve automatic settings (device, precision, layout, threads, compile) from machine facts, with reasons."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from restune.core.errors import UserError
from restune.core.machine import cpu_count, has_fast_bf16, local_processes
from restune.networks.custom import CustomSpec
from restune.networks.spec import ResNetSpec
from restune.training.compile_gains import known_compile_gain
from restune.training.recipe import Recipe


@dataclass(frozen=True)
class Decision:
    """One setting, its value, and why."""

    key: str
    value: object
    reason: str


def resolve_auto(recipe: Recipe, device: torch.device, dims: int = 2) -> tuple[Recipe, list[Decision]]:
    """Resolve every ``auto`` and the unset threads and workers; return the recipe and the decisions.

    Args:
        recipe: the recipe to resolve.
        device: device to compute on.
        dims: the network's dimensions.

    Raises UserError for bf16 with three-dimensional convolutions on a CPU.
    """
    decisions: list[Decision] = []
    broken = dims == 3 and device.type == "cpu"
    if broken and recipe.precision == "bf16":
        raise UserError(
            "three-dimensional convolutions have wrong bf16 gradients on CPUs",
            where="--precision bf16",
            fix="leave it out to train in float32",
        )

    def settle(key: str, value: object, reason: str) -> None:
        decisions.append(Decision(key, value, reason))

    settle("device", device.type, "as requested" if recipe.device != "auto" else "the fastest available")
    if recipe.precision == "auto":
        if device.type == "cuda":
            fast, where = torch.cuda.is_bf16_supported(including_emulation=False), "this GPU"
        else:
            fast, where = has_fast_bf16() and not broken, "this processor"
        reason = f"{where} multiplies bf16 {'in hardware' if fast else 'in emulation only, tens of times slower'}"
        if broken:  # oneDNN's weight gradients of small feature maps read uninitialised memory
            reason = "three-dimensional convolutions have wrong bf16 gradients on CPUs"
        settle("precision", "bf16" if fast else "fp32", reason)
    if recipe.memory_format == "auto":
        if device.type == "cuda":
            settle("memory_format", "channels-last", "tensor cores read it without a transpose")
        else:
            settle("memory_format", "channels-last", "oneDNN's convolutions read and write it without reordering")
    processes = local_processes()
    cores = max(1, cpu_count() // processes)
    reason = "one per core" if processes == 1 else f"this machine's cores divided by its {processes} processes"
    if recipe.threads is None:
        settle("threads", cores, reason)
    if recipe.workers is None:
        settle("workers", min(cores, 8), reason)
    settled = {decision.key: decision.value for decision in decisions}
    return recipe.changed(settled), decisions


_COMPILING_PAYS = 1.05
"""Least measured speed-up for which a run compiles."""


def resolve_compile(
    recipe: Recipe, spec: ResNetSpec | CustomSpec, shape: tuple[int, ...], device: torch.device
) -> tuple[Recipe, Decision | None]:
    """Resolve `compile` for a network and batch shape: yes only if ``restune bench --compile`` measured a speed-up for
    them on this machine."""
    if recipe.compile != "auto":
        return recipe, None
    gain = known_compile_gain(spec, shape, recipe.precision, device)
    if gain is None:
        decision = Decision("compile", "no", "not measured on this machine; restune bench NAME --compile measures it")
    else:
        pays = gain >= _COMPILING_PAYS
        decision = Decision("compile", "yes" if pays else "no", f"measured {gain:.2f} times as fast on this machine")
    return recipe.changed({"compile": decision.value}), decision


_STEPS_AN_EPOCH = 16
"""Steps per epoch that a batch size lowered for few items aims at."""
_LEAST_BATCH = 16
"""Batch size below which batch-norm statistics of a batch become too noisy."""


def resolve_batch_size(recipe: Recipe, items: int, *, for_steps: bool) -> Decision | None:
    """Lower the recipe's batch size for few training items; None leaves it.

    Args:
        recipe: with a batch size that was not requested.
        items: number of training items.
        for_steps: whether it may be lowered for more steps per epoch: in training from scratch by a default recipe
            whose length is a number of epochs. Few epochs of few items would else be too few steps to learn anything.
            Otherwise it is lowered, to a quarter of the items, only where there are fewer items than that.
    """
    if items < recipe.batch_size:
        return Decision("batch_size", max(1, items // 4), f"there are {items} training items")
    size = max(_LEAST_BATCH, items // _STEPS_AN_EPOCH)
    if not for_steps or recipe.epochs is None or size >= recipe.batch_size:
        return None
    steps, usual = items // size, items // recipe.batch_size
    reason = f"{items:,} training items are {steps} steps per epoch, rather than {usual} of {recipe.batch_size} items"
    return Decision("batch_size", size, reason)


_FEW_VIEWS = 50_000
_SHORT_TIME = 300.0
"""Training images, or seconds, up to which a run is too short to profit from strong augmentation."""


def resolve_policy(recipe: Recipe, items: int) -> Decision | None:
    """Resolve the augmentation policy ``auto``: TrivialAugment (Müller and Hutter 2021) needs many epochs to pay.

    Args:
        recipe: the recipe.
        items: labelled items, before they are split.
    """
    if recipe.augment.policy != "auto":
        return None
    if recipe.time is not None:
        is_short, length = recipe.time <= _SHORT_TIME, f"{recipe.time:,.0f} s"
    else:
        views = recipe.epochs * items if recipe.epochs is not None else (recipe.steps or 0) * recipe.batch_size
        is_short, length = views <= _FEW_VIEWS, f"about {views:,} training images"
    if is_short:
        return Decision("augment.policy", "none", f"{length}: too short a run to profit from TrivialAugment")
    return Decision("augment.policy", "trivial", f"{length}: long enough to profit from TrivialAugment")


_FEW_STEPS = 100
"""Steps per epoch up to which running averages of batch-norm statistics lag behind the weights."""
_NORM_ITEMS = 128
"""Items over which they are estimated anew."""


def resolve_norm_batches(recipe: Recipe, items: int, *, from_scratch: bool) -> Decision | None:
    """Decide over how many training batches batch-norm statistics are estimated anew before each validation; None
    where the recipe says so itself.

    Training from scratch changes the weights fast, and validation after a few steps meets running averages of weights
    long gone. Weights that are fine-tuned start from statistics that fit, and change slowly.
    """
    if recipe.norm_batches is not None:
        return None
    steps = items // recipe.batch_size
    if not from_scratch:
        return Decision("norm_batches", 0, "pretrained weights begin with statistics that fit them")
    if steps > _FEW_STEPS:
        return Decision("norm_batches", 0, f"running batch-norm statistics keep up in {steps:,} steps per epoch")
    count = max(1, min(steps, -(-_NORM_ITEMS // recipe.batch_size)))
    return Decision(
        "norm_batches", count, f"running batch-norm statistics lag behind in {steps} steps per epoch: each validation "
        f"estimates them anew over {count} training batches",
    )  # fmt: skip
