"""nnU-Net 2 on the processor, its 2d configuration, as far as it gets in the time.

Fingerprint, plan and preprocessing are its own and on the clock; writing the images under the
names that it wants is not. Its 1000 epochs of 250 iterations would take weeks here, so a trainer
of ours makes as many of its iterations as fit, and its polynomial schedule follows the clock, or
the learning rate would never leave the start. Predictions are its own: windows, Gaussian weights,
mirroring, original size, last weights. Mirroring is left out during training alone, off the clock.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprints,
    plan_experiments,
    preprocess,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from numpy.typing import NDArray

from contenders.courses import Course, Labelled
from contenders.loop import Stopwatch, race
from contenders.records import THREADS, Job, Outcome

DATASET_ID = 1
DATASET = f"Dataset{DATASET_ID:03d}_Contest"
CONFIGURATION = "2d"
PLANS = "nnUNetPlans"
EXPONENT = 0.9  # of its PolyLRScheduler


def compete(job: Job, course: Course, work: Path) -> Outcome:
    """Plan, preprocess, run the race.

    Args:
        job: Says the seed and the budget.
        course: Its training part is all that nnU-Net is shown.
        work: New folder for its files.
    """
    for name in ("raw", "preprocessed", "results"):
        (work / name).mkdir(parents=True)
        os.environ[f"nnUNet_{name}"] = str(work / name)
    write_dataset(course.read("train"), work / "raw" / DATASET)
    torch.manual_seed(job.seed)
    np.random.seed(job.seed)  # what its augmentation draws from
    clock = Stopwatch(job.budget_s)
    extract_fingerprints([DATASET_ID], num_processes=THREADS)
    plan_experiments([DATASET_ID])
    preprocess([DATASET_ID], configurations=(CONFIGURATION,), num_processes=(THREADS,))
    # augmentation in this process: helpers would share the same processors; planning wants some
    os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112 - that is its name
    torch.set_num_threads(THREADS)  # planning changes it
    return race(Trained(work / "preprocessed" / DATASET), course, clock)


def write_dataset(images: Sequence[Labelled], folder: Path) -> None:
    """Write images and masks under the names that nnU-Net reads."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for number, sample in enumerate(images):
        # OpenCV's order is blue first; a file of one channel is written as it is
        pixels = sample.image[..., ::-1] if sample.image.shape[2] == 3 else sample.image
        cv2.imwrite(str(folder / "imagesTr" / f"{number:04d}_0000.png"), pixels)
        cv2.imwrite(str(folder / "labelsTr" / f"{number:04d}.png"), sample.true.astype(np.uint8))
    channels = ("R", "G", "B") if images[0].image.shape[2] == 3 else ("grey",)
    description = {
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": {"background": 0, "foreground": 1},
        "numTraining": len(images),
        "file_ending": ".png",
    }
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    # the referee validates; nnU-Net's own loader of validation cases wants one all the same
    cases = [f"{number:04d}" for number in range(len(images))]
    split = [{"train": cases, "val": cases[:1]}]
    preprocessed = folder.parents[1] / "preprocessed" / DATASET
    preprocessed.mkdir(parents=True)
    (preprocessed / "splits_final.json").write_text(json.dumps(split), encoding="utf-8")


class Trained:
    """nnU-Net's trainer, one iteration at a time; see ``Learner``.

    Args:
        folder: With its plans and preprocessed images.
    """

    marks = 4  # for the figure alone: one takes minutes, and the last weights count anyway

    def __init__(self, folder: Path) -> None:
        plans = _read(folder / f"{PLANS}.json") | {"continue_training": False}
        description = _read(folder / "dataset.json")
        self.trainer: Any = nnUNetTrainer(plans, CONFIGURATION, 0, description, torch.device("cpu"))
        self.trainer.on_train_start()
        manager = self.trainer.configuration_manager
        size = " x ".join(map(str, manager.patch_size))
        self.settings = (
            f"{CONFIGURATION} plan: patch {size}, batch {manager.batch_size}, Dice and"
            f" cross-entropy, SGD {self.trainer.initial_lr:g}, polynomial"
        )

    def step(self, fraction: float) -> None:
        """Make one of its iterations at the rate its schedule has after that share."""
        for group in self.trainer.optimizer.param_groups:
            group["lr"] = self.trainer.initial_lr * (1 - fraction) ** EXPONENT
        self.trainer.set_deep_supervision_enabled(True)
        self.trainer.network.train()
        self.trainer.train_step(next(self.trainer.dataloader_train))

    def prob(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Predict without mirroring, a quarter of the time."""
        return self._predict(image, mirroring=False)

    def final_prob(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Predict by its defaults."""
        return self._predict(image, mirroring=True)

    def keep(self) -> None:
        """Keep nothing: nnU-Net delivers its last weights."""

    def restore(self) -> None:
        """Leave the last weights."""

    def _predict(self, image: NDArray[np.uint8], *, mirroring: bool) -> NDArray[np.float32]:
        trainer = self.trainer
        trainer.set_deep_supervision_enabled(False)
        trainer.network.eval()
        predictor = nnUNetPredictor(
            use_mirroring=mirroring, device=torch.device("cpu"), allow_tqdm=False
        )
        predictor.manual_initialization(
            trainer.network,
            trainer.plans_manager,
            trainer.configuration_manager,
            [trainer.network.state_dict()],
            trainer.dataset_json,
            type(trainer).__name__,
            trainer.inference_allowed_mirroring_axes,
        )
        planes = image.transpose(2, 0, 1)[:, None].astype(np.float32)  # (C, 1, H, W), as it reads
        spacing = {"spacing": (999, 1, 1)}  # what its reader says of any picture
        _, probs = predictor.predict_single_npy_array(
            planes, spacing, save_or_return_probabilities=True
        )  # (2, 1, H, W)
        return np.asarray(probs[1, 0], np.float32)


def _read(path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return tree
