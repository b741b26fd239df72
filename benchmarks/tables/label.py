"""Labels that `restune label` proposes against labels drawn at random, and how often its interval covers the truth."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.tables.common import NO_DATA, Column, Measured, Row, Settings, Table, Text, main

WEIGHTS = "weights/resnet56-4bfd9763.th"


@dataclass(frozen=True)
class Set:
    """A data set, the labels to begin with and those to add, and the share of its items that scores."""

    path: str
    start: int
    more: int
    scored: float = 0.4


SETS = {
    "cifar": Set("cifar10-jpeg/test.tar.gz", 500, 500),
    "signs": Set("sign-digits/Dataset", 100, 100),
    "cifar-first": Set("cifar10-jpeg/test.tar.gz", 0, 50),
    "signs-first": Set("sign-digits/Dataset", 0, 50),
}


@cache
def embedded(data: Path, path: str) -> tuple[Any, Any]:
    """Return the embeddings and targets of a set's items."""
    from restune.data.items import targets_of
    from restune.data.sources import open_dataset
    from restune.inference.features import FeatureCache
    from restune.inference.load import load_model

    model, dataset = load_model(data / WEIGHTS), open_dataset(data / path)
    found = FeatureCache(model.module, model.preprocess, bf16=True, batch_size=128).of(dataset.items)
    return found.rows[0 : len(found.rows)].float(), targets_of(dataset.items)[found.readable].astype("int64")


def drawn(name: str, seed: int, settings: Settings) -> tuple[Any, Any, Any, Any, Any]:
    """Return features and targets of the pool and of the scored items, and the labels to begin with."""
    import numpy as np

    chosen = SETS[name]
    rows, targets = embedded(settings.data, chosen.path)
    order = np.random.default_rng(seed).permutation(len(targets))
    scored, pool = np.split(order, [int(chosen.scored * len(order))])
    return rows[pool], targets[pool], rows[scored], targets[scored], np.arange(chosen.start)


def chosen_head(rows: Any, targets: Any, seed: int) -> Any:
    """Return a head whose L2 strength is chosen by cross-validation."""
    import numpy as np
    import torch

    from restune.training.logistic import Problem, choose_by_folds

    problem = Problem(rows=rows, targets=torch.from_numpy(targets), classes=10)
    return choose_by_folds(problem, np.arange(len(targets)), seed).head


@cache
def first_head(data: Path, name: str, seed: int) -> Any:
    """Return the head of the labels to begin with."""
    rows, targets, _, _, first = drawn(name, seed, Settings(data=data, quick=False))
    return chosen_head(rows[first], targets[first], seed)


def longer_head(rows: Any, targets: Any, before: Any, count: int) -> Any:
    """Return the head of more labels: its L2 strength is that of the first `count`, in proportion to the loss."""
    import torch

    from restune.training.logistic import Problem, solve

    problem = Problem(rows=rows, targets=torch.from_numpy(targets), classes=10)
    return solve(problem, before.l2 * count / len(targets))


def accuracy(head: Any, rows: Any, targets: Any) -> float:
    return float((head.logits(rows).argmax(1).numpy() == targets).mean())


def after(name: str, chooses: bool) -> Any:
    """Return the measurement: the accuracy after more labels, proposed or random."""

    def measure(seed: int, settings: Settings) -> Measured:
        import numpy as np

        from restune.evaluation.proposals import margins_of, propose

        started = time.perf_counter()
        rows, targets, unseen, truth, first = drawn(name, seed, settings)
        left = np.setdiff1d(np.arange(len(targets)), first)
        before, margins, head = None, None, None
        if len(first):
            head = first_head(settings.data, name, seed)
            before = 100 * accuracy(head, unseen, truth)
            margins = margins_of(head.logits(rows[left]).double().softmax(1).numpy())
        if chooses:
            new = propose(rows[left], SETS[name].more, margins, rows[first], seed)
        else:
            new = np.random.default_rng(1000 + seed).permutation(len(left))[: SETS[name].more]
        all_of = np.concatenate([first, left[new]])
        if len(first):
            last = longer_head(rows[all_of], targets[all_of], head, len(first))
        else:
            last = chosen_head(rows[all_of], targets[all_of], seed)
        reached = accuracy(last, unseen, truth)
        return Measured(
            value=100 * reached, n=len(truth), extra={"before": before, "seconds": time.perf_counter() - started}
        )

    return measure


@cache
def points(data: Path, name: str, seed: int) -> Any:
    """Return the cross-validated accuracies of the labels to begin with."""
    from restune.training.curve_points import curve_points

    rows, targets, _, _, first = drawn(name, seed, Settings(data=data, quick=False))
    return curve_points(rows[first], targets[first], 10, seed)


