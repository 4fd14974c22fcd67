from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from calco.files import to_json
from calco.records import (
    Assignment,
    Fingerprint,
    ImageSpec,
    MaskCode,
    Quantiles,
    Sample,
    SampleIndex,
    Split,
)
from calco.stages.fingerprint import MOST_MEASURED, take_fingerprint
from calco.training.cache import Held


def split_of(samples: Sequence[Held], group_size: int = 1, channels: int = 3) -> Split:
    """Assign all samples to training, in groups of neighbours."""
    known = tuple(Sample(s.id, Path(f"{s.id}.png")) for s in samples)
    index = SampleIndex(Path(), "made up", known, ImageSpec(channels), MaskCode("values", (255,)))
    groups = (f"g{number // group_size}" for number in range(len(known)))
    assigned = (Assignment(s.id, g, "train") for s, g in zip(known, groups, strict=True))
    return Split(index, tuple(assigned))


def sample_of(number: int, mask: NDArray[np.uint8], levels: tuple[int, int] = (50, 200)) -> Held:
    """Show a mask in two grey levels: background, foreground."""
    image = np.where(mask[..., None] > 0, levels[1], levels[0]).repeat(3, axis=2)
    return Held(f"s{number:04d}", image.astype(np.uint8), mask)


def rectangle(height: int, width: int, size: tuple[int, int] = (64, 64)) -> NDArray[np.uint8]:
    mask = np.zeros(size, np.uint8)
    mask[8 : 8 + height, 8 : 8 + width] = 1
    return mask


def varied(count: int = 24) -> list[Held]:
    """Draw rectangles on noise; every third mask is empty."""
    samples = []
    for number in range(count):
        rng = np.random.default_rng(number)
        height, width = (int(n) for n in rng.integers(1, 40, 2))
        mask = rectangle(height, width, (64, 50 + number))
        mask *= number % 3 > 0
        noise = rng.integers(0, 90, (*mask.shape, 3))
        samples.append(Held(f"s{number:04d}", (noise + 90 * mask[..., None]).astype("u1"), mask))
    return samples


def test_figures_by_hand() -> None:
    samples = [
        sample_of(0, rectangle(2, 40)),  # 80 of 4096 pixels, 2 px thick
        sample_of(1, rectangle(10, 10, (128, 64))),  # 100 of 8192 pixels
        sample_of(2, rectangle(0, 0)),
        sample_of(3, rectangle(0, 0)),
    ]
    found = take_fingerprint(samples, split_of(samples, group_size=2))
    assert (found.n_images, found.n_measured, found.n_groups, found.channels) == (4, 4, 2, 3)
    assert found.height_px.mid == found.width_px.mid == 64
    assert found.width_px == Quantiles(64, 64, 64)
    assert found.height_px.high == pytest.approx(64 + 0.85 * 64)  # between the third and the fourth
    assert found.empty_fraction == 0.5
    assert found.foreground_fraction.mid == pytest.approx((80 / 4096 + 100 / 8192) / 2)
    assert found.mean_foreground_fraction == pytest.approx((80 / 4096 + 100 / 8192) / 4)
    assert found.blank_tile_fraction == 0.5
    assert found.n_objects == Quantiles(1, 1, 1)
    of_line, of_square = (2 * math.sqrt(area / math.pi) for area in (80, 100))
    assert found.diameter_px.mid == pytest.approx((of_line + of_square) / 2)
    assert found.thickness_px.mid == 2
    assert found.contrast == Quantiles(1, 1, 1)
    assert found.intensity == Quantiles(50, 50, 50)
    assert found.half_scale_dice == 1  # both lie on even pixels


def test_intensity_weighs_images_alike() -> None:
    small = sample_of(0, np.zeros((4, 4), np.uint8), (10, 10))
    large = sample_of(1, np.zeros((90, 90), np.uint8), (200, 200))
    found = take_fingerprint([small, large], split_of([small, large]))
    assert found.intensity == Quantiles(10, 10, 200)


def test_half_of_the_images_are_half_whatever_rounding_says() -> None:
    samples = [sample_of(n, np.zeros((2, 2), np.uint8), (n, n)) for n in range(12)]
    assert take_fingerprint(samples, split_of(samples)).intensity == Quantiles(0, 5, 11)


def test_masks_without_background_have_no_contrast_and_do_not_count() -> None:
    samples = [sample_of(0, np.ones((20, 20), np.uint8)), sample_of(1, rectangle(9, 9))]
    assert take_fingerprint(samples, split_of(samples)).contrast == Quantiles(1, 1, 1)


def test_dark_and_bright_objects_show_in_the_contrast() -> None:
    samples = [sample_of(n, rectangle(9, 9), (90, 200 if n % 2 else 20)) for n in range(40)]
    contrast = take_fingerprint(samples, split_of(samples)).contrast
    assert (contrast.low, contrast.high) == (-1, 1)


