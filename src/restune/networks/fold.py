"""Cut a frozen network below its trainable layers and fold its batch norms into the convolutions, for speed."""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from restune.networks.blocks import Block, PreActBlock
from restune.networks.resnet import ResNet


def folded(network: ResNet, cut: str | int = "all") -> ResNet:
    """Return an eval-mode copy for `ResNet.forward_until` at `cut`: no layers above the cut, batch norms folded.

    In eval mode a convolution and its batch norm equal one convolution with other weights and a bias, up to rounding;
    activations are then read and written once instead of twice. Series networks keep their norms, which also zero
    the padding.
    """
    truncated = copy.deepcopy(network).eval().requires_grad_(False)
    truncated.fc = nn.Identity()  # type: ignore[assignment]
    if cut != "all":
        truncated.norm = nn.Identity()
        truncated.hidden = nn.Sequential()
        for number in range(int(cut) + 1, len(network.spec.stages) + 1):
            setattr(truncated, f"layer{number}", nn.Sequential())
    if network.spec.dims == 1:
        return truncated
    _fold_pair(truncated, "conv1", "bn1")
    for block in list(truncated.modules()):
        if isinstance(block, Block):
            _fold_block(block)
    return truncated


def _fold_block(block: Block) -> None:
    """Fold each convolution's norm: the one of the same number, or of the next number in pre-activation blocks."""
    ahead = 1 if isinstance(block, PreActBlock) else 0
    for number in (1, 2, 3):
        conv, norm = f"conv{number}", f"bn{number + ahead}"
        if hasattr(block, conv):
            _fold_pair(block, conv, norm)
    if isinstance(block.downsample, nn.Sequential):
        _fold_sequence(block.downsample)


def _fold_pair(owner: nn.Module, conv: str, norm: str) -> None:
    """Fold the norm, if there is one, into the convolution or into the last of a sequence of convolutions."""
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
    """Return the folded convolution and an identity; any other pair of layers is returned unchanged."""
    if isinstance(conv, nn.modules.conv._ConvNd) and isinstance(norm, nn.modules.batchnorm._BatchNorm):
        return fuse_conv_bn_eval(conv, norm), nn.Identity()
    return conv, norm
