"""A core graph in OpenVINO, on the CPU."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restune.data.preprocess import Preprocess
from restune.inference.engines.names import not_installed
from restune.inference.engines.runtime import (
    Outputs,
    engine_threads,
    joined_outputs,
    memory_error,
    sample_parts,
)


class OpenVinoRuntime:
    """Runs a core graph (`exporting.engines`) with outputs ``logits`` and ``embedding``.

    Args:
        path: the graph's ONNX file.
        preprocess: of the model.
        precision: ``fp32`` or ``bf16``. It is pinned: by default OpenVINO computes in bf16 where the processor has it.

    Raises UserError where OpenVINO is not installed.
    """

    name = "openvino"

    def __init__(self, path: Path, preprocess: Preprocess, precision: str = "fp32") -> None:
        try:
            import openvino
        except ImportError:
            raise not_installed(self.name) from None
        self.preprocess, self.precision = preprocess, precision
        self._compiled = openvino.Core().compile_model(
            str(path),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
                "INFERENCE_NUM_THREADS": engine_threads(),
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": 1,
                "ENABLE_CPU_PINNING": False,  # other programs, and our decoding threads, need the cores, too
            },
        )
        self._of_thread = threading.local()

    def __call__(self, samples: Tensor) -> Outputs:
        """Compute samples ``[N, *sample]``. Raises MemoryError."""
        return joined_outputs([self._run(part) for part in sample_parts(self.preprocess, samples)])

    def _run(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        request: Any = getattr(self._of_thread, "request", None)
        if request is None:  # a request belongs to one thread
            request = self._of_thread.request = self._compiled.create_infer_request()
        values = samples.long() if samples.dtype == torch.int32 else samples
        try:
            found = request.infer([np.ascontiguousarray(values.numpy())], share_inputs=True)
        except RuntimeError as error:
            raise memory_error(error) from error
        return torch.from_numpy(np.array(found["logits"])), torch.from_numpy(np.array(found["embedding"]))
