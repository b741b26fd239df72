"""Time to accuracy on CIFAR-10: ResNets by `cifar-fast` and `cifar-paper` beside a peer, with the curve over time.

Command: python -m benchmarks.tables.time_to_accuracy --data DATA, without other work. A finished run of the
same recipe is taken over by `--run=KEY/SEED=FOLDER`, for example --run=fast/0=runs/train-001.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.tables.cifar_data import cifar_files, cifar_missing
from benchmarks.tables.common import (
    NO_GPU,
    Column,
    Measured,
    Picture,
    Row,
    Settings,
    Table,
    Text,
    gpu_name,
    main,
    record,
)  # fmt: skip

TARGETS = (80, 85, 90, 92)
PEER_EPOCHS = 8
"""As published for 94% on lossless images."""
ERASING = {"set": {"augment.erase": 0.5}}
RECIPES: dict[str, tuple[str, dict[str, Any], float]] = {
    "fast": ("cifar-fast", {}, 35),
    "erasing": ("cifar-fast", {"epochs": 20, **ERASING}, 30),
    "long": ("cifar-fast", {"epochs": 40, **ERASING}, 65),
    "gpu": ("cifar-fast", {"device": "cuda", "epochs": 20, **ERASING}, 2),
    "gpu-long": ("cifar-fast", {"device": "cuda", "epochs": 80, **ERASING}, 4),
    "gpu-paper": ("cifar-paper", {"device": "cuda", "model": "resnet20", "epochs": 60}, 5),
}
"""Recipe, options and expected minutes of each row."""
LABELS = {
    "fast": Text("`cifar-fast`", "`cifar-fast`"),
    "erasing": Text("20 epochs, erasing", "20 轮，加擦除"),
    "long": Text("40 epochs, erasing", "40 轮，加擦除"),
    "gpu": Text("20 epochs, erasing, on a GPU", "20 轮，加擦除，GPU"),
    "gpu-long": Text("80 epochs, erasing, on a GPU", "80 轮，加擦除，GPU"),
    "gpu-paper": Text(
        "ResNet-20, `cifar-paper`, a third of its epochs, on a GPU", "ResNet-20，`cifar-paper`，轮数三分之一，GPU"
    ),
}

CURVES = {
    "erasing": "20 epochs, erasing", "long": "40 epochs, erasing", "peer": "airbench94", "gpu": "20 epochs, GPU",
    "gpu-long": "80 epochs, GPU", "gpu-paper": "cifar-paper, GPU",
}  # fmt: skip
"""Names of lines in the picture where the recipe's name is not enough."""


def measure(key: str, seed: int, settings: Settings) -> Measured:
    """Train by the recipe; the run's own log gives the curve."""
    import restune
    from restune.core.console import quiet

    recipe, changes, _ = RECIPES[key]
    options = {"device": "cpu", **changes}
    with tempfile.TemporaryDirectory() as scratch, quiet():
        train, test = cifar_files(settings, Path(scratch), per_class=40)
        if settings.quick:
            options = options | {"epochs": 2}
        run = restune.train(train, test=test, recipe=recipe, seed=seed, out=Path(scratch) / "run", **options)
        return of_run(run.out)


def measure_peer(seed: int, settings: Settings) -> Measured:
    """Train airbench94's network and recipe in plain torch, without restune."""
    from benchmarks.tables import shallow_cifar as peer

    with tempfile.TemporaryDirectory() as scratch:
        files = cifar_files(settings, Path(scratch), per_class=40)
        found = peer.measure(*files, epochs=2 if settings.quick else PEER_EPOCHS, seed=seed)
    curve = found.pop("curve")
    value, n = 100 * found.pop("accuracy"), found.pop("n")
    reached = {f"to_{target}": time_to(target, curve) for target in TARGETS}
    extra = found | {"six_views": 100 * found["six_views"], "model": "airbench94", "curve": curve}
    return Measured(value=value, n=n, extra=extra | reached)


