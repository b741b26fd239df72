"""Checks of the first three exercises: a residual block, one that changes shape, and the bottleneck."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restune.core.language import Text
from restune.lessons.exercises.grading import Check, FaultError, named
from restune.lessons.exercises.shared_weights import groups_run, randomise_norms, share_weights


class ReferenceBlock(nn.Module):
    """A residual block of the reference, and its typical mistakes as variants of `forward`.

    Args:
        sizes: kernel size of each convolution of the branch.
        channels: channels before the branch and after each of its convolutions.
        strides: stride of each convolution.
    """

    def __init__(self, sizes: tuple[int, ...], channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        pairs = zip(channels, channels[1:], sizes, strides, strict=False)
        self.branch = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, bias=False), nn.BatchNorm2d(o)) for i, o, k, s in pairs
        )
        self.shortcut = nn.Sequential()
        stride = max(strides)
        if stride != 1 or channels[0] != channels[-1]:
            convolution = nn.Conv2d(channels[0], channels[-1], 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(channels[-1]))

    def forward(self, x: Tensor, variant: str = "") -> Tensor:
        """Return the block's output, or what it would be with the mistake `variant`."""
        out = x
        for number, layer in enumerate(self.branch):
            is_last = number == len(self.branch) - 1
            out = layer(out)
            if (not is_last and variant != "no-relu-inside") or (is_last and variant.startswith("relu-before-sum")):
                out = F.relu(out)
            if number == 0 and variant == "shortcut-from-inside":
                x = out
        if variant != "no-shortcut":
            shortcut = x if variant == "shortcut-from-inside" else self.shortcut(x)
            out = out + (F.relu(shortcut) if variant == "relu-on-shortcut" else shortcut)
        return out if variant in ("no-relu-after-sum", "relu-before-sum-only") else F.relu(out)


VARIANTS = (
    "relu-before-sum",
    "relu-before-sum-only",
    "no-relu-after-sum",
    "no-relu-inside",
    "no-shortcut",
    "relu-on-shortcut",
    "shortcut-from-inside",
)


