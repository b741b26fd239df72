"""The residual block in its four forms: what a stage is made of, for 1, 2 and 3 dimensions.

Layer names inside a block are torchvision's: conv1, bn1, conv2, bn2, conv3, bn3, downsample; attention sits at
`se`, as in timm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from restune.networks.layers import DropPath, PadShortcut, attention, avg_pool, conv, norm
from restune.networks.spec import ResNetSpec, StageSpec


@dataclass(frozen=True, kw_only=True)
class BlockPlan:
    """What one block needs to know: its network, its stage, and its place in them."""

    network: ResNetSpec
    stage: StageSpec
    in_channels: int
    stride: int = 1
    dilation: int = 1
    drop_path: float = 0.0
    is_first: bool = False

    @property
    def out_channels(self) -> int:
        """Channels after the block."""
        return self.stage.out_channels

    @property
    def inner_channels(self) -> int:
        """Channels of the 3x3 convolutions: the stage's width, widened by ResNeXt's and Wide ResNet's rules."""
        return int(self.stage.width * self.stage.base_width / 64) * self.stage.groups

    @property
    def changes_shape(self) -> bool:
        """Whether the input must be reshaped before it can be added to the branch's output."""
        return self.stride != 1 or self.in_channels != self.out_channels

    def conv3x3(self, inputs: int, outputs: int, *, stride: int = 1) -> nn.Module:
        """A 3-wide convolution with this block's groups and dilation."""
        return conv(
            self.network.dims,
            inputs,
            outputs,
            3,
            stride=stride,
            dilation=self.dilation,
            groups=self.stage.groups,
        )

    def conv1x1(self, inputs: int, outputs: int, *, stride: int = 1) -> nn.Module:
        """A pointwise convolution."""
        return conv(self.network.dims, inputs, outputs, 1, stride=stride)

    def norm(self, channels: int) -> nn.Module:
        """Batch norm."""
        return norm(self.network.dims, channels)


class Block(nn.Module):
    """What all four forms share: attention on the branch, the shortcut, and their sum.

    Shapes: ``[N, in_channels, ...] -> [N, out_channels, ... / stride]``.
    """

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__()
        self.residual = plan.network.residual
        self.se = attention(plan.network.attention, plan.network.dims, plan.out_channels)
        self.drop_path: nn.Module = DropPath(plan.drop_path) if plan.drop_path else nn.Identity()
        self.downsample = shortcut(plan) if self.residual else None

    def add_shortcut(self, branch: Tensor, identity: Tensor) -> Tensor:
        """``branch + shortcut(identity)``, or the branch alone in a plain network."""
        branch = self.se(branch)
        if not self.residual:
            return branch
        if self.downsample is not None:
            identity = self.downsample(identity)
        summed: Tensor = self.drop_path(branch) + identity
        return summed

    def last_norm(self) -> nn.Module:
        """The norm that ends the branch, which `zero_init_residual` sets to 0."""
        raise NotImplementedError(f"{type(self).__name__} ends in a convolution")


class BasicBlock(Block):
    """3x3, 3x3, sum, activation (He et al. 2016, "Deep Residual Learning", figure 5 left)."""

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__(plan)
        inner, out = plan.inner_channels, plan.out_channels
        self.conv1 = plan.conv3x3(plan.in_channels, inner, stride=plan.stride)
        self.bn1 = plan.norm(inner)
        self.conv2 = plan.conv3x3(inner, out)
        self.bn2 = plan.norm(out)

    def forward(self, x: Tensor) -> Tensor:
        branch = F.relu(self.bn1(self.conv1(x)), inplace=True)
        branch = self.bn2(self.conv2(branch))
        return F.relu(self.add_shortcut(branch, x), inplace=True)

    def last_norm(self) -> nn.Module:
        return self.bn2


