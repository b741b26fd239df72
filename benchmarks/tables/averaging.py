"""Averaging: `restune average` of runs fine-tuned from the same weights, against the best of them by validation.

Command: python -m benchmarks.tables.averaging --data DATA
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.tables.common import Column, Measured, Row, Settings, Table, Text, main
from benchmarks.tables.gains import ants, cifar, missing, over_items, signs, work

START = "weights/resnet20-12fca82f.th"
RATES = (0.01, 0.02, 0.03, 0.05)
"""Of a repeat's four runs; repeat r gives them the seeds 10 r to 10 r + 3."""
SETS: dict[str, dict[str, Any]] = {
    "signs-few": {"per_class": 10, "epochs": 15, "freeze": "auto"},
    "ants": {"per_class": None, "epochs": 10, "freeze": "auto"},
    "cifar": {"per_class": 100, "epochs": 3, "freeze": "none"},
}
DRAWS: dict[str, Callable[..., Path]] = {"cifar": cifar, "signs-few": signs, "ants": ants}


def measure_best(name: str, repeat: int, settings: Settings) -> Measured:
    """Fine-tune four runs; return the test accuracy of the one with the best validation accuracy."""
    results = [_result(run) for run in _runs(name, repeat, settings, again=True)]
    best = max(results, key=lambda one: one["val"]["accuracy"])
    tests = [100 * one["test"]["accuracy"] for one in results]
    extra = {"seconds": sum(one["training_seconds"] for one in results), "mean_of_runs": sum(tests) / len(tests)}
    return Measured(value=100 * best["test"]["accuracy"], n=best["test"]["n"], extra=extra)


def measure_average(name: str, method: str, repeat: int, settings: Settings) -> Measured:
    """Average the repeat's runs; score the test items once."""
    import restune
    from restune.core.console import quiet

    runs = _runs(name, repeat, settings, again=False)
    out = work(settings) / f"average-{name}-{method}-{repeat}"
    shutil.rmtree(out, ignore_errors=True)
    with quiet():
        made = restune.average(runs, method=method, out=out)
    best = max(runs, key=lambda run: _result(run)["val"]["accuracy"])
    test = made.to_dict()["test"]
    extra = {**over_items(out, best), "kept": len(made.kept)}
    return Measured(value=100 * test["accuracy"], n=test["n"], extra=extra)


def _runs(name: str, repeat: int, settings: Settings, *, again: bool) -> list[Path]:
    """Fine-tune a repeat's runs; `again` makes new ones where there are some."""
    import restune
    from restune.core.console import quiet

    plan, folder, runs = SETS[name], work(settings), []
    count = 10 if settings.quick else plan["per_class"]
    data = DRAWS[name](settings.data, folder / f"{name}-{count}", *([] if name == "ants" else [count]))
    for number, rate in enumerate(RATES[:2] if settings.quick else RATES):
        out = folder / f"run-{name}-{repeat}-{number}"
        if again or not (out / "result.json").exists():
            shutil.rmtree(out, ignore_errors=True)
            with quiet():
                restune.finetune(
                    data, model="resnet20", weights=settings.data / START, freeze=plan["freeze"], lr=rate,
                    batch_size=32, out=out, threads=1, seed=10 * repeat + number,
                    epochs=1 if settings.quick else plan["epochs"],
                )  # fmt: skip
        runs.append(out)
    return runs


def _result(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "result.json").read_text(encoding="utf-8"))
    return found


def _rows(name: str, en: str, zh: str) -> tuple[Row, ...]:
    protocol = {**SETS[name], "rates": RATES}
    best = Row(
        key=f"{name}-best", label=Text(f"{en}: best of 4 runs", f"{zh}：4 次中最好的"), needs=missing,
        protocol=protocol, minutes=1.0, measure=partial(measure_best, name),
    )  # fmt: skip
    rows = [best]
    for method, said in (
        ("greedy", Text("greedy average", "贪心平均")),
        ("uniform", Text("average of all", "全部平均")),
    ):
        row = Row(
            key=f"{name}-{method}", label=Text(f"{en}: {said.en}", f"{zh}：{said.zh}"), needs=missing,
            protocol={**protocol, "method": method}, minutes=0.2, measure=partial(measure_average, name, method),
        )  # fmt: skip
        gain = Row(
            key=f"{name}-{method}-gain", label=Text(f"{en}: gain of the {said.en}", f"{zh}：{said.zh}的增益"),
            minus=(row.key, best.key), protocol=row.protocol,
        )  # fmt: skip
        rows += [row, gain]
    return tuple(rows)


TABLE = Table(
    name="averaging",
    order=61,
    title=Text("Averages of runs", "多次运行的平均"),
    text=Text(
        "Four runs of `restune finetune DATA --model resnet20` from the same published CIFAR-10\n"
        "weights, with learning rates 0.01, 0.02, 0.03 and 0.05 and other seeds, then `restune average`; against the\n"
        "run with the best validation accuracy. Three repeats. Over items: median of the 95% paired bootstrap\n"
        "intervals over the test items.",
        "从同一份公开的 CIFAR-10 权重做四次 `restune finetune DATA --model resnet20`，学习率为\n"
        "0.01、0.02、0.03、0.05，种子各不相同，再用 `restune average`；与其中验证准确率最好的一次相比。重复三次。\n"
        "“样本区间”是对测试样本成对自助抽样的 95% 区间（取中位数）。",
    ),
    value=Text("test accuracy", "测试准确率"),
    unit="%",
    rows=(
        *_rows("signs-few", "sign-digits, 100 photos", "手势数字，100 张"),
        *_rows("ants", "hymenoptera, 184 photos", "蚂蚁与蜜蜂，184 张"),
        *_rows("cifar", "CIFAR-10, 1,000 images, all layers from the start", "CIFAR-10，1,000 张，一开始就训练所有层"),
    ),
    columns=(
        Column(key="kept", title=Text("runs averaged", "参与平均"), form="{:.0f}"),
        Column(key="low", title=Text("over items, from", "样本区间下限"), form="{:+.1f}"),
        Column(key="high", title=Text("to", "上限"), form="{:+.1f}"),
    ),
)

if __name__ == "__main__":
    main(TABLE)
