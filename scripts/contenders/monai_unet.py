"""MONAI's UNet as its 2D tutorial trains it (2d_segmentation/torch/unet_training_dict.py).

Residual U-Net of 16 to 256 channels, intensities scaled to [0, 1] per image, four crops of 96 px
of each of two images, half of them centred on foreground, turned by 90 degrees half of the time,
Adam 1e-3 at a constant rate, sliding windows of 96 px, the best weights on validation. The loss is
DiceCELoss. Everything that is the same in every epoch is cached, as MONAI's guide to fast training
says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader
from monai.data.utils import list_data_collate
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    DeleteItemsd,
    FgBgToIndicesd,
    RandCropByPosNegLabeld,
    RandRotate90d,
    ScaleIntensity,
    ScaleIntensityd,
)
from monai.utils import set_determinism
from numpy.typing import NDArray
from torch import Tensor

from contenders.courses import Course, Labelled
from contenders.loop import Stopwatch, TorchLearner, race
from contenders.records import Job, Outcome

CROP_PX = 96
IMAGES = 2
CROPS = 4
RATE = 1e-3
WINDOWS = 4  # at a time


def compete(job: Job, course: Course) -> Outcome:
    """Run the race."""
    set_determinism(job.seed)
    clock = Stopwatch(job.budget_s)
    images = course.read("train")
    channels = images[0].image.shape[2]
    network = UNet(
        spatial_dims=2,
        in_channels=channels,
        out_channels=1,
        channels=(16, 32, 64, 128, 256),
        strides=(2, 2, 2, 2),
        num_res_units=2,
    )
    scale = ScaleIntensity()

    def logits(image: NDArray[np.uint8]) -> Tensor:
        x = torch.as_tensor(scale(as_planes(image)))[None]  # (1, C, H, W)
        whole = sliding_window_inference(x, (CROP_PX, CROP_PX), WINDOWS, network)
        return torch.as_tensor(whole)

    learner = TorchLearner(
        network=network,
        loss=DiceCELoss(sigmoid=True),
        optimizer=torch.optim.Adam(network.parameters(), RATE),
        batches=batches(images),
        rate=lambda _: RATE,
        logits=logits,
        settings=f"UNet 16 to 256 channels, 2 residual units, DiceCE, Adam {RATE:g}, constant,"
        f" batch {IMAGES * CROPS}, crop {CROP_PX}",
    )
    return race(learner, course, clock)


def batches(images: Sequence[Labelled]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield shuffled batches for ever: images (B, C, 96, 96) and masks (B, 1, 96, 96) float32."""
    transforms = Compose(
        [
            ScaleIntensityd(keys=["img"]),  # masks are 0 and 1 already
            FgBgToIndicesd(keys=["seg"]),  # the last that is cached
            RandCropByPosNegLabeld(
                keys=["img", "seg"],
                label_key="seg",
                spatial_size=[CROP_PX, CROP_PX],
                pos=1,
                neg=1,
                num_samples=CROPS,
                fg_indices_key="seg_fg_indices",
                bg_indices_key="seg_bg_indices",
            ),
            DeleteItemsd(keys=["seg_fg_indices", "seg_bg_indices"]),  # of unequal length
            RandRotate90d(keys=["img", "seg"], prob=0.5, spatial_axes=[0, 1]),
        ]
    )
    pairs = [
        {"img": as_planes(i.image), "seg": i.true[None].astype(np.float32)} for i in images
    ]  # (C, H, W), (1, H, W)
    cached = CacheDataset(pairs, transforms, progress=False)
    loader = DataLoader(
        cached, batch_size=IMAGES, shuffle=True, num_workers=0, collate_fn=list_data_collate
    )
    while True:
        for batch in loader:
            yield batch["img"], batch["seg"]


def as_planes(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Put the channels first: (C, H, W) float32."""
    return np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)
