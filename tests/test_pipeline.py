"""Stages in order, on disk before the next begins, and again from disk."""

from __future__ import annotations

import hashlib
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.torch
import timm

from calco.config import Config, ModelConfig, TuneConfig, load_config
from calco.errors import CalcoError, StoppedError
from calco.held_out import validation_maps
from calco.images.io import read_pixels
from calco.inference.maps import ProbMap
from calco.inference.predictor import Predictor, predict_maps
from calco.pipeline import (
    Listener,
    Task,
    describe_machine,
    foretell,
    prepare,
    resume,
    run,
    train,
    train_quickly,
    tune,
)
from calco.records import (
    Audit,
    Counts,
    FitResult,
    ImageScore,
    Plan,
    Postprocess,
    SampleIndex,
    Scores,
    Split,
)
from calco.runs import RunDir
from calco.scoring import score_run
from calco.stages.audit import audit_samples
from calco.stages.samples import index_samples
from calco.stages.split import split_samples
from calco.training.budget import Clock
from calco.training.progress import Watch


def test_every_record_is_told_in_order(discs: Path, tiny_config: Config, tmp_path: Path) -> None:
    heard: list[object] = []
    folder = RunDir(tmp_path)
    run(discs, tiny_config, folder, Clock(), Listener(heard.append))
    kinds = [SampleIndex, Audit, Split, Plan, FitResult, Postprocess, Scores]
    assert [type(record) for record in heard] == kinds
    split = heard[2]
    assert isinstance(split, Split)
    assert folder.load_split().assignments == split.assignments
    assert folder.load_split().index.samples == split.index.samples  # paths found again
    assert folder.load_plan() == heard[3]
    assert folder.load_postprocess() == heard[5]


