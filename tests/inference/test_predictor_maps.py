"""Maps of labelled images, and averages over views."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tests.inference.predictors import PLAN, identity, image_of, mask_of
from torch import Tensor, nn

from calco.errors import CalcoError
from calco.inference.engines import TorchEngine
from calco.inference.postprocess import to_levels
from calco.inference.predictor import Predictor, predict_maps, predict_viewed
from calco.inference.views import views_of
from calco.nets.checkpoint import ModelCard
from calco.records import (
    MEANS,
    FileMask,
    ImageSpec,
    MaskCode,
    Mean,
    Postprocess,
    Sample,
    SampleIndex,
)


def _index(root: Path, masks: list[NDArray[np.bool_]]) -> SampleIndex:
    samples = []
    for number, mask in enumerate(masks):
        for name in ("image", "mask"):
            Image.fromarray(mask.astype(np.uint8) * 255).save(root / f"{number}_{name}.png")
        truth = FileMask(root / f"{number}_mask.png")
        samples.append(Sample(str(number), root / f"{number}_image.png", truth))
    code = MaskCode("values", values=(255,))
    return SampleIndex(root, "pairs", tuple(samples), ImageSpec(channels=1), code)


def test_maps_hold_levels_and_truth_of_every_sample(tmp_path: Path) -> None:
    masks = [mask_of((20, 30)), mask_of((7, 9), 1), np.zeros((5, 5), bool)]
    maps = predict_maps(identity(), _index(tmp_path, masks), ["a", "b", "b"])
    assert [(m.id, m.group) for m in maps] == [("0", "a"), ("1", "b"), ("2", "b")]
    for found, mask in zip(maps, masks, strict=True):
        np.testing.assert_array_equal(found.true, mask)
        np.testing.assert_array_equal(found.levels, to_levels(mask.astype(np.float32)))


def test_maps_collect_all_faults(tmp_path: Path) -> None:
    index = _index(tmp_path, [mask_of((9, 9), seed) for seed in range(3)])
    (tmp_path / "0_image.png").write_bytes(b"not an image")
    unlabelled = replace(index.samples[1], mask=None)
    index = replace(index, samples=(index.samples[0], unlabelled, index.samples[2]))
    with pytest.raises(CalcoError) as caught:
        predict_maps(identity(), index, ["a", "b", "c"])
    unreadable, unlabelled_fault = caught.value.problems
    assert unreadable.where.endswith("0_image.png")
    assert (unlabelled_fault.code, unlabelled_fault.where) == ("MASK_MISSING", "1")


class _Leaning(nn.Module):
    """Looks to the upper left only, so that mirror images differ."""

    def forward(self, image: Tensor) -> Tensor:
        x = image[:, :1].float() / 64 - 2
        return x + 0.5 * torch.roll(x, (1, 1), (2, 3))


@pytest.mark.parametrize("resize_px", [None, 16])
def test_flips_average_the_four_mirror_images(resize_px: int | None) -> None:
    card = ModelCard(PLAN, ImageSpec(channels=3), resize_px)
    plain = Predictor(TorchEngine(_Leaning()), card, Postprocess())
    image = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
    views = [
        plain.prob(image),
        plain.prob(image[::-1])[::-1],
        plain.prob(image[:, ::-1])[:, ::-1],
        plain.prob(image[::-1, ::-1])[::-1, ::-1],
    ]
    flipped = Predictor(TorchEngine(_Leaning()), card, Postprocess(flips=True))
    assert flipped.prob(image) == pytest.approx(np.mean(views, axis=0), abs=1e-6)
    assert np.abs(views[0] - views[1]).max() > 0.1  # the views do differ
    # and so the average has no preferred side
    assert flipped.prob(image[::-1])[::-1] == pytest.approx(flipped.prob(image), abs=1e-6)


@pytest.mark.parametrize("mean", ["prob", "logit"])
def test_all_views_are_averaged_as_tuned(mean: Mean) -> None:
    card = ModelCard(PLAN, ImageSpec(channels=3))
    image, size = image_of((9, 14)), (9, 14)
    params = Postprocess(flips=True, turns=True, scales=(2.0,), mean=mean)
    plain = Predictor(TorchEngine(_Leaning()), card, Postprocess())
    maps = [view.back(plain.prob(view.of(image)), size) for view in views_of(params)]
    assert len(maps) == 16
    stacked = np.stack(maps).astype(np.float64)
    expected = stacked.mean(axis=0)
    if mean == "logit":
        expected = 1 / (1 + np.exp(-np.log(stacked / (1 - stacked)).mean(axis=0)))
    predictor = Predictor(TorchEngine(_Leaning()), card, params)
    np.testing.assert_allclose(predictor.prob(image), expected, atol=1e-5)
    # a turned picture has a turned map
    turned = np.rot90(predictor.prob(np.rot90(image)), -1)
    np.testing.assert_allclose(turned, predictor.prob(image), atol=1e-5)


def test_views_of_labelled_images_are_averaged_in_every_way(tmp_path: Path) -> None:
    index = _index(tmp_path, [mask_of((20, 30)), mask_of((7, 9), 1)])
    index = replace(index, spec=ImageSpec(channels=3))
    card = ModelCard(PLAN, ImageSpec(channels=3))
    look = Postprocess(flips=True)
    found = predict_viewed(_leaning(card), index, ["a", "b"], views_of(look))
    for mean in MEANS:
        alone = Predictor(TorchEngine(_Leaning()), card, replace(look, mean=mean))
        expected = predict_maps(alone, index, ["a", "b"])
        for one, other in zip(found[mean], expected, strict=True):
            assert (one.id, one.group) == (other.id, other.group)
            np.testing.assert_array_equal(one.true, other.true)
            np.testing.assert_allclose(one.levels.astype(int), other.levels, atol=1)
    assert (found["prob"][0].levels != found["logit"][0].levels).any()


def _leaning(card: ModelCard) -> Predictor:
    return Predictor(TorchEngine(_Leaning()), card, Postprocess())