class Bottleneck(Block):
    """1x1, 3x3, 1x1, sum, activation (He et al. 2016, figure 5 right)."""

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__(plan)
        inner, out = plan.inner_channels, plan.out_channels
        self.conv1 = plan.conv1x1(plan.in_channels, inner)
        self.bn1 = plan.norm(inner)
        # The stride is in the 3x3, not in the first 1x1 as in the paper: that would drop three quarters of the
        # input unseen. Everybody's ResNet-50 weights are trained this way ("v1.5").
        self.conv2 = plan.conv3x3(inner, inner, stride=plan.stride)
        self.bn2 = plan.norm(inner)
        self.conv3 = plan.conv1x1(inner, out)
        self.bn3 = plan.norm(out)

    def forward(self, x: Tensor) -> Tensor:
        branch = F.relu(self.bn1(self.conv1(x)), inplace=True)
        branch = F.relu(self.bn2(self.conv2(branch)), inplace=True)
        branch = self.bn3(self.conv3(branch))
        return F.relu(self.add_shortcut(branch, x), inplace=True)

    def last_norm(self) -> nn.Module:
        return self.bn3


class PreActBlock(Block):
    """Norm and activation before each convolution; nothing after the sum (He et al. 2016, "Identity Mappings").

    The network's very first block receives what the stem already normalised and activated, so it has no norm of
    its own (there, section 4.1: "adopt the first activation right after conv1 and before splitting").
    """

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__(plan)
        self.bn1 = nn.Identity() if plan.is_first else plan.norm(plan.in_channels)
        self.shortcut_sees_activated = plan.changes_shape

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        # A projection reads the activated input, an identity the raw one: its path stays clear of any function.
        return self.add_shortcut(self.branch(activated), activated if self.shortcut_sees_activated else x)

    def branch(self, activated: Tensor) -> Tensor:
        """The convolutions, from the activated input."""
        raise NotImplementedError


class PreActBasicBlock(PreActBlock):
    """Norm, 3x3, norm, 3x3, sum."""

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__(plan)
        inner, out = plan.inner_channels, plan.out_channels
        self.conv1 = plan.conv3x3(plan.in_channels, inner, stride=plan.stride)
        self.bn2 = plan.norm(inner)
        self.conv2 = plan.conv3x3(inner, out)

    def branch(self, activated: Tensor) -> Tensor:
        branch: Tensor = self.conv2(F.relu(self.bn2(self.conv1(activated)), inplace=True))
        return branch


class PreActBottleneck(PreActBlock):
    """Norm, 1x1, norm, 3x3, norm, 1x1, sum."""

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__(plan)
        inner, out = plan.inner_channels, plan.out_channels
        self.conv1 = plan.conv1x1(plan.in_channels, inner)
        self.bn2 = plan.norm(inner)
        self.conv2 = plan.conv3x3(inner, inner, stride=plan.stride)
        self.bn3 = plan.norm(inner)
        self.conv3 = plan.conv1x1(inner, out)

    def branch(self, activated: Tensor) -> Tensor:
        branch = self.conv2(F.relu(self.bn2(self.conv1(activated)), inplace=True))
        branch = F.relu(self.bn3(branch), inplace=True)
        ended: Tensor = self.conv3(branch)
        return ended


def make_block(plan: BlockPlan) -> Block:
    """The block that the plan's network and stage ask for."""
    forms: dict[tuple[str, bool], type[Block]] = {
        ("basic", False): BasicBlock,
        ("bottleneck", False): Bottleneck,
        ("basic", True): PreActBasicBlock,
        ("bottleneck", True): PreActBottleneck,
    }
    return forms[plan.stage.block, plan.network.preact](plan)


def shortcut(plan: BlockPlan) -> nn.Module | None:
    """What the input passes on its way to the sum; None where it passes unchanged.

    A slices and pads with zero channels, B projects (He et al. 2016, section 4.1), C projects even where shapes
    agree (there, table 3), D averages before it projects (He et al. 2019, "Bag of Tricks", figure 2c).
    """
    kind = plan.network.shortcut
    if kind != "C" and not plan.changes_shape:
        return None
    dims, inputs, outputs, stride = plan.network.dims, plan.in_channels, plan.out_channels, plan.stride
    if kind == "A":
        return PadShortcut(inputs, outputs, stride)
    # A pre-activation block's projection already reads a normalised input and is not normalised again.
    after = [] if plan.network.preact else [plan.norm(outputs)]
    if kind == "D":
        pool = avg_pool(dims, stride) if stride > 1 else nn.Identity()
        return nn.Sequential(pool, conv(dims, inputs, outputs, 1), *after)
    return nn.Sequential(conv(dims, inputs, outputs, 1, stride=stride), *after)
