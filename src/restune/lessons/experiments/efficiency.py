"""efficiency: what residual networks save parameters and multiply-adds by, and what they do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from restune.core.language import Text
from restune.lessons.comparison import by_plan, scores
from restune.lessons.laboratory import Laboratory, Plan
from restune.lessons.lesson import Evidence, Lesson, Settings, Table
from restune.lessons.published import VGG16, Cost, cost_of, with_global_pool
from restune.lessons.statistics import Mean, band
from restune.lessons.words import NETWORK, PARAMETERS, VAL_ACCURACY
from restune.networks.resnet import ResNet
from restune.networks.spec import ResNetSpec
from restune.networks.zoo import find
from restune.reporting.plots import Lines

_SIZE = 16


@dataclass(frozen=True)
class Family:
    """Networks that differ in one thing."""

    label: Text
    plans: tuple[Plan, ...]


def _plan(name: str, depth: int, width: int, *, bottleneck: bool = False, plain: bool = False) -> Plan:
    spec: dict[str, object] = {"width": width}
    if bottleneck:
        spec |= {"block": "bottleneck", "depths": ((depth - 2) // 9,) * 3, "stem_width": 2 * width}
    if plain:
        spec["residual"] = False
    return Plan(name, "resnet8" if bottleneck else f"resnet{depth}", tuple(spec.items()))


DEPTHS, WIDTHS = (8, 20, 44), (4, 8, 16, 32)
FAMILIES = {
    "depth": Family(
        Text("deeper, 8 to 44 layers (width 8)", "加深，8 到 44 层（宽度 8）"),
        tuple(_plan(f"depth {depth}", depth, 8) for depth in DEPTHS),
    ),
    "width": Family(
        Text("wider, 4 to 32 channels (8 layers)", "加宽，4 到 32 通道（8 层）"),
        tuple(_plan(f"width {width}", 8, width) for width in WIDTHS),
    ),
    "bottleneck": Family(
        Text("bottleneck, 11 to 38 layers (inner width 8)", "瓶颈块，11 到 38 层（内部宽度 8）"),
        tuple(_plan(f"bottleneck {depth}", depth, 8, bottleneck=True) for depth in (11, 20, 38)),
    ),
    "plain": Family(
        Text("deeper, without shortcuts", "加深，没有捷径"),
        tuple(_plan(f"plain {depth}", depth, 8, plain=True) for depth in DEPTHS),
    ),
}


def spec_of(plan: Plan) -> ResNetSpec:
    """Return the structure that a plan trains, for ten classes."""
    return find(plan.model).spec.override(**dict(plan.spec))


def layer_uses(network: ResNet, size: int) -> Counter[str]:
    """Count how many times one forward pass runs each convolution and linear layer."""
    uses: Counter[str] = Counter()
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    handles = []
    for name, layer in layers.items():
        uses[name] = 0

        def count(*_: object, name: str = name) -> None:
            uses[name] += 1

        handles.append(layer.register_forward_hook(count))
    with torch.no_grad():
        network.eval()(torch.zeros(1, network.spec.in_channels, size, size))
    for handle in handles:
        handle.remove()
    return uses


def experiment(settings: Settings) -> Evidence:
    """Train every network with every seed; count parameters, multiply-adds and uses of each layer."""
    laboratory = Laboratory(settings.data, epochs=settings.epochs(8), device=settings.device, limit=1000)
    plans = [plan for family in FAMILIES.values() for plan in family.plans]
    trained = laboratory.train_all(plans, settings.seeds, "efficiency")
    accuracy = scores(by_plan(trained))
    costs = {plan.label: _cost(plan) for plan in plans}
    uses = {plan.label: layer_uses(ResNet(spec_of(plan)), _SIZE) for plan in plans}
    most_uses = max(count for found in uses.values() for count in found.values())
    same = all(costs[f"depth {depth}"] == costs[f"plain {depth}"] for depth in DEPTHS)
    published = _published()
    without = published["ResNet-50, basic blocks of the same output width"]
    saved_by_bottleneck = without.parameters / published["ResNet-50"].parameters
    holds = most_uses == 1 and same and saved_by_bottleneck > 2
    return Evidence(
        conclusion=_conclusion(accuracy, costs, published, most_uses, same=same, holds=holds),
        holds=holds,
        facts={
            "val_accuracy": {label: value.value for label, value in accuracy.items()},
            "parameters": {label: cost.parameters for label, cost in costs.items()},
            "multiply_adds": {label: cost.multiply_adds for label, cost in costs.items()},
            "most_uses_of_a_layer": most_uses,
            "imagenet": {label: vars(cost) for label, cost in published.items()},
        },
        panels=tuple(_panel(accuracy, costs, what) for what in ("parameters", "multiply_adds")),
        tables=(_imagenet_table(published), _table(plans, accuracy, costs, uses)),
    )


def _cost(plan: Plan) -> Cost:
    return cost_of(spec_of(plan), _SIZE)


def _published() -> dict[str, Cost]:
    """Return the costs of networks for ImageNet, all computed here from their layers."""
    resnet50 = find("resnet50").spec
    return {
        "VGG-16": VGG16,
        "VGG-16, global average pooling in place of its first two linear layers": with_global_pool(VGG16),
        "ResNet-34": cost_of(find("resnet34").spec, 224),
        "ResNet-50": cost_of(resnet50, 224),
        "ResNet-50, without shortcuts and their projections": cost_of(resnet50.override(residual=False), 224),
        "ResNet-50, basic blocks of the same output width": cost_of(
            resnet50.override(block="basic", width=256, stem_width=64), 224
        ),
    }


def _conclusion(
    accuracy: dict[str, Mean],
    costs: dict[str, Cost],
    published: dict[str, Cost],
    most_uses: int,
    *,
    same: bool,
    holds: bool,
) -> Text:
    vgg, pooled, resnet = VGG16, with_global_pool(VGG16), published["ResNet-50"]
    wide = published["ResNet-50, basic blocks of the same output width"]
    here = [
        (accuracy[label].percent(), f"{costs[label].parameters:,}")
        for label in ("depth 20", "bottleneck 20", f"width {WIDTHS[-1]}", "plain 20")
    ]
    (basic, of_basic), (narrow, of_narrow), (broad, of_broad), (plain, _) = here
    return Text(
        f"One forward pass runs each layer {'once' if most_uses == 1 else f'up to {most_uses} times'}, and the "
        f"networks without shortcuts have {'exactly as many' if same else 'other numbers of'} parameters and "
        f"multiply-adds: shortcuts save nothing. Of VGG-16's {vgg.parameters / 1e6:.1f} million parameters "
        f"{vgg.linear / 1e6:.1f} million are in linear layers; with global average pooling "
        f"{pooled.parameters / 1e6:.1f} million remain. ResNet-50 has {resnet.parameters / 1e6:.1f} million; with "
        f"basic blocks of the same output width it would have {wide.parameters / 1e6:.0f} million and "
        f"{wide.multiply_adds / resnet.multiply_adds:.0f} times the multiply-adds. On this data 20 layers of basic "
        f"blocks reach {basic} with {of_basic} parameters, of bottlenecks {narrow} with {of_narrow}, 8 wide layers "
        f"{broad} with {of_broad}; the first without its shortcuts {plain} with the same parameters."
        + ("" if holds else " These counts do not support the claim."),
        f"一次前向传播中每层{'只运行一次' if most_uses == 1 else f'最多运行 {most_uses} 次'}，去掉捷径的网络参数和乘加"
        f"{'完全相同' if same else '不同'}：捷径什么也没省下。VGG-16 的 {vgg.parameters / 1e6:.1f} 百万参数中有 "
        f"{vgg.linear / 1e6:.1f} 百万在全连接层；换成全局平均池化后只剩 {pooled.parameters / 1e6:.1f} 百万。"
        f"ResNet-50 有 {resnet.parameters / 1e6:.1f} 百万参数；若改用输出宽度相同的基本块，参数会是 "
        f"{wide.parameters / 1e6:.0f} 百万，乘加是原来的 {wide.multiply_adds / resnet.multiply_adds:.0f} 倍。"
        f"在这份数据上，20 层基本块用 {of_basic} 个参数达到 {basic}，20 层瓶颈块用 {of_narrow} 个参数达到 {narrow}，"
        f"8 个宽层用 {of_broad} 个参数达到 {broad}；第一个网络去掉捷径后参数不变，达到 {plain}。"
        + ("" if holds else "这些计数不支持本课的论断。"),
    )


def _panel(accuracy: dict[str, Mean], costs: dict[str, Cost], what: str) -> Lines:
    series = []
    for key, family in FAMILIES.items():
        labels = [plan.label for plan in family.plans]
        x = [getattr(costs[label], what) for label in labels]
        series.append(band(family.label, x, [accuracy[label] for label in labels], is_dashed=key == "plain"))
    words = {
        "parameters": PARAMETERS,
        "multiply_adds": Text("multiply-adds per image", "每张图像的乘加次数"),
    }
    title = {
        "parameters": Text("accuracy against parameters", "正确率与参数量"),
        "multiply_adds": Text("accuracy against multiply-adds", "正确率与乘加次数"),
    }
    return Lines(title[what], words[what], VAL_ACCURACY, series, x_log=True)


_NAMES_ZH = {
    "VGG-16, global average pooling in place of its first two linear layers": "VGG-16，"
    "用全局平均池化代替前两个全连接层",
    "ResNet-50, without shortcuts and their projections": "ResNet-50，去掉捷径及其投影",
    "ResNet-50, basic blocks of the same output width": "ResNet-50，改用输出宽度相同的基本块",
}


def _imagenet_table(published: dict[str, Cost]) -> Table:
    rows = [
        (
            Text(name, _NAMES_ZH.get(name, name)), f"{cost.parameters / 1e6:.1f}", f"{cost.linear / 1e6:.1f}",
            f"{cost.multiply_adds / 1e9:.2f}",
        )
        for name, cost in published.items()
    ]  # fmt: skip
    header = (
        Text("network, 224 pixels, 1000 classes", "网络，224 像素，1000 类"),
        Text("parameters, million", "参数，百万"),
        Text("of these in linear layers", "其中全连接层"),
        Text("multiply-adds, billion", "乘加，十亿次"),
    )
    return Table(Text("where ImageNet networks have their parameters", "ImageNet 网络的参数在哪里"), header, rows)


def _table(
    plans: Sequence[Plan], accuracy: dict[str, Mean], costs: dict[str, Cost], uses: dict[str, Counter[str]]
) -> Table:  # fmt: skip
    rows = [
        (
            _named(plan.label), f"{costs[plan.label].parameters:,}", f"{costs[plan.label].multiply_adds:,}",
            str(max(uses[plan.label].values())), accuracy[plan.label].percent(),
        )
        for plan in plans
    ]  # fmt: skip
    header = (
        NETWORK, PARAMETERS, Text("multiply-adds", "乘加"),
        Text("uses of each layer", "每层使用次数"), VAL_ACCURACY,
    )  # fmt: skip
    return Table(Text("the trained networks, 16 pixels", "训练的网络，16 像素"), header, rows)


_WORDS = {"depth": "深度", "width": "宽度", "bottleneck": "瓶颈", "plain": "普通"}


def _named(label: str) -> Text:
    kind, _, size = label.partition(" ")
    return Text(label, f"{_WORDS[kind]} {size}")


LESSON = Lesson(
    name="efficiency",
    question=Text("What makes residual networks economical?", "残差网络省在哪里？"),
    claim=Text(
        "Shortcuts save no parameters: no layer is used twice, and the network without shortcuts costs exactly as "
        "much. "
        "The savings come from the bottleneck and from global average pooling in place of large linear layers.",
        "捷径并不节省参数：没有哪一层被重复使用，去掉捷径的网络代价完全一样。"
        "真正的节省来自瓶颈结构，以及用全局平均池化代替庞大的全连接层。",
    ),
    method=Text(
        "CIFAR networks that differ in depth, width or kind of block are trained by one recipe, the deeper ones also "
        "without shortcuts (option A has no parameters, so these cost the same). A counter in each layer notes how "
        "many times a forward pass runs it. Parameters and multiply-adds of the ImageNet networks are computed from "
        "their layers; a multiply-add counts as one.",
        "用同一套训练方法训练深度、宽度、块类型不同的 CIFAR 网络，较深的再各训练一个去掉捷径的版本（选项 A 没有参数，"
        "所以代价相同）。每一层装一个计数器，记录一次前向传播运行它几次。ImageNet 网络的参数与乘加由各层算出；"
        "一次乘加计为一次运算。",
    ),
    popular=Text(
        '"Residual networks re-use layers, so they need fewer parameters than VGG." No layer is re-used: the shortcut '
        "passes activations on, not weights, and every block has weights of its own. VGG-16 is large for another "
        "reason: its first linear layer alone, 25,088 to 4,096, has 102.8 million parameters. Of its multiply-adds "
        "nearly a third are spent at 224 and 112 pixels on 64 and 128 channels, where a ResNet has only its stem. "
        "What the shortcut "
        "does give is that the depth bought with these savings can be trained (lesson degradation).",
        "“残差网络重复使用层，所以参数比 VGG 少。”没有任何层被重复使用：捷径传递的是激活值而不是权重，"
        "每个块都有自己的权重。"
        "VGG-16 大另有原因：仅第一个全连接层（25,088 到 4,096）就有 1.028 亿个参数。它的乘加有近三分之一花在 224 和 "
        "112 像素、"
        "64 和 128 个通道上，而 ResNet 在那里只有输入层。捷径真正给出的，是让用这些节省换来的深度能够训练"
        "（见 degradation 一课）。",
    ),
    next_steps=Text(
        "Run it on --data cifar10 --time 20m, where the differences in accuracy are larger. See what any change costs: "
        "restune models resnet50. Then see the lessons shortcut and degradation.",
        "用 --data cifar10 --time 20m 再做一次，正确率的差别会更大。看任何改动的代价：restune models resnet50。"
        "接着看 shortcut 和 degradation 两课。",
    ),
    experiment=experiment,
    seconds=130,
    limit=1000,
    sources=(
        "He et al. 2016, Deep Residual Learning, table 1 and section 4.1, arXiv:1512.03385",
        "Simonyan and Zisserman 2015, Very Deep Convolutional Networks, table 1, configuration D, arXiv:1409.1556",
        "torchvision: VGG16_Weights 138,357,544 parameters, 15.47 GFLOPS; ResNet50_Weights 25,557,032, 4.09 GFLOPS",
        "Lin et al. 2014, Network in Network, section 3.2 (global average pooling), arXiv:1312.4400",
    ),
)
