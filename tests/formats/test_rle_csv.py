from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from calco.config import DataConfig
from calco.errors import CalcoError
from calco.formats.listing import list_data
from calco.formats.reading import Reading
from calco.formats.rle import decode_rows, encode, encode_objects
from calco.formats.rle_csv import explain_tables, find_tables, read_rle
from calco.images.objects import split_objects
from calco.records import RleDialect, RleMask

SIZE = (12, 20)


def truth(number: int) -> NDArray[np.bool_]:
    """Two boxes, one at the lower right corner; image 2 is empty."""
    mask = np.zeros(SIZE, bool)
    if number != 2:
        mask[1 : 4 + number, 2:7] = True
        mask[9:, 15:] = True
    return mask


def data_set(
    root: Path,
    dialect: RleDialect,
    header: str = "id,rle_mask",
    suffix: str = "",
    count: int = 4,
) -> Path:
    lines = [header]
    (root / "images").mkdir()
    for n in range(count):
        cv2.imwrite(str(root / f"images/{n:04}.png"), np.zeros(SIZE, np.uint8))
        objects = encode_objects(split_objects(truth(n)), dialect) if dialect.per_object else []
        lines += [f"{n:04}{suffix},{cell}" for cell in objects or [encode(truth(n), dialect)]]
    (root / "train.csv").write_text("\n".join(lines) + "\n")
    return root


def read(root: Path, config: DataConfig | None = None) -> Reading:
    config = config or DataConfig()
    (layout,) = find_tables(list_data(root), config)
    return read_rle(layout, config)


@pytest.mark.parametrize(
    ("dialect", "header", "suffix"),
    [
        (RleDialect(), "id,rle_mask", ""),
        (RleDialect(per_object=True), "ImageId,EncodedPixels", ".png"),
        (RleDialect("row", 1, empty="-1"), "img,rle", ""),
        (RleDialect("row", 1, relative=True, empty="-"), "Image,Encoded_Pixels", ".png"),
    ],
)
def test_masks_come_back_whatever_the_dialect(
    tmp_path: Path, dialect: RleDialect, header: str, suffix: str
) -> None:
    reading = read(data_set(tmp_path, dialect, header, suffix))
    assert len(reading.samples) == 4
    for number, sample in enumerate(sorted(reading.samples, key=lambda s: s.id)):
        assert sample.id == f"{number:04}"
        assert isinstance(sample.mask, RleMask)
        mask = decode_rows(sample.mask.rows, SIZE, sample.mask.dialect)
        np.testing.assert_array_equal(mask, truth(number))
    assert reading.problems + reading.doubts == ()
    assert dialect.order in reading.mask_note
    assert ("per object" in reading.mask_note) is dialect.per_object


def test_ids_with_paths_and_parts(tmp_path: Path) -> None:
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        cv2.imwrite(str(tmp_path / part / "1.png"), np.zeros(SIZE, np.uint8))
    (tmp_path / "all.csv").write_text("image,rle\ntrain/1.png,1 240\nval/1.png,3 2\n")
    samples = {s.id: s for s in read(tmp_path).samples}
    assert {name: s.subset for name, s in samples.items()} == {
        "train/1": "train",
        "val/1": "validation",
    }


def test_images_without_row_are_unlabelled(tmp_path: Path) -> None:
    root = data_set(tmp_path, RleDialect())
    cv2.imwrite(str(root / "images/extra.png"), np.zeros(SIZE, np.uint8))
    (problem,) = read(root).problems
    assert (problem.code, problem.got) == ("ORPHAN_IMAGE", "extra.png")
    allowed = read(root, DataConfig(allow_unlabelled=True))
    assert {s.id for s in allowed.samples if s.mask is None} == {"extra"}


def test_ids_that_look_like_numbers_or_nothing_stay_text(tmp_path: Path) -> None:
    names = ["0001", "1", "NA", "null", "1e5", "true"]
    for name in names:
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros(SIZE, np.uint8))
    rows = "".join(f"{name},1 240\n" for name in names)
    (tmp_path / "t.csv").write_text("id,rle\n" + rows)
    assert sorted(s.id for s in read(tmp_path).samples) == sorted(names)


def test_a_thousand_faults_are_told_ten_times_and_counted(tmp_path: Path) -> None:
    root = data_set(tmp_path, RleDialect(), count=15)
    table = root / "train.csv"
    table.write_text(table.read_text().replace(" ", " x"))
    problems = [p for p in read(root).problems if p.code == "RLE_SYNTAX"]
    assert [p.where for p in problems[:2]] == ["train.csv:2", "train.csv:3"]
    assert problems[-1].what == "4 more problems of this kind"  # 14 rows are not empty


def test_table_is_only_taken_when_it_is_about_the_images(tmp_path: Path) -> None:
    root = data_set(tmp_path, RleDialect())
    (root / "depths.csv").write_text("id,z\n0000,100\n")
    (root / "other.csv").write_text("id,rle_mask\nelsewhere,1 1\n")
    (root / "sample_submission.csv").write_text("id,rle_mask\n0000,1 1\n")
    assert [t.where for t in find_tables(list_data(root), DataConfig())] == ["train.csv"]


def test_named_table_needs_no_usual_column_name(tmp_path: Path) -> None:
    root = data_set(tmp_path, RleDialect(), header="id,scribble")
    assert find_tables(list_data(root), DataConfig()) == ()
    assert len(read(root, DataConfig(masks="train.csv")).samples) == 4
    (note,) = explain_tables(list_data(root), DataConfig())
    assert note.do == "if so, --set data.masks=train.csv"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("imagge,rle\n0000,1 1\n", "CSV_COLUMN"),
        ("id,width,height\n0000,12,20\n", "CSV_COLUMN"),
        ("id,rle\nzzz,1 1\n", "NO_PAIRS"),
    ],
)
def test_named_table_that_does_not_fit(tmp_path: Path, text: str, code: str) -> None:
    root = data_set(tmp_path, RleDialect())
    (root / "train.csv").write_text(text)
    with pytest.raises(CalcoError, match=code):
        find_tables(list_data(root), DataConfig(masks="train.csv"))


def test_named_table_that_is_not_there_proposes_the_nearest(tmp_path: Path) -> None:
    root = data_set(tmp_path, RleDialect())
    with pytest.raises(CalcoError, match=r"DATA_SETTING.*did you mean train\.csv"):
        find_tables(list_data(root), DataConfig(masks="tran.csv"))


def test_settings_win_over_the_evidence(tmp_path: Path) -> None:
    root = data_set(tmp_path, RleDialect())
    reading = read(root, DataConfig(rle_order="row", rle_base=1))
    assert "row order as set" in reading.layout


def test_image_that_cannot_be_told_from_another_is_left_out(tmp_path: Path) -> None:
    root = data_set(tmp_path, RleDialect())
    cv2.imwrite(str(root / "images/0001.bmp"), np.zeros(SIZE, np.uint8))
    reading = read(root)
    labelled = [s.id for s in reading.samples if s.mask]
    assert "0001" not in labelled
