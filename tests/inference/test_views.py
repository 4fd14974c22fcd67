import math
import weakref
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from calco.inference.views import View, cost_of, mean_over, views_of
from calco.records import MEANS, Postprocess

EVERY = Postprocess(flips=True, turns=True, scales=(0.5, 2.0))


def _image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def _red(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A model that sees each pixel alone."""
    return image[..., 0].astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("view", views_of(Postprocess(flips=True, turns=True)))
def test_what_is_turned_is_turned_back(view: View) -> None:
    image = _image(3, 5)
    np.testing.assert_array_equal(view.back(_red(view.of(image)), (3, 5)), _red(image))


def test_turns_and_mirrors_are_those_of_the_names() -> None:
    image = np.array([[1, 2], [3, 4]], np.uint8)[..., None]
    assert View().of(image)[..., 0].tolist() == [[1, 2], [3, 4]]
    assert View(mirrored=True).of(image)[..., 0].tolist() == [[2, 1], [4, 3]]
    assert View(1).of(image)[..., 0].tolist() == [[2, 4], [1, 3]]
    assert View(2, mirrored=True).of(image)[..., 0].tolist() == [[3, 4], [1, 2]]


def test_no_two_views_are_alike_and_the_plain_one_is_first() -> None:
    image = _image(6, 6)
    views = views_of(EVERY)
    assert views[0] == View()
    assert len({view.of(image).tobytes() for view in views}) == len(views) == 24
    flips = {view.of(image).tobytes() for view in views_of(Postprocess(flips=True))}
    assert flips == {image[::r, ::c].tobytes() for r in (1, -1) for c in (1, -1)}


def test_scaled_views_have_scaled_sizes() -> None:
    image = _image(10, 7)
    assert View(scale=0.5).of(image).shape == (5, 4, 3)
    assert View(1, scale=2.0).of(image).shape == (14, 20, 3)
    assert View(scale=0.25).of(_image(1, 1)).shape == (1, 1, 3)
    six = np.repeat(image, 2, axis=2)
    assert View(scale=0.5).of(six).shape == (5, 4, 6)


def test_a_constant_picture_is_the_same_in_every_view() -> None:
    image = np.full((9, 14, 3), 51, np.uint8)
    for prob in mean_over(image, views_of(EVERY), _red).values():
        assert prob.shape == (9, 14)
        assert prob.dtype == np.float32
        np.testing.assert_allclose(prob, 0.2, atol=1e-5)


def test_means_are_of_probabilities_or_of_logits() -> None:
    answers = iter([np.full((1, 1), p, np.float32) for p in (0.9, 0.5)])
    image = np.zeros((1, 1, 3), np.uint8)
    found = mean_over(image, (View(), View(2)), lambda _: next(answers))
    assert found["prob"].item() == pytest.approx(0.7)
    # logits 2.1972 and 0: 9 and 1 to 1, so the square root of 9 to 1
    assert found["logit"].item() == pytest.approx(0.75)


def test_one_certain_view_does_not_rule_over_logits() -> None:
    answers = iter([np.full((1, 1), p, np.float32) for p in (1.0, 1e-6, 1e-6)])
    image = np.zeros((1, 1, 3), np.uint8)
    found = mean_over(image, (View(), View(1), View(2)), lambda _: next(answers))
    assert found["logit"].item() == pytest.approx(1 / (1 + math.exp(math.log(1e6) / 3)), rel=0.05)


@pytest.mark.parametrize("mean", MEANS)
def test_memory_does_not_grow_with_the_views(mean: str) -> None:
    alive: list[weakref.ref[object]] = []
    most = 0

    def predict(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        nonlocal most
        most = max(most, sum(ref() is not None for ref in alive))
        prob = _red(image)
        alive.append(weakref.ref(prob))
        return prob

    mean_over(_image(8, 8), views_of(EVERY), predict, ("prob", "logit"))
    assert len(alive) == 24
    assert most <= 1  # of the views before


def test_what_views_cost() -> None:
    assert cost_of(Postprocess()) == 1
    assert cost_of(Postprocess(flips=True)) == 4
    assert cost_of(EVERY) == pytest.approx(8 * (1 + 0.25 + 4))


@pytest.mark.parametrize("scales", [(0.0,), (1e9,), (-1.0,), (math.nan,), (1.0,) * 9])
def test_scales_that_nobody_chose_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="scales"):
        replace(EVERY, scales=scales)
