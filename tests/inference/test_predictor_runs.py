"""Runs and files of weights become predictors, one by one or together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.inference.predictors import PLAN, image_of, network_of, trained

from calco.errors import CalcoError
from calco.inference.predictor import Predictor
from calco.nets.checkpoint import ModelCard, save_model
from calco.records import ImageSpec, Mean, Postprocess
from calco.runs import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    predictor = trained()
    folder = RunDir(tmp_path / "run")
    folder.path.mkdir()
    save_model(folder.weights, network_of(predictor), predictor.card)
    folder.save_postprocess(predictor.params)
    return folder


def test_a_run_is_loaded_with_its_clean_up(run: RunDir) -> None:
    image = image_of((40, 50))
    for source in (run.path, run.weights):
        loaded = Predictor.from_run(source)
        assert loaded.params == Postprocess(0.4, 3, 2)
        assert loaded.spec == ImageSpec(channels=3)
        # its normalisation is folded into convolutions, which rounds otherwise
        np.testing.assert_allclose(loaded.prob(image), trained().prob(image), atol=1e-5)


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


# --- several networks ----------------------------------------------------------------------------


def _saved(root: Path, seed: int, card: ModelCard | None = None, mean: Mean = "prob") -> Path:
    predictor, folder = trained(seed), RunDir(root)
    folder.path.mkdir(parents=True)
    save_model(folder.weights, network_of(predictor), card or predictor.card)
    folder.save_postprocess(Postprocess(0.4, 3, 2, mean=mean))
    return folder.path


@pytest.mark.parametrize("mean", ["prob", "logit"])
def test_runs_predict_together_with_the_settings_of_the_first(tmp_path: Path, mean: Mean) -> None:
    first, *more = (_saved(tmp_path / str(seed), seed, mean=mean) for seed in range(3))
    (more[0] / "postprocess.json").unlink()
    together, image = Predictor.from_run(first, more=more), image_of((40, 50))
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
    single, image = _saved(tmp_path / "single", 3), image_of((40, 50))
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
