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
