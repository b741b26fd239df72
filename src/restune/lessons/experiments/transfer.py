"""transfer: frozen, unfrozen and from scratch, against the number of training items."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from restune.core.console import progress
from restune.core.errors import UserError
from restune.core.language import Text
from restune.core.streams import generator
from restune.data.dataset import Dataset, Item
from restune.data.sources import open_dataset
from restune.lessons.laboratory import Laboratory, Plan
from restune.lessons.lesson import Evidence, Lesson, Settings, Table
from restune.lessons.statistics import Mean, band, mean, mean_share
from restune.lessons.words import VAL_ACCURACY
from restune.networks.resnet import ResNet
from restune.reporting.plots import Lines

PER_CLASS = (2, 4, 8, 16, 32, 100)
_FEW, _DRAWS = 4, 3
"""Up to 4 items per class the choice of items matters much: each seed then averages over three draws."""
METHODS = {
    "frozen": Text("frozen (new head only)", "冻结（只训练新的头）"),
    "unfrozen": Text("unfrozen (all layers)", "解冻（训练全部层）"),
    "scratch": Text("from scratch", "从头训练"),
}
NETWORK: dict[str, Any] = {"model": "resnet8", "spec": (("width", 32),)}
"""Twice the usual width: narrower networks learn fewer features that serve other classes."""
_VISITS = 640
"""Visits of items per epoch: a small training set is repeated, so that all sizes get about as many steps."""


def experiment(settings: Settings, per_class: tuple[int, ...] = PER_CLASS) -> Evidence:
    """Pretrain on most classes; learn the others from few items to many, in three ways."""
    first, second = _parts(open_dataset(settings.data))
    device, epochs = settings.device, settings.epochs
    before = Laboratory(first, epochs=epochs(12), changes=_PRETRAINING, device=device, limit=2000)
    after = Laboratory(second, epochs=epochs(4), changes={"augment.shift": 0}, device=device, limit=2000)
    sizes = _sizes(after.prepared.splits.train, per_class)
    held_out = after.validation_batch()
    scores: dict[tuple[str, int], list[float]] = {(method, size): [] for method in METHODS for size in sizes}
    rounds = len(settings.seeds) * (1 + len(METHODS) * sum(map(_draws, sizes)))
    with progress("transfer", rounds, unit="trainings") as advance:
        for seed in settings.seeds:
            pretrained = before.train(Plan("pretrained", **NETWORK), seed).network
            advance(1)
            for size in sizes:
                found: dict[str, list[float]] = {method: [] for method in METHODS}
                for draw in range(_draws(size)):
                    few = _drawn(after.prepared.splits.train, size, seed, draw)
                    for method in METHODS:
                        network = _trained(after, method, pretrained, few, seed)
                        found[method].append(_accuracy(network, held_out))
                        advance(1)
                for method, values in found.items():
                    scores[method, size].append(math.fsum(values) / len(values))
    return _evidence(scores, sizes, first, second)


_PRETRAINING = {"mixup": 0.5, "optimizer.lr": 0.1, "batch_size": 32}
"""Features that know more than the classes they were trained on: with mixup they transfer better."""
_SHARE = 0.7
"""Of the classes, to pretrain on."""


def _draws(size: int) -> int:
    return _DRAWS if size <= _FEW else 1


def _parts(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """Split the classes in two, in their order. Raises UserError for fewer than four."""
    count = len(dataset.classes)
    if count < 4:
        raise UserError(
            f"this lesson needs at least 4 classes, most of them to pretrain on; the data has {count}",
            where=dataset.source,
            fix="name other data with --data, such as digits",
        )
    old = min(round(_SHARE * count), count - 2)
    return _only(dataset, range(old)), _only(dataset, range(old, count))


def _only(dataset: Dataset, targets: range) -> Dataset:
    items = tuple(replace(item, target=item.target - targets.start) for item in dataset.items if item.target in targets)
    return replace(dataset, items=items, classes=dataset.classes[targets.start : targets.stop])


def _by_class(train: Dataset) -> list[list[Item]]:
    members: list[list[Item]] = [[] for _ in train.classes]
    for item in train.items:
        members[item.target].append(item)
    return members


def _sizes(train: Dataset, per_class: tuple[int, ...]) -> list[int]:
    """Return the numbers of items per class that the smallest class has."""
    least = min(map(len, _by_class(train)))
    return [count for count in per_class if count <= least]


def _drawn(train: Dataset, each: int, seed: int, draw: int = 0) -> Dataset:
    """Draw `each` items of every class from the seed; smaller draws are parts of larger ones."""
    chosen: list[Item] = []
    for members in _by_class(train):
        order = generator(seed, "lesson transfer", draw).permutation(len(members))
        chosen += [members[place] for place in order[:each]]
    return replace(train, items=tuple(chosen))


def _trained(laboratory: Laboratory, method: str, pretrained: ResNet, few: Dataset, seed: int) -> ResNet:
    """Train on a few items in one of the three ways."""
    if method == "frozen":
        # The strength of the head's regularisation is chosen by cross-validation on these few items alone.
        frozen = Plan(method, **NETWORK, changes=(("freeze", "all"), ("cache", False)), edit=_body_of(pretrained))
        return laboratory.train(frozen, seed, train=few, held_out=False).network
    changes = (("batch_size", min(32, len(few))),)
    repeated = replace(few, items=tuple(few.items) * math.ceil(_VISITS / len(few)))
    if method == "scratch":
        return laboratory.train(Plan(method, **NETWORK, changes=changes), seed, train=repeated).network
    slower = (*changes, ("optimizer.lr", 0.02))
    return laboratory.train(
        Plan(method, **NETWORK, changes=slower, edit=_body_of(pretrained)), seed, train=repeated
    ).network  # fmt: skip


def _body_of(pretrained: ResNet) -> Callable[[ResNet], None]:
    """Return an edit that copies all weights but the head's."""
    body = {name: value for name, value in pretrained.state_dict().items() if not name.startswith("fc.")}

    def edit(network: ResNet) -> None:
        network.load_state_dict({**network.state_dict(), **body})

    return edit