def test_bad_data_stops_before_training(discs: Path, tiny_config: Config, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(discs, data)
    for name in ("disc01.png", "disc02.png"):
        (data / "images" / name).write_bytes(b"")
    folder = RunDir(tmp_path / "run")
    with pytest.raises(CalcoError) as caught:
        run(data, tiny_config, folder, Clock(), Listener())
    assert [p.code for p in caught.value.problems] == ["IMG_EMPTY", "IMG_EMPTY"]  # both, not one
    assert not folder.path.exists()


def test_a_setting_that_does_not_fit_leaves_no_folder(
    discs: Path, tiny_config: Config, tmp_path: Path
) -> None:
    unfit = tiny_config.fit.model_copy(update={"crop_px": 33})
    folder = RunDir(tmp_path / "run")
    with pytest.raises(CalcoError, match="crops of this side"):
        run(discs, tiny_config.model_copy(update={"fit": unfit}), folder, Clock(), Listener())
    assert not folder.path.exists()


def test_a_stopped_run_has_a_report_and_resumes(
    discs: Path,
    tiny_config: Config,
    tmp_path: Path,
    stop_at: Callable[[int, signal.Signals], Watch],
) -> None:
    data = tmp_path / "data"
    shutil.copytree(discs, data)
    folder = RunDir(tmp_path / "run")
    listener = Listener(watch=stop_at(5, signal.SIGINT))
    with pytest.raises(StoppedError, match="SIGINT"):
        run(data, tiny_config, folder, Clock(), listener)
    assert folder.report_html.exists()
    assert not folder.summary_json.exists()

    shutil.copy(data / "images" / "disc03.png", tmp_path / "kept.png")
    shutil.copy(data / "images" / "disc04.png", data / "images" / "disc03.png")
    with pytest.raises(CalcoError, match="disc03"):  # the data changed: not the same run
        resume(folder, Clock(), Listener())
    shutil.copy(tmp_path / "kept.png", data / "images" / "disc03.png")

    scores = resume(folder, Clock(), Listener())
    assert scores.summaries["test"].n_images == 3
    assert folder.load_summary()["epochs"] == 2


def test_an_encoder_that_cannot_be_had_is_told_before_data_are_read(tmp_path: Path) -> None:
    config = load_config(None, ("model.encoder=resnet43",))
    with pytest.raises(CalcoError, match="ENCODER_NAME"):
        run(tmp_path / "no such data", config, RunDir(tmp_path / "run"), Clock(), Listener())


@pytest.mark.slow
def test_another_encoder_with_weights_from_a_file_stops_and_resumes(
    discs: Path,
    tiny_config: Config,
    tmp_path: Path,
    stop_at: Callable[[int, signal.Signals], Watch],
) -> None:
    weights = tmp_path / "w.safetensors"
    model = timm.create_model("mobilenetv3_small_050")
    safetensors.torch.save_file(model.state_dict(), weights)
    chosen = ModelConfig(encoder="tu-mobilenetv3_small_050", weights=str(weights))
    rates = {"layer_decay": 0.5, "encoder_lr_factor": 0.5, "threads": 1}
    fit_config = tiny_config.fit.model_copy(update=rates)
    config = tiny_config.model_copy(update={"model": chosen, "fit": fit_config})
    folder = RunDir(tmp_path / "run")
    with pytest.raises(StoppedError):
        run(discs, config, folder, Clock(), Listener(watch=stop_at(3, signal.SIGINT)))
    resume(folder, Clock(), Listener())
    network = folder.load_plan().network
    assert network.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert 55 < network.std[0] < 60  # what timm's weights were trained with
    weights.unlink()  # a finished run needs them no more
    image = np.zeros((20, 30, 3), np.uint8)
    assert Predictor.from_run(folder.path).prob(image).shape == (20, 30)


@pytest.fixture(scope="module")
def folded_run(discs: Path, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with three folds."""
    settings = tiny_config.split.model_copy(update={"folds": 3})
    folder = RunDir(tmp_path_factory.mktemp("folds") / "run")
    config = tiny_config.model_copy(update={"split": settings})
    run(discs, config, folder, Clock(), Listener())
    return folder.path


def test_folds_are_scored_on_what_they_have_not_seen(folded_run: Path) -> None:
    folder = RunDir(folded_run)
    split, scores = folder.load_split(), folder.load_scores()
    validated = {s.id for s in scores if s.subset == "validation"}
    assert validated == {s.id for s in split.part("train")}
    for number, division in enumerate(split.divisions()):
        predictor = Predictor.from_run(folder.fold(number, 3).path)
        predictor.params = folder.load_postprocess()  # says whether mirror images are averaged
        sample = division.validation.samples[0]
        kept = cv2.imread(str(folder.out_of_fold / f"{sample.id}.png"), cv2.IMREAD_UNCHANGED)
        [m] = predict_maps(predictor, division.validation.only([sample.id]), ["any"])
        assert kept is not None
        assert np.array_equal(kept, m.levels)
    summary = folder.load_summary()
    assert summary["tuning"]["nested_dice_mean"] <= summary["validation"]["dice_mean"] + 0.02
    assert summary["epochs"] == 3 * 2
    assert len(summary["best_epoch"]) == 3


def test_folds_predict_as_one(folded_run: Path, discs: Path) -> None:
    folder = RunDir(folded_run)
    image = read_pixels(discs / "images" / "disc00.png").pixels
    together = Predictor.from_run(folded_run)
    alone = [Predictor.from_run(folder.fold(n, 3).path) for n in range(3)]
    for member in alone:
        member.params = together.params  # says whether mirror images are averaged
    members = [member.prob(image) for member in alone]
    assert together.prob(image) == pytest.approx(np.mean(members, axis=0), abs=1e-6)
    assert together.params == folder.load_postprocess()


def test_a_run_stopped_in_its_second_fold_resumes_to_the_same(
    folded_run: Path,
    discs: Path,
    tiny_config: Config,
    tmp_path: Path,
    stop_at: Callable[[int, signal.Signals], Watch],
) -> None:
    settings = tiny_config.split.model_copy(update={"folds": 3})
    config = tiny_config.model_copy(update={"split": settings})
    folder = RunDir(tmp_path / "run")
    steps = 2 * 16  # of one fold
    with pytest.raises(StoppedError):
        run(discs, config, folder, Clock(), Listener(watch=stop_at(steps + 5, signal.SIGTERM)))
    assert folder.report_html.exists()
    first = folder.fold(0, 3).weights
    written = first.stat().st_mtime_ns
    resume(folder, Clock(), Listener())
    assert first.stat().st_mtime_ns == written  # not trained again
    assert folder.model_sha256() == RunDir(folded_run).model_sha256()
    assert folder.load_scores() == RunDir(folded_run).load_scores()


def test_a_folded_run_scores_its_parts(folded_run: Path) -> None:
    folder = RunDir(folded_run)
    kept = folder.load_summary()
    for subset in ("validation", "test"):
        again = score_run(folder, None, subset).summaries[subset]
        assert again.dice_mean == pytest.approx(kept[subset]["dice_mean"])


@pytest.fixture
def task(discs: Path, tiny_config: Config, tmp_path: Path) -> Task:
    """Twenty discs, ready to be trained on."""
    index = index_samples(discs, tiny_config.data)
    audit = audit_samples(index, tiny_config.data, tiny_config.audit)
    return prepare(split_samples(audit, tiny_config.split), tiny_config, RunDir(tmp_path), Clock())


def test_only_the_training_part_is_looked_at_for_the_plan(task: Task) -> None:
    fingerprint = task.plan.fingerprint
    assert fingerprint is not None
    assert fingerprint.n_images == len(task.split.part("train")) == 14
    assert len(task.samples) == 17  # the test part stays closed


def test_training_leaves_the_maps_of_the_weights_it_keeps(task: Task, tmp_path: Path) -> None:
    folder = RunDir(tmp_path)
    train(task, folder, Clock(), Listener())
    maps = validation_maps(task.split, folder, "cpu")[0]
    assert set(task.levels) == {m.id for m in maps}
    for m in maps:
        difference = task.levels[m.id].astype(int) - m.levels
        assert abs(difference).max() <= 1  # another memory layout may round otherwise


def test_maps_that_are_known_are_not_predicted_again(finished_run: Path) -> None:
    split = RunDir(finished_run).load_split()
    maps = validation_maps(split, RunDir(finished_run), "cpu")[0]
    marked = {maps[0].id: 255 - maps[0].levels}
    again = validation_maps(split, RunDir(finished_run), "cpu", known=marked)[0]
    assert np.array_equal(again[0].levels, marked[maps[0].id])
    assert np.array_equal(again[1].levels, maps[1].levels)  # that one was not known


def test_views_are_tried_in_turn_and_only_the_better_ones_kept(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunDir(finished_run)
    config = folder.load_config()
    config = config.model_copy(update={"tune": TuneConfig(turns=True, scales=True)})
    task = Task([], folder.load_split(), folder.load_plan(), config)
    tried = []

    def keep_turns(
        tuned: tuple[list[ProbMap], Postprocess],
        viewed: list[ProbMap],
        look: Postprocess,
        _: TuneConfig,
    ) -> Postprocess:
        assert [m.id for m in tuned[0]] == [m.id for m in viewed]
        tried.append(look)
        return look if look.turns and not look.scales and look.mean == "logit" else tuned[1]

    monkeypatch.setattr("calco.pipeline.tune_viewed", keep_turns)
    [maps], params = tune(task, folder, Clock())
    assert [(look.flips, look.turns, len(look.scales)) for look in tried[::2]] == [
        (True, False, 0),
        (True, True, 0),
        (True, True, 2),
    ]
    assert [look.mean for look in tried] == ["prob", "logit"] * 3
    assert params == Postprocess(flips=True, turns=True, mean="logit")
    expected = validation_maps(task.split, folder, "cpu", params)[0]  # as it will be predicted
    for found, again in zip(maps, expected, strict=True):
        assert abs(found.levels.astype(int) - again.levels).max() <= 1
    # an old clock has no time for any
    assert tune(task, folder, Clock(budget_s=5.0))[1].look == Postprocess().look
    assert len(tried) == 6


def test_a_quick_training_scores_validation_and_leaves_nothing(task: Task, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    scores = train_quickly(task, RunDir(tmp_path), allowance_s=2.0, seed=1)
    assert [score.id for score in scores] == [s.id for s in task.split.part("validation")]
    assert sorted(tmp_path.iterdir()) == before


def test_what_more_labels_give_is_foretold_once(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def more_is_better(part: Task, *_: object) -> list[ImageScore]:
        sizes.append(n := len(part.split.part("train")))
        validation = part.split.part("validation")
        return [
            ImageScore(s.id, s.id, "validation", Counts(n, 20 - n, 0, 0), n / 20, 0, 0, 0)
            for s in validation
        ]

    monkeypatch.setattr("calco.pipeline.train_quickly", more_is_better)
    hurried = replace(task, config=task.config.model_copy(update={"budget_s": 1000.0}))
    heard: list[object] = []
    foretell(hurried, RunDir(tmp_path), Listener(heard.append))
    foretell(hurried, RunDir(tmp_path), Listener(heard.append))  # as after a stop
    assert sizes == [14, 7]
    (curve,) = heard
    assert curve == RunDir(tmp_path).load_learning()
    foretell(task, RunDir(tmp_path), Listener(heard.append))  # without a budget: not unasked
    assert len(heard) == 1


def test_a_run_scores_other_data(finished_run: Path, tmp_path: Path) -> None:
    from tests.conftest import draw_discs

    other = draw_discs(tmp_path / "other", 4, side_px=64, seed=9)
    scores = score_run(RunDir(finished_run), other, "test")
    assert scores.summaries["other"].n_images == 4


def test_outputs_do_not_name_the_machine(finished_run: Path) -> None:
    """No home folder, host or absolute data path in anything meant to be passed on."""
    for path in finished_run.iterdir():
        if path.suffix in (".json", ".yaml", ".csv", ".html"):
            text = path.read_text(encoding="utf-8")
            assert str(Path.home()) not in text
            assert str(finished_run) not in text, path.name


def test_the_command_is_kept_without_its_login(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["sweep", "a b", "--storage", "postgresql://me:se/cret@db/runs"]
    monkeypatch.setattr(sys, "argv", ["/bin/calco", *words])
    shown = "calco sweep 'a b' --storage postgresql://db/runs"
    assert describe_machine(Config())["command"] == shown


def test_a_folder_that_another_run_took_meanwhile_is_left_alone(
    discs: Path, tiny_config: Config, tmp_path: Path
) -> None:
    folder = RunDir(tmp_path / "run")

    def take(record: object) -> None:  # while we read the data
        folder.path.mkdir(exist_ok=True)
        folder.weights.write_bytes(b"theirs")

    with pytest.raises(CalcoError, match="not empty"):
        run(discs, tiny_config, folder, Clock(), Listener(take))
    assert folder.weights.read_bytes() == b"theirs"


def test_a_run_that_is_interrupted_before_training_leaves_no_folder(
    discs: Path, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("calco.pipeline.prepare", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(discs, tiny_config, RunDir(tmp_path / "run"), Clock(), Listener())
    assert not (tmp_path / "run").exists()
