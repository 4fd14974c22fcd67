"""Where training runs and with which arithmetic."""

from __future__ import annotations

import logging
from typing import Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy

from calco.config import Precision
from calco.errors import CalcoError, Problem
from calco.inference.device import choose_device
from calco.training.memory import keep_freed_memory
from calco.training.team import ALONE, Team

# it announces half precision, which is also tried where it is not used
logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)

FABRIC_NAMES: dict[Precision, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}


def make_fabric(
    device: str, precision: Precision, team: Team = ALONE, *, averages: bool = True
) -> Fabric:
    """Choose device and arithmetic; never another device than the one asked for.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: fp16 scales its loss and needs a GPU.
        team: Processes that train together, each with a device of its own.
        averages: Whether it averages their gradients; False where the network does.

    Raises:
        CalcoError: When CUDA is asked for and absent, or fp16 on a processor.
    """
    on_cuda = choose_device(device).type == "cuda"
    if precision == "fp16" and not on_cuda:
        raise CalcoError(
            Problem("DEVICE", "fp16 needs a GPU", "fit.precision", "fp16", do="set fp32 or bf16")
        )
    if not on_cuda:
        keep_freed_memory()
    accelerator, name = "cuda" if on_cuda else "cpu", FABRIC_NAMES[precision]
    # torchrun's names; Slurm's count other processes, and refuse some ways to ask for them
    place = LightningEnvironment()
    if team.size == 1 or not averages:
        own = [_gpu_of(team)] if on_cuda else 1
        fabric = Fabric(accelerator=accelerator, devices=own, precision=name, plugins=place)
        fabric.launch()  # starts no process; makes the device the current one
        return fabric
    fabric = Fabric(
        accelerator=accelerator,
        devices=team.local_size,
        num_nodes=team.size // team.local_size,
        # batch statistics are each one's own, averages of them those of the first process
        strategy=DDPStrategy(gradient_as_bucket_view=True),
        precision=name,
        plugins=place,
    )
    fabric.launch()  # starts no process: the team is there
    return fabric


def require_devices(device: str, count: int) -> None:
    """Refuse more processes on a machine than it has GPUs, where they would train on GPUs.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        count: Processes on this machine.

    Raises:
        CalcoError: With how many there may be.
    """
    if choose_device(device).type == "cuda" and count > (most := torch.cuda.device_count()):
        what, do = "each process needs a GPU of its own", "start fewer, or set --device cpu"
        raise CalcoError(Problem("DEVICE", what, "--devices", str(count), f"at most {most}", do))


def take_own_device(device: str, team: Team) -> None:
    """Make the GPU of this process the current one, as ``make_fabric`` does; if GPUs are used."""
    if choose_device(device).type == "cuda":
        torch.cuda.set_device(_gpu_of(team))


def draw_from(device: torch.device, *numbers: int) -> None:
    """Let a device's random numbers begin anew from some numbers.

    ``torch.manual_seed`` would do so on all devices and note where it was called from, which takes
    long for something done at every step.
    """
    seed = hash(numbers)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _gpu_of(team: Team) -> int:
    return team.rank % team.local_size
