"""Measure matrix products on this machine, and compare training and prediction with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from restune.core.allocator import freed_memory_kept
from restune.core.console import warn
from restune.networks import zoo
from restune.networks.describe import describe
from restune.networks.layout import laid_out, weights_layout
from restune.networks.resnet import ResNet
from restune.networks.spec import ResNetSpec
from restune.training.compile_gains import record_compile_gain
from restune.training.optimizer import NamedOptimizer
from restune.training.recipe import Recipe
from restune.training.resolve_auto import resolve_auto

_SIDE = {"cpu": 2048, "cuda": 8192}
"""Side of the square matrices, which keeps all cores of the device busy; slow precisions use smaller ones."""

_AHEAD = {"cpu": 1, "cuda": 8}
"""Calls before waiting: several keep a GPU busy; without a limit, a second of calls can be a minute of work for it."""


@dataclass(frozen=True, kw_only=True)
class BenchRow:
    """One network.

    Args:
        name: the network's name.
        size: side of the images in pixels, or length of series and texts.
        batch: items per step.
        train, predict: items per second, with batches ready in memory.
        train_share, predict_share: achieved operations as a share of the matrix-product peak in the same precision. A
            multiply-add is two operations; a training step counts as three forward passes.
        precision: the precision used.
        compiled: as `train`, with the network compiled; None if not requested or not possible on this machine.
    """

    name: str
    size: int
    batch: int
    train: float
    predict: float
    train_share: float
    predict_share: float
    precision: str = "fp32"
    compiled: float | None = None


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Result of `measure`.

    Args:
        device: the measured device.
        peaks: operations per second of matrix products, by precision (``fp32`` and ``bf16``).
        precision: default training precision on this machine.
        reason: reason for that precision.
        rows: one row per network.

    >>> measured = restune.bench(["resnet8"], batch_size=8, seconds=0.01)
    >>> measured.rows[0].name, measured.rows[0].train > 0
    ('resnet8', True)
    """

    device: str
    peaks: dict[str, float]
    precision: str
    reason: str
    rows: tuple[BenchRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``restune bench --json``."""
        return {
            "device": self.device,
            "peak_gflops": {name: round(value / 1e9, 2) for name, value in self.peaks.items()},
            "precision": self.precision,
            "reason": self.reason,
            "networks": [dict(row.__dict__) for row in self.rows],
        }


def measure(
    cases: Sequence[tuple[str, int, int]], device: torch.device, seconds: float, *, compiles: bool = False
) -> Bench:
    """Time matrix products, then each network's training and inference, with default settings.

    Args:
        cases: (name, side in pixels or length of series and texts, batch size) per network.
        device: device to measure.
        seconds: seconds per measurement.
        compiles: also time compiled training, and store the speed-up for later runs on this machine.
    """
    recipe, decisions = resolve_auto(Recipe(), device)
    reason = next((decision.reason for decision in decisions if decision.key == "precision"), "as requested")
    peaks = {"fp32": matrix_peak(torch.float32, device, seconds), "bf16": matrix_peak(torch.bfloat16, device, seconds)}
    rows = tuple(
        _row(name, size, batch, *_settings(name, device, peaks), seconds, compiles=compiles)
        for name, size, batch in cases
    )
    return Bench(device=str(device), peaks=peaks, precision=recipe.precision, reason=reason, rows=rows)


def matrix_peak(dtype: torch.dtype, device: torch.device, seconds: float) -> float:
    """Measure operations per second of square matrix products."""
    side = _SIDE[device.type]
    while side > 256 and _timed(_product(side // 4, dtype, device), device, 0.0) * 64 > max(seconds, 0.1):
        side //= 2
    return 2 * side**3 / _timed(_product(side, dtype, device), device, seconds)


def _product(side: int, dtype: torch.dtype, device: torch.device) -> Callable[[], object]:
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return lambda: one @ other


def _timed(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Return the mean seconds per call, after one warm-up call."""
    work()
    _wait(device)
    started, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - started < seconds:
        for _ in range(_AHEAD[device.type]):
            work()
        calls += _AHEAD[device.type]
        _wait(device)
    return (time.perf_counter() - started) / calls


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _settings(name: str, device: torch.device, peaks: dict[str, float]) -> tuple[Recipe, torch.device, float]:
    """Return the default recipe for a network, the device, and the matrix-product peak in the recipe's precision."""
    recipe, _ = resolve_auto(Recipe(), device, zoo.find(name).spec.dims)
    return recipe, device, peaks[recipe.precision]


def _row(
    name: str,
    size: int,
    batch: int,
    recipe: Recipe,
    device: torch.device,
    peak: float,
    seconds: float,
    *,
    compiles: bool,
) -> BenchRow:
    entry = zoo.find(name)
    shape = (batch, *entry.input_shape(size))
    network = ResNet(entry.spec).to(device).to(memory_format=weights_layout(entry.spec.dims))
    x = _random_input(entry.spec, shape, device)
    targets = torch.randint(network.spec.num_classes, (batch,), device=device)
    optimizer = NamedOptimizer(network, recipe.optimizer)

    def mixed() -> AbstractContextManager[Any]:
        return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")

    def train() -> None:
        with mixed():
            logits = network(x)
        torch.autograd.backward(F.cross_entropy(logits.float(), targets))
        optimizer.step(0.1)

    def predict() -> None:
        with torch.inference_mode(), mixed():
            network(x)

    operations = 2 * describe(entry.spec, shape[-entry.spec.dims :]).flops
    with freed_memory_kept():
        trained = batch / _timed(train, device, seconds)
        network.eval()
        predicted = batch / _timed(predict, device, seconds)
        compiled = None
        if compiles:
            network.train()
            compiled = _compiled_rate(network, train, batch, device, seconds)
    if compiled is not None:
        record_compile_gain(entry.spec, shape, recipe.precision, device, compiled / trained)
    return BenchRow(
        name=name,
        size=size,
        batch=batch,
        train=trained,
        predict=predicted,
        train_share=3 * operations * trained / peak,
        predict_share=operations * predicted / peak,
        precision=recipe.precision,
        compiled=compiled,
    )


def _random_input(spec: ResNetSpec, shape: tuple[int, ...], device: torch.device) -> Tensor:
    if spec.vocabulary:
        return torch.randint(1, spec.vocabulary, shape, device=device)
    return laid_out(torch.randn(*shape, device=device))


def _compiled_rate(
    network: ResNet, train: Callable[[], None], batch: int, device: torch.device, seconds: float
) -> float | None:
    """Measure items per second of compiled training, without compile time; warn and return None if that fails."""
    network.compile()
    try:
        return batch / _timed(train, device, seconds)
    except Exception as error:  # without a C++ compiler torch raises various exceptions
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        warn(f"the network cannot be compiled here: {reason}")
        return None
