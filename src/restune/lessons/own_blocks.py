"""The lesson lesion on a reader's own model and data: what each of its blocks contributes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from restune.core.console import note, progress, quiet
from restune.core.errors import UserError
from restune.core.language import Text
from restune.data.dataset import Dataset
from restune.data.kinds import kind_of
from restune.data.loader import read_views
from restune.data.sources import open_dataset
from restune.evaluation.evaluation import Evaluation
from restune.evaluation.score import match_classes, score
from restune.inference.load import load_model
from restune.inference.model import Model
from restune.lessons.lesson import Evidence, Table
from restune.lessons.marked_drawing import Mark, marked_drawing
from restune.lessons.statistics import Mean, band, mean
from restune.lessons.surgery import named_blocks, neighbours, removed, swapped
from restune.networks.describe import describe
from restune.networks.resnet import ResNet
from restune.networks.spec import ResNetSpec
from restune.reporting.plots import Lines
from restune.runs.own_data import own_items, record_of

MOST_ITEMS = 500
"""Every block costs one pass over the items."""


def own_blocks(path: Path | str, data: Any, device: str | None, most_items: int = MOST_ITEMS) -> Evidence:
    """Remove each block of a model in turn, and swap neighbours, and score what is left on the data.

    Of a run's own data its test items are scored, else its validation items. Raises UserError for data of another
    kind or with other classes, and for a network of a single block.
    """
    model = load_model(path, device=device or "auto")
    dataset = _items(model, data)
    model, dataset = match_classes(model, dataset, allow_missing=True)
    dataset = replace(dataset, items=_spread(dataset, most_items))
    network = model.module
    if not isinstance(network, ResNet):
        raise UserError("this is a module of your own, without known blocks", where=model.source)
    if model.info.task != "single-label":
        raise UserError(
            f"this is a {model.info.task} model, without an accuracy",
            where=model.source,
            fix="name one that predicts a class",
        )
    blocks = named_blocks(network)
    if len(blocks) < 2:
        raise UserError("this network has only one block", where=model.source, fix="choose a deeper network")
    pairs = neighbours(network)
    with progress("lesion: removing blocks", 1 + len(blocks) + len(pairs), unit="passes") as advance:
        whole = _correct(model, dataset)
        advance(1)
        lost: dict[str, Mean] = {}
        for name, block in blocks.items():
            with removed(block):
                lost[name] = _difference(whole, _correct(model, dataset))
            advance(1)
        moved: dict[str, Mean] = {}
        for first, second in pairs:
            with swapped(network, first, second):
                moved[f"{first} ↔ {second}"] = _difference(whole, _correct(model, dataset))
            advance(1)
    evidence = _evidence(model, network.spec.residual, len(dataset), float(whole.mean()), lost, moved)
    return replace(evidence, drawing=_drawing(model, network.spec, dataset, lost))


def _drawing(model: Model, spec: ResNetSpec, dataset: Dataset, lost: dict[str, Mean]) -> str | None:
    """Draw the network with each block's loss; blocks whose loss is larger than chance explains are outlined."""
    read = (read_views(item, model.preprocess) for item in dataset.items)
    views = next(view for view in read if isinstance(view, Tensor))
    x, _ = model.preprocess.inputs(views[:1])
    positions = tuple(x.shape[1 if spec.vocabulary else 2 :])
    marks = {name: Mark(f"{-one.value:+.1%}", one.low > 0) for name, one in lost.items()}
    return marked_drawing(model.info.name or Path(model.source).name, describe(spec, positions), marks)


def _items(model: Model, data: Any) -> Dataset:
    """Return the items to score: of a run's own data those that it was not trained on."""
    dataset = open_dataset(data, None)
    if dataset.kind != model.preprocess.kind:
        raise UserError(
            f"the model takes {model.kind.noun}, the data is {kind_of(dataset.kind).noun}",
            where=dataset.source,
            fix="name the data that the model was made for with --data",
        )
    record = record_of(model.source)
    own = None if record is None else own_items(record, dataset, None)
    if own is not None:
        return own
    splits = dataset.splits()
    wanted = next((name for name in ("test", "val") if name in splits), None)
    return dataset if wanted is None else dataset.select(wanted)


