from calco.config import DataConfig
from calco.errors import Problem
from calco.formats.reading import images_without_mask, masks_without_image, some_of


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


def test_files_of_other_kinds_may_be_what_is_missing() -> None:
    (image,) = images_without_mask(["a.png"], "images", DataConfig(), unread="2 .npz")
    assert image.got == "a.png; beside files of other kinds: 2 .npz"
    assert image.do.startswith("convert those to PNG, or add the masks")
    (mask,) = masks_without_image(["a.png"], "masks", unread="1 .svg")
    assert (mask.code, mask.got) == ("ORPHAN_MASK", "a.png; beside files of other kinds: 1 .svg")
    assert masks_without_image([], "masks", unread="1 .svg") == []
