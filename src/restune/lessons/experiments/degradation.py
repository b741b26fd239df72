"""degradation: deeper plain networks have a higher training error; residual ones do not."""

from __future__ import annotations

from restune.core.language import Text
from restune.lessons.comparison import by_plan, excess, loss_curves, losses, scores
from restune.lessons.kinds import KINDS, named, plan
from restune.lessons.laboratory import STEADY, Laboratory
from restune.lessons.lesson import Evidence, Lesson, Settings, Table
from restune.lessons.statistics import Mean, band
from restune.lessons.words import DEPTH, NETWORK, TRAIN_LOSS, VAL_ACCURACY
from restune.reporting.plots import Lines

DEPTHS = (8, 20, 32, 56)


def experiment(settings: Settings, depths: tuple[int, ...] = DEPTHS) -> Evidence:
    """Train both kinds at every depth with every seed."""
    laboratory = Laboratory(
        settings.data, epochs=settings.epochs(10), changes=STEADY, device=settings.device, limit=4000
    )
    plans = [plan(kind, depth) for depth in depths for kind, _ in KINDS]
    found = by_plan(laboratory.train_all(plans, settings.seeds, "degradation"))
    loss, accuracy = losses(found), scores(found)
    shallowest, deepest = depths[0], depths[-1]
    over_residual = excess(found, f"plain-{deepest}", f"residual-{deepest}")
    over_shallow = excess(found, f"plain-{deepest}", f"plain-{shallowest}")
    holds = over_residual.low > 0 and over_shallow.low > 0
    title = Text("training loss by epoch", "训练损失随轮数的变化")
    return Evidence(
        conclusion=_conclusion(loss, over_residual, over_shallow, (shallowest, deepest), holds=holds),
        holds=holds,
        facts={"train_loss": {label: value.value for label, value in loss.items()},
               "val_accuracy": {label: value.value for label, value in accuracy.items()},
               "plain_above_residual": over_residual.value, "deep_above_shallow": over_shallow.value},
        panels=(loss_curves(found, depths, dict(KINDS), dashed="plain", title=title), _by_depth(loss, depths)),
        tables=(_table(loss, accuracy),),
    )  # fmt: skip


def _conclusion(
    loss: dict[str, Mean], over_residual: Mean, over_shallow: Mean, depths: tuple[int, int], *, holds: bool
) -> Text:  # fmt: skip
    shallow, deep = depths
    plain, residual = loss[f"plain-{deep}"], loss[f"residual-{deep}"]
    return Text(
        f"At depth {deep} the plain network ends with a training loss of {plain}, the residual one with {residual}: a "
        f"difference of {over_residual.signed()} seed by seed. The plain network of depth {shallow} ends with "
        f"{loss[f'plain-{shallow}']}; depth changes its loss by {over_shallow.signed()}: "
        + ("adding layers made the plain network worse on its own training data." if holds else
           "depth did not harm the plain network here by more than the seeds vary; train longer or take harder data."),
        f"深度 {deep} 时，普通网络最后的训练损失为 {plain}，残差网络为 {residual}，按随机种子配对相差 "
        f"{over_residual.signed()}。深度 {shallow} 的普通网络为 {loss[f'plain-{shallow}']}，"
        f"加深使它的损失变化 {over_shallow.signed()}："
        + ("增加层数反而让普通网络在自己的训练数据上变差了。" if holds else
           "这里加深对普通网络的损害没有超出随机种子的波动；请训练更久，或换更难的数据。"),
    )  # fmt: skip


def _by_depth(loss: dict[str, Mean], depths: tuple[int, ...]) -> Lines:
    series = [
        band(label, depths, [loss[f"{kind}-{depth}"] for depth in depths], is_dashed=kind == "plain")
        for kind, label in KINDS
    ]
    return Lines(Text("training loss after the last epoch", "最后一轮的训练损失"), DEPTH, TRAIN_LOSS, series)


def _table(loss: dict[str, Mean], accuracy: dict[str, Mean]) -> Table:
    rows = [(named(label), str(loss[label]), accuracy[label].percent()) for label in loss]
    return Table(Text("all networks", "全部网络"), (NETWORK, TRAIN_LOSS, VAL_ACCURACY), rows)


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
    seconds=220,
    sources=("He et al. 2016, Deep Residual Learning, figures 1 and 6, arXiv:1512.03385",),
)
