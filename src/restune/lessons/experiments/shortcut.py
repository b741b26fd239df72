"""shortcut: identity, projections, pre-activation and a scaled shortcut, trained alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from restune.core.language import Text
from restune.lessons.comparison import by_plan, excess, loss_curves, losses, scores
from restune.lessons.laboratory import STEADY, Laboratory, Plan
from restune.lessons.lesson import Evidence, Lesson, Settings, Table
from restune.lessons.statistics import Mean
from restune.lessons.words import PARAMETERS, TRAIN_LOSS, VAL_ACCURACY
from restune.networks.blocks import Block
from restune.networks.describe import describe
from restune.networks.resnet import ResNet
from restune.networks.zoo import find

DEPTHS = (8, 56)
WIDTH = 8


class Scale(nn.Module):
    """Multiply by a constant: a gate that is neither open nor shut."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def scaled(shortcut: float, branch: float) -> Callable[[ResNet], None]:
    """Return an edit that multiplies each block's shortcut and branch before the sum."""

    def edit(network: ResNet) -> None:
        for block in network.modules():
            if isinstance(block, Block):
                before = [] if block.downsample is None else [block.downsample]
                block.downsample = nn.Sequential(*before, Scale(shortcut))
                block.drop_path = Scale(branch)  # what runs on the branch just before the sum

    return edit


@dataclass(frozen=True)
class Variant:
    """A kind of shortcut: its label and how the network is changed for it."""

    label: Text
    spec: tuple[tuple[str, Any], ...] = ()
    edit: Callable[[ResNet], None] | None = None

    def plan(self, key: str, depth: int) -> Plan:
        """Return the CIFAR network of a depth with this shortcut."""
        return Plan(f"{key}-{depth}", f"resnet{depth}", (("width", WIDTH), *self.spec), edit=self.edit)


VARIANTS = {
    "A": Variant(Text("A: identity, zeros where channels grow", "A：恒等，通道增加处补零")),
    "B": Variant(Text("B: projection where the shape changes", "B：形状改变处投影"), (("shortcut", "B"),)),
    "C": Variant(Text("C: projection in every block", "C：每个块都投影"), (("shortcut", "C"),)),
    "D": Variant(Text("D: average pool, then projection", "D：先平均池化再投影"), (("shortcut", "D"),)),
    "preact": Variant(Text("pre-activation, identity", "预激活，恒等"), (("preact", True),)),
    "half": Variant(Text("shortcut and branch × 0.5", "捷径与分支都 × 0.5"), edit=scaled(0.5, 0.5)),
    "half-shortcut": Variant(Text("shortcut × 0.5", "仅捷径 × 0.5"), edit=scaled(0.5, 1.0)),
    "none": Variant(Text("no shortcut (plain)", "没有捷径（普通网络）"), (("residual", False),)),
}
UNSCALED = ("A", "B", "C", "D", "preact")
SCALED = ("A", "half", "half-shortcut", "none")


def experiment(settings: Settings, depths: tuple[int, ...] = DEPTHS) -> Evidence:
    """Train every kind of shortcut at every depth with every seed."""
    laboratory = Laboratory(
        settings.data, epochs=settings.epochs(8), changes=STEADY, device=settings.device, limit=1000
    )
    plans = [variant.plan(key, depth) for depth in depths for key, variant in VARIANTS.items()]
    found = by_plan(laboratory.train_all(plans, settings.seeds, "shortcut"))
    loss, accuracy, deepest = losses(found), scores(found), depths[-1]
    worse = {key: excess(found, f"{key}-{deepest}", f"A-{deepest}") for key in VARIANTS if key != "A"}
    holds = worse["half-shortcut"].low > 0 and worse["none"].low > 0
    titles = {SCALED: Text("identity, scaled, absent", "恒等、缩放、去掉"),
              UNSCALED: Text("identity and projections", "恒等与投影")}  # fmt: skip
    return Evidence(
        conclusion=_conclusion(loss, worse, deepest, holds=holds),
        holds=holds,
        facts={
            "train_loss": {label: value.value for label, value in loss.items()},
            "val_accuracy": {label: value.value for label, value in accuracy.items()},
            "excess_train_loss": {key: [value.value, value.low, value.high] for key, value in worse.items()},
        },
        panels=tuple(
            loss_curves(found, depths, {key: VARIANTS[key].label for key in keys}, dashed="none", title=title)
            for keys, title in titles.items()
        ),
        tables=(_table(loss, accuracy, worse, deepest),),
    )


def _conclusion(losses: dict[str, Mean], worse: dict[str, Mean], depth: int, *, holds: bool) -> Text:
    own, options = losses[f"A-{depth}"], _comparison(worse)
    half, both, none = (worse[key].signed() for key in ("half-shortcut", "half", "none"))
    return Text(
        f"At depth {depth} the network with identity shortcuts ends with a training loss of {own}. Halving the "
        f"shortcut changes it by {half}, halving shortcut and branch by {both}, removing the shortcut by {none}. "
        + options.en
        + (
            "A shortcut that passes its input on unchanged is what makes this depth trainable."
            if holds
            else "These measurements do not support the claim: train longer, or take more data or more seeds."
        ),
        f"深度 {depth} 时，恒等捷径的网络最后的训练损失为 {own}。捷径减半使它变化 {half}，"
        f"捷径与分支都减半变化 {both}，去掉捷径变化 {none}。"
        + options.zh
        + (
            "让这样深的网络能够训练的，正是把输入原样传下去的捷径。"
            if holds
            else "这些结果不支持本课的论断：请训练更久，或用更多的数据、更多的种子。"
        ),
    )


