"""Checks of whole networks: the ResNet for any `layers`, and the listing to debug."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from restune.core.language import Text
from restune.lessons.exercises import blocks
from restune.lessons.exercises.grading import Check, FaultError, named
from restune.lessons.exercises.shared_weights import groups_run, randomise_norms, share_weights
from restune.networks.resnet import ResNet
from restune.networks.zoo import find

_ZOO = {"BasicBlock": "resnet18", "Bottleneck": "resnet50"}


def reference_network(block: str, layers: Sequence[int], num_classes: int) -> ResNet:
    """Build the reference for a block's name and the number of blocks in each stage."""
    torch.manual_seed(0)
    network = ResNet(find(_ZOO[block]).spec.override(depths=tuple(layers), num_classes=num_classes))
    randomise_norms(network)
    return network.eval()


def built_network(module: ModuleType, block: str, layers: Sequence[int], num_classes: int = 10) -> nn.Module:
    """Build the learner's network. Raises FaultError where the constructor refuses the task's arguments."""
    kind = named(module, "ResNet")
    torch.manual_seed(0)
    network = kind(named(module, block), list(layers), num_classes=num_classes)
    if not isinstance(network, nn.Module):
        raise FaultError("not-a-module", name="ResNet", found=type(network).__name__)
    return network


def image(size: int) -> Tensor:
    """Return a batch of two images with normal values."""
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def check_logits(module: ModuleType, block: str, layers: Sequence[int]) -> None:
    """Check that images become logits `[N, num_classes]`, at the size that the network was designed for."""
    with torch.no_grad():
        output: Any = built_network(module, block, layers, 7).eval()(image(224))
    if list(output.shape) != [2, 7]:
        raise FaultError("wrong-shape", found=list(output.shape), expected=[2, 7])
    if torch.allclose(output.sum(1), torch.ones(2), atol=1e-4) and float(output.min()) >= 0:
        raise FaultError("softmax-in-network")