def of_run(folder: Path) -> Measured:
    """Read a finished run's test accuracy, its time, and its curve of validation accuracy over training time."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    metrics, timings = (
        [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]
        for name in ("metrics.jsonl", "timings.jsonl")
    )
    spent, curve = 0.0, []
    seconds = {line["epoch"]: line["seconds"] for line in timings}
    for line in metrics:
        spent += seconds.get(line["epoch"], 0.0)
        if line.get("val_accuracy") is not None:
            curve.append([spent / 60, 100 * line["val_accuracy"]])
    reached = {f"to_{target}": time_to(target, curve) for target in TARGETS}
    extra = {"minutes": result["seconds"] / 60, "epochs": result["epochs"], "model": result["model"], "curve": curve}
    return Measured(value=100 * result["test"]["accuracy"], n=result["test"]["n"], extra=extra | reached)


def versions_of(folder: Path) -> dict[str, str]:
    """Return the versions that a finished run was made with."""
    stored = json.loads((folder / "result.json").read_text(encoding="utf-8"))["versions"]
    return {
        "python": platform.python_version(),
        **{name: stored[name].partition("+")[0] for name in ("restune", "torch")},
    }


def time_to(target: float, curve: list[list[float]]) -> float | None:
    """Return the minutes of training until validation accuracy first reaches the target; None where it never does."""
    return next((minutes for minutes, accuracy in curve if accuracy >= target), None)


def picture(rows: dict[str, Any], lang: str) -> Picture | None:
    """Draw validation accuracy over minutes, one line per run, on a logarithmic time axis."""
    if not any(stored["values"] for stored in rows.values()):
        return None
    from benchmarks.tables.curves import draw

    lines = {
        f"{CURVES.get(key) or RECIPES[key][0]}{'' if len(stored['values']) == 1 else f', {seed}'}": curve
        for key, stored in rows.items()
        for seed, curve in stored["extra"].get("curve", {}).items()
    }
    name = "time-to-accuracy.svg" if lang == "en" else "time-to-accuracy.zh.svg"
    axes = Text("minutes of training", "训练分钟数"), Text("validation accuracy, %", "验证准确率，%")
    svg = draw(lines, *(getattr(axis, lang) for axis in axes))
    alternative = Text("Validation accuracy over minutes of training", "验证准确率随训练时间的变化")
    return Picture(file=name, alternative=getattr(alternative, lang), svg=svg)


def _needs(key: str, settings: Settings) -> Text | None:
    if key.startswith("gpu") and not gpu_name():
        return NO_GPU
    return cifar_missing(settings)


def _column(target: int) -> Column:
    title = Text(f"validation reaches {target}%", f"验证达到 {target}%")
    return Column(key=f"to_{target}", title=title, form="{:.1f} min")


TABLE = Table(
    name="time_to_accuracy",
    order=20,
    title=Text("Time to accuracy on CIFAR-10", "CIFAR-10：达到准确率所需时间"),
    text=Text(
        "From the lossy copy of CIFAR-10 (JPEG, quality 75; weights trained on lossless images score 81 to 83% on "
        "it). Accuracy on validation items, held out of train, after each epoch, over the training time so far "
        "(validation included); the test split is scored once, at the end. The time per run is that of the whole "
        "command. On lossless images airbench94 scores 94.0% as the mean of six views (both sides of the image and of "
        "its shifts by one pixel) after 0.29 PFLOP, 2.6 s on an A100, and airbench95 95.0% after 1.4 PFLOP "
        "(arXiv:2404.00498 and github.com/KellerJordan/cifar10-airbench). What its own recipe, written anew in "
        "`benchmarks/tables/shallow_cifar.py`, scores here shows what the lossy copy costs. It trains in plain "
        "torch, with the C library's default memory allocation, while restune keeps freed memory. On the GPU, the two "
        "longer runs shared the card with six others. Erasing: `--set augment.erase=0.5`.",
        "使用有损的 CIFAR-10（JPEG，质量 75；在无损图像上训练的权重在其上只有 81% 到 83%）。每轮之后在从训练集留出的"
        "验证样本上的准确率，横轴为此前的训练时间（含验证）；测试集只在最后评分一次。每次用时为整条命令的时间。在 "
        "无损图像上，airbench94 以六视图（图像及其平移一个像素的两个版本，各取左右两面）的均值，用 0.29 PFLOP（一块 "
        "A100 上 2.6 秒）得到 94.0%，airbench95 用 1.4 PFLOP 得到 95.0%（arXiv:2404.00498 与 "
        "github.com/KellerJordan/cifar10-airbench）。同一方法在 `benchmarks/tables/shallow_cifar.py` 中重新实现，"
        "它在这里的得分说明有损副本的代价。它用纯 torch 训练，内存由 C 库按默认方式分配；restune 则保留释放的内存。"
        "GPU 上较长的两次运行与另外六次共用一块卡。擦除即 `--set augment.erase=0.5`。",
    ),
    value=Text("test accuracy", "测试准确率"),
    unit="%",
    rows=(
        *(
            Row(
                key=key, label=LABELS[key], measure=partial(measure, key), seeds=(0,), minutes=minutes,
                needs=partial(_needs, key), protocol={"recipe": recipe, **options},
            )
            for key, (recipe, options, minutes) in RECIPES.items()
        ),
        Row(
            key="peer", label=Text("airbench94 in plain torch, no shortcuts", "纯 torch 实现的 airbench94，无捷径"),
            measure=measure_peer, seeds=(0,), minutes=15, needs=cifar_missing, protocol={"epochs": PEER_EPOCHS},
            peers=("pillow",),
        ),
    ),
    columns=(
        *(_column(target) for target in TARGETS),
        Column(key="minutes", title=Text("time per run", "每次用时"), form="{:.1f} min"),
        Column(key="six_views", title=Text("test, six views", "测试，六视图"), form="{:.2f}"),
        Column(key="epochs", title=Text("epochs", "轮数"), form="{:.0f}"),
    ),
    picture=picture,
)  # fmt: skip

if __name__ == "__main__":
    taken = [argument.partition("=")[2] for argument in sys.argv if argument.startswith("--run=")]
    for where in taken:
        address, _, folder = where.partition("=")
        key, _, seed = address.partition("/")
        recipe, options, _ = RECIPES[key]
        given = {name: value for name, value in options.items() if name != "set"}
        listed = "".join(f" --{name} {value}" for name, value in given.items())
        listed += "".join(f" --set {name}={value}" for name, value in options.get("set", {}).items())
        command = f"restune train train.tar.gz --test test.tar.gz --recipe {recipe} --seed {seed}{listed}"
        record(TABLE, key, int(seed), of_run(Path(folder)), command, versions_of(Path(folder)))
    if not taken:
        main(TABLE)
