"""What many messages say is said alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from calco.wording import counted, name_some, place, without_login


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://token@host/a", "https://host/a"),
        ("https://me:p@ss@host:80", "https://host:80"),
        ("postgresql+psycopg2://me:a/b?c#d@db/runs", "postgresql+psycopg2://db/runs"),
        ("to (https://me:x@a) or http://b/c", "to (https://a) or http://b/c"),
        ("https://host/a@b", "https://host/a@b"),
        ("sqlite:////home/me@here/runs.db", "sqlite:////home/me@here/runs.db"),
        ("mail me@host", "mail me@host"),
    ],
)
def test_logins_are_cut_from_addresses(text: str, shown: str) -> None:
    assert without_login(text) == shown