@torch.no_grad()
def _accuracy(network: ResNet, held_out: tuple[Tensor, Tensor]) -> float:
    x, targets = held_out
    device = network.fc.weight.device
    return float((network.eval()(x.to(device)).argmax(dim=1).cpu() == targets).float().mean())


@dataclass(frozen=True)
class Crossing:
    """Where one line meets another: below `items` the first is ahead.

    Args:
        items: interpolated on the logarithm of the number of items; None where the lines do not cross.
        is_ahead: whether the first line is ahead at the smallest number of items.
    """

    items: float | None
    is_ahead: bool


def crossing(items: Sequence[int], first: Sequence[float], second: Sequence[float]) -> Crossing:
    """Find where `second` first reaches `first`.

    >>> crossing([10, 1000], [0.8, 0.8], [0.6, 1.0])
    Crossing(items=100.0, is_ahead=True)
    """
    gaps = [one - other for one, other in zip(first, second, strict=True)]
    if gaps[0] <= 0:
        return Crossing(None, False)
    for place in range(1, len(gaps)):
        if gaps[place] <= 0:
            share = gaps[place - 1] / (gaps[place - 1] - gaps[place])
            low, high = math.log(items[place - 1]), math.log(items[place])
            return Crossing(round(math.exp(low + share * (high - low)), 1), True)
    return Crossing(None, True)


def _evidence(
    scores: dict[tuple[str, int], list[float]], sizes: list[int], first: Dataset, second: Dataset
) -> Evidence:
    classes = len(second.classes)
    items = [classes * size for size in sizes]
    means = {method: [mean_share(scores[method, size]) for size in sizes] for method in METHODS}
    values = {method: [value.value for value in line] for method, line in means.items()}
    meets = crossing(items, values["frozen"], values["scratch"])
    over = crossing(items, values["frozen"], values["unfrozen"])
    lead, last_lead = (
        mean([one - other for one, other in zip(scores["frozen", size], scores["scratch", size], strict=True)])
        for size in (sizes[0], sizes[-1])
    )
    return Evidence(
        conclusion=_conclusion(items, means, meets, over, lead, (first.classes, second.classes)),
        holds=lead.low > 0 and (len(sizes) == 1 or last_lead.value < lead.value),
        facts={
            "items": items,
            "val_accuracy": values,
            "frozen_beats_scratch_below": meets.items,
            "frozen_beats_unfrozen_below": over.items,
        },
        panels=(_panel(items, means),),
        tables=(_table(items, means),),
    )


def _conclusion(
    items: list[int], means: dict[str, list[Mean]], meets: Crossing, over: Crossing, lead: Mean,
    classes: tuple[tuple[str, ...], tuple[str, ...]],
) -> Text:  # fmt: skip
    (old, new), last = classes, items[-1]
    ends = f"{old[0]} – {old[-1]}", f"{new[0]} – {new[-1]}"
    frozen, unfrozen, scratch = (means[method] for method in METHODS)
    if meets.items is not None:
        where = (
            f"Frozen beats from scratch below about {meets.items:.0f} items. ",
            f"训练样本少于约 {meets.items:.0f} 个时，冻结胜过从头训练。",
        )
    elif meets.is_ahead:
        where = (
            f"Frozen is ahead of from scratch up to the largest size here, {last} items. ",
            f"直到这里最大的 {last} 个样本，冻结都领先于从头训练。",
        )
    else:
        where = ("Frozen is not ahead of from scratch at any small size. ", "即使样本很少，冻结也没有领先于从头训练。")
    if over.items is not None:
        thawed = (
            f"Against all layers trained, frozen is ahead below about {over.items:.0f} items. ",
            f"与训练全部层相比，冻结在少于约 {over.items:.0f} 个样本时领先。",
        )
    elif over.is_ahead:
        thawed = ("Frozen also stays ahead of all layers trained. ", "冻结也始终领先于训练全部层。")
    else:
        thawed = (
            "Training all layers is at least as good as freezing from the smallest size on. ",
            "从最小的样本数起，训练全部层就不比冻结差。",
        )
    support = lead.low > 0
    return Text(
        f"With {items[0]} training items of the classes {ends[1]}, a network pretrained on {ends[0]} and frozen "
        "reaches "
        f"{frozen[0].percent()}, from scratch {scratch[0].percent()}. {where[0]}{thawed[0]}With {last} items: frozen "
        f"{frozen[-1].percent()}, unfrozen {unfrozen[-1].percent()}, from scratch {scratch[-1].percent()}."
        + (
            ""
            if support
            else " The lead with the fewest items is within what the seeds vary: the claim is not supported."
        ),
        f"用类别 {ends[1]} 的 {items[0]} 个样本训练时，在 {ends[0]} 上预训练并冻结的网络达到 {frozen[0].percent()}，"
        f"从头训练达到 {scratch[0].percent()}。{where[1]}{thawed[1]}用 {last} 个样本时：冻结 {frozen[-1].percent()}，"
        f"解冻 {unfrozen[-1].percent()}，从头训练 {scratch[-1].percent()}。"
        + ("" if support else "样本最少时的领先没有超出随机种子的波动：不支持本课的论断。"),
    )


