"""The sets the contest is held on, each divided as calco divides it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calco.config import load_config
from calco.errors import CalcoError
from calco.files import sha256_of
from calco.formats.truth import read_sample
from calco.images.toy import write_toy
from calco.records import SUBSETS, FileMask, Sample, SampleIndex, Split, Subset
from calco.runs import RunDir
from calco.stages.audit import audit_samples
from calco.stages.samples import index_samples
from calco.stages.split import split_samples

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"  # the real images lie beside the repository
ROOTS = {"dsb2018": DATA / "dsb2018" / "train", "isbi2012": DATA / "isbi2012"}
TOY_IMAGES = 32
FEW = 20  # labelled images of the set that ends in it
FEW_SET = f"dsb2018-{FEW}"


@dataclass(frozen=True, eq=False)
class Labelled:
    """One decoded image: image (H, W, C) uint8, RGB or grey, and true (H, W) bool."""

    id: str
    group: str
    image: NDArray[np.uint8]
    true: NDArray[np.bool_]


@dataclass(frozen=True)
class Course:
    """One set, divided.

    Attributes:
        name: As on the command line.
        root: Folder that calco is given.
        parts: Samples and their groups, per subset.
        split_csv: The division of the whole set, as calco writes it.
        settings: ``--set`` of calco's command that make it divide ``root`` like this.
    """

    name: str
    root: Path
    parts: Mapping[Subset, tuple[SampleIndex, tuple[str, ...]]]
    split_csv: Path
    settings: tuple[str, ...] = ()

    @property
    def split_sha256(self) -> str:
        """Digest of the division."""
        return sha256_of(self.split_csv)

    def ids(self, subset: Subset) -> set[str]:
        """Return the ids of one subset."""
        return {sample.id for sample in self.parts[subset][0]}

    def read(self, subset: Subset) -> tuple[Labelled, ...]:
        """Decode one subset into memory, with as many threads as calco uses for it."""
        index, groups = self.parts[subset]

        def one(sample: Sample, group: str) -> Labelled:
            return Labelled(sample.id, group, *read_sample(sample, index))

        with ThreadPoolExecutor() as pool:
            return tuple(pool.map(one, index, groups))


def open_course(name: str, seed: int, work: Path) -> Course:
    """Return a set of that name; its division is made once and kept in ``work``.

    Args:
        name: ``dsb2018``, ``isbi2012``, ``dsb2018-20`` or ``toy``.
        seed: Draws the images of ``dsb2018-20``; the others do not depend on it.
        work: Folder for what is made on the way.
    """
    if name == FEW_SET:
        return _few(open_course("dsb2018", 0, work), seed, work)
    root = ROOTS.get(name, work / "toy")
    if name == "toy" and not root.exists():
        write_toy(root, TOY_IMAGES)
    folder, split = _divide(root, work / "splits" / name)
    parts = {subset: split.part_and_groups(subset) for subset in SUBSETS}
    return Course(name, root, parts, folder.path / "split.csv")


def _divide(root: Path, path: Path, settings: tuple[str, ...] = ()) -> tuple[RunDir, Split]:
    """Divide a set as ``calco train`` does, once."""
    folder = RunDir(path)
    if not (path / "split.csv").exists():
        config = load_config(None, settings)
        audit = audit_samples(index_samples(root, config.data), config.data, config.audit)
        if audit.errors:
            raise CalcoError(*audit.errors)
        path.mkdir(parents=True, exist_ok=True)
        folder.save_audit(audit)
        folder.save_split(split_samples(audit, config.split))
    return folder, folder.load_split()


def _few(whole: Course, seed: int, work: Path) -> Course:
    """Label only ``FEW`` training images; what shares no group with them is the test part."""
    index, groups = whole.parts["train"]
    chosen = np.random.default_rng(seed).permutation(len(index))[:FEW]
    taken = {groups[i] for i in chosen}
    root = work / "few" / f"seed{seed}"
    if not root.exists():
        _copy([index.samples[i] for i in chosen], root)
    settings = ("split.test=0",)  # 20 are few enough: all of them train and validate
    _, split = _divide(root, work / "splits" / f"{FEW_SET}-seed{seed}", settings)
    rest, rest_groups = [], []
    for part, part_groups in whole.parts.values():
        for sample, group in zip(part, part_groups, strict=True):
            if group not in taken:
                rest.append(sample.id)
                rest_groups.append(group)
    everything = RunDir(whole.split_csv.parent).load_split().index
    of = dict(zip(rest, rest_groups, strict=True))
    others = everything.only(rest)
    parts = {subset: split.part_and_groups(subset) for subset in SUBSETS}
    parts["test"] = (others, tuple(of[sample.id] for sample in others))
    return Course(FEW_SET, root, parts, whole.split_csv, settings)


def _copy(samples: list[Sample], root: Path) -> None:
    """Copy pairs of files; calco does not follow links out of the folder it is given."""
    temporary = root.with_name(root.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    for name in ("images", "masks"):
        (temporary / name).mkdir(parents=True)
    for sample in samples:
        assert isinstance(sample.mask, FileMask), "the set has one mask file per image"
        shutil.copy(sample.image, temporary / "images" / sample.image.name)
        shutil.copy(sample.mask.path, temporary / "masks" / sample.image.name)
    temporary.rename(root)
