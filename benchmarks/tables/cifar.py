"""CIFAR-10 networks of He et al. 2016, table 6, and plain twins: restune beside an independent implementation.

Command: python -m benchmarks.tables.cifar --data DATA [--only resnet20/], with DATA/cifar10-jpeg/{train,test}.tar.gz.
Both train by the recipe `cifar-paper`, on all training images or the same subset, for the same epochs, in the same
precision; the last weights are scored once. Seeds differ in initial weights, order and augmentation.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.tables.cifar_data import cifar_files, cifar_missing, subset
from benchmarks.tables.common import NO_GPU, Column, Measured, Row, Settings, Table, Text, gpu_name, main, same

FULL = {"epochs": 4, "images": 50_000}
SHORT = {"epochs": 2, "images": 10_000}
ON_GPU = {"epochs": 60, "images": 50_000, "device": "cuda"}
PUBLISHED = {"resnet20": 91.25, "resnet32": 92.49, "resnet44": 92.83, "resnet56": 93.03, "resnet110": 93.57}
PLAIN = ("plain20", "plain32", "plain44", "plain56", "plain110")
GPU = "resnet20-gpu"
"""The row of long runs."""
PER_SECOND = {20: 850, 32: 520, 44: 370, 56: 290, 110: 145}
"""Training images per second on 2 cores with bf16, for the expected time."""
GPU_MINUTES = 6


def protocol_of(name: str) -> dict[str, Any]:
    return {GPU: ON_GPU, "resnet20": FULL}.get(name, SHORT)


def by_restune(name: str, seed: int, settings: Settings) -> Measured:
    """Train with restune's recipe `cifar-paper`; score the last weights on the test split."""
    import restune
    from restune.core.console import quiet

    with tempfile.TemporaryDirectory() as folder, quiet():
        train, test, epochs = _files(name, settings, Path(folder))
        run = restune.train(
            train, test=test, model=f"resnet{_depth(name)}", residual=not name.startswith("plain"), val=0, seed=seed,
            recipe="cifar-paper", epochs=epochs, precision=_precision(name), device=_device(name),
            out=Path(folder) / "run",
        )  # fmt: skip
    scored = run.result["test"]
    return Measured(value=100 * scored["accuracy"], n=scored["n"], extra=_extra(name, run.result["seconds"]))


def by_independent(name: str, seed: int, settings: Settings) -> Measured:
    """Train with the independent implementation; score the last weights on the test split."""
    import torch
    from benchmarks.tables import independent_cifar as independent

    with tempfile.TemporaryDirectory() as folder:
        train, test, epochs = _files(name, settings, Path(folder))
        started = time.perf_counter()
        images, labels = independent.read_tar(train)
        test_images, test_labels = independent.read_tar(test)
    torch.manual_seed(seed)
    network = independent.CifarNet(_depth(name), not name.startswith("plain")).to(_device(name))
    bf16 = _precision(name) == "bf16"
    independent.train(network, images, labels, epochs=epochs, seed=seed, bf16=bf16)
    score = independent.accuracy(network, test_images, test_labels)
    extra = _extra(name, time.perf_counter() - started)
    return Measured(value=100 * score, n=len(test_labels), extra=extra)


