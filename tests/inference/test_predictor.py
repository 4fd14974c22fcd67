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
from torch import Tensor, nn

from calco.errors import CalcoError
from calco.images.given import Given
from calco.images.io import read_image
from calco.images.tiles import Tiling
from calco.inference import predictor as module
from calco.inference.device import usable_cores
from calco.inference.engines import TorchEngine
from calco.inference.postprocess import clean, to_levels
from calco.inference.predictor import Predictor, predict_maps, predict_viewed
from calco.inference.streams import AHEAD
from calco.inference.views import views_of
from calco.nets.build import Segmenter, build_network
from calco.nets.checkpoint import ModelCard, save_model
from calco.records import (
    MEANS,
    FileMask,
    ImageSpec,
    MaskCode,
    Mean,
    NetworkPlan,
    Postprocess,
    Sample,
    SampleIndex,
)
from calco.runs import RunDir

PLAN = NetworkPlan("unet", 3, (127.0,) * 3, (64.0,) * 3, width=4, depth=3)
SIZES = [(1, 1), (1, 40), (31, 33), (64, 96), (255, 17), (101, 103)]


class _Threshold(nn.Module):
    """Foreground where the first channel is bright, with certainty."""

    def forward(self, x: Tensor) -> Tensor:
        return 40 * torch.sign(x[:, :1])


def _identity(channels: int = 1, resize_px: int | None = None) -> Predictor:
    """A predictor whose mask is the image itself."""
    plan = replace(PLAN, in_channels=channels, mean=(127.5,) * channels, std=(1.0,) * channels)
    network = Segmenter(_Threshold(), 8, plan.mean, plan.std)
    card = ModelCard(plan, ImageSpec(channels=channels), resize_px)
    return Predictor(TorchEngine(network), card, Postprocess())


def _trained(seed: int = 0) -> Predictor:
    torch.manual_seed(seed)
    network = build_network(PLAN).train()
    network(torch.rand(4, 3, 64, 64) * 255)  # moves the batch statistics
    return Predictor(
        TorchEngine(network), ModelCard(PLAN, ImageSpec(channels=3)), Postprocess(0.4, 3, 2)
    )


def _tiled(predictor: Predictor, tile_px: int, overlap_px: int) -> Predictor:
    tiling = Tiling(tile_px, overlap_px)
    return Predictor(predictor.engine, predictor.card, predictor.params, tiling)


def _network(predictor: Predictor) -> nn.Module:
    assert isinstance(predictor.engine, TorchEngine)
    return predictor.engine.network


def _mask(size: tuple[int, int], seed: int = 0) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random(size) > 0.5


def _image(size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


# --- sizes and kinds of images -------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_identity_network_returns_the_mask_at_its_exact_size(size: tuple[int, int]) -> None:
    mask = _mask(size)
    predicted = _identity().predict(mask.astype(np.uint8)[..., None] * 255)
    assert predicted.dtype == np.bool_
    np.testing.assert_array_equal(predicted, mask)


@pytest.mark.parametrize("size", [(33, 40), (37, 61), (64, 64), (90, 33)])
def test_identity_network_through_tiles_returns_the_mask(
    size: tuple[int, int],
) -> None:
    mask, predictor = _mask(size), _tiled(_identity(), 32, 8)
    image = mask.astype(np.uint8)[..., None] * 255
    np.testing.assert_array_equal(predictor.predict(image), mask)
    prob = predictor.prob(image)
    assert prob.min() >= 0
    assert prob.max() <= 1
    np.testing.assert_array_equal(prob, _identity().prob(image))


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
    assert predictor.prob(_image((side_px, side_px))).shape == (side_px, side_px)
    assert max(seen) == (tile_px, tile_px)
    assert {side for shape in seen for side in shape} <= set(range(tile_px + 1))


def test_tiles_are_chosen_in_pixels_of_the_image() -> None:
    predictor = _trained()
    assert predictor.tiling == Tiling(1024, 256)
    assert predictor.with_tiling(None, None) is predictor
    chosen = predictor.with_tiling(512, None)
    assert chosen.tiling == Tiling(512, 128)
    assert chosen.with_threads(1).tiling == Tiling(512, 128)
    assert chosen.seen_px(5000, 5000) == 512 * 512
    assert predictor.with_tiling(None, 100).tiling == Tiling(1024, 100)
    assert _identity(resize_px=32).tiling is None


@pytest.mark.parametrize(("tile", "overlap"), [(63, None), (2049, None), (128, 65), (128, -1)])
def test_impossible_tiles_are_refused(tile: int, overlap: int | None) -> None:
    with pytest.raises(CalcoError, match="TILE"):
        _trained().with_tiling(tile, overlap)


@pytest.mark.parametrize("size", SIZES)
def test_probabilities_have_the_size_and_range_they_should(size: tuple[int, int]) -> None:
    prob = _trained().prob(_image(size))
    assert prob.shape == size
    assert prob.dtype == np.float32
    assert prob.min() >= 0
    assert prob.max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (20, 50), (64, 64), (100, 31)])
