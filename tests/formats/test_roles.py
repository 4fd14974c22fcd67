import unicodedata
from pathlib import Path

import pytest

from calco.formats.roles import Place, Role, bare_stem, is_split_list, place_of, stem_of


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("images", Place("image")),
        ("Masks", Place("mask")),
        ("ground_truth", Place("mask")),
        ("Ground Truth", Place("mask")),
        ("cracks", Place(above=("cracks",))),
        ("cracks_gt", Place("mask", above=("cracks",))),
        ("train/images", Place("image", "train")),
        ("masks/valid", Place("mask", "validation")),
        ("train_masks", Place("mask", "train")),
        ("masks-train", Place("mask", "train")),
        ("mask_images", Place("mask")),
        ("val2017", Place(None, "validation")),
        ("stage1_train/AB-1/masks", Place("mask", "train", ("stage1",), ("AB-1",))),
        ("images/patient_7", Place("image", below=("patient_7",))),
        # words at the start of an id say nothing
        ("test_01/images", Place("image", above=("test_01",))),
        ("label_studio/images", Place("image", above=("label_studio",))),
        (
            "ISIC2018_Task1-2_Training_Input",
            Place("image", "train", above=("ISIC2018_Task1-2",)),
        ),
    ],
)
def test_place(path: str, place: Place) -> None:
    assert place_of(path.split("/")) == place


@pytest.mark.parametrize(
    ("name", "is_list"),
    [
        ("train.txt", True),
        ("VAL.TXT", True),
        ("trainval.lst", True),
        ("split.csv", True),
        ("splits.json", True),
        ("train.csv", False),  # more often the masks as runs
        ("notes.txt", False),
        ("train.png", False),
    ],
)
def test_lists_of_parts(name: str, is_list: bool) -> None:
    assert is_split_list(Path(name)) is is_list


def test_root_says_nothing() -> None:
    assert place_of(()) == Place()


@pytest.mark.parametrize(
    ("stem", "role", "bare"),
    [
        ("a_mask", "mask", "a"),
        ("a-GT", "mask", "a"),
        ("ISIC_0000000_segmentation", "mask", "ISIC_0000000"),
        ("a_ground_truth", "mask", "a"),
        ("mask_007", "mask", "007"),
        ("mask", "mask", ""),
        ("a", "mask", None),
        ("unmask", "mask", None),
        ("100034_sat", "image", "100034"),
        ("image_7", "image", "7"),
        ("a_mask", "image", None),
    ],
)
def test_bare_stem(stem: str, role: Role, bare: str | None) -> None:
    assert bare_stem(stem, role) == bare


def test_stems_are_composed() -> None:
    decomposed = unicodedata.normalize("NFD", "café")
    assert stem_of(Path(f"{decomposed}.v2.png")) == "café.v2"
