"""Time series: test accuracy on twelve sets of the UCR and UEA archives, standard splits, over seeds.

Command: python -m benchmarks.tables.series --data DATA, with DATA/ucr/NAME/NAME_TRAIN and NAME_TEST, .ts or .tsv.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.tables.common import NO_DATA, Column, Measured, Row, Settings, Table, Text, main, same

SOURCE = "Fawaz et al. 2019"
SETS: dict[str, float | None] = {
    "GunPoint": 99.1,
    "ItalyPowerDemand": 96.3,
    "RefrigerationDevices": 52.5,
    "BasicMotions": None,
    "ArrowHead": None,
    "ECG200": None,
    "ECG5000": None,
    "FaceFour": None,
    "Wafer": None,
    "NATOPS": None,
    "Epilepsy": None,
    "JapaneseVowels": None,
}
"""The sets, and the accuracy of a ResNet in Fawaz et al. 2019 (mean of five runs) where it is at hand."""


def measure(name: str, seed: int, settings: Settings) -> Measured:
    """Train with the series recipe on the whole training split; score the test split once."""
    import restune
    from restune.core.console import quiet

    with tempfile.TemporaryDirectory() as folder, quiet():
        run = restune.train(
            settings.data / "ucr" / name, out=Path(folder) / "run", val=0, seed=seed, threads=1,
            set={"epochs": 2} if settings.quick else {},
        )  # fmt: skip
    test = run.result["test"]
    return Measured(value=100 * test["accuracy"], n=test["n"], extra={"seconds": run.result["seconds"]})


def _row(name: str, published: float | None) -> Row:
    def needs(settings: Settings) -> Text | None:
        return None if (settings.data / "ucr" / name).is_dir() else NO_DATA

    return Row(
        key=name, label=same(name), measure=lambda seed, settings: measure(name, seed, settings), seeds=(0, 1, 2, 3, 4),
        protocol={"recipe": "series", "threads": 1}, minutes=0.4, needs=needs,
        reference=(published, SOURCE) if published else None,
    )  # fmt: skip


TABLE = Table(
    name="series",
    order=30,
    title=Text("Time series", "时间序列"),
    text=Text(
        "`restune train ucr/NAME --val 0 --threads 1`: the recipe `series`, the archive's own splits. Published: a "
        "ResNet trained for 1,500 epochs (arXiv:1809.04356), mean of five runs; restune trains for 300 steps.",
        "`restune train ucr/NAME --val 0 --threads 1`：配方 `series`，使用数据集自带的划分。已发表的数字来自训练 "
        "1,500 轮的ResNet（arXiv:1809.04356，五次运行的均值）；restune 训练 300 步。",
    ),
    value=Text("test accuracy", "测试准确率"),
    unit="%",
    rows=tuple(_row(name, published) for name, published in SETS.items()),
    columns=(Column(key="seconds", title=Text("time per run", "每次用时")),),
)

if __name__ == "__main__":
    main(TABLE)