def test_resizing_is_undone(size: tuple[int, int]) -> None:
    seen: list[tuple[int, ...]] = []
    predictor = _identity(resize_px=48)
    network = _network(predictor)
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
    predictor = _identity(resize_px=32)
    _network(predictor).register_forward_hook(lambda _, x, __: seen.append(x[0]))
    image = _image((80, 100))[..., :1]
    predictor.prob(image)
    small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)  # as images.augment.resized
    np.testing.assert_array_equal(seen[0][0, 0].numpy(), small)


def test_grey_images_in_any_form_are_alike() -> None:
    predictor = _trained()
    grey = _image((40, 30))[..., 0]
    expected = predictor.prob(np.dstack([grey] * 3))
    np.testing.assert_array_equal(predictor.prob(grey), expected)
    np.testing.assert_array_equal(predictor.prob(grey[..., None]), expected)


def test_views_and_read_only_arrays_are_fine() -> None:
    predictor, image = _trained(), _image((40, 30))
    expected = predictor.prob(image)
    turned = np.asfortranarray(image)
    turned.flags.writeable = False
    np.testing.assert_array_equal(predictor.prob(turned), expected)
    flipped = predictor.prob(image[::-1, ::-1])
    np.testing.assert_array_equal(flipped, predictor.prob(image[::-1, ::-1].copy()))


@pytest.mark.parametrize("shape", [(5,), (4, 4, 3, 1), (0, 4, 3), (4, 0)])
def test_arrays_that_are_no_image_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(CalcoError, match="IMG_SHAPE") as caught:
        _trained().prob(np.zeros(shape, np.uint8))
    assert str(shape) in str(caught.value)


def test_wrong_channels_and_depth_are_refused() -> None:
    with pytest.raises(CalcoError, match="IMG_CHANNELS"):
        _trained().prob(np.zeros((8, 8, 4), np.uint8))
    with pytest.raises(CalcoError, match="IMG_DEPTH"):
        _trained().prob(np.zeros((8, 8, 3), np.float32))


def test_deep_images_are_scaled_by_the_card() -> None:
    predictor = _identity()
    predictor.card = replace(predictor.card, spec=ImageSpec(channels=1, high=4095.0))
    image = np.array([[0, 1000], [3000, 4095]], np.uint16)
    assert predictor.predict(image).tolist() == [[False, False], [True, True]]


# --- what must not change a prediction -----------------------------------------------------------


def test_a_prediction_does_not_depend_on_what_came_before() -> None:
    predictor, image = _trained(), _image((50, 70))
    first = predictor.prob(image)
    predictor.prob(_image((33, 200), seed=1))
    np.testing.assert_array_equal(predictor.prob(image), first)


def test_batching_by_hand_agrees_within_rounding() -> None:
    predictor = _trained()
    images = [_image((48, 40), seed) for seed in range(3)]
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    with torch.no_grad():
        together = torch.sigmoid(_network(predictor)(batch))[:, 0].numpy()
    alone = np.stack([predictor.prob(image) for image in images])
    np.testing.assert_allclose(alone, together, atol=1e-6)


def test_predicting_changes_neither_weights_nor_statistics() -> None:
    predictor = _trained()
    before = {n: t.clone() for n, t in _network(predictor).state_dict().items()}
    predictor.predict(_image((40, 40)))
    assert not _network(predictor).training
    assert all(torch.equal(t, before[n]) for n, t in _network(predictor).state_dict().items())


