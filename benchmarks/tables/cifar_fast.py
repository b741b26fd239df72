"""What each part of the recipe `cifar-fast` contributes: the recipe in a short run, and without one part at a time.

Command: python -m benchmarks.tables.cifar_fast --data DATA, with DATA/cifar10-jpeg/{train,test}.tar.gz.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.tables.cifar_data import cifar_files, cifar_missing
from benchmarks.tables.common import Column, Measured, Row, Settings, Table, Text, main

EPOCHS = 2
SGD = {
    "optimizer.name": "sgd", "optimizer.lr": 0.2, "optimizer.momentum": 0.9, "schedule.warmup_share": 0.2,
    "schedule.start": 0.05,
}  # fmt: skip
PARTS: dict[str, tuple[Text, dict[str, Any]]] = {
    "recipe": (Text("the recipe", "完整配方"), {}),
    "sgd": (Text("SGD instead of Muon", "用 SGD 代替 Muon"), SGD),
    "one-size": (Text("no progressive resizing", "不用渐进式放大"), {"image_sizes": []}),
    "random-flips": (Text("flips at random", "随机镜像"), {"augment.alternate_flip": False}),
    "black-border": (Text("shifts move in black", "平移补黑边"), {"augment.border": "zeros"}),
    "no-erasing": (Text("nothing erased", "不擦除"), {"augment.erase": 0.0}),
    "no-smoothing": (Text("no label smoothing", "不用标签平滑"), {"label_smoothing": 0.0}),
    "no-average": (Text("no average of the weights", "不用权重平均"), {"ema.decay": None}),
    "zero-init": (
        Text("blocks start as identities (zero-init residual)", "残差块从恒等映射开始（zero-init）"),
        {"spec.zero_init_residual": True},
    ),
    "gelu": (Text("GELU instead of ReLU", "用 GELU 代替 ReLU"), {"spec.act": "gelu"}),
    "resnet20": (Text("ResNet-20 instead of the wide ResNet-8", "用 ResNet-20 代替宽 ResNet-8"), {"model": "resnet20"}),
}  # fmt: skip
"""Label and settings changed of each row."""


def measure(key: str, seed: int, settings: Settings) -> Measured:
    """Train by the changed recipe; score the test images once."""
    import restune
    from restune.core.console import quiet

    _label, changes = PARTS[key]
    with tempfile.TemporaryDirectory() as scratch, quiet():
        train, test_file = cifar_files(settings, Path(scratch), per_class=30)
        run = restune.train(
            train, test=test_file, recipe="cifar-fast", seed=seed, out=Path(scratch) / "run",
            set={"epochs": EPOCHS, **changes},
        )  # fmt: skip
    test, seconds = run.result["test"], run.result["training_seconds"]
    return Measured(value=100 * test["accuracy"], n=test["n"], extra={"seconds": seconds})


def _row(key: str) -> Row:
    label, changes = PARTS[key]
    return Row(
        key=key, label=label, measure=lambda seed, settings: measure(key, seed, settings), seeds=(0, 1),
        protocol={"recipe": "cifar-fast", "epochs": EPOCHS, "changes": changes}, minutes=3.5, needs=cifar_missing,
    )  # fmt: skip


TABLE = Table(
    name="cifar_fast",
    order=25,
    title=Text("The parts of `cifar-fast`", "`cifar-fast` 的各个部分"),
    text=Text(
        f"`restune train train.tar.gz --test test.tar.gz --recipe cifar-fast --epochs {EPOCHS}` on CIFAR-10 as JPEG, "
        "and the same without one part at a time. A run of 2 epochs is a tenth of the recipe's own: parts that pay in "
        "longer runs, such as erasing, label smoothing and the average, may cost accuracy here. SGD: peak learning "
        "rate 0.2, linear warm-up over 20% of the run.",
        "在 JPEG 版 CIFAR-10 上运行 `restune train train.tar.gz --test test.tar.gz --recipe cifar-fast "
        f"--epochs {EPOCHS}`，"
        "以及每次去掉一个部分的同样运行。2 轮是配方自身长度的十分之一：擦除、标签平滑、权重平均等在长运行中有用的部分，"
        "在这里可能降低准确率。SGD：最高学习率 0.2，前 20% 线性预热。",
    ),
    value=Text("test accuracy", "测试准确率"),
    unit="%",
    rows=tuple(_row(key) for key in PARTS),
    columns=(Column(key="seconds", title=Text("training", "训练用时")),),
)

if __name__ == "__main__":
    main(TABLE)
