"""Freezing: all layers trainable, the head only, or the stages above a cut."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from restune.networks.custom import CustomNetwork, Network


def frozen_modules(network: Network, freeze: str | int) -> list[nn.Module]:
    """The frozen parts under a freezing policy, from the input on; none of a module of one's own."""
    return [] if freeze == "none" or isinstance(network, CustomNetwork) else network.parts_below(freeze)


def apply_freeze(network: Network, freeze: str | int, *, keep_statistics: bool = False) -> None:
    """Put the network in training mode, and its frozen parts in eval mode with ``requires_grad=False``.

    Batch norms of frozen parts use their running statistics and leave them unchanged; with `keep_statistics` so do all
    batch norms. Call it again after each `train()`.
    """
    network.train()
    if not isinstance(network, CustomNetwork):  # whose owner decides which of its parameters are trained
        network.requires_grad_(True)
    if keep_statistics:
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
    for module in frozen_modules(network, freeze):
        module.eval()
        module.requires_grad_(False)


def trainable_parameters(network: Network) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and parameters with ``requires_grad``."""
    return ((name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad)


def stage_of(name: str, stages: int) -> int:
    """The depth of a parameter: 0 for the stem, 1 to `stages` for stages, `stages` + 1 for the head."""
    if name.startswith("layer"):
        return int(name.removeprefix("layer").split(".")[0])
    return stages + 1 if name.startswith(("fc.", "hidden.", "norm.")) else 0
