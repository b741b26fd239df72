"""A frozen part of a network, cut off and made quick: norms that only scale and shift move into the convolutions."""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from restune.networks.blocks import Block, PreActBlock
from restune.networks.resnet import ResNet


def folded(network: ResNet, cut: str | int = "all") -> ResNet:
    """A copy in eval mode for `ResNet.forward_until` at `cut`: without what lies above, with norms folded.

    In eval mode a batch norm after a convolution is the same as other weights and a bias of that convolution, up to
    rounding; memory is then read and written once instead of twice. Networks of series keep their norms, which also
    blank what is padding.
    """
    made = copy.deepcopy(network).eval().requires_grad_(False)
    made.fc = nn.Identity()  # type: ignore[assignment]
    if cut != "all":
        made.norm = nn.Identity()
        made.hidden = nn.Sequential()
        for number in range(int(cut) + 1, len(network.spec.stages) + 1):
            setattr(made, f"layer{number}", nn.Sequential())
    if network.spec.dims == 1:
        return made
    _fold_pair(made, "conv1", "bn1")
    for block in list(made.modules()):
        if isinstance(block, Block):
            _fold_block(block)
    return made


def _fold_block(block: Block) -> None:
    """A block's convolutions with the norms that follow them: of their own number, or the next where norms lead."""
    ahead = 1 if isinstance(block, PreActBlock) else 0
    for number in (1, 2, 3):
        conv, norm = f"conv{number}", f"bn{number + ahead}"
        if hasattr(block, conv):
            _fold_pair(block, conv, norm)
    if isinstance(block.downsample, nn.Sequential):
        _fold_sequence(block.downsample)


def _fold_pair(owner: nn.Module, conv: str, norm: str) -> None:
    """A convolution, or several in a sequence, with the norm that follows under another name, if one does."""
    layers = getattr(owner, conv)
    if isinstance(layers, nn.Sequential):
        _fold_sequence(layers)
    if hasattr(owner, norm):
        last = layers[-1] if isinstance(layers, nn.Sequential) else layers
        folded_conv, rest = _fold(last, getattr(owner, norm))
        if isinstance(layers, nn.Sequential):
            layers[-1] = folded_conv
        else:
            setattr(owner, conv, folded_conv)
        setattr(owner, norm, rest)


def _fold_sequence(layers: nn.Sequential) -> None:
    for index in range(len(layers) - 1):
        layers[index], layers[index + 1] = _fold(layers[index], layers[index + 1])


def _fold(conv: nn.Module, norm: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The two as one and nothing where they are a convolution and a batch norm, else as they are."""
    if isinstance(conv, nn.modules.conv._ConvNd) and isinstance(norm, nn.modules.batchnorm._BatchNorm):
        return fuse_conv_bn_eval(conv, norm), nn.Identity()
    return conv, norm