def covers(name: str, more: int) -> Any:
    """Return the measurement: 100 where the interval of more random labels covers what they bring, else 0."""

    def measure(seed: int, settings: Settings) -> Measured:
        import numpy as np

        from restune.evaluation.learning_curve import learning_curve

        started = time.perf_counter()
        rows, targets, unseen, truth, first = drawn(name, seed, settings)
        gain = learning_curve(points(settings.data, name, seed), len(first), [more]).gains[0]
        longer = np.arange(len(first) + more)
        head = first_head(settings.data, name, seed)
        more_head = longer_head(rows[longer], targets[longer], head, len(first))
        brought = accuracy(more_head, unseen, truth) - accuracy(head, unseen, truth)
        return Measured(
            value=100.0 * (gain.low <= brought <= gain.high),
            n=len(truth),
            extra={
                "expected": 100 * gain.expected, "low": 100 * gain.low, "high": 100 * gain.high,
                "width": 100 * (gain.high - gain.low), "brought": 100 * brought,
                "seconds": time.perf_counter() - started,
            },
        )  # fmt: skip

    return measure


def needs(settings: Settings) -> Text | None:
    there = all((settings.data / path).exists() for path in (WEIGHTS, *(one.path for one in SETS.values())))
    return None if there else NO_DATA


def compared(name: str, what: Text, how: Text) -> tuple[Row, Row, Row]:
    """Return the rows of random labels, of proposed ones, and of their difference."""
    chosen = SETS[name]
    protocol = {"start": chosen.start, "more": chosen.more, "scored": chosen.scored, "weights": WEIGHTS}
    rows = []
    for chooses, way in ((False, Text("drawn at random", "随机抽取")), (True, how)):
        rows.append(
            Row(
                key=f"{name}-{'proposed' if chooses else 'random'}",
                label=Text(f"{what.en}, {way.en}", f"{what.zh}，{way.zh}"),
                measure=after(name, chooses), seeds=tuple(range(20)), protocol=protocol, minutes=0.3, needs=needs,
            )
        )  # fmt: skip
    gain = Row(
        key=f"{name}-gain",
        label=Text(f"{what.en}: gain of the proposed ones", f"{what.zh}：挑选带来的提高"),
        seeds=tuple(range(20)),
        minus=(f"{name}-proposed", f"{name}-random"),
    )
    return rows[0], rows[1], gain


def covered(name: str, more: int, what: Text) -> Row:
    return Row(
        key=f"{name}-covered-{more}",
        label=Text(
            f"{what.en}: interval of {more} more covers the truth", f"{what.zh}：再标 {more} 个的区间包含真值"
        ),
        measure=covers(name, more), seeds=tuple(range(10)), minutes=0.3, needs=needs,
        protocol={"start": SETS[name].start, "more": more, "scored": SETS[name].scored, "weights": WEIGHTS},
    )  # fmt: skip


_PROPOSED, _TYPICAL = Text("proposed", "挑选"), Text("proposed (typical ones)", "挑选（最典型的）")
_CIFAR, _SIGNS = (
    Text("CIFAR-10, 500 + 500 labels", "CIFAR-10，500 + 500 个标签"),
    Text("sign-digits, 100 + 100 labels", "sign-digits，100 + 100 个标签"),
)
TABLE = Table(
    name="label",
    order=78,
    title=Text("Which items to label", "标注哪些样本"),
    text=Text(
        "Accuracy of a head fitted to embeddings of a ResNet-56 (weights trained on CIFAR-10's training images), with "
        "labels that [`restune label`](label.md) proposes and with as many drawn at random. Items: CIFAR-10's 10,000 "
        "test images, which the network has not seen, and 2,059 photos of sign-digits; 60% to label, 40% scored, drawn "
        "anew for each seed. Below, how often the 95% interval of what more random labels would bring covers what they "
        "brought.",
        "用 ResNet-56（在 CIFAR-10 训练图像上训练的权重）的嵌入拟合分类头，"
        "比较 [`restune label`](label.md) 挑选的标签与同样多的随机标签。"
        "样本：网络没有见过的 CIFAR-10 的 10,000 张测试图像，以及 sign-digits 的 2,059 张照片；"
        "60% 供标注，40% 用于评分，每个种子重新划分。"
        "下半部分：再标若干随机样本所得的 95% 区间，有多少次包含实际的提高。",
    ),
    value=Text("accuracy, or share of intervals", "准确率，或区间的比例"),
    unit="%",
    rows=(
        *compared("cifar", _CIFAR, _PROPOSED),
        *compared("signs", _SIGNS, _PROPOSED),
        *compared("cifar-first", Text("CIFAR-10, the first 50 labels", "CIFAR-10，最初 50 个标签"), _TYPICAL),
        *compared("signs-first", Text("sign-digits, the first 50 labels", "sign-digits，最初 50 个标签"), _TYPICAL),
        covered("cifar", 50, Text("CIFAR-10, 500 labels", "CIFAR-10，500 个标签")),
        covered("cifar", 500, Text("CIFAR-10, 500 labels", "CIFAR-10，500 个标签")),
        covered("signs", 50, Text("sign-digits, 100 labels", "sign-digits，100 个标签")),
        covered("signs", 200, Text("sign-digits, 100 labels", "sign-digits，100 个标签")),
    ),
    columns=(Column(key="width", title=Text("width of the interval", "区间宽度"), form="{:.1f} points"),),
    digits=1,
)

if __name__ == "__main__":
    main(TABLE)
