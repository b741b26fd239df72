"""gradient-flow: where gradients vanish, and that in plain networks with batch norm they do not."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from restune.core.console import progress
from restune.core.errors import UserError
from restune.core.language import Text
from restune.lessons.laboratory import STEADY, Laboratory, Plan, Trained
from restune.lessons.lesson import Evidence, Lesson, Settings, Table
from restune.lessons.measure import device_of
from restune.lessons.statistics import Mean, band, geometric_mean, mean_loss, readable
from restune.lessons.words import DEPTH, NETWORK, TRAIN_LOSS
from restune.networks.blocks import Block
from restune.networks.resnet import ResNet
from restune.reporting.plots import Lines, Series

SMALL = 0.01
"""Standard deviation of the small Gaussian initialisation, usual before He et al. 2015."""

HEALTHY = 1e-3
"""The gradient at the first layer counts as vanished below this share of that at the last: where gradients do vanish
with depth, 56 layers leave less than 1e-30."""


@dataclass(frozen=True)
class Variant:
    """A kind of network: with or without shortcuts, with or without batch norm, and its initialisation."""

    residual: bool
    has_norm: bool
    is_small: bool = False

    @property
    def name(self) -> str:
        """Its name in tables and facts, such as ``plain, no norm, small``."""
        parts = ["residual" if self.residual else "plain", "batch norm" if self.has_norm else "no norm"]
        return ", ".join([*parts, *(["small"] if self.is_small else [])])

    @property
    def label(self) -> Text:
        """Its name in plots."""
        kind = Text("residual", "残差") if self.residual else Text("plain", "普通")
        initial = Text("std 0.01", "标准差 0.01") if self.is_small else Text("He", "He 初始化")
        return Text(f"{kind.en}, {initial.en}", f"{kind.zh}，{initial.zh}")

    def plan(self, depth: int, width: int) -> Plan:
        """Return the CIFAR network of a depth. Without norms only a small learning rate keeps training finite."""
        changes = () if self.has_norm else (("optimizer.lr", 0.01), ("optimizer.clip_norm", 1.0))
        spec = (("residual", self.residual), ("width", width))
        return Plan(f"{self.name}, {depth}", f"resnet{depth}", spec, changes, partial(_edit, self))


VARIANTS = tuple(
    Variant(residual, has_norm, is_small)
    for has_norm in (True, False)
    for residual in (False, True)
    for is_small in (False, True)
)
PLAIN, RESIDUAL = Variant(residual=False, has_norm=True), Variant(residual=True, has_norm=True)
NORMLESS = Variant(residual=False, has_norm=False)
VANISHING = Variant(residual=False, has_norm=False, is_small=True)
TRAINED = (PLAIN, RESIDUAL, NORMLESS, VANISHING)
"""The variants that are also trained."""

DEPTHS = (8, 20, 32, 56, 110)


def _edit(variant: Variant, network: ResNet) -> None:
    """Remove the norms, and scale the Gaussian weights of the convolutions down, where the variant asks for it."""
    if variant.is_small:
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.data *= SMALL / module.weight.data.std()
    if not variant.has_norm:
        network.bn1 = nn.Identity()
        for module in network.modules():
            if isinstance(module, Block):
                module.bn1, module.bn2 = nn.Identity(), nn.Identity()


def gradient_norms(network: ResNet, x: Tensor, targets: Tensor) -> list[float]:
    """Return the norm of the loss's gradient with respect to each layer's output, from the input on.

    A layer is a convolution with its norm, where it has one. A convolution's own output would not do: batch norm
    divides by its scale, so that the gradient there shrinks as the weights grow, with no effect on what the layer does.

    Double precision, because small gradients of deep networks are zero in single precision; batch norms use the
    batch's statistics, as in training. The network itself does not change.
    """
    copy = deepcopy(network).double().train()
    device = device_of(copy)
    norms: dict[int, float] = {}

    def note_norm(place: int, gradient: Tensor) -> None:
        norms[place] = float(gradient.norm())

    def watch(place: int, _module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # The tensor's hook gets the gradient of the output itself, before the activation overwrites it in place.
        output.register_hook(partial(note_norm, place))  # type: ignore[no-untyped-call]

    outputs = [module for name, module in copy.named_modules() if name.rpartition(".")[2] in ("bn1", "bn2")]
    for place, module in enumerate(outputs):
        module.register_forward_hook(partial(watch, place))  # an identity in networks without norms
    F.cross_entropy(copy(x.double().to(device)), targets.to(device)).backward()  # type: ignore[no-untyped-call]
    return [norms[place] for place in range(len(outputs))]


Norms = dict[tuple[Variant, int], list[list[float]]]
"""By variant and depth: for each seed the norms by layer."""


def experiment(
    settings: Settings,
    depths: tuple[int, ...] = DEPTHS,
    trained_depths: tuple[int, ...] = (8, 56),
    width: int = 8,
    epochs: int = 4,
    limit: int = 1000,
    items: int = 16,
) -> Evidence:
    """Measure all variants at initialisation at every depth, and some of them after training."""
    laboratory = Laboratory(
        settings.data,
        epochs=settings.epochs(epochs),
        changes=STEADY,
        device=settings.device,
        limit=limit,
    )
    x, targets = laboratory.training_batch(items)
    initial: Norms = {}
    with progress("gradient-flow", len(depths) * len(VARIANTS), unit="networks") as advance:
        for depth in depths:
            for variant in VARIANTS:
                networks = [laboratory.build(variant.plan(depth, width), seed)[0] for seed in settings.seeds]
                initial[variant, depth] = [gradient_norms(network, x, targets) for network in networks]
                advance(1)
    runs = _train(laboratory, settings, trained_depths, width)
    after: Norms = {
        key: [gradient_norms(run.network, x, targets) for run in trained] for key, trained in runs.items() if trained
    }
    return _evidence(initial, after, runs, depths, trained_depths)


def _train(
    laboratory: Laboratory, settings: Settings, depths: tuple[int, ...], width: int
) -> dict[tuple[Variant, int], list[Trained]]:
    """Train some variants; those whose loss stops being finite are left out."""
    runs: dict[tuple[Variant, int], list[Trained]] = {}
    with progress("gradient-flow", len(depths) * len(TRAINED) * len(settings.seeds), unit="trainings") as advance:
        for depth in depths:
            for variant in TRAINED:
                runs[variant, depth] = []
                for seed in settings.seeds:
                    try:
                        runs[variant, depth].append(laboratory.train(variant.plan(depth, width), seed))
                    except UserError:
                        if variant.has_norm:  # only networks without norms may diverge
                            raise
                    advance(1)
    return runs


def ratio(norms: list[list[float]]) -> Mean:
    """Return the gradient at the first layer as a multiple of that at the last, over seeds."""
    return geometric_mean([one[0] / one[-1] if one[-1] else math.inf for one in norms])


def _evidence(
    initial: Norms,
    after: Norms,
    runs: dict[tuple[Variant, int], list[Trained]],
    depths: tuple[int, ...],
    trained_depths: tuple[int, ...],
) -> Evidence:
    deep = min(depths, key=lambda depth: abs(depth - 56))
    trained_deep = trained_depths[-1]
    plain, residual, vanishing = (ratio(initial[one, deep]) for one in (PLAIN, RESIDUAL, VANISHING))
    plain_after = ratio(after[PLAIN, trained_deep])
    alive = min(plain.low, plain_after.low) > HEALTHY
    holds = alive and vanishing.high < 1e-6
    return Evidence(
        conclusion=Text(
            f"In the plain network of {deep} layers with batch norm the gradient at the first layer is "
            f"{plain} times that at the last when training begins (residual: {residual}), and "
            f"{plain_after} times after training at depth {trained_deep}: "
            + ("it does not vanish" if alive else "here it does vanish")
            + (", it even grows towards the input at first. " if alive and plain.low > 1 else ". ")
            + f"In the plain network without norms and with small weights the factor is {vanishing}"
            + (": that is what vanishing gradients look like, and initialisation or norms remove nearly all of it "
               "without any shortcut." if holds else ": these figures do not support the claim."),
            f"{deep} 层、带批归一化的普通网络在训练开始时，第一层的梯度是最后一层的 {plain} 倍"
            f"（残差网络为 {residual} 倍）；深度 {trained_deep} 训练之后为 {plain_after} 倍："
            + ("梯度并没有消失" if alive else "这里梯度确实消失了")
            + ("，起初甚至越靠近输入越大。" if alive and plain.low > 1 else "。")
            + f"没有归一化、权重又很小的普通网络，这个倍数是 {vanishing}"
            + ("：这才是梯度消失的样子，而合适的初始化或归一化就能基本治好它，不需要捷径。" if holds else
               "：这些数字不支持本课的论断。"),
        ),
        holds=holds,
        facts={
            "first_to_last_at_start": _facts(initial),
            "first_to_last_after_training": _facts(after),
            "train_loss": {
                f"{variant.name}, {depth}": mean_loss([run.train_loss for run in trained]).value if trained else None
                for (variant, depth), trained in runs.items()
            },
        },
        panels=(*_by_layer(initial, depths), *_after(after, trained_depths), _by_depth(initial, depths)),
        tables=(_table(initial, depths), _trained_table(after, runs)),
    )  # fmt: skip


def _facts(norms: Norms) -> dict[str, float]:
    return {f"{variant.name}, {depth}": ratio(found).value for (variant, depth), found in norms.items()}


LAYER, GRADIENT = Text("layer, from the input on", "层（从输入端数起）"), Text("gradient norm", "梯度范数")


def _by_layer(norms: Norms, depths: tuple[int, ...]) -> list[Lines]:
    """Draw one panel with norms and one without: they differ by many orders of magnitude."""
    titles = {
        True: Text("at initialisation, with batch norm", "初始化时，有批归一化"),
        False: Text("at initialisation, without norms", "初始化时，没有归一化"),
    }
    return [
        Lines(
            title, LAYER, GRADIENT, [
                _line(variant, norms[variant, depth], at=depth)
                for depth in depths for variant in VARIANTS if variant.has_norm == has_norm
            ],
            y_log=True, slider=DEPTH,
        )
        for has_norm, title in titles.items()
    ]  # fmt: skip


def _after(norms: Norms, depths: tuple[int, ...]) -> list[Lines]:
    series = [
        _line(variant, norms[variant, depth], at=depth)
        for depth in depths for variant in TRAINED if variant.has_norm and (variant, depth) in norms
    ]  # fmt: skip
    title = Text("after training, with batch norm", "训练之后，有批归一化")
    return [Lines(title, LAYER, GRADIENT, series, y_log=True, slider=DEPTH)]


def _line(variant: Variant, norms: list[list[float]], at: int) -> Series:
    means = [geometric_mean(list(layer)) for layer in zip(*norms, strict=True)]
    return band(variant.label, range(1, len(means) + 1), means, is_dashed=not variant.residual, at=at)


def _by_depth(norms: Norms, depths: tuple[int, ...]) -> Lines:
    series = [
        band(_full(variant), depths, [ratio(norms[variant, depth]) for depth in depths], is_dashed=not variant.residual)
        for variant in (PLAIN, RESIDUAL, NORMLESS, VANISHING)
    ]
    return Lines(
        Text("first layer's gradient relative to the last's", "第一层梯度相对于最后一层"), DEPTH,
        Text("ratio", "比值"), series, y_log=True,
    )  # fmt: skip


def _full(variant: Variant, depth: int | None = None) -> Text:
    norm = Text("batch norm", "批归一化") if variant.has_norm else Text("no norm", "无归一化")
    layers = Text("", "") if depth is None else Text(f", {depth} layers", f"，{depth} 层")
    return Text(f"{variant.label.en}, {norm.en}{layers.en}", f"{variant.label.zh}，{norm.zh}{layers.zh}")


def _table(norms: Norms, depths: tuple[int, ...]) -> Table:
    header = (NETWORK, *(Text(f"depth {depth}", f"深度 {depth}") for depth in depths))
    rows: list[tuple[str | Text, ...]] = [
        (_full(variant), *(readable(ratio(norms[variant, depth]).value) for depth in depths)) for variant in VARIANTS
    ]
    title = Text(
        "gradient at the first layer / at the last, at initialisation (geometric means)",
        "初始化时第一层与最后一层梯度之比（几何平均）",
    )
    return Table(title, header, rows)


def _trained_table(norms: Norms, runs: dict[tuple[Variant, int], list[Trained]]) -> Table:
    header = (
        NETWORK, TRAIN_LOSS, Text("first / last layer", "首层/末层"),
    )  # fmt: skip
    rows: list[tuple[str | Text, ...]] = []
    for (variant, depth), trained in runs.items():
        figures: tuple[str | Text, ...] = (Text("diverged", "发散"), "")
        if trained:
            figures = (str(mean_loss([run.train_loss for run in trained])), str(ratio(norms[variant, depth])))
        rows.append((_full(variant, depth), *figures))
    return Table(Text("after training", "训练之后"), header, rows)


LESSON = Lesson(
    name="gradient-flow",
    question=Text("Do the gradients of deep plain networks vanish?", "深的普通网络梯度会消失吗？"),
    claim=Text(
        "With batch norm they do not, at any depth up to 110. They vanish in plain networks without norms whose "
        "weights start too small, and there a proper initialisation (He et al. 2015) removes nearly all of it.",
        "有批归一化就不会，直到 110 层都是如此。会消失的是没有归一化、初始权重又过小的普通网络，"
        "而对它们来说，合适的初始化（He 等人，2015）就能基本治好。",
    ),
    method=Text(
        "For CIFAR networks of 8 to 110 layers and their plain twins, with and without batch norm, with He's "
        "initialisation and with a Gaussian of standard deviation 0.01, the gradient of the loss with respect to each "
        "layer's output (the norm's, where there is one) is computed on one batch, in double precision, before "
        "training. Some of the networks "
        "are then trained for a few epochs and measured again.",
        "对 8 到 110 层的 CIFAR 网络及其普通版本，分别在有无批归一化、He 初始化和标准差 0.01 的高斯初始化下，"
        "训练之前用一个批次、以双精度计算损失对每一层输出（有归一化时取归一化之后）的梯度；然后把其中一些网络训练几轮，再测一次。",
    ),
    popular=Text(
        'Most explanations, in English and in Chinese, say: "deep plain networks fail because gradients vanish, and '
        "the shortcut's +1 in the derivative saves them.\" The paper itself says otherwise (section 4.1): with batch "
        "norm, forward signals have non-zero variance and the backward gradients have healthy norms, so the difficulty "
        '"is unlikely to be caused by vanishing gradients". If anything, gradients of plain networks with batch norm '
        "grow towards the input when training begins (Yang et al. 2019), more so the deeper the network. That a "
        "gradient has a healthy norm does not "
        "make it useful: in deep plain networks it changes almost at random from one point to the next (Balduzzi et "
        "al. 2017), which the lesson landscape shows from another side.",
        "中英文的讲解大多说：“深的普通网络训练不好是因为梯度消失，捷径在导数里多出的那个 1 挽救了它。”"
        "论文自己的说法正相反（4.1 节）：有了批归一化，前向信号的方差不为零，反向梯度的范数也正常，"
        "所以困难“不太可能由梯度消失引起”。实际上，带批归一化的普通网络在训练开始时，梯度越靠近输入反而越大，"
        "网络越深越明显（Yang 等人，2019）。梯度的大小正常也不等于梯度有用："
        "在深的普通网络里，它从一点到邻近一点几乎是随机变化的（Balduzzi 等人，2017），"
        "landscape 一课从另一个角度显示了这一点。",
    ),
    next_steps=Text(
        "Move the slider to 110. Then see degradation (these plain networks do train worse, although their gradients "
        "are alive) and landscape (what their loss looks like).",
        "把滑块移到 110。然后看 degradation（这些普通网络的梯度没有消失，训练却确实更差）"
        "和 landscape（它们的损失曲面是什么样子）。",
    ),
    experiment=experiment,
    seconds=80,
    limit=1000,
    sources=(
        "He et al. 2016, Deep Residual Learning, section 4.1, arXiv:1512.03385",
        "He et al. 2015, Delving Deep into Rectifiers, arXiv:1502.01852",
        "Yang et al. 2019, A Mean Field Theory of Batch Normalization, arXiv:1902.08129",
        "Balduzzi et al. 2017, The Shattered Gradients Problem, arXiv:1702.08591",
    ),
)
