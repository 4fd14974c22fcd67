from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calco.errors import CalcoError
from calco.formats.urls import images_at, is_url, names_in, place_of

pytest.importorskip("pyarrow")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    for name in ("b.png", "a.tif", "sub/c.png", ".hidden/d.png", "._e.png", "notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((2, 3), np.uint8)).save(root / name, "png")
    return root


@pytest.mark.parametrize("scheme", ["file", "local"])  # pyarrow's own, and one of fsspec
def test_images_of_a_folder_are_listed_with_their_ids(images: Path, scheme: str) -> None:
    found = images_at(place_of(f"{scheme}://{images}"))
    assert [id for id, _ in found] == ["a", "b", "sub/c"]
    named = [place.named for _, place in found]
    assert named == [f"{scheme}://{images}/{name}" for name in ("a.tif", "b.png", "sub/c.png")]
    for _, place in found:
        with place.system.open_input_stream(place.path) as stream:
            assert stream.read(4) == b"\x89PNG"


def test_one_image_is_a_list_of_one(images: Path) -> None:
    [(id, place)] = images_at(place_of(f"file://{images}/sub/c.png"))
    assert (id, place.named) == ("c", f"file://{images}/sub/c.png")


def test_paths_are_places_too(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(images)
    assert sorted(names_in(place_of("sub"))) == ["c.png"]
    assert list(names_in(place_of("nowhere"))) == []


def test_keys_in_a_url_are_not_told(images: Path) -> None:
    place = place_of(f"local://{images}")
    told = (place / "a.png").named
    assert told == f"local://{images}/a.png"
    with pytest.raises(CalcoError) as caught:
        place_of("nothing://key:secret@bucket/a?token=secret")
    assert "nothing://bucket/a" in str(caught.value)
    assert "secret" not in str(caught.value.problems[0].where)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nowhere", "INPUT_MISSING"),
        (".hidden/..//empty", "INPUT_MISSING"),
        ("texts", "INPUT_EMPTY"),
    ],
)
def test_what_is_not_there_is_told(images: Path, name: str, told: str) -> None:
    (images / "texts").mkdir()
    (images / "texts/a.txt").write_text("a")
    with pytest.raises(CalcoError, match=told):
        images_at(place_of(f"file://{images}/{name}"))


def test_unknown_kinds_of_urls_are_refused() -> None:
    with pytest.raises(CalcoError, match=r"URL\] nothing://a/b: nothing that is installed reads"):
        place_of("nothing://a/b")


def test_urls_are_told_from_paths() -> None:
    assert [is_url(t) for t in ("s3://b", "gs://b/c", "a/b", "C:\\a", "c:/a", "://", "")] == [
        True,
        True,
        *[False] * 5,
    ]
