"""A predictor answers for images of any size and kind, alone or many at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tests.inference.predictors import (
    PLAN,
    SIZES,
    identity,
    image_of,
    mask_of,
    network_of,
    tiled,
    trained,
)
from torch import Tensor

from calco.errors import CalcoError
from calco.images.given import Given
from calco.images.io import read_image
from calco.images.tiles import Tiling
from calco.inference import predictor as module
from calco.inference.device import usable_cores
from calco.inference.engines import TorchEngine
from calco.inference.postprocess import clean
from calco.inference.predictor import Predictor
from calco.inference.streams import AHEAD
from calco.nets.build import Segmenter, build_network
from calco.nets.checkpoint import ModelCard
from calco.records import ImageSpec, Postprocess

# --- sizes and kinds of images -------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_identity_network_returns_the_mask_at_its_exact_size(size: tuple[int, int]) -> None:
    mask = mask_of(size)
    predicted = identity().predict(mask.astype(np.uint8)[..., None] * 255)
    assert predicted.dtype == np.bool_
    np.testing.assert_array_equal(predicted, mask)


@pytest.mark.parametrize("size", [(33, 40), (37, 61), (64, 64), (90, 33)])
def test_identity_network_through_tiles_returns_the_mask(
    size: tuple[int, int],
) -> None:
    mask, predictor = mask_of(size), tiled(identity(), 32, 8)
    image = mask.astype(np.uint8)[..., None] * 255
    np.testing.assert_array_equal(predictor.predict(image), mask)
    prob = predictor.prob(image)
    assert prob.min() >= 0
    assert prob.max() <= 1
    np.testing.assert_array_equal(prob, identity().prob(image))


@pytest.mark.parametrize(
    ("scale", "side_px", "tile_px"), [(1.0, 33, 32), (2.0, 20, 16), (0.5, 60, 60), (0.5, 70, 64)]
)
def test_tiles_are_as_large_as_the_network_can_see(
    scale: float, side_px: int, tile_px: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WHOLE_PX", 32 * 32)
    monkeypatch.setattr(module, "TILE_PX", 32)
    monkeypatch.setattr(module, "TILE_OVERLAP_PX", 8)
    plan = replace(PLAN, scale=scale)
    network = build_network(plan)
    predictor = Predictor(
        TorchEngine(network), ModelCard(plan, ImageSpec(channels=3)), Postprocess()
    )
    seen: list[tuple[int, ...]] = []
    network.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[2:])))
    assert predictor.prob(image_of((side_px, side_px))).shape == (side_px, side_px)
    assert max(seen) == (tile_px, tile_px)
    assert {side for shape in seen for side in shape} <= set(range(tile_px + 1))


def test_tiles_are_chosen_in_pixels_of_the_image() -> None:
    predictor = trained()
    assert predictor.tiling == Tiling(1024, 256)
    assert predictor.with_tiling(None, None) is predictor
    chosen = predictor.with_tiling(512, None)
    assert chosen.tiling == Tiling(512, 128)
    assert chosen.with_threads(1).tiling == Tiling(512, 128)
    assert chosen.seen_px(5000, 5000) == 512 * 512
    assert predictor.with_tiling(None, 100).tiling == Tiling(1024, 100)
    assert identity(resize_px=32).tiling is None


@pytest.mark.parametrize(("tile", "overlap"), [(63, None), (2049, None), (128, 65), (128, -1)])
def test_impossible_tiles_are_refused(tile: int, overlap: int | None) -> None:
    with pytest.raises(CalcoError, match="TILE"):
        trained().with_tiling(tile, overlap)


@pytest.mark.parametrize("size", SIZES)
def test_probabilities_have_the_size_and_range_they_should(size: tuple[int, int]) -> None:
    prob = trained().prob(image_of(size))
    assert prob.shape == size
    assert prob.dtype == np.float32
    assert prob.min() >= 0
    assert prob.max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (20, 50), (64, 64), (100, 31)])
def test_resizing_is_undone(size: tuple[int, int]) -> None:
    seen: list[tuple[int, ...]] = []
    predictor = identity(resize_px=48)
    network = network_of(predictor)
    assert isinstance(network, Segmenter)
    network.network.register_forward_hook(lambda _, x, __: seen.append(x[0].shape))
    image = np.zeros((*size, 1), np.uint8)
    image[size[0] // 2 :] = 255  # the lower half
    prob = predictor.prob(image)
    assert seen == [(1, 1, 48, 48)]
    assert prob.shape == size
    assert prob[-1].min() > 0.99
    if size[0] > 1:
        assert prob[0].max() < 0.01
        assert prob[:, 0].sum() == pytest.approx(size[0] / 2, abs=1)


def test_resizing_is_the_one_of_training() -> None:
    seen: list[Tensor] = []
    predictor = identity(resize_px=32)
    network_of(predictor).register_forward_hook(lambda _, x, __: seen.append(x[0]))
    image = image_of((80, 100))[..., :1]
    predictor.prob(image)
    small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)  # as images.augment.resized
    np.testing.assert_array_equal(seen[0][0, 0].numpy(), small)


def test_grey_images_in_any_form_are_alike() -> None:
    predictor = trained()
    grey = image_of((40, 30))[..., 0]
    expected = predictor.prob(np.dstack([grey] * 3))
    np.testing.assert_array_equal(predictor.prob(grey), expected)
    np.testing.assert_array_equal(predictor.prob(grey[..., None]), expected)


def test_views_and_read_only_arrays_are_fine() -> None:
    predictor, image = trained(), image_of((40, 30))
    expected = predictor.prob(image)
    turned = np.asfortranarray(image)
    turned.flags.writeable = False
    np.testing.assert_array_equal(predictor.prob(turned), expected)
    flipped = predictor.prob(image[::-1, ::-1])
    np.testing.assert_array_equal(flipped, predictor.prob(image[::-1, ::-1].copy()))


@pytest.mark.parametrize("shape", [(5,), (4, 4, 3, 1), (0, 4, 3), (4, 0)])
def test_arrays_that_are_no_image_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(CalcoError, match="IMG_SHAPE") as caught:
        trained().prob(np.zeros(shape, np.uint8))
    assert str(shape) in str(caught.value)


def test_wrong_channels_and_depth_are_refused() -> None:
    with pytest.raises(CalcoError, match="IMG_CHANNELS"):
        trained().prob(np.zeros((8, 8, 4), np.uint8))
    with pytest.raises(CalcoError, match="IMG_DEPTH"):
        trained().prob(np.zeros((8, 8, 3), np.float32))


def test_deep_images_are_scaled_by_the_card() -> None:
    predictor = identity()
    predictor.card = replace(predictor.card, spec=ImageSpec(channels=1, high=4095.0))
    image = np.array([[0, 1000], [3000, 4095]], np.uint16)
    assert predictor.predict(image).tolist() == [[False, False], [True, True]]


# --- what must not change a prediction -----------------------------------------------------------


def test_a_prediction_does_not_depend_on_what_came_before() -> None:
    predictor, image = trained(), image_of((50, 70))
    first = predictor.prob(image)
    predictor.prob(image_of((33, 200), seed=1))
    np.testing.assert_array_equal(predictor.prob(image), first)


def test_batching_by_hand_agrees_within_rounding() -> None:
    predictor = trained()
    images = [image_of((48, 40), seed) for seed in range(3)]
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    with torch.no_grad():
        together = torch.sigmoid(network_of(predictor)(batch))[:, 0].numpy()
    alone = np.stack([predictor.prob(image) for image in images])
    np.testing.assert_allclose(alone, together, atol=1e-6)


def test_predicting_changes_neither_weights_nor_statistics() -> None:
    predictor = trained()
    before = {n: t.clone() for n, t in network_of(predictor).state_dict().items()}
    predictor.predict(image_of((40, 40)))
    assert not network_of(predictor).training
    assert all(torch.equal(t, before[n]) for n, t in network_of(predictor).state_dict().items())


def test_tiles_of_a_real_network_agree_with_the_whole_inside() -> None:
    # the tiny network looks 44 px far; far from seams and with tiles on its grid of 8 px,
    # tiles and whole image are the same computation
    predictor, image = trained(), image_of((128, 256))
    whole = predictor.prob(image)
    in_tiles = tiled(predictor, 160, 128).prob(image)
    assert not np.array_equal(in_tiles, whole)
    np.testing.assert_allclose(in_tiles[:, :16], whole[:, :16], atol=1e-6)
    assert np.abs(in_tiles - whole).max() < 0.05


def test_mask_is_the_cleaned_probability() -> None:
    predictor, image = trained(), image_of((40, 50))
    expected = clean(predictor.prob(image), predictor.params)
    np.testing.assert_array_equal(predictor.predict(image), expected)


@pytest.mark.parametrize("kind", [str, Path])
def test_files_and_arrays_are_predicted_alike(
    tmp_path: Path, kind: Callable[[Path], str | Path]
) -> None:
    predictor, image, path = trained(), image_of((40, 50)), tmp_path / "a.png"
    Image.fromarray(image).save(path)
    np.testing.assert_array_equal(predictor.predict(kind(path)), predictor.predict(image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_lie_as_the_picture_is_seen(tmp_path: Path, orientation: int) -> None:
    mask = np.zeros((24, 40), bool)
    mask[2:9, 3:30] = True
    picture, path = Image.fromarray(mask.astype(np.uint8) * 255), tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(path, exif=exif)
    predictor = identity()
    predicted = predictor.predict(path)
    assert predicted.shape == ((24, 40) if orientation < 5 else (40, 24))
    np.testing.assert_array_equal(predicted, read_image(path, predictor.spec)[..., 0] > 127)
    assert predicted.sum() == mask.sum()


# --- several images, and several threads ---------------------------------------------------------


def test_a_list_is_answered_by_a_list(tmp_path: Path) -> None:
    predictor = trained()
    images = [image_of(size, seed) for seed, size in enumerate(SIZES)]
    path = tmp_path / "a.png"
    Image.fromarray(images[3]).save(path)
    given: list[Given] = [images[0], Image.fromarray(images[1]), images[2], path, *images[4:]]
    masks = predictor.predict(given)
    assert isinstance(masks, list)
    assert [mask.shape for mask in masks] == SIZES
    for mask, image in zip(masks, images, strict=True):
        np.testing.assert_array_equal(mask, predictor.predict(image))
    for prob, image in zip(predictor.prob(tuple(images)), images, strict=True):
        np.testing.assert_allclose(prob, predictor.prob(image), atol=1e-6)
    assert predictor.predict([]) == []


def test_an_iterator_is_answered_as_it_is_taken_from() -> None:
    predictor, drawn = trained(), 0

    def images() -> Iterator[NDArray[np.uint8]]:
        nonlocal drawn
        for seed in range(100):
            drawn += 1
            yield image_of((20, 30), seed)

    masks = predictor.predict(images())
    assert drawn == 0  # nothing before it is asked for
    taken = list(itertools.islice(masks, 3))
    assert len(taken) == 3
    assert drawn <= 3 + usable_cores() + AHEAD + 1
    for seed, mask in enumerate(taken):
        np.testing.assert_array_equal(mask, predictor.predict(image_of((20, 30), seed)))


def test_a_fault_names_its_place_and_those_before_are_told() -> None:
    good = image_of((8, 8))
    masks = trained().predict(iter([good, good, good[..., :2], good]))
    assert next(masks).shape == next(masks).shape == (8, 8)
    with pytest.raises(CalcoError, match=r"IMG_CHANNELS\] item 2:"):
        next(masks)
    with pytest.raises(CalcoError, match=r"nowhere\.png"):
        trained().prob(list[Given]([good, "nowhere.png"]))


@pytest.mark.parametrize("params", [Postprocess(), Postprocess(flips=True, mean="logit")])
def test_threads_share_a_predictor(params: Postprocess) -> None:
    predictor = trained()
    predictor.params = params
    images = [image_of((40 + seed, 60), seed) for seed in range(6)]
    alone = [predictor.prob(image) for image in images]
    before = torch.get_num_threads()

    def together(number: int) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
        return predictor.prob(images[number % 6]), predictor.prob(images)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(together, range(12)))
    for number, (one, several) in enumerate(answers):
        np.testing.assert_allclose(one, alone[number % 6], atol=1e-6)
        for found, expected in zip(several, alone, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-6)
    assert torch.get_num_threads() == before
    with ThreadPoolExecutor(1) as pool:  # threads that begin later have all cores, too
        assert pool.submit(torch.get_num_threads).result() == before
