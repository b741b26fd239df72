"""Several processes that train one network: PyTorch's process group and DistributedDataParallel, started by torchrun.

Every process holds the same weights and takes its part of the same global batch, so a run's order and augmentation do
not depend on how many there are. The first one writes; the others say nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import TCPStore  # type: ignore[attr-defined]

from restune.core.errors import UserError

_PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others' work; one that has died is noticed at once."""


@dataclass(frozen=True)
class World:
    """This process among those of the run.

    Args:
        rank: its number, from 0.
        size: how many there are.
        local_rank: its number on its machine, and so of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def share(self, whole: range) -> range:
        """The part of consecutive numbers that is this process's: sizes differ by one at most."""
        count = len(whole)
        return whole[count * self.rank // self.size : count * (self.rank + 1) // self.size]

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each number summed over all processes, in float64; the numbers themselves where there is one."""
        if self.size == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(numbers)
        return [float(number) for number in numbers]

    @torch.no_grad()
    def from_main(self, tensors: Sequence[Tensor]) -> None:
        """Give all processes the first one's tensors."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all processes; one exchange."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, mean in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def wrapped(self, module: nn.Module) -> nn.Module:
        """A module whose gradients are averaged over all processes. Buffers are left to `average`: DDP's own way
        would overwrite each process's batch-norm statistics by the first one's."""
        if self.size == 1:
            return module
        return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.size > 1:
            dist.barrier()


def join_world(device: str) -> World:
    """The process group that torchrun's environment names; a world of one without it. Raises UserError.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``; GPUs exchange by nccl, everything else by gloo.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    world = World(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu and torch.cuda.device_count() <= world.local_rank:
        raise UserError(
            f"this machine has {torch.cuda.device_count()} GPUs, and process {world.local_rank} wants one of its own",
            where="torchrun --nproc-per-node",
            fix="start as many processes as there are GPUs, or use --device cpu",
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
    """torchrun's store, under a name of this start's own; None where it is left to torch to find one.

    When torchrun starts the processes of one machine again, the store is the same, and torch 2.15 looks for the new
    processes at the addresses that the old ones left in it.
    """
    here = os.environ
    if here.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or here.get("GROUP_WORLD_SIZE") != "1":
        return None
    store = TCPStore(here["MASTER_ADDR"], int(here["MASTER_PORT"]), is_master=False, timeout=_PATIENCE)
    return PrefixStore(f"restune start {here.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def leave_world(world: World) -> None:
    """End this process's part in the group."""
    if world.size > 1 and dist.is_initialized():
        dist.destroy_process_group()


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error says that another process is gone."""
    if not isinstance(error, RuntimeError) or not dist.is_initialized():
        return False
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(
        sign in text for sign in ("gloo", "connection closed", "connection reset", "nccl", "timed out")
    )
