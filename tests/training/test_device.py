"""Devices are never swapped silently, and each process has its own."""

import pytest
import torch

from calco.config import Precision
from calco.errors import CalcoError
from calco.training.device import draw_from, make_fabric, require_devices, take_own_device
from calco.training.team import Team


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch say that it sees two."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(CalcoError, match="no CUDA device") as caught:
        make_fabric("cuda", "fp32")
    assert caught.value.problems[0].code == "DEVICE"


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(CalcoError, match="fp16 needs a GPU"):
        make_fabric("cpu", "fp16")


def test_bf16_computes_on_the_processor() -> None:
    fabric = make_fabric("cpu", "bf16")
    network = fabric.setup_module(torch.nn.Linear(8, 8))
    assert fabric.device.type == "cpu"
    assert network(torch.ones(1, 8)).dtype == torch.float32  # back to the caller's type


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_tasks_of_a_slurm_job_are_not_counted(
    precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE", raising=False)
    fabric = make_fabric("cpu", precision)
    assert (fabric.world_size, fabric.device.type) == (1, "cpu")


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("device", "count", "refused"),
    [("auto", 2, False), ("auto", 3, True), ("cuda", 3, True), ("cpu", 3, False)],
)
def test_there_are_no_more_processes_than_gpus(device: str, count: int, refused: bool) -> None:
    if not refused:
        require_devices(device, count)
        return
    with pytest.raises(CalcoError, match=r"\[DEVICE\] --devices: .*got 3; expected at most 2"):
        require_devices(device, count)


@pytest.mark.usefixtures("two_gpus")
def test_each_process_predicts_on_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for rank in range(4):  # two machines
        take_own_device("auto", Team(rank, size=4, local_size=2))
        take_own_device("cpu", Team(rank, size=4, local_size=2))
    assert taken == [0, 1, 0, 1]


def test_random_numbers_come_from_the_step_on_every_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed", seeds.append)
    drawn = []
    for step in (1, 2, 1):
        draw_from(torch.device("cpu"), 0, step)
        drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    assert not seeds
    for step in (1, 2, 1):
        draw_from(torch.device("cuda"), 0, step)
    assert seeds[0] == seeds[2] != seeds[1]
