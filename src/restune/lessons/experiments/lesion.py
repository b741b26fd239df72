"""lesion: remove or swap blocks of a trained network; a residual one loses a little, a plain one almost all."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from restune.core.console import progress
from restune.core.language import Text
from restune.core.streams import generator
from restune.lessons.kinds import KINDS, plan
from restune.lessons.laboratory import Laboratory
from restune.lessons.lesson import Evidence, Lesson, Settings, Table
from restune.lessons.measure import accuracy_of
from restune.lessons.own_blocks import own_blocks
from restune.lessons.statistics import Mean, band, mean, mean_share
from restune.lessons.surgery import named_blocks, neighbours, removed, swapped
from restune.lessons.words import NETWORK, VAL_ACCURACY
from restune.networks.resnet import ResNet
from restune.reporting.plots import Lines


@dataclass
class Lesions:
    """Validation accuracies of one trained network: whole, and with blocks removed or swapped.

    Args:
        removed: by block, with that block removed.
        swapped: by pair of neighbours, with these exchanged.
        several: by number of blocks removed at once, the mean over random choices of blocks.
    """

    whole: float
    removed: dict[str, float] = field(default_factory=dict)
    swapped: dict[str, float] = field(default_factory=dict)
    several: dict[int, float] = field(default_factory=dict)

    def left(self, accuracies: dict[str, float], chance: float) -> float:
        """Return the mean share of the accuracy above chance that is left; 1 where there was none to lose."""
        if not accuracies or self.whole <= chance:
            return 1.0
        after = sum(accuracies.values()) / len(accuracies)
        return (after - chance) / (self.whole - chance)


def measure(network: ResNet, x: Tensor, targets: Tensor, *, seed: int, draws: int = 4) -> Lesions:
    """Remove each block alone, swap all neighbours, and remove 1, 2, ... random blocks at once."""
    blocks = named_blocks(network)
    found = Lesions(accuracy_of(network, x, targets))
    for name, block in blocks.items():
        with removed(block):
            found.removed[name] = accuracy_of(network, x, targets)
    for first, second in neighbours(network):
        with swapped(network, first, second):
            found.swapped[f"{first} {second}"] = accuracy_of(network, x, targets)
    for count in (count for count in (1, 2, 3, 5, 8, 12) if count < len(blocks)):
        scores = []
        for draw in range(draws):
            chosen = generator(seed, "lesion", count, draw).permutation(len(blocks))[:count]
            with removed(*(list(blocks.values())[place] for place in chosen)):
                scores.append(accuracy_of(network, x, targets))
        found.several[count] = sum(scores) / draws
    return found


def experiment(settings: Settings, depth: int = 32, width: int = 8, epochs: int = 12, limit: int = 4000) -> Evidence:
    """Train both kinds with every seed and operate on them; with a model of the reader's own, on that one."""
    if settings.model is not None:
        return own_blocks(settings.model, settings.data, settings.device)
    laboratory = Laboratory(
        settings.data,
        epochs=settings.epochs(epochs),
        device=settings.device,
        limit=limit,
    )
    plans = [plan(kind, depth, width) for kind, _ in KINDS]
    trained = laboratory.train_all(plans, settings.seeds, "lesion: training")
    x, targets = laboratory.validation_batch()
    found: dict[str, list[Lesions]] = {kind: [] for kind, _ in KINDS}
    with progress("lesion: removing blocks", len(trained), unit="networks") as advance:
        for run in trained:
            kind = "residual" if run.network.spec.residual else "plain"
            found[kind].append(measure(run.network, x, targets, seed=run.seed))
            advance(1)
    return _evidence(found, 1 / len(laboratory.prepared.splits.train.classes), depth)


