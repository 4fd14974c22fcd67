import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calco.images.augment import _reach, _warp, augment, generator_for, resized

STRENGTHS = [0.0, 0.25, 0.5, 0.75, 1.0]


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def disc(size: int, row: float, col: float, radius: float) -> NDArray[np.uint8]:
    rows, cols = np.mgrid[:size, :size]
    return np.uint8(1) * np.asarray((rows - row) ** 2 + (cols - col) ** 2 < radius**2)


def bright_discs() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a picture that is bright exactly where its mask is set."""
    mask = np.maximum(disc(160, 60, 70, 26), disc(160, 120, 115, 22))
    return np.repeat((40 + 160 * mask)[..., None], 3, axis=2).astype(np.uint8), mask


def iou_of_halves(crop: NDArray[np.uint8], mask: NDArray[np.uint8]) -> float:
    """IoU of the brighter half of the crop's range with the mask, whichever polarity fits."""
    grey = crop.mean(axis=2)
    bright = grey > (grey.min() + grey.max()) / 2
    true = mask.astype(bool)
    return max(
        float((half & true).sum() / max((half | true).sum(), 1)) for half in (bright, ~bright)
    )


@pytest.mark.parametrize("strength", STRENGTHS)
def test_the_mask_stays_on_its_object(strength: float) -> None:
    image, mask = bright_discs()
    scores = []
    for seed in range(200):
        crop, truth = augment(image, mask, 128, strength, generator_for(seed, 0, 0))
        assert set(np.unique(truth)) <= {0, 1}
        if truth.sum() > 400:  # a sliver at the border is all edge
            scores.append(iou_of_halves(crop, truth))
    assert len(scores) > 150
    assert min(scores) > 0.9


def test_a_shifted_mask_would_be_noticed() -> None:
    image, mask = bright_discs()
    shifted = np.roll(mask, 4, axis=1)
    crops = [augment(image, shifted, 128, 0.5, generator_for(s, 0, 0)) for s in range(20)]
    assert max(iou_of_halves(crop, truth) for crop, truth in crops) < 0.9


def test_strength_zero_copies_pixels() -> None:
    image = noise(90, 120, 3)
    mask = (image[..., 0] > 127).astype(np.uint8)
    windows = {image[r : r + 64, c : c + 64].tobytes() for r in range(27) for c in range(57)}
    starts = set()
    for seed in range(50):
        crop, truth = augment(image, mask, 64, 0.0, generator_for(seed, 0, 0))
        assert crop.tobytes() in windows
        np.testing.assert_array_equal(truth, crop[..., 0] > 127)
        starts.add(crop.tobytes())
    assert len(starts) > 40


def test_strength_zero_without_room_is_the_identity() -> None:
    image = noise(64, 64, 1)
    mask = (image[..., 0] > 127).astype(np.uint8)
    crop, truth = augment(image, mask, 64, 0.0, generator_for(0, 0, 0))
    np.testing.assert_array_equal(crop, image)
    np.testing.assert_array_equal(truth, mask)


def test_small_images_are_mirrored_whole_into_the_crop() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    crop, _ = augment(image, np.zeros((3, 4), np.uint8), 8, 0.0, generator_for(3, 0, 0))
    pads = [
        cv2.copyMakeBorder(image, r, 5 - r, c, 4 - c, cv2.BORDER_REFLECT_101)
        for r in range(6)
        for c in range(5)
    ]
    assert any(np.array_equal(crop[..., 0], pad) for pad in pads)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 300, 1), (300, 1, 3), (5, 7, 5), (20, 33000, 3)])
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_any_size_and_channel_count_works(shape: tuple[int, int, int], strength: float) -> None:
    image = noise(*shape)
    mask = (image[..., 0] > 127).astype(np.uint8)
    for seed in range(5):
        crop, truth = augment(image, mask, 64, strength, generator_for(seed, 0, 0))
        assert crop.shape == (64, 64, shape[2])
        assert crop.dtype == np.uint8
        assert truth.shape == (64, 64)
        assert truth.dtype == np.uint8
        assert crop.flags.c_contiguous
        assert set(np.unique(truth)) <= {0, 1}


