"""What each part of the recipe `cifar-fast` contributes: the recipe in a short run, and without one part at a time.

Command: python -m benchmarks.tables.cifar_fast --data DATA, with DATA/cifar10-jpeg/{train,test}.tar.gz.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.tables.cifar_data import cifar_files, cifar_missing
from benchmarks.tables.common import Column, Measured, Row, Settings, Table, Text, main

EPOCHS = 4
SGD = {
    "optimizer.name": "sgd", "optimizer.lr": 0.2, "optimizer.momentum": 0.9, "schedule.warmup_share": 0.2,
    "schedule.start": 0.05,
}  # fmt: skip
PARTS: dict[str, tuple[Text, dict[str, Any], int]] = {
    "recipe": (Text("the recipe", "完整配方"), {}, EPOCHS),
    "sgd": (Text("SGD instead of Muon", "用 SGD 代替 Muon"), SGD, EPOCHS),
    "one-size": (
        Text("no progressive resizing, 3 epochs: equal work", "不用渐进式放大，3 轮：计算量相同"),
        {"image_sizes": []}, 3,
    ),
    "random-flips": (Text("flips at random", "随机镜像"), {"augment.alternate_flip": False}, EPOCHS),
    "black-border": (Text("shifts move in black", "平移补黑边"), {"augment.border": "zeros"}, EPOCHS),
    "no-smoothing": (Text("no label smoothing", "不用标签平滑"), {"label_smoothing": 0.0}, EPOCHS),
    "no-average": (Text("no average of the weights", "不用权重平均"), {"ema.decay": None}, EPOCHS),
    "zero-init": (
        Text("blocks start as identities (zero-init residual)", "残差块从恒等映射开始（zero-init）"),
        {"spec.zero_init_residual": True}, EPOCHS,
    ),
    "gelu": (Text("GELU instead of ReLU", "用 GELU 代替 ReLU"), {"spec.act": "gelu"}, EPOCHS),
    "resnet20": (
        Text("ResNet-20 instead of the wide ResNet-8, 7 epochs", "用 ResNet-20 代替宽 ResNet-8，7 轮"),
        {"model": "resnet20"}, 7,
    ),
}  # fmt: skip
"""Label, settings changed and epochs of each row."""


def measure(key: str, seed: int, settings: Settings) -> Measured:
    """Train by the changed recipe; score the test images once."""
    import restune
    from restune.core.console import quiet

    _label, changes, epochs = PARTS[key]
    with tempfile.TemporaryDirectory() as scratch, quiet():
        train, test_file = cifar_files(settings, Path(scratch), per_class=30)
        run = restune.train(
            train, test=test_file, recipe="cifar-fast", seed=seed, out=Path(scratch) / "run",
            set={"epochs": 2 if settings.quick else epochs, **changes},
        )  # fmt: skip
    test, seconds = run.result["test"], run.result["training_seconds"]
    return Measured(value=100 * test["accuracy"], n=test["n"], extra={"seconds": seconds})


def _row(key: str) -> Row:
    label, changes, epochs = PARTS[key]

    return Row(
        key=key, label=label, measure=lambda seed, settings: measure(key, seed, settings), seeds=(0, 1),
        protocol={"recipe": "cifar-fast", "epochs": epochs, "changes": changes}, minutes=6, needs=cifar_missing,
    )  # fmt: skip


TABLE = Table(
    name="cifar_fast",
    order=25,
    title=Text("The parts of `cifar-fast`", "`cifar-fast` 的各个部分"),
    text=Text(
        f"`restune train train.tar.gz --test test.tar.gz --recipe cifar-fast --epochs {EPOCHS}` on CIFAR-10 as JPEG, "
        "and the same without one part at a time. A run of 4 epochs is a sixth of the recipe's own; parts that pay in "
        "longer runs, such as label smoothing and the average, may not pay here. SGD: peak learning rate 0.2, linear "
        "warm-up over 20% of the run.",
        "在 JPEG 版 CIFAR-10 上运行 `restune train train.tar.gz --test test.tar.gz --recipe cifar-fast "
        f"--epochs {EPOCHS}`，"
        "以及每次去掉一个部分的同样运行。4 轮是配方自身长度的六分之一；标签平滑、权重平均等在长运行中有用的部分，"
        "这里不一定有用。SGD：最高学习率 0.2，前 20% 线性预热。",
    ),
    value=Text("test accuracy", "测试准确率"),
    unit="%",
    rows=tuple(_row(key) for key in PARTS),
    columns=(Column(key="seconds", title=Text("training", "训练用时")),),
)

if __name__ == "__main__":
    main(TABLE)
