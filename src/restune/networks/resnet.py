"""The residual network: a stem, stages of blocks, an average, a linear head. One class for 1, 2 and 3 dimensions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import torch.nn.functional as F
from torch import Tensor, compiler, nn
from torch.utils.checkpoint import checkpoint

from restune.networks.blocks import Block, BlockPlan, make_block
from restune.networks.layers import conv, global_average, max_pool, norm
from restune.networks.spec import ResNetSpec


class SmallInputWarning(UserWarning):
    """An ImageNet stem met images so small that it leaves little of them."""


class ResNet(nn.Module):
    """A residual network made from its spec (He et al. 2016, "Deep Residual Learning for Image Recognition").

    Parameter names are torchvision's: ``conv1, bn1, layer1.0.conv1, ..., fc``.

    Shapes: ``[N, in_channels, H, W] -> [N, num_classes]`` for dims=2; one spatial axis fewer or more for 1 and 3.
    """

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.gradient_checkpointing = False
        self.conv1 = stem_convolution(spec)
        self.bn1 = norm(spec.dims, spec.stem_width)
        self.maxpool = nn.Identity() if spec.stem == "small" else max_pool(spec.dims)
        for number, blocks in enumerate(plan_stages(spec), start=1):
            self.add_module(f"layer{number}", nn.Sequential(*(make_block(plan) for plan in blocks)))
        # Pre-activation stages end in a bare sum: it is normalised and activated once, here.
        self.norm = norm(spec.dims, spec.num_features) if spec.preact else nn.Identity()
        self.dropout = nn.Dropout(spec.dropout)
        self.fc = nn.Linear(spec.num_features, spec.num_classes)
        self.initialize()

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[N, num_classes]``."""
        return self.run_above(self.embed(x), "all")

    def embed(self, x: Tensor) -> Tensor:
        """What the head reads: ``[N, num_features]``."""
        return self.run_below(x, "all")

    def run_below(self, x: Tensor, cut: str | int) -> Tensor:
        """The network up to a cut: after stage `cut` (0: the stem), or, for ``"all"``, what the head reads."""
        x = self.stem(x)
        for stage in self.stages()[: None if cut == "all" else int(cut)]:
            x = self._run_stage(stage, x)
        return self.pool(x) if cut == "all" else x

    def run_above(self, x: Tensor, cut: str | int) -> Tensor:
        """Logits from what `run_below` gave at the same cut."""
        if cut != "all":
            for stage in self.stages()[int(cut) :]:
                x = self._run_stage(stage, x)
            x = self.pool(x)
        logits: Tensor = self.fc(self.dropout(x))
        return logits

    def forward_stages(self, x: Tensor) -> dict[str, Tensor]:
        """The named intermediates, in order: ``stem, stage1, ..., pooled, logits``."""
        outputs = {"stem": self.stem(x)}
        x = outputs["stem"]
        for number, stage in enumerate(self.stages(), start=1):
            x = outputs[f"stage{number}"] = self._run_stage(stage, x)
        outputs["pooled"] = self.pool(x)
        outputs["logits"] = self.fc(self.dropout(outputs["pooled"]))
        return outputs

    def stem(self, x: Tensor) -> Tensor:
        """``[N, in_channels, H, W] -> [N, stem_width, H/4, W/4]``; the small stem keeps H and W."""
        self._warn_if_small(x)
        return self.maxpool(F.relu(self.bn1(self.conv1(x)), inplace=True))  # type: ignore[no-any-return]

    def stages(self) -> list[nn.Sequential]:
        """The stages in order; each is a sequence of blocks."""
        return [self.get_submodule(f"layer{i + 1}") for i in range(len(self.spec.stages))]  # type: ignore[misc]

    def pool(self, x: Tensor) -> Tensor:
        """The last stage's output, averaged over all positions: ``[N, C, ...] -> [N, C]``."""
        if self.spec.preact:
            x = F.relu(self.norm(x), inplace=True)
        return global_average(x)

    def reset_head(self, num_classes: int) -> None:
        """Replace the last layer by a fresh one for `num_classes`, on the same device and in the same dtype."""
        self.spec = replace(self.spec, num_classes=num_classes)
        like = self.fc.weight
        self.fc = nn.Linear(self.spec.num_features, num_classes, device=like.device, dtype=like.dtype)

    def initialize(self) -> None:
        """He initialisation by fan-out (He et al. 2015), norms at identity: torchvision's start."""
        if self.fc.weight.is_meta:
            return  # nothing to fill, and torch takes long to fill it
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if self.spec.zero_init_residual:
            for module in self.modules():
                if isinstance(module, Block):
                    nn.init.zeros_(module.last_norm().get_parameter("weight"))

    def _run_stage(self, stage: nn.Sequential, x: Tensor) -> Tensor:
        for block in stage:
            if self.gradient_checkpointing and self.training:
                # Keep a block's input only, and run the block again when its gradient is due (Chen et al. 2016).
                x = checkpoint(block, x, use_reentrant=False, context_fn=partial(_rerun_of, block))
            else:
                x = block(x)
        return x

    def _warn_if_small(self, x: Tensor) -> None:
        if compiler.is_compiling() or self.spec.stem == "small" or self.spec.dims != 2:
            return
        height, width = x.shape[2:]
        if max(height, width) <= 64:
            warnings.warn(
                f"images of {height}x{width} pixels meet a stem made for 224: it leaves "
                f"{-(-height // 4)}x{-(-width // 4)} positions for the first stage. "
                'stem="small" (3x3, stride 1, no pooling) fits images of 64 pixels or fewer',
                SmallInputWarning,
                stacklevel=2,
            )