def _evidence(found: dict[str, list[Lesions]], chance: float, depth: int) -> Evidence:
    whole = {kind: mean_share([one.whole for one in runs]) for kind, runs in found.items()}
    left = {kind: mean([one.left(one.removed, chance) for one in runs]) for kind, runs in found.items()}
    left_swapped = {kind: mean([one.left(one.swapped, chance) for one in runs]) for kind, runs in found.items()}
    lost = {kind: mean([_lost(one) for one in runs]) for kind, runs in found.items()}
    learned = min(one.value for one in whole.values()) > 2 * chance
    holds = learned and left["residual"].low > left["plain"].high and left["residual"].value > 0.5
    return Evidence(
        conclusion=_conclusion(whole, left, lost, depth, holds=holds, learned=learned),
        holds=holds,
        facts={
            "chance": chance,
            "val_accuracy": {kind: value.value for kind, value in whole.items()},
            "left_after_removing_one": {kind: value.value for kind, value in left.items()},
            "left_after_swapping_two": {kind: value.value for kind, value in left_swapped.items()},
            "accuracy_after_removing": {
                kind: {name: mean([run.removed[name] for run in runs]).value for name in runs[0].removed}
                for kind, runs in found.items()
            },
        },
        panels=(_by_block(found), _by_count(found, whole)),
        tables=(_table(whole, lost, left, left_swapped),),
    )


def _lost(one: Lesions) -> float:
    """Return the mean loss of accuracy per removed block."""
    return one.whole - sum(one.removed.values()) / len(one.removed)


def _conclusion(
    whole: dict[str, Mean], left: dict[str, Mean], lost: dict[str, Mean], depth: int, *, holds: bool, learned: bool
) -> Text:
    if not learned:
        verdict = Text(
            "One of the networks did not learn enough to lose anything: train longer before you compare.",
            "其中一个网络没有学到多少东西，也就无从失去：请先训练更久再作比较。",
        )
    elif holds:
        verdict = Text(
            "Each block of the residual network adds a correction that the others can do without; each layer of the "
            "plain network is a link of a chain.",
            "残差网络的每个块只是加上一点修正，别的块没有它也能工作；普通网络的每一层却是链条上的一环。",
        )
    else:
        verdict = Text(
            "These figures do not separate the two kinds clearly; train longer, deeper, or with more seeds.",
            "这些数字没有把两种网络清楚地区分开；请训练更久、用更深的网络或更多的随机种子。",
        )
    return Text(
        f"With one of its blocks removed the residual network of depth {depth} loses {lost['residual'].percent()} "
        f"of accuracy on average and keeps {left['residual'].percent()} of what it had learned above chance (whole: "
        f"{whole['residual'].value:.1%}). The plain network loses {lost['plain'].percent()} and keeps "
        f"{left['plain'].percent()} (whole: {whole['plain'].value:.1%}). {verdict.en}",
        f"去掉一个块以后，深度 {depth} 的残差网络正确率平均下降 {lost['residual'].percent()}，"
        f"高于随机猜测的部分还剩 {left['residual'].percent()}（完整时正确率 {whole['residual'].value:.1%}）；"
        f"普通网络下降 {lost['plain'].percent()}，只剩 {left['plain'].percent()}"
        f"（完整时 {whole['plain'].value:.1%}）。{verdict.zh}",
    )


def _by_block(found: dict[str, list[Lesions]]) -> Lines:
    series = []
    for kind, label in KINDS:
        runs = found[kind]
        lost = [mean([run.whole - run.removed[name] for run in runs]) for name in runs[0].removed]
        series.append(band(label, range(1, len(lost) + 1), lost, is_dashed=kind == "plain"))
    return Lines(
        Text("accuracy lost when one block is removed", "去掉一个块时正确率的损失"),
        Text("block, from the input on", "块的序号（从输入端数起）"), Text("accuracy lost", "正确率的损失"),
        series, is_bars=True,
    )  # fmt: skip