def _panel(items: list[int], means: dict[str, list[Mean]]) -> Lines:
    series = [band(label, items, means[key], is_dashed=key == "scratch") for key, label in METHODS.items()]
    return Lines(
        Text("accuracy on classes that were not in pretraining", "在预训练中没有的类别上的正确率"),
        Text("training items", "训练样本数"), VAL_ACCURACY, series, x_log=True,
    )  # fmt: skip


def _table(items: list[int], means: dict[str, list[Mean]]) -> Table:
    rows = [(str(count), *(means[method][place].percent() for method in METHODS)) for place, count in enumerate(items)]
    return Table(VAL_ACCURACY, (Text("training items", "训练样本数"), *METHODS.values()), rows)


LESSON = Lesson(
    name="transfer",
    question=Text(
        "When to freeze, when to train all layers, when to start from scratch?",
        "何时冻结、何时全部训练、何时从头开始？",
    ),
    claim=Text(
        "With few items a frozen network that learned other classes beats one trained from scratch; the more items, "
        "the smaller its lead, until the lines meet. Training all of its layers is an option at every size.",
        "样本少时，学过其他类别并冻结的网络胜过从头训练的网络；样本越多，领先越小，直到两条线相遇。"
        "训练它的全部层则在各种样本数下都可以一试。",
    ),
    method=Text(
        "A network is pretrained on the first 70% of the classes (of the digits: 0 to 6). The others are then learned "
        "from few items to many: with a frozen backbone, whose new head is fitted by logistic regression; with all "
        "layers trained from the pretrained weights; and from random weights. Both trainings get about the same number "
        "of steps; none of the three augments its items. Each seed draws its own items, the same for all three (three "
        "draws up to 4 per class); accuracy is measured on held-out items of the new classes.",
        "先在前 70% 的类别（对手写数字即 0 到 6）上预训练一个网络，再用由少到多的样本学习其余类别："
        "冻结主干，用逻辑回归拟合新的头；从预训练权重出发训练全部层；从随机权重开始训练。"
        "后两种训练的步数大致相同；三种方法都不做数据增强。每个种子抽取自己的样本，三种方法共用"
        "（每类不超过 4 个时抽三次取平均）；正确率在新类别的留出样本上测量。",
    ),
    popular=Text(
        '"Always fine-tune all layers" and "always freeze on small data" are both rules about one point of this plot. '
        "Where the lines cross depends on how close the old task is to the new one: far data (X-rays for a network of "
        "photographs) moves the crossing to the left. It also depends on the pretraining: with half this width, and "
        "on five digits in place of seven, frozen and from scratch were level at ten items. Pretraining also does not "
        "always end ahead: with enough items, from scratch catches up (He et al. 2019); what it saves then is time.",
        "“永远微调全部层”和“数据少就冻结”都只说对了图上的一个点。两条线在哪里相交，取决于旧任务与新任务有多接近："
        "数据相差很远（例如用照片训练的网络去看 X 光片）时，交点会左移。也取决于预训练本身：网络宽度减半、"
        "只在五个数字而不是七个上预训练时，十个样本下冻结与从头训练不相上下。预训练也不总是最后领先：样本足够时从头训练会追上来"
        "（He 等人 2019），那时省下的只是时间。",
    ),
    next_steps=Text(
        "On your own data: restune finetune DATA --weights resnet18:v1 --freeze all, then --freeze auto, and restune "
        "train DATA, and compare. What a frozen batch norm must not do is in the lesson freeze.",
        "在自己的数据上：先 restune finetune DATA --weights resnet18:v1 --freeze all，再 --freeze auto，再 restune "
        "train "
        "DATA，然后比较。冻结的批归一化不该做什么，见 freeze 一课。",
    ),
    experiment=experiment,
    seconds=240,
    limit=4000,
    sources=(
        "Yosinski et al. 2014, How transferable are features in deep neural networks?, arXiv:1411.1792",
        "Kornblith et al. 2019, Do Better ImageNet Models Transfer Better?, arXiv:1805.08974",
        "He, Girshick and Dollár 2019, Rethinking ImageNet Pre-training, arXiv:1811.08883",
    ),
)
