"""segmentation-models-pytorch as its binary example trains it.

ResNet-34 U-Net, soft Dice, Adam 2e-4 with cosine annealing to 1e-5, batches of 16 at 256 px, no
further augmentation (examples/binary_segmentation_intro.ipynb). Where the example resizes its
photographs to 256 px, crops keep the resolution that is scored. The other variant starts the
encoder of the same U-Net from ImageNet weights, EfficientNet-lite0's, which need no download.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from calco.nets.encoders import DEFAULT_ENCODER
from calco.nets.weights import find_weights, load_weights
from contenders.courses import Course, Labelled
from contenders.loop import Stopwatch, TorchLearner, race
from contenders.records import Job, Outcome

CROP_PX = 256
BATCH = 16
RATE, LAST_RATE = 2e-4, 1e-5
STRIDE_PX = 32
# what smp.encoders.get_preprocessing_params returns for resnet34, in uint8 units
RESNET_MEAN = tuple(255 * v for v in (0.485, 0.456, 0.406))
RESNET_STD = tuple(255 * v for v in (0.229, 0.224, 0.225))


def compete(job: Job, course: Course) -> Outcome:
    """Run the race from random or, as ``smp-imagenet``, from ImageNet weights."""
    torch.manual_seed(job.seed)
    clock = Stopwatch(job.budget_s)
    pretrained = job.contender == "smp-imagenet"
    encoder = "tu-tf_efficientnet_lite0" if pretrained else "resnet34"
    # encoder_weights=None: smp would download them
    network = smp.create_model("unet", encoder, encoder_weights=None, in_channels=3, classes=1)
    mean, std = torch.tensor(RESNET_MEAN), torch.tensor(RESNET_STD)
    if pretrained:
        found = find_weights(DEFAULT_ENCODER)
        load_weights(network.encoder, 3, found)
        mean, std = torch.tensor(found.mean), torch.tensor(found.std)
    mean, std = mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1)

    def logits(image: NDArray[np.uint8]) -> Tensor:
        x = torch.from_numpy(as_rgb(image).transpose(2, 0, 1)[None].copy())  # (1, 3, H, W)
        x = (x - mean) / std
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % STRIDE_PX, 0, -height % STRIDE_PX), mode="replicate")
        padded: Tensor = network(x)
        return padded

    crops = batches(course.read("train"), np.random.default_rng(job.seed))
    learner = TorchLearner(
        network=network,
        loss=smp.losses.DiceLoss(smp.losses.BINARY_MODE, from_logits=True),
        optimizer=torch.optim.Adam(network.parameters(), lr=RATE),
        batches=(((images - mean) / std, masks) for images, masks in crops),
        rate=cosine,
        logits=logits,
        settings=f"U-Net on {encoder}, {'ImageNet' if pretrained else 'random'} weights, Dice,"
        f" Adam {RATE:g}, cosine, batch {BATCH}, crop {CROP_PX}",
    )
    return race(learner, course, clock)


def cosine(fraction: float) -> float:
    """Return the learning rate: half a cosine from first to last.

    Example:
        >>> cosine(0.0), cosine(1.0)
        (0.0002, 1e-05)
    """
    return LAST_RATE + (RATE - LAST_RATE) * (1 + math.cos(math.pi * fraction)) / 2


def batches(
    images: Sequence[Labelled], rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield shuffled batches for ever: images (B, 3, H, W) and masks (B, 1, H, W) float32."""
    while True:
        order = rng.permutation(len(images))
        for start in range(0, len(order), BATCH):
            pairs = [crop(images[i], rng) for i in order[start : start + BATCH]]
            pixels = np.stack([image for image, _ in pairs]).transpose(0, 3, 1, 2)
            masks = np.stack([mask for _, mask in pairs])[:, None]
            yield torch.from_numpy(pixels).float(), torch.from_numpy(masks).float()


def crop(sample: Labelled, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Cut a random square, mirrored at the border of images that are smaller."""
    image, mask = as_rgb(sample.image), sample.true.astype(np.uint8)
    below, right = (max(0, CROP_PX - side) for side in mask.shape)
    if below or right:
        image, mask = (
            cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_REFLECT_101)
            for pixels in (image, mask)
        )
    row, col = (int(rng.integers(side - CROP_PX + 1)) for side in mask.shape)
    window = (slice(row, row + CROP_PX), slice(col, col + CROP_PX))
    return image[window], mask[window]


def as_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat a grey image, (H, W, 1), three times."""
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
