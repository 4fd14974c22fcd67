"""Batches are pure in (seed, epoch, index), whatever the workers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from calco.errors import CalcoError
from calco.records import NetworkPlan, Plan
from calco.training.cache import Held
from calco.training.dataset import (
    FOCUS_POINTS,
    MIN_STEPS_PER_EPOCH,
    Batch,
    Crops,
    Cut,
    EpochBatches,
    TrainLoader,
    crop_feed,
)
from calco.training.team import Team

NETWORK = NetworkPlan("unet", 3, (0.0,) * 3, (255.0,) * 3)
PLAN = Plan(
    NETWORK, 32, None, 4, 1, None, "bce_dice", "adamw", 1e-3, 0, "cosine", True, 1, 0.5, "fp32"
)


def samples(count: int, side_px: int = 48) -> list[Held]:
    rng = np.random.default_rng(0)
    return [
        Held(
            f"s{i}",
            rng.integers(0, 256, (side_px, side_px, 3), dtype=np.uint8),
            (rng.random((side_px, side_px)) < 0.2).astype(np.uint8),
        )
        for i in range(count)
    ]


def digest(batches: Iterable[Batch]) -> list[str]:
    return [
        hashlib.sha256(b"".join(part.numpy().tobytes() for part in batch)).hexdigest()
        for batch in batches
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_never_change_a_batch(workers: int) -> None:
    alone = TrainLoader(samples(6), PLAN, seed=3, workers=0)
    helped = TrainLoader(samples(6), PLAN, seed=3, workers=workers)
    for epoch in (1, 2):
        assert digest(helped.batches(epoch)) == digest(alone.batches(epoch))


def test_epochs_and_seeds_differ() -> None:
    loader = TrainLoader(samples(6), PLAN, seed=3, workers=0)
    other = TrainLoader(samples(6), PLAN, seed=4, workers=0)
    first = digest(loader.batches(1))
    assert not set(first) & set(digest(loader.batches(2)))
    assert not set(first) & set(digest(other.batches(1)))


def test_skipping_continues_where_it_stopped() -> None:
    loader = TrainLoader(samples(6), PLAN, seed=3, workers=0)
    whole = digest(loader.batches(2))
    assert digest(loader.batches(2, skip=5)) == whole[5:]


def test_timed_steps_get_crops_like_those_of_training() -> None:
    cut = Cut(PLAN.crop_px, None, PLAN.augment, PLAN.focus)
    images, masks = next(crop_feed(samples(6), cut, seed=3)(24, 5))
    assert images.shape == (5, 3, 24, 24)
    assert masks.shape == (5, 1, 24, 24)
    crops = Crops(samples(6), replace(PLAN, crop_px=24), seed=3)
    for visit in range(5):
        image, mask, _ = crops[1, visit]
        assert image.equal(images[visit])
        assert mask.equal(masks[visit])


def test_an_epoch_visits_every_sample_equally_often() -> None:
    order = EpochBatches(6, PLAN, seed=0)
    visits = [index % 6 for batch in order for _, index in batch]
    assert np.bincount(visits).tolist() == [len(visits) // 6] * 6
    assert len(order) >= MIN_STEPS_PER_EPOCH


def test_no_batch_is_tiny_and_none_is_dropped() -> None:
    order = EpochBatches(65, replace(PLAN, batch=16, resize_px=32), seed=0)
    sizes = [len(batch) for batch in order]
    assert sum(sizes) == 65
    assert sizes == [13] * 5  # a last batch of one would ruin batch statistics


def test_focus_points_are_foreground() -> None:
    crops = Crops(samples(2, side_px=200), PLAN, seed=0)
    for points, sample in zip(crops.focus_points, crops.samples, strict=True):
        assert points.shape == (FOCUS_POINTS, 2)
        assert sample.mask[points[:, 0], points[:, 1]].all()


def test_rare_foreground_is_seen_more_often_than_by_chance() -> None:
    mask = np.zeros((512, 512), np.uint8)
    mask[100:108, 300:308] = 1
    sample = Held("rare", np.zeros((512, 512, 3), np.uint8), mask)
    crops = Crops([sample], PLAN, seed=0)
    hits = sum(bool(crops[1, i][1].any()) for i in range(300)) / 300
    assert 0.28 < hits < 0.45  # a third by focus; by chance about 0.006


def test_empty_images_do_not_hide_the_foreground_of_others() -> None:
    full, *empty = samples(20)
    empty = [replace(sample, mask=np.zeros_like(sample.mask)) for sample in empty]
    crops = Crops([full, *empty], replace(PLAN, focus=0.5), seed=0)
    seen = [crops[1, i] for i in range(400)]
    assert all(bool(mask.any()) == (index == 0) for _, mask, index in seen)
    assert 0.45 < np.mean([index == 0 for *_, index in seen]) < 0.6  # by chance 0.05


def test_without_focus_each_image_has_its_own_turn() -> None:
    full, *empty = samples(4)
    empty = [replace(sample, mask=np.zeros_like(sample.mask)) for sample in empty]
    crops = Crops([full, *empty], replace(PLAN, focus=0.0), seed=0)
    assert [crops[1, i][2] for i in range(8)] == [0, 1, 2, 3, 0, 1, 2, 3]


def test_without_any_foreground_crops_lie_anywhere() -> None:
    empty = [replace(sample, mask=np.zeros_like(sample.mask)) for sample in samples(3)]
    crops = Crops(empty, replace(PLAN, focus=1.0), seed=0)
    assert [crops[1, i][2] for i in range(3)] == [0, 1, 2]


def test_resizing_shows_the_whole_image() -> None:
    plan = replace(PLAN, resize_px=32, augment=0.0)
    image, mask, index = Crops(samples(2), plan, seed=0)[1, 1]
    assert image.shape == (3, 32, 32)
    assert mask.shape == (1, 32, 32)
    assert index == 1
    assert set(np.unique(mask.numpy())) <= {0, 1}


@pytest.mark.parametrize("size", [2, 3])
def test_processes_share_the_batches_of_one(size: int) -> None:
    whole = list(EpochBatches(7, PLAN, seed=0))
    orders = [EpochBatches(7, PLAN, 0, Team(rank, size)) for rank in range(size)]
    parts = [[i for part in batch for i in part] for batch in zip(*orders, strict=True)]
    assert parts == whole
    assert [len(batch) for batch in whole] == orders[0].sizes


def test_weights_make_images_count_alike() -> None:
    """Five images in two parts: means over 3 and over 2, averaged, are the mean over 5."""
    plan = replace(PLAN, batch=5)
    loaders = [TrainLoader(samples(5), plan, 0, 0, Team(rank, 2)) for rank in (0, 1)]
    assert loaders[0].weight(0, 3) / 2 == pytest.approx(3 / 5)
    assert loaders[1].weight(0, 2) / 2 == pytest.approx(2 / 5)
    assert TrainLoader(samples(5), plan, 0, 0).weight(0, 5) == 1.0


def test_every_process_has_an_image_of_every_batch() -> None:
    """Seven images ten times, in batches of four: eighteen would have three or four each."""
    assert min(EpochBatches(7, PLAN, seed=0).sizes) == 3
    order = EpochBatches(7, PLAN, 0, Team(3, 4))
    assert (len(order), sum(order.sizes), min(order.sizes)) == (17, 70, 4)
    assert all(len(part) == 1 or len(part) == 2 for part in order)


def test_more_processes_than_images_in_a_batch_are_refused() -> None:
    with pytest.raises(CalcoError, match="one for each of 5 processes"):
        TrainLoader(samples(6), PLAN, 0, 0, Team(0, 5))