def test_tiles_of_a_real_network_agree_with_the_whole_inside() -> None:
    # the tiny network looks 44 px far; far from seams and with tiles on its grid of 8 px,
    # tiles and whole image are the same computation
    predictor, image = _trained(), _image((128, 256))
    whole = predictor.prob(image)
    tiled = _tiled(predictor, 160, 128).prob(image)
    assert not np.array_equal(tiled, whole)
    np.testing.assert_allclose(tiled[:, :16], whole[:, :16], atol=1e-6)
    assert np.abs(tiled - whole).max() < 0.05


# --- runs and files ------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    predictor = _trained()
    folder = RunDir(tmp_path / "run")
    folder.path.mkdir()
    save_model(folder.weights, _network(predictor), predictor.card)
    folder.save_postprocess(predictor.params)
    return folder


def test_a_run_is_loaded_with_its_clean_up(run: RunDir) -> None:
    image = _image((40, 50))
    for source in (run.path, run.weights):
        loaded = Predictor.from_run(source)
        assert loaded.params == Postprocess(0.4, 3, 2)
        assert loaded.spec == ImageSpec(channels=3)
        # its normalisation is folded into convolutions, which rounds otherwise
        np.testing.assert_allclose(loaded.prob(image), _trained().prob(image), atol=1e-5)


def test_a_run_without_tuning_has_defaults(run: RunDir) -> None:
    (run.path / "postprocess.json").unlink()
    assert Predictor.from_run(run.path).params == Postprocess()


def test_a_missing_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(CalcoError, match="CKPT_READ"):
        Predictor.from_run(tmp_path)
    with pytest.raises(CalcoError, match="CKPT_READ"):
        Predictor.from_run(tmp_path / "nowhere")


