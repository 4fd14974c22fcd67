from pathlib import Path

import pytest

from calco.config import DataConfig
from calco.errors import CalcoError, Problem
from calco.formats.folders import (
    FolderPairs,
    find_pairs,
    read_pairs,
    report_alone,
    report_empty_parts,
)
from calco.formats.listing import list_data
from calco.formats.reading import Reading
from calco.records import FileMask


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(root: Path, config: DataConfig | None = None) -> FolderPairs:
    return find_pairs(list_data(root), config or DataConfig())


def read(root: Path, config: DataConfig | None = None) -> Reading:
    config = config or DataConfig()
    return read_pairs(found(root, config), list_data(root), config)


def truths(reading: Reading) -> dict[str, str]:
    return {s.id: s.mask.path.name for s in reading.samples if isinstance(s.mask, FileMask)}


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images", "masks"),
        ("IMAGES", "Labels"),
        ("imgs", "gt"),
        ("photos", "GroundTruth"),
        ("cracks", "cracks_mask"),
        ("train", "train_masks"),
        (".", "masks"),
        ("Original", "Ground Truth"),
        ("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"),
        ("deep/er/images", "deep/er/annotations"),
        ("nuclei", "masks"),  # the only ones of their kind
    ],
)
def test_mask_folder_beside_image_folder(tmp_path: Path, images: str, masks: str) -> None:
    touch(tmp_path, f"{images}/a.jpg", f"{masks}/a.png")
    (pair,) = found(tmp_path).pairs
    assert (pair.images.folder.where, pair.masks.folder.where) == (images, masks)
    assert truths(read(tmp_path)) == {"a": "a.png"}


@pytest.mark.parametrize("pattern", ["{part}/{role}/{n}.png", "{role}/{part}/{n}.png"])
def test_parts_in_either_nesting(tmp_path: Path, pattern: str) -> None:
    for n, part in enumerate(("training", "valid", "test")):
        for role in ("images", "masks"):
            touch(tmp_path, pattern.format(part=part, role=role, n=n))
    subsets = {s.id.rpartition("/")[2]: s.subset for s in read(tmp_path).samples}
    assert subsets == {"0": "train", "1": "validation", "2": "test"}


def test_test_images_without_masks_are_left_alone(tmp_path: Path) -> None:
    touch(tmp_path, "train/images/a.png", "train/masks/a.png", "test/images/b.png")
    layout = found(tmp_path)
    assert [str(pair) for pair in layout.pairs] == ["train/images + train/masks"]
    assert report_alone(layout.alone) == [
        Problem(
            "FOLDER_UNUSED",
            "images without masks are no part of training",
            "test/images",
            severity="note",
        )
    ]


