import unicodedata
from pathlib import Path

from calco.formats.matching import match_files, split_by_name


def paths(*names: str) -> list[Path]:
    return [Path(name) for name in names]


def pairs(images: list[Path], masks: list[Path]) -> dict[str, list[str]]:
    return {i.name: [m.name for m in own] for i, own in match_files(images, masks).pairs}


def test_equal_stems_then_words() -> None:
    images = paths("a.jpg", "b.jpg", "c_sat.jpg", "image_4.jpg")
    masks = paths("a.png", "b_mask.png", "c_mask.png", "mask_4.png")
    assert pairs(images, masks) == {
        "a.jpg": ["a.png"],
        "b.jpg": ["b_mask.png"],
        "c_sat.jpg": ["c_mask.png"],
        "image_4.jpg": ["mask_4.png"],
    }


def test_the_exact_name_wins_and_the_other_mask_is_left() -> None:
    found = match_files(paths("a.jpg"), paths("a.png", "a_mask.png"))
    assert found.pairs == [(Path("a.jpg"), [Path("a.png")])]
    assert found.masks == [Path("a_mask.png")]


def test_several_masks_of_one_rank_are_kept_together() -> None:
    assert pairs(paths("a.jpg"), paths("a_gt.png", "a_mask.png")) == {
        "a.jpg": ["a_gt.png", "a_mask.png"]
    }


def test_orphans_both_ways() -> None:
    found = match_files(paths("a.png", "b.png"), paths("b.png", "c.png"))
    assert (found.images, found.masks) == (paths("a.png"), paths("c.png"))


def test_case_counts_and_wildcards_are_letters() -> None:
    assert pairs(paths("A.png", "x[1].png", "y*.png"), paths("a.png", "x1.png", "yy.png")) == {}
    assert pairs(paths("x[1].png"), paths("x[1]_mask.png")) == {"x[1].png": ["x[1]_mask.png"]}


def test_two_spellings_of_one_letter_match() -> None:
    image, mask = unicodedata.normalize("NFC", "é.png"), unicodedata.normalize("NFD", "é.png")
    assert image != mask
    assert pairs(paths(image), paths(mask)) == {image: [mask]}


def test_flat_folder_is_divided_by_words() -> None:
    assert split_by_name(paths("a.jpg", "a_mask.png", "b.png")) == (
        paths("a.jpg", "b.png"),
        paths("a_mask.png"),
    )
