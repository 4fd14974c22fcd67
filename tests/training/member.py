"""One process of a team as the tests start it: python -m tests.training.member RANK SIZE FOLDER.

What it finds is left in FOLDER/RANK.npz; the tests call ``findings`` themselves to compare it with
what one process finds.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch.distributed import FileStore  # type: ignore[attr-defined]
from torch.distributed.tensor import DTensor

from calco.config import Config, FitConfig, LossConfig
from calco.records import ImageSpec, NetworkPlan, Plan
from calco.runs import RunDir
from calco.stages.fit import Trainer
from calco.training import device
from calco.training.budget import Clock
from calco.training.cache import Held
from calco.training.dataset import Loaders, TrainLoader
from calco.training.losses import make_loss
from calco.training.sharded import Trained
from calco.training.signals import StopRequest
from calco.training.team import ALONE, Team, join_team, leave_team
from calco.training.validate import validate

NETWORK = NetworkPlan("unet", 3, (0.0,) * 3, (255.0,) * 3, width=4, depth=2, norm="group")
PLAN = Plan(
    NETWORK, 32, None, 5, 1, None, "bce_dice", "sgd", 0.1, 0, "constant", False, 0, 0.5, "fp32"
)


THREE = replace(PLAN, optimizer="adamw", learning_rate=0.01, ema=True, clip_norm=1.0)
# its encoder has weights that no map needs, and stages that learn at different rates
ENCODER = NetworkPlan(
    "encoder_unet", 3, (0.0,) * 3, (255.0,) * 3, "efficientnet-b0", pretrained=False
)
STAGED = replace(THREE, network=ENCODER, layer_decay=0.5)


def samples(count: int) -> list[Held]:
    """Return noise of growing size, with masks from empty to full, so that losses differ much."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        side_px = 32 + 4 * i
        image = rng.integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
        mask = (rng.random((side_px, side_px)) < i / (count - 1)).astype(np.uint8)
        found.append(Held(f"s{i}", image, mask))
    return found


def trainer_of(team: Team, plan: Plan, folder: Path, *, fsdp: bool = False) -> Trainer:
    """Return a trainer in float64."""
    device.FABRIC_NAMES["fp32"] = "64-true"  # type: ignore[assignment]
    drawn = samples(7)
    loaders = Loaders(
        TrainLoader(drawn, plan, 0, 0, team), tuple(drawn), ImageSpec(channels=3), 1.0
    )
    config = Config(fit=FitConfig(fsdp=fsdp))
    return Trainer(loaders, plan, config, RunDir(folder), Clock(), StopRequest())


def gradient(team: Team, plan: Plan, folder: Path) -> NDArray[np.float64]:
    """Return the gradient of the first batch over all weights, as training computes it."""
    trainer = trainer_of(team, plan, folder)
    trainer._train_step(next(iter(trainer.loaders.train.batches(1))))
    grads = [p.grad.flatten() for p in trainer.segmenter.parameters() if p.grad is not None]
    return torch.cat(grads).numpy()  # (N,)


def stepped(
    team: Team, folder: Path, plan: Plan = THREE, *, fsdp: bool
) -> dict[str, NDArray[np.generic]]:
    """Train three steps, saving and going on after the second."""
    folder.mkdir(parents=True, exist_ok=True)
    before = trainer_of(team, plan, folder, fsdp=fsdp)
    for batch in itertools.islice(before.loaders.train.batches(1), 2):
        before._train_step(batch)
        before.batches_done += 1
    before.stop.number = signal.SIGTERM
    before._save(best=False)
    team.total(0)  # all wait for the file
    return resumed(team, folder, plan, fsdp=fsdp)


