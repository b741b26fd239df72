"""Core graphs for restune's own engines: made once per model, kept in the cache folder."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from restune.core.console import note
from restune.core.errors import UserError
from restune.core.files import cache_folder
from restune.core.version import __version__
from restune.data.preprocess.image import ImagePreprocess
from restune.data.preprocess.text import PADDING
from restune.data.preprocess.video import VideoPreprocess
from restune.exporting.deployable import InputSpec, deployable, input_spec
from restune.exporting.onnx_graph import write_onnx
from restune.inference.engines.onnx_runtime import OnnxRuntime
from restune.inference.engines.openvino_runtime import OpenVinoRuntime
from restune.inference.engines.runtime import Runtime, is_installed, not_installed, reject_unknown
from restune.inference.engines.torch_runtime import TorchRuntime
from restune.inference.model import Model
from restune.networks.resnet import ResNet

GRAPH_VERSION = 1
"""Increased whenever the same model would give another graph."""
MOST_BYTES = 2 * 2**30
"""Size of all graphs in the cache folder; the longest unused are removed."""
OUTPUTS = ("logits", "embedding")
TOLERANCE = 1e-3
"""Largest accepted difference of logits between a graph and the network, as a share of the largest logit."""


class Core(nn.Module):
    """Samples as restune's decoding makes them, ``[N, *sample]``, to logits ``[N, C]`` and embeddings ``[N, F]``."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        graph = deployable(model, cropped=True)
        is_cropped = isinstance(model.preprocess, ImagePreprocess | VideoPreprocess)
        self.front = graph.raw if is_cropped else PaddedSamples()
        self.body, self.head = graph.body, graph.head

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        x, mask = self.front(samples)
        embedding = self.body.forward_until(x, "all", mask)
        return self.head(embedding), embedding


class PaddedSamples(nn.Module):
    """Normalised series ``[N, C, L]`` padded with NaN, or tokens ``[N, L]`` padded with 0, and their mask."""

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        if samples.ndim == 2:
            return samples, samples != PADDING
        mask = ~samples[:, 0].isnan()
        return torch.where(mask[:, None], samples, torch.zeros_like(samples)), mask


def with_engine(model: Model, engine: str = "torch", *, precision: str = "fp32") -> Model:
    """Return the model with its logits computed by an engine; everything else stays the same.

    Args:
        model: a loaded model.
        engine: ``torch``, ``onnx`` (ONNX Runtime) or ``openvino``.
        precision: ``fp32`` or ``bf16``.

    Raises UserError for an engine that is not installed, or does not have this model.
    """
    reject_unknown(engine, precision)
    return replace(model, runtime=runtime_of(model, engine, precision))


def runtime_of(model: Model, engine: str, precision: str) -> Runtime:
    """Return a model's runtime. Raises UserError; see `with_engine`."""
    if engine == "torch":
        return TorchRuntime(model.module, model.preprocess, model.device, precision)
    reject_without_graph(model, engine)
    with core_graph(model) as path:
        if engine == "onnx":
            return OnnxRuntime(path, model.preprocess)
        return OpenVinoRuntime(path, model.preprocess, precision)


def reject_without_graph(model: Model, engine: str) -> None:
    """Raise UserError where an engine is not installed, or cannot compute this model here."""
    where = f"--engine {engine}"
    if not is_installed(engine):
        raise not_installed(engine)
    if model.device.type != "cpu":
        raise UserError(
            f"the engine {engine} computes on the CPU, this model is on {model.device.type}",
            where=where,
            fix="add --device cpu, or use --engine torch",
        )
    if not isinstance(model.module, ResNet):
        raise UserError(
            "only restune's own networks run in other engines, not modules of your own",
            where=where,
            fix="use --engine torch",
        )
    if engine == "openvino" and model.module.spec.pool == "k-max":
        raise UserError(
            "OpenVINO has no sort that keeps the order of equal values, which k-max pooling needs",
            where=where,
            fix="use --engine onnx or torch",
        )


@contextmanager
def core_graph(model: Model) -> Iterator[Path]:
    """Yield the path of a model's core graph as an ONNX file, from the cache folder, or made now.

    Raises UserError where the graph cannot be made, or computes something else than the network.
    """
    assert isinstance(model.module, ResNet)
    folder = _folder()
    if folder is None or model.module.has_registered_blocks:  # whose code is not part of the graph's key
        with tempfile.TemporaryDirectory(prefix="restune-engine-") as name:
            yield _made(model, Path(name) / "core.onnx")
        return
    path = folder / f"{_key(model)}.onnx"
    if not path.is_file():
        _made(model, path)
        _remove_old(folder, keep=path)
    with suppress(OSError):
        path.touch()  # used now
    yield path


def _made(model: Model, path: Path) -> Path:
    """Make the graph and compare it with the network before it gets its name."""
    note("making the network's graph for other engines (once per model)")
    inputs = _input(model)
    with tempfile.TemporaryDirectory(prefix="restune-engine-") as name:
        made = Path(name) / "core.onnx"
        try:
            write_onnx(Core(model).eval(), inputs, OUTPUTS, made, {})
        except UserError:
            raise
        except Exception as error:  # torch's exporter raises many
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
            raise UserError(
                f"this network has no graph for other engines: {reason}",
                where="--engine",
                fix="use --engine torch",
            ) from error
        _verify(model, made, inputs.example)
        if path.parent != made.parent:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{Path(name).name}")
            shutil.move(made, temporary)
            temporary.replace(path)
    return path


def _verify(model: Model, path: Path, samples: Tensor) -> None:
    engine = next((name for name in ("onnx", "openvino") if is_installed(name)), None)
    if engine is None:
        return
    run = OnnxRuntime(path, model.preprocess) if engine == "onnx" else OpenVinoRuntime(path, model.preprocess)
    expected = TorchRuntime(model.module, model.preprocess, model.device)(samples)[0]
    difference = float((run(samples)[0] - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
    if not difference <= TOLERANCE:
        raise UserError(
            f"the graph computes something else than the network: logits differ by {difference:.2g} of the largest",
            where="--engine",
            fix="use --engine torch",
        )


def _input(model: Model) -> InputSpec:
    return input_spec(model.preprocess, cropped=True)


def _folder() -> Path | None:
    try:
        return cache_folder() / "engines"
    except UserError:
        return None


def _key(model: Model) -> str:
    """Hash everything that the graph depends on."""
    about = [
        GRAPH_VERSION,
        __version__,
        torch.__version__,
        model.module.spec.to_dict(),
        model.preprocess.to_dict(),
    ]
    digest = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16)
    for name, value in sorted(model.module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _remove_old(folder: Path, keep: Path) -> None:
    """Remove the longest unused graphs beyond `MOST_BYTES`."""
    with suppress(OSError):
        files = sorted(folder.glob("*.onnx"), key=lambda file: file.stat().st_mtime, reverse=True)
        total = 0
        for file in files:
            total += file.stat().st_size
            if total > MOST_BYTES and file != keep:
                file.unlink()
