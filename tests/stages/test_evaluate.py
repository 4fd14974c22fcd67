from __future__ import annotations

import logging
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from calco.config import DataConfig, EvaluateConfig
from calco.errors import CalcoError
from calco.images.io import read_image
from calco.inference.maps import ProbMap
from calco.metrics.summary import score_image, score_shapes, summarise
from calco.records import FileMask, ImageSpec, MaskCode, Postprocess, Sample, SampleIndex
from calco.runs import RunDir
from calco.stages.evaluate import POLARITY_IMAGES, evaluate, evaluate_folders, otsu_baseline

REAL = Path(__file__).resolve().parents[2].parent / "shared/data/dsb2018/train"

CONFIG = EvaluateConfig(bootstrap=200)
DATA = DataConfig()


def write(path: Path, pixels: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path


def square(start: int, side: int = 10, size: tuple[int, int] = (24, 32)) -> NDArray[np.bool_]:
    mask = np.zeros(size, bool)
    mask[start : start + side, start : start + side] = True
    return mask


def as_map(name: str, pred: NDArray[np.bool_], true: NDArray[np.bool_], group: str = "") -> ProbMap:
    return ProbMap(name, group or name, np.where(pred, 230, 20).astype(np.uint8), true)


class TestEvaluate:
    maps: ClassVar = {
        "validation": [as_map("v1", square(2), square(2))],
        "test": [as_map("a/t1", square(2), square(7)), as_map("t2", square(3, 0), square(3, 0))],
    }

    def test_scores_each_subset(self, tmp_path: Path) -> None:
        scores = evaluate(self.maps, Postprocess(), CONFIG, RunDir(tmp_path))
        assert [(s.id, s.subset) for s in scores.images] == [
            ("v1", "validation"),
            ("a/t1", "test"),
            ("t2", "test"),
        ]
        # two squares of 10 x 10 shifted by (5, 5) share 5 x 5: Dice 2 * 25 / 200
        assert [s.dice for s in scores.images] == [1.0, 0.25, 1.0]
        assert scores.summaries["test"].dice_mean == 0.625
        assert scores.summaries["validation"].dice_mean == 1.0

    def test_writes_exactly_the_masks_it_scored(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        levels = rng.integers(0, 256, (21, 34), dtype=np.uint8)
        maps = {"test": [ProbMap("deep/er/x.1", "g", levels, levels > 100)]}
        scores = evaluate(maps, Postprocess(0.6), CONFIG, RunDir(tmp_path))
        path = tmp_path / "predictions" / "test" / "deep/er/x.1.png"
        written = np.asarray(Image.open(path))
        assert written.dtype == np.uint8
        assert np.array_equal(written, np.where(levels > 153, 255, 0))
        again = score_image("deep/er/x.1", "g", "test", written > 0, levels > 100)
        (scored,) = scores.images
        without_estimate = replace(scored, estimated_dice=math.nan)  # it needs the levels
        assert without_estimate == score_shapes(again, written > 0, levels > 100, 2)

    def test_applies_the_clean_up(self, tmp_path: Path) -> None:
        spotted = square(2) | square(20, 2)
        maps = {"test": [as_map("t", spotted, square(2))]}
        raw = evaluate(maps, Postprocess(), CONFIG, RunDir(tmp_path))
        clean = evaluate(maps, Postprocess(min_area_px=5), CONFIG, RunDir(tmp_path))
        assert (raw.images[0].counts.fp, clean.images[0].counts.fp) == (4, 0)

    def test_order_of_maps_changes_no_summary(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        maps = [
            ProbMap(
                f"i{i}", f"g{i % 5}", rng.integers(0, 256, (9, 9), np.uint8), square(1, 4, (9, 9))
            )
            for i in range(20)
        ]
        there = evaluate({"test": maps}, Postprocess(), CONFIG, RunDir(tmp_path))
        back = evaluate({"test": maps[::-1]}, Postprocess(), CONFIG, RunDir(tmp_path))
        assert there.summaries == back.summaries
        assert there.calibrations == back.calibrations
        assert set(there.images) == set(back.images)

    def test_groups_reach_the_interval(self, tmp_path: Path) -> None:
        maps = {"test": [as_map(f"t{i}", square(2), square(i), "one") for i in range(4)]}
        summary = evaluate(maps, Postprocess(), CONFIG, RunDir(tmp_path)).summaries["test"]
        assert summary.n_groups == 1
        assert np.isnan(summary.dice_ci95).all()

    def test_a_subset_without_maps_has_no_summary(self, tmp_path: Path) -> None:
        scores = evaluate({**self.maps, "test": []}, Postprocess(), CONFIG, RunDir(tmp_path))
        assert list(scores.summaries) == list(scores.calibrations) == ["validation"]

    def test_outlines_and_objects_by_hand(self, tmp_path: Path) -> None:
        summary = evaluate(self.maps, Postprocess(), CONFIG, RunDir(tmp_path)).summaries["test"]
        # t1 shares 25 of 175 pixels; t2 is empty on empty
        assert (summary.n_objects_pred, summary.n_objects_true) == (1, 1)
        assert (summary.object_f1_50_mean, summary.dsb2018_mean, summary.tgs_mean) == (0.5,) * 3
        assert summary.n_one_empty == 0
        # a corner of either square is 5 rows and columns from the nearest corner of the other
        assert 0 < summary.hd95_px_mean <= math.sqrt(50) / 2
        assert summary.nsd_tolerance_px == 2

    def test_the_tolerance_is_a_setting(self, tmp_path: Path) -> None:
        maps = {"test": [as_map("t", square(2), square(5))]}  # outlines at most 3 x 3 apart
        wide = EvaluateConfig(bootstrap=200, tolerance_px=4.3)
        summary = evaluate(maps, Postprocess(), wide, RunDir(tmp_path)).summaries["test"]
        assert (summary.nsd_mean, summary.nsd_tolerance_px) == (1, 4.3)
        narrow = evaluate(maps, Postprocess(), CONFIG, RunDir(tmp_path)).summaries["test"]
        assert narrow.nsd_mean < 1

    def test_a_missed_image_costs_its_diagonal(self, tmp_path: Path) -> None:
        maps = {"test": [as_map("t", square(2, 0), square(2)), as_map("u", square(2), square(2))]}
        summary = evaluate(maps, Postprocess(), CONFIG, RunDir(tmp_path)).summaries["test"]
        assert summary.hd95_px_mean == summary.assd_px_mean == 40 / 2  # 24 x 32
        assert (summary.nsd_mean, summary.boundary_iou_mean) == (0.5, 0.5)
        assert summary.n_one_empty == 1

    def test_probabilities_are_pooled_per_subset(self, tmp_path: Path) -> None:
        """Level 230 on 100 pixels, 25 of them foreground; 20 on 1436, with the other 75."""
        scores = evaluate(self.maps, Postprocess(), CONFIG, RunDir(tmp_path))
        test = scores.calibrations["test"]
        assert (test.n_pixels, test.n_foreground) == (2 * 768, 100)
        low = abs(20 / 255 - 75 / 1436) * 1436
        high = abs(230 / 255 - 25 / 100) * 100
        assert test.ece == pytest.approx((low + high) / 1536)
        assert test.average_precision == pytest.approx(0.25 * 25 / 100 + 0.75 * 100 / 1536)
        summary = scores.summaries["test"]
        assert (summary.ece, summary.average_precision) == (test.ece, test.average_precision)
        assert scores.summaries["validation"].average_precision == 1

    def test_clean_up_changes_no_probability(self, tmp_path: Path) -> None:
        raw, clean = (
            evaluate(self.maps, params, CONFIG, RunDir(tmp_path)).calibrations
            for params in (Postprocess(), Postprocess(0.99, 10_000))
        )
        assert raw == clean

    @pytest.mark.parametrize("name", ["../../x", "/etc/x", "a/../../../x"])
    def test_an_id_cannot_leave_the_folder(self, tmp_path: Path, name: str) -> None:
        maps = {"test": [as_map(name, square(2), square(2))]}
        with pytest.raises(CalcoError, match="ID_UNSAFE"):
            evaluate(maps, Postprocess(), CONFIG, RunDir(tmp_path / "run"))
        assert not list(tmp_path.rglob("*.png"))


class TestOtsuBaseline:
    @staticmethod
    def index(folder: Path, *, bright: bool, n: int = 4, labelled: bool = True) -> SampleIndex:
        """Squares of grey 200 on 50, or the negative, with a little noise."""
        rng = np.random.default_rng(0)
        samples = []
        for i in range(n):
            true = square(2 + i % 7)
            grey = np.where(true == bright, 200, 50) + rng.integers(-20, 20, true.shape)
            image = write(folder / f"images/{i:03}.png", grey.astype(np.uint8))
            mask = write(folder / f"masks/{i:03}.png", true.astype(np.uint8) * np.uint8(255))
            samples.append(Sample(f"{i:03}", image, FileMask(mask) if labelled else None))
        code = MaskCode("threshold", threshold=127)
        return SampleIndex(folder, "test", tuple(samples), ImageSpec(channels=1), code)

    @pytest.mark.parametrize("bright", [True, False])
    def test_finds_the_polarity_on_the_training_part(self, tmp_path: Path, bright: bool) -> None:
        index = self.index(tmp_path, bright=bright)
        assert otsu_baseline(index, index) == 1.0

    def test_does_not_learn_the_polarity_from_the_test_part(self, tmp_path: Path) -> None:
        train = self.index(tmp_path / "train", bright=True)
        test = self.index(tmp_path / "test", bright=False)
        assert otsu_baseline(train, test) == 0.0

    def test_reads_few_training_images(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        train = self.index(tmp_path / "train", bright=True, n=95)
        test = self.index(tmp_path / "test", bright=True)
        read: list[Path] = []

        def recording(path: Path, spec: ImageSpec) -> NDArray[np.uint8]:
            read.append(path)
            return read_image(path, spec)

        monkeypatch.setattr("calco.formats.truth.read_image", recording)
        assert otsu_baseline(train, test) == 1.0
        assert len({p for p in read if "train" in p.parts}) <= POLARITY_IMAGES

    def test_is_undefined_without_masks(self, tmp_path: Path) -> None:
        train = self.index(tmp_path / "train", bright=True)
        test = self.index(tmp_path / "test", bright=True, labelled=False)
        assert np.isnan(otsu_baseline(train, test))


@pytest.mark.skipif(not REAL.exists(), reason="real data not beside the repository")
def test_otsu_on_real_nuclei_is_a_baseline_worth_beating() -> None:
    samples = tuple(
        Sample(path.stem, path, FileMask(REAL / "masks" / path.name))
        for path in sorted((REAL / "images").iterdir())[::18]
    )
    index = SampleIndex(REAL, "", samples, ImageSpec(), MaskCode("threshold", threshold=127))
    ids = [sample.id for sample in samples]
    assert 0.5 < otsu_baseline(index.only(ids[:15]), index.only(ids[15:])) < 0.95


class TestEvaluateFolders:
    @pytest.fixture
    def folders(self, tmp_path: Path) -> tuple[Path, Path]:
        """Three pairs of known Dice: 1, 0.25 and an empty pair, in different codes."""
        for name, pred, true in [("a", 2, 2), ("s1/b", 2, 7)]:
            write(tmp_path / f"pred/{name}.png", square(pred).astype(np.uint8) * np.uint8(255))
            write(tmp_path / f"true/{name}_mask.png", square(true).astype(np.uint8))
        empty = np.zeros((24, 32), np.uint8)
        write(tmp_path / "pred/c.png", empty)
        write(tmp_path / "true/c_mask.png", empty)
        return tmp_path / "pred", tmp_path / "true"

    def test_scores_masks_of_different_codes(self, folders: tuple[Path, Path]) -> None:
        scores = evaluate_folders(*folders, CONFIG, DATA)
        assert {s.id: s.dice for s in scores.images} == {
            "a_mask": 1,
            "c_mask": 1,
            "s1/b_mask": 0.25,
        }
        bare = summarise(scores.images, CONFIG.bootstrap)
        assert scores.summaries["all"] == replace(bare, nsd_tolerance_px=2)
        assert scores.summaries["all"].dice_mean == 0.75
        assert math.isfinite(scores.summaries["all"].hd95_px_mean)

    def test_masks_hold_no_probabilities(self, folders: tuple[Path, Path]) -> None:
        scores = evaluate_folders(*folders, CONFIG, DATA)
        assert scores.calibrations == {}
        assert math.isnan(scores.summaries["all"].ece)
        assert math.isnan(scores.summaries["all"].average_precision)

    def test_arrays_are_masks_too(self, folders: tuple[Path, Path]) -> None:
        pred, true = folders
        np.save(true / "s1/b_mask.npy", square(7))
        (true / "s1/b_mask.png").unlink()
        np.save(pred / "d.npy", square(7) * np.uint8(255))
        np.save(true / "d.npy", square(7))
        dices = {s.id: s.dice for s in evaluate_folders(pred, true, CONFIG, DATA).images}
        assert dices == {"a_mask": 1, "c_mask": 1, "d": 1, "s1/b_mask": 0.25}

    def test_agrees_with_evaluate_on_the_masks_it_wrote(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        maps = []
        for i in range(6):
            levels, true = rng.integers(0, 256, (15, 20), np.uint8), rng.random((15, 20)) < 0.4
            write(tmp_path / f"true/x/{i}.png", true.astype(np.uint8) * np.uint8(255))
            maps.append(ProbMap(f"x/{i}", f"x/{i}", levels, true))
        ours = evaluate({"test": maps}, Postprocess(0.4), CONFIG, RunDir(tmp_path))
        theirs = evaluate_folders(tmp_path / "predictions/test", tmp_path / "true", CONFIG, DATA)
        masks_alone = replace(
            ours.summaries["test"],
            ece=math.nan,
            average_precision=math.nan,
            estimate_correlation=math.nan,
        )
        assert theirs.summaries["all"] == masks_alone

    def test_a_folder_scores_1_against_itself(self, folders: tuple[Path, Path]) -> None:
        assert (
            evaluate_folders(folders[1], folders[1], CONFIG, DATA).summaries["all"].dice_mean == 1
        )

    def test_all_faults_are_listed_at_once(self, folders: tuple[Path, Path]) -> None:
        pred, true = folders
        (pred / "c.png").unlink()
        write(pred / "a.png", square(2, size=(32, 24)).astype(np.uint8) * np.uint8(255))
        (pred / "s1/b.png").write_bytes((pred / "s1/b.png").read_bytes()[:40])
        with pytest.raises(CalcoError) as caught:
            evaluate_folders(pred, true, CONFIG, DATA)
        problems = caught.value.problems
        assert len(problems) == 3
        assert problems[0].code == "PRED_MISSING"
        assert (problems[1].got, problems[1].expected) == ("32 x 24", "24 x 32")
        assert "s1/b.png" in problems[2].where

    def test_predictions_without_truth_are_a_logged_warning(
        self, folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
    ) -> None:
        write(folders[0] / "unlabelled.png", square(2).astype(np.uint8))
        with caplog.at_level(logging.WARNING):
            scores = evaluate_folders(*folders, CONFIG, DATA)
        assert len(scores.images) == 3
        assert "PRED_EXTRA" in caplog.text
        assert "unlabelled.png" in caplog.text

    def test_predictions_may_all_be_empty(self, folders: tuple[Path, Path]) -> None:
        for name in ("a", "s1/b"):
            write(folders[0] / f"{name}.png", np.zeros((24, 32), np.uint8))
        assert evaluate_folders(*folders, CONFIG, DATA).summaries["all"].dice_mean == pytest.approx(
            1 / 3
        )

    def test_classes_are_chosen_in_the_truth_alone(self, tmp_path: Path) -> None:
        classes = square(2).astype(np.uint8) + square(12).astype(np.uint8) * np.uint8(2)
        write(tmp_path / "true/a.png", classes)
        write(tmp_path / "pred/a.png", square(12).astype(np.uint8) * np.uint8(255))
        data = DataConfig(foreground=(2,))
        assert (
            evaluate_folders(tmp_path / "pred", tmp_path / "true", CONFIG, data).images[0].dice == 1
        )

    def test_classes_in_both_folders_are_chosen_alike(self, tmp_path: Path) -> None:
        classes = square(2).astype(np.uint8) + square(12).astype(np.uint8) * np.uint8(2)
        write(tmp_path / "true/a.png", classes)
        write(tmp_path / "pred/a.png", classes)
        data = DataConfig(foreground=(2,))
        scores = evaluate_folders(tmp_path / "pred", tmp_path / "true", CONFIG, data)
        assert scores.images[0].counts.tp == 100

    def test_undecided_classes_are_an_error(self, tmp_path: Path) -> None:
        classes = square(2).astype(np.uint8) + square(12).astype(np.uint8) * np.uint8(2)
        write(tmp_path / "true/a.png", classes)
        write(tmp_path / "pred/a.png", square(2).astype(np.uint8))
        with pytest.raises(CalcoError, match="foreground"):
            evaluate_folders(tmp_path / "pred", tmp_path / "true", CONFIG, DATA)

    def test_groups_come_from_the_name(self, folders: tuple[Path, Path]) -> None:
        scores = evaluate_folders(*folders, CONFIG, DataConfig(group=r"^(\w)"))
        assert [s.group for s in scores.images] == ["a", "c", "s"]

    @pytest.mark.parametrize(
        ("pattern", "message"),
        [(r"^(s\d+)/", "GROUP_MISSING.*a_mask"), (r"^(", "no regular expression"), ("^a", "GROUP")],
    )
    def test_a_group_is_never_made_up(
        self, folders: tuple[Path, Path], pattern: str, message: str
    ) -> None:
        with pytest.raises(CalcoError, match=message):
            evaluate_folders(*folders, CONFIG, DataConfig(group=pattern))


def test_scoring_folders_needs_no_torch() -> None:
    code = "import calco.stages.evaluate, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
