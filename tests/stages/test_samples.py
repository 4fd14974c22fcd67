import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from calco.config import DataConfig
from calco.errors import CalcoError
from calco.files import to_json
from calco.formats.rle import decode_rows
from calco.formats.truth import read_truth
from calco.images.io import header_size
from calco.records import FileMask, RleMask, SampleIndex
from calco.stages.samples import index_samples

REAL = Path(__file__).resolve().parents[2].parent / "shared/data"
real = pytest.mark.skipif(not REAL.exists(), reason="real data not beside the repository")


def draw(path: Path, mask: bool = False) -> None:
    """Write an 8 x 10 colour picture or a mask with a box."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((8, 10, 3), (10, 120, 200), np.uint8)
    if mask:
        pixels = np.zeros((8, 10), np.uint8)
        pixels[2:5, 3:7] = 255
    # imwrite does not take every name
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())


def pair(root: Path, name: str, suffix: str = ".png") -> None:
    draw(root / "images" / f"{name}{suffix}")
    draw(root / "masks" / f"{name}.png", mask=True)


def codes(index: SampleIndex) -> list[tuple[str, str]]:
    return [(problem.code, problem.severity) for problem in index.problems]


def test_index_of_a_folder_pair(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        pair(tmp_path, name, ".jpg")
    index = index_samples(tmp_path, DataConfig())
    assert [s.id for s in index] == ["a", "b", "c"]
    assert index.layout == "images and masks in images + masks (3 images)"
    assert index.samples[0].mask == FileMask(tmp_path / "masks/a.png")
    assert (index.spec.channels, index.code.values) == (3, (255,))
    assert index.problems == ()
    assert {(s.group, s.subset) for s in index} == {(None, None)}


def test_indexing_does_not_depend_on_the_order_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "cab":
        pair(tmp_path, name)
    before = index_samples(tmp_path, DataConfig())
    forwards = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: reversed(sorted(forwards(path))))
    assert index_samples(tmp_path, DataConfig()) == before


# --- ids


def test_ids_are_stems_until_two_are_the_same(tmp_path: Path) -> None:
    for part in ("train", "test"):
        pair(tmp_path / part, "1")
        pair(tmp_path / part, part)
    ids = [s.id for s in index_samples(tmp_path, DataConfig())]
    assert ids == ["test/images/1", "test/images/test", "train/images/1", "train/images/train"]


def test_same_stem_twice_in_a_folder_is_an_error_and_neither_is_used(tmp_path: Path) -> None:
    for name in "abc":
        pair(tmp_path, name)
    draw(tmp_path / "images/a.jpg")
    index = index_samples(tmp_path, DataConfig())
    assert [s.id for s in index] == ["b", "c"]
    (problem,) = index.problems
    assert (problem.code, problem.got) == ("DUP_ID", "images/a.jpg, images/a.png")


def test_ids_that_differ_only_in_case_are_an_error(tmp_path: Path) -> None:
    for name in ("A", "a", "b"):
        pair(tmp_path, name)
    index = index_samples(tmp_path, DataConfig())
    assert [s.id for s in index] == ["b"]
    assert codes(index) == [("DUP_ID", "error")]


@pytest.mark.parametrize("name", ["a b", "x[1]", "y*", "-dash", "new\nline", "a.b", "%s"])
def test_awkward_names_are_only_names(tmp_path: Path, name: str) -> None:
    pair(tmp_path, name)
    pair(tmp_path, "x1")
    assert name in [s.id for s in index_samples(tmp_path, DataConfig())]


def test_both_spellings_of_a_letter_are_one_name(tmp_path: Path) -> None:
    draw(tmp_path / "images" / unicodedata.normalize("NFD", "é.png"))
    draw(tmp_path / "masks" / unicodedata.normalize("NFC", "é.png"), mask=True)
    (sample,) = index_samples(tmp_path, DataConfig())
    assert sample.id == unicodedata.normalize("NFC", "é")
    assert sample.mask is not None


def test_name_that_is_no_text_is_left_out(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    pair(tmp_path, os.fsdecode(b"caf\xe9"))
    index = index_samples(tmp_path, DataConfig())
    assert [s.id for s in index] == ["a"]
    assert codes(index) == [("ID_ENCODING", "error")]
    assert "2 file names" in index.problems[0].what
    assert r"caf\\udce9.png" in to_json(index)  # JSON could not hold the name itself


# --- faults of single samples


def test_orphans_are_gathered_and_softened_by_skip(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    draw(tmp_path / "images/alone.png")
    draw(tmp_path / "masks/lost.png", mask=True)
    strict = index_samples(tmp_path, DataConfig())
    assert codes(strict) == [("ORPHAN_IMAGE", "error"), ("ORPHAN_MASK", "error")]
    loose = index_samples(tmp_path, DataConfig(on_bad="skip"))
    assert codes(loose) == [("ORPHAN_IMAGE", "warning"), ("ORPHAN_MASK", "warning")]
    assert [s.id for s in strict] == [s.id for s in loose] == ["a"]


def test_unlabelled_images_may_be_kept(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    draw(tmp_path / "images/b.png")
    index = index_samples(tmp_path, DataConfig(allow_unlabelled=True))
    assert [(s.id, s.mask is None) for s in index] == [("a", False), ("b", True)]
    assert codes(index) == [("ORPHAN_IMAGE", "note")]


def test_nothing_usable_raises_with_every_reason(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    draw(tmp_path / "images/a.jpg")
    with pytest.raises(CalcoError) as caught:
        index_samples(tmp_path, DataConfig())
    assert [p.code for p in caught.value.problems] == ["DUP_ID", "NO_SAMPLES"]


def test_files_are_named_from_the_data_folder_down(tmp_path: Path) -> None:
    for name in "ab":
        draw(tmp_path / f"images/{name}.png")
    (tmp_path / "images/b.png").write_bytes(b"")
    (tmp_path / "train.csv").write_text("id,rle\na,79 2\nb,79 2\n")
    index = index_samples(tmp_path, DataConfig(rle_order="column", rle_base=1))
    (problem,) = index.problems
    assert (problem.code, problem.where) == ("IMG_EMPTY", "images/b.png")


# --- parts


def test_training_folder_alone_divides_nothing(tmp_path: Path) -> None:
    pair(tmp_path / "train", "a")
    draw(tmp_path / "test/images/b.png")
    index = index_samples(tmp_path, DataConfig())
    assert [(s.id, s.subset) for s in index] == [("a", None)]
    assert codes(index) == [("FOLDER_UNUSED", "note")]


def test_lists_of_parts_warn_unless_folders_divide(tmp_path: Path) -> None:
    pair(tmp_path / "train", "a")
    (tmp_path / "val.txt").write_text("a")
    (warning,) = index_samples(tmp_path, DataConfig()).problems
    assert (warning.code, warning.severity, warning.got) == ("LIST_UNUSED", "warning", "val.txt")
    assert "folders train, val and test" in warning.do
    pair(tmp_path / "val", "b")
    assert index_samples(tmp_path, DataConfig()).problems == ()


def test_images_outside_the_test_folder_train(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    draw(tmp_path / "images/test/b.png")
    draw(tmp_path / "masks/test/b.png", mask=True)
    index = index_samples(tmp_path, DataConfig())
    assert {s.id: s.subset for s in index} == {"a": "train", "b": "test"}


# --- groups


def test_group_is_the_first_parenthesis(tmp_path: Path) -> None:
    for name in ("s1_a", "s1_b", "s2_a"):
        pair(tmp_path, name)
    index = index_samples(tmp_path, DataConfig(group=r"^(s\d+)_"))
    assert [s.group for s in index] == ["s1", "s1", "s2"]


def test_ids_without_group_are_an_error_even_with_skip(tmp_path: Path) -> None:
    for name in ("s1_a", "other"):
        pair(tmp_path, name)
    index = index_samples(tmp_path, DataConfig(group=r"^(s\d+)_", on_bad="skip"))
    (problem,) = index.problems
    assert (problem.code, problem.severity, problem.got) == ("GROUP_MISSING", "error", "other")


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (DataConfig(group="("), "not a regular expression"),
        (DataConfig(group=r"s\d+"), "no group in parentheses"),
        (DataConfig(group="(s)", group_column="slide"), "groups are set twice"),
    ],
)
def test_unusable_group_settings(tmp_path: Path, config: DataConfig, what: str) -> None:
    pair(tmp_path, "s1")
    with pytest.raises(CalcoError, match=what):
        index_samples(tmp_path, config)


def test_groups_from_a_table(tmp_path: Path) -> None:
    for name in ("0001", "0002", "0003"):
        pair(tmp_path, name)
    table = tmp_path / "groups.csv"
    table.write_text("image,Slide\n0001,x\n0002.png,y\n0003,x\n0003,x\n")
    config = DataConfig(group_column="slide")
    assert [s.group for s in index_samples(tmp_path, config)] == ["x", "y", "x"]
    table.write_text("image,slide\n0001,x\n0002,\n")
    (problem,) = index_samples(tmp_path, config).problems
    assert (problem.code, problem.where, problem.got) == (
        "GROUP_MISSING",
        "groups.csv",
        "0002, 0003",
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("id,slides\na,1\n", "CSV_COLUMN"),
        ("id,slide\na,1\na,2\n", "GROUP_DOUBLE"),
        (None, "IO_MISSING"),
    ],
)
def test_unusable_group_tables(tmp_path: Path, text: str | None, code: str) -> None:
    pair(tmp_path, "a")
    if text is not None:
        (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(CalcoError, match=code):
        index_samples(tmp_path, DataConfig(group_column="slide"))


# --- run lengths


def test_table_of_runs_needs_no_mask_code(tmp_path: Path) -> None:
    draw(tmp_path / "images/a.png")
    (tmp_path / "train.csv").write_text("id,rle\na,79 2\n")
    index = index_samples(tmp_path, DataConfig(invert=True, rle_order="column"))
    assert (index.code.kind, index.code.invert) == ("rle", True)
    assert "column order as set" in index.code.note
    assert isinstance(index.samples[0].mask, RleMask)


def test_an_unclear_dialect_is_never_softened(tmp_path: Path) -> None:
    for n in range(3):
        path = tmp_path / f"images/{n}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((10, 10), 99, np.uint8))
    (tmp_path / "t.csv").write_text("id,rle\n0,12 3 22 3\n1,33 4 43 4\n2,9 2\n")
    index = index_samples(tmp_path, DataConfig(on_bad="skip", rle_base=1))
    assert codes(index) == [("RLE_ORDER", "error")]


# --- real data


@pytest.fixture
def count_decoded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Count the images decoded; masks have a limit of their own."""
    from calco.images import decode

    seen: list[Path] = []
    original = decode.read_stored

    def counted(path: Path, *args: object, **kwargs: object) -> object:
        seen.append(path)
        return original(path, *args, **kwargs)  # type: ignore[arg-type]

    for module in ("calco.images.io", "calco.images.mask_files", "calco.images.masks"):
        monkeypatch.setattr(f"{module}.read_stored", counted, raising=False)
    return lambda: len({path for path in seen if path.parent.name == "images"})