def test_only_the_window_the_crop_sees_is_read() -> None:
    """The window is an optimisation: warping the whole image must give the same."""
    mask = (noise(150, 170) > 127).astype(np.uint8)
    for seed in range(100):
        rng = generator_for(seed, 0, 0)
        matrix = np.column_stack([rng.normal(0, 1, (2, 2)), rng.uniform(-60, 200, 2)])
        whole = cv2.warpAffine(
            mask,
            matrix,
            (64, 64),
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        rows, cols = _reach(matrix, 64, mask.shape)
        local = matrix.copy()
        local[:, 2] -= cols.start, rows.start
        part = _warp(mask[rows, cols], local, 64, cv2.INTER_NEAREST)
        assert (part != whole).mean() < 0.002  # float32 rounding halfway between two pixels


def test_the_sample_is_a_pure_function_of_seed_epoch_and_index() -> None:
    image = noise(80, 80, 3)
    mask = (image[..., 0] > 127).astype(np.uint8)

    def crop_of(seed: int, epoch: int, index: int) -> bytes:
        crop, truth = augment(image, mask, 64, 0.5, generator_for(seed, epoch, index))
        return crop.tobytes() + truth.tobytes()

    assert crop_of(1, 2, 3) == crop_of(1, 2, 3)
    others = {crop_of(1, 2, 3), crop_of(2, 2, 3), crop_of(1, 3, 3), crop_of(1, 2, 4)}
    assert len(others | {crop_of(3, 2, 1), crop_of(2, 1, 3)}) == 6


def test_inputs_are_left_alone() -> None:
    image = noise(64, 64, 3)
    mask = (image[..., 0] > 127).astype(np.uint8)
    before = image.tobytes(), mask.tobytes()
    for seed in range(20):
        augment(image, mask, 64, 1.0, generator_for(seed, 0, 0))
    assert (image.tobytes(), mask.tobytes()) == before


@given(
    seed=st.integers(0, 10_000),
    strength=st.floats(0, 1),
    focus=st.tuples(st.integers(0, 99), st.integers(0, 139)),
)
def test_the_crop_contains_its_focus(seed: int, strength: float, focus: tuple[int, int]) -> None:
    mask = np.zeros((100, 140), np.uint8)
    row, col = focus
    mask[max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2] = 1  # survives nearest when zoomed
    image = np.zeros((100, 140, 1), np.uint8)
    _, truth = augment(image, mask, 32, strength, generator_for(seed, 0, 0), focus)
    assert truth.any()


def test_every_pixel_is_seen() -> None:
    ids = np.arange(40 * 50).reshape(40, 50)
    image = np.stack([ids // 256, ids % 256], axis=2).astype(np.uint8)
    seen = set()
    for seed in range(600):
        crop, _ = augment(image, np.zeros((40, 50), np.uint8), 32, 0.0, generator_for(seed, 0, 0))
        seen |= set((256 * crop[..., 0].astype(int) + crop[..., 1]).ravel().tolist())
    assert seen == set(range(2000))


def test_resized_keeps_mask_and_image_aligned() -> None:
    image, mask = bright_discs()
    for size in (40, 97, 160, 333):
        small, truth = resized(image, mask, size)
        assert (small.shape, truth.shape) == ((size, size, 3), (size, size))
        assert iou_of_halves(small, truth) > 0.93


def test_resized_averages_areas_and_takes_the_nearest_mask_pixel() -> None:
    image = np.array([[0, 100], [200, 100]], np.uint8)[..., None].repeat(3, axis=2)
    assert resized(image, np.ones((2, 2), np.uint8), 1)[0].ravel().tolist() == [100] * 3
    row = np.array([[0, 0, 1, 1, 1, 0]], np.uint8).repeat(6, axis=0)
    small = resized(row[..., None], row, 2)[1]  # centres at columns 1 and 4
    assert small.tolist() == [[0, 1], [0, 1]]


def test_one_channel_stays_one_channel_when_resized() -> None:
    assert resized(noise(9, 7, 1), np.zeros((9, 7), np.uint8), 16)[0].shape == (16, 16, 1)


@pytest.mark.parametrize("channels", [2, 4, 5, 13])
@pytest.mark.parametrize("size", [5, 64])  # areas averaged, and pixels interpolated
def test_every_channel_is_resized_as_if_alone(channels: int, size: int) -> None:
    image, mask = noise(30, 40, channels), np.zeros((30, 40), np.uint8)
    together = resized(image, mask, size)[0]
    assert together.shape == (size, size, channels)
    for channel in range(channels):
        alone = resized(image[..., channel : channel + 1], mask, size)[0]
        np.testing.assert_allclose(together[..., channel], alone[..., 0], atol=1, rtol=0)


@pytest.mark.parametrize("channels", [5, 13])
def test_many_channels_are_augmented_at_any_strength(channels: int) -> None:
    image = np.repeat(noise(40, 50, 1), channels, axis=2)
    mask = (image[..., 0] > 127).astype(np.uint8)
    untinted = [augment(image, mask, 32, 0.0, generator_for(s, 0, 0))[0] for s in range(5)]
    assert all((crop == crop[..., :1]).all() for crop in untinted)  # no channel is left behind
    for seed in range(40):  # enough for warp, blur, grain and negative
        crop, _ = augment(image, mask, 32, 1.0, generator_for(seed, 0, 0))
        assert crop.shape == (32, 32, channels)
        means = crop.mean(axis=(0, 1))  # one per channel, told apart by tints of up to +-8 %
        assert np.ptp(means) <= 0.16 * 255 + 1
