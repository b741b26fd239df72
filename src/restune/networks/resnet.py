"""The residual network: a stem, stages of blocks, a pool, a linear head. One class for 1, 2 and 3 dimensions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise

from torch import Tensor, compiler, nn, no_grad
from torch.utils.checkpoint import checkpoint

from restune.networks.blocks import Block, BlockPlan, make_block, norm_groups, run_registered
from restune.networks.layers import activate, activation, conv, max_pool, norm, run_layers, two_plus_one
from restune.networks.masks import blanked, max_pooled, normed, pooled, strided
from restune.networks.spec import ResNetSpec

_EMBEDDING_STD = 0.05


SMALL_SIDE = 48
"""Side in pixels up to which a stem of stride 4 leaves too few positions (12x12)."""


class SmallInputWarning(UserWarning):
    """Images are so small that an ImageNet stem leaves few positions."""


class ResNet(nn.Module):
    """A residual network built from its spec (He et al. 2016, "Deep Residual Learning for Image Recognition").

    Parameter names are torchvision's: ``conv1, bn1, layer1.0.conv1, ..., fc``; in addition, text networks have an
    ``embedding`` before ``conv1``, and ``hidden`` linear layers may come before ``fc``.

    Shapes: ``[N, in_channels, H, W] -> [N, num_classes]`` for dims=2; one axis fewer or more for dims 1 and 3; token
    indices ``[N, L]`` as input where the spec has a vocabulary. Series and tokens of different lengths are padded at
    the end and come with a mask, bool ``[N, L]``, True at real positions: logits then equal those of the item alone,
    and batch-norm statistics exclude the padding.

    >>> import torch
    >>> network = restune.create_model("resnet8")
    >>> stages = network.forward_stages(torch.zeros(1, 3, 32, 32))
    >>> list(stages)
    ['stem', 'stage1', 'stage2', 'stage3', 'pooled', 'logits']
    """

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.gradient_checkpointing = False
        self.embedding = nn.Embedding(spec.vocabulary, spec.in_channels, padding_idx=0) if spec.vocabulary else None
        self.embedding_dropout = nn.Dropout(spec.embedding_dropout)
        self.conv1 = stem_convolution(spec)
        self.bn1 = nn.Identity() if spec.stem == "none" else norm(spec.dims, spec.stem_width, norm_groups(spec))
        self.maxpool = max_pool(spec.dims) if spec.stem in ("imagenet", "deep") else nn.Identity()
        for number, blocks in enumerate(plan_stages(spec), start=1):
            self.add_module(f"layer{number}", nn.Sequential(*(make_block(plan) for plan in blocks)))
        # Pre-activation stages end in a plain sum, which is normalised and activated here.
        self.norm: nn.Module = nn.Identity()
        if spec.preact:
            self.norm = norm(spec.dims, spec.stages[-1].out_channels, norm_groups(spec))
        self.hidden = hidden_layers(spec)
        self.dropout = nn.Dropout(spec.dropout)
        self.fc = nn.Linear(spec.num_features, spec.num_classes)
        self.initialize()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits ``[N, num_classes]``."""
        return self.forward_from(self.embed(x, mask), "all")

    def embed(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return embeddings (the classifier's input) ``[N, num_features]``."""
        return self.forward_until(x, "all", mask)

    def forward_until(self, x: Tensor, cut: str | int, mask: Tensor | None = None) -> Tensor:
        """Run the network up to `cut`: through stage `cut` (0: the stem), or to the embeddings for ``"all"``."""
        x, mask = self.stem(x, mask), self.mask_at(mask, 0)
        for index in range(len(self.spec.stages) if cut == "all" else int(cut)):
            x, mask = self._run_stage(index, x, mask)
        return self.pool(x, mask) if cut == "all" else x

    def forward_from(self, x: Tensor, cut: str | int, mask: Tensor | None = None) -> Tensor:
        """Return logits from `forward_until`'s output at the same cut; `mask` is the input's or `mask_at` the cut."""
        if cut != "all":
            if mask is not None and mask.shape[1] != x.shape[2]:
                mask = self.mask_at(mask, int(cut))
            for index in range(int(cut), len(self.spec.stages)):
                x, mask = self._run_stage(index, x, mask)
            x = self.pool(x, mask)
        logits: Tensor = self.fc(self.dropout(x))
        return logits

    def forward_stages(self, x: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Return the named intermediate outputs, in order: ``stem, stage1, ..., pooled, logits``."""
        outputs = {"stem": self.stem(x, mask)}
        x, mask = outputs["stem"], self.mask_at(mask, 0)
        for index in range(len(self.spec.stages)):
            x, mask = self._run_stage(index, x, mask)
            outputs[f"stage{index + 1}"] = x
        outputs["pooled"] = self.pool(x, mask)
        outputs["logits"] = self.fc(self.dropout(outputs["pooled"]))
        return outputs

    def mask_at(self, mask: Tensor | None, cut: int) -> Tensor | None:
        """Return the input's mask after stage `cut` (0: the stem): ``ceil(length / stride)`` positions per item."""
        for stride in (STEM_STRIDES[self.spec.stem], *(stage.stride for stage in self.spec.stages[:cut])):
            mask = strided(mask, stride)
        return mask

    def parts_below(self, cut: str | int) -> list[nn.Module]:
        """Return the modules that `forward_until` runs, in order."""
        depth = len(self.spec.stages) if cut == "all" else int(cut)
        first = [] if self.embedding is None else [self.embedding, self.embedding_dropout]
        parts = [*first, self.conv1, self.bn1, self.maxpool, *self.stages()[:depth]]
        return [*parts, self.norm, self.hidden] if cut == "all" else parts

    def stem(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run the stem: ``[N, in_channels, H, W] -> [N, stem_width, H/4, W/4]``; ``small`` and ``none`` keep H, W."""
        if mask is not None and (self.spec.dims != 1 or mask.shape != (x.shape[0], x.shape[-1])):
            raise ValueError(f"a mask must be [N, L], for series: not {list(mask.shape)} with input {list(x.shape)}")
        if self.embedding is not None:
            x = self.embedding_dropout(self.embedding(x).transpose(1, 2))
        if mask is not None:
            x = blanked(x, mask)
        if self.spec.stem == "none":
            return x
        self._warn_if_small(x)
        x, mask = run_layers(self.conv1, x, mask), strided(mask, CONVOLUTION_STRIDES[self.spec.stem])
        x = activate(self.spec.act, normed(self.bn1, x, mask))
        return x if isinstance(self.maxpool, nn.Identity) else max_pooled(self.maxpool, x, mask, 2)

    def stages(self) -> list[nn.Sequential]:
        """Return the stages in order; each is a sequence of blocks."""
        return [self.get_submodule(f"layer{i + 1}") for i in range(len(self.spec.stages))]  # type: ignore[misc]

    def pool(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return embeddings from the last stage's output: ``[N, C, ...] -> [N, num_features]``."""
        return self.pool_activated(self.activated(x, mask), mask)

    def activated(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return what the pool reads: the last stage's output; normalised and activated after `preact` blocks."""
        return activate(self.spec.act, normed(self.norm, x, mask)) if self.spec.preact else x

    def pool_activated(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return embeddings from `activated`'s output: ``[N, C, ...] -> [N, num_features]``."""
        rectified = self.spec.act == "relu" and not self.has_registered_blocks
        x = pooled(self.spec.pool, x, mask, self.spec.k_max, rectified=rectified)
        return self.hidden(x) if self.spec.hidden else x

    def reset_head(self, num_classes: int) -> None:
        """Replace the head by a newly initialised one for `num_classes`, on the same device and in the same dtype."""
        self.spec = replace(self.spec, num_classes=num_classes)
        like = self.fc.weight
        self.fc = nn.Linear(self.spec.num_features, num_classes, device=like.device, dtype=like.dtype)

    def initialize(self) -> None:
        """Initialise as torchvision does: He by fan-out (He et al. 2015), norms at identity."""
        if self.fc.weight.is_meta:
            return  # there are no values to set, and torch is slow to find that out
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if self.embedding is not None:  # small values suit a ReLU network; torch's standard deviation is 1
            nn.init.normal_(self.embedding.weight, std=_EMBEDDING_STD)
            with no_grad():
                self.embedding.weight[0].zero_()
        if self.spec.zero_init_residual:
            for module in self.modules():
                if isinstance(module, Block):
                    nn.init.zeros_(module.last_norm().get_parameter("weight"))
        if self.has_registered_blocks:
            for block in (block for stage in self.stages() for block in stage):
                getattr(block, "initialize", lambda: None)()

    @property
    def has_registered_blocks(self) -> bool:
        """Whether some blocks are not ours, see `restune.register_block`."""
        return any(stage.is_registered for stage in self.spec.stages)

    def _run_stage(self, index: int, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Run a stage, counted from 0; return its output and the mask there."""
        stage, plan = self.get_submodule(f"layer{index + 1}"), self.spec.stages[index]
        assert isinstance(stage, nn.Sequential)
        for position, module in enumerate(stage):
            stride = plan.stride if position == 0 else 1
            block = module if isinstance(module, Block) else partial(run_registered, module, plan, stride)
            if self.gradient_checkpointing and self.training:
                # Store only the block's input and recompute the block in the backward pass (Chen et al. 2016).
                x = checkpoint(block, x, mask, use_reentrant=False, context_fn=partial(_rerun_of, module))
            else:
                x = block(x, mask)
            mask = strided(mask, stride)
        return x, mask

    def _warn_if_small(self, x: Tensor) -> None:
        if compiler.is_compiling() or self.spec.stem not in ("imagenet", "deep") or self.spec.dims != 2:
            return
        height, width = x.shape[2:]
        if max(height, width) <= SMALL_SIDE:
            warnings.warn(
                f"images of {height}x{width} pixels are small for this stem, designed for 224: the first stage gets "
                f"{-(-height // 4)}x{-(-width // 4)} positions. "
                f'stem="small" (3x3, stride 1, no pooling) fits images of {SMALL_SIDE} pixels or fewer',
                SmallInputWarning,
                stacklevel=2,
            )


CONVOLUTION_STRIDES = {"imagenet": 2, "deep": 2, "small": 1, "none": 1, "clip": 1}
STEM_STRIDES = {"imagenet": 4, "deep": 4, "small": 1, "none": 1, "clip": 1}
"""Strides along a series, for masks; the clip stem's entry is unused, since clips are never masked."""


def stem_convolution(spec: ResNetSpec) -> nn.Module:
    """Build the stem's convolutions as described in `ResNetSpec.stem`; an identity for ``none``."""
    dims, width = spec.dims, spec.stem_width
    if spec.stem == "none":
        return nn.Identity()
    if spec.stem == "small":
        return conv(dims, spec.in_channels, width, 3)
    if spec.stem == "imagenet":
        return conv(dims, spec.in_channels, width, 7, stride=2)
    if spec.stem == "clip" and spec.stages[0].conv == "2+1":
        between = max(1, width * 45 // 64)  # 45 at the published width, as in torchvision
        return two_plus_one(
            spec.in_channels, between, width, (7, 3), stride=(2, 1), norm_groups=norm_groups(spec), act=spec.act
        )
    if spec.stem == "clip":
        return conv(dims, spec.in_channels, width, (3, 7, 7), stride=(1, 2, 2))
    half = max(1, width // 2)
    return nn.Sequential(
        conv(dims, spec.in_channels, half, 3, stride=2),
        norm(dims, half, norm_groups(spec)),
        activation(spec.act),
        conv(dims, half, half, 3),
        norm(dims, half, norm_groups(spec)),
        activation(spec.act),
        conv(dims, half, width, 3),
    )


def hidden_layers(spec: ResNetSpec) -> nn.Sequential:
    """Build the linear layers from pool to head, with activations and dropout; empty for most networks."""
    layers: list[nn.Module] = []
    for before, after in pairwise((spec.pooled_features, *spec.hidden)):
        layers += [nn.Dropout(spec.dropout)] * bool(layers) + [nn.Linear(before, after), activation(spec.act)]
    return nn.Sequential(*layers)


def plan_stages(spec: ResNetSpec) -> list[list[BlockPlan]]:
    """Plan every block, stage by stage: its channels, stride, dilation and drop-path rate."""
    total = sum(stage.depth for stage in spec.stages)
    channels, dilation, position = spec.stem_channels, 1, 0
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
    """Return contexts for a checkpointed block's first and second run; the second must not update the statistics."""
    return nullcontext(), _statistics_untouched(block)


@contextmanager
def _statistics_untouched(block: nn.Module) -> Iterator[None]:
    """Let the norms update copies of their running statistics within this block."""
    norms = [module for module in block.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    originals = [dict(module.named_buffers()) for module in norms]
    for module, buffers in zip(norms, originals, strict=True):
        for name, buffer in buffers.items():
            setattr(module, name, buffer.clone())
    try:
        yield
    finally:
        for module, buffers in zip(norms, originals, strict=True):
            for name, buffer in buffers.items():
                setattr(module, name, buffer)