def stem_convolution(spec: ResNetSpec) -> nn.Module:
    """7x7 stride 2, or three 3x3 of which the first has stride 2, or one 3x3 that keeps the size."""
    dims, width = spec.dims, spec.stem_width
    if spec.stem == "small":
        return conv(dims, spec.in_channels, width, 3)
    if spec.stem == "imagenet":
        return conv(dims, spec.in_channels, width, 7, stride=2)
    half = max(1, width // 2)
    return nn.Sequential(
        conv(dims, spec.in_channels, half, 3, stride=2),
        norm(dims, half),
        nn.ReLU(inplace=True),
        conv(dims, half, half, 3),
        norm(dims, half),
        nn.ReLU(inplace=True),
        conv(dims, half, width, 3),
    )


def plan_stages(spec: ResNetSpec) -> list[list[BlockPlan]]:
    """Every block's plan, stage by stage: its channels, stride, dilation and drop-path rate."""
    total = sum(stage.depth for stage in spec.stages)
    channels, dilation, position = spec.stem_width, 1, 0
    plans: list[list[BlockPlan]] = []
    for stage in spec.stages:
        blocks = []
        for index in range(stage.depth):
            opens_stage = index == 0
            blocks.append(
                BlockPlan(
                    network=spec,
                    stage=stage,
                    in_channels=channels,
                    stride=stage.stride if opens_stage else 1,
                    dilation=dilation if opens_stage else stage.dilation,
                    drop_path=spec.drop_path * position / max(1, total - 1),
                    is_first=position == 0,
                )
            )
            channels, position = stage.out_channels, position + 1
        dilation = stage.dilation
        plans.append(blocks)
    return plans


def _rerun_of(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts for a checkpointed block's first and second run. The second must not count in the norms' statistics."""
    return nullcontext(), _statistics_untouched(block)


@contextmanager
def _statistics_untouched(block: nn.Module) -> Iterator[None]:
    """Within this block the norms write their running statistics into copies."""
    norms = [module for module in block.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    kept = [dict(module.named_buffers()) for module in norms]
    for module, buffers in zip(norms, kept, strict=True):
        for name, buffer in buffers.items():
            setattr(module, name, buffer.clone())
    try:
        yield
    finally:
        for module, buffers in zip(norms, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(module, name, buffer)
