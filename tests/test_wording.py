"""What many messages say is said alike."""

from __future__ import annotations

from pathlib import Path

from calco.wording import counted, name_some, place


def test_ten_are_named_and_the_rest_counted() -> None:
    assert name_some(str(n) for n in range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
    assert name_some(["a", "b"]) == "a, b"
    assert name_some(["a", "b", "c"], most=2) == "a, b and 1 more"
    assert name_some([]) == ""


def test_one_thing_has_no_plural() -> None:
    assert [counted(n, "mask") for n in range(3)] == ["0 masks", "1 mask", "2 masks"]


def test_files_are_named_from_the_data_folder_down() -> None:
    root = Path("/data/set")
    assert place(root / "images/a.png", root) == "images/a.png"
    assert place(Path("/data/setting/a.png"), root) == "/data/setting/a.png"
    assert place(root, root) == "."