def _spread(dataset: Dataset, most: int) -> Any:
    """Return at most `most` items, evenly spaced over the data set."""
    if len(dataset) <= most:
        return dataset.items
    note(f"{most} of {len(dataset):,} items are scored, evenly spaced")
    return tuple(dataset.items[place * len(dataset) // most] for place in range(most))


def _correct(model: Model, dataset: Dataset) -> Tensor:
    """Return 1 for each item that the model classifies correctly, else 0."""
    with quiet():
        evaluation = score(model, dataset, on_corrupt="skip")
    assert isinstance(evaluation, Evaluation), "single-label models are checked before"
    return torch.from_numpy(evaluation.predicted == evaluation.targets).float()


def _difference(before: Tensor, after: Tensor) -> Mean:
    """Return the loss of accuracy with its interval over items; each item is its own comparison."""
    return mean((before - after).tolist())


def _evidence(
    model: Model, residual: bool, count: int, whole: float, lost: dict[str, Mean], moved: dict[str, Mean]
) -> Evidence:
    order = sorted(lost, key=lambda name: -lost[name].value)
    most, least = order[0], order[-1]
    chance = 1 / len(model.classes)
    usual = sorted(one.value for one in lost.values())[len(lost) // 2]
    small = usual < 0.5 * (whole - chance)
    kind = Text("residual", "残差") if residual else Text("plain", "普通")
    names = list(lost)
    bars = band(Text("removed", "去掉"), range(1, len(names) + 1), list(lost.values()))
    return Evidence(
        conclusion=Text(
            f"On {count:,} items the whole {kind.en} network scores {whole:.1%}. Removing {most} costs most: "
            f"{lost[most].percent()}; removing {least} costs least: {lost[least].percent()}. The median block costs "
            f"{usual:.1%}"
            + (": most blocks are corrections that the others can do without." if small else
               ": here most blocks are needed.")
            + " In the drawing, blocks whose loss is larger than chance explains are outlined.",
            f"在 {count:,} 个样本上，完整的{kind.zh}网络正确率为 {whole:.1%}。去掉 {most} 损失最大："
            f"{lost[most].percent()}；去掉 {least} 损失最小：{lost[least].percent()}。各块损失的中位数为 {usual:.1%}"
            + ("：多数块只是修正，别的块没有它也能工作。" if small else "：这里多数块都不可缺少。")
            + "结构图中，损失显著大于零的块带有虚线边框。",
        ),
        holds=small == residual,
        facts={
            "accuracy": whole,
            "items": count,
            "lost_when_removed": {name: [one.value, one.low, one.high] for name, one in lost.items()},
            "lost_when_swapped": {name: [one.value, one.low, one.high] for name, one in moved.items()},
        },
        panels=(
            Lines(
                Text("accuracy lost when one block is removed", "去掉一个块时正确率的损失"),
                Text("block, from the input on", "块的序号（从输入端数起）"), Text("accuracy lost", "正确率的损失"),
                (bars,), is_bars=True,
            ),
        ),
        tables=tuple(_tables(lost, moved)),
    )  # fmt: skip


def _tables(lost: dict[str, Mean], moved: dict[str, Mean]) -> list[Table]:
    header = (Text("block", "块"), Text("accuracy lost (95% interval over items)", "正确率的损失（按样本的 95% 区间）"))
    rows = [(f"{number}: {name}", one.percent()) for number, (name, one) in enumerate(lost.items(), start=1)]
    tables = [Table(Text("blocks removed", "去掉的块"), header, rows)]
    if moved:
        pair = (Text("neighbours", "相邻两块"), header[1])
        swaps = [(name, one.percent()) for name, one in moved.items()]
        tables.append(Table(Text("blocks swapped", "交换的块"), pair, swaps))
    return tables
