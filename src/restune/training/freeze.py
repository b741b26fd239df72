"""Which layers learn: everything, the head only, or what stands above a stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from restune.core.errors import UserError
from restune.networks.resnet import ResNet


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of a run with one set of learning layers.

    Args:
        freeze: ``all`` (only the head learns), ``none``, or K: the stem and stages 1 to K stay as they are.
        share: of the run's epochs.
        lr_scale: multiplies the peak learning rate.
    """

    freeze: str | int
    share: float = 1.0
    lr_scale: float = 1.0


_FIRST = 0.25
"""Share of a run in which stages thaw one after another."""


def plan_phases(freeze: str | int, stages: int, *, head_is_solved: bool = True) -> list[Phase]:
    """The phases of a run. ``auto`` thaws stage after stage from the top, the stem with the last (Howard and Ruder
    2018), once the head fits (why: Kumar et al. 2022). Most of the run is for all layers together. Raises UserError for
    a stage that is not there."""
    if freeze == "auto":
        cuts: list[str | int] = [*([] if head_is_solved else ["all"]), *range(stages - 1, 0, -1)]
        first = [Phase(freeze=cut, share=_FIRST / len(cuts), lr_scale=1.0 if cut == "all" else 0.3) for cut in cuts]
        return [*first, Phase(freeze="none", share=1.0 if not cuts else 1 - _FIRST)]
    if isinstance(freeze, int) and not 0 <= freeze <= stages:
        raise UserError(
            f"this network has stages 1 to {stages}",
            where=f"--freeze {freeze}",
            fix="0 freezes the stem alone, all everything but the head",
        )
    return [Phase(freeze=freeze)]


def frozen_modules(network: ResNet, freeze: str | int) -> list[nn.Module]:
    """The parts that do not learn, from the input on."""
    return [] if freeze == "none" else network.parts_below(freeze)


def apply_freeze(network: ResNet, freeze: str | int, *, keep_statistics: bool = False) -> None:
    """Put the network in training mode with the frozen parts in eval mode and out of autograd's reach.

    Batch norms of frozen parts, and with `keep_statistics` all of them, use and keep the statistics they came with.
    Call it again after each `train()`.
    """
    network.train()
    network.requires_grad_(True)
    if keep_statistics:
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
    for module in frozen_modules(network, freeze):
        module.eval()
        module.requires_grad_(False)


def learning_parameters(network: ResNet) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and parameters that learn."""
    return ((name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad)


def stage_of(name: str, stages: int) -> int:
    """How far from the input a parameter is: 0 for the stem, 1.. for stages, the number of stages + 1 for the head."""
    if name.startswith("layer"):
        return int(name.removeprefix("layer").split(".")[0])
    return stages + 1 if name.startswith(("fc.", "hidden.", "norm.")) else 0