@real
def test_real_folders_and_real_runs_give_the_same_masks() -> None:
    folders = index_samples(REAL / "dsb2018/train", DataConfig())
    table = index_samples(REAL / "dsb2018", DataConfig(masks="train_labels.csv"))
    assert len(folders) == len(table) == 546
    assert "column order" in table.layout
    assert [p.code for p in table.problems] == ["FOLDER_UNUSED"]
    for one, other in zip(folders, table, strict=True):
        assert one.id == other.id
        assert isinstance(one.mask, FileMask)
        assert isinstance(other.mask, RleMask)
        size = header_size(one.image)
        drawn = decode_rows(other.mask.rows, size, other.mask.dialect)
        np.testing.assert_array_equal(read_truth(one.mask, folders.code, size), drawn)


@real
def test_real_root_with_folders_and_table_is_ambiguous() -> None:
    with pytest.raises(CalcoError) as caught:
        index_samples(REAL / "dsb2018", DataConfig())
    (problem,) = caught.value.problems
    assert problem.code == "DATA_AMBIGUOUS"
    assert "data.masks=train/masks or --set data.masks=train_labels.csv" in problem.do


@real
def test_real_parts_are_kept() -> None:
    index = index_samples(REAL / "isbi2012", DataConfig())
    assert [s.subset for s in index].count("train") == 24
    assert [s.subset for s in index].count("test") == 6


@real
def test_indexing_decodes_few_of_many_images(count_decoded: Callable[[], int]) -> None:
    assert len(index_samples(REAL / "dsb2018/train", DataConfig())) == 546
    assert 0 < count_decoded() < 100
