"""Residual blocks (basic, bottleneck, triple, pre-activation) for 1, 2 and 3 dimensions.

Layer names inside a block are torchvision's: conv1, bn1, conv2, bn2, conv3, bn3, downsample; attention is named
`se`, as in timm. A mask marks the real positions of padded series, see `restune.networks.masks`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

from torch import Tensor, nn

from restune.core.errors import UserError
from restune.networks.layers import (
    AveragePool,
    DropPath,
    PadShortcut,
    Size,
    activate,
    activation,
    attention,
    conv,
    max_pool,
    norm,
    run_layers,
    two_plus_one,
)
from restune.networks.masks import blanked, max_pooled, normed, strided
from restune.networks.registry import arguments, registered_block
from restune.networks.spec import ResNetSpec, StageSpec, midplanes


@dataclass(frozen=True, kw_only=True)
class BlockPlan:
    """Settings of one block: its network, its stage, and its position."""

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
        """Channels of the 3x3 convolutions."""
        return self.stage.inner_channels

    @property
    def pools(self) -> bool:
        """Whether a max pool before the block is strided instead of a convolution in it."""
        return self.stride > 1 and self.stage.downsample == "max-pool"

    @property
    def layer_stride(self) -> int:
        """Stride of the block's strided convolution."""
        return 1 if self.pools else self.stride

    @property
    def changes_shape(self) -> bool:
        """Whether the branch's output has another shape than the input, so that the shortcut must project."""
        return self.layer_stride != 1 or self.in_channels != self.out_channels

    def along_axes(self, stride: int) -> Size:
        """Return the stride per axis: spatial convolutions do not stride time."""
        return (1, stride, stride) if self.stage.conv == "spatial" else stride

    def conv(self, number: int, inputs: int, outputs: int, *, stride: int = 1) -> nn.Module:
        """Build convolution `number` of the block, counted from 1; grouped and dilated unless pointwise."""
        size, kind = self.stage.sizes[number - 1], self.stage.conv
        if size == 1:
            return self.conv1x1(inputs, outputs, stride=stride)
        if kind == "2+1":
            # Computed from the block's channels for all of its convolutions, as in torchvision.
            between = midplanes(self.in_channels, self.inner_channels, size)
            return two_plus_one(
                inputs, between, outputs, (size, size), stride=(stride, stride), dilation=self.dilation,
                norm_groups=norm_groups(self.network), act=self.network.act,
            )  # fmt: skip
        grouped = self.stage.block == "bottleneck" and number == 2
        return conv(
            self.network.dims,
            inputs,
            outputs,
            (1, size, size) if kind == "spatial" else size,
            stride=self.along_axes(stride),
            dilation=self.dilation,
            groups=self.stage.groups if grouped else 1,
        )

    def conv1x1(self, inputs: int, outputs: int, *, stride: int = 1) -> nn.Module:
        """Build a pointwise convolution."""
        return conv(self.network.dims, inputs, outputs, 1, stride=self.along_axes(stride))

    def norm(self, channels: int) -> nn.Module:
        """Build the network's norm."""
        return norm(self.network.dims, channels, norm_groups(self.network))


def norm_groups(spec: ResNetSpec) -> int:
    """Return the groups of a network's norms; 0 for batch norms."""
    return spec.norm_groups if spec.norm == "group" else 0


class Block(nn.Module):
    """Base of all blocks: max pool where the stage has one, attention on the branch, shortcut, and sum.

    Shapes: ``[N, in_channels, ...] -> [N, out_channels, ... / stride]``.
    """

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__()
        self.residual = plan.network.residual
        self.act = plan.network.act
        self.stride = plan.stride
        self.layer_stride = plan.layer_stride
        self.se = attention(plan.network.attention, plan.network.dims, plan.out_channels)
        self.drop_path: nn.Module = DropPath(plan.drop_path) if plan.drop_path else nn.Identity()
        self.downsample = shortcut(plan) if self.residual else None
        self.pool = max_pool(plan.network.dims, plan.along_axes(plan.stride)) if plan.pools else None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run the block; `mask` is the input's."""
        if self.pool is not None:
            x, mask = max_pooled(self.pool, x, mask, self.stride), strided(mask, self.stride)
        return self.run(x, mask, strided(mask, self.layer_stride))

    def run(self, x: Tensor, mask: Tensor | None, after: Tensor | None) -> Tensor:
        """Run the block's own layers; the masks are those before and after its strided layer."""
        raise NotImplementedError

    def add_shortcut(self, branch: Tensor, identity: Tensor, mask: Tensor | None, after: Tensor | None) -> Tensor:
        """Return ``branch + shortcut(identity)``, or the branch alone in a plain network."""
        branch = normed(self.se, branch, after)
        if not self.residual:
            return branch
        if self.downsample is not None:
            identity = run_layers(self.downsample, identity, mask)
        summed: Tensor = self.drop_path(branch) + identity
        return summed

    def activate(self, x: Tensor, *, inplace: bool = True) -> Tensor:
        """Apply the network's activation."""
        return activate(self.act, x, inplace=inplace)

    def last_norm(self) -> nn.Module:
        """Return the norm that ends the branch, which `zero_init_residual` sets to 0."""
        raise NotImplementedError(f"{type(self).__name__} ends in a convolution")


