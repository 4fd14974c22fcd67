"""Where training runs and with which arithmetic."""

from __future__ import annotations

import logging
from typing import Literal

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
    if team.size == 1 or not averages:
        own = [team.rank % team.local_size] if on_cuda else 1
        fabric = Fabric(accelerator=accelerator, devices=own, precision=name)
        fabric.launch()  # starts no process; makes the device the current one
        return fabric
    fabric = Fabric(
        accelerator=accelerator,
        devices=team.local_size,
        num_nodes=team.size // team.local_size,
        # batch statistics are each one's own, averages of them those of the first process
        strategy=DDPStrategy(gradient_as_bucket_view=True),
        precision=name,
        plugins=[LightningEnvironment()],  # torchrun's names; Slurm's would count other processes
    )
    fabric.launch()  # starts no process: the team is there
    return fabric
