"""GPU: training and inference of ResNet-18 and -50 at 224 pixels, and their share of the matrix peak.

Command: python -m benchmarks.tables.gpu, on a machine with an NVIDIA GPU. Random images in memory, default settings.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from benchmarks.tables.common import NO_GPU, Column, Measured, Row, Settings, Table, Text, gpu_name, main

if TYPE_CHECKING:
    from restune import Bench

NETWORKS = {"resnet18": "ResNet-18", "resnet50": "ResNet-50"}
SECONDS = 4.0


def measure(network: str, use: str, _seed: int, settings: Settings) -> Measured:
    """Time one network by `restune.bench`."""
    found = _bench(network, 0.2 if settings.quick else SECONDS)
    row = found.rows[0]
    share = row.train_share if use == "train" else row.predict_share
    extra = {
        "share": 100 * share,
        "peak": found.peaks[row.precision] / 1e12,
        "batch": row.batch,
        "precision": row.precision,
    }
    return Measured(value=row.train if use == "train" else row.predict, extra=extra)


@cache
def _bench(network: str, seconds: float) -> Bench:
    import restune

    return restune.bench([network], device="cuda", seconds=seconds)


def _needs(_settings: Settings) -> Text | None:
    return None if gpu_name() else NO_GPU


USES = {"train": Text("training", "训练"), "predict": Text("inference", "推理")}

TABLE = Table(
    name="gpu",
    order=80,
    title=Text("On a GPU", "在 GPU 上"),
    text=Text(
        "`restune.bench`: images per second at 224 pixels, batches ready in memory, default settings, and the share "
        "of the matrix-product peak measured in the same run. One training step counts as three forward passes.",
        "`restune.bench`：224 像素下每秒处理的图像数，批次已在内存中，默认设置；以及占同一次运行中测得的矩阵乘法峰值"
        "的比例。一步训练按三次前向计算。",
    ),
    value=Text("speed", "速度"),
    unit="images/s",
    rows=tuple(
        Row(
            key=f"{network}/{use}", label=Text(f"{name}, {words.en}", f"{name}，{words.zh}"),
            measure=partial(measure, network, use), seeds=(0,), needs=_needs,
            protocol={"size": 224, "seconds": SECONDS},
        )
        for network, name in NETWORKS.items()
        for use, words in USES.items()
    ),
    columns=(
        Column(key="share", title=Text("of the peak", "占峰值"), form="{:.0f}%"),
        Column(key="peak", title=Text("peak", "峰值"), form="{:.0f} TFLOP/s"),
        Column(key="batch", title=Text("batch", "批大小"), form="{:.0f}"),
        Column(key="precision", title=Text("precision", "精度")),
    ),
    digits=0,
)  # fmt: skip

if __name__ == "__main__":
    main(TABLE)
