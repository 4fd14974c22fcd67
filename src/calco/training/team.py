"""Processes that train one network together. Most often there is one, which asks nobody.

The first process leads: it alone reads the clock, prints, plans and writes. What it decides the
others hear, so that all make the same steps and end after the same one.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn

from calco.errors import CalcoError, Problem
from calco.files import from_json, to_json
from calco.inference.device import usable_cores

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store  # torch.distributed names it, unknown to mypy

PATIENCE = timedelta(days=7)  # of those that wait for work: an audit may take hours
FAULT = "calco/fault"  # under which a process says what it died of

Item = TypeVar("Item")
Array = TypeVar("Array", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Team:
    """One process and its place among those that do the same work.

    Alone, every exchange gives back what it got.

    Attributes:
        rank: Of this process; 0 leads.
        size: Processes on all machines.
        local_size: Processes on this machine.
        group: Through which they talk; None alone.
        store: Where a process leaves word before it ends; None alone.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1
    group: dist.ProcessGroup | None = None
    store: Store | None = None

    @property
    def leads(self) -> bool:
        """Whether this process decides, prints and writes."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return what this process does of a work; each item is done by exactly one.

        Example:
            >>> Team(rank=1, size=3).share("abcdefg")
            'be'
        """
        return items[self.rank :: self.size]

    def meet(self) -> None:
        """Wait until all processes are here, however long one has been reading."""
        self.total(0.0)

    def largest(self, *values: float) -> tuple[float, ...]:
        """Return the largest of each value over all processes."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def total(self, *values: float) -> tuple[float, ...]:
        """Return the sum of each value over all processes."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def led(self, *values: float) -> tuple[float, ...]:
        """Return the values of the process that leads."""
        return self.total(*values) if self.leads else self.total(*(0.0 for _ in values))

    def _reduced(self, values: Sequence[float], how: dist.ReduceOp.RedOpType) -> tuple[float, ...]:
        if self.group is None:
            return tuple(values)
        pooled = torch.tensor(values, dtype=torch.float64)  # (N,)
        dist.all_reduce(pooled, op=how, group=self.group)
        return tuple(pooled.tolist())

    def told(self, text: str = "") -> str:
        """Return the text of the process that leads; what others give does not count."""
        if self.group is None:
            return text
        data = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8) if text else _EMPTY
        length = torch.tensor([len(data) if self.leads else 0])  # (1,)
        dist.broadcast(length, src=0, group=self.group)
        data = data if self.leads else torch.empty(int(length), dtype=torch.uint8)  # (N,)
        if len(data):
            dist.broadcast(data, src=0, group=self.group)
        return data.numpy().tobytes().decode()

    def collected(self, shares: Sequence[NDArray[Array]]) -> list[NDArray[Array]]:
        """Put the results of all shares into the order of the work; empty where not leading.

        Args:
            shares: One array for each item of ``share``, in its order, of any shape.
        """
        if self.group is None:
            return list(shares)
        if not self.leads:
            blob = torch.frombuffer(bytearray(_packed(shares)), dtype=torch.uint8)  # (N,)
            dist.send(torch.tensor([len(blob)]), dst=0, group=self.group)
            dist.send(blob, dst=0, group=self.group)
            return []
        parts = [list(shares)]
        for rank in range(1, self.size):
            length = torch.zeros(1, dtype=torch.int64)
            dist.recv(length, src=rank, group=self.group)
            blob = torch.empty(int(length), dtype=torch.uint8)  # (N,)
            dist.recv(blob, src=rank, group=self.group)
            parts.append(_unpacked(blob.numpy().tobytes()))
        n_items = sum(len(part) for part in parts)
        return [parts[i % self.size][i // self.size] for i in range(n_items)]

    def align(self, network: nn.Module) -> None:
        """Give all processes the weights and statistics that the leading one has."""
        if self.group is not None:
            for tensor in network.state_dict().values():
                dist.broadcast(tensor, src=0)

    def report(self, error: CalcoError) -> None:
        """Leave word for the leading process, before this one ends."""
        if self.store is not None:
            self.store.set(FAULT, to_json(error.problems))

    def fault(self) -> CalcoError | None:
        """Return what another process said before it ended, if one did."""
        if self.store is None or not self.store.check([FAULT]):
            return None
        text = self.store.get(FAULT).decode()
        return CalcoError(*from_json(tuple[Problem, ...], text, "another process"))


ALONE = Team()
_EMPTY = torch.empty(0, dtype=torch.uint8)


def join_team(store: Store, rank: int, size: int) -> Team:
    """Meet the other processes; gradients go through NCCL between GPUs, all else through Gloo.

    Args:
        store: That all of them see.
        rank: Of this process.
        size: Processes on all machines.
    """
    torch.set_num_threads(usable_cores())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    group = cast("dist.ProcessGroup", dist.new_group(backend="gloo", timeout=PATIENCE))
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    return Team(rank, size, local_size, group, store)


def leave_team() -> None:
    """Part from the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def is_broken(error: RuntimeError) -> bool:
    """Tell whether an exchange failed, because another process has ended or is out of reach."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _packed(arrays: Sequence[NDArray[Array]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, *arrays)
    return buffer.getvalue()


def _unpacked(blob: bytes) -> list[NDArray[Array]]:
    with np.load(io.BytesIO(blob), allow_pickle=False) as found:
        return [found[f"arr_{i}"] for i in range(len(found.files))]
