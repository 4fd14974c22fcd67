"""Train the network; read from ``fit`` downwards, it is one loop."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from calco.config import Config
from calco.errors import CalcoError, Problem, StoppedError
from calco.inference.predictor import Predictor
from calco.nets.build import Segmenter
from calco.nets.checkpoint import ModelCard, load_state, save_model, save_state
from calco.nets.transfer import starting_network
from calco.records import STOPPED_BY, Epoch, FitResult, Plan, Postprocess
from calco.runs import RunDir
from calco.training.budget import Clock
from calco.training.cache import Decoded
from calco.training.dataset import Batch, Loaders
from calco.training.device import draw_from, make_fabric
from calco.training.diagnose import Adviser, by_parts, not_finite, unlike
from calco.training.history import Monitor
from calco.training.losses import crop_dice, make_loss
from calco.training.optim import (
    AveragedWeights,
    learning_rate_factor,
    planned_optimizer,
    set_learning_rate,
)
from calco.training.preflight import preflight
from calco.training.progress import Progress, Watch
from calco.training.sharded import trained_part, whole_number
from calco.training.signals import StopRequest, stop_on_signals
from calco.training.threads import make_governor
from calco.training.validate import NOT_VALIDATED, Pace, Validation, affordable, area_px, validate

FIRST_STEPS = 5  # whose mean loss is where training began
MAX_BAD_STEPS = 10  # NaN once is a bad batch, ten times in a row a broken training
SAVE_EVERY_S = 60.0  # work lost to a kill, at most
PROBE_EVERY_S = 15.0  # between measurements of what tuning and test will take
VALIDATION_SLICE = 0.03  # of fit's time for one validation; larger parts are validated by sample


def fit(
    loaders: Loaders, plan: Plan, config: Config, folder: RunDir, clock: Clock, watch: Watch
) -> FitResult:
    """Train until the epochs, the budget or patience end; the best weights are on disk.

    Args:
        loaders: Training batches and validation images, and the team that shares them.
        plan: What is built and how it is trained.
        config: Seed, device, monitored figure and patience.
        folder: Gets best.safetensors, history.csv and last/; in a team the first process writes.
        clock: Started with the command.
        watch: Hears of steps, epochs and advice.

    Raises:
        StoppedError: After a signal; the state to resume from is on disk.
        CalcoError: When the loss stays NaN.
    """
    with stop_on_signals() as stop:
        trainer = Trainer(loaders, plan, config, folder, clock, stop)
        trainer.resume()
        if trainer.team.leads:
            trainer.adviser.note(unlike(loaders.train.samples, loaders.validation), watch)
            trainer.adviser.note(by_parts(plan, config.loss, trainer.team.size), watch)
            trainer.adviser.note(trainer.rehearse(), watch)
        while not trainer.stopped_because:
            trainer.train_epoch(watch)
            trainer.finish_epoch(watch)
    if trainer.team.leads:
        folder.save_fit(trainer.result())
    if by := trainer.stop.by or stop.by:
        raise StoppedError(f"{STOPPED_BY}{by} after {trainer.step} steps")
    return trainer.result()


class Trainer:
    """The state of one training and the three things done with it: train, validate, save."""

    def __init__(
        self,
        loaders: Loaders,
        plan: Plan,
        config: Config,
        folder: RunDir,
        clock: Clock,
        stop: StopRequest,
    ) -> None:
        self.loaders, self.plan, self.config = loaders, plan, config
        self.folder, self.clock = folder, clock
        self.heard, self.stop = stop, StopRequest()  # by this process, and what all agreed on
        self.team = loaders.train.team
        fsdp = config.fit.fsdp
        self.fabric = make_fabric(config.device, plan.precision, self.team, averages=not fsdp)
        torch.manual_seed(config.seed)  # initial weights
        self.layout = torch.channels_last if plan.channels_last else torch.contiguous_format
        self.segmenter = starting_network(plan.network, loaders.start).to(memory_format=self.layout)
        self.trained = trained_part(self.segmenter, self.team, self.fabric.device, fsdp=fsdp)
        self.network, self.optimizer = self.fabric.setup(
            self.trained.network, planned_optimizer(self.trained.network, plan, plan.precision)
        )
        self.averaged = AveragedWeights(self.segmenter) if plan.ema else None
        self.governor = make_governor(plan, config) if self.team.size == 1 else None
        if plan.threads:
            torch.set_num_threads(plan.threads)
        self.loss_of = make_loss(config.loss, plan.loss)
        self.monitor = Monitor(config.fit.monitor, config.fit.patience, config.fit.min_delta)
        self.history: list[Epoch] = []
        self.adviser = Adviser(plan)
        self.first_losses: list[float] = []
        self.step = self.batches_done = self.bad_steps = self.overflows = 0
        self.loss_sum = self.dice_sum = self.samples_seen = 0.0
        self.stepping_s = self.validating_s = 0.0
        self.began_s = clock.elapsed_s
        self.validated_at_s = self.saved_at_s = self.began_s
        self.stopped_because, self.fraction, self.out_of_time = "", 0.0, False
        self.validated, self.pace = loaders.validation, Pace()
        self._probe()
        px_s, allowance_s = self.team.led(self.pace.px_s, VALIDATION_SLICE * clock.fit_left_s)
        self.validated = affordable(loaders.validation, px_s, allowance_s)
        self._probe()

    def rehearse(self) -> Problem | None:
        """Overfit one batch on a copy of the network, before the first step."""
        if self.step or not self.config.fit.preflight or self.trained.by_name:
            return None
        batch = next(self.loaders.train.batches(1))
        images, masks, _ = (self.fabric.to_device(part) for part in batch)
        return preflight(self.segmenter, (images, masks), self.loss_of, self.plan)

    # --- train ---------------------------------------------------------------------------------

    def train_epoch(self, watch: Watch) -> None:
        """Go once through the training part, or until time is up or a signal comes."""
        self.network.train()
        self._agree()
        for batch in self.loaders.train.batches(len(self.history) + 1, self.batches_done):
            began = time.perf_counter()
            loss = self._train_step(batch)
            step_s = time.perf_counter() - began
            self.stepping_s += step_s
            if self.governor:
                torch.set_num_threads(self.governor.after(step_s))
            self.batches_done += 1
            watch.on_step(self._progress(loss))
            self._agree()
            if self.stop.by or self.out_of_time:
                return

    def _agree(self) -> None:
        """Read the clock, in a team the first one's, and hear of signals to any process."""
        seen = self.heard.number, self._time_is_up(), self._fraction()
        number, out_of_time, self.fraction = self.team.largest(*seen)
        self.stop.number, self.out_of_time = int(number), bool(out_of_time)

    def _train_step(self, batch: Batch) -> float:
        """One forward, backward and update; a step that is not finite changes nothing."""
        images, masks, numbers = (self.fabric.to_device(part) for part in batch)
        images = images.contiguous(memory_format=self.layout)  # (B, C, H, W) uint8
        factor = learning_rate_factor(self.plan.schedule, self.fraction, self.step)
        set_learning_rate(self.optimizer, self.plan.learning_rate * factor)
        # dropout; from the step, so that a resumed run goes on with the same
        draw_from(self.fabric.device, self.config.seed, self.team.rank, self.step)
        logits = self.network(images)  # (B, 1, H, W)
        loss = self.loss_of(logits, masks.float()).mean()  # over (B,)
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss * self.loaders.train.weight(self.batches_done, len(images)))
        loss_sum, n_images = self.team.total(loss.item() * len(images), len(images))
        value, norm = loss_sum / n_images, self._clip_gradients()
        if not (math.isfinite(value) and math.isfinite(norm)):
            self._skip_step(numbers)
            return value
        self.optimizer.step()
        self.step += 1
        self.bad_steps = 0
        if len(self.first_losses) < FIRST_STEPS:
            self.first_losses.append(value)
        if self.averaged and self.averaged.moves_after(self.step):
            self.trained.gather()
            self.averaged.update(self.segmenter, self.step)

        self.loss_sum += loss.item() * len(images)
        self.dice_sum += float(crop_dice(logits.detach(), masks).sum())
        self.samples_seen += len(images)
        return value

    def _clip_gradients(self) -> float:
        """Bound the gradients' norm, fp16's loss scale taken out, and return what it was."""
        limit = self.plan.clip_norm or math.inf
        norm = self.fabric.clip_gradients(
            self.network, self.optimizer, max_norm=limit, error_if_nonfinite=False
        )
        return whole_number(norm) if norm is not None else math.nan

    def _skip_step(self, numbers: torch.Tensor) -> None:
        if self.plan.precision == "fp16":
            self.optimizer.step()  # changes no weight: the scaler sees the overflow and backs off
        self.optimizer.zero_grad(set_to_none=True)
        self.bad_steps += 1
        self.overflows += 1
        if self.bad_steps >= MAX_BAD_STEPS:
            files = tuple(self.loaders.train.ids[int(i)] for i in numbers)
            raise CalcoError(not_finite(self.step, files, self.plan))

    def _fraction(self) -> float:
        """Share of training done, by steps or by clock, whichever is further."""
        steps = self.plan.epochs * self.loaders.train.steps_per_epoch
        return min(1.0, max(self.step / steps, self.clock.progress(self.began_s)))

    # --- validate ------------------------------------------------------------------------------

    def finish_epoch(self, watch: Watch) -> None:
        """Validate when it is due, write the epoch down, keep the best, decide to go on."""
        complete = self.batches_done >= self.loaders.train.steps_per_epoch
        sums = self.team.total(self.loss_sum, self.dice_sum, self.samples_seen)  # of all processes
        self.loss_sum, self.dice_sum, self.samples_seen = sums if self.team.leads else (0.0,) * 3
        if self.stop.by and not complete:
            self._save(best=not self.monitor.best_epoch and self.step > 0)
            self.stopped_because = STOPPED_BY + self.stop.by
            return
        out_of_time = self.out_of_time
        last = out_of_time or len(self.history) + 1 >= self.plan.epochs
        due = last or bool(self.team.led(self._validation_is_due())[0])
        validation = self._validate(last=last) if due else NOT_VALIDATED
        epoch = self._epoch_row(validation)
        self.history.append(epoch)
        self.batches_done = 0
        self.loss_sum = self.dice_sum = self.samples_seen = 0.0
        better = due and self.monitor.update(epoch)
        if better:
            watch.on_best(self._levels(validation))
        self.adviser.look(self.history, validation, self.first_losses, watch)
        watch.on_epoch(epoch)
        self._agree()
        if out_of_time:
            self.stopped_because = "the budget was used"
        elif last:
            self.stopped_because = f"all {self.plan.epochs} epochs were done"
        elif self.monitor.exhausted:
            figure, patience = self.monitor.figure, self.monitor.patience
            self.stopped_because = f"validation {figure} did not improve for {patience} epochs"
        elif self.stop.by:
            self.stopped_because = STOPPED_BY + self.stop.by
        self._save(best=better or (bool(self.stopped_because) and not self.monitor.best_epoch))

    def _validate(self, *, last: bool) -> Validation:
        """Score the sample; at the end predict the other images, too, as tuning needs them all."""
        began = time.perf_counter()
        others = self._not_validated() if last else ()
        self.trained.gather()
        self.team.align(self._kept())
        result = validate(self._predictor(), self.validated, self.loss_of, others, self.team)
        spent_s = time.perf_counter() - began
        self.validating_s += spent_s
        self.pace.note(spent_s, (*self.validated, *others))
        self._reserve()
        self.validated_at_s = self.clock.elapsed_s
        return result

    def _levels(self, validation: Validation) -> dict[str, NDArray[np.uint8]]:
        """Return the map of each validation image; none when only a sample was predicted."""
        if len(validation.levels) < len(self.loaders.validation):
            return {}
        ids = (sample.id for sample in (*self.validated, *self._not_validated()))
        return dict(zip(ids, validation.levels, strict=True))

    def _not_validated(self) -> tuple[Decoded, ...]:
        scored = {sample.id for sample in self.validated}
        return tuple(sample for sample in self.loaders.validation if sample.id not in scored)

    def _validation_is_due(self) -> bool:
        """Whether enough was trained since the last validation to pay for the next."""
        if self.plan.budget_s is None or self.config.fit.patience:
            return True  # every epoch: a clock would make the choice of the best irreproducible
        since_s = self.clock.elapsed_s - self.validated_at_s
        return self.validation_s <= self.config.fit.validation_share * since_s

    def _probe(self) -> None:
        """Measure prediction, and set aside what comes after training."""
        self.pace.probe(self._predictor(), self.loaders.validation, self.team.size)
        if self.fabric.device.type == "cpu":  # a process that waits for a GPU computes little
            self.clock.slowdown = self.pace.slowdown
        self.network.train()
        self._reserve()
        self.probed_at_s = self.clock.elapsed_s

    def _reserve(self) -> None:
        self.validation_s = self.pace.px_s * area_px(self.validated)
        whole_s = self.pace.px_s * area_px(self.loaders.validation)
        self.clock.reserve_for(whole_s, self.loaders.tested_ratio, self.loaders.n_folds)

    def _time_is_up(self) -> bool:
        """Whether only the last validation, tuning, test and report still fit into the budget."""
        if self.clock.budget_s and self.clock.elapsed_s - self.probed_at_s > PROBE_EVERY_S:
            self._probe()
        return self.clock.fit_left_s <= 0

    def _predictor(self) -> Predictor:
        return Predictor.of(self._kept(), self._card(), Postprocess(), self.fabric.device)

    def _kept(self) -> Segmenter:
        """Return the network that is validated and saved."""
        return self.averaged.network if self.averaged else self.segmenter

    def _card(self) -> ModelCard:
        return ModelCard(self.plan.network, self.loaders.spec, self.plan.resize_px)

    def _epoch_row(self, validation: Validation) -> Epoch:
        seen = self.samples_seen or math.nan
        return Epoch(
            epoch=len(self.history) + 1,
            step=self.step,
            train_loss=self.loss_sum / seen,
            train_dice=self.dice_sum / seen,
            validation_loss=validation.loss,
            validation_dice=validation.dice,
            learning_rate=float(self.optimizer.param_groups[0]["lr"]),
            seconds=self.clock.elapsed_s - self.began_s,
        )

    def _progress(self, loss: float) -> Progress:
        spent_s, most_s = self.clock.elapsed_s - self.began_s, self.clock.fit_left_s
        return Progress.after(self.history, self._fraction(), loss, spent_s, most_s)

    # --- save ----------------------------------------------------------------------------------

    def _save(self, *, best: bool) -> None:
        """Write history, the best weights when asked, and every minute the state to resume."""
        overdue = self.clock.elapsed_s - self.saved_at_s > SAVE_EVERY_S
        wanted = bool(self.stop.by) or (overdue and not self.stopped_because)
        due, best = map(bool, self.team.led(wanted, best))
        if due or best:
            self.trained.gather()
        optimizer = self.trained.optimizer_state(self.optimizer.optimizer) if due else {}
        if not self.team.leads:
            return
        if best:
            save_model(self.folder.weights, self._kept(), self._card())
        self.folder.save_history(self.history)
        if due:
            save_state(self.folder.last, self._state(optimizer))
            self.saved_at_s = self.clock.elapsed_s

    def _state(self, optimizer: dict[str, Any]) -> dict[str, Any]:
        names = ["step", "batches_done", "overflows", "loss_sum", "dice_sum", "samples_seen"]
        names += ["stepping_s", "validating_s", "first_losses"]
        return {
            "network": self.segmenter.state_dict(),
            "averaged": self.averaged.network.state_dict() if self.averaged else {},
            "optimizer": optimizer,
            "scaler": self.fabric.strategy.precision.state_dict(),  # empty but for fp16
            "history": [list(vars(e).values()) for e in self.history],
            "monitor": dict(vars(self.monitor)),
            "numbers": {name: getattr(self, name) for name in names},
            # a signal on the very last step must not make resume train on
            "finished": "" if self.stopped_because.startswith(STOPPED_BY) else self.stopped_because,
            "fit_s": self.clock.elapsed_s - self.began_s,
            "elapsed_s": self.clock.elapsed_s,
            "fold_began_s": self.clock.fold_began_s,
        }

    def resume(self) -> None:
        """Continue from last/ when it holds a state; otherwise start afresh."""
        state = load_state(self.folder.last)
        if state is None:
            return
        self.trained.load(state["network"], self.optimizer.optimizer, state["optimizer"])
        if self.averaged:
            self.averaged.network.load_state_dict(state["averaged"])
        self.fabric.strategy.precision.load_state_dict(state["scaler"])
        self.history = [Epoch(*row) for row in state["history"]]
        vars(self.monitor).update(state["monitor"])
        vars(self).update(state["numbers"])
        if not self.team.leads:  # the first one's sums are those of all
            self.loss_sum = self.dice_sum = self.samples_seen = 0.0
        self.stopped_because = state["finished"]
        # time spent before the stop counts, the pause does not
        self.clock.earlier_s = state["elapsed_s"]
        self.clock.fold_began_s = state["fold_began_s"]
        self.began_s = state["elapsed_s"] - state["fit_s"]
        self.validated_at_s = self.saved_at_s = self.clock.elapsed_s

    def result(self) -> FitResult:
        """Return the record of a finished training."""
        return FitResult(
            history=tuple(self.history),
            best_epoch=self.monitor.best_epoch,
            stopped_because=self.stopped_because,
            seconds=self.clock.elapsed_s - self.began_s,
            seconds_stepping=self.stepping_s,
            seconds_validating=self.validating_s,
            advice=tuple(self.adviser.advice.values()),
            overflows=self.overflows,
        )
