"""Training learns, keeps its best, survives NaN, stops on signals and resumes to the same bytes."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from calco.config import Config, Precision
from calco.errors import CalcoError, Problem, StoppedError
from calco.files import sha256_of
from calco.pipeline import prepare
from calco.records import FitResult, Plan
from calco.runs import RunDir
from calco.stages.audit import audit_samples
from calco.stages.fit import Trainer, fit
from calco.stages.loaders import build_loaders
from calco.stages.samples import index_samples
from calco.stages.split import split_samples
from calco.training.budget import Clock
from calco.training.cache import Held
from calco.training.dataset import Loaders
from calco.training.progress import Watch
from calco.training.team import Team


@pytest.fixture(scope="module")
def prepared(
    discs: Path, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Loaders, Plan]:
    audit = audit_samples(
        index_samples(discs, tiny_config.data), tiny_config.data, tiny_config.audit
    )
    split = split_samples(audit, tiny_config.split)
    task = prepare(split, tiny_config, RunDir(tmp_path_factory.mktemp("prepared")), Clock())
    # dropout makes the random state matter on resume
    plan = replace(task.plan, network=replace(task.plan.network, dropout=0.2), epochs=3)
    return build_loaders(task.samples, split, plan, tiny_config), plan


def run_fit(
    prepared: tuple[Loaders, Plan], config: Config, folder: Path, watch: Watch | None = None
) -> FitResult:
    loaders, plan = prepared
    folder.mkdir(parents=True, exist_ok=True)
    return fit(loaders, plan, config, RunDir(folder), Clock(), watch or Watch())


def test_training_learns_and_keeps_the_best(
    prepared: tuple[Loaders, Plan], tiny_config: Config, tmp_path: Path
) -> None:
    result = run_fit(prepared, tiny_config, tmp_path)
    assert [e.epoch for e in result.history] == [1, 2, 3]
    assert result.history[-1].train_loss < result.history[0].train_loss
    dices = [e.validation_dice for e in result.history]
    assert result.best_epoch == dices.index(max(dices)) + 1
    assert max(dices) > 0.6
    assert result.stopped_because == "all 3 epochs were done"
    saved = [e.validation_dice for e in RunDir(tmp_path).load_history()]
    assert saved == pytest.approx(dices, abs=1e-5)
    assert RunDir(tmp_path).weights.exists()
    assert result.seconds_stepping + result.seconds_validating <= result.seconds


@pytest.mark.parametrize("stop_after", [1, 16, 17, 30, 54])
def test_a_stopped_run_resumes_to_the_same_bytes(
    prepared: tuple[Loaders, Plan],
    tiny_config: Config,
    tmp_path: Path,
    stop_after: int,
    stop_at: Callable[[int, signal.Signals], Watch],
) -> None:
    unbroken = run_fit(prepared, tiny_config, tmp_path / "unbroken")
    with pytest.raises(StoppedError, match="SIGTERM"):
        run_fit(prepared, tiny_config, tmp_path / "broken", stop_at(stop_after, signal.SIGTERM))
    assert RunDir(tmp_path / "broken").weights.exists()  # usable at any moment
    resumed = run_fit(prepared, tiny_config, tmp_path / "broken")

    def figures(result: FitResult) -> list[tuple[float, ...]]:
        return [(e.epoch, e.step, e.train_loss, e.validation_dice) for e in result.history]

    assert figures(resumed) == figures(unbroken)
    names = ("unbroken", "broken")
    digests = {sha256_of(RunDir(tmp_path / name).weights) for name in names}
    assert len(digests) == 1


def test_a_signal_during_an_exchange_is_not_lost(
    prepared: tuple[Loaders, Plan],
    tiny_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Most come while a process waits for what the others have heard."""
    exchange = Team.largest
    sent: list[signal.Signals] = []

    def interrupted(team: Team, *values: float) -> tuple[float, ...]:
        found = exchange(team, *values)
        if not sent:
            sent.append(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
        return found

    monkeypatch.setattr(Team, "largest", interrupted)
    with pytest.raises(StoppedError, match="SIGTERM after 1 steps"):
        run_fit(prepared, tiny_config, tmp_path)


def test_resume_with_other_random_numbers_would_differ(
    prepared: tuple[Loaders, Plan],
    tiny_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_at: Callable[[int, signal.Signals], Watch],
) -> None:
    """Negative control: the test above can fail."""
    monkeypatch.setattr("calco.stages.fit.draw_from", lambda *_: None)
    run_fit(prepared, tiny_config, tmp_path / "unbroken")
    with pytest.raises(StoppedError):
        run_fit(prepared, tiny_config, tmp_path / "broken", stop_at(7, signal.SIGTERM))
    run_fit(prepared, tiny_config, tmp_path / "broken")
    names = ("unbroken", "broken")
    assert len({sha256_of(RunDir(tmp_path / name).weights) for name in names}) == 2


def test_same_seed_same_bytes(
    prepared: tuple[Loaders, Plan], tiny_config: Config, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        run_fit(prepared, tiny_config, tmp_path / name)
    assert sha256_of(RunDir(tmp_path / "a").weights) == sha256_of(RunDir(tmp_path / "b").weights)


def trainer_on(
    prepared: tuple[Loaders, Plan], config: Config, folder: Path, clock: Clock | None = None
) -> Trainer:
    from calco.training.signals import StopRequest

    loaders, plan = prepared
    return Trainer(loaders, plan, config, RunDir(folder), clock or Clock(), StopRequest())


def test_one_nan_step_changes_nothing(
    prepared: tuple[Loaders, Plan],
    tiny_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = trainer_on(prepared, tiny_config, tmp_path)
    before = {k: v.clone() for k, v in trainer.segmenter.named_parameters()}
    monkeypatch.setattr(trainer, "loss_of", lambda logits, _: logits.sum() * math.nan)
    batch = next(iter(prepared[0].train.batches(1)))
    trainer._train_step(batch)
    after = dict(trainer.segmenter.named_parameters())
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert (trainer.step, trainer.bad_steps) == (0, 1)


def test_nan_that_stays_stops_with_the_setting_to_change(
    prepared: tuple[Loaders, Plan],
    tiny_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = trainer_on(prepared, tiny_config, tmp_path)
    monkeypatch.setattr(trainer, "loss_of", lambda logits, _: logits.sum() * math.nan)
    with pytest.raises(CalcoError, match=r"LOSS_NOT_FINITE.*fit.learning_rate"):
        trainer.train_epoch(Watch())


def test_fp16_overflow_lowers_the_loss_scale_and_training_goes_on(
    prepared: tuple[Loaders, Plan],
    tiny_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The processor emulates what a GPU does: a scale of 2**40 overflows half precision."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, backoff_factor=2.0**-15)
    precision = MixedPrecision("16-mixed", "cpu", scaler)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=precision)
    monkeypatch.setattr("calco.stages.fit.make_fabric", lambda *_, **__: fabric)
    loaders, plan = prepared
    trainer = trainer_on((loaders, replace(plan, precision="fp16")), tiny_config, tmp_path)
    before = {k: v.clone() for k, v in trainer.segmenter.named_parameters()}
    batches = loaders.train.batches(1)
    trainer._train_step(next(batches))
    assert (trainer.step, trainer.bad_steps, scaler.get_scale()) == (0, 1, 2.0**25)
    assert all(torch.equal(before[k], v) for k, v in trainer.segmenter.named_parameters())
    for _ in range(3):
        trainer._train_step(next(batches))
    assert trainer.step >= 1
    assert trainer.bad_steps == 0
    assert trainer.result().overflows == 4 - trainer.step  # counted, for the report
    assert not all(torch.equal(before[k], v) for k, v in trainer.segmenter.named_parameters())
    assert trainer._state({})["scaler"]["scale"] == scaler.get_scale()


def test_the_gradient_norm_is_bounded_without_the_loss_scale(
    prepared: tuple[Loaders, Plan],
    tiny_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaders, plan = prepared
    plan = replace(plan, clip_norm=1e-3)
    norms = []
    precisions: tuple[Precision, ...] = ("fp32", "fp16")
    for precision in precisions:
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        plugins = {"fp32": None, "fp16": MixedPrecision("16-mixed", "cpu", scaler)}[precision]
        fabric = Fabric(accelerator="cpu", devices=1, plugins=plugins)
        monkeypatch.setattr("calco.stages.fit.make_fabric", lambda *_, f=fabric, **__: f)
        trainer = trainer_on((loaders, replace(plan, precision=precision)), tiny_config, tmp_path)
        monkeypatch.setattr(trainer.optimizer, "zero_grad", lambda **_: None)  # keep to look at
        trainer._train_step(next(iter(loaders.train.batches(1))))
        gradients = [p.grad for p in trainer.segmenter.parameters() if p.grad is not None]
        norms.append(float(torch.nn.utils.get_total_norm(gradients)))
    assert norms == pytest.approx([1e-3, 1e-3], rel=1e-2)


def test_patience_ends_training(
    prepared: tuple[Loaders, Plan], tiny_config: Config, tmp_path: Path
) -> None:
    loaders, plan = prepared
    settings = tiny_config.fit.model_copy(update={"patience": 1, "min_delta": 0.9})
    config = tiny_config.model_copy(update={"fit": settings})
    result = run_fit((loaders, replace(plan, epochs=50)), config, tmp_path)
    assert len(result.history) == 2
    assert "did not improve" in result.stopped_because


@pytest.mark.slow
def test_the_budget_ends_training_in_time(
    prepared: tuple[Loaders, Plan], tiny_config: Config, tmp_path: Path
) -> None:
    loaders, plan = prepared
    clock = Clock(budget_s=20.0)
    plan = replace(plan, epochs=100_000, budget_s=20.0, crop_px=32)
    result = fit(loaders, plan, tiny_config, RunDir(tmp_path), clock, Watch())
    assert result.stopped_because == "the budget was used"
    assert clock.elapsed_s < 20.0
    assert result.history[-1].learning_rate < 0.2 * plan.learning_rate  # annealed on landing


def test_a_learning_rate_that_is_too_high_is_named(
    prepared: tuple[Loaders, Plan], tiny_config: Config, tmp_path: Path
) -> None:
    heard: list[Problem] = []
    loaders, plan = prepared
    plan = replace(plan, learning_rate=20.0, optimizer="sgd", clip_norm=1.0, ema=False, epochs=4)
    plan = replace(plan, network=replace(plan.network, norm="none", dropout=0.0))
    run_fit((loaders, plan), tiny_config, tmp_path, Watch(on_advice=heard.append))
    found = {p.code: p.do for p in heard}
    for code in ("COLLAPSE_FOREGROUND", "LOSS_RISING", "LOSS_FLAT"):
        assert "lower fit.learning_rate (now 20)" in found[code]


def test_settings_that_cannot_work_are_said_before_the_first_epoch(
    prepared: tuple[Loaders, Plan], tiny_config: Config, tmp_path: Path
) -> None:
    heard: list[str] = []
    loaders, plan = prepared
    settings = tiny_config.fit.model_copy(update={"preflight": True})
    config = tiny_config.model_copy(update={"fit": settings})
    watch = Watch(
        on_advice=lambda problem: heard.append(problem.code),
        on_epoch=lambda epoch: heard.append(f"epoch {epoch.epoch}"),
    )
    run_fit((loaders, replace(plan, learning_rate=1e-12, epochs=1)), config, tmp_path / "a", watch)
    assert heard == ["PREFLIGHT", "epoch 1"]
    heard.clear()
    run_fit((loaders, replace(plan, epochs=1)), config, tmp_path / "b", watch)
    assert heard == ["epoch 1"]
    run_fit((loaders, replace(plan, epochs=1)), tiny_config, tmp_path / "c")
    names = ("b", "c")  # the rehearsal leaves no trace in the weights
    assert len({sha256_of(RunDir(tmp_path / name).weights) for name in names}) == 1


def test_a_validation_part_of_another_kind_is_named(
    prepared: tuple[Loaders, Plan], tiny_config: Config, tmp_path: Path
) -> None:
    heard: list[Problem] = []
    loaders, plan = prepared
    bright = tuple(
        Held(f"{i}", s.image // 4 + 190, s.mask) for i, s in enumerate(loaders.validation * 4)
    )
    mixed = (replace(loaders, validation=bright), replace(plan, epochs=1))
    run_fit(mixed, tiny_config, tmp_path, Watch(on_advice=heard.append))
    assert "VALIDATION_UNLIKE" in [p.code for p in heard]  # one epoch may find more
    assert "brightness" in heard[0].got
    heard.clear()
    same = (replace(loaders, validation=loaders.validation * 4), replace(plan, epochs=1))
    run_fit(same, tiny_config, tmp_path / "control", Watch(on_advice=heard.append))
    assert heard == []


def test_collapse_is_said_aloud(
    prepared: tuple[Loaders, Plan], tiny_config: Config, tmp_path: Path
) -> None:
    heard: list[Problem] = []
    loaders, plan = prepared
    # a network that may not move keeps predicting what its bias says
    plan = replace(plan, learning_rate=1e-12, epochs=4, ema=False)
    trainer = trainer_on((loaders, plan), tiny_config, tmp_path)
    with torch.no_grad():
        list(trainer.segmenter.parameters())[-1].fill_(-20.0)
    watch = Watch(on_advice=heard.append)
    while not trainer.stopped_because:
        trainer.train_epoch(watch)
        trainer.finish_epoch(watch)
    assert {p.code for p in heard} == {"COLLAPSE_BACKGROUND", "LOSS_FLAT"}
    advice = trainer.result().advice[0]  # the latest, for the report
    assert advice.code == "COLLAPSE_BACKGROUND"
    assert "fit.learning_rate" in advice.do
    assert RunDir(tmp_path).weights.exists()
