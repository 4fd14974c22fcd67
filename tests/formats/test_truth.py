"""Truth from files, objects and runs: sizes, unions and inversion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from tests.images.pictures import fault, save

from calco.formats.truth import read_sample, read_truth
from calco.records.data import (
    FileMask,
    ImageSpec,
    MaskCode,
    ObjectMasks,
    RleDialect,
    RleMask,
    Sample,
    SampleIndex,
)

CODE = MaskCode("values", values=(255,), background=(0,))
INVERTED = MaskCode("values", values=(255,), background=(0,), invert=True)
SHAPE = np.array([[0, 1, 0], [1, 1, 0]], bool)  # (2, 3)


def write(path: Path, mask: NDArray[np.bool_]) -> Path:
    return save(path, mask.astype(np.uint8) * 255)


def test_file(tmp_path: Path) -> None:
    source = FileMask(write(tmp_path / "a.png", SHAPE))
    for size in [(2, 3), None]:
        mask = read_truth(source, CODE, size)
        assert mask.dtype == bool
        assert_array_equal(mask, SHAPE)
    assert_array_equal(read_truth(source, INVERTED, (2, 3)), ~SHAPE)


def test_wrong_size_is_never_resized(tmp_path: Path) -> None:
    source = FileMask(write(tmp_path / "a.png", SHAPE))
    problem = fault(lambda: read_truth(source, CODE, (2, 4)))
    assert (problem.code, problem.where) == ("MASK_SIZE", str(tmp_path / "a.png"))
    assert problem.got == "mask 2 x 3"
    assert problem.expected == "2 x 4 (H x W) like its image"
    assert "transpose" not in problem.what


def test_transposed_size_is_recognised(tmp_path: Path) -> None:
    source = FileMask(write(tmp_path / "a.png", SHAPE))
    assert "equals the transpose" in fault(lambda: read_truth(source, CODE, (3, 2))).what


def test_objects_are_joined(tmp_path: Path) -> None:
    top, bottom = SHAPE.copy(), SHAPE.copy()
    top[1], bottom[0] = False, False
    paths = (write(tmp_path / "1.png", top), write(tmp_path / "2.png", bottom))
    assert_array_equal(read_truth(ObjectMasks(paths), CODE, (2, 3)), SHAPE)
    assert_array_equal(read_truth(ObjectMasks(paths), CODE), SHAPE)
    # only the union is inverted: inverting each object would leave nothing
    assert_array_equal(read_truth(ObjectMasks(paths), INVERTED, (2, 3)), ~SHAPE)


def test_object_of_another_size_is_named(tmp_path: Path) -> None:
    paths = (write(tmp_path / "1.png", SHAPE), write(tmp_path / "2.png", SHAPE[:, :2]))
    for size in [(2, 3), None]:
        problem = fault(lambda size=size: read_truth(ObjectMasks(paths), CODE, size))  # type: ignore[misc]
        assert (problem.code, problem.where) == ("MASK_SIZE", str(tmp_path / "2.png"))


def test_no_objects_is_an_empty_mask() -> None:
    assert_array_equal(read_truth(ObjectMasks(()), CODE, (2, 3)), np.zeros((2, 3), bool))
    assert fault(lambda: read_truth(ObjectMasks(()), CODE)).code == "MASK_SIZE_UNKNOWN"


def test_runs_are_joined() -> None:
    # column-major from 1: 2 is (1, 0), 3 and 4 are (0, 1) and (1, 1)
    source = RleMask(("2 1", "3 2"), RleDialect(), "train.csv:2")
    code = MaskCode("rle")
    assert_array_equal(read_truth(source, code, (2, 3)), SHAPE)
    assert_array_equal(read_truth(source, MaskCode("rle", invert=True), (2, 3)), ~SHAPE)
    empty = RleMask((), RleDialect(), "train.csv:2")
    assert not read_truth(empty, code, (2, 3)).any()


def test_runs_need_a_size() -> None:
    source = RleMask(("2 1",), RleDialect(), "train.csv:2")
    problem = fault(lambda: read_truth(source, MaskCode("rle")))
    assert (problem.code, problem.where) == ("MASK_SIZE_UNKNOWN", "train.csv:2")


def test_broken_runs_name_their_line() -> None:
    source = RleMask(("2 x",), RleDialect(), "train.csv:7")
    problem = fault(lambda: read_truth(source, MaskCode("rle"), (2, 3)))
    assert problem.code == "RLE_SYNTAX"
    assert "train.csv:7" in problem.where


def an_index(root: Path, sample: Sample) -> SampleIndex:
    return SampleIndex(root, "by hand", (sample,), ImageSpec(channels=1), CODE)


def test_a_sample_is_read_as_its_data_set_says(tmp_path: Path) -> None:
    image = write(tmp_path / "image.png", ~SHAPE)
    sample = Sample("a", image, FileMask(write(tmp_path / "mask.png", SHAPE)))
    pixels, true = read_sample(sample, an_index(tmp_path, sample))
    assert_array_equal(pixels, np.where(SHAPE, 0, 255)[..., None])
    assert_array_equal(true, SHAPE)
    other = ImageSpec(channels=3)  # of a model from elsewhere
    assert read_sample(sample, an_index(tmp_path, sample), other)[0].shape == (2, 3, 3)


def test_faults_of_a_sample_are_placed_below_the_data_root(tmp_path: Path) -> None:
    image = write(tmp_path / "image.png", SHAPE)
    mask = FileMask(write(tmp_path / "mask.png", SHAPE.T))
    gone = FileMask(tmp_path / "gone.png")
    for source, where in [(mask, "mask.png"), (gone, "gone.png")]:
        sample = Sample("a", image, source)
        assert fault(lambda s=sample: read_sample(s, an_index(tmp_path, s))).where == where  # type: ignore[misc]
    bare = Sample("a", image)
    assert fault(lambda: read_sample(bare, an_index(tmp_path, bare))).code == "MASK_MISSING"
