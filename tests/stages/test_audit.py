"""Facts and faults of each sample, and how the audit goes about it."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.stages.samples import add, add_ten, codes, index_of, run, write
from threadpoolctl import threadpool_info, threadpool_limits

from calco.config import AuditConfig, DataConfig
from calco.errors import CalcoError, Problem
from calco.records import ImageSpec, ObjectMasks, RleDialect, RleMask, Sample, SampleIndex
from calco.stages.audit import audit_samples, report_lines, require_unchanged


@pytest.fixture
def toy(tmp_path: Path) -> list[Sample]:
    return add_ten(tmp_path)


def test_a_sound_set_has_facts_and_no_faults(tmp_path: Path, toy: list[Sample]) -> None:
    audit = run(index_of(tmp_path, toy))
    assert codes(audit) == []
    assert [f.id for f in audit.facts] == [s.id for s in audit.index] == [s.id for s in toy]
    assert audit.twins == ()


def test_facts_are_measured_on_the_pixels(tmp_path: Path) -> None:
    image = np.full((4, 6, 3), 10, np.uint8)
    image[0, 0] = (250, 250, 250)
    mask = np.array(
        [
            [1, 0, 0, 0, 1, 1],
            [0, 1, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0],
            [1, 0, 0, 0, 0, 0],
        ],
        bool,
    )
    (facts,) = run(index_of(tmp_path, [add(tmp_path, "a.png", image, mask)])).facts
    assert (facts.height, facts.width, facts.channels, facts.dtype) == (4, 6, 3, "uint8")
    assert (facts.low, facts.high) == (10, 250)
    assert facts.mean == pytest.approx((23 * 10 + 250) / 24)
    assert facts.foreground_fraction == 5 / 24
    assert facts.contrast == pytest.approx(240 * (23**0.5) / 24)  # one pixel of 24 is 240 higher
    assert facts.alignment is None  # too small to say
    assert facts.n_objects == 3  # the diagonal pair is one object


def test_sixteen_bit_facts_are_those_of_the_file(tmp_path: Path) -> None:
    image = np.linspace(100, 40_000, 20 * 30).astype(np.uint16).reshape(20, 30)
    sample = add(tmp_path, "a.png", image, np.eye(20, 30, dtype=bool))
    index = replace(index_of(tmp_path, [sample]), spec=ImageSpec(1, low=0, high=65535))
    (facts,) = run(index).facts
    assert (facts.dtype, facts.low, facts.high, facts.channels) == ("uint16", 100, 40_000, 1)
    assert facts.mean == pytest.approx((100 + 40_000) / 2 / 65535 * 255, abs=0.5)


def spoil(tmp_path: Path, toy: list[Sample]) -> None:
    """Make one sample half, one zero bytes, one with a mask of another size, one doubly bad."""
    half = toy[0].image.read_bytes()
    toy[0].image.write_bytes(half[: len(half) // 2])
    toy[1].image.write_bytes(b"")
    write(tmp_path / "masks/p2.png", np.zeros((9, 9), np.uint8))
    toy[3].image.write_bytes(b"<html>not found</html>")
    write(tmp_path / "masks/p3.png", np.full((50, 50), 77, np.uint8))


def test_every_fault_is_gathered_with_its_file(tmp_path: Path, toy: list[Sample]) -> None:
    spoil(tmp_path, toy)
    audit = run(index_of(tmp_path, toy))
    found = sorted((p.code, p.where) for p in audit.errors)
    assert found == [
        ("IMG_EMPTY", "images/p1.png"),
        ("IMG_FORMAT", "images/p3.png"),
        ("IMG_TRUNCATED", "images/p0.png"),
        ("MASK_SIZE", "masks/p2.png"),
        ("MASK_VALUES", "masks/p3.png"),  # found although its image is bad as well
    ]
    assert all("data.on_bad: skip" in p.do for p in audit.errors)
    assert [f.id for f in audit.facts] == [f"p{i}" for i in range(4, 10)]


def test_skip_leaves_bad_samples_out_and_says_so(tmp_path: Path, toy: list[Sample]) -> None:
    spoil(tmp_path, toy)
    audit = run(index_of(tmp_path, toy), DataConfig(on_bad="skip"))
    assert audit.errors == ()
    assert len(audit.index) == len(audit.facts) == 6
    left_out = [p for p in audit.warnings if p.what.endswith("; left out")]
    assert len(left_out) == 5
    assert not any("data.on_bad" in p.do for p in audit.problems)  # it is set


def test_problems_of_the_index_stay_and_errors_come_first(
    tmp_path: Path, toy: list[Sample]
) -> None:
    toy[4].image.write_bytes(b"")
    note = Problem("A_NOTE", "ignored files", severity="note")
    warning = Problem("Z_WARNING", "odd", severity="warning")
    error = Problem("ORPHAN_MASK", "mask without image")
    audit = run(index_of(tmp_path, toy, note, warning, error))
    assert [p.severity for p in audit.problems] == ["error", "error", "warning", "note", "note"]
    assert codes(audit, "error") == ["IMG_EMPTY", "ORPHAN_MASK"]


def test_images_without_masks_are_an_error_unless_allowed(
    tmp_path: Path, toy: list[Sample]
) -> None:
    index = index_of(tmp_path, [*toy[1:], replace(toy[0], mask=None)])
    (problem,) = [p for p in run(index).problems if p.code == "ORPHAN_IMAGE"]
    assert (problem.severity, problem.got) == ("error", "p0")
    audit = run(index, DataConfig(allow_unlabelled=True))
    (problem,) = [p for p in audit.problems if p.code == "ORPHAN_IMAGE"]
    assert problem.severity == "note"
    assert "p0" not in [s.id for s in audit.index]
    assert len(audit.facts) == 9


def test_an_unreadable_unlabelled_image_is_still_a_fault(tmp_path: Path, toy: list[Sample]) -> None:
    toy[0].image.write_bytes(b"")
    index = index_of(tmp_path, [*toy[1:], replace(toy[0], mask=None)])
    assert codes(run(index, DataConfig(allow_unlabelled=True)), "error") == ["IMG_EMPTY"]


def test_run_lengths_are_decoded_at_the_size_of_their_image(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    sample = add(tmp_path, "a.png", image, None)
    good = replace(sample, mask=RleMask(("1 2", "20 1"), RleDialect(), "t.csv line 2"))
    (facts,) = run(index_of(tmp_path, [good])).facts
    assert facts.foreground_fraction == 3 / 20
    bad = replace(sample, mask=RleMask(("21 1",), RleDialect(), "t.csv line 2"))
    errors = run(index_of(tmp_path, [bad])).errors
    assert ("RLE_RANGE", "t.csv line 2") in [(p.code, p.where) for p in errors]


def test_run_lengths_of_an_unreadable_image_raise_no_second_fault(tmp_path: Path) -> None:
    sample = add(tmp_path, "a.png", np.zeros((4, 5, 3), np.uint8), None)
    sample.image.write_bytes(b"")
    index = index_of(tmp_path, [replace(sample, mask=RleMask(("1 2",), RleDialect(), "t.csv"))])
    assert codes(run(index), "error") == ["FEW_SAMPLES", "IMG_EMPTY"]


def test_objects_are_counted_in_images_of_any_size(tmp_path: Path) -> None:
    dots = np.zeros((520, 520), bool)
    dots[::2, ::2] = True  # more than 16 bits can number
    image = np.arange(520 * 520).reshape(520, 520).astype(np.uint8)
    (facts,) = run(index_of(tmp_path, [add(tmp_path, "a.png", image, dots)])).facts
    assert facts.n_objects == 260 * 260


def test_libraries_get_their_threads_back(tmp_path: Path, toy: list[Sample]) -> None:
    def threads() -> tuple[int, set[int]]:
        blas = [lib for lib in threadpool_info() if lib["user_api"] == "blas"]
        return cv2.getNumThreads(), {lib["num_threads"] for lib in blas}

    before = cv2.getNumThreads()
    inside: list[tuple[int, set[int]]] = []
    with threadpool_limits(limits=2, user_api="blas"):  # also on a machine with one core
        audit_samples(
            index_of(tmp_path, toy[:2]),
            DataConfig(),
            AuditConfig(),
            lambda *_: inside.append(threads()),
        )
        assert inside == [(1, {1})] * 2
        assert threads() == (before, {2})


def test_conversions_are_noted_once_with_their_images(tmp_path: Path, toy: list[Sample]) -> None:
    for sample in toy[:3]:
        png = cv2.imread(str(sample.image), cv2.IMREAD_COLOR)
        assert png is not None
        alpha = np.full((*png.shape[:2], 1), 255, np.uint8)
        alpha[0, 0] = 0
        write(sample.image, np.concatenate([png, alpha], axis=2))
    (note,) = [p for p in run(index_of(tmp_path, toy)).problems if p.code == "IMG_NOTE"]
    assert note.what == "3 images: transparency composited on black"
    assert (note.got, note.severity) == ("p0, p1, p2", "note")


def test_progress_is_told_in_the_calling_thread(tmp_path: Path, toy: list[Sample]) -> None:
    told: list[tuple[int, int]] = []

    def listen(done: int, total: int) -> None:
        assert threading.current_thread() is threading.main_thread()
        told.append((done, total))

    audit_samples(index_of(tmp_path, toy), DataConfig(), AuditConfig(), listen)
    assert told == [(i, 10) for i in range(1, 11)]


def test_an_interrupt_cancels_what_is_queued(
    tmp_path: Path, toy: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    first_done = threading.Event()

    def slow(sample: Sample, _: SampleIndex) -> tuple[Problem, ...]:
        if read:
            first_done.wait(5)
        read.append(sample.id)
        return ()

    def interrupt(_done: int, _total: int) -> None:
        threading.Timer(0.2, first_done.set).start()
        raise KeyboardInterrupt

    monkeypatch.setattr("calco.stages.audit._measure", slow)
    monkeypatch.setattr("calco.stages.audit._n_processors", lambda: 2)
    with pytest.raises(KeyboardInterrupt):
        audit_samples(index_of(tmp_path, toy * 10), DataConfig(), AuditConfig(), interrupt)
    assert len(read) < 10


def test_an_empty_index_is_an_error_not_a_crash(tmp_path: Path) -> None:
    audit = run(index_of(tmp_path, []))
    assert codes(audit) == ["FEW_SAMPLES"]
    assert "error[FEW_SAMPLES]" in report_lines(audit.problems)[0]


def test_changed_and_vanished_images_are_named(tmp_path: Path, toy: list[Sample]) -> None:
    audit = run(index_of(tmp_path, toy))
    require_unchanged(audit)
    os.utime(toy[0].image)  # a touched file is the same file
    require_unchanged(audit)
    toy[3].image.unlink()
    toy[5].image.write_bytes(toy[6].image.read_bytes())
    with pytest.raises(CalcoError) as caught:
        require_unchanged(audit)
    (problem,) = caught.value.problems
    assert (problem.code, problem.got) == ("DATA_CHANGED", "p3, p5")


def test_changed_masks_are_named_too(tmp_path: Path) -> None:
    image, mask = np.arange(192, dtype=np.uint8).reshape(8, 8, 3), np.eye(8, dtype=bool)
    single, other = add(tmp_path, "a.png", image, mask), add(tmp_path, "b.png", 255 - image, mask)
    objects = ObjectMasks((tmp_path / "masks/b.png",))
    rows = RleMask(("1 3",), RleDialect(), "m.csv:2")
    samples = [single, replace(other, mask=objects), Sample("c", single.image, rows)]
    audit = run(index_of(tmp_path, samples))
    assert [bool(f.mask_sha256) for f in audit.facts] == [True, True, False]
    require_unchanged(audit)
    write(objects.paths[0], np.zeros((8, 8), np.uint8))
    with pytest.raises(CalcoError, match=r"masks of 1 sample changed.*got b "):
        require_unchanged(audit)


def test_report_groups_problems_by_kind(tmp_path: Path) -> None:
    same = [Problem("IMG_EMPTY", "zero bytes", f"{i}.png", do="copy again") for i in range(12)]
    note = Problem("SIZES", "2 sizes", severity="note")
    lines = report_lines((*same, note))
    assert lines == [
        "error[IMG_EMPTY] 12 times: zero bytes -- copy again",
        *(f"    {i}.png" for i in range(10)),
        "    and 2 more",
        "note[SIZES]: 2 sizes",
    ]


def test_report_shows_what_differs_within_a_kind(tmp_path: Path) -> None:
    first = Problem("MASK_VALUES", "other values", "a.png", got="7", severity="warning")
    other = replace(first, where="b.png\nfake", what="coloured", got="")
    lines = report_lines((first, other))
    assert lines == [
        "warning[MASK_VALUES] 2 times: other values",
        "    a.png: 7",
        r"    b.png\nfake: coloured",
    ]
