"""What the audit finds wrong with sound files: copies, series, masks that do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.stages.samples import CODE, add, add_ten, codes, index_of, run, write

from calco.config import AuditConfig, DataConfig, SplitConfig
from calco.errors import Problem
from calco.images.alignment import Edges
from calco.images.toy import draw_sample
from calco.records import FileMask, Sample, SampleFacts, Twins
from calco.stages.samples import index_samples
from calco.stages.split import split_samples


@pytest.fixture
def toy(tmp_path: Path) -> list[Sample]:
    return add_ten(tmp_path)


def plant_twins(root: Path, toy: list[Sample]) -> list[Sample]:
    """Copy p0 as it is, p1 as JPEG and p2 at half size into other folders."""
    (root / "images/b").mkdir()
    (root / "images/b/same.png").write_bytes(toy[0].image.read_bytes())
    exact = replace(toy[0], id="b/same", image=root / "images/b/same.png")
    pixels = [cv2.imread(str(sample.image)) for sample in toy]
    assert pixels[1] is not None
    assert pixels[2] is not None
    jpeg = add(root, "b/c/photo.jpg", pixels[1], draw_sample(0, 1)[1])
    half = cv2.resize(pixels[2], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    small = add(root, "z/half.png", half, np.ones(half.shape[:2], bool))
    return [*toy, exact, jpeg, small]


def test_planted_twins_are_found_and_never_separated(tmp_path: Path, toy: list[Sample]) -> None:
    audit = run(index_of(tmp_path, plant_twins(tmp_path, toy)))
    assert audit.twins == (
        Twins(("b/c/photo", "p1"), "near"),
        Twins(("b/same", "p0"), "exact"),
        Twins(("p2", "z/half"), "near"),
    )
    assert codes(audit, "warning") == ["MASK_FULL", "TWINS_EXACT", "TWINS_NEAR", "TWINS_NEAR"]
    for seed in range(20):
        split = split_samples(audit, SplitConfig(seed=seed))
        part = {a.id: a.subset for a in split.assignments}
        assert all(part[twins.ids[0]] == part[twins.ids[1]] for twins in audit.twins)


def test_twins_in_two_given_parts_leak(tmp_path: Path, toy: list[Sample]) -> None:
    samples = [replace(s, subset="train") for s in plant_twins(tmp_path, toy)]
    samples[-1] = replace(samples[-1], subset="test")
    leaks = [p.got for p in run(index_of(tmp_path, samples)).problems if p.code == "LEAK"]
    assert leaks == ["p2 (train), z/half (test)"]


def test_the_same_image_with_two_masks(tmp_path: Path, toy: list[Sample]) -> None:
    double = tmp_path / "images/double.png"
    double.write_bytes(toy[0].image.read_bytes())
    other = ~draw_sample(0, 0)[1]
    mask = write(tmp_path / "masks/double.png", other.astype(np.uint8) * 255)
    audit = run(index_of(tmp_path, [*toy, Sample("double", double, FileMask(mask))]))
    assert codes(audit, "warning") == ["TWINS_EXACT", "TWIN_MASKS"]


def test_a_series_is_noted_and_kept_together(tmp_path: Path, toy: list[Sample]) -> None:
    slices = []
    for i in range(6):
        image, mask = draw_sample(3, 1)
        drift = np.roll(image, i, axis=1) + np.random.default_rng(i).integers(0, 9, image.shape)
        slices.append(add(tmp_path, f"stack_{i}.png", drift.clip(0, 255).astype(np.uint8), mask))
    audit = run(index_of(tmp_path, toy + slices))
    together = {name for twins in audit.twins for name in twins.ids}
    assert together == {sample.id for sample in slices}
    split = split_samples(audit, SplitConfig())
    assert len({a.subset for a in split.assignments if a.id in together}) == 1


def test_a_fixed_camera_is_noted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scene = rng.integers(60, 160, (16, 16)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    samples = []
    for i in range(10):
        mask = np.zeros(scene.shape, bool)
        row, col = rng.integers(0, 90, 2)
        mask[row : row + 25, col : col + 25] = True
        image = np.where(mask, 250, scene + rng.integers(0, 6, scene.shape)).astype(np.uint8)
        samples.append(add(tmp_path, f"{i}.png", np.repeat(image[..., None], 3, 2), mask))
    audit = run(index_of(tmp_path, samples))
    assert [p.severity for p in audit.problems if p.code == "SHARED_SCENE"] == ["note"]
    silent = run(index_of(tmp_path, samples), config=AuditConfig(twins=False))
    assert "SHARED_SCENE" not in codes(silent, "note")


def test_masks_that_do_not_lie_on_their_images_are_named(tmp_path: Path) -> None:
    drawn = [draw_sample(0, i) for i in range(14)]
    masks = [mask for _, mask in drawn]
    same = [i for i in range(14) if masks[i].shape == masks[2].shape]
    first, second = same[:2]
    masks[first], masks[second] = masks[second], masks[first]
    moved, turned = [i for i in range(3, 14) if i not in (first, second)][:2]
    masks[moved] = np.roll(masks[moved], (6, -8), axis=(0, 1))
    masks[turned] = masks[turned][::-1]
    samples = [
        add(tmp_path, f"p{i:02d}.png", image, mask)
        for i, ((image, _), mask) in enumerate(zip(drawn, masks, strict=True))
    ]
    audit = run(index_of(tmp_path, samples))
    assert [(p.code, p.where) for p in audit.warnings] == [
        ("MASK_SHIFTED", f"p{moved:02d}"),
        ("MASK_SWAPPED", f"p{first:02d}"),
        ("MASK_SWAPPED", f"p{second:02d}"),
        ("MASK_TURNED", f"p{turned:02d}"),
    ]
    assert "moved 6 px up and 8 px right" in audit.warnings[0].got
    silent = run(index_of(tmp_path, samples), config=AuditConfig(alignment=False))
    assert codes(silent, "warning") == []


def test_edges_are_kept_of_few_samples_only(
    tmp_path: Path, toy: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []

    def count(_: Sequence[SampleFacts], poor: Mapping[str, Edges]) -> list[Problem]:
        kept.append(len(poor))
        return []

    monkeypatch.setattr("calco.stages.audit.MAX_POOR", 3)
    monkeypatch.setattr("calco.stages.audit.suspect_places", count)
    empty = np.zeros((40, 40, 3), np.uint8)
    noise = np.random.default_rng(0).integers(0, 2, (40, 40)) > 0
    poor = [add(tmp_path, f"n{i}.png", empty + noise.T[..., None] * i, noise) for i in range(1, 6)]
    run(index_of(tmp_path, toy + poor))
    assert kept == [3]


def test_images_that_are_masks_are_named(tmp_path: Path, toy: list[Sample]) -> None:
    _, mask = draw_sample(0, 30)
    drawing = add(tmp_path, "p99.png", mask.astype(np.uint8) * 255, mask)
    audit = run(index_of(tmp_path, [*toy, drawing]))
    assert [(p.code, p.got) for p in audit.warnings] == [("IMG_TWO_VALUED", "p99")]
    assert [f.id for f in audit.facts if f.two_valued] == ["p99"]


def test_swapped_folders_are_seen_from_both_sides(tmp_path: Path) -> None:
    for i in range(9):
        image, mask = draw_sample(0, i)
        write(tmp_path / f"images/p{i}.png", mask.astype(np.uint8) * 255)
        write(tmp_path / f"masks/p{i}.png", image)
    audit = run(index_samples(tmp_path, DataConfig()))
    assert "MASK_PHOTO" in codes(audit, "error")
    (problem,) = [p for p in audit.warnings if p.code == "IMG_TWO_VALUED"]
    assert problem.what.startswith("9 images with two values")
    assert "data.images and data.masks" in problem.do


def test_shares_are_not_judged_while_the_mask_code_is_undecided(
    tmp_path: Path, toy: list[Sample]
) -> None:
    undecided = Problem("MASK_CLASSES", "several values")
    inverted = replace(index_of(tmp_path, toy, undecided), code=replace(CODE, values=(0, 255)))
    assert codes(run(inverted), "error") == ["MASK_CLASSES"]
    assert codes(run(replace(inverted, problems=())), "error") == ["MASK_ALL_FULL"]


def test_what_the_index_knows_is_not_said_twice(tmp_path: Path, toy: list[Sample]) -> None:
    known = Problem("MASK_INVERTED", "seen before", severity="warning")
    inverted = replace(index_of(tmp_path, toy, known), code=replace(CODE, invert=True))
    limit = AuditConfig(max_foreground_fraction=0.5)
    assert codes(run(inverted, config=limit), "warning").count("MASK_INVERTED") == 1