def test_a_pickle_in_a_run_is_refused(run: RunDir) -> None:
    torch.save({"a": 1}, run.weights)
    with pytest.raises(CalcoError, match="CKPT_UNSAFE"):
        Predictor.from_run(run.path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_an_absent_gpu_is_not_replaced_silently(run: RunDir) -> None:
    with pytest.raises(CalcoError, match=r"error\[DEVICE\]"):
        Predictor.from_run(run.path, "cuda")
    assert Predictor.from_run(run.path, "auto").engine.name == "torch cpu"


def test_mask_is_the_cleaned_probability() -> None:
    predictor, image = _trained(), _image((40, 50))
    expected = clean(predictor.prob(image), predictor.params)
    np.testing.assert_array_equal(predictor.predict(image), expected)


@pytest.mark.parametrize("kind", [str, Path])
def test_files_and_arrays_are_predicted_alike(
    tmp_path: Path, kind: Callable[[Path], str | Path]
) -> None:
    predictor, image, path = _trained(), _image((40, 50)), tmp_path / "a.png"
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
    predictor = _identity()
    predicted = predictor.predict(path)
    assert predicted.shape == ((24, 40) if orientation < 5 else (40, 24))
    np.testing.assert_array_equal(predicted, read_image(path, predictor.spec)[..., 0] > 127)
    assert predicted.sum() == mask.sum()


# --- maps ----------------------------------------------------------------------------------------


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
    masks = [_mask((20, 30)), _mask((7, 9), 1), np.zeros((5, 5), bool)]
    maps = predict_maps(_identity(), _index(tmp_path, masks), ["a", "b", "b"])
    assert [(m.id, m.group) for m in maps] == [("0", "a"), ("1", "b"), ("2", "b")]
    for found, mask in zip(maps, masks, strict=True):
        np.testing.assert_array_equal(found.true, mask)
        np.testing.assert_array_equal(found.levels, to_levels(mask.astype(np.float32)))


def test_maps_collect_all_faults(tmp_path: Path) -> None:
    index = _index(tmp_path, [_mask((9, 9), seed) for seed in range(3)])
    (tmp_path / "0_image.png").write_bytes(b"not an image")
    unlabelled = replace(index.samples[1], mask=None)
    index = replace(index, samples=(index.samples[0], unlabelled, index.samples[2]))
    with pytest.raises(CalcoError) as caught:
        predict_maps(_identity(), index, ["a", "b", "c"])
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
    image, size = _image((9, 14)), (9, 14)
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
    index = _index(tmp_path, [_mask((20, 30)), _mask((7, 9), 1)])
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


# --- several images, and several threads ---------------------------------------------------------


def test_a_list_is_answered_by_a_list(tmp_path: Path) -> None:
    predictor = _trained()
    images = [_image(size, seed) for seed, size in enumerate(SIZES)]
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
    predictor, drawn = _trained(), 0

    def images() -> Iterator[NDArray[np.uint8]]:
        nonlocal drawn
        for seed in range(100):
            drawn += 1
            yield _image((20, 30), seed)

    masks = predictor.predict(images())
    assert drawn == 0  # nothing before it is asked for
    taken = list(itertools.islice(masks, 3))
    assert len(taken) == 3
    assert drawn <= 3 + usable_cores() + AHEAD + 1
    for seed, mask in enumerate(taken):
        np.testing.assert_array_equal(mask, predictor.predict(_image((20, 30), seed)))


def test_a_fault_names_its_place_and_those_before_are_told() -> None:
    good = _image((8, 8))
    masks = _trained().predict(iter([good, good, good[..., :2], good]))
    assert next(masks).shape == next(masks).shape == (8, 8)
    with pytest.raises(CalcoError, match=r"IMG_CHANNELS\] item 2:"):
        next(masks)
    with pytest.raises(CalcoError, match=r"nowhere\.png"):
        _trained().prob(list[Given]([good, "nowhere.png"]))


@pytest.mark.parametrize("params", [Postprocess(), Postprocess(flips=True, mean="logit")])
def test_threads_share_a_predictor(params: Postprocess) -> None:
    predictor = _trained()
    predictor.params = params
    images = [_image((40 + seed, 60), seed) for seed in range(6)]
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


# --- several networks ----------------------------------------------------------------------------


def _saved(root: Path, seed: int, card: ModelCard | None = None, mean: Mean = "prob") -> Path:
    predictor, folder = _trained(seed), RunDir(root)
    folder.path.mkdir(parents=True)
    save_model(folder.weights, _network(predictor), card or predictor.card)
    folder.save_postprocess(Postprocess(0.4, 3, 2, mean=mean))
    return folder.path


@pytest.mark.parametrize("mean", ["prob", "logit"])
def test_runs_predict_together_with_the_settings_of_the_first(tmp_path: Path, mean: Mean) -> None:
    first, *more = (_saved(tmp_path / str(seed), seed, mean=mean) for seed in range(3))
    (more[0] / "postprocess.json").unlink()
    together, image = Predictor.from_run(first, more=more), _image((40, 50))
    alone = np.stack([Predictor.from_run(run).prob(image) for run in (first, *more)])
    expected = alone.mean(axis=0)
    if mean == "logit":
        expected = 1 / (1 + np.exp(-np.log(alone / (1 - alone)).mean(axis=0)))
    np.testing.assert_allclose(together.prob(image), expected, atol=1e-5)
    assert np.abs(alone[0] - expected).max() > 0.01
    assert together.params == Postprocess(0.4, 3, 2, mean=mean)


def test_folds_of_a_run_count_as_one_among_runs(tmp_path: Path) -> None:
    for seed in range(3):
        _saved(tmp_path / "folded" / "folds" / str(seed), seed)
    single, image = _saved(tmp_path / "single", 3), _image((40, 50))
    together = Predictor.from_run(single, more=[tmp_path / "folded"]).prob(image)
    one, folded = (Predictor.from_run(r).prob(image) for r in (single, tmp_path / "folded"))
    np.testing.assert_allclose(together, (one + folded) / 2, atol=1e-5)


@pytest.mark.parametrize(
    "other",
    [
        ModelCard(PLAN, ImageSpec(channels=3, high=4095.0)),
        ModelCard(PLAN, ImageSpec(channels=3), resize_px=64),
    ],
)
def test_runs_that_read_images_otherwise_are_refused(tmp_path: Path, other: ModelCard) -> None:
    first, second = _saved(tmp_path / "a", 0), _saved(tmp_path / "b", 1, other)
    with pytest.raises(CalcoError, match=r"ENSEMBLE\].*/b: it reads images otherwise than .*/a"):
        Predictor.from_run(first, more=[second])


def test_exported_models_do_not_predict_together(tmp_path: Path) -> None:
    with pytest.raises(CalcoError, match=r"m\.onnx: exported models do not predict together"):
        Predictor.from_run(_saved(tmp_path / "a", 0), more=[Path("m.onnx")])
