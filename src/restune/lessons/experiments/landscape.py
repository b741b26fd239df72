"""landscape: the loss around a trained plain and a trained residual network, on one scale (Li et al. 2018)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from restune.core.console import progress
from restune.core.language import Text
from restune.core.streams import torch_seed
from restune.lessons.comparison import Runs, by_plan, losses
from restune.lessons.kinds import KINDS, named, plan
from restune.lessons.laboratory import Laboratory
from restune.lessons.lesson import Evidence, Lesson, Settings, Table
from restune.lessons.measure import loss_of
from restune.lessons.statistics import Mean, band, geometric_mean, mean, mean_loss
from restune.lessons.words import DEPTH, NETWORK, TRAIN_LOSS
from restune.networks.resnet import ResNet
from restune.reporting.plots import Contour, Lines

DEPTHS = (8, 20)
NEAR = 0.1
"""Distance from the trained weights at which the rise of the loss is averaged; 1 moves each filter by its norm. Further
out, at a quarter of it, the loss of both kinds of network is high and their difference gone."""
DIRECTIONS = 12
"""Random directions, each taken both ways, over which it is averaged: single ones differ widely."""


def filter_normalised(network: ResNet, seed: int, which: int) -> dict[str, Tensor]:
    """Draw a random direction: each filter has the norm of the network's own (Li et al. 2018, section 4).

    Norms and biases are not perturbed, as in the code of that paper (``--xignore biasbn``).
    """
    random = torch.Generator().manual_seed(torch_seed(seed, "landscape", which))
    direction = {}
    for name, weight in network.named_parameters():
        if weight.ndim < 2:
            continue
        drawn = torch.randn(weight.shape, generator=random)
        norms, own = (tensor.flatten(1).norm(dim=1) for tensor in (drawn, weight.detach().cpu()))
        scale = own / norms.clamp_min(1e-12)
        direction[name] = drawn * scale.reshape(-1, *[1] * (weight.ndim - 1))
    return direction


@dataclass(frozen=True)
class Surface:
    """Loss at ``weights + x * direction 1 + y * direction 2``: `values[row][column]` at `ends[row]`, `ends[column]`."""

    ends: Sequence[float]
    values: Sequence[Sequence[float]]

    @property
    def centre(self) -> float:
        """Loss of the trained network."""
        middle = len(self.ends) // 2
        return self.values[middle][middle]


def surface(network: ResNet, x: Tensor, targets: Tensor, *, seed: int, points: int, reach: float) -> Surface:
    """Compute the loss on a grid of ``points * points`` around the trained weights, norms in eval mode.

    Args:
        points: along each direction; odd, so that the trained network is one of them.
        reach: end of the grid; 1 moves each filter by its own norm.
    """
    moved = deepcopy(network).eval()
    origin = {name: weight.detach().clone() for name, weight in moved.named_parameters()}
    one, two = (filter_normalised(network, seed, which) for which in (1, 2))
    ends = [reach * (2 * place / (points - 1) - 1) for place in range(points)]
    values = [[_loss_at(moved, origin, one, two, a, b, x, targets) for a in ends] for b in ends]
    return Surface(ends, values)


def sharpness(network: ResNet, x: Tensor, targets: Tensor, *, seed: int, distance: float = NEAR) -> float:
    """Return the mean rise of the loss at a distance from the trained weights, over random directions."""
    moved = deepcopy(network).eval()
    origin = {name: weight.detach().clone() for name, weight in moved.named_parameters()}
    losses = []
    for which in range(DIRECTIONS):
        direction = filter_normalised(network, seed, 100 + which)  # others than those of the plot
        for end in (-distance, distance):
            losses.append(_loss_at(moved, origin, direction, direction, end, 0.0, x, targets))
    return sum(losses) / len(losses) - loss_of(network, x, targets)


@torch.no_grad()
def _loss_at(
    moved: nn.Module, origin: dict[str, Tensor], one: dict[str, Tensor], two: dict[str, Tensor], a: float, b: float,
    x: Tensor, targets: Tensor,
) -> float:  # fmt: skip
    assert isinstance(moved, ResNet)
    for name, weight in moved.named_parameters():
        if name in one:
            weight.copy_(origin[name] + (a * one[name] + b * two[name]).to(weight.device))
    return loss_of(moved, x, targets)


def experiment(
    settings: Settings, depths: tuple[int, ...] = DEPTHS, width: int = 8, epochs: int = 16, limit: int = 4000,
    points: int = 13, items: int = 256, reach: float = 0.5,
) -> Evidence:  # fmt: skip
    """Train both kinds at every depth with every seed; compute the loss near each, and around the deepest."""
    laboratory = Laboratory(settings.data, epochs=settings.epochs(epochs), device=settings.device, limit=limit)
    plans = [plan(kind, depth, width) for depth in depths for kind, _ in KINDS]
    found = by_plan(laboratory.train_all(plans, settings.seeds, "landscape: training"))
    x, targets = laboratory.training_batch(items)
    rises: dict[str, list[float]] = {label: [] for label in found}
    surfaces: dict[str, list[Surface]] = {kind: [] for kind, _ in KINDS}
    with progress("landscape: computing losses", len(plans) * len(settings.seeds), unit="networks") as advance:
        for label, runs in found.items():
            kind, _, depth = label.partition("-")
            for run in runs:
                rises[label].append(sharpness(run.network, x, targets, seed=run.seed))
                if int(depth) == depths[-1]:
                    surfaces[kind].append(
                        surface(run.network, x, targets, seed=run.seed, points=points, reach=reach)
                    )  # fmt: skip
                advance(1)
    return _evidence(found, surfaces, rises, depths, len(laboratory.prepared.splits.train.classes))


def _evidence(
    found: Runs, surfaces: dict[str, list[Surface]], rises: dict[str, list[float]], depths: tuple[int, ...],
    classes: int,
) -> Evidence:  # fmt: skip
    centre = {kind: mean_loss([one.centre for one in group]) for kind, group in surfaces.items()}
    rise = {label: mean(values) for label, values in rises.items()}
    ratio = {depth: _ratio(rises[f"plain-{depth}"], rises[f"residual-{depth}"]) for depth in depths}
    learned = max(value.value for value in centre.values()) < 0.5 * math.log(classes)
    deepest = ratio[depths[-1]]
    holds = learned and deepest.low > 1
    return Evidence(
        conclusion=_conclusion(centre, rise, ratio, learned=learned),
        holds=holds,
        facts={
            "train_loss": {kind: value.value for kind, value in centre.items()},
            "rise_nearby": {label: value.value for label, value in rise.items()},
            "rise_nearby_by_seed": rises,
            "plain_to_residual": {str(depth): value.value for depth, value in ratio.items()},
        },
        panels=(*_contours(surfaces), _profiles(surfaces), _by_depth(rise, depths)),
        tables=(_table(losses(found), rise),),
    )


def _ratio(plain: list[float], residual: list[float]) -> Mean:
    """Return the rise around the plain network as a multiple of that around the residual one, seed by seed."""
    return geometric_mean([
        max(one, _LEAST_RISE) / max(two, _LEAST_RISE) for one, two in zip(plain, residual, strict=True)
    ])  # fmt: skip


_LEAST_RISE = 1e-6
"""Smaller rises, and falls, are rounding."""


def _conclusion(
    centre: dict[str, Mean], rise: dict[str, Mean], ratio: dict[int, Mean], *, learned: bool
) -> Text:  # fmt: skip
    shallow, depth = min(ratio), max(ratio)
    deepest = ratio[depth]
    if not learned:
        verdict = Text(
            "One of the networks is not trained well enough to compare: around a network that guesses, the loss is "
            "high and flat. Train longer, with a greater --effort.",
            "其中一个网络训练得还不够好，无法比较：对于一个只会瞎猜的网络，周围的损失又高又平。"
            "请用更大的 --effort 训练更久。",
        )
    elif deepest.low > 1:
        verdict = Text(
            "The plain network sits in a narrower pit, the residual one in a wider basin.",
            "普通网络落在较窄的坑里，残差网络则在较宽的盆地中。",
        )
    elif deepest.value > 1:
        verdict = Text(
            "The plain network's is higher on average, but so few seeds do not prove it: --seeds 10 would tell.",
            "普通网络的数值平均更高，但随机种子这么少还不足以证明：请用 --seeds 10 再看。",
        )
    else:
        verdict = Text("These figures do not support the claim.", "这些数字不支持本课的论断。")
    plain, residual = rise[f"plain-{depth}"].value, rise[f"residual-{depth}"].value
    compared = Text(
        f"That is {deepest} times as much; at depth {shallow} it is {ratio[shallow]} times as much. ",
        f"这是前者的 {deepest} 倍；深度 {shallow} 时为 {ratio[shallow]} 倍。",
    )
    if not learned:  # such rises may be falls, whose ratio says nothing
        compared = Text("", "")
    return Text(
        f"At depth {depth}, moving every filter by {NEAR:.0%} of its norm in random directions raises the training "
        f"loss of the residual network by {residual:.3g} on average, that of the plain one by {plain:.3g} (losses "
        f"before: {centre['residual'].value:.3g} and {centre['plain'].value:.3g}). {compared.en}{verdict.en}",
        f"深度 {depth} 时，沿随机方向把每个卷积核移动其范数的 {NEAR:.0%}，残差网络的训练损失平均上升 {residual:.3g}，"
        f"普通网络上升 {plain:.3g}（移动前分别为 {centre['residual'].value:.3g} 和 {centre['plain'].value:.3g}）。"
        f"{compared.zh}{verdict.zh}",
    )


def contour_levels(surfaces: Sequence[Surface]) -> list[float]:
    """Return levels for contours of all surfaces: round values, about equally spaced in the logarithm."""
    values = [value for one in surfaces for row in one.values for value in row if math.isfinite(value)]
    low, high = max(min(values), 1e-3), max(values)
    steps = [mantissa * 10.0**power for power in range(-3, 7) for mantissa in (1, 2, 5)]
    inside = [step for step in steps if low < step < high]
    every = max(1, -(-len(inside) // 12))
    return inside[::every] or [(low + high) / 2]


def _contours(found: dict[str, list[Surface]]) -> list[Contour]:
    first = {kind: surfaces[0] for kind, surfaces in found.items()}
    levels = contour_levels(list(first.values()))
    return [
        Contour(
            Text(f"training loss around the {label.en} network", f"{label.zh}周围的训练损失"),
            first[kind].ends, first[kind].ends, first[kind].values, levels,
        )
        for kind, label in KINDS
    ]  # fmt: skip


def _profiles(found: dict[str, list[Surface]]) -> Lines:
    """Draw the loss along the first direction, its geometric mean over seeds."""
    series = []
    for kind, label in KINDS:
        surfaces = found[kind]
        ends, middle = surfaces[0].ends, len(surfaces[0].ends) // 2
        means = [geometric_mean([one.values[middle][column] for one in surfaces]) for column in range(len(ends))]
        series.append(band(label, ends, means, is_dashed=kind == "plain"))
    return Lines(
        Text("training loss along the first direction, all seeds", "沿第一个方向的训练损失（所有随机种子）"),
        Text("distance, in norms of the filters", "距离（以卷积核范数为单位）"),
        TRAIN_LOSS, series, y_log=True,
    )  # fmt: skip


def _by_depth(rise: dict[str, Mean], depths: tuple[int, ...]) -> Lines:
    series = [
        band(label, depths, [rise[f"{kind}-{depth}"] for depth in depths], is_dashed=kind == "plain")
        for kind, label in KINDS
    ]
    return Lines(
        Text(f"mean rise at {NEAR:.0%} of the filters' norms", f"移动卷积核范数的 {NEAR:.0%} 时的平均上升"),
        DEPTH, Text("rise of the training loss", "训练损失的上升"), series,
    )  # fmt: skip


def _table(loss: dict[str, Mean], rise: dict[str, Mean]) -> Table:
    header = (
        NETWORK, Text("training loss, last epoch", "最后一轮的训练损失"),
        Text(f"mean rise at {NEAR:.0%} of the filters' norms", f"移动卷积核范数的 {NEAR:.0%} 时的平均上升"),
    )  # fmt: skip
    rows = [(named(label), str(loss[label]), str(rise[label])) for label in rise]
    return Table(Text("sharpness over seeds", "各随机种子的尖锐程度"), header, rows)


LESSON = Lesson(
    name="landscape",
    question=Text("What does the loss around a trained network look like?", "训练好的网络周围，损失是什么样子？"),
    claim=Text(
        "Around a deep plain network the loss rises more steeply in random directions than around a residual network "
        "of the same depth, both well trained. It comes with depth: of 20 layers the plain network is the sharper one, "
        "of 8 layers it is not.",
        "在深的普通网络周围，损失沿随机方向上升得比同样深的残差网络更陡，两者都训练得很好。"
        "这种差别随深度而来：20 层时普通网络更尖锐，8 层时则不然。",
    ),
    method=Text(
        "Residual networks of two depths and their plain twins are trained alike with three seeds. Two random "
        "directions in weight space are drawn, each filter of them scaled to the norm of the network's own filter, so "
        "that networks of different weight scales can be compared; norms and biases stay. The training loss is "
        "computed on a grid, with the batch norms' stored statistics, and drawn with the same levels for both. How "
        f"sharp a network is, is the mean rise of its loss over {DIRECTIONS} other directions, each taken both ways, "
        f"at {NEAR:.0%} of the filters' norms.",
        "用三个随机种子以相同方法训练两种深度的残差网络和它们的普通版本。在权重空间里随机取两个方向，"
        "把其中每个卷积核缩放到网络自身对应卷积核的范数，使权重大小不同的网络可以相互比较；归一化层和偏置不动。"
        "用批归一化保存的统计量在网格上计算训练损失，两张图用同一组等高线。"
        f"网络有多尖锐，用另外 {DIRECTIONS} 个方向（正反各一次）上移动范数的 {NEAR:.0%} 时损失的平均上升来衡量。",
    ),
    popular=Text(
        'These plots are often shown as "the" loss surface. They are two-dimensional slices of a space of tens of '
        "thousands of dimensions: a bump in a slice proves roughness, a smooth slice proves little. Without filter "
        "normalisation they compare nothing at all, since batch norm makes a network indifferent to the scale of its "
        "filters: the same network with larger weights would look flatter. A network that has learned nothing has "
        "a flat surface, too: compare losses first. And distance matters: near the trained weights the two kinds "
        "differ, but where every filter has moved by a quarter of its norm the loss of both is high, and no "
        "difference is left.",
        "这类图常被当作损失曲面的“真面目”。其实它们只是几万维空间的二维切片：切片上有起伏能证明曲面粗糙，"
        "切片平滑却证明不了多少。不做卷积核归一化的话，比较毫无意义，因为批归一化使网络与卷积核的大小无关："
        "同一个网络，权重放大以后看上去就更平坦。还有，什么都没学到的网络，曲面也是平的：请先比较损失。"
        "距离也有关系：在训练好的权重附近两种网络有差别，但每个卷积核移动了四分之一范数以后，两者的损失都很高，差别也就没有了。",
    ),
    next_steps=Text(
        "Choose other seeds (other directions) and see what stays; compare with the lessons degradation and lesion.",
        "换几个随机种子（也就换了方向），看看哪些特点保持不变；再与 degradation 和 lesion 两课对照。",
    ),
    experiment=experiment,
    seconds=200,
    sources=("Li et al. 2018, Visualizing the Loss Landscape of Neural Nets, arXiv:1712.09913",),
)