def _comparison(worse: dict[str, Mean]) -> Text:
    """Say which of the other unscaled shortcuts differ from option A by more than the seeds vary."""
    others = [key for key in UNSCALED if key != "A"]
    if worse["B"].n < 2:
        return Text("", "")
    better, poorer = ([key for key in others if value(worse[key])] for value in (_is_below, _is_above))
    if not better and not poorer:
        return Text(
            "Options B, C, D and pre-activation do not differ from it by more than the seeds vary. ",
            "B、C、D 与预激活同它的差别都没有超出随机种子的波动。",
        )
    parts = [(better, "lower", "更低"), (poorer, "higher", "更高")]
    return Text(
        "The training loss is "
        + " and ".join(f"{word} with {', '.join(keys)}" for keys, word, _ in parts if keys)
        + " than with option A by more than the seeds vary; with the others of B, C, D and pre-activation it is not. ",
        "与选项 A 相比，训练损失的差别超出随机种子波动的有："
        + "；".join(f"{'、'.join(keys)} {word}" for keys, _, word in parts if keys)
        + "；B、C、D 与预激活中的其余几种没有。",
    )


def _is_below(difference: Mean) -> bool:
    return difference.high < 0


def _is_above(difference: Mean) -> bool:
    return difference.low > 0


def _table(losses: dict[str, Mean], scores: dict[str, Mean], worse: dict[str, Mean], depth: int) -> Table:
    rows = []
    for key, variant in VARIANTS.items():
        spec = find(f"resnet{depth}").spec.override(width=WIDTH, **dict(variant.spec))
        label = f"{key}-{depth}"
        difference = "" if key == "A" else worse[key].signed()
        parameters = f"{describe(spec, 16).parameters:,}"
        rows.append((variant.label, parameters, str(losses[label]), difference, scores[label].percent()))
    header = (
        Text("shortcut", "捷径"), PARAMETERS, TRAIN_LOSS, Text("difference to A", "与 A 之差"), VAL_ACCURACY,
    )  # fmt: skip
    return Table(Text(f"depth {depth}, last epoch", f"深度 {depth}，最后一轮"), header, rows)


LESSON = Lesson(
    name="shortcut",
    question=Text("What must a shortcut do?", "捷径该做什么？"),
    claim=Text(
        "A shortcut must pass its input on unchanged. Halving it makes a deep network train much worse, almost as if "
        "it were not there; how the few shortcuts that change shape do so (options A, B, D) hardly matters.",
        "捷径应当把输入原样传下去。把它减半，深的网络就难训练得多，几乎等于没有捷径；"
        "而少数需要改变形状的捷径用哪种做法（A、B、D）差别不大。",
    ),
    method=Text(
        "CIFAR networks with eight kinds of shortcut are trained by one recipe. A pads with zeros, B projects by a 1x1 "
        "convolution where the shape changes, C projects in every block, D average-pools before it projects; "
        "pre-activation puts norm and ReLU before each convolution. A scaled shortcut is multiplied by 0.5 in every "
        "block before the sum. Differences are taken seed by seed.",
        "用同一套训练方法训练带八种捷径的 CIFAR 网络。A 补零；B 在形状改变处用 1×1 卷积投影；C 在每个块都投影；"
        "D 先平均池化再投影；预激活把归一化和 ReLU 放在每个卷积之前。缩放的捷径在每个块相加之前乘以 0.5。"
        "差值按随机种子逐一配对计算。",
    ),
    popular=Text(
        '"A projection is better since it can learn": projecting in every block adds parameters and takes the identity '
        'away; in ResNet-110 He et al. (2016b, table 1) measured 12.2% error with it against 6.6%. "Any path around '
        "the "
        'layers will do": a factor of 0.5 on each of 27 shortcuts leaves 0.5 to the power of 27, about one part in a '
        "hundred million, of the first block's input. There, a constant 0.5 on shortcut and branch gave 12.4% error, "
        "and 0.5 on the shortcut alone did not train. Pre-activation keeps the path free even of the ReLU; that paid "
        "off at 164 layers and more, after full training (tables 2 and 4), not in the first hundred steps as here.",
        "“投影能学习，所以更好”：每个块都投影会增加参数，同时失去恒等路径；He 等人（2016b，表 1）在 ResNet-110 上测得"
        "错误率 12.2%，恒等捷径为 6.6%。“只要有一条绕过各层的路就行”：27 个捷径每个乘以 0.5，第一个块的输入就只剩下"
        "0.5 的 27 次方，约一亿分之一。文中捷径与分支都乘 0.5 时错误率为 12.4%，只把捷径乘 0.5 时训练失败。"
        "预激活让这条路连 ReLU 都不经过；它的好处在 164 层以上、完整训练之后才显出来（表 2 和表 4），"
        "而不是在这里的头一百多步。",
    ),
    next_steps=Text(
        "Run it on --data cifar10, or longer with --time 20m. Train a variant in full: restune train DATA --model "
        "resnet56 --set spec.shortcut=C. Then see the lessons degradation and lesion.",
        "用 --data cifar10 再做一次，或用 --time 20m 训练更久。完整训练某一种：restune train DATA --model resnet56 "
        "--set spec.shortcut=C。接着看 degradation 和 lesion 两课。",
    ),
    experiment=experiment,
    seconds=220,
    limit=1000,
    sources=(
        "He et al. 2016b, Identity Mappings in Deep Residual Networks, table 1, arXiv:1603.05027",
        "He et al. 2016, Deep Residual Learning, table 3 (options A, B, C), arXiv:1512.03385",
        "He et al. 2019, Bag of Tricks, figure 2 (option D), arXiv:1812.01187",
    ),
)
