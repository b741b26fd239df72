"""Distillation: a ResNet-20 trained with a ResNet-56 as teacher, against the same training without it.

Command: python -m benchmarks.tables.distillation --data DATA
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.tables.common import Column, Measured, Row, Settings, Table, Text, main
from benchmarks.tables.gains import cifar, missing, over_items, signs, work

TEACHER, STUDENT = "weights/resnet56-4bfd9763.th", "weights/resnet20-12fca82f.th"
SETS: dict[str, dict[str, Any]] = {
    "signs": {"per_class": 100, "start": "random", "epochs": 8, "lr": 0.05, "batch_size": 32, "flip": False},
    "signs-tuned": {
        "per_class": 100,
        "start": "resnet20:cifar10",
        "epochs": 3,
        "lr": 0.03,
        "batch_size": 32,
        "flip": False,
    },
    "cifar": {"per_class": 100, "start": "random", "epochs": 40, "lr": 0.05, "batch_size": 32, "flip": True},
}
TEACHERS: dict[str, dict[str, Any]] = {
    "signs": {"freeze": "none", "epochs": 5, "lr": 0.02},
    "cifar": {"freeze": "all"},
}


def measure(name: str, distilled: bool, seed: int, settings: Settings) -> Measured:
    """Train the student once; score the test items once."""
    import restune
    from restune.core.console import quiet

    plan, folder = SETS[name], work(settings)
    data = _data(name, settings, folder)
    teacher = _teacher(name.partition("-")[0], data, settings, folder) if distilled else None
    out = folder / f"{name}-{'distilled' if distilled else 'alone'}-{seed}"
    shutil.rmtree(out, ignore_errors=True)
    shared: dict[str, Any] = {
        "epochs": 1 if settings.quick else plan["epochs"], "lr": plan["lr"],
        "batch_size": plan["batch_size"], "seed": seed, "teacher": teacher, "out": out,
        "set": {"augment.flip": plan["flip"], "augment.policy": "none"},
    }  # fmt: skip
    with quiet():
        if plan["start"] == "random":
            run = restune.train(data, model="resnet20", image_size=32, **shared)
        else:
            run = restune.finetune(data, model="resnet20", weights=settings.data / STUDENT, freeze="none", **shared)
    test, alone = run.result["test"], folder / f"{name}-alone-{seed}"
    extra: dict[str, Any] = {"seconds": run.result["training_seconds"], "val": 100 * run.result["val"]["accuracy"]}
    if distilled and (alone / "result.json").exists():
        extra |= over_items(out, alone)
    return Measured(value=100 * test["accuracy"], n=test["n"], extra=extra)


def measure_teacher(name: str, _seed: int, settings: Settings) -> Measured:
    """Score the teacher, which has a seed of its own, on the same test items."""
    import restune

    folder = work(settings)
    data = _data(name, settings, folder)
    teacher = _teacher(name, data, settings, folder)
    test = restune.evaluate(teacher, data, split="test")
    return Measured(value=100 * test.accuracy, n=len(test.ids))


def _data(name: str, settings: Settings, folder: Path) -> Path:
    count = 10 if settings.quick else SETS[name]["per_class"]
    draw = cifar if name == "cifar" else signs
    return draw(settings.data, folder / f"{name.partition('-')[0]}-{count}", count)


def _teacher(name: str, data: Path, settings: Settings, folder: Path) -> Path:
    """Fine-tune the teacher where it is not there yet; all seeds of the student have the same one."""
    import restune
    from restune.core.console import quiet

    out = folder / f"{name}-teacher"
    if not (out / "result.json").exists():
        shutil.rmtree(out, ignore_errors=True)
        plan = TEACHERS[name] | ({"epochs": 1} if settings.quick and "epochs" in TEACHERS[name] else {})
        with quiet():
            restune.finetune(
                data, model="resnet56", weights=settings.data / TEACHER, out=out, seed=0, threads=1, **plan
            )
    return out


def _rows(name: str, en: str, zh: str) -> tuple[Row, ...]:
    teacher = name.partition("-")[0]
    protocol = {**SETS[name], "teacher": TEACHERS[teacher]}
    alone = Row(
        key=f"{name}-alone", label=Text(f"{en}: alone", f"{zh}：单独训练"), needs=missing,
        protocol=SETS[name], minutes=0.7, measure=partial(measure, name, False),
    )  # fmt: skip
    distilled = Row(
        key=f"{name}-distilled", label=Text(f"{en}: with the teacher", f"{zh}：有教师"), needs=missing,
        protocol=protocol, minutes=0.8, measure=partial(measure, name, True),
    )  # fmt: skip
    gain = Row(
        key=f"{name}-gain", label=Text(f"{en}: gain", f"{zh}：增益"), minus=(distilled.key, alone.key),
        protocol=protocol,
    )  # fmt: skip
    return alone, distilled, gain


def _teacher_row(name: str, en: str, zh: str) -> Row:
    return Row(
        key=f"{name}-teacher", label=Text(en, zh), needs=missing, protocol=TEACHERS[name], seeds=(0,), minutes=1.0,
        measure=partial(measure_teacher, name),
    )  # fmt: skip


TABLE = Table(
    name="distillation",
    order=60,
    title=Text("Distillation", "蒸馏"),
    text=Text(
        "`restune train DATA --model resnet20 --teacher RUN` against the same command without `--teacher`: same seed,\n"
        "data, epochs and augmentation. The teacher is a ResNet-56 with published CIFAR-10 weights (trained on\n"
        "50,000 images), fine-tuned on the training items (for CIFAR-10 only its head). CIFAR-10 here is\n"
        "1,000 training images. One teacher for all seeds. Students train for 8 epochs, on CIFAR-10 for 40,\n"
        "fine-tuned ones for 3. Training times of sign-digits are of one thread. Over items: median of the\n"
        "95% paired bootstrap intervals over the test items.",
        "`restune train DATA --model resnet20 --teacher RUN` 与去掉 `--teacher` 的同一命令相比：种子、数据、轮数和\n"
        "增强都相同。教师是 ResNet-56，用公开的 CIFAR-10 权重（在 50,000 张图上训练）在训练样本上微调\n"
        "（在 CIFAR-10 上只训练分类头）。这里的 CIFAR-10 只取 1,000 张训练图。各种子共用一个教师。\n"
        "学生训练 8 轮，在 CIFAR-10 上 40 轮，微调的 3 轮。手势数字的训练用时是单线程的。\n"
        "“样本区间”是对测试样本成对自助抽样的 95% 区间（取中位数）。",
    ),
    value=Text("test accuracy", "测试准确率"),
    unit="%",
    rows=(
        _teacher_row("signs", "sign-digits: the teacher", "手势数字：教师"),
        *_rows("signs", "sign-digits, 1,000 photos, from scratch", "手势数字，1,000 张，从头训练"),
        *_rows("signs-tuned", "sign-digits, 1,000 photos, fine-tuned", "手势数字，1,000 张，微调"),
        _teacher_row("cifar", "CIFAR-10: the teacher", "CIFAR-10：教师"),
        *_rows("cifar", "CIFAR-10, 1,000 images, from scratch", "CIFAR-10，1,000 张，从头训练"),
    ),
    columns=(
        Column(key="low", title=Text("over items, from", "样本区间下限"), form="{:+.1f}"),
        Column(key="high", title=Text("to", "上限"), form="{:+.1f}"),
        Column(key="seconds", title=Text("training time", "训练用时")),
    ),
)

if __name__ == "__main__":
    main(TABLE)
