"""Samples beyond memory are the same samples."""

from __future__ import annotations

import mmap
import os
import resource
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from calco.errors import CalcoError
from calco.formats.truth import read_truth
from calco.records import FileMask, ImageSpec, MaskCode, NetworkPlan, Plan, Sample, SampleIndex
from calco.training import cache
from calco.training.cache import MAX_READERS, SCRATCH_FILE, Decoded, available_bytes, decode
from calco.training.dataset import TrainLoader

NETWORK = NetworkPlan("unet", 3, (0.0,) * 3, (255.0,) * 3)
PLAN = Plan(
    NETWORK, 32, None, 4, 1, None, "bce_dice", "adamw", 1e-3, 0, "cosine", True, 1, 0.5, "fp32"
)


def drawn(folder: Path, count: int, channels: int = 3) -> SampleIndex:
    """Write noise of many sizes with masks."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(count):
        size = (20 + 3 * number, 40 - number)
        image, mask = folder / f"{number}.png", folder / f"{number}_mask.png"
        cv2.imwrite(str(image), rng.integers(0, 256, (*size, channels), dtype=np.uint8))
        cv2.imwrite(str(mask), 255 * (rng.random(size) < 0.2).astype(np.uint8))
        samples.append(Sample(f"s{number}", image, FileMask(mask)))
    spec, code = ImageSpec(channels=channels), MaskCode("values", (255,))
    return SampleIndex(folder, "by hand", tuple(samples), spec, code)


def is_mapped(array: NDArray[np.uint8]) -> bool:
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap.mmap)


def bytes_of(samples: tuple[Decoded, ...]) -> list[tuple[str, tuple[int, ...], bytes, bytes]]:
    return [(s.id, s.image.shape, s.image.tobytes(), s.mask.tobytes()) for s in samples]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("limit", [0, 5000, 10**9])
def test_memory_and_disk_give_the_same_arrays(tmp_path: Path, channels: int, limit: int) -> None:
    index = drawn(tmp_path, 12, channels)
    usual, mapped = decode(index), decode(index, tmp_path / "scratch", limit)
    assert bytes_of(mapped) == bytes_of(usual)
    assert [s.id for s in usual] == [s.id for s in index.samples]
    for sample in mapped:
        assert sample.image.dtype == sample.mask.dtype == np.uint8
        assert sample.image.shape == (*sample.mask.shape, channels)


def test_memory_is_filled_up_to_the_limit(tmp_path: Path) -> None:
    index = drawn(tmp_path, 6)
    assert not any(is_mapped(s.image) for s in decode(index))
    sizes = [4 * s.mask.size for s in decode(index)]  # three channels and the mask
    for fitting in range(7):
        limit = sum(sizes[:fitting])
        exact, less = decode(index, tmp_path, limit), decode(index, tmp_path, limit - 1)
        assert [is_mapped(s.image) for s in exact] == [i >= fitting for i in range(6)]
        assert sum(is_mapped(s.mask) for s in less) >= 6 - fitting + (fitting > 0)


@pytest.mark.parametrize(("resize_px", "workers"), [(None, 0), (32, 0), (None, 1)])
def test_memory_and_disk_give_the_same_batches(
    tmp_path: Path, resize_px: int | None, workers: int
) -> None:
    plan = Plan(**{**vars(PLAN), "resize_px": resize_px})
    index = drawn(tmp_path, 6)

    def batches(samples: tuple[Decoded, ...]) -> list[bytes]:
        loader = TrainLoader(samples, plan, seed=3, workers=workers)
        return [part.numpy().tobytes() for batch in loader.batches(2) for part in batch]

    assert batches(decode(index, tmp_path, 0)) == batches(decode(index))


def test_no_file_is_left_even_while_its_pixels_are_used(tmp_path: Path) -> None:
    index, scratch = drawn(tmp_path, 4), tmp_path / "deep" / "scratch"
    samples = decode(index, scratch, 0)
    assert all(is_mapped(s.image) for s in samples)
    assert not scratch.exists()


@pytest.mark.parametrize("limit", [0, 10**9])
@pytest.mark.parametrize("linked", [False, True])
def test_what_a_killed_process_left_is_removed(tmp_path: Path, limit: int, linked: bool) -> None:
    index, kept, left = drawn(tmp_path, 4), tmp_path / "precious", tmp_path / SCRATCH_FILE
    kept.write_bytes(b"precious" * 10**5)
    if linked:  # planted: it must not redirect the pixels
        left.symlink_to(kept)
    else:
        left.write_bytes(b"old" * 10**5)
    assert bytes_of(decode(index, tmp_path, limit)) == bytes_of(decode(index))
    assert not os.path.lexists(left)
    assert kept.read_bytes() == b"precious" * 10**5


def test_mapped_pixels_can_be_written_without_touching_their_neighbours(tmp_path: Path) -> None:
    samples = decode(drawn(tmp_path, 3), tmp_path, 0)
    before = bytes_of(samples)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of arrays that it must not write
        torch.from_numpy(samples[1].mask).fill_(7)
    assert set(samples[1].mask.flatten().tolist()) == {7}
    after = bytes_of(samples)
    assert (after[0], after[1][:3], after[2]) == (before[0], before[1][:3], before[2])


@pytest.mark.parametrize("limit", [0, 4000, 10**9])
def test_all_faults_are_gathered(tmp_path: Path, limit: int) -> None:
    index = drawn(tmp_path, 12)
    for number in (2, 3, 11):
        index.samples[number].image.write_bytes(b"no image")
    with pytest.raises(CalcoError) as caught:
        decode(index, tmp_path, limit)
    assert [p.where for p in caught.value.problems] == ["2.png", "3.png", "11.png"]
    assert not (tmp_path / SCRATCH_FILE).exists()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Fail writes beyond a size, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 100, 9000])  # on the first write, or on the last flush
def test_a_full_disk_is_one_line(tmp_path: Path, size: int) -> None:
    index = drawn(tmp_path, 4)
    total = sum(4 * s.mask.size for s in decode(index))
    assert size < total
    with files_of_at_most(size), pytest.raises(CalcoError) as caught:
        decode(index, tmp_path, 0)
    (problem,) = caught.value.problems
    assert (problem.code, problem.where) == ("SCRATCH_WRITE", str(tmp_path))
    assert problem.got == "File too large"
    assert problem.do
    assert not (tmp_path / SCRATCH_FILE).exists()
    with files_of_at_most(total):
        assert bytes_of(decode(index, tmp_path, 0)) == bytes_of(decode(index))


def test_a_scratch_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    index, scratch = drawn(tmp_path, 2), tmp_path / "0.png"
    with pytest.raises(CalcoError, match=r"SCRATCH_WRITE.*0\.png"):
        decode(index, scratch, 0)
    assert scratch.exists()
    assert len(decode(index, scratch, 10**9)) == 2  # not needed, so not missed


def test_only_a_few_images_are_in_memory_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 60
    sample = drawn(tmp_path, 1).samples[0]
    spec, code = ImageSpec(channels=3), MaskCode("values", (255,))
    index = SampleIndex(tmp_path, "by hand", (sample,) * count, spec, code)
    alive: list[int] = []
    most: list[int] = []

    def read(*_: object) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        image = np.zeros((8, 8, 3), np.uint8)
        alive.append(1)
        weakref.finalize(image, alive.pop)
        most.append(len(alive))
        return image, np.zeros((8, 8), bool)

    monkeypatch.setattr(cache, "read_sample", read)
    samples = decode(index)
    assert max(most) == len(samples) == count  # what is kept in memory stays there
    del samples
    most.clear()
    assert len(decode(index, tmp_path, 0)) == count
    assert max(most) <= MAX_READERS + 3  # waiting, being read, being written and the last one


def test_masks_are_decoded_up_to_the_size_the_user_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("image", "mask"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((4, 5), 255, np.uint8))
    sample = Sample("a", tmp_path / "image.png", FileMask(tmp_path / "mask.png"))
    spec, code = ImageSpec(channels=1, max_megapixels=400), MaskCode("values", (255,))
    index = SampleIndex(tmp_path, "by hand", (sample,), spec, code)
    limits = []

    def recording(*arguments: Any) -> NDArray[np.bool_]:  # noqa: ANN401
        limits.append(arguments[3])
        return read_truth(*arguments)

    monkeypatch.setattr("calco.formats.truth.read_truth", recording)
    (decoded,) = decode(index)
    assert decoded.mask.tolist() == [[1] * 5] * 4
    assert limits == [400]


# --- available memory -----------------------------------------------------------------------------

MIB = 2**20


def system(root: Path, files: dict[str, str]) -> Path:
    """Write the files in which a system describes itself; 1000 MiB are available."""
    whole = {"proc/meminfo": "MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable:  1024000 kB\n", **files}
    for name, text in whole.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def group(folder: str, limit: object, use: int, cache: int = 0) -> dict[str, str]:
    """Describe a control group of version 2."""
    return {
        f"sys/fs/cgroup{folder}/memory.max": f"{limit}\n",
        f"sys/fs/cgroup{folder}/memory.current": f"{use}\n",
        f"sys/fs/cgroup{folder}/memory.stat": f"anon 5\nfile 9\ninactive_file {cache}\n",
    }


def test_the_kernel_is_believed_where_there_are_no_groups(tmp_path: Path) -> None:
    assert available_bytes(system(tmp_path, {})) == 1000 * MIB


@pytest.mark.parametrize(
    ("groups", "expected_mib"),
    [
        (group("/job", "max", 700 * MIB), 1000),  # no limit
        (group("/job", 800 * MIB, 300 * MIB), 500),
        (group("/job", 800 * MIB, 300 * MIB, 100 * MIB), 600),  # cache is given back
        (group("/job", 9000 * MIB, 300 * MIB), 1000),  # more than the machine has
        (group("/job", 100 * MIB, 300 * MIB), 0),
        (group("", 800 * MIB, 300 * MIB), 500),  # what a container sees of itself
        (group("/job", 800 * MIB, 1 * MIB) | group("", 400 * MIB, 200 * MIB), 200),
        (group("/other", 8 * MIB, 1 * MIB), 1000),  # another's limit
    ],
)
def test_the_tightest_group_counts(
    tmp_path: Path, groups: dict[str, str], expected_mib: int
) -> None:
    root = system(tmp_path, {"proc/self/cgroup": "0::/job\n", **groups})
    assert available_bytes(root) == expected_mib * MIB


def test_groups_of_the_first_version(tmp_path: Path) -> None:
    folder = "sys/fs/cgroup/memory"  # inside a container, where the path of /proc is not visible
    files = {
        "proc/self/cgroup": "12:cpu,cpuacct:/docker/ab\n7:memory:/docker/ab\n0::/docker/ab\n",
        f"{folder}/memory.limit_in_bytes": f"{600 * MIB}\n",
        f"{folder}/memory.usage_in_bytes": f"{200 * MIB}\n",
        f"{folder}/memory.stat": f"inactive_file 3\ntotal_inactive_file {50 * MIB}\n",
    }
    assert available_bytes(system(tmp_path, files)) == 450 * MIB


def test_systems_that_do_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert available_bytes(tmp_path) == 1000 * 4096 // 2
    monkeypatch.delattr(os, "sysconf")
    assert available_bytes(tmp_path) == 4 * 2**30


def test_this_machine_has_some_memory_but_not_endless() -> None:
    assert 2**20 < available_bytes() < 2**50


def test_without_a_limit_half_of_what_is_available_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = drawn(tmp_path, 2)
    first, second = (4 * s.mask.size for s in decode(index))
    for available, mapped in ((2 * (first + second), [False, False]), (2 * first, [False, True])):
        monkeypatch.setattr(cache, "available_bytes", lambda n=available: n)
        assert [is_mapped(s.image) for s in decode(index, tmp_path)] == mapped