def test_masks_of_train_only_may_stand_beside_both_parts(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.png", "test/b.png", "masks/a.png")
    (pair,) = found(tmp_path).pairs
    assert str(pair) == "train + masks"


def test_other_unused_folders_are_a_warning(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png", "preview/p.png")
    (warning,) = report_alone(found(tmp_path).alone)
    assert (warning.severity, warning.got) == ("warning", "preview (1 image)")


def test_folders_that_only_happen_to_be_left_are_not_paired(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png", "sketches/p.png", "extra/old masks/q.png")
    layout = found(tmp_path)
    assert [str(pair) for pair in layout.pairs] == ["images + masks"]
    assert {p.where for p in layout.alone} == {"sketches", "extra/old masks"}


def test_flat_folder_with_words_in_the_names(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a_mask.png", "b.jpg", "b_GT.png", "c_seg.png", "c.bmp")
    assert truths(read(tmp_path)) == {"a": "a_mask.png", "b": "b_GT.png", "c": "c_seg.png"}


def test_words_also_within_the_mask_folder(tmp_path: Path) -> None:
    touch(tmp_path, "images/ISIC_1.jpg", "masks/ISIC_1_segmentation.png")
    assert truths(read(tmp_path)) == {"ISIC_1": "ISIC_1_segmentation.png"}


def test_folder_per_patient(tmp_path: Path) -> None:
    touch(tmp_path, "p1/p1_0.tif", "p1/p1_0_mask.tif", "p2/p2_0.tif", "p2/p2_0_mask.tif")
    assert truths(read(tmp_path)) == {"p1/p1_0": "p1_0_mask.tif", "p2/p2_0": "p2_0_mask.tif"}


def test_several_mask_folders_are_ambiguous_and_a_setting_decides(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png", "labels/a_gt.png")
    with pytest.raises(CalcoError) as caught:
        found(tmp_path)
    problem = caught.value.problems[0]
    assert (problem.code, problem.got) == ("DATA_AMBIGUOUS", "labels, masks")
    assert "data.masks=labels or --set data.masks=masks" in problem.do
    assert truths(read(tmp_path, DataConfig(masks="labels"))) == {"a": "a_gt.png"}


def test_a_label_folder_without_images_is_no_rival(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png", "labels/a.txt")
    assert str(found(tmp_path).pairs[0]) == "images + masks"


@pytest.mark.parametrize(
    "config",
    [
        DataConfig(images="photo album", masks="traced/by hand"),
        DataConfig(masks="traced/by hand"),
        DataConfig(images="photo album", masks="traced"),
    ],
)
def test_settings_override_names(tmp_path: Path, config: DataConfig) -> None:
    touch(tmp_path, "photo album/a.png", "traced/by hand/a.png")
    if config.masks == "traced":
        touch(tmp_path, "photo album/by hand/b.png", "traced/by hand/b.png")
    assert truths(read(tmp_path, config))


def test_setting_for_one_part_of_a_divided_set(tmp_path: Path) -> None:
    touch(
        tmp_path, "train/images/a.png", "train/masks/a.png", "val/images/b.png", "val/masks/b.png"
    )
    config = DataConfig(images="train/images", masks="train/masks")
    assert [s.id for s in read(tmp_path, config).samples] == ["a"]


def test_setting_that_is_not_there_proposes_the_nearest(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png")
    for name in ("mask", "../masks", "/etc"):
        with pytest.raises(CalcoError, match="DATA_SETTING") as caught:
            found(tmp_path, DataConfig(masks=name))
        assert "images, masks" in caught.value.problems[0].expected
    with pytest.raises(CalcoError, match="did you mean masks"):
        found(tmp_path, DataConfig(masks="mask"))


def test_orphans_both_ways_are_named_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, *(f"images/{n:02}.png" for n in range(13)))
    touch(tmp_path, "masks/00.png", "masks/x.png")
    problems = {p.code: p for p in read(tmp_path).problems}
    orphans = problems["ORPHAN_IMAGE"]
    assert orphans.what == "12 images without a mask"
    assert orphans.got.startswith("01.png, 02.png")
    assert orphans.got.endswith("10.png and 2 more")
    assert problems["ORPHAN_MASK"].got == "x.png"
    assert len(read(tmp_path).samples) == 1
    allowed = read(tmp_path, DataConfig(allow_unlabelled=True))
    assert sum(s.mask is None for s in allowed.samples) == 12


def test_two_masks_for_one_image_leave_it_out(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png", "masks/a.tif", "images/b.png", "masks/b.png")
    reading = read(tmp_path)
    assert truths(reading) == {"b": "b.png"}
    (problem,) = reading.problems
    assert (problem.code, problem.where) == ("DUP_MASK", "images/a.png")
    assert problem.got == "masks/a.png, masks/a.tif"


def test_no_name_in_common_shows_names_of_both(tmp_path: Path) -> None:
    touch(tmp_path, "images/foo.png", "masks/bar.png")
    with pytest.raises(CalcoError) as caught:
        read(tmp_path)
    (problem,) = caught.value.problems
    assert problem.code == "NO_PAIRS"
    assert problem.got == "images 'foo.png'; masks 'bar.png'"


@pytest.mark.parametrize("name", ["masks/foo.npy", "masks/foo_mask.npy", "train/foo_mask.npy"])
def test_masks_may_be_arrays(tmp_path: Path, name: str) -> None:
    folder = "train" if name.startswith("train") else "images"
    touch(tmp_path, f"{folder}/foo.png", f"{folder}/bar.png", name, name.replace("foo", "bar"))
    assert set(truths(read(tmp_path))) == {"foo", "bar"}


def test_arrays_beside_images_are_not_taken_for_masks(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/a.npy", "masks/a.png", "features/a.npy")
    assert truths(read(tmp_path)) == {"a": "a.png"}
    assert found(tmp_path).alone == ()


def test_a_mask_twice_as_image_and_array_is_a_fault(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/b.png", "masks/a.png", "masks/a.npy", "masks/b.npy")
    reading = read(tmp_path)
    assert truths(reading) == {"b": "b.npy"}
    assert [(p.code, p.got) for p in reading.problems] == [("DUP_MASK", "masks/a.npy, masks/a.png")]


def test_an_image_folder_without_images_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "masks/a.png", "images/a.heic", "images/b.heic", "images/notes.txt")
    with pytest.raises(CalcoError, match=r"NO_IMAGES\] images: .*got 2 \.heic, 1 \.txt") as caught:
        read(tmp_path)
    assert "convert the images" in caught.value.problems[0].do


def test_kinds_that_are_read_are_not_called_unread(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/x.npy", "masks/a.npy", "masks/b.json")
    (pair,) = found(tmp_path).pairs
    assert (pair.images.unread, pair.masks.unread) == ("1 .npy", "1 .json")


def test_parts_that_no_folder_holds_are_a_warning(tmp_path: Path) -> None:
    touch(tmp_path, "train/images/a.png", "train/masks/a.png", "test/notes.txt")
    for name in ("val/images", "val/masks"):
        (tmp_path / name).mkdir(parents=True)
    (warning,) = report_empty_parts(list_data(tmp_path))
    assert (warning.code, warning.where, warning.severity) == ("FOLDER_EMPTY", "val", "warning")
    touch(tmp_path, "val/images/b.png")
    assert report_empty_parts(list_data(tmp_path)) == []


def test_masks_of_a_kind_that_is_not_read(tmp_path: Path) -> None:
    touch(tmp_path, "images/foo.png", "masks/foo.psd")
    with pytest.raises(CalcoError, match=r"NO_MASKS\] masks: .*1 \.psd") as caught:
        read(tmp_path)
    assert len(caught.value.problems) == 1
