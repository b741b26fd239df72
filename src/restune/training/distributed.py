"""Several processes that train one network: PyTorch's process group and DistributedDataParallel, started by torchrun.

Every process holds the same weights and computes its part of the same global batch, so a run's order and augmentation
do not depend on the number of processes. Only the first (main) process writes files and messages.
"""

from __future__ import annotations

import gc
import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import TCPStore  # type: ignore[attr-defined]

from restune.core.errors import SharedError, UserError

_PATIENCE = timedelta(minutes=30)
"""Longest wait for the other processes in a collective operation; one that has died is noticed at once."""


@dataclass(frozen=True)
class World:
    """The rank of this process and the number of processes in the run.

    Args:
        rank: from 0.
        size: number of processes.
        local_rank: rank on this machine; also the index of the GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def share(self, whole: range) -> range:
        """This process's part of a range; the sizes of parts differ by at most one."""
        count = len(whole)
        return whole[count * self.rank // self.size : count * (self.rank + 1) // self.size]

    def sum(self, values: Sequence[float]) -> list[float]:
        """All-reduce: each value summed over all processes, in float64. With one process, the values unchanged."""
        if self.size == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(numbers)
        return [float(number) for number in numbers]

    @torch.no_grad()
    def from_main(self, tensors: Sequence[Tensor]) -> None:
        """Broadcast the main process's tensors, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def text_from(self, text: str, rank: int = 0) -> str:
        """Broadcast one process's text to all."""
        if self.size == 1:
            return text
        content = torch.frombuffer(bytearray(text.encode("utf-8", "surrogateescape") + b"\0"), dtype=torch.uint8)
        length = torch.tensor([len(content)])
        dist.broadcast(length, rank)
        buffer = content if self.rank == rank else torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(buffer, rank)
        return buffer.numpy().tobytes()[:-1].decode("utf-8", "surrogateescape")

    def texts(self, text: str) -> list[str]:
        """All-gather: the text of each process, by rank."""
        return [self.text_from(text, rank) for rank in range(self.size)]

    def gathered(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        """All-gather: the one-dimensional array of each process, by rank. All have one type, but not one length."""
        if self.size == 1:
            return [array]
        found = []
        for rank in range(self.size):
            length = torch.tensor([array.nbytes])
            dist.broadcast(length, rank)
            buffer = np.empty(int(length), np.uint8)
            if rank == self.rank:
                buffer[:] = np.ascontiguousarray(array).view(np.uint8)
            if len(buffer):
                dist.broadcast(torch.from_numpy(buffer), rank)
            found.append(buffer.view(array.dtype))
        return found

    def agreed(self, decide: Callable[[], str]) -> str:
        """A text that the first process decides on, for all. A UserError that it raises, all raise as SharedError."""
        if self.size == 1:
            return decide()
        text, error = "", None
        if self.is_main:
            try:
                text = decide()
            except UserError as raised:
                error = [raised.what, raised.where, raised.fix]
        text, error = json.loads(self.text_from(json.dumps([text, error])))
        if error is not None:
            raise SharedError(error[0], where=error[1], fix=error[2])
        return str(text)

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all processes, with a single all-reduce."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, mean in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def wrapped(self, module: nn.Module) -> nn.Module:
        """The module under DistributedDataParallel, or unchanged with one process.

        Buffers are averaged by `average_statistics`: DDP would overwrite batch-norm statistics by the main process's.
        """
        if self.size == 1:
            return module
        return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)

    def wait(self) -> None:
        """Barrier: return when all processes have called this."""
        if self.size > 1:
            dist.barrier()


def join_world(device: str) -> World:
    """Join the process group that torchrun's environment describes; without one, return a world of one process.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``; GPUs communicate by nccl, everything else by gloo.

    Raises:
        UserError: where this machine has fewer GPUs than processes.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    world = World(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu and torch.cuda.device_count() <= world.local_rank:
        raise UserError(
            f"this machine has {torch.cuda.device_count()} GPUs, too few for process {world.local_rank}",
            where="torchrun --nproc-per-node",
            fix="start one process per GPU, or use --device cpu",
        )
    if on_gpu:
        torch.cuda.set_device(world.local_rank)
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
        store = _store_of_this_start()
        if store is None:
            dist.init_process_group(backend, timeout=_PATIENCE)
        else:
            dist.init_process_group(backend, store=store, rank=world.rank, world_size=size, timeout=_PATIENCE)
    return world


def _store_of_this_start() -> Store | None:
    """torchrun's store with a key prefix per restart; None where torch's default store works.

    When torchrun restarts the processes of a single machine, it reuses the store, and torch 2.15 looks for the new
    processes at the addresses that the old ones left in it.
    """
    here = os.environ
    if here.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or here.get("GROUP_WORLD_SIZE") != "1":
        return None
    store = TCPStore(here["MASTER_ADDR"], int(here["MASTER_PORT"]), is_master=False, timeout=_PATIENCE)
    return PrefixStore(f"restune start {here.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def leave_world(world: World) -> None:
    """Leave the process group."""
    if world.size > 1 and dist.is_initialized():
        gc.collect()  # wrapped modules in reference cycles would keep the group's threads alive until Python has gone
        dist.destroy_process_group()


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error means that another process has died."""
    if not isinstance(error, RuntimeError) or not dist.is_initialized():
        return False
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(
        sign in text for sign in ("gloo", "connection closed", "connection reset", "nccl", "timed out")
    )


def average_statistics(network: nn.Module, world: World) -> None:
    """Average the running statistics of all batch norms in training mode over the processes."""
    world.average(
        [
            value
            for module in network.modules()
            if module.training
            for value in module.buffers(recurse=False)
            if value.is_floating_point()
        ]
    )


_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def signal_flags(number: int | None) -> list[float]:
    """The signal that a process received, one-hot, so that `World.sum` can add it over processes."""
    return [float(number == known) for known in _STOP_SIGNALS]


def received_signal(flags: Sequence[float]) -> int | None:
    """The signal that any process received, from the sum of their `signal_flags`; None without one."""
    return max((int(known) for known, count in zip(_STOP_SIGNALS, flags, strict=True) if count), default=None)