def test_thin_structures_show_among_thick_ones() -> None:
    thick = [sample_of(n, rectangle(30, 30)) for n in range(10)]
    thin = [sample_of(n, rectangle(1, 50)) for n in range(10, 20)]
    without = take_fingerprint(thick, split_of(thick))
    with_some = take_fingerprint(thick + thin, split_of(thick + thin))
    assert without.thickness_px.low == 30
    assert with_some.thickness_px.low == 1
    assert with_some.half_scale_dice == pytest.approx(0.5)  # lines of one pixel are lost


def test_neither_order_nor_threads_change_a_figure() -> None:
    samples = varied()
    split = split_of(samples)
    first = take_fingerprint(samples, split)
    shuffled = [samples[i] for i in np.random.default_rng(0).permutation(len(samples))]
    for order in (samples, samples[::-1], shuffled):
        for threads in (1, 2, 7):
            assert take_fingerprint(order, split, threads) == first
    fewer = take_fingerprint(samples[:-1], split)
    assert fewer != first  # the negative control


def test_every_figure_can_change() -> None:
    samples = varied()
    first = take_fingerprint(samples, split_of(samples))
    others = []
    for sample in samples[:-2]:
        mask = sample.mask[::3, ::3].copy()
        mask[-1, -1] = 1
        others.append(Held(sample.id, np.repeat(sample.image[::3, ::3, :1] // 2, 5, 2), mask))
    second = take_fingerprint(others, split_of(others, channels=5))
    changed = {
        f.name for f in fields(Fingerprint) if getattr(first, f.name) != getattr(second, f.name)
    }
    assert {f.name for f in fields(Fingerprint)} - changed == set()


def test_many_images_are_sampled_evenly_in_any_order() -> None:
    dot = np.ones((3, 4), np.uint8)
    samples = [sample_of(n, dot * np.uint8(n < 325), (n % 99, 200)) for n in range(650)]
    found = take_fingerprint(samples, split_of(samples))
    assert (found.n_images, found.n_measured) == (650, MOST_MEASURED)
    assert found.empty_fraction == 0.5
    assert found.n_groups == 650
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(650)
        again = take_fingerprint([samples[i] for i in order], split_of(samples))
        assert to_json(again) == to_json(found)


def test_sizes_are_those_of_all_images() -> None:
    measured = set(np.linspace(0, 699, MOST_MEASURED).round().astype(int).tolist())
    sides = [3 if n in measured else 2 for n in range(700)]
    samples = [sample_of(n, np.ones((s, s), np.uint8)) for n, s in enumerate(sides)]
    found = take_fingerprint(samples, split_of(samples))
    assert found.height_px == found.width_px == Quantiles(2, 2, 3)
    assert found.thickness_px.low == 3  # the control: only those of 3 px were measured


def test_other_parts_of_the_split_do_not_count() -> None:
    samples = varied()
    found = take_fingerprint(samples[:10], split_of(samples, group_size=4))
    assert found.n_images == 10
    assert found.n_groups == 3
    assert to_json(found) == to_json(
        take_fingerprint(samples[:10], split_of(samples[:10], group_size=4))
    )


def test_empty_masks_leave_gaps() -> None:
    samples = [sample_of(n, np.zeros((20, 30), np.uint8)) for n in range(3)]
    found = take_fingerprint(samples, split_of(samples))
    assert found.empty_fraction == found.blank_tile_fraction == 1
    assert found.mean_foreground_fraction == 0
    gaps = (
        found.foreground_fraction,
        found.n_objects,
        found.diameter_px,
        found.thickness_px,
        found.contrast,
        found.texture_px,
    )
    assert all(math.isnan(value) for gap in gaps for value in (gap.low, gap.mid, gap.high))
    assert math.isnan(found.half_scale_dice)
    assert math.isnan(found.quarter_scale_dice)
    assert found.intensity.mid == 50


def test_one_sample_of_one_pixel() -> None:
    sample = sample_of(0, np.ones((1, 1), np.uint8))
    found = take_fingerprint([sample], split_of([sample]))
    assert found.thickness_px == Quantiles(1, 1, 1)
    assert found.foreground_fraction == Quantiles(1, 1, 1)
    assert math.isnan(found.contrast.mid)


def test_mapped_pixels_are_measured_as_those_in_memory(tmp_path: Path) -> None:
    samples = varied(6)
    mapped = []
    for number, sample in enumerate(samples):
        planes = []
        for name, array in (("image", sample.image), ("mask", sample.mask)):
            path = tmp_path / f"{number}{name}"
            path.write_bytes(array.tobytes())
            planes.append(np.memmap(path, np.uint8, "r", shape=array.shape))
        mapped.append(Held(sample.id, *planes))
    split = split_of(samples)
    assert take_fingerprint(mapped, split) == take_fingerprint(samples, split)