def _files(name: str, settings: Settings, scratch: Path) -> tuple[Path, Path, int]:
    """Return the training and the test file, and the number of epochs."""
    asked = protocol_of(name)
    train, test = cifar_files(settings, scratch, per_class=26)
    if settings.quick:
        return train, test, 1
    if asked["images"] < FULL["images"]:
        train = subset(train, asked["images"] // 10, scratch / "train.tar")
    return train, test, asked["epochs"]


def _depth(name: str) -> int:
    return int(name.removeprefix("resnet").removeprefix("plain").removesuffix("-gpu"))


def _device(name: str) -> str:
    return "cuda" if name == GPU else "cpu"


def _precision(name: str) -> str:
    """Return the default precision of training on the row's device."""
    import torch

    from restune.training.recipe import Recipe
    from restune.training.resolve_auto import resolve_auto

    return resolve_auto(Recipe(), torch.device(_device(name)))[0].precision


def _missing(name: str, settings: Settings) -> Text | None:
    return NO_GPU if name == GPU and not gpu_name() else cifar_missing(settings)


def _extra(name: str, seconds: float) -> dict[str, object]:
    return {**protocol_of(name), "precision": _precision(name), "minutes": seconds / 60}


def _rows(name: str) -> tuple[Row, Row, Row]:
    depth, protocol = _depth(name), protocol_of(name)
    minutes = GPU_MINUTES if name == GPU else protocol["epochs"] * protocol["images"] / PER_SECOND[depth] / 60
    plain = Text(f"plain-{depth}", f"{depth} 层普通网络")
    label = plain if name.startswith("plain") else same(f"ResNet-{depth}")
    if name == GPU:
        label = Text(f"ResNet-{depth} on a GPU", f"GPU 上的 ResNet-{depth}")
    published = (PUBLISHED[f"resnet{depth}"], "He et al. 2016") if name.startswith("resnet") else None
    ours = Row(
        key=f"{name}/restune", label=Text(f"{label.en}, restune", f"{label.zh}，restune"), protocol=protocol,
        measure=partial(by_restune, name), minutes=minutes, needs=partial(_missing, name), reference=published,
    )  # fmt: skip
    theirs = Row(
        key=f"{name}/independent", label=Text(f"{label.en}, independent", f"{label.zh}，独立实现"), protocol=protocol,
        measure=partial(by_independent, name), minutes=minutes, needs=partial(_missing, name), peers=("pillow",),
    )  # fmt: skip
    gap = Row(
        key=f"{name}/difference", label=Text(f"{label.en}, difference", f"{label.zh}，差值"), protocol=protocol,
        minus=(ours.key, theirs.key),
    )  # fmt: skip
    return ours, theirs, gap


TABLE = Table(
    name="cifar",
    order=10,
    title=Text("CIFAR-10 beside an independent implementation", "CIFAR-10：与独立实现对照"),
    text=Text(
        "The networks of He et al. 2016, table 6, and their plain twins, by the recipe `cifar-paper` on a lossy copy "
        "of CIFAR-10 (JPEG, quality 75), beside `benchmarks/tables/independent_cifar.py`, which shares no code with "
        "restune. Both train on all of train without validation items, with the schedule scaled to the epochs of the "
        "row (the paper: 182 epochs, with published accuracies on lossless images, so these are not comparable with "
        "such short runs), and score the last weights once. `tests/test_independent_cifar.py` shows on a few images "
        "that both give the same losses, step by step, from the same initial weights. The difference is restune "
        "minus independent, per seed. The six runs on a GPU shared one card with two others: their times say little. "
        "The rows of 2 epochs, 156 steps of one seed, show only that both implementations learn more slowly with depth "
        "at first, and a plain network of 110 layers not at all: such short runs scatter by several points.",
        "He 等 2016 年论文表 6 的网络及其去掉捷径的普通网络，用配方 `cifar-paper` 在有损的 CIFAR-10（JPEG，质量 75）"
        "上训练，旁边是与 restune 没有共用代码的 `benchmarks/tables/independent_cifar.py`。两者都用全部训练集，不留"
        "验证样本，学习率安排按该行的轮数缩放（论文为 182 轮，其数字来自无损图像，因此不能与这样短的训练相比），最后"
        "的权重只评分一次。`tests/test_independent_cifar.py` 在少量图像上表明，从相同的初始权重出发，两者每一步的损"
        "失都相同。差值为 restune 减独立实现，按种子计算。GPU 上的六次运行与另外两次共用一块卡，其用时参考意义不大。"
        "2 轮的各行只有一个种子、156 步，只能说明两种实现都是越深起步越慢，110 层的普通网络完全学不动：这样短的运行之间"
        "相差几个百分点。",
    ),
    value=Text("test accuracy", "测试准确率"),
    unit="%",
    rows=tuple(row for name in (GPU, *PUBLISHED, *PLAIN) for row in _rows(name)),
    columns=(
        Column(key="epochs", title=Text("epochs", "轮数"), form="{:.0f}"),
        Column(key="images", title=Text("training images", "训练图像"), form="{:,.0f}"),
        Column(key="precision", title=Text("precision", "精度")),
        Column(key="minutes", title=Text("time per run", "每次用时"), form="{:.1f} min"),
    ),
)

if __name__ == "__main__":
    main(TABLE)
