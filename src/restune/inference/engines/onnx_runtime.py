"""A core graph in ONNX Runtime, on the CPU."""

from __future__ import annotations

from pathlib import Path

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


class OnnxRuntime:
    """Runs a core graph (`exporting.engines`) with outputs ``logits`` and ``embedding``, in float32.

    Args:
        path: the graph's ONNX file.
        preprocess: of the model.

    Raises UserError where ONNX Runtime is not installed.
    """

    name, precision = "onnx", "fp32"

    def __init__(self, path: Path, preprocess: Preprocess) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise not_installed(self.name) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = engine_threads(), 1
        options.log_severity_level = 3
        # Waiting threads sleep: the decoding threads need the cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.preprocess = preprocess
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, samples: Tensor) -> Outputs:
        """Compute samples ``[N, *sample]``. Raises MemoryError."""
        return joined_outputs([self._run(part) for part in sample_parts(self.preprocess, samples)])

    def _run(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        values = samples.long() if samples.dtype == torch.int32 else samples
        try:
            found = self._session.run(["logits", "embedding"], {self._input: np.ascontiguousarray(values.numpy())})
        except Exception as error:
            raise memory_error(error) from error
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])
