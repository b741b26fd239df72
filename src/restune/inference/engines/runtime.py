"""What a `Model` needs of a runtime, and what all runtimes share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from restune.core.machine import cpu_count
from restune.data.preprocess import Preprocess
from restune.networks.layout import in_parts

Outputs = tuple[Tensor, Tensor | None]
"""Logits ``[N, C]`` and embeddings ``[N, F]`` (None where the network has none), float32, on the CPU."""


class Runtime(Protocol):
    """Computes a network's outputs from samples as restune's decoding makes them."""

    @property
    def name(self) -> str:
        """Name of the engine: ``torch``, ``onnx`` or ``openvino``."""
        ...

    @property
    def precision(self) -> str:
        """Numeric precision: ``fp32`` or ``bf16``."""
        ...

    def __call__(self, samples: Tensor) -> Outputs:
        """Compute samples ``[N, *sample]``, as the preprocessing stacks them. Safe to call from several threads."""
        ...


class ReplaceableRuntime:
    """A runtime that hands its work to another one, which may change.

    Args:
        current: computes at present.
    """

    def __init__(self, current: Runtime) -> None:
        self.current = current

    @property
    def name(self) -> str:
        """Name of the engine that computes at present."""
        return self.current.name

    @property
    def precision(self) -> str:
        """Precision in which it computes at present."""
        return self.current.precision


def engine_threads() -> int:
    """Return the number of compute threads: torch's own (OMP_NUM_THREADS), within the container's CPU quota."""
    return max(1, min(cpu_count(), torch.get_num_threads()))


def sample_parts(preprocess: Preprocess, samples: Tensor) -> Iterator[Tensor]:
    """Split long series and texts into parts that fit in memory, as `forward` does; other samples stay whole."""
    if samples.ndim > 3:
        yield samples
        return
    _, mask = preprocess.inputs(samples)
    for part, _ in in_parts(samples, mask):
        yield part


def joined_outputs(parts: Sequence[tuple[Tensor, Tensor]]) -> Outputs:
    """Concatenate the outputs of parts."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat([logits for logits, _ in parts]), torch.cat([embeddings for _, embeddings in parts])


def memory_error(error: Exception) -> Exception:
    """Return MemoryError for a runtime's own error that memory ran out, else the error."""
    text = str(error).lower()
    is_memory = any(words in text for words in ("bad alloc", "bad_alloc", "failed to allocate", "can't allocate"))
    return MemoryError(str(error)) if is_memory else error