class BasicBlock(Block):
    """3x3, 3x3, sum, activation (He et al. 2016, "Deep Residual Learning", figure 5 left)."""

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__(plan)
        inner, out = plan.inner_channels, plan.out_channels
        self.conv1 = plan.conv(1, plan.in_channels, inner, stride=plan.layer_stride)
        self.bn1 = plan.norm(inner)
        self.conv2 = plan.conv(2, inner, out)
        self.bn2 = plan.norm(out)

    def run(self, x: Tensor, mask: Tensor | None, after: Tensor | None) -> Tensor:
        branch = self.activate(normed(self.bn1, self.conv1(x), after))
        branch = normed(self.bn2, self.conv2(branch), after)
        return self.activate(self.add_shortcut(branch, x, mask, after))

    def last_norm(self) -> nn.Module:
        return self.bn2


class Bottleneck(Block):
    """1x1, 3x3, 1x1, sum, activation (He et al. 2016, figure 5 right)."""

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__(plan)
        inner, out = plan.inner_channels, plan.out_channels
        self.conv1 = plan.conv(1, plan.in_channels, inner)
        self.bn1 = plan.norm(inner)
        # The stride is in the 3x3 ("v1.5"), not in the first 1x1 as in the paper, which would skip three quarters
        # of the input. Published ResNet-50 weights are trained this way.
        self.conv2 = plan.conv(2, inner, inner, stride=plan.layer_stride)
        self.bn2 = plan.norm(inner)
        self.conv3 = plan.conv(3, inner, out)
        self.bn3 = plan.norm(out)

    def run(self, x: Tensor, mask: Tensor | None, after: Tensor | None) -> Tensor:
        branch = self.activate(normed(self.bn1, self.conv1(x), mask))
        branch = self.activate(normed(self.bn2, self.conv2(branch), after))
        branch = normed(self.bn3, self.conv3(branch), after)
        return self.activate(self.add_shortcut(branch, x, mask, after))

    def last_norm(self) -> nn.Module:
        return self.bn3


class TripleBlock(Block):
    """Three convolutions of one width, sum, activation (Wang et al. 2017, figure 1c)."""

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__(plan)
        width = plan.out_channels
        self.conv1 = plan.conv(1, plan.in_channels, width, stride=plan.layer_stride)
        self.bn1 = plan.norm(width)
        self.conv2 = plan.conv(2, width, width)
        self.bn2 = plan.norm(width)
        self.conv3 = plan.conv(3, width, width)
        self.bn3 = plan.norm(width)

    def run(self, x: Tensor, mask: Tensor | None, after: Tensor | None) -> Tensor:
        branch = self.activate(normed(self.bn1, self.conv1(x), after))
        branch = self.activate(normed(self.bn2, self.conv2(branch), after))
        branch = normed(self.bn3, self.conv3(branch), after)
        return self.activate(self.add_shortcut(branch, x, mask, after))

    def last_norm(self) -> nn.Module:
        return self.bn3


class PreActBlock(Block):
    """Norm and activation before each convolution; nothing after the sum (He et al. 2016, "Identity Mappings").

    The network's first block omits its first norm, since the stem has already normalised and activated its input
    (there, section 4.1: "adopt the first activation right after conv1 and before splitting").
    """

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__(plan)
        self.bn1 = nn.Identity() if plan.is_first else plan.norm(plan.in_channels)
        self.shortcut_sees_activated = plan.changes_shape

    def run(self, x: Tensor, mask: Tensor | None, after: Tensor | None) -> Tensor:
        activated = self.activate(normed(self.bn1, x, mask), inplace=False)
        branch = self.branch(activated, mask, after)
        if after is not None:  # the branch ends in a convolution, which writes into the padding
            branch = blanked(branch, after)
        # A projection takes the activated input. An identity takes the raw input, so that its path stays linear.
        return self.add_shortcut(branch, activated if self.shortcut_sees_activated else x, mask, after)

    def branch(self, activated: Tensor, mask: Tensor | None, after: Tensor | None) -> Tensor:
        """Run the convolutions on the activated input."""
        raise NotImplementedError


class PreActBasicBlock(PreActBlock):
    """Norm, 3x3, norm, 3x3, sum."""

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__(plan)
        inner, out = plan.inner_channels, plan.out_channels
        self.conv1 = plan.conv(1, plan.in_channels, inner, stride=plan.layer_stride)
        self.bn2 = plan.norm(inner)
        self.conv2 = plan.conv(2, inner, out)

    def branch(self, activated: Tensor, mask: Tensor | None, after: Tensor | None) -> Tensor:  # noqa: ARG002
        branch = self.activate(normed(self.bn2, self.conv1(activated), after))
        ended: Tensor = self.conv2(branch)
        return ended


