"""A frozen part of a network, cut off and made quick: norms that only scale and shift move into the convolutions."""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from restune.networks.blocks import Block, PreActBlock
from restune.networks.resnet import ResNet


def folded(network: ResNet, cut: str | int = "all") -> ResNet:
    """A copy in eval mode for `ResNet.run_below` at `cut`: without what lies above, with norms folded.

    In eval mode a batch norm after a convolution is the same as other weights and a bias of that convolution, up to
    rounding; memory is then read and written once instead of twice.
    """
    made = copy.deepcopy(network).eval().requires_grad_(False)
    made.fc = nn.Identity()  # type: ignore[assignment]
    if cut != "all":
        made.norm = nn.Identity()
        for number in range(int(cut) + 1, len(network.spec.stages) + 1):
            setattr(made, f"layer{number}", nn.Sequential())
    last = made.conv1[-1] if isinstance(made.conv1, nn.Sequential) else made.conv1
    if isinstance(made.conv1, nn.Sequential):
        _fold_sequence(made.conv1)
        made.conv1[-1], made.bn1 = _fold(last, made.bn1)
    else:
        made.conv1, made.bn1 = _fold(last, made.bn1)
    for block in made.modules():
        if isinstance(block, Block):
            _fold_block(block)
    return made


def _fold_block(block: Block) -> None:
    """A block's convolutions with the norms that follow them: of their own number, or the next where norms lead."""
    ahead = 1 if isinstance(block, PreActBlock) else 0
    for number in (1, 2, 3):
        conv, norm = f"conv{number}", f"bn{number + ahead}"
        if hasattr(block, conv) and hasattr(block, norm):
            folded_conv, rest = _fold(getattr(block, conv), getattr(block, norm))
            setattr(block, conv, folded_conv)
            setattr(block, norm, rest)
    if isinstance(block.downsample, nn.Sequential):
        _fold_sequence(block.downsample)


def _fold_sequence(layers: nn.Sequential) -> None:
    for index in range(len(layers) - 1):
        layers[index], layers[index + 1] = _fold(layers[index], layers[index + 1])


def _fold(conv: nn.Module, norm: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The two as one and nothing where they are a convolution and a batch norm, else as they are."""
    if isinstance(conv, nn.modules.conv._ConvNd) and isinstance(norm, nn.modules.batchnorm._BatchNorm):
        return fuse_conv_bn_eval(conv, norm), nn.Identity()
    return conv, norm
