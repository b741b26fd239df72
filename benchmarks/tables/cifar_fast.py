"""What each part of the recipe `cifar-fast` contributes: the recipe in a short run, and with other parts.

Command: python -m benchmarks.tables.cifar_fast --data DATA, with DATA/cifar10-jpeg/{train,test}.tar.gz.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.tables.cifar_data import cifar_files, cifar_missing
from benchmarks.tables.common import Measured, Row, Settings, Table, Text, main

EPOCHS = 10
SGD = {
    "optimizer.name": "sgd", "optimizer.lr": 0.2, "optimizer.momentum": 0.9, "schedule.warmup_share": 0.2,
    "schedule.start": 0.05,
}  # fmt: skip
ERASING = {"augment.erase": 0.5}
CHANGES: dict[str, tuple[Text, dict[str, Any]]] = {
    "sgd": (Text("SGD instead of Muon", "用 SGD 代替 Muon"), SGD),
    "one-size": (Text("no progressive resizing", "不用渐进式放大"), {"image_sizes": []}),
    "random-flips": (Text("flips at random", "随机镜像"), {"augment.alternate_flip": False}),
    "black-border": (Text("shifts move in black", "平移补黑边"), {"augment.border": "zeros"}),
    "no-smoothing": (Text("no label smoothing", "不用标签平滑"), {"label_smoothing": 0.0}),
    "no-average": (Text("no average of the weights", "不用权重平均"), {"ema.decay": None}),
    "zero-init": (
        Text("blocks start as identities (zero-init residual)", "残差块从恒等映射开始（zero-init）"),
        {"spec.zero_init_residual": True},
    ),
    "gelu": (Text("GELU instead of ReLU", "用 GELU 代替 ReLU"), {"spec.act": "gelu"}),
    "resnet20": (Text("ResNet-20 instead of the wide ResNet-8", "用 ResNet-20 代替宽 ResNet-8"), {"model": "resnet20"}),
}
"""What is changed besides erasing."""
PARTS: dict[str, tuple[Text, dict[str, Any]]] = {
    "plain": (Text("the recipe", "完整配方"), {}),
    "erasing": (Text("with erasing", "加擦除"), ERASING),
    **{
        key: (Text(f"with erasing, {label.en}", f"加擦除，{label.zh}"), ERASING | changes)
        for key, (label, changes) in CHANGES.items()
    },
}
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
    test = run.result["test"]
    return Measured(value=100 * test["accuracy"], n=test["n"])


def _row(key: str) -> Row:
    label, changes = PARTS[key]
    return Row(
        key=key, label=label, measure=lambda seed, settings: measure(key, seed, settings), seeds=(0,),
        protocol={"recipe": "cifar-fast", "epochs": EPOCHS, "changes": changes}, minutes=17, needs=cifar_missing,
    )  # fmt: skip


TABLE = Table(
    name="cifar_fast",
    order=25,
    title=Text("The parts of `cifar-fast`", "`cifar-fast` 的各个部分"),
    text=Text(
        f"`restune train train.tar.gz --test test.tar.gz --recipe cifar-fast --epochs {EPOCHS}` on CIFAR-10 as JPEG: "
        "less than half of the recipe's own epochs. The other rows erase a rectangle in half of the images "
        "(`--set augment.erase=0.5`); those below the second change one part more, and are to be compared with the "
        "second. SGD: peak learning rate 0.2, linear warm-up over 20% of the run. With 10,000 test images, differences "
        "below about 0.6 points between two rows of one seed are within chance. That the recipe does not erase rests "
        "on these test scores: its own score on the same images may be a little too high.",
        "在 JPEG 版 CIFAR-10 上运行 `restune train train.tar.gz --test test.tar.gz --recipe cifar-fast "
        f"--epochs {EPOCHS}`，不到配方自身轮数的一半。其余各行都在一半的图像里擦除一块矩形（`--set augment.erase="
        "0.5`）；第二行以下再改动一个部分，应与第二行比较。SGD：最高学习率 0.2，前 20% 线性预热。测试图像 10,000 张，"
        "单个种子两行之差小于约 0.6 个百分点时属于偶然范围。配方不用擦除，依据的就是这些测试得分：它在同一批图像上的"
        "得分可能略微偏高。",
    ),
    value=Text("test accuracy", "测试准确率"),
    unit="%",
    rows=tuple(_row(key) for key in PARTS),
)

if __name__ == "__main__":
    main(TABLE)