def _by_count(found: dict[str, list[Lesions]], whole: dict[str, Mean]) -> Lines:
    series = []
    for kind, label in KINDS:
        counts = list(found[kind][0].several)
        means = [whole[kind], *(mean_share([run.several[count] for run in found[kind]]) for count in counts)]
        series.append(band(label, [0, *counts], means, is_dashed=kind == "plain"))
    return Lines(
        Text("accuracy with several random blocks removed", "随机去掉若干个块之后的正确率"),
        Text("blocks removed", "去掉的块数"), VAL_ACCURACY, series,
    )  # fmt: skip


def _table(whole: dict[str, Mean], lost: dict[str, Mean], left: dict[str, Mean], swapped: dict[str, Mean]) -> Table:
    header = (
        NETWORK, VAL_ACCURACY,
        Text("lost per removed block", "每去掉一个块的损失"), Text("left of what was learned", "所学还剩多少"),
        Text("left after swapping two neighbours", "交换相邻两块后还剩多少"),
    )  # fmt: skip
    rows = [
        (label, whole[kind].percent(), lost[kind].percent(), left[kind].percent(), swapped[kind].percent())
        for kind, label in KINDS
    ]
    return Table(Text("means over blocks and seeds", "对块和随机种子取的平均"), header, rows)


LESSON = Lesson(
    name="lesion",
    question=Text("Which blocks of a trained network matter?", "训练好的网络里，哪些块真正重要？"),
    claim=Text(
        "A residual network loses little when one block is removed, or when two neighbours are swapped, although it "
        "was never trained for that. A plain network loses almost all it has learned.",
        "残差网络去掉一个块，或者交换相邻的两个块，损失都很小，尽管训练时从未为此做过准备。"
        "普通网络去掉一层，学到的东西就几乎丢光了。",
    ),
    method=Text(
        "A CIFAR network and its plain twin are trained alike with three seeds. Then each block in turn is replaced by "
        "its shortcut (in the plain twin by the identity, or by option A where the shape changes) and the validation "
        "items are scored again, without any further training. With --model the same is done to your own network on "
        "your data, with intervals over items.",
        "用三个随机种子以相同方法训练一个 CIFAR 网络和它的普通版本。然后逐个把块换成它的捷径（普通版本换成恒等映射，"
        "形状改变处换成选项 A），不再训练，直接重新评测验证集。加上 --model，就对你自己的网络和数据做同样的事，"
        "区间按样本计算。",
    ),
    popular=Text(
        '"Every layer extracts a more abstract feature from the one before" describes a chain, and a chain breaks when '
        "a link is missing. Veit et al. read a residual network as a collection of many paths, most of them short: "
        "removing a block removes only the paths through it. That does not make blocks useless: their contributions "
        "add up, as the second plot shows, and blocks near the input, or that change the shape, matter more than their "
        "neighbours.",
        "“每一层都从上一层提取更抽象的特征”说的是一条链，而链条缺一环就断。Veit 等人把残差网络看成许多路径的集合，"
        "其中大多数都很短：去掉一个块，只是去掉了经过它的那些路径。但这并不意味着块没有用：它们的贡献是累积的，"
        "第二张图显示了这一点；靠近输入的块和改变形状的块，也比旁边的块更重要。",
    ),
    next_steps=Text(
        "restune lesson lesion --model RUN --data DATA shows which blocks of your own network matter on your data. "
        "Train with --set spec.drop_path=0.2 and look again: stochastic depth trains a network for lost blocks.",
        "用 restune lesson lesion --model 运行文件夹 --data 数据，看看自己的网络在自己的数据上哪些块重要。"
        "再用 --set spec.drop_path=0.2 训练一次：随机深度正是为丢失的块而训练。",
    ),
    experiment=experiment,
    seconds=80,
    takes_model=True,
    sources=(
        "Veit, Wilber and Belongie 2016, Residual Networks Behave Like Ensembles of Relatively Shallow Networks, "
        "arXiv:1605.06431",
        "Huang et al. 2016, Deep Networks with Stochastic Depth, arXiv:1603.09382",
    ),
)