def saved(team: Team, folder: Path, *, fsdp: bool) -> dict[str, NDArray[np.generic]]:
    """Train two steps, save when nothing is due, then the best weights alone."""
    folder.mkdir(parents=True, exist_ok=True)
    trainer = trainer_of(team, replace(THREE, ema=False), folder, fsdp=fsdp)
    for batch in itertools.islice(trainer.loaders.train.batches(1), 2):
        trainer._train_step(batch)
    gathered: list[int] = []
    right = Trained.gather

    def counting(self: Trained) -> None:
        gathered.append(trainer.step)
        right(self)

    Trained.gather = counting  # type: ignore[method-assign]
    trainer._save(best=False)
    idle = len(gathered)
    trainer._save(best=team.leads)  # the first one's word counts
    Trained.gather = right  # type: ignore[method-assign]
    team.total(0)  # all wait for the file
    assert not trainer.folder.last.exists()
    best = load_file(trainer.folder.weights)
    return {
        "gathered": np.array([idle, len(gathered)]),
        "best": np.concatenate([best[name].flatten() for name in sorted(best)]),
    }


def resumed(
    team: Team, folder: Path, plan: Plan = THREE, *, fsdp: bool
) -> dict[str, NDArray[np.generic]]:
    """Go on from what was saved, and train the third step."""
    after = trainer_of(team, plan, folder, fsdp=fsdp)
    after.resume()
    assert after.step == 2
    *_, third = itertools.islice(after.loaders.train.batches(1), 3)
    after._train_step(third)
    after.trained.gather()
    own = sum(_local(p).numel() for p in after.trained.network.parameters())
    return {
        "weights": flat(after.segmenter),
        "average": flat(after._kept()),
        "own": np.array(own),
    }


def flat(network: torch.nn.Module) -> NDArray[np.float64]:
    """Return all weights, one after the other."""
    return torch.cat([p.flatten() for p in network.parameters()]).detach().numpy()  # (N,)


def _local(p: torch.Tensor) -> torch.Tensor:
    return p.to_local() if isinstance(p, DTensor) else p


def findings(team: Team, folder: Path) -> dict[str, NDArray[np.generic]]:
    """Return what must not depend on the number of processes, and a control that must."""
    found: dict[str, NDArray[np.generic]] = {}
    found["five"] = gradient(team, PLAN, folder)  # 3 and 2 images
    found["four"] = gradient(team, replace(PLAN, batch=4), folder)
    right = TrainLoader.weight
    TrainLoader.weight = lambda *_: 1.0  # type: ignore[method-assign]
    found["unweighted"] = gradient(team, PLAN, folder)
    TrainLoader.weight = right  # type: ignore[method-assign]
    trainer = trainer_of(ALONE, PLAN, folder)
    with torch.no_grad():  # the other process holds other weights, until they are aligned
        for p in trainer.segmenter.parameters():
            p.add_(0.1 * team.rank)
    team.align(trainer.segmenter)
    drawn = samples(7)
    result = validate(
        trainer._predictor(), drawn[:5], make_loss(LossConfig(), "bce"), drawn[5:], team
    )
    found["figures"] = np.array([result.loss, result.dice, result.pred_fraction, result.prob_max])
    found |= {f"levels{i}": levels for i, levels in enumerate(result.levels)}
    found["led"] = np.array(team.led(3.0 + team.rank, np.nan))
    found["largest"] = np.array(team.largest(team.rank, -np.inf))
    for fsdp in (False, True):
        steps = stepped(team, folder / f"steps-{fsdp}", fsdp=fsdp)
        steps |= saved(team, folder / f"saved-{fsdp}", fsdp=fsdp)
        found |= {f"{name} {fsdp}": values for name, values in steps.items()}
        if team.size > 1:
            steps = stepped(team, folder / f"staged-{fsdp}", STAGED, fsdp=fsdp)
            found[f"staged {fsdp}"] = steps["weights"]
    found["told"] = np.frombuffer(team.told("ä" if team.leads else "other").encode(), np.uint8)
    return found


def main() -> None:
    """Join the others and write down what is found."""
    rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size)}
    team = join_team(FileStore(str(folder / "store"), size), rank, size)
    np.savez(folder / f"{rank}.npz", **findings(team, folder / "runs"))  # type: ignore[arg-type]
    leave_team()


if __name__ == "__main__":
    main()
