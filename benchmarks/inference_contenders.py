"""Ways to compute one network on a batch of images, each in a process of its own; used by inference.py.

Raw engines take what their documentation asks for: torchvision's network and normalised float32 images in memory.
restune's own call takes what its decoding makes, uint8 crops, and gives predictions: `predict_batch`.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Call = Callable[[], object]

PIXELS, BUNDLE = "pixels.npy", "model.safetensors"
RAW, RAW_INT8, CORE_INT8 = "torchvision.onnx", "torchvision_int8.xml", "core_int8.onnx"


@dataclass(frozen=True)
class Contender:
    """A way to compute.

    Args:
        name: for the table.
        precision: ``float32``, ``bf16`` or ``int8``.
        make: from the folder of inputs and the batch size to a function that computes one batch.
        engine: of restune's own; "" for the others.
    """

    name: str
    precision: str
    make: Callable[[Path, int], Call]
    engine: str = ""

    @property
    def key(self) -> str:
        return f"{self.name} {self.precision}"


def pixels(folder: Path, batch: int) -> NDArray[np.uint8]:
    """Return uint8 crops ``[N, 3, H, W]``, repeated as needed."""
    crops: NDArray[np.uint8] = np.load(folder / PIXELS)
    return np.ascontiguousarray(crops[np.arange(batch) % len(crops)])


def normalised(folder: Path, batch: int) -> NDArray[np.float32]:
    """Return the same crops as the network takes them."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    values = (pixels(folder, batch) / 255 - mean[:, None, None]) / std[:, None, None]
    return np.ascontiguousarray(values.astype(np.float32))


def torchvision_network(folder: Path) -> Any:
    """Return torchvision's network with the weights of the bundle, in eval mode."""
    import torchvision

    from restune.weights.bundle import read_info, read_tensors

    info = read_info(folder / BUNDLE)
    assert info is not None
    network = getattr(torchvision.models, str(info.name))(num_classes=len(info.classes))
    network.load_state_dict(read_tensors(folder / BUNDLE))
    return network.eval()


def torchvision_eager(folder: Path, batch: int) -> Call:
    import torch

    network, x = torchvision_network(folder), torch.from_numpy(normalised(folder, batch))

    def call() -> object:
        with torch.inference_mode():
            return network(x)

    return call


def torchvision_compiled(folder: Path, batch: int) -> Call:
    """torch.compile of the network in bf16 and channels_last; its kernels are cached on disk by torch."""
    import torch

    network = torchvision_network(folder).to(torch.bfloat16).to(memory_format=torch.channels_last)
    x = torch.from_numpy(normalised(folder, batch)).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    compiled = torch.compile(network, dynamic=False, options={"freezing": True})

    def call() -> object:
        with torch.no_grad():
            return compiled(x)

    return call


def onnx_runtime(folder: Path, batch: int) -> Call:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / RAW), providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: normalised(folder, batch)}
    return lambda: session.run(None, feed)


def openvino(precision: str, file: str = RAW) -> Callable[[Path, int], Call]:
    """OpenVINO with one stream, in the precision named: `INFERENCE_PRECISION_HINT`."""

    def make(folder: Path, batch: int) -> Call:
        import openvino

        hint = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        request = openvino.Core().compile_model(str(folder / file), "CPU", hint).create_infer_request()
        x = normalised(folder, batch)
        return lambda: request.infer([x], share_inputs=True, share_outputs=True)

    return make


def restune_model(folder: Path, engine: str, precision: str) -> Any:
    """Return the model with one of restune's engines."""
    from dataclasses import replace

    import restune
    from restune.core.console import quiet
    from restune.exporting.engines import with_engine
    from restune.inference.engines.openvino_runtime import OpenVinoRuntime

    with quiet():
        model = restune.load(folder / BUNDLE)
        if precision == "int8":
            return replace(model, runtime=OpenVinoRuntime(folder / CORE_INT8, model.preprocess))
        return with_engine(model, engine, precision="bf16" if precision == "bf16" else "fp32")


def restune_engine(engine: str, precision: str) -> Callable[[Path, int], Call]:
    """restune's own call on decoded items: `predict_batch`, from uint8 crops to labels and probabilities."""

    def make(folder: Path, batch: int) -> Call:
        import torch

        from restune.data.dataset import FileLocation, Item
        from restune.data.loader import Batch
        from restune.inference.model import predict_batch

        model = restune_model(folder, engine, precision)
        items = tuple(Item(f"{n}.jpg", FileLocation(Path(f"{n}.jpg")), -1) for n in range(batch))
        decoded = Batch(items, torch.from_numpy(pixels(folder, batch)).unsqueeze(1), {})
        return lambda: predict_batch(model, decoded)

    return make


CONTENDERS = (
    Contender("torchvision, eager", "float32", torchvision_eager),
    Contender("torchvision, compiled", "bf16", torchvision_compiled),
    Contender("ONNX Runtime", "float32", onnx_runtime),
    Contender("OpenVINO", "float32", openvino("f32")),
    Contender("OpenVINO", "bf16", openvino("bf16")),
    Contender("OpenVINO, nncf", "int8", openvino("f32", RAW_INT8)),
    Contender("restune, torch", "float32", restune_engine("torch", "float32"), "torch"),
    Contender("restune, torch", "bf16", restune_engine("torch", "bf16"), "torch"),
    Contender("restune, onnx", "float32", restune_engine("onnx", "float32"), "onnx"),
    Contender("restune, openvino", "float32", restune_engine("openvino", "float32"), "openvino"),
    Contender("restune, openvino", "bf16", restune_engine("openvino", "bf16"), "openvino"),
    Contender("restune, openvino", "int8", restune_engine("openvino", "int8"), "openvino"),
)


class Worker:
    """A contender in a process of its own, which waits while the others compute.

    Args:
        contender: what it runs.
        folder: its inputs.
        batches: sizes of the batches, each made and run once before the first turn.
    """

    def __init__(self, contender: Contender, folder: Path, batches: Sequence[int]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        place = CONTENDERS.index(contender)
        self.process = context.Process(
            target=_work, args=(theirs, place, folder, tuple(batches)), name=contender.key, daemon=True
        )
        self.process.start()
        theirs.close()

    def wait(self) -> None:
        """Wait until everything is made and warm."""
        _received(self.pipe, self.process.name)

    def turn(self, batch: int, seconds: float) -> float:
        """Return images per second of calls for so many seconds, at least one."""
        self.pipe.send((batch, seconds))
        return float(_received(self.pipe, self.process.name))

    def stop(self) -> None:
        """End the process."""
        self.pipe.send(None)
        self.process.join()


def _received(pipe: Connection, name: str) -> Any:
    try:
        return pipe.recv()
    except EOFError:
        raise SystemExit(f"{name} failed; its error is above") from None


def _work(pipe: Connection, place: int, folder: Path, batches: tuple[int, ...]) -> None:
    calls = {batch: CONTENDERS[place].make(folder, batch) for batch in batches}
    for call in calls.values():
        call()
        call()
    pipe.send("ready")
    while (order := pipe.recv()) is not None:
        batch, seconds = order
        call = calls[batch]
        call()  # the caches are the other processes'
        started, count = time.perf_counter(), 0
        while count == 0 or time.perf_counter() - started < seconds:
            call()
            count += 1
        pipe.send(count * batch / (time.perf_counter() - started))
