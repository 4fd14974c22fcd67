"""Data sets in tar archives are the data sets that they were packed from."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from calco.config import Config, load_config
from calco.errors import CalcoError, Problem
from calco.images.io import header_size, read_pixels
from calco.pipeline import Listener, prepare, run
from calco.records import Audit, Split
from calco.runs import RunDir
from calco.stages import loaders as module
from calco.stages.audit import audit_samples
from calco.stages.export import export_run
from calco.stages.loaders import read_samples
from calco.stages.samples import index_samples
from calco.stages.split import split_samples
from calco.training.budget import Clock
from calco.training.cache import Decoded, Streamed, decode
from calco.training.dataset import TrainLoader
from calco.training.team import Team


def shards_of(data: Path, folder: Path, n_shards: int = 3) -> Path:
    """Pack images and masks as WebDataset does: a.png and a.mask.png, sample by sample."""
    folder.mkdir(parents=True)
    images = sorted((data / "images").iterdir())
    for number in range(n_shards):
        with tarfile.open(folder / f"{number:03}.tar", "w") as tar:
            for image in images[number::n_shards]:
                tar.add(image, image.name)
                tar.add(data / "masks" / image.name, f"{image.stem}.mask.png")
                tar.add(image, f"{image.stem}.json")  # something else that lies beside
    return folder


@pytest.fixture(scope="module")
def shards(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shards_of(discs, tmp_path_factory.mktemp("packed") / "shards")


def audited(data: Path, config: Config) -> Audit:
    return audit_samples(index_samples(data, config.data), config.data, config.audit)


def divided(data: Path, config: Config) -> Split:
    return split_samples(audited(data, config), config.split)


def test_the_audit_of_shards_is_that_of_the_folder(
    discs: Path, shards: Path, tiny_config: Config
) -> None:
    plain, packed = audited(discs, tiny_config), audited(shards, tiny_config)
    assert [s.id for s in packed.index.samples] == [s.id for s in plain.index.samples]
    assert packed.facts == plain.facts
    assert packed.index.code == plain.index.code
    first = packed.index.samples[0].image
    assert first.parent.suffix == ".tar"
    assert not first.exists()


def test_folders_in_an_archive_are_folders(
    discs: Path, tmp_path: Path, tiny_config: Config
) -> None:
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for part in ("images", "masks"):
            tar.add(discs / part, part)
    plain, packed = audited(discs, tiny_config), audited(tmp_path / "all.tar", tiny_config)
    assert [s.id for s in packed.index.samples] == [s.id for s in plain.index.samples]
    assert packed.facts == plain.facts


def test_an_archive_joins_the_folders_it_lies_beside(
    discs: Path, tmp_path: Path, tiny_config: Config
) -> None:
    data = tmp_path / "data"
    shutil.copytree(discs, data)
    moved = sorted((data / "images").iterdir())[::2]
    with tarfile.open(data / "more.tar", "w") as tar:
        for image in moved:
            for part in ("images", "masks"):
                tar.add(data / part / image.name, f"{part}/{image.name}")
                (data / part / image.name).unlink()
    assert audited(data, tiny_config).facts == audited(discs, tiny_config).facts


def test_names_of_archives_say_their_part(discs: Path, tmp_path: Path, tiny_config: Config) -> None:
    shards = shards_of(discs, tmp_path / "data")
    for number, part in enumerate(("train", "val", "test")):
        (shards / f"{number:03}.tar").rename(shards / f"{part}-{number:03}.tar")
    samples = index_samples(shards, tiny_config.data).samples
    found = {(sample.image.parent.name, sample.subset) for sample in samples}
    assert found == {
        ("train-000.tar", "train"),
        ("val-001.tar", "validation"),
        ("test-002.tar", "test"),
    }


def test_masks_may_be_arrays(discs: Path, tmp_path: Path, tiny_config: Config) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for image in sorted((discs / "images").iterdir()):
            mask = read_pixels(discs / "masks" / image.name).pixels > 127
            np.save(tmp_path / "mask.npy", mask)
            tar.add(image, f"images/{image.name}")
            tar.add(tmp_path / "mask.npy", f"masks/{image.stem}.npy")
    plain, packed = (
        decode(index_samples(d, tiny_config.data)) for d in (discs, tmp_path / "a.tar")
    )
    assert list(bytes_of(packed)) == list(bytes_of(plain))


def test_every_format_is_read_from_an_archive(tmp_path: Path) -> None:
    """Each decoder is given bytes instead of a path."""
    picture = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    for name in ("a.png", "a.jpg", "a.bmp", "a.tif", "a.webp"):
        cv2.imwrite(str(tmp_path / name), picture)
    Image.fromarray(picture).convert("P").save(tmp_path / "a.gif")
    Image.fromarray(picture).convert("CMYK").save(tmp_path / "cmyk.tif")
    deep = picture.astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    files = sorted(tmp_path.iterdir())
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for file in files:
            tar.add(file, file.name)
    for file in files:
        member = tmp_path / "all.tar" / file.name
        assert np.array_equal(read_pixels(member).pixels, read_pixels(file).pixels), file.name
        assert header_size(member) == header_size(file) == (40, 56)


def bytes_of(samples: tuple[Decoded, ...]) -> Iterator[tuple[str, tuple[int, int], bytes, bytes]]:
    for sample in samples:
        image, mask = sample.pixels()
        assert image.tobytes() == sample.image.tobytes()
        assert mask.tobytes() == sample.mask.tobytes()
        yield sample.id, sample.size, image.tobytes(), mask.tobytes()


@pytest.mark.parametrize("limit", [0, 40_000, 10**9])
def test_what_memory_does_not_hold_is_streamed_and_not_copied(
    discs: Path, shards: Path, tiny_config: Config, tmp_path: Path, limit: int
) -> None:
    plain = decode(index_samples(discs, tiny_config.data))
    found = decode(index_samples(shards, tiny_config.data), tmp_path / "scratch", limit)
    assert list(bytes_of(found)) == list(bytes_of(plain))
    n_streamed = sum(isinstance(sample, Streamed) for sample in found)
    assert {0: n_streamed == len(found), 10**9: n_streamed == 0}.get(
        limit, 0 < n_streamed < len(found)
    )
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("resize_px", [None, 32])
def test_streamed_samples_make_the_same_batches(
    discs: Path, shards: Path, tiny_config: Config, tmp_path: Path, resize_px: int | None
) -> None:
    split = divided(discs, tiny_config)
    plan = replace(prepare(split, tiny_config, RunDir(tmp_path), Clock()).plan, resize_px=resize_px)
    batches = []
    for samples in (
        decode(index_samples(discs, tiny_config.data)),
        decode(index_samples(shards, tiny_config.data), tmp_path / "scratch", 0),
    ):
        for workers in (0, 1):
            loader = TrainLoader(samples, plan, seed=3, workers=workers)
            batches.append(
                [tuple(p.numpy().tobytes() for p in batch) for batch in loader.batches(2)]
            )
    assert all(one == batches[0] for one in batches[1:])


def test_a_team_does_not_copy_shards(
    shards: Path, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "available_bytes", lambda: 100_000)
    split = divided(shards, tiny_config)
    samples = read_samples(split, tmp_path / "scratch", Team(size=2, local_size=2))
    assert 0 < sum(isinstance(sample, Streamed) for sample in samples) < len(samples)
    assert not (tmp_path / "scratch").exists()


@pytest.mark.slow
def test_a_run_on_shards_scores_as_one_on_the_folder(
    discs: Path, shards: Path, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = []
    for data, name in ((discs, "plain"), (shards, "packed")):
        run(data, tiny_config, RunDir(tmp_path / name), Clock(), Listener())
        scores.append(RunDir(tmp_path / name).load_summary()["test"])
        monkeypatch.setattr("calco.training.cache.available_bytes", lambda: 0)  # all is streamed
    assert scores[0] == scores[1]
    assert (tmp_path / "packed/report.html").exists()
    export_run(RunDir(tmp_path / "packed"), tmp_path / "model.onnx")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_goes_away_ends_training_with_one_line(
    shards: Path, tiny_config: Config, tmp_path: Path, workers: int
) -> None:
    data = tmp_path / "data"
    shutil.copytree(shards, data)
    split = divided(data, tiny_config)
    plan = prepare(split, tiny_config, RunDir(tmp_path), Clock()).plan
    samples = decode(split.index, tmp_path / "scratch", 0)
    loader = TrainLoader(samples, plan, seed=3, workers=workers)
    (data / "001.tar").unlink()
    with pytest.raises(CalcoError, match=r"001\.tar") as caught:
        list(loader.batches(1))
    assert all(isinstance(problem, Problem) for problem in caught.value.problems)


def test_a_cut_off_shard_is_an_error_beside_the_others(
    shards: Path, tiny_config: Config, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(shards, data)
    whole = (data / "001.tar").read_bytes()
    (data / "001.tar").write_bytes(whole[: len(whole) // 2])
    problems = index_samples(data, tiny_config.data).problems
    assert [(p.code, p.where) for p in problems if p.severity == "error"] == [
        ("ARCHIVE_READ", "001.tar")
    ]


def test_a_changed_shard_is_told_by_its_file(
    shards: Path, tiny_config: Config, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(shards, data)
    split = divided(data, tiny_config)
    (data / "001.tar").unlink()
    with pytest.raises(CalcoError, match=r"001\.tar"):
        read_samples(split, tmp_path / "scratch")


def test_compressed_archives_are_not_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz"):
        pass
    with pytest.raises(CalcoError, match="unpack the archive first"):
        index_samples(tmp_path, load_config(None, ()).data)
