"""Remove or swap blocks of a network for the length of a with block (Veit et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from restune.networks.blocks import Block
from restune.networks.layers import PadShortcut, run_layers
from restune.networks.resnet import ResNet, plan_stages


def named_blocks(network: ResNet) -> dict[str, Block]:
    """Return the blocks in order, by their names in the network, such as ``layer2.0``."""
    return {name: module for name, module in network.named_modules() if isinstance(module, Block)}


@contextmanager
def removed(*blocks: Block) -> Iterator[None]:
    """Replace blocks by their shortcuts: the branch is left out of the sum.

    A block of a plain network has no shortcut. It is replaced by the identity, or, where shapes change, by option A:
    every stride-th position, and zeros for channels that the input lacks.
    """
    for block in blocks:
        block.add_shortcut = partial(_shortcut_alone, block)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for block in blocks:
            del block.add_shortcut  # the class's method shows again


@contextmanager
def swapped(network: ResNet, first: str, second: str) -> Iterator[None]:
    """Exchange two blocks, by name."""
    one, two = network.get_submodule(first), network.get_submodule(second)
    network.set_submodule(first, two)
    network.set_submodule(second, one)
    try:
        yield
    finally:
        network.set_submodule(first, one)
        network.set_submodule(second, two)


def neighbours(network: ResNet) -> list[tuple[str, str]]:
    """Return the pairs of neighbouring blocks that can be swapped: neither changes the shape."""
    names = []
    for number, plans in enumerate(plan_stages(network.spec), start=1):
        for index, plan in enumerate(plans):
            keeps = plan.stride == 1 and plan.in_channels == plan.out_channels
            names.append(f"layer{number}.{index}" if keeps else None)
    return [(one, two) for one, two in pairwise(names) if one and two and one.split(".")[0] == two.split(".")[0]]


def _shortcut_alone(
    block: Block, branch: Tensor, identity: Tensor, mask: Tensor | None, after: Tensor | None
) -> Tensor:  # fmt: skip
    """Stand in for `Block.add_shortcut`: leave the branch out."""
    del after
    if block.residual:
        return identity if block.downsample is None else run_layers(block.downsample, identity, mask)
    strides = tuple(-(-before // now) for before, now in zip(identity.shape[2:], branch.shape[2:], strict=True))
    shortcut: nn.Module = PadShortcut(identity.shape[1], branch.shape[1], strides)
    passed: Tensor = shortcut(identity)
    return passed
