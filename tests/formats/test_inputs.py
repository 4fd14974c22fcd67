"""What files, folders and patterns stand for."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from calco.errors import CalcoError
from calco.formats.inputs import find_images


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def ids(*inputs: str | Path, skip: Path | None = None) -> list[str]:
    return [image.id for image in find_images(inputs, skip)]


def test_a_folder_is_searched_to_the_bottom_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a.JPG", "sub/c.tif", "sub/deep/d.webp", "notes.txt")
    assert ids(tmp_path) == ["a", "b", "sub/c", "sub/deep/d"]


def test_litter_and_hidden_folders_are_ignored(tmp_path: Path) -> None:
    touch(
        tmp_path, "a.png", "._a.png", ".DS_Store", "Thumbs.db", ".ipynb_checkpoints/a-copy.png",
        "__MACOSX/a.png",
    )  # fmt: skip
    assert ids(tmp_path) == ["a"]


def test_names_that_are_no_text_are_refused_before_any_work(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(CalcoError, match=r"ID_ENCODING.*1 file name.*caf\\udce9\.png"):
        find_images([tmp_path])


def test_single_files_are_taken_whatever_their_name(tmp_path: Path) -> None:
    touch(tmp_path, "x/photo", "y/b.png")
    assert ids(tmp_path / "x/photo", tmp_path / "y/b.png") == ["b", "photo"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["a", "b"]),
        ("?.png", ["a", "b"]),
        ("**/*.png", ["a", "b", "sub/c"]),
        ("sub/*", ["c", "d"]),
        ("[ab].png", ["a", "b"]),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    touch(tmp_path, "a.png", "b.png", "sub/c.png", "sub/d.jpg", ".hidden.png")
    assert ids(str(tmp_path / pattern)) == expected


def test_a_name_that_exists_is_no_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "scan[1].png", "scan1.png", "all*/b.png", "all2/c.png")
    assert ids(str(tmp_path / "scan[1].png")) == ["scan[1]"]
    assert ids(str(tmp_path / "all*")) == ["b"]


def test_awkward_names_stay_what_they_are(tmp_path: Path) -> None:
    names = ["-rf", "a b", "x\ny", "=1+1", "ünï", "scan.v2", "{id}"]
    touch(tmp_path, *(f"{name}.png" for name in names))
    assert set(ids(tmp_path)) == set(names)


def test_ids_are_in_composed_form(tmp_path: Path) -> None:
    touch(tmp_path, unicodedata.normalize("NFD", "é") + ".png")
    assert ids(tmp_path) == ["é"]


def test_a_file_reached_twice_counts_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    assert ids(tmp_path, tmp_path / "a.png", str(tmp_path / "*.png")) == ["a"]


@pytest.mark.parametrize("names", [("a.png", "a.jpg"), ("A.png", "a.png"), ("s/a.png", "S/A.tif")])
def test_images_that_would_share_a_name_are_listed(tmp_path: Path, names: tuple[str, str]) -> None:
    touch(tmp_path, *names)
    with pytest.raises(CalcoError) as caught:
        find_images([tmp_path])
    assert "DUP_ID" in str(caught.value)
    assert all(name in str(caught.value) for name in names)


def test_same_names_in_two_given_folders_collide(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.png", "y/a.png")
    with pytest.raises(CalcoError, match="DUP_ID"):
        find_images([tmp_path / "x", tmp_path / "y"])


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path, "a.txt", "b.txt", "c.dcm", "README")
    with pytest.raises(CalcoError, match=r"INPUT_EMPTY.*2 \.txt, 1 \.dcm.*expected.*\.png"):
        find_images([tmp_path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(CalcoError, match=r"INPUT_EMPTY.*got nothing"):
        find_images([tmp_path / "empty"])


def test_a_missing_path_gets_the_nearest_name(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png")
    with pytest.raises(CalcoError, match=r"INPUT_MISSING.*did you mean .*images\?"):
        find_images([tmp_path / "imgaes"])


def test_all_wrong_inputs_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(CalcoError) as caught:
        find_images([tmp_path / "gone", str(tmp_path / "*.png"), tmp_path])
    codes = [p.code for p in caught.value.problems]
    assert codes == ["INPUT_MISSING", "INPUT_EMPTY", "INPUT_EMPTY"]
    with pytest.raises(CalcoError, match="no input was given"):
        find_images([])


def test_the_output_below_the_input_is_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "traced/b.png", "traced/overlay/b.jpg")
    out = tmp_path / "traced"
    assert ids(tmp_path, skip=out) == ["a"]
    assert ids(str(tmp_path / "**/*.png"), skip=out) == ["a"]


def test_linked_folders_make_no_cycle_and_linked_files_are_read(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "elsewhere/b.png")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/b.png").symlink_to(tmp_path / "elsewhere/b.png")
    (tmp_path / "in/dangling.png").symlink_to(tmp_path / "nowhere.png")
    assert ids(tmp_path / "in") == ["a", "b", "dangling"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    touch(tmp_path, "shut/a.png")
    (tmp_path / "shut").chmod(0)
    try:
        with pytest.raises(CalcoError, match="INPUT_EMPTY"):
            find_images([tmp_path / "shut"])
    finally:
        (tmp_path / "shut").chmod(0o700)
