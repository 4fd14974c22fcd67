"""The order of questions, on machines with made-up costs, and one real machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch

from calco.config import LossConfig
from calco.inference.device import usable_cores
from calco.nets.build import build_network
from calco.records import Machine, NetworkPlan, Setup
from calco.training import probe as module
from calco.training import steps
from calco.training.losses import make_loss
from calco.training.probe import fewer_threads, probe
from calco.training.steps import Recipe, Rig

NETWORK = NetworkPlan("unet", 1, (0.0,), (255.0,), width=4, depth=2, dropout=0.5)
BASE = Setup(NETWORK, crop_px=32, batch=4, threads=1)
RECIPE = Recipe(make_loss(LossConfig(), "bce_dice"), device="cpu")


def test_a_real_machine_is_described_and_left_as_it_was() -> None:
    torch.manual_seed(3)
    expected = build_network(NETWORK).state_dict()
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    machine = probe(BASE, RECIPE, 5.0, [replace(BASE, crop_px=64)])
    assert torch.get_num_threads() == threads
    found = build_network(NETWORK).state_dict()  # the weights a run would begin with
    assert all(torch.equal(found[name], value) for name, value in expected.items())

    assert machine.device == "cpu"
    assert machine.cores == usable_cores() >= 1
    assert not machine.memory_gib <= 0
    assert machine.timings[0].setup == BASE
    assert machine.best in machine.timings
    assert machine.timings[-1].setup.crop_px == 64
    assert machine.seconds < 60


@dataclass
class Simulation:
    """A machine on which a step takes as long as ``cost`` says; only this clock moves."""

    cost: Callable[[Setup], float]
    busy: float = 1.0  # share of the threads' time on processors
    now: float = 0.0
    cpu: float = 0.0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clocks = SimpleNamespace(perf_counter=lambda: self.now, process_time=lambda: self.cpu)
        monkeypatch.setattr(module, "time", clocks)
        monkeypatch.setattr(steps, "time", clocks)
        monkeypatch.setattr(steps, "build_network", self.build)
        monkeypatch.setattr(Rig, "_arrange", self.arrange)
        monkeypatch.setattr(Rig, "_timed_step", self.step)

    def build(self, _: NetworkPlan) -> None:
        self.now += 0.1

    def arrange(self, setup: Setup) -> None:
        self.setup, self.is_first = setup, True

    def step(self) -> float:
        step_s = self.cost(self.setup) * (1.5 if self.is_first else 1.0)
        self.is_first = False
        self.now += step_s
        self.cpu += step_s * self.setup.threads * self.busy
        return step_s


CORES = Setup(NETWORK, crop_px=128, batch=16, threads=2)


def idle(setup: Setup) -> float:
    """Two cores on which two threads, channels last and single precision are best."""
    cost = 0.05 + 0.3 * setup.pixels / CORES.pixels
    cost *= 1.0 if setup.channels_last else 1.2
    cost *= 2.0 if setup.precision == "bf16" else 1.0
    return cost * {1: 1.7, 2: 1.0}[setup.threads]


def crowded(setup: Setup) -> float:
    """The same, one core taken by another program."""
    return idle(setup) * (5.0 if setup.threads == 2 else 1.0)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Machine]:
    """Probe a simulated machine."""

    def run(
        cost: Callable[[Setup], float], allowance_s: float, busy: float = 1.0, **given: object
    ) -> Machine:
        Simulation(cost, busy).install(monkeypatch)
        return probe(given.pop("base", CORES), RECIPE, allowance_s, **given)  # type: ignore[arg-type]

    return run


def ways(machine: Machine) -> list[tuple[int, bool, str]]:
    return [(t.setup.threads, t.setup.channels_last, t.setup.precision) for t in machine.timings]


def test_the_base_is_timed_without_any_time(on: Callable[..., Machine]) -> None:
    machine = on(idle, 0.0)
    assert [t.setup for t in machine.timings] == [CORES]
    assert machine.best.step_s == pytest.approx(0.35)
    assert machine.best.n_steps == 1
    assert len(machine.notes) == 3  # one thread, the other layout, half precision


def test_questions_come_in_order_and_the_losers_get_one_step(on: Callable[..., Machine]) -> None:
    machine = on(idle, 30.0)
    assert ways(machine) == [
        (2, True, "fp32"),
        (1, True, "fp32"),
        (2, False, "fp32"),
        (2, True, "bf16"),
    ]
    assert [t.n_steps for t in machine.timings] == [3, 1, 3, 1]  # 1.7, 1.2 and 2 times the best
    assert machine.best is machine.timings[0]
    assert machine.notes == ()


def test_a_crowded_machine_gets_its_question_however_short_the_time(
    on: Callable[..., Machine],
) -> None:
    machine = on(crowded, 1.5, busy=0.6)
    assert ways(machine) == [(2, True, "fp32"), (1, True, "fp32")]
    assert machine.best.setup.threads == 1
    assert machine.best.step_s == pytest.approx(0.35 * 1.7)
    assert machine.timings[0].busy_cores == pytest.approx(1.2)
    assert on(crowded, 1.5, busy=1.0).best.setup.threads == 2  # the control: not urgent, not asked


def test_later_questions_start_from_the_best_answer(on: Callable[..., Machine]) -> None:
    def cost(setup: Setup) -> float:
        return (
            crowded(setup)
            * (0.5 if not setup.channels_last else 1.0)
            * (0.2 if setup.precision == "bf16" else 1.0)
        )

    machine = on(cost, 60.0)
    assert ways(machine) == [
        (2, True, "fp32"),
        (1, True, "fp32"),
        (1, False, "fp32"),
        (1, False, "bf16"),
    ]
    assert machine.best is machine.timings[-1]


def test_a_gain_within_noise_changes_nothing(on: Callable[..., Machine]) -> None:
    def cost(setup: Setup) -> float:
        return 0.35 if setup.channels_last else 0.34

    assert on(cost, 30.0).best.setup.channels_last


def test_threads_are_halved_while_that_helps(on: Callable[..., Machine]) -> None:
    base = replace(CORES, threads=16)

    def cost(setup: Setup) -> float:
        return {16: 0.4, 8: 0.2, 4: 0.3, 2: 0.5, 1: 0.9}[setup.threads]

    machine = on(cost, 30.0, base=base, keep=("channels_last", "precision"))
    assert [t.setup.threads for t in machine.timings] == [16, 8, 4]
    assert machine.best.setup.threads == 8


def test_half_precision_may_not_take_the_time_of_the_rest(on: Callable[..., Machine]) -> None:
    machine = on(idle, 5.0)
    assert (2, True, "bf16") not in ways(machine)
    assert any("bf16: not tried" in note for note in machine.notes)


def test_what_the_user_decided_stays(on: Callable[..., Machine]) -> None:
    machine = on(crowded, 60.0, keep=("threads", "precision"))
    assert ways(machine) == [(2, True, "fp32"), (2, False, "fp32")]


def test_others_are_timed_in_the_best_way_and_once(on: Callable[..., Machine]) -> None:
    wider = replace(CORES, network=replace(NETWORK, width=8))
    small = replace(CORES, crop_px=64)
    machine = on(crowded, 60.0, others=[small, CORES, wider, small])
    tail = machine.timings[-2:]
    assert [t.setup for t in tail] == [replace(small, threads=1), replace(wider, threads=1)]
    assert [t.n_steps for t in tail] == [3, 3]
    # a line through 64 and 128 px: crowded(96 px) is on it
    assert machine.step_s(NETWORK, 96, 16) == pytest.approx(
        crowded(replace(CORES, crop_px=96, threads=1))
    )


def test_others_that_do_not_fit_are_named_and_cheaper_ones_still_tried(
    on: Callable[..., Machine],
) -> None:
    others = [replace(CORES, crop_px=512), replace(CORES, crop_px=64)]
    machine = on(idle, 6.0, others=others)
    assert machine.timings[-1].setup.crop_px == 64
    assert [n for n in machine.notes if "512 px" in n and "the time was up" in n]


def test_the_time_given_is_kept(on: Callable[..., Machine]) -> None:
    others = [replace(CORES, crop_px=px) for px in (64, 96, 192, 256, 320, 384)]
    for allowance_s in (3.0, 6.0, 12.0, 24.0):
        assert on(idle, allowance_s, others=others).seconds < 1.2 * allowance_s


def test_half_of_the_time_is_kept_for_questions(on: Callable[..., Machine]) -> None:
    # three more steps of the base would leave no time to try one thread
    machine = on(idle, 2.0)
    assert [(t.setup.threads, t.n_steps) for t in machine.timings] == [(2, 1), (1, 1)]


def test_another_network_without_memory_is_left_out(
    on: Callable[..., Machine],
) -> None:
    def cost(setup: Setup) -> float:
        if setup.crop_px > 128:
            raise RuntimeError("CUDA out of memory")
        return idle(setup)

    machine = on(cost, 60.0, others=[replace(CORES, crop_px=192), replace(CORES, crop_px=64)])
    assert machine.timings[-1].setup.crop_px == 64
    assert [n for n in machine.notes if "192 px" in n and "more memory" in n]


def test_a_way_that_the_device_cannot_go_is_left_out(on: Callable[..., Machine]) -> None:
    def cost(setup: Setup) -> float:
        if setup.precision == "bf16":
            raise RuntimeError("conv2d is not implemented for BFloat16\nand a long explanation")
        return idle(setup)

    machine = on(cost, 60.0, others=[replace(CORES, crop_px=64)])
    assert machine.best.setup == CORES
    assert machine.timings[-1].setup.crop_px == 64
    assert [n for n in machine.notes if n.endswith("bf16: conv2d is not implemented for BFloat16")]


def test_what_fails_for_the_base_is_no_note(on: Callable[..., Machine]) -> None:
    def cost(setup: Setup) -> float:
        raise RuntimeError("no kernel")

    with pytest.raises(RuntimeError, match="no kernel"):
        on(cost, 60.0)


def test_threads_are_halved_to_one() -> None:
    assert list(fewer_threads(16)) == [8, 4, 2, 1]
    assert list(fewer_threads(1)) == []
