"""What changes numbers or speed, decided before the first step from machine facts, and said with its reason."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from restune.core.errors import UserError
from restune.core.machine import cpu_count, has_fast_bf16, local_processes
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
    """The recipe with every ``auto`` and every open number settled; what was settled, for the screen.

    Args:
        dims: of the network. Raises UserError for bf16 on a processor in three dimensions.
    """
    made: list[Decision] = []
    broken = dims == 3 and device.type == "cpu"
    if broken and recipe.precision == "bf16":
        raise UserError(
            "this processor's library multiplies bf16 wrongly in three dimensions",
            where="--precision bf16",
            fix="leave it out: float32 is taken",
        )

    def settle(key: str, value: object, reason: str) -> None:
        made.append(Decision(key, value, reason))

    settle("device", device.type, "asked for" if recipe.device != "auto" else "the fastest here")
    if recipe.precision == "auto":
        if device.type == "cuda":
            fast, where = torch.cuda.is_bf16_supported(including_emulation=False), "this GPU"
        else:
            fast, where = has_fast_bf16() and not broken, "this processor"
        reason = f"{where} multiplies bf16 {'in hardware' if fast else 'in emulation only, tens of times slower'}"
        if broken:  # oneDNN's weight gradients of small maps read memory that nothing was written to
            reason = "bf16 gradients of three-dimensional convolutions come out wrong on processors"
        settle("precision", "bf16" if fast else "fp32", reason)
    if recipe.memory_format == "auto":
        if device.type == "cuda":
            settle("memory_format", "channels-last", "tensor cores read it without a transpose")
        else:
            settle("memory_format", "channels-last", "oneDNN's convolutions read and write it without reordering")
    processes = local_processes()
    cores, reason = max(1, cpu_count() // processes), "one a core" if processes == 1 else "the cores, shared out"
    if recipe.threads is None:
        settle("threads", cores, reason)
    if recipe.workers is None:
        settle("workers", min(cores, 8), reason)
    settled = {decision.key: decision.value for decision in made}
    return recipe.changed(settled), made


_COMPILING_PAYS = 1.05
"""How many times faster remembered steps must be."""


def resolve_compile(
    recipe: Recipe, spec: ResNetSpec, shape: tuple[int, ...], device: torch.device
) -> tuple[Recipe, Decision | None]:
    """The recipe with `compile` settled, once the network and its batches are known: yes only where steps were measured
    to be faster so, by ``restune bench --compile`` on this machine."""
    if recipe.compile != "auto":
        return recipe, None
    gain = known_compile_gain(spec, shape, recipe.precision, device)
    if gain is None:
        made = Decision("compile", "no", "not measured here; restune bench NAME --compile does that")
    else:
        pays = gain >= _COMPILING_PAYS
        made = Decision("compile", "yes" if pays else "no", f"measured here as {gain:.2f} times as fast")
    return recipe.changed({"compile": made.value}), made
