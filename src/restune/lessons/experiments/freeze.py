"""freeze: three ways to freeze a backbone, and what each does to its features and to the score."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restune.core.console import progress
from restune.core.language import Text
from restune.core.streams import generator, torch_seed
from restune.lessons.laboratory import Laboratory, Plan
from restune.lessons.lesson import Evidence, Lesson, Settings, Table
from restune.lessons.measure import accuracy_of, device_of, embeddings_of
from restune.lessons.statistics import Mean, band, mean, mean_share
from restune.lessons.words import VAL_ACCURACY
from restune.networks.layout import laid_out
from restune.networks.resnet import ResNet
from restune.networks.seeding import seeded
from restune.reporting.plots import Lines
from restune.training.freeze import apply_freeze


def keep_statistics(network: ResNet) -> None:
    """Freeze as ``--freeze all`` does: no gradients, and batch norms in eval mode."""
    apply_freeze(network, "all")


def let_statistics_move(network: ResNet) -> None:
    """Freeze as common tutorials do: no gradients, but the whole network in training mode."""
    network.requires_grad_(False)
    network.fc.requires_grad_(True)
    network.train()


def train_norms(network: ResNet) -> None:
    """Freeze the convolutions; scales and shifts of the batch norms are trainable, their statistics move."""
    let_statistics_move(network)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.requires_grad_(True)


@dataclass(frozen=True)
class Way:
    """A way to freeze: its name, its name in plots, the calls that it stands for, and what it does to a network."""

    name: str
    label: Text
    calls: str
    freeze: Callable[[ResNet], None]


WAYS = (
    Way("kept", Text("statistics kept", "统计量保持不变"), "requires_grad_(False), eval()", keep_statistics),
    Way("moving", Text("statistics moving", "统计量仍在变"), "requires_grad_(False), train()", let_statistics_move),
    Way("norms", Text("norms trainable", "归一化层可训练"), "train(), bn.requires_grad_(True)", train_norms),
)


@dataclass
class Outcome:
    """What fine-tuning did.

    Args:
        distance: by epoch, how far the embeddings of fixed items moved, relative to their own norm.
        cosine: similarity of the embeddings before and after.
        accuracy: on the new classes.
        old_accuracy: on the old classes, with the old head put back on the frozen backbone.
    """

    distance: list[float]
    cosine: float
    accuracy: float
    old_accuracy: float


@dataclass(frozen=True)
class Task:
    """The items of some of the classes, as the network sees them.

    Args:
        x, targets: training items.
        held_out, held_out_targets: validation items.
    """

    x: Tensor
    targets: Tensor
    held_out: Tensor
    held_out_targets: Tensor


def fine_tune(network: ResNet, way: Way, new: Task, old: Task, *, classes: int, epochs: int, seed: int) -> Outcome:
    """Train a new head on the network, frozen in one way, by the plain loop that tutorials show.

    It is written out here because `restune finetune` offers no way to let the statistics of frozen norms move.
    """
    old_head = deepcopy(network.fc)
    before = embeddings_of(network.eval(), new.held_out)
    with seeded(torch_seed(seed, "freeze: new head")):
        network.reset_head(classes)
    way.freeze(network)
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=0.05, momentum=0.9)
    distance = [0.0]
    for epoch in range(epochs):
        way.freeze(network)  # scoring puts it in eval mode
        order = torch.from_numpy(generator(seed, "freeze: order", epoch).permutation(len(new.x)))
        for places in torch.split(order, 32):
            _step(network, optimizer, new.x[places], new.targets[places])
        after = embeddings_of(network.eval(), new.held_out)
        distance.append(float(((after - before).norm(dim=1) / before.norm(dim=1).clamp_min(1e-12)).mean()))
    accuracy = accuracy_of(network, new.held_out, new.held_out_targets)
    network.fc = old_head
    return Outcome(
        distance=distance,
        cosine=float(F.cosine_similarity(before, after).mean()),
        accuracy=accuracy,
        old_accuracy=accuracy_of(network, old.held_out, old.held_out_targets),
    )


def _step(network: ResNet, optimizer: torch.optim.Optimizer, x: Tensor, targets: Tensor) -> None:
    device = device_of(network)
    loss = F.cross_entropy(network(laid_out(x.to(device))), targets.to(device))
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def experiment(
    settings: Settings, depth: int = 20, width: int = 16, epochs: int = 12, epochs_after: int = 10,
    limit: int | None = 4000, new_items: int = 300,
) -> Evidence:  # fmt: skip
    """Pretrain on the first half of the classes, freeze in three ways, train a head for the other half."""
    laboratory = Laboratory(
        settings.data,
        epochs=settings.epochs(epochs),
        device=settings.device,
        limit=limit,
    )
    train = laboratory.prepared.splits.train
    half = len(train.classes) // 2
    first = replace(train, items=tuple(item for item in train.items if item.target < half))
    old, new = tasks(laboratory, half, new_items)
    plan = Plan("pretrained", f"resnet{depth}", (("width", width),))
    found: dict[str, list[Outcome]] = {way.name: [] for way in WAYS}
    start: list[float] = []
    with progress("freeze", len(settings.seeds) * (1 + len(WAYS)), unit="trainings") as advance:
        for seed in settings.seeds:
            network = laboratory.train(plan, seed, train=first).network
            start.append(accuracy_of(network, old.held_out, old.held_out_targets))
            advance(1)
            for way in WAYS:
                found[way.name].append(
                    fine_tune(
                        deepcopy(network), way, new, old,
                        classes=len(train.classes) - half, epochs=settings.epochs(epochs_after), seed=seed,
                    )
                )  # fmt: skip
                advance(1)
    return _evidence(found, mean_share(start))


def tasks(laboratory: Laboratory, half: int, new_items: int) -> tuple[Task, Task]:
    """Return the old task (the first `half` classes) and the new one (the others, numbered from 0)."""
    x, targets = laboratory.training_batch(len(laboratory.prepared.splits.train))
    held_out, held_out_targets = laboratory.validation_batch()

    def of(old: bool, most: int) -> Task:
        here, there = (targets < half) == old, (held_out_targets < half) == old
        shift = 0 if old else half
        order = torch.from_numpy(generator(0, "freeze: items").permutation(int(here.sum())))[:most]
        return Task(
            x[here][order], targets[here][order] - shift, held_out[there], held_out_targets[there] - shift
        )  # fmt: skip

    return of(True, len(x)), of(False, new_items)


def _evidence(found: dict[str, list[Outcome]], start: Mean) -> Evidence:
    distance = {name: mean([one.distance[-1] for one in runs]) for name, runs in found.items()}
    scores = {name: mean_share([one.accuracy for one in runs]) for name, runs in found.items()}
    old = {name: mean_share([one.old_accuracy for one in runs]) for name, runs in found.items()}
    cosine = {name: mean([one.cosine for one in runs], -1.0, 1.0) for name, runs in found.items()}
    still = max(one.distance[-1] for one in found["kept"]) == 0.0
    holds = still and distance["moving"].low > 0.01
    return Evidence(
        conclusion=_conclusion(distance, scores, old, start, holds=holds, still=still),
        holds=holds,
        facts={
            "distance": {name: value.value for name, value in distance.items()},
            "cosine": {name: value.value for name, value in cosine.items()},
            "val_accuracy": {name: value.value for name, value in scores.items()},
            "old_accuracy": {name: value.value for name, value in old.items()} | {"before": start.value},
        },
        panels=(_distances(found), _scores(scores, old)),
        tables=(_table(distance, cosine, scores, old, start),),
    )


def _conclusion(
    distance: dict[str, Mean], scores: dict[str, Mean], old: dict[str, Mean], start: Mean, *, holds: bool, still: bool
) -> Text:
    kept, moving = scores["kept"], scores["moving"]
    if moving.low > kept.high:
        effect = Text(
            "On the new task the drift helped: the norms adapted to the new images, which you may want, but then call "
            "it adapting.",
            "漂移对新任务有帮助：归一化适应了新图像。这可以是你想要的，但那就该叫“适应”，而不是“冻结”。",
        )
    elif moving.high < kept.low:
        effect = Text("On the new task the drift did harm.", "漂移损害了新任务的成绩。")
    else:
        effect = Text(
            "On the new task the two scores cannot be told apart.",
            "在新任务上，两者的成绩分不出高下。",
        )
    verdict = Text("", "") if holds else Text(
        " These figures do not support the claim." if still else " The kept features moved, which should not happen.",
        "这些数字不支持本课的论断。" if still else "本应不变的特征变了，这不应发生。",
    )  # fmt: skip
    return Text(
        f"With statistics kept, embeddings of fixed images moved by {distance['kept'].value:.0%}; with statistics "
        f"moving by {distance['moving'].percent()} of their norm, although no parameter of the backbone changed; with "
        f"trainable norms by {distance['norms'].percent()}. Put the old head back and it scores "
        f"{old['kept'].value:.1%}, {old['moving'].value:.1%} and {old['norms'].value:.1%} on the old classes (before: "
        f"{start.value:.1%}). The new task: {kept.percent()}, {moving.percent()}, {scores['norms'].percent()}. "
        f"{effect.en}{verdict.en}",
        f"统计量保持不变时，固定图像的特征移动了 {distance['kept'].value:.0%}；统计量仍在变时，主干没有一个参数改变，"
        f"特征却移动了自身范数的 {distance['moving'].percent()}；归一化层可训练时移动了 {distance['norms'].percent()}。"
        f"把旧的分类头装回去，在旧类别上的正确率依次为 {old['kept'].value:.1%}、{old['moving'].value:.1%} 和 "
        f"{old['norms'].value:.1%}（微调前 {start.value:.1%}）。新任务依次为 {kept.percent()}、{moving.percent()}、"
        f"{scores['norms'].percent()}。{effect.zh}{verdict.zh}",
    )


def _distances(found: dict[str, list[Outcome]]) -> Lines:
    series = []
    for way in WAYS:
        runs = found[way.name]
        epochs = range(len(runs[0].distance))
        means = [mean([run.distance[epoch] for run in runs]) for epoch in epochs]
        series.append(band(way.label, epochs, means, is_dashed=way.name == "kept"))
    return Lines(
        Text("how far embeddings of fixed images move", "固定图像的特征移动了多远"), Text("epoch", "轮"),
        Text("relative distance", "相对距离"), series,
    )  # fmt: skip


def _scores(scores: dict[str, Mean], old: dict[str, Mean]) -> Lines:
    places = range(1, len(WAYS) + 1)
    tasks_of = (
        (Text("new classes, new head", "新类别，新分类头"), scores),
        (Text("old classes, old head", "旧类别，旧分类头"), old),
    )  # fmt: skip
    series = [band(label, places, [found[way.name] for way in WAYS]) for label, found in tasks_of]
    return Lines(
        Text("scores after fine-tuning", "微调之后的成绩"), Text("way to freeze", "冻结方式"), VAL_ACCURACY, series,
        is_bars=True, names=[way.label for way in WAYS],
    )  # fmt: skip


def _table(
    distance: dict[str, Mean], cosine: dict[str, Mean], scores: dict[str, Mean], old: dict[str, Mean], start: Mean
) -> Table:
    header = (
        Text("way", "方式"), Text("embeddings moved by", "特征移动"), Text("cosine similarity", "余弦相似度"),
        Text("new classes", "新类别"), Text("old classes, old head", "旧类别，旧分类头"),
    )  # fmt: skip
    rows = [
        (way.calls, distance[way.name].percent(), str(cosine[way.name]), scores[way.name].percent(),
         old[way.name].percent())
        for way in WAYS
    ]  # fmt: skip
    title = Text(
        f"three ways to freeze (old classes before: {start.percent()})",
        f"三种冻结方式（微调前旧类别的正确率：{start.percent()}）",
    )
    return Table(title, header, rows)


LESSON = Lesson(
    name="freeze",
    question=Text("What is a frozen batch norm?", "批归一化怎样才算冻结？"),
    claim=Text(
        "requires_grad_(False) does not freeze a network that has batch norms: in training mode their running "
        "statistics go on moving, and with them the features. Frozen means eval mode as well; then features stay "
        "equal to the last bit.",
        "对带有批归一化的网络，requires_grad_(False) 并不等于冻结：在训练模式下，滑动统计量还在变，特征也随之改变。"
        "冻结还必须让这些层处于 eval 模式，这样特征才会分毫不差。",
    ),
    method=Text(
        "A network is trained on the first half of the classes (digits 0 to 4) with three seeds. Then a new head is "
        "trained for the other half (5 to 9) on the same backbone, frozen in three ways: statistics kept (no "
        "gradients, norms in eval mode), statistics moving (no gradients, but train() on the whole network, as in many "
        "tutorials), and norms trainable. Embeddings of the same validation images are compared before and after, and "
        "the old head is put back to see whether it still fits.",
        "先用三个随机种子在前一半类别（数字 0 到 4）上训练网络，再在同一个主干上为后一半（5 到 9）训练新的分类头，"
        "主干以三种方式冻结：统计量保持不变（不求梯度，归一化层处于 eval 模式）；统计量仍在变（不求梯度，"
        "但像许多教程那样对整个网络调用 train()）；归一化层可训练。比较同一批验证图像在微调前后的特征，"
        "并把旧的分类头装回去，看它是否还适用。",
    ),
    popular=Text(
        '"Set requires_grad to False and the layer is frozen" is true for convolutions only. It also matters in '
        "practice: a feature cache computed before is wrong afterwards, other heads on the same backbone lose accuracy "
        "unnoticed, and with batches of a few images the moving statistics are noise. The drift is not always bad for "
        "the new score, since norms that follow the new images adapt to them; but that should be a decision, not an "
        "accident.",
        "“把 requires_grad 设为 False，这一层就冻结了”只对卷积成立。这在实践中有后果：事先算好的特征缓存不再正确；"
        "同一主干上的其他分类头悄悄掉点；批次只有几张图时，变动的统计量几乎就是噪声。"
        "漂移对新任务的成绩未必是坏事，因为随新图像而变的归一化也在适应它们；但这应该是一个决定，而不是意外。",
    ),
    next_steps=Text(
        "restune finetune --freeze all keeps the statistics and caches the features; --set keep_statistics=true keeps "
        "them also where all layers are trained. Exercise 6 (restune lesson exercise) asks you to freeze one properly.",
        "restune finetune --freeze all 会保持统计量不变并缓存特征；--set keep_statistics=true 在训练所有层时也保持它们"
        "。练习 6 （restune lesson exercise）要求你自己正确地冻结一次。",
    ),
    experiment=experiment,
    seconds=60,
    sources=(
        "Ioffe and Szegedy 2015, Batch Normalization, section 3.1, arXiv:1502.03167",
        "Li et al. 2017, Revisiting Batch Normalization For Practical Domain Adaptation, arXiv:1603.04779",
        "Frankle, Schwab and Morcos 2021, Training BatchNorm and Only BatchNorm, arXiv:2003.00152",
    ),
)
