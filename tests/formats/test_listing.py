import os
from pathlib import Path

import pytest

from calco.errors import CalcoError
from calco.formats.listing import Listing, list_data


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def codes(listing: Listing) -> dict[str, str]:
    return {problem.where: problem.code for problem in listing.problems}


def test_lists_folders_parents_first_with_image_files_and_the_rest(tmp_path: Path) -> None:
    touch(tmp_path, "images/b.png", "images/a.JPG", "images/notes.txt", "groups.csv", "x/y/c.tif")
    listing = list_data(tmp_path)
    assert [f.where for f in listing.folders] == [".", "images", "x", "x/y"]
    images = listing.folders[1]
    assert [p.name for p in images.files] == ["a.JPG", "b.png"]
    assert images.others == {".txt": 1}
    assert listing.tables == (tmp_path / "groups.csv",)
    assert listing.problems == ()


def test_arrays_count_as_other_files_that_may_be_masks(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a.NPY", "c.npz")
    (folder,) = list_data(tmp_path).folders
    assert (folder.others, [p.name for p in folder.files]) == ({".npy": 1, ".npz": 1}, ["b.png"])
    assert [p.name for p in folder.masks] == ["a.NPY", "b.png"]


def test_lists_of_parts_are_noticed(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "train.csv", "train.txt", "lists/Val.txt", "splits.json", "readme.txt")
    listing = list_data(tmp_path)
    assert [listing.where(p) for p in listing.lists] == [
        "lists/Val.txt",
        "splits.json",
        "train.txt",
    ]
    assert [p.name for p in listing.tables] == ["train.csv"]


def test_litter_is_counted_not_listed(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", ".DS_Store", "Thumbs.db", "._a.png", "__MACOSX/a.png", ".git/b.png")
    listing = list_data(tmp_path)
    assert [p.name for f in listing.folders for p in f.files] == ["a.png"]
    (note,) = listing.problems
    assert (note.code, note.severity) == ("JUNK", "note")
    assert note.what.endswith("5")


def test_links_that_leave_the_root_or_dangle_are_refused_by_name(tmp_path: Path) -> None:
    root, outside = tmp_path / "data", tmp_path / "elsewhere"
    touch(root, "images/a.png", "raw/b.png")
    touch(outside, "x.png")
    (root / "images/x.png").symlink_to(outside / "x.png")
    (root / "images/gone.png").symlink_to(root / "nothing.png")
    (root / "images/self.png").symlink_to("self.png")
    (root / "images/b.png").symlink_to(root / "raw/b.png")
    (root / "far").symlink_to(outside, target_is_directory=True)
    listing = list_data(root)
    assert codes(listing) == {
        "images/x.png": "LINK_OUTSIDE",
        "images/gone.png": "LINK_DANGLING",
        "images/self.png": "LINK_DANGLING",
        "far": "LINK_OUTSIDE",
    }
    assert [p.name for p in listing.folders[1].files] == ["a.png", "b.png"]
    followed = list_data(root, follow_links=True)
    assert {f.where for f in followed.folders} == {".", "far", "images", "raw"}
    assert "images/x.png" not in codes(followed)


def test_link_to_a_folder_above_is_not_walked_forever(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/c.png")
    (tmp_path / "a/b/up").symlink_to(tmp_path / "a", target_is_directory=True)
    assert [f.where for f in list_data(tmp_path).folders] == [".", "a", "a/b"]


def test_a_tree_too_deep_is_reported_where_it_ends(tmp_path: Path) -> None:
    touch(tmp_path, "/".join("x" * 20) + "/a.png")
    (problem,) = list_data(tmp_path).problems
    assert problem.code == "FOLDER_DEPTH"


def test_folder_or_pipe_named_as_an_image_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png")
    (tmp_path / "images/q.png").mkdir()
    os.mkfifo(tmp_path / "images/f.png")
    assert codes(list_data(tmp_path)) == {
        "images/q.png": "NOT_A_FILE",
        "images/f.png": "NOT_A_FILE",
    }


def test_folder_without_permission_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "open/a.png", "locked/b.png")
    names = Path.iterdir

    def refuse(path: Path) -> object:
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return names(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert codes(list_data(tmp_path)) == {"locked": "IO_PERMISSION"}


@pytest.mark.parametrize(("name", "got"), [("nope", ""), ("data.zip", "a file")])
def test_missing_root_and_file_as_root(tmp_path: Path, name: str, got: str) -> None:
    touch(tmp_path, "data.zip")
    with pytest.raises(CalcoError) as caught:
        list_data(tmp_path / name)
    assert caught.value.problems[0].code == "DATA_MISSING"
    assert caught.value.problems[0].got == got


def test_description_names_the_fullest_folders(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/b.png", "images/c.txt", "readme.md")
    assert list_data(tmp_path).describe() == "images (2 image files, 1 .txt); . (1 .md)"
