"""Core graphs for restune's own engines: made once per model, kept in the cache folder."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from restune.core.console import note
from restune.core.errors import UserError
from restune.core.files import cache_folder
from restune.core.machine import has_fast_bf16, memory_bytes
from restune.core.version import __version__
from restune.data.preprocess.image import ImagePreprocess
from restune.data.preprocess.text import PADDING
from restune.data.preprocess.video import VideoPreprocess
from restune.exporting.deployable import InputSpec, deployable, input_spec
from restune.exporting.onnx_graph import write_onnx
from restune.inference.engines.agreement import Answers, ReducedPrecision, compared_answers
from restune.inference.engines.choice import Candidate, ChosenRuntime, ModelFacts
from restune.inference.engines.names import is_installed, not_installed, reject_unknown
from restune.inference.engines.onnx_runtime import OnnxRuntime
from restune.inference.engines.openvino_runtime import OpenVinoRuntime
from restune.inference.engines.runtime import Runtime
from restune.inference.engines.torch_runtime import TorchRuntime
from restune.inference.model import Model
from restune.networks.resnet import ResNet

GRAPH_VERSION = 1
"""Increased whenever the same model would give another graph."""
MOST_BYTES = 2 * 2**30
"""Size of all graphs in the cache folder; the longest unused are removed."""
OUTPUTS = ("logits", "embedding")
LEAST_MEMORY = 4 * 2**30
"""Memory of the machine, bytes, from which other engines are tried unasked: making a graph needs some."""
SETTLED_ITEMS = 8
"""Number of made-up items on which a server's engine is chosen."""
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


def with_engine(model: Model, engine: str = "auto", *, precision: str = "fp32", items: int | None = None) -> Model:
    """Return the model with its logits computed by an engine; everything else stays the same.

    Args:
        model: a loaded model.
        engine: ``torch``, ``onnx`` (ONNX Runtime), ``openvino``, or ``auto``: see `ChosenRuntime`.
        precision: ``fp32``; ``bf16``; or ``auto``: bf16 where the processor multiplies it and the answers agree with
            fp32 to 0.02 in probability on the first items.
        items: number of items that will be computed; None: not known.

    Raises UserError for an engine that is not installed or does not have this model, and for bf16 where the processor
    does not multiply it.

    >>> with_engine(restune.load(run_folder), "onnx").predict(photo)[0].label
    'red'
    """
    reject_unknown(engine, precision)
    if precision == "bf16":
        _reject_slow_bf16(model, engine)
    if engine == "auto":
        return replace(model, runtime=_chosen(model, precision, items))
    if precision == "fp32" or not (_has_bf16(model) and engine != "onnx"):
        # Torch in fp32 is what a model computes with by itself.
        return replace(model, runtime=None if engine == "torch" else runtime_of(model, engine, "fp32"))
    return replace(model, runtime=_reduced(model, engine, falls_back=precision == "auto"))


def settled(model: Model) -> Model:
    """Choose the engine of a model whose engine is ``auto`` now, on made-up items, and return the model."""
    if isinstance(model.runtime, ChosenRuntime):
        samples = input_spec(model.preprocess, cropped=True).example
        model.runtime.settle(torch.cat([samples] * (SETTLED_ITEMS // len(samples))))
    return model


def _reduced(model: Model, engine: str, *, falls_back: bool) -> Runtime:
    return ReducedPrecision(
        runtime_of(model, engine, "bf16"),
        partial(runtime_of, model, engine, "fp32"),
        _answers(model),
        runtime_of(model, "torch", "fp32"),
        falls_back=falls_back,
    )


def _chosen(model: Model, precision: str, items: int | None) -> Runtime:
    """Return torch, which another engine replaces where that pays."""
    usual = runtime_of(model, "torch", "fp32") if precision != "bf16" else _reduced(model, "torch", falls_back=False)
    precisions = {"fp32": ("fp32",), "bf16": ("bf16",), "auto": ("bf16", "fp32")}[precision]
    candidates = [
        Candidate(engine=engine, precision=one, build=partial(runtime_of, model, engine, one))
        for one in precisions
        for engine in ("openvino", "onnx", "torch")
        if _may_choose(model, engine, one) and (engine, one) != (usual.name, usual.precision)
    ]
    key = cache(partial(graph_key, model))
    facts = ModelFacts(key=key, has_graph=lambda: _has_graph(key()), answers=_answers(model))
    return ChosenRuntime(usual, candidates, facts, items=items)


def _may_choose(model: Model, engine: str, precision: str) -> bool:
    """Return whether an engine can compute a model here."""
    if precision == "bf16" and (engine == "onnx" or not _has_bf16(model)):
        return False
    if engine == "torch":
        return True
    try:
        reject_without_graph(model, engine)
    except UserError:
        return False
    return memory_bytes() >= LEAST_MEMORY


def _answers(model: Model) -> Answers:
    return compared_answers(model.info.task, model.probabilities)


def _has_bf16(model: Model) -> bool:
    """Return whether the device multiplies bf16 in hardware, and the network is one of restune's own."""
    if not isinstance(model.module, ResNet):
        return False
    return torch.cuda.is_bf16_supported() if model.device.type == "cuda" else has_fast_bf16()


def _reject_slow_bf16(model: Model, engine: str) -> None:
    """Raise UserError where bf16 is not to be had."""
    if engine == "onnx":
        raise UserError(
            "ONNX Runtime computes in fp32 here", where="--precision bf16", fix="use --engine openvino or torch"
        )
    if not isinstance(model.module, ResNet):
        raise UserError(
            "modules of your own are computed in their own precision",
            where="--precision bf16",
            fix="leave --precision out",
        )
    if not _has_bf16(model):
        raise UserError(
            "this processor does not multiply bf16 in hardware", where="--precision bf16", fix="use --precision fp32"
        )


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
    path = folder / f"{graph_key(model)}.onnx"
    if not path.is_file():
        _made(model, path)
        remove_old(folder, keep=path)
    with suppress(OSError):
        path.touch()  # used now
    yield path


def _has_graph(key: str) -> bool:
    folder = _folder()
    return folder is not None and (folder / f"{key}.onnx").is_file()


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


def graph_key(model: Model) -> str:
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


def remove_old(folder: Path, keep: Path) -> None:
    """Remove the longest unused graphs beyond `MOST_BYTES`."""
    with suppress(OSError):
        files = sorted(folder.glob("*.onnx"), key=lambda file: file.stat().st_mtime, reverse=True)
        total = 0
        for file in files:
            total += file.stat().st_size
            if total > MOST_BYTES and file != keep:
                file.unlink()
