"""Which samples and files a problem is about, and that showing them cannot fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.images.facts import sound
from tests.stages.pages import write_png

from calco.errors import Problem
from calco.formats.evidence import Evidence, _visible, count_named, named
from calco.records import (
    Audit,
    FileMask,
    ImageSpec,
    MaskCode,
    ObjectMasks,
    RleDialect,
    RleMask,
    Sample,
    SampleIndex,
)
from calco.records.data import MaskSource
from calco.wording import name_some

SIZE = (6, 8)


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    """Four samples: two of files, one of objects, one of runs; the last two in sub-folders."""
    root = tmp_path / "data"
    mask = np.zeros(SIZE, np.uint8)
    mask[:3] = 255  # the upper half
    grey = np.full(SIZE, 90, np.uint8)
    masks: tuple[MaskSource, ...] = (
        FileMask(write_png(root / "masks" / "a.png", mask)),
        FileMask(write_png(root / "masks" / "1.png", mask)),
        ObjectMasks((write_png(root / "c" / "masks" / "o1.png", mask),)),
        RleMask(("1 3",), RleDialect(), "train.csv:2"),
    )
    images = ("images/a.png", "images/1.png", "c/images/c.png", "deep/d.png")
    samples = tuple(
        Sample(name, write_png(root / image, grey), truth)
        for name, image, truth in zip(("a", "1", "c", "deep/d"), images, masks, strict=True)
    )
    facts = tuple(sound(s.id, foreground_fraction=0.5, n_objects=1) for s in samples)
    spec, code = ImageSpec(channels=1), MaskCode("values", (255,))
    return Audit(SampleIndex(root, "made", samples, spec, code), facts)


def about(audit: Audit, where: str = "", got: str = "", ids: tuple[str, ...] = ()) -> list[str]:
    found = Evidence(audit).about(Problem("X", "x", where, got, do="y", ids=ids))
    root = audit.index.root
    return [i.id if isinstance(i, Sample) else i.relative_to(root).as_posix() for i in found]


def test_ids_come_first(audit: Audit) -> None:
    assert about(audit, "images/a.png", "1", ids=("c", "deep/d", "gone")) == ["c", "deep/d"]


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("images/a.png", "a"),
        ("masks/1.png", "1"),
        ("c/masks/o1.png", "c"),
        ("deep/d.png", "deep/d"),
        ("a", "a"),
    ],
)
def test_a_place_is_that_of_its_sample(audit: Audit, where: str, name: str) -> None:
    assert about(audit, where) == [name]


def test_ids_are_found_in_lists_of_names(audit: Audit) -> None:
    assert about(audit, got=name_some(["a", "c", "x"], most=2)) == ["a", "c"]
    assert about(audit, "a", "a (train), c (test), deep/d (None)") == ["a", "c", "deep/d"]
    assert about(audit, "a", "2 of 3") == ["a"]


def test_pixel_values_are_not_taken_for_ids(audit: Audit) -> None:
    assert about(audit, "masks/gone.png", "0, 1, 2") == ["masks/gone.png"]
    assert about(audit, "train.csv:2", "1") == []


def test_files_are_found_that_belong_to_no_sample(audit: Audit) -> None:
    root = audit.index.root
    write_png(root / "images" / "lone.png", np.zeros(SIZE, np.uint8))
    (root / "images" / "notes.txt").write_text("x")
    assert about(audit, "images", "lone.png, gone.png, notes.txt") == ["images/lone.png"]
    assert about(audit, got="images/lone.png and 3 more") == ["images/lone.png"]
    assert about(audit, "images/lone.png", "images/lone.png") == ["images/lone.png"]


def test_nothing_outside_the_data_folder_is_shown(audit: Audit, tmp_path: Path) -> None:
    secret = write_png(tmp_path / "secret.png", np.zeros(SIZE, np.uint8))
    (audit.index.root / "link.png").symlink_to(secret)
    for where in ("../secret.png", str(secret), "link.png"):
        assert about(audit, where) == about(audit, got=where) == []


def test_names_of_no_file_do_no_harm(audit: Audit) -> None:
    (audit.index.root / "loop.png").symlink_to("loop.png")
    for where in ("loop.png", "x" * 300 + ".png", "a/../../b.png"):
        assert about(audit, got=where) == []
        evidence = Evidence(audit)
        shown = [evidence.picture(i) for i in evidence.about(Problem("X", "x", where, do="y"))]
        assert all(picture.trouble and not picture.uri for picture in shown)
    assert about(audit, "a\0.png") == ["a\\x00.png"]  # made printable, so it names no file


def test_a_sample_is_shown_with_its_mask(audit: Audit) -> None:
    evidence = Evidence(audit)
    for sample in audit.index:
        picture = evidence.picture(sample)
        assert picture.uri.startswith("data:image/jpeg;base64,")
        assert picture.note == "50 % in 1 piece"
    names = [evidence.picture(sample).name for sample in audit.index]
    assert names == ["a.png", "1.png", "c.png", "deep/d.png"]


def test_every_file_is_read_once(audit: Audit) -> None:
    evidence, sample = Evidence(audit), audit.index.samples[0]
    first = evidence.picture(sample)
    sample.image.unlink()
    assert evidence.picture(sample) == first
    assert Evidence(audit).picture(sample).trouble == "file does not exist"


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"<html>"])
def test_a_damaged_file_gives_its_reason(audit: Audit, content: bytes) -> None:
    path = audit.index.root / "images" / "bad.png"
    path.write_bytes(content)
    picture = Evidence(audit).picture(path)
    assert picture.uri == ""
    assert picture.trouble
    assert picture.name == "images/bad.png"


def test_opencv_giving_up_is_no_end(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise cv2.error("Failed to allocate")

    monkeypatch.setattr("calco.formats.evidence.overlay", fail)
    assert Evidence(audit).picture(audit.index.samples[0]).trouble == "it cannot be drawn"


def test_an_empty_mask_is_called_so(audit: Audit) -> None:
    empty = replace(audit, facts=(replace(audit.facts[0], foreground_fraction=0.0, n_objects=0),))
    assert Evidence(empty).picture(audit.index.samples[0]).note == "empty mask"


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [SIZE, (*SIZE, 3), (*SIZE, 5)])
def test_any_depth_is_stretched_to_black_and_white(dtype: str, shape: tuple[int, ...]) -> None:
    levels = np.zeros(shape, dtype)
    levels[0] = 1
    visible = _visible(levels)
    assert visible.dtype == np.uint8
    assert visible.shape == (*SIZE, shape[2] if len(shape) == 3 else 1)
    assert (visible[0] == 255).all()
    assert (visible[1:] == 0).all()


def test_one_value_everywhere_stays_what_it_is() -> None:
    assert (_visible(np.zeros(SIZE, np.uint8)) == 0).all()
    assert (_visible(np.full(SIZE, 255, np.uint8)) == 255).all()
    assert (_visible(np.full(SIZE, -1, np.float32)) == 0).all()


def test_names_are_read_back_as_they_were_listed() -> None:
    names = [f"s{n}" for n in range(12)]
    assert named(name_some(names)) == tuple(names[:10])
    assert count_named(Problem("X", "x", got=name_some(names), do="y")) == 12
    assert count_named(Problem("X", "x", got="a", do="y", ids=tuple(names))) == 12
    assert named("") == ()
