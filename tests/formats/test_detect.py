from pathlib import Path

import pytest

from calco.config import DataConfig
from calco.errors import CalcoError
from calco.formats.detect import Layout, detect
from calco.formats.folders import FolderPairs
from calco.formats.listing import list_data
from calco.formats.per_object import ObjectFolders
from calco.formats.rle_csv import RleTable


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def layout(root: Path, config: DataConfig | None = None) -> Layout:
    return detect(list_data(root), config or DataConfig())


def fault(root: Path, config: DataConfig | None = None) -> str:
    with pytest.raises(CalcoError) as caught:
        layout(root, config)
    return str(caught.value)


@pytest.fixture
def bowl(tmp_path: Path) -> Path:
    """Lie as the nuclei of the Data Science Bowl do: folders, a table of the same, a template."""
    touch(tmp_path, "train/images/a.png", "train/masks/a.png", "test/images/b.png")
    (tmp_path / "train_labels.csv").write_text("ImageId,EncodedPixels\na,1 3\n")
    (tmp_path / "sample_submission.csv").write_text("id,rle_mask\nb,1 1\n")
    return tmp_path


def test_each_layout_is_recognised(tmp_path: Path) -> None:
    touch(tmp_path, "pairs/images/a.png", "pairs/masks/a.png")
    touch(tmp_path, "objects/a/images/a.png", "objects/a/masks/1.png", "objects/a/masks/2.png")
    touch(tmp_path, "table/images/a.png")
    (tmp_path / "table/train.csv").write_text("id,rle_mask\na,1 3\n")
    assert isinstance(layout(tmp_path / "pairs"), FolderPairs)
    assert isinstance(layout(tmp_path / "objects"), ObjectFolders)
    assert isinstance(layout(tmp_path / "table"), RleTable)


def test_folders_and_a_table_of_the_same_images_are_ambiguous(bowl: Path) -> None:
    message = fault(bowl)
    assert "DATA_AMBIGUOUS" in message
    assert "(1) images and masks in train/images + train/masks" in message
    assert "(2) run-length rows in train_labels.csv, images in train/images" in message
    assert "--set data.masks=train/masks or --set data.masks=train_labels.csv" in message


def test_each_setting_the_message_proposes_decides(bowl: Path) -> None:
    assert isinstance(layout(bowl, DataConfig(masks="train/masks")), FolderPairs)
    for config in (
        DataConfig(masks="train_labels.csv"),
        DataConfig(masks="train_labels.csv", images="train/images"),
    ):
        table = layout(bowl, config)
        assert isinstance(table, RleTable)
        assert [p.folder.where for p in table.folders] == ["train/images"]


def test_one_level_down_nothing_is_ambiguous(bowl: Path) -> None:
    assert isinstance(layout(bowl / "train"), FolderPairs)


def test_a_submission_template_is_no_truth(tmp_path: Path) -> None:
    touch(tmp_path, "images/b.png")
    (tmp_path / "sample_submission.csv").write_text("id,rle_mask\nb,1 1\n")
    message = fault(tmp_path)
    assert "NO_MASKS" in message
    assert "--set data.masks=sample_submission.csv" in message


def test_several_data_sets_below_propose_one(tmp_path: Path) -> None:
    touch(tmp_path, "one/train/images/a.png", "one/train/masks/a.png")
    touch(tmp_path, "two/images/a.png", "two/masks/a.png")
    message = fault(tmp_path)
    assert "DATA_LEVEL" in message
    assert "got one, two" in message
    assert str(tmp_path / "two") in message


def test_a_folder_per_patient_is_one_data_set(tmp_path: Path) -> None:
    for patient in ("p1", "p2", "p3"):
        touch(tmp_path, f"{patient}/images/{patient}_0.png", f"{patient}/masks/{patient}_0.png")
    assert isinstance(layout(tmp_path), FolderPairs)


def test_the_image_folder_itself_proposes_its_parent(tmp_path: Path) -> None:
    touch(tmp_path, "data/images/a.png", "data/masks/a.png")
    for half in ("images", "masks"):
        assert f"give its parent, {(tmp_path / 'data').resolve()}" in fault(
            tmp_path / "data" / half
        )


@pytest.mark.parametrize(
    ("names", "seen", "advice"),
    [
        ((), "no files", "give the folder that holds the data"),
        (("a.nii.gz", "b.nii.gz"), "2 .gz", "unpack the archive first"),
        (("images/a.psd",), "images (1 .psd)", "give the folder"),
    ],
)
def test_nothing_that_looks_like_images(
    tmp_path: Path, names: tuple[str, ...], seen: str, advice: str
) -> None:
    touch(tmp_path, *names)
    message = fault(tmp_path)
    assert "DATA_EMPTY" in message
    assert seen in message
    assert advice in message


def test_masks_alone_miss_their_images(tmp_path: Path) -> None:
    touch(tmp_path, "masks/a.png", "masks/b.png")
    message = fault(tmp_path)
    assert "NO_IMAGES" in message
    assert "there are masks but no images for them" in message
    assert "got masks (2 image files)" in message


def test_images_alone_say_what_was_seen(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "notes.txt")
    message = fault(tmp_path)
    assert "NO_MASKS" in message
    assert ". (2 image files, 1 .txt)" in message


def test_a_table_that_cannot_be_read_is_named_beside_the_missing_masks(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png")
    (tmp_path / "train.csv").write_text("id,rle_mask\na,1 3\n", encoding="utf-16")
    message = fault(tmp_path)
    assert "CSV_ENCODING" in message
    assert "NO_MASKS" in message
