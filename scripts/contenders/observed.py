"""A run of calco looked into: what its probe foretold, and how fast it trained and predicts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median

import segmentation_models_pytorch as smp
import torch

from calco.api import load
from calco.config import LossConfig, load_config
from calco.inference.streams import Streams, abreast
from calco.nets.build import build_network
from calco.pipeline import Listener, run
from calco.records import Plan, Postprocess
from calco.runs import RunDir
from calco.stages.fit import Trainer
from calco.stages.loaders import build_loaders, read_samples
from calco.training.budget import Clock
from calco.training.losses import make_loss
from calco.training.optim import make_optimizer
from calco.training.progress import Watch
from calco.training.signals import StopRequest
from contenders.records import THREADS, Figures

TURNS = 5  # of an epoch each
SIDE_PX = 256
IMAGES = 16  # in a round of inference
INFERENCE_ROUNDS = 7


@dataclass
class Observed:
    """What a run in this process showed.

    Attributes:
        folder: The run.
        plan: Its plan.
        planning_s: From decoded images to the plan: fingerprint, probe, plan.
    """

    folder: RunDir
    plan: Plan
    planning_s: float


def observe(data: Path, budget_s: float, work: Path) -> Observed:
    """Run the pipeline in this process and note when what was done."""
    torch.set_num_threads(THREADS)
    config = load_config(None, (f"budget_s={budget_s}",))
    folder = RunDir(work / f"run-{budget_s:g}s")
    heard: list[tuple[type, float]] = []
    listener = Listener(on_record=lambda record: heard.append((type(record), time.monotonic())))
    run(data, config, folder, Clock(budget_s), listener)
    planned = [kind for kind, _ in heard].index(Plan)
    prepared_s = heard[planned][1] - heard[planned - 1][1]
    began = time.monotonic()
    read_samples(folder.load_split(), folder.scratch)  # as was done in that time, too
    return Observed(folder, folder.load_plan(), prepared_s - (time.monotonic() - began))


def planning(run: Observed, budget_s: float) -> Figures:
    """Return the share of the budget that went into the plan and what it rests on."""
    probe_s = run.plan.machine.seconds if run.plan.machine else math.nan
    return {
        f"{budget_s:g}s": round(run.planning_s / budget_s, 4),
        f"probe of {budget_s:g}": probe_s,
    }


def prediction(run: Observed) -> Figures:
    """Return the steps made over those that the plan foretold before the first."""
    foretold = run.plan.foretold_steps
    if not foretold:
        raise RuntimeError("the plan foretells no steps")
    made = mean(member.load_fit().history[-1].step for member in run.folder.members())
    return {"ratio": round(made / foretold, 4), "made": made, "foretold": round(foretold, 1)}


def fit_speed(run: Observed) -> Figures:
    """Let training and a bare loop take turns, and return the ratio of their samples per second.

    In turns, because a machine is not equally fast all the time.
    """
    split, plan = run.folder.load_split(), replace(run.plan, budget_s=None)
    config = load_config(None, ("fit.preflight=false",))
    loaders = build_loaders(read_samples(split, run.folder.scratch), split, plan, config)
    trainer = Trainer(loaders, plan, config, run.folder, Clock(None), StopRequest())
    ratios, fit, bare = [], [], []
    for turn in range(TURNS + 1):
        trainer.batches_done, trainer.samples_seen = 0, 0.0
        began, before = time.perf_counter(), trainer.step
        trainer.train_epoch(Watch())
        fit_s = (time.perf_counter() - began) / trainer.samples_seen
        bare_s = bare_step_s(plan, trainer.step - before) / plan.batch
        if turn:  # the first sets up kernels
            fit.append(1 / fit_s)
            bare.append(1 / bare_s)
            ratios.append(bare_s / fit_s)
    return {
        "ratio": round(median(ratios), 4),
        "fit": round(median(fit), 2),
        "bare": round(median(bare), 2),
    }


def bare_step_s(plan: Plan, n_steps: int) -> float:
    """Time forward, backward and step of the planned network on one batch in memory."""
    torch.manual_seed(0)
    layout = torch.channels_last if plan.channels_last else torch.contiguous_format
    network = build_network(plan.network).to(memory_format=layout).train()
    optimizer = make_optimizer(
        network, plan.optimizer, plan.learning_rate, plan.weight_decay, plan.precision
    )
    loss_of = make_loss(LossConfig(), plan.loss)
    side = plan.resize_px or plan.crop_px
    images = torch.randint(256, (plan.batch, plan.network.in_channels, side, side)).byte()
    images = images.contiguous(memory_format=layout)
    masks = (images[:, :1] > 127).float()  # (B, 1, H, W)
    for step in range(n_steps + 1):
        if step == 1:  # the first sets up memory
            began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(network(images), masks).mean()  # over (B,)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return (time.perf_counter() - began) / n_steps


def inference(run: Path) -> Figures:
    """Time the run's network, as calco predict runs it, and a ResNet-34 U-Net alternately."""
    predictor = load(run)
    predictor.params = Postprocess()  # without mirroring: the network alone
    other = smp.Unet("resnet34", encoder_weights=None, in_channels=3, classes=1).eval()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (IMAGES, SIDE_PX, SIDE_PX, 3), generator=generator).byte().numpy()
    planes = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()[:, None] / 255  # (N, 1, 3, H, W)

    def ours() -> None:
        list(abreast(predictor, pixels, Streams.prob, THREADS))

    @torch.no_grad()
    def theirs() -> None:
        for image in planes:
            torch.sigmoid(other(image))

    ours_s, theirs_s = [], []
    for _ in range(INFERENCE_ROUNDS):
        ours_s.append(seconds_of(ours))
        theirs_s.append(seconds_of(theirs))
    fast, slow = IMAGES / min(ours_s), IMAGES / min(theirs_s)
    return {"ratio": round(fast / slow, 3), "calco": round(fast, 2), "resnet34": round(slow, 2)}


def seconds_of(call: Callable[[], None]) -> float:
    """Return the wall-clock time of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