@dataclass(frozen=True)
class Case:
    """One place in a network that the learner's block must serve.

    Args:
        arguments: of the learner's constructor.
        block: the reference's block there.
    """

    arguments: tuple[int, ...]
    sizes: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    height: int = 8

    def reference(self) -> ReferenceBlock:
        """Build the reference's block, its norms away from the identity."""
        torch.manual_seed(0)
        block = ReferenceBlock(self.sizes, self.channels, self.strides)
        randomise_norms(block)
        return block.eval()

    def input(self) -> Tensor:
        """Return a batch of two, with negative values too."""
        return torch.randn(2, self.channels[0], self.height, self.height, generator=torch.Generator().manual_seed(1))

    @property
    def expected_shape(self) -> list[int]:
        """Shape of the output."""
        side = -(-self.height // max(self.strides))
        return [2, self.channels[-1], side, side]


def built(module: ModuleType, name: str, case: Case) -> nn.Module:
    """Build the learner's block for a case. Raises FaultError where the constructor refuses the task's arguments."""
    kind = named(module, name)
    torch.manual_seed(0)
    try:
        block = kind(*case.arguments)
    except TypeError as error:
        if "positional argument" in str(error) or "unexpected keyword" in str(error):
            raise FaultError("signature", what=str(error)) from error
        raise
    if not isinstance(block, nn.Module):
        raise FaultError("not-a-module", name=name, found=type(block).__name__)
    return block


def check_shape(module: ModuleType, name: str, case: Case) -> None:
    """Check the output's shape in training mode."""
    output: Any = built(module, name, case)(case.input())
    found = list(output.shape)
    if found == case.expected_shape:
        return
    if found[1] != case.expected_shape[1] and len(case.sizes) == 3:
        raise FaultError("no-expansion", found=found[1], expected=case.expected_shape[1])
    if found[2] < case.expected_shape[2]:
        fault = "stride-twice" if max(case.strides) > 1 else "wrong-padding"
        raise FaultError(fault, found=found, expected=case.expected_shape)
    if found[2] > case.expected_shape[2]:
        raise FaultError("stride-ignored", found=found, expected=case.expected_shape)
    raise FaultError("wrong-shape", found=found, expected=case.expected_shape)


def check_parameters(module: ModuleType, name: str, case: Case) -> None:
    """Compare the number of parameters; the difference tells the mistake."""
    found = parameter_count(built(module, name, case))
    reference = case.reference()
    expected = parameter_count(reference)
    if found == expected:
        return
    widths, shortcut = case.channels[1:], parameter_count(reference.shortcut)
    projection = case.channels[0] * case.channels[-1] + 2 * case.channels[-1]
    surplus = {
        sum(widths): "conv-bias",
        sum(widths) + bool(shortcut) * widths[-1]: "conv-bias",
        -2 * sum(widths): "no-norm",
        -2 * (sum(widths) + bool(shortcut) * widths[-1]): "no-norm",
        -2 * widths[0]: "shared-norm",
        -2 * widths[-1]: "projection-without-norm" if shortcut else "shared-norm",
    }
    if shortcut:
        surplus[8 * case.channels[0] * case.channels[-1]] = "projection-not-1x1"
        surplus[-shortcut] = "shortcut-not-projected"
    else:
        surplus[projection] = "always-projects"
    convolutions = [parameter_count(layer) for layer in reference.branch]
    convolutions += [count - 2 * width for count, width in zip(convolutions, widths, strict=True)]
    surplus |= dict.fromkeys((-count for count in convolutions), "one-convolution")
    raise FaultError(surplus.get(found - expected, "parameters"), found=found, expected=expected)


def check_backward(module: ModuleType, name: str, case: Case) -> None:
    """Check that the input is left alone and that every parameter gets a gradient."""
    block, x = built(module, name, case), case.input()
    before = x.clone()
    block(x)
    if not torch.equal(x, before):
        raise FaultError("input-changed")
    output = block(x.requires_grad_())
    (output * torch.randn(output.shape)).sum().backward()
    for parameter_name, parameter in block.named_parameters():
        if parameter.grad is None:
            raise FaultError("no-gradient", name=parameter_name)


def check_equality(module: ModuleType, name: str, case: Case) -> None:
    """Compare with the reference under the same weights; a variant that agrees names the mistake."""
    block, reference, x = built(module, name, case).eval(), case.reference(), case.input()
    strided_first = _strided_first(case, block, x)
    share_weights(reference, block, x)
    with torch.no_grad():
        output = block(x.clone())
        if torch.allclose(output, reference(x), atol=1e-4):
            return
        for variant in VARIANTS:
            if variant == "shortcut-from-inside" and case.channels[1] != case.channels[-1]:
                continue
            expected = reference(x, variant)
            if expected.shape == output.shape and torch.allclose(output, expected, atol=1e-4):
                raise FaultError(variant.removesuffix("-only"))
        if strided_first:
            raise FaultError("stride-in-first")
        raise FaultError("differs", difference=float((output - reference(x)).abs().max()))


def _strided_first(case: Case, block: nn.Module, x: Tensor) -> bool:
    """Return whether a bottleneck has its stride in the first 1x1 convolution instead of in the 3x3."""
    if len(case.sizes) != 3 or max(case.strides) == 1:
        return False
    layers = [group.layer for group in groups_run(block, x)]
    middle = [layer for layer in layers if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)]
    return bool(middle) and middle[0].stride == (1, 1)


