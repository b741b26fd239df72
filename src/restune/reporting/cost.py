"""What a model costs: parameters, multiply-adds, size of its file, items per second where it was trained."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from restune.networks.describe import describe
from restune.networks.spec import ResNetSpec
from restune.reporting.run_files import RunFiles
from restune.weights.bundle import BundleInfo

_USUAL_LENGTH = 128


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The costs of a model; None where one is unknown.

    Args:
        parameters: of the network.
        flops: multiply-adds of one forward pass.
        shape: of the input that `flops` counts.
        bytes: size of the model's file.
        training_rate: items per second in training, the median over epochs.
        prediction_rate: items per second when the held-out items were scored, reading included.
    """

    parameters: int | None
    flops: int | None
    shape: tuple[int, ...]
    bytes: int | None
    training_rate: float | None
    prediction_rate: float | None


def cost_of(run: RunFiles) -> Cost:
    """Return a run's costs, from its saved files."""
    path = run.folder / "model.safetensors"
    rates = [timing["images_per_second"] for timing in run.timings if timing.get("images_per_second")]
    score = max(run.evaluations.values(), key=lambda one: one.n, default=None)
    parameters: int | None = None
    flops: int | None = None
    shape: tuple[int, ...] = ()
    if run.info is not None and isinstance(run.info.spec, ResNetSpec):
        described = describe(run.info.spec, _positions(run.info, run.info.spec))
        parameters, flops, shape = described.parameters, described.flops, described.input_shape
    return Cost(
        parameters=parameters,
        flops=flops,
        shape=shape,
        bytes=path.stat().st_size if path.exists() else None,
        training_rate=median(rates) if rates else None,
        prediction_rate=score.n / score.seconds if score is not None and score.seconds > 0 else None,
    )


def _positions(info: BundleInfo, spec: ResNetSpec) -> tuple[int, ...]:
    """Return the input's size per axis; of series and texts of any length a usual one."""
    preprocess = info.preprocess
    side = preprocess.image_size or 224
    length = getattr(preprocess, "length", None) or _USUAL_LENGTH
    return {1: (length,), 2: (side, side), 3: (getattr(preprocess, "frames", 16), side, side)}[spec.dims]