def check_sizes(module: ModuleType, block: str, layers: Sequence[int]) -> None:
    """Check that other image sizes work and that the last stage's map has the expected size."""
    network = built_network(module, block, layers).eval()
    maps: list[Tensor] = []
    convolutions = [group.layer for group in groups_run(network, image(224)) if isinstance(group.layer, nn.Conv2d)]
    handle = convolutions[-1].register_forward_hook(lambda _layer, _inputs, output: maps.append(output))
    for size in (64, 97):
        try:
            network(image(size))
        except RuntimeError as error:
            raise FaultError("no-global-pool") from error
        found, expected = list(maps[-1].shape[2:]), [-(-size // 32)] * 2
        if found != expected:
            raise FaultError("stage-size", image=size, found=found, expected=expected)
    handle.remove()


def check_count(module: ModuleType, block: str, layers: Sequence[int], num_classes: int = 10) -> None:
    """Compare the number of parameters with the reference's."""
    network = built_network(module, block, layers, num_classes)
    found = blocks.parameter_count(network)
    reference = reference_network(block, layers, num_classes)
    expected = blocks.parameter_count(reference)
    if found == expected:
        return
    biases = sum(layer.out_channels for layer in reference.modules() if isinstance(layer, nn.Conv2d))
    deeper = blocks.parameter_count(built_network(module, block, [count + 1 for count in layers], num_classes))
    fault = "network-parameters"
    if found < expected / 10:
        fault = "layers-in-a-list"
    elif found > expected and found - expected <= biases:
        fault = "network-bias"
    elif deeper == found:
        fault = "depth-ignored"
    raise FaultError(fault, layers=list(layers), found=f"{found:,}", expected=f"{expected:,}")


def check_network_gradients(module: ModuleType, block: str, layers: Sequence[int]) -> None:
    """Check that every parameter gets a gradient."""
    network = built_network(module, block, layers)
    nn.functional.cross_entropy(network(image(64)), torch.tensor([1, 2])).backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        if parameter.grad is None:
            raise FaultError("no-gradient", name=name)


def check_network_equality(module: ModuleType, block: str, layers: Sequence[int]) -> None:
    """Compare logits with the reference under the same weights."""
    network, reference = built_network(module, block, layers).eval(), reference_network(block, layers, 10)
    x = image(64)
    difference = math.inf
    for shortcut_first in (False, True):
        share_weights(reference, network, x, shortcut_first=shortcut_first)
        with torch.no_grad():
            difference = min(difference, float((network(x) - reference(x)).abs().max()))
    if difference > 1e-3:
        raise FaultError("differs", difference=difference)


_CHANNELS = (
    (r"has no attribute .expansion.", "block-has-no-expansion"),
    (r"expected input.* to have \d+ channels, but got", "channels-not-carried"),
    (r"mat1 and mat2 shapes cannot be multiplied", "head-size"),
    (r"size of tensor", "shortcut-not-projected"),
)
_CheckNetwork = Callable[[ModuleType, str, Sequence[int]], None]


def _about(check: _CheckNetwork, block: str, layers: Sequence[int], name: str, title: Text) -> Check:
    return Check(name, title, lambda module: check(module, block, layers), diagnoses=_CHANNELS)


def _counted(block: str, layers: Sequence[int], name: str) -> Check:
    title = Text(
        f"{block} {list(layers)}: the parameters of the reference", f"{block} {list(layers)}：参数量与参考一致"
    )
    return _about(check_count, block, layers, name, title)


_LOGITS = Text("images become logits", "图像变为 logits")
_SIZES = Text("any image size works, and the stages stride as they should", "任意图像尺寸都能用，各阶段步幅正确")
_GRADIENTS = Text("every parameter gets a gradient", "每个参数都得到梯度")
_EQUAL = Text("equal to the reference under the same weights", "权重相同时与参考实现一致")

RESNET = (
    _about(check_logits, "BasicBlock", (1, 1, 1, 1), "logits", _LOGITS),
    _counted("BasicBlock", (2, 2, 2, 2), "resnet18"),
    _about(check_sizes, "BasicBlock", (2, 2, 2, 2), "sizes", _SIZES),
    _about(check_logits, "Bottleneck", (1, 1, 1, 1), "bottleneck-logits", _LOGITS),
    _counted("Bottleneck", (3, 4, 6, 3), "resnet50"),
    _counted("BasicBlock", (1, 2, 1, 3), "any-layers"),
    _about(check_network_gradients, "Bottleneck", (1, 2, 1, 1), "gradients", _GRADIENTS),
    _about(check_network_equality, "BasicBlock", (1, 2, 1, 1), "reference", _EQUAL),
    _about(check_network_equality, "Bottleneck", (1, 2, 1, 1), "reference-bottleneck", _EQUAL),
)


def check_block_takes_stride(module: ModuleType) -> None:
    """Check that the listing's block takes `stride` and `downsample`, and uses both."""
    kind = named(module, "BasicBlock")
    shortcut = nn.Sequential(nn.Conv2d(6, 10, 1, 2, bias=False), nn.BatchNorm2d(10))
    try:
        block = kind(6, 10, stride=2, downsample=shortcut)
    except TypeError as error:
        raise FaultError("block-takes-no-stride", what=str(error)) from error
    found = list(block(torch.randn(2, 6, 8, 8)).shape)
    if found != [2, 10, 4, 4]:
        fault = "stride-ignored" if found[-1] > 4 else "stride-twice"
        raise FaultError(fault, found=found, expected=[2, 10, 4, 4])


def check_expansion(module: ModuleType) -> None:
    """Check that the listing's block says by how much it widens."""
    if getattr(named(module, "BasicBlock"), "expansion", None) != 1:
        raise FaultError("block-has-no-expansion")


def check_no_bias(module: ModuleType) -> None:
    """Check that no convolution of the listing carries a bias before its batch norm."""
    block = named(module, "BasicBlock")(6, 6)
    expected = 2 * 9 * 36 + 4 * 6
    if blocks.parameter_count(block) == expected + 12:
        raise FaultError("conv-bias", found=expected + 12, expected=expected)


DEBUG_LISTING = (
    Check(
        "stride",
        Text("the block takes a stride and a downsample module, and uses both", "块接受并使用步幅和 downsample 模块"),
        check_block_takes_stride,
        is_required=False,
        diagnoses=((r"size of tensor", "shortcut-not-projected"),),
    ),
    Check("expansion", Text("the block says its expansion", "块给出 expansion"), check_expansion, is_required=False),
    Check("bias", Text("no bias before a batch norm", "批归一化之前没有偏置"), check_no_bias, is_required=False),
    _about(check_logits, "BasicBlock", (1, 1, 1, 1), "logits", _LOGITS),
    _about(check_sizes, "BasicBlock", (2, 2, 2, 2), "sizes", _SIZES),
    _counted("BasicBlock", (2, 2, 2, 2), "resnet18"),
    _about(check_network_gradients, "BasicBlock", (1, 1, 1, 1), "gradients", _GRADIENTS),
    _about(check_network_equality, "BasicBlock", (1, 2, 1, 1), "reference", _EQUAL),
)
