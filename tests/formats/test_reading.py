from calco.config import DataConfig
from calco.errors import Problem
from calco.formats.reading import images_without_mask, some_of


def test_ten_problems_of_each_code_are_kept() -> None:
    problems = [Problem("A", f"fault {n}") for n in range(25)] + [Problem("B", "other")]
    kept = some_of(problems)
    assert [p.what for p in kept[9:]] == ["fault 9", "15 more problems of this kind", "other"]


def test_unlabelled_images_are_an_error_unless_allowed() -> None:
    (error,) = images_without_mask(["a.png"], "images", DataConfig())
    assert (error.code, error.severity, error.got) == ("ORPHAN_IMAGE", "error", "a.png")
    assert "allow_unlabelled" in error.do
    (note,) = images_without_mask(["a.png"], "images", DataConfig(allow_unlabelled=True))
    assert note.severity == "note"
    assert images_without_mask([], "images", DataConfig()) == []
