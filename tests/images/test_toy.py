import hashlib
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from calco.images.otsu import otsu_mask
from calco.images.toy import EMPTY_EVERY, SIZES, TWIN_EVERY, TWIN_OF, draw_sample, write_toy

Drawn = tuple[NDArray[np.uint8], NDArray[np.bool_]]


@pytest.fixture(scope="module")
def drawn() -> list[Drawn]:
    return [draw_sample(0, index) for index in range(80)]


def dice(pred: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    area = int(pred.sum() + true.sum())
    return 2 * int((pred & true).sum()) / area if area else 1.0


def digest(sample: Drawn) -> str:
    return hashlib.sha256(sample[0].tobytes() + sample[1].tobytes()).hexdigest()


def test_shapes_and_types(drawn: list[Drawn]) -> None:
    for image, mask in drawn:
        assert image.shape == (*mask.shape, 3)
        assert image.dtype == np.uint8
        assert mask.dtype == np.bool_
    assert {mask.shape for _, mask in drawn} == set(SIZES)


def test_a_sample_is_a_pure_function_of_seed_and_index(drawn: list[Drawn]) -> None:
    assert [digest(draw_sample(0, i)) for i in (7, 3, 15)] == [digest(drawn[i]) for i in (7, 3, 15)]
    assert len({digest(s) for s in drawn} | {digest(draw_sample(1, 0))}) == len(drawn) + 1


def test_some_images_hold_debris_only(drawn: list[Drawn]) -> None:
    empty = [i for i, (_, mask) in enumerate(drawn) if not mask.any()]
    assert empty == [EMPTY_EVERY - 1, 2 * EMPTY_EVERY - 1, 3 * EMPTY_EVERY - 1]  # 79 is a twin
    assert all(np.ptp(drawn[i][0]) > 60 for i in empty)


def test_foreground_is_neither_rare_nor_everything(drawn: list[Drawn]) -> None:
    shares = [float(mask.mean()) for _, mask in drawn if mask.any()]
    assert 0.1 < np.mean(shares) < 0.2
    assert 0.005 < min(shares) <= max(shares) < 0.45


def test_nuclei_touch(drawn: list[Drawn]) -> None:
    """Merged components are much larger than the median nucleus."""
    merged = 0
    for _, mask in drawn:
        areas = cv2.connectedComponentsWithStats(mask.astype(np.uint8))[2][1:, cv2.CC_STAT_AREA]
        merged += int((areas > 3 * np.pi * 9**2).sum())
    assert merged > len(drawn)


def test_twins_are_brighter_near_copies(drawn: list[Drawn]) -> None:
    for index in range(TWIN_EVERY - 1, len(drawn), TWIN_EVERY):
        (twin, twin_mask), (image, mask) = drawn[index], drawn[index - TWIN_OF]
        np.testing.assert_array_equal(twin_mask, mask)
        difference = twin.astype(int) - image
        assert 1 < difference.mean() < 14
        assert np.corrcoef(twin.ravel(), image.ravel())[0, 1] > 0.98
    stranger = drawn[TWIN_EVERY][0]
    assert stranger.shape != twin.shape or np.corrcoef(stranger.ravel(), twin.ravel())[0, 1] < 0.9


def test_otsu_fails_with_either_polarity(drawn: list[Drawn]) -> None:
    scores = [
        [dice(otsu_mask(image, bright), mask) for image, mask in drawn] for bright in (True, False)
    ]
    assert max(np.mean(scores, axis=1)) < 0.6
    assert np.mean(np.max(scores, axis=0)) < 0.7  # even told each image's polarity


def test_the_edges_of_nuclei_can_be_seen(drawn: list[Drawn]) -> None:
    """Truth is decidable: across the outline colour changes by more than the noise."""
    for image, mask in drawn:
        if not mask.any():
            continue
        small = mask.astype(np.uint8)
        inner = (small - cv2.erode(small, np.ones((5, 5), np.uint8))).astype(bool)
        outer = (cv2.dilate(small, np.ones((5, 5), np.uint8)) - small).astype(bool)
        step = np.abs(image[inner].mean(axis=0) - image[outer].mean(axis=0)).max()
        assert step > 8


def test_the_written_folder_holds_what_was_drawn(tmp_path: Path, drawn: list[Drawn]) -> None:
    folder = write_toy(tmp_path / "toy é", n=5, seed=0)
    names = [f"{i:04d}.png" for i in range(5)]
    for part in ("images", "masks"):
        assert sorted(p.name for p in (folder / part).iterdir()) == names
    for name, (image, mask) in zip(names, drawn, strict=False):
        stored = cv2.imdecode(np.fromfile(folder / "images" / name, np.uint8), cv2.IMREAD_COLOR_RGB)
        truth = cv2.imdecode(np.fromfile(folder / "masks" / name, np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(stored, image)
        np.testing.assert_array_equal(truth, np.where(mask, 255, 0))


def test_drawing_is_quick() -> None:
    seconds = []
    for index in range(20):
        start = time.process_time()
        draw_sample(5, index)
        seconds.append(time.process_time() - start)
    assert np.median(seconds) < 0.1  # 8 ms undisturbed; slack for a busy machine