class PreActBottleneck(PreActBlock):
    """Norm, 1x1, norm, 3x3, norm, 1x1, sum."""

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__(plan)
        inner, out = plan.inner_channels, plan.out_channels
        self.conv1 = plan.conv(1, plan.in_channels, inner)
        self.bn2 = plan.norm(inner)
        self.conv2 = plan.conv(2, inner, inner, stride=plan.layer_stride)
        self.bn3 = plan.norm(inner)
        self.conv3 = plan.conv(3, inner, out)

    def branch(self, activated: Tensor, mask: Tensor | None, after: Tensor | None) -> Tensor:
        branch = self.activate(normed(self.bn2, self.conv1(activated), mask))
        branch = self.activate(normed(self.bn3, self.conv2(branch), after))
        ended: Tensor = self.conv3(branch)
        return ended


def make_block(plan: BlockPlan) -> nn.Module:
    """Build the block for the plan's network and stage: a `Block`, or a registered one."""
    registered = registered_block(plan.stage.block)
    if registered is not None:
        return _build_registered(registered, plan)
    forms: dict[tuple[str, bool], type[Block]] = {
        ("basic", False): BasicBlock,
        ("bottleneck", False): Bottleneck,
        ("triple", False): TripleBlock,
        ("basic", True): PreActBasicBlock,
        ("bottleneck", True): PreActBottleneck,
    }
    return forms[plan.stage.block, plan.network.preact](plan)


def _build_registered(block: type[nn.Module], plan: BlockPlan) -> nn.Module:
    """Build a registered block with the arguments that it names, see `restune.register_block`."""
    spec = plan.network
    provide: dict[str, Callable[[], Any]] = {
        "dims": lambda: spec.dims,
        "dilation": lambda: plan.dilation,
        "groups": lambda: plan.stage.groups,
        "residual": lambda: spec.residual,
        "drop_path": lambda: plan.drop_path,
        "norm": lambda: plan.norm,
        "act": lambda: lambda: activation(spec.act),
        "shortcut": lambda: shortcut(plan) if spec.residual else None,
    }
    own = {name: provide[name]() for name in arguments(block)}
    built = block(in_channels=plan.in_channels, out_channels=plan.out_channels, stride=plan.stride, **own)
    if not isinstance(built, nn.Module):
        raise UserError(f"the block {plan.stage.block} is not a torch.nn.Module", where="block")
    return built


def run_registered(block: nn.Module, stage: StageSpec, stride: int, x: Tensor, mask: Tensor | None) -> Tensor:
    """Run a registered block. Raises UserError for an output of another shape, and for padded input without a mask."""
    if mask is None:
        output: Tensor = block(x)
    elif "mask" in signature(block.forward).parameters:
        output = blanked(block(x, mask=mask), mask[:, ::stride])
    else:
        raise UserError(
            f"the block {stage.block} does not take a mask, which items of different lengths need",
            where=f"{type(block).__name__}.forward",
            fix="let it take a second argument `mask`, see restune.register_block",
        )
    expected = (len(x), stage.out_channels, *(-(-size // stride) for size in x.shape[2:]))
    if output.shape != expected:
        raise UserError(
            f"the block {stage.block} returned {list(output.shape)} for {list(x.shape)} at stride {stride}, not "
            f"{list(expected)}",
            where=f"{type(block).__name__}.forward",
            fix="return out_channels channels and positions divided by the stride, rounded up",
        )
    return output


def shortcut(plan: BlockPlan) -> nn.Module | None:
    """Build the shortcut; None for an identity.

    A slices and pads with zero channels, B projects (He et al. 2016, section 4.1), C projects even where shapes
    agree (there, table 3), D average-pools before it projects (He et al. 2019, "Bag of Tricks", figure 2c), norm is B
    with a batch norm where shapes agree (the code of Wang et al. 2017).
    """
    kind = plan.network.shortcut
    dims, inputs, outputs, stride = plan.network.dims, plan.in_channels, plan.out_channels, plan.layer_stride
    if kind == "norm" and not plan.changes_shape:
        return nn.Sequential(plan.norm(outputs))
    if kind != "C" and not plan.changes_shape:
        return None
    if kind == "A":
        return PadShortcut(inputs, outputs, plan.along_axes(stride))
    # The input of a pre-activation block's projection is already normalised, so no norm follows.
    after = [] if plan.network.preact else [plan.norm(outputs)]
    if kind == "D":
        pool = AveragePool(dims, plan.along_axes(stride)) if stride > 1 else nn.Identity()
        return nn.Sequential(pool, plan.conv1x1(inputs, outputs), *after)
    return nn.Sequential(plan.conv1x1(inputs, outputs, stride=stride), *after)
