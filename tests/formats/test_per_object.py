from pathlib import Path

from calco.config import DataConfig
from calco.formats.folders import find_pairs
from calco.formats.listing import list_data
from calco.formats.per_object import as_object_folders, read_objects
from calco.formats.reading import Reading
from calco.records import ObjectMasks


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def sample(root: Path, folder: str, n_objects: int = 2) -> None:
    name = folder.rpartition("/")[2]
    touch(root, f"{folder}/images/{name}.png")
    (root / folder / "masks").mkdir()
    touch(root, *(f"{folder}/masks/{name}-object{n}.png" for n in range(n_objects)))


def read(root: Path, config: DataConfig | None = None) -> Reading:
    config = config or DataConfig()
    listing = list_data(root)
    layout = as_object_folders(find_pairs(listing, config))
    assert layout is not None
    return read_objects(layout, listing, config)


def objects(reading: Reading) -> dict[str, int]:
    return {s.id: len(s.mask.paths) for s in reading.samples if isinstance(s.mask, ObjectMasks)}


def test_each_folder_is_a_sample_named_after_it(tmp_path: Path) -> None:
    sample(tmp_path, "AB-1")
    sample(tmp_path, "AB_1", 3)
    reading = read(tmp_path)
    assert objects(reading) == {"AB-1": 2, "AB_1": 3}
    assert "5 objects" in reading.layout
    assert reading.problems == ()


def test_objects_may_be_arrays(tmp_path: Path) -> None:
    touch(tmp_path, "s1/images/photo.png", "s1/masks/1.npy", "s1/masks/2.png")
    assert objects(read(tmp_path)) == {"s1": 2}


def test_image_directly_in_the_samples_folder(tmp_path: Path) -> None:
    touch(tmp_path, "s1/photo.png", "s1/masks/1.png", "s1/masks/2.png")
    assert objects(read(tmp_path)) == {"s1": 2}


def test_parts_above_the_samples(tmp_path: Path) -> None:
    sample(tmp_path, "train/a")
    sample(tmp_path, "val/b")
    assert {s.id: s.subset for s in read(tmp_path).samples} == {"a": "train", "b": "validation"}


def test_empty_object_folder_is_an_empty_mask_with_a_note(tmp_path: Path) -> None:
    sample(tmp_path, "a")
    sample(tmp_path, "b", n_objects=0)
    reading = read(tmp_path)
    assert objects(reading) == {"a": 2, "b": 0}
    (note,) = reading.problems
    assert (note.code, note.severity) == ("EMPTY_OBJECTS", "note")


def test_object_folder_with_other_files_is_not_empty(tmp_path: Path) -> None:
    sample(tmp_path, "a")
    sample(tmp_path, "b", n_objects=0)
    touch(tmp_path, "b/masks/1.psd")
    reading = read(tmp_path)
    assert objects(reading) == {"a": 2}
    assert reading.problems[0].code == "NO_MASKS"


def test_sample_with_two_images_is_left_out(tmp_path: Path) -> None:
    for name in "abc":
        sample(tmp_path, name)
    touch(tmp_path, "c/images/second.png")
    reading = read(tmp_path)
    assert set(objects(reading)) == {"a", "b"}
    assert (reading.problems[0].code, reading.problems[0].where) == ("OBJECT_IMAGE", "c/images")


def test_sample_without_objects_folder_is_unlabelled(tmp_path: Path) -> None:
    sample(tmp_path, "a")
    touch(tmp_path, "b/images/b.png")
    (problem,) = read(tmp_path).problems
    assert (problem.code, problem.got) == ("ORPHAN_IMAGE", "b/images")
    allowed = read(tmp_path, DataConfig(allow_unlabelled=True))
    assert {s.id: s.mask is None for s in allowed.samples} == {"a": False, "b": True}


def test_one_mask_of_the_images_name_per_folder_is_no_object_layout(tmp_path: Path) -> None:
    for name in "ab":
        touch(tmp_path, f"{name}/images/{name}.png", f"{name}/masks/{name}.png")
    assert as_object_folders(find_pairs(list_data(tmp_path), DataConfig())) is None


def test_a_single_image_with_strange_masks_in_the_root_is_no_object_layout(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/b.png")
    assert as_object_folders(find_pairs(list_data(tmp_path), DataConfig())) is None
