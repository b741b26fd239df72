"""Search: the best of 30 trials against the recipe's own settings, on validation items that chose nothing, and on test.

Command: python -m benchmarks.tables.search_gains --data DATA
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.tables.common import Column, Measured, Row, Settings, Table, Text, main
from benchmarks.tables.gains import ants, cifar, missing, over_items, work

START = "weights/resnet20-12fca82f.th"
TRIALS = 30
SETS: dict[str, dict[str, Any]] = {
    "signs": {"val": 0.3, "test": 0.3},
    "ants": {"val_per_class": 61},
    "cifar": {"per_class": 100},
}


def measure(name: str, on: str, seed: int, settings: Settings) -> Measured:
    """Search once per seed; return the gain on the held-out validation items, or on the test items."""
    import restune
    from restune.core.console import quiet

    folder = work(settings)
    data, shared = _data(name, settings, folder)
    out, own = folder / f"search-{name}-{seed}", folder / f"own-{name}-{seed}"
    if on == "val" or not (out / "study.json").exists():
        for old in (out, own):
            shutil.rmtree(old, ignore_errors=True)
        with quiet():
            found = restune.search(
                data, trials=3 if settings.quick else TRIALS, out=out, seed=seed, threads=1, freeze="all",
                weights=settings.data / START, model="resnet20", **shared,
            ).to_dict()  # fmt: skip
        if on == "val":
            return _on_val(found)
    with quiet():
        run = restune.finetune(
            data, out=own, seed=seed, threads=1, freeze="all", weights=settings.data / START, model="resnet20", **shared
        )  # fmt: skip
    compared = over_items(out / "best", own)
    return Measured(value=compared["gain"], n=run.result["test"]["n"], extra=compared)


def _on_val(found: dict[str, Any]) -> Measured:
    gain = found["gain"]
    low, high = (100 * value for value in gain["interval"])
    extra = {
        "low": low, "high": high, "own": 100 * gain["other"], "best": 100 * gain["this"],
        "chose": 100 * (found["best"]["score"] - found["default"]["score"]), "settings": found["best"]["settings"],
        "seconds": sum(one["seconds"] for one in found["trials"]),
    }  # fmt: skip
    return Measured(value=100 * gain["difference"], n=gain["n"], extra=extra)


def _data(name: str, settings: Settings, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the data of a set and the options of its runs."""
    if name == "signs":
        return settings.data / "sign-digits" / "Dataset", SETS[name]
    if name == "ants":
        return ants(settings.data, folder / "ants-search", SETS[name]["val_per_class"]), {}
    return cifar(settings.data, folder / f"cifar-{SETS[name]['per_class']}", SETS[name]["per_class"]), {}


def _rows(name: str, en: str, zh: str) -> tuple[Row, ...]:
    protocol = {**SETS[name], "trials": TRIALS}
    return (
        Row(
            key=f"{name}-val", label=Text(f"{en}: held-out validation items", f"{zh}：留出的验证样本"), needs=missing,
            protocol={**protocol, "on": "val"}, minutes=1.5, measure=partial(measure, name, "val"),
        ),
        Row(
            key=f"{name}-test", label=Text(f"{en}: test items", f"{zh}：测试样本"), needs=missing,
            protocol={**protocol, "on": "test"}, minutes=0.2, measure=partial(measure, name, "test"),
        ),
    )  # fmt: skip


TABLE = Table(
    name="search_gains",
    order=62,
    title=Text("Search against the recipe's own settings", "搜索与配方自带的设置相比"),
    text=Text(
        "`restune search DATA --weights resnet20:cifar10 --freeze all --trials 30`, default space. The value is the\n"
        "accuracy with the best trial's settings less that with the recipe's own: as the search says it, on\n"
        "validation items that no trial was scored on, and on test items. Intervals: median of the 95% paired\n"
        "bootstrap intervals over the items.",
        "`restune search DATA --weights resnet20:cifar10 --freeze all --trials 30`，默认搜索空间。数值是最好一次试验\n"
        "的设置与配方自带设置的准确率之差：一是搜索自己所说的，来自没有给任何试验评分的验证样本；二是在测试样本上。\n"
        "区间为对样本成对自助抽样的 95% 区间（取中位数）。",
    ),
    value=Text("gain in accuracy", "准确率增益"),
    unit="points",
    rows=(
        *_rows("signs", "sign-digits, 2,054 photos", "手势数字，2,054 张"),
        *_rows("ants", "hymenoptera, 397 photos", "蚂蚁与蜜蜂，397 张"),
        *_rows("cifar", "CIFAR-10, 1,000 training images", "CIFAR-10，1,000 张训练图"),
    ),
    columns=(
        Column(key="low", title=Text("interval, from", "区间下限"), form="{:+.1f}"),
        Column(key="high", title=Text("to", "上限"), form="{:+.1f}"),
        Column(key="own", title=Text("recipe's own", "配方自带"), form="{:.1f}%"),
        Column(key="seconds", title=Text("30 trials", "30 次试验"), form="{:.0f} s"),
    ),
)

if __name__ == "__main__":
    main(TABLE)
