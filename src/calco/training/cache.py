"""Decoded samples: in memory while they fit, beyond that mapped from a scratch file.

Those of archives are not copied to disk: what memory does not hold is read anew each time. In any
case training sees uint8 arrays of the same pixels, and therefore makes the same steps.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from calco.ahead import in_order
from calco.archives import archive_of
from calco.errors import CalcoError, Problem
from calco.formats.truth import read_sample, read_truth
from calco.images.io import header_size, read_image
from calco.records import Sample, SampleIndex

SCRATCH_FILE = "decoded.bin"  # below the scratch folder: images and masks, one after the other
MEMORY_SHARE = 0.5  # of what is available; the rest is for the network and for reading files
MAX_READERS = 8  # threads, and so decoded images that wait for their turn
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
UNKNOWN_BYTES = 4 * 2**30  # taken as available where the system does not tell, as on Windows
_GROUPS = {  # per version of control groups: folder, limit, use, and the line of cache in its use
    2: ("", "memory.max", "memory.current", "inactive_file"),
    1: ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


class Decoded(Protocol):
    """One sample as training sees it."""

    @property
    def id(self) -> str:
        """Of the sample."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width); known without decoding."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """(H, W, C) uint8."""

    @property
    def mask(self) -> NDArray[np.uint8]:
        """(H, W) uint8 in {0, 1}."""

    def pixels(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return image and mask at once."""


@dataclass(frozen=True)
class Held:
    """A sample whose pixels are in memory or mapped; see ``Decoded``."""

    id: str
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.mask.shape[0], self.mask.shape[1]

    def pixels(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return image and mask."""
        return self.image, self.mask


@dataclass(frozen=True)
class Streamed:
    """A sample that is read from its archive whenever its pixels are asked for; see ``Decoded``.

    Attributes:
        sample: Labelled.
        index: How it is read.
    """

    sample: Sample
    index: SampleIndex

    @property
    def id(self) -> str:
        """Of the sample."""
        return self.sample.id

    @cached_property
    def size(self) -> tuple[int, int]:
        """(height, width), from the image's header."""
        return header_size(self.sample.image)

    @property
    def image(self) -> NDArray[np.uint8]:
        """Read the image."""
        return read_image(self.sample.image, self.index.spec)

    @property
    def mask(self) -> NDArray[np.uint8]:
        """Read the mask."""
        source, spec = self.sample.mask, self.index.spec
        if source is None:
            return self.pixels()[1]  # which says that it is missing
        mask = read_truth(source, self.index.code, self.size, spec.max_megapixels)
        return mask.astype(np.uint8)

    def pixels(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Read image and mask."""
        image, mask = read_sample(self.sample, self.index)
        return image, mask.astype(np.uint8)


def decode(
    index: SampleIndex, scratch: Path | None = None, limit_bytes: int | None = None
) -> tuple[Decoded, ...]:
    """Read every labelled sample of an index, in its order.

    Args:
        index: What is read.
        scratch: Folder for the pixels that memory does not hold, made when needed and removed when
            empty; None keeps all in memory. What an earlier, killed process left there is removed.
        limit_bytes: Pixels kept in memory; None takes half of what is available.

    Returns:
        Those that memory does not hold are mapped from the scratch file or, when the images lie in
        archives, read anew each time; they were all read by the audit.

    Raises:
        CalcoError: Lists every file that changed or vanished since the audit; SCRATCH_WRITE when
            the scratch folder cannot be written or its disk is full.
    """
    if scratch is not None:
        _remove(scratch / SCRATCH_FILE)
        if limit_bytes is None:
            limit_bytes = int(MEMORY_SHARE * available_bytes())
    faults: list[Problem] = []
    streams = scratch is not None and is_sharded(index)
    with _Store(scratch, limit_bytes or 0) as store:
        for result in read_ahead(lambda sample: _read(sample, index), index.samples):
            if isinstance(result, CalcoError):
                faults += result.problems
            elif streams and not store.has_room(result):
                break
            elif not faults:  # else only further faults matter
                store.add(result)
        if faults:
            raise CalcoError(*faults)
        held = store.samples()
    return (*held, *(Streamed(sample, index) for sample in index.samples[len(held) :]))


def is_sharded(index: SampleIndex) -> bool:
    """Whether all images lie in archives: these are not copied to disk."""
    return all(archive_of(sample.image) for sample in index.samples)


def evenly(samples: Sequence[Decoded], most: int) -> list[Decoded]:
    """Choose samples over the whole range, the first and the last among them."""
    if len(samples) <= most:
        return list(samples)
    return [samples[i] for i in np.linspace(0, len(samples) - 1, most).round().astype(int)]


def available_bytes(system: Path = Path("/")) -> int:
    """Estimate the memory that may still be filled without swapping or being killed.

    It is the least of what the kernel calls available and what the limits of the control groups
    around this process (a container's, a batch job's) leave; file caches, which the kernel gives
    back, count as available in both.

    Args:
        system: Root of the file system that describes the machine.

    Reference:
        https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
    """
    kernel = _number(system / "proc" / "meminfo", "MemAvailable:")  # kB
    whole = _half_of_physical() if kernel is None else 1024 * kernel
    return max(0, min([whole, *_left_in_groups(system)]))


@dataclass(frozen=True)
class _SetAside:
    """A sample whose pixels are in the scratch file, the image's first."""

    id: str
    size: tuple[int, ...]  # (H, W, C)
    start: int  # byte in the file

    def read(self, pixels: NDArray[np.uint8]) -> Held:
        """Return the sample as views of the whole file's bytes."""
        height, width, channels = self.size
        middle = self.start + height * width * channels
        image = pixels[self.start : middle].reshape(self.size)  # (H, W, C)
        mask = pixels[middle : middle + height * width].reshape(height, width)  # (H, W)
        return Held(self.id, image, mask)


class _Store:
    """Keeps samples in memory up to a limit, and the rest in a file that loses its name.

    Args:
        scratch: Folder of the file; None keeps all in memory.
        limit_bytes: Of pixels in memory, when there is such a folder.
    """

    def __init__(self, scratch: Path | None, limit_bytes: int) -> None:
        self.scratch = scratch
        self.left_bytes = limit_bytes
        self.written_bytes = 0
        self.file: BinaryIO | None = None
        self.kept: list[Held | _SetAside] = []

    def __enter__(self) -> _Store:
        return self

    def __exit__(self, *_: object) -> None:
        if self.scratch is None or self.file is None:
            return
        with suppress(OSError):  # what a full disk does not take has been reported
            self.file.close()
        # mapped pixels outlive their file's name, so that nothing is left over even after a kill;
        # Windows keeps the name until the next start
        _remove(self.scratch / SCRATCH_FILE)
        with suppress(OSError):
            self.scratch.rmdir()  # where nothing else is in it

    def has_room(self, sample: Held) -> bool:
        """Whether memory holds a further sample."""
        return _n_bytes(sample) <= self.left_bytes

    def add(self, sample: Held) -> None:
        """Keep the next sample.

        Raises:
            CalcoError: SCRATCH_WRITE.
        """
        n_bytes = _n_bytes(sample)
        if self.scratch is None or self.has_room(sample):
            self.left_bytes -= n_bytes
            self.kept.append(sample)
            return
        try:
            if self.file is None:
                self.scratch.mkdir(parents=True, exist_ok=True)
                self.file = (self.scratch / SCRATCH_FILE).open("x+b")  # never through a link
            for array in (sample.image, sample.mask):
                self.file.write(np.ascontiguousarray(array).data)
        except OSError as error:
            raise self._failure(error) from None
        self.kept.append(_SetAside(sample.id, sample.image.shape, self.written_bytes))
        self.written_bytes += n_bytes

    def samples(self) -> tuple[Held, ...]:
        """Return all samples in order.

        Raises:
            CalcoError: SCRATCH_WRITE when the last bytes do not fit on the disk.
        """
        pixels = np.empty(0, np.uint8)  # (N,) bytes of the file
        if self.file is not None:
            try:
                self.file.flush()
                # one mapping, since their number is limited. Writable, as arrays in memory are, but
                # shared: a private one counts as memory and is refused when larger than that
                pixels = np.asarray(np.memmap(self.file, np.uint8, "r+"))
            except OSError as error:
                raise self._failure(error) from None
        return tuple(s if isinstance(s, Held) else s.read(pixels) for s in self.kept)

    def _failure(self, error: OSError) -> CalcoError:
        return CalcoError(
            Problem(
                "SCRATCH_WRITE",
                "the images exceed the memory and cannot be set aside on disk",
                str(self.scratch),
                got=error.strerror or type(error).__name__,
                do="free disk space or memory, or write the run to a larger disk",
            )
        )


def read_ahead(read: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Yield what is read of items; threads read ahead, and only a few results are in memory."""
    readers = min(MAX_READERS, (os.cpu_count() or 1) + 1)
    return in_order(read, items, readers, readers)  # decoding releases the GIL


def _n_bytes(sample: Held) -> int:
    return sample.image.nbytes + sample.mask.nbytes


def _read(sample: Sample, index: SampleIndex) -> Held | CalcoError:
    try:
        image, mask = read_sample(sample, index)
    except CalcoError as error:
        return error
    return Held(sample.id, image, mask.astype(np.uint8))


def _remove(path: Path) -> None:
    with suppress(OSError):  # Windows does not remove what is mapped
        path.unlink(missing_ok=True)


def _half_of_physical() -> int:
    """Return half the memory there is, where its use is unknown."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return UNKNOWN_BYTES


def _left_in_groups(system: Path) -> Iterator[int]:
    """Yield what each control group with a limit leaves, from the innermost outwards."""
    try:
        lines = (system / "proc" / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        name, limit_file, use_file, cache = _GROUPS[1 if controllers else 2]
        top = system / "sys" / "fs" / "cgroup" / name
        inner = top / group.lstrip("/")  # in a container this may not exist, but top does
        for folder in (inner, *(p for p in inner.parents if p.is_relative_to(top))):
            limit, use = _number(folder / limit_file), _number(folder / use_file)
            if limit is not None and use is not None:
                yield limit - use + (_number(folder / "memory.stat", cache) or 0)


def _number(path: Path, label: str = "") -> int | None:
    """Read a number, or the one that follows a label at the start of a line; None without."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        words = line.removeprefix(label).split()
        if line.startswith(label) and words and words[0].isdigit():
            return int(words[0])
    return None
