"""degradation: deeper plain networks have a higher training error; residual ones do not."""

from __future__ import annotations

from restune.core.language import Text
from restune.lessons.laboratory import STEADY, Laboratory, Plan, Trained
from restune.lessons.lesson import Evidence, Lesson, Settings, Table
from restune.lessons.statistics import Mean, band, mean
from restune.reporting.plots import Lines

DEPTHS = (8, 20, 32, 56)
KINDS = (("residual", Text("residual", "残差网络")), ("plain", Text("plain", "普通网络")))


def plan(kind: str, depth: int) -> Plan:
    """Return the CIFAR network of a depth at half its width, or its plain twin."""
    spec = (("width", 8), *(() if kind == "residual" else (("residual", False),)))
    return Plan(f"{kind}-{depth}", f"resnet{depth}", spec)


def experiment(settings: Settings, depths: tuple[int, ...] = DEPTHS) -> Evidence:
    """Train both kinds at every depth with every seed."""
    laboratory = Laboratory(
        settings.data, epochs=settings.epochs(10), changes=STEADY, device=settings.device, limit=4000
    )
    plans = [plan(kind, depth) for depth in depths for kind, _ in KINDS]
    trained = laboratory.train_all(plans, settings.seeds, "degradation")
    found = {item.label: [run for run in trained if run.plan.label == item.label] for item in plans}
    losses = {label: mean([run.train_loss for run in runs]) for label, runs in found.items()}
    scores = {label: mean([run.accuracy for run in runs]) for label, runs in found.items()}
    deepest = depths[-1]
    plain, residual = losses[f"plain-{deepest}"], losses[f"residual-{deepest}"]
    shallow = losses[f"plain-{depths[0]}"]
    holds = plain.value > residual.value and plain.value > shallow.value
    return Evidence(
        conclusion=Text(
            f"At depth {deepest} the plain network ends with a training loss of {plain}, the residual one with "
            f"{residual}. The plain network of depth {depths[0]} ends with {shallow}: "
            + ("adding layers made the plain network worse on its own training data." if holds else
               "here depth did not harm the plain network; train longer or take a harder data set."),
            f"深度 {deepest} 时，普通网络最后的训练损失为 {plain}，残差网络为 {residual}。"
            f"深度 {depths[0]} 的普通网络为 {shallow}："
            + ("增加层数反而让普通网络在自己的训练数据上变差了。" if holds else
               "这里加深没有损害普通网络；请训练更久，或换更难的数据。"),
        ),
        holds=holds,
        facts={"train_loss": {label: value.value for label, value in losses.items()},
               "val_accuracy": {label: value.value for label, value in scores.items()}},
        panels=(_curves(found, depths), _by_depth(losses, depths)),
        tables=(_table(losses, scores, depths),),
    )  # fmt: skip


def _curves(found: dict[str, list[Trained]], depths: tuple[int, ...]) -> Lines:
    series = []
    for depth in depths:
        for kind, label in KINDS:
            runs = found[f"{kind}-{depth}"]
            epochs = [record.epoch for record in runs[0].records]
            means = [mean([run.records[place].train_loss for run in runs]) for place in range(len(epochs))]
            series.append(band(label, epochs, means, is_dashed=kind == "plain", at=depth))
    return Lines(
        Text("training loss by epoch", "训练损失随轮数的变化"), Text("epoch", "轮"), Text("training loss", "训练损失"),
        series, slider=Text("depth", "深度"),
    )  # fmt: skip


def _by_depth(losses: dict[str, Mean], depths: tuple[int, ...]) -> Lines:
    series = []
    for kind, label in KINDS:
        means = [losses[f"{kind}-{depth}"] for depth in depths]
        series.append(band(label, depths, means, is_dashed=kind == "plain"))
    title = Text("training loss after the last epoch", "最后一轮的训练损失")
    return Lines(title, Text("depth", "深度"), Text("training loss", "训练损失"), series)


def _table(losses: dict[str, Mean], scores: dict[str, Mean], depths: tuple[int, ...]) -> Table:
    header = (Text("network", "网络"), Text("training loss", "训练损失"), Text("validation accuracy", "验证正确率"))
    labels = [f"{kind}-{depth}" for depth in depths for kind, _ in KINDS]
    rows = [(label, str(losses[label]), scores[label].percent()) for label in labels]
    return Table(Text("all networks", "全部网络"), header, rows)


LESSON = Lesson(
    name="degradation",
    question=Text("Why do deeper plain networks train worse?", "普通网络加深之后为什么反而更难训练？"),
    claim=Text(
        "Beyond some depth a plain network has a higher training error than a shallower one, although it could copy "
        "the shallower one and let the remaining layers pass their input on. It is not overfitting: the training "
        "error itself is higher. With shortcuts the deep network trains as well as the shallow one, or better.",
        "超过一定深度以后，普通网络的训练误差比浅网络还高，尽管它本可以照搬浅网络、让多余的层原样传递输入。"
        "这不是过拟合：升高的正是训练误差。加上捷径以后，深网络训练得和浅网络一样好，甚至更好。",
    ),
    method=Text(
        "CIFAR networks of several depths and their plain twins (the same layers and parameters without shortcuts; "
        "both have batch norm) are trained alike, each with three seeds.",
        "训练若干深度的 CIFAR 网络以及去掉捷径的普通版本（层和参数完全相同，都有批归一化），训练方法相同，"
        "各用三个随机种子。",
    ),
    popular=Text(
        '"Deep plain networks overfit" and "their gradients vanish" are the usual explanations. The training loss '
        "above rules out the first; the lesson gradient-flow shows that with batch norm gradients do not vanish. He et "
        "al. call it an optimisation difficulty: the solver does not find the identity, the shortcut gives it.",
        "常见的解释是“深的普通网络过拟合”和“梯度消失”。上面的训练损失排除了前者；gradient-flow 一课说明有了批归一化，"
        "梯度并不消失。He 等人认为这是优化上的困难：求解器找不到恒等映射，而捷径直接把它给了出来。",
    ),
    next_steps=Text(
        "Run it with --data cifar10 or a folder of your own; then see the lessons gradient-flow, landscape and "
        "shortcut.",
        "用 --data cifar10 或自己的文件夹再做一次；接着看 gradient-flow、landscape 和 shortcut。",
    ),
    experiment=experiment,
    seconds=240,
    sources=("He et al. 2016, Deep Residual Learning, figures 1 and 6, arXiv:1512.03385",),
)