def check_identity(module: ModuleType, name: str, case: Case) -> None:
    """Silence the branch by its last norm: the block must then return ReLU(x)."""
    block, x = built(module, name, case).eval(), case.input()
    last = [group.norm for group in groups_run(block, x) if group.norm is not None][-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
        difference = float((block(x.clone()) - F.relu(x)).abs().max())
    if difference > 1e-5:
        raise FaultError("not-identity", difference=difference)


def parameter_count(module: nn.Module) -> int:
    """Return the number of parameters, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


BASIC_SAME = Case((6,), (3, 3), (6, 6, 6), (1, 1))
BASIC = Case((6, 6, 1), (3, 3), (6, 6, 6), (1, 1))
WIDER = Case((6, 10, 1), (3, 3), (6, 10, 10), (1, 1))
HALVED = Case((6, 10, 2), (3, 3), (6, 10, 10), (2, 1))
HALVED_SAME = Case((6, 6, 2), (3, 3), (6, 6, 6), (2, 1))
NARROW = Case((16, 4, 1), (1, 3, 1), (16, 4, 4, 16), (1, 1, 1))
WIDENING = Case((6, 4, 1), (1, 3, 1), (6, 4, 4, 16), (1, 1, 1))
NARROW_HALVED = Case((6, 4, 2), (1, 3, 1), (6, 4, 4, 16), (1, 2, 1))

_PADDING = ((r"size of tensor", "wrong-padding"),)
_CHANNELS = (
    (r"must match the size of tensor .* at non-singleton dimension 1", "shortcut-not-projected"),
    (r"size of tensor", "wrong-padding"),
)
_STRIDE = (
    (r"must match the size of tensor .* at non-singleton dimension 1", "shortcut-not-projected"),
    (r"size of tensor", "stride-not-in-shortcut"),
)
_EXPANSION = ((r"must match the size of tensor .* at non-singleton dimension 1", "no-expansion-added"), *_PADDING)


def _about(
    check: Callable[[ModuleType, str, Case], None],
    name: str,
    case: Case,
    label: str,
    title: Text,
    diagnoses: tuple[tuple[str, str], ...] = (),
) -> Check:
    is_required = check is not check_equality
    return Check(label, title, lambda module: check(module, name, case), is_required, diagnoses)


_SAME = Text("the output has the input's shape", "输出形状与输入相同")
_PARAMETERS = Text("the parameters are those of two convolutions and two norms", "参数正好是两个卷积和两个归一化的")
_BACKWARD = Text("the input is untouched and every parameter gets a gradient", "输入不被修改，每个参数都得到梯度")
_EQUAL = Text("equal to the reference under the same weights", "权重相同时与参考实现一致")
_IDENTITY = Text("with a silent branch the block is the identity", "分支没有输出时，块等于恒等映射")

RESIDUAL_BLOCK = (
    _about(check_shape, "ResidualBlock", BASIC_SAME, "shape", _SAME, _PADDING),
    _about(check_parameters, "ResidualBlock", BASIC_SAME, "parameters", _PARAMETERS),
    _about(check_backward, "ResidualBlock", BASIC_SAME, "gradients", _BACKWARD),
    _about(check_equality, "ResidualBlock", BASIC_SAME, "reference", _EQUAL),
    _about(check_identity, "ResidualBlock", BASIC_SAME, "identity", _IDENTITY),
)

PROJECTION = (
    _about(check_shape, "ResidualBlock", BASIC, "same-shape", _SAME, _PADDING),
    _about(
        check_parameters,
        "ResidualBlock",
        BASIC,
        "identity-shortcut",
        Text("the shortcut has no parameters where the shape stays", "形状不变时捷径没有参数"),
    ),
    _about(
        check_shape,
        "ResidualBlock",
        WIDER,
        "more-channels",
        Text("6 channels become 10", "6 个通道变为 10 个"),
        _CHANNELS,
    ),
    _about(
        check_shape,
        "ResidualBlock",
        HALVED,
        "stride",
        Text("with stride 2, 8x8 becomes 4x4", "步幅为 2 时 8x8 变为 4x4"),
        _STRIDE,
    ),
    _about(
        check_shape,
        "ResidualBlock",
        HALVED_SAME,
        "stride-same-channels",
        Text("stride 2 with equal channels projects too", "通道数相同而步幅为 2 时也要投影"),
        _STRIDE,
    ),
    _about(
        check_parameters,
        "ResidualBlock",
        HALVED,
        "parameters",
        Text("the projection is a 1x1 convolution and a norm", "投影由 1x1 卷积和归一化组成"),
    ),
    _about(check_backward, "ResidualBlock", HALVED, "gradients", _BACKWARD),
    _about(check_equality, "ResidualBlock", HALVED, "reference", _EQUAL),
    _about(check_equality, "ResidualBlock", BASIC, "reference-same-shape", _EQUAL),
    _about(check_identity, "ResidualBlock", BASIC, "identity", _IDENTITY),
)

BOTTLENECK = (
    _about(
        check_shape,
        "Bottleneck",
        NARROW,
        "shape",
        Text("width 4 gives 4 * expansion = 16 channels", "宽度 4 输出 4 * expansion = 16 个通道"),
        _EXPANSION,
    ),
    _about(
        check_parameters,
        "Bottleneck",
        NARROW,
        "parameters",
        Text("three convolutions and three norms, no more", "三个卷积和三个归一化，不多不少"),
    ),
    _about(
        check_shape,
        "Bottleneck",
        WIDENING,
        "more-channels",
        Text("6 channels become 16", "6 个通道变为 16 个"),
        _CHANNELS,
    ),
    _about(
        check_shape,
        "Bottleneck",
        NARROW_HALVED,
        "stride",
        Text("with stride 2, 8x8 becomes 4x4", "步幅为 2 时 8x8 变为 4x4"),
        _STRIDE,
    ),
    _about(
        check_parameters,
        "Bottleneck",
        NARROW_HALVED,
        "projection",
        Text("the projection is a 1x1 convolution and a norm", "投影由 1x1 卷积和归一化组成"),
    ),
    _about(check_backward, "Bottleneck", NARROW_HALVED, "gradients", _BACKWARD),
    _about(check_equality, "Bottleneck", NARROW, "reference", _EQUAL),
    _about(check_equality, "Bottleneck", NARROW_HALVED, "reference-stride", _EQUAL),
    _about(check_identity, "Bottleneck", NARROW, "identity", _IDENTITY),
)
