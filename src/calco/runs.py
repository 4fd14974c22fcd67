"""The run folder: the name of every file in one place, one save and one load per record."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from calco.config import Config, config_to_yaml, load_config
from calco.errors import CalcoError, Problem
from calco.files import (
    from_json,
    from_rows,
    read_csv,
    sha256_of,
    to_json,
    without_nan,
    write_atomic,
    write_csv,
)
from calco.plan_yaml import plan_from_yaml, plan_to_yaml
from calco.records import (
    SCORE_DEFINITION,
    Assignment,
    Audit,
    Box,
    Calibration,
    Epoch,
    FileMask,
    FitResult,
    ImageScore,
    LabelSuspicion,
    LearningCurve,
    ObjectMasks,
    Plan,
    Postprocess,
    Reference,
    Sample,
    SampleIndex,
    Scores,
    Split,
)
from calco.records.score_rows import SCORE_COLUMNS, score_fields, score_row
from calco.wording import name_some, place

LOCK = ".lock"  # held by who writes; what is left of it is no run


@dataclass(frozen=True)
class RunDir:
    """One folder with all that a training left; the only place that knows its file names."""

    path: Path

    @property
    def weights(self) -> Path:
        """Best weights and the network's description; their sha256 lies beside them."""
        return self.path / "best.safetensors"

    @property
    def start(self) -> Path:
        """Weights that training began with, when they came from another run."""
        return self.path / "start.safetensors"

    @property
    def last(self) -> Path:
        """Folder of the state that ``--resume`` continues from."""
        return self.path / "last"

    @property
    def out_of_fold(self) -> Path:
        """Folder of probability images, each by the training that has not seen the image."""
        return self.path / "out_of_fold"

    @property
    def suspicions_csv(self) -> Path:
        """Masks that are probably wrong, the most suspicious first."""
        return self.path / "label_suspicions.csv"

    @property
    def leak_json(self) -> Path:
        """What a random split would have scored, once that was asked."""
        return self.path / "leak.json"

    @property
    def learning_json(self) -> Path:
        """What more labels would give, once that was measured."""
        return self.path / "learning.json"

    @property
    def scratch(self) -> Path:
        """Folder of the pixels that memory does not hold."""
        return self.path / "scratch"

    @property
    def report_html(self) -> Path:
        """The page for people."""
        return self.path / "report.html"

    @property
    def curves_png(self) -> Path:
        """Loss and Dice over epochs."""
        return self.path / "curves.png"

    @property
    def summary_json(self) -> Path:
        """The headline, for machines."""
        return self.path / "summary.json"

    def fold(self, number: int, n_folds: int) -> RunDir:
        """Return where one of the trainings leaves its weights: the run itself without folds."""
        return RunDir(self.path / "folds" / str(number)) if n_folds > 1 else self

    def members(self) -> tuple[RunDir, ...]:
        """Return every folder with weights that predict together; the run itself without folds.

        Of a run that was stopped these are the folds that have weights.
        """
        numbers = [int(p.name) for p in self.path.glob("folds/*") if p.name.isdecimal()]
        found = [RunDir(self.path / "folds" / str(number)) for number in sorted(numbers)]
        return tuple(member for member in found if member.weights.exists()) or (self,)

    def model_sha256(self) -> str:
        """Return a digest of all weights that predict; of one network it is its file's."""
        digests = [sha256_of(member.weights) for member in self.members()]
        joined = hashlib.sha256("".join(digests).encode()).hexdigest()
        return digests[0] if len(digests) == 1 else joined

    def require_new(self) -> None:
        """Refuse a folder that already holds something: no run is ever written over.

        Raises:
            CalcoError: When the folder is not empty or is a file.
        """
        is_folder = self.path.is_dir()
        if is_folder and all(path.name == LOCK for path in self.path.iterdir()):
            return
        if is_folder or self.path.exists():
            what, where = "the output folder is not empty", str(self.path)
            do = "choose another -o, or add --resume to continue a stopped run"
            raise CalcoError(Problem("RUN_EXISTS", what, where, do=do))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one writing process.

        Raises:
            CalcoError: When a living process already writes here.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / LOCK
        lock = FileLock(path, timeout=0)  # the system's own: gone with a process that is killed
        try:
            lock.acquire()
        except Timeout:
            what, do = "another process is writing here", "wait until it ends, or choose another -o"
            raise CalcoError(Problem("RUN_LOCKED", what, str(self.path), do=do)) from None
        try:
            yield
        finally:
            with suppress(PermissionError):  # Windows keeps the name of an open file
                path.unlink(missing_ok=True)
            lock.release()

    # --- one save and one load per record ----------------------------------------------------

    def save_config(self, config: Config) -> Config:
        """Write config.yaml."""
        write_atomic(self.path / "config.yaml", config_to_yaml(config))
        return config

    def load_config(self) -> Config:
        """Read config.yaml."""
        return load_config(self.path / "config.yaml")

    def save_manifest(self, manifest: Mapping[str, object]) -> None:
        """Write manifest.json: versions, device, seed, command."""
        write_atomic(self.path / "manifest.json", json.dumps(manifest, indent=2) + "\n")

    def load_manifest(self) -> dict[str, Any]:
        """Read manifest.json."""
        return from_json(dict[str, Any], self._text("manifest.json"), f"{self.path}/manifest.json")

    def save_index(self, index: SampleIndex) -> SampleIndex:
        """Write samples.csv; paths are relative to the data root."""
        rows = []
        for sample in index:
            match sample.mask:
                case FileMask(path):
                    mask = place(path, index.root)
                case ObjectMasks(paths):
                    mask = f"{len(paths)} object masks"
                case None:
                    mask = ""
                case rle:
                    mask = rle.where
            image = place(sample.image, index.root)
            rows.append((sample.id, image, mask, sample.group or "", sample.subset or ""))
        write_csv(self.path / "samples.csv", ("id", "image", "mask", "group", "subset"), rows)
        return index

    def save_audit(self, audit: Audit) -> Audit:
        """Write audit.json; it holds the index too, with paths relative to data and run."""
        root = Path(os.path.relpath(audit.index.root, self.path))
        index = _map_paths(audit.index, root, lambda p: Path(place(p, audit.index.root)))
        write_atomic(self.path / "audit.json", to_json(replace(audit, index=index)))
        return audit

    def load_audit(self) -> Audit:
        """Read audit.json, paths made absolute again."""
        audit = from_json(Audit, self._text("audit.json"), f"{self.path}/audit.json")
        root = (self.path / audit.index.root).resolve()
        return replace(audit, index=_map_paths(audit.index, root, lambda p: root / p))

    def save_split(self, split: Split) -> Split:
        """Write split.csv."""
        rows = [(a.id, a.group, a.subset, a.fold) for a in split.assignments]
        write_csv(self.path / "split.csv", ("id", "group", "subset", "fold"), rows)
        return split

    def load_split(self) -> Split:
        """Read split.csv, on the samples of audit.json, whatever the order of its rows."""
        path = self.path / "split.csv"
        rows = from_rows(Assignment, read_csv(path), path)
        assigned = {row.id: row for row in rows}
        index = self.load_audit().index.only(assigned)
        if not len(index) == len(assigned) == len(rows):
            raise CalcoError(
                Problem(
                    "RUN_FILE",
                    "the ids are not those of audit.json, once each",
                    str(path),
                    got=name_some(sorted(assigned.keys() - {s.id for s in index})) or "an id twice",
                    do="restore it or train again",
                )
            )
        return Split(index, tuple(assigned[sample.id] for sample in index))

    def save_plan(self, plan: Plan) -> Plan:
        """Write plan.yaml: editable, each reason beside its setting."""
        write_atomic(self.path / "plan.yaml", plan_to_yaml(plan))
        return plan

    def load_plan(self) -> Plan:
        """Read plan.yaml, which people may have edited: names and ranges are those of settings."""
        return plan_from_yaml(self._text("plan.yaml"), f"{self.path}/plan.yaml")

    def save_start_images(self, known: Iterable[str]) -> None:
        """Write start_images.json: sha256 of the images that the weights at the start know."""
        write_atomic(self.path / "start_images.json", to_json(sorted(known)))

    def load_start_images(self) -> frozenset[str]:
        """Read start_images.json; empty when training began from no other run."""
        path = self.path / "start_images.json"
        text = self._text(path.name) if path.exists() else "[]"
        return from_json(frozenset[str], text, str(path))

    def save_learning(self, curve: LearningCurve) -> None:
        """Write learning.json: what more labels would give."""
        write_atomic(self.learning_json, to_json(curve))

    def load_learning(self) -> LearningCurve | None:
        """Read learning.json; None where it was not measured."""
        path = self.learning_json
        return from_json(LearningCurve, self._text(path.name), str(path)) if path.exists() else None

    def save_history(self, history: Sequence[Epoch]) -> None:
        """Write history.csv."""
        rows, names = map(astuple, history), [f.name for f in fields(Epoch)]
        write_csv(self.path / "history.csv", names, rows)

    def load_history(self) -> tuple[Epoch, ...]:
        """Read history.csv; empty before the first epoch."""
        path = self.path / "history.csv"
        return from_rows(Epoch, read_csv(path), path) if path.exists() else ()

    def save_fit(self, result: FitResult) -> FitResult:
        """Write fit.json."""
        write_atomic(self.path / "fit.json", to_json(result))
        return result

    def load_fit(self) -> FitResult:
        """Read fit.json."""
        return from_json(FitResult, self._text("fit.json"), f"{self.path}/fit.json")

    def finished_fit(self) -> FitResult | None:
        """Read fit.json when a training came to its end here; None while there is more to do."""
        if not (self.path / "fit.json").exists():
            return None
        result = self.load_fit()
        return result if result.finished else None

    def save_postprocess(self, postprocess: Postprocess) -> Postprocess:
        """Write postprocess.json."""
        write_atomic(self.path / "postprocess.json", to_json(postprocess))
        return postprocess

    def load_postprocess(self) -> Postprocess:
        """Read postprocess.json; the defaults while there is none."""
        if not (self.path / "postprocess.json").exists():
            return Postprocess()
        where = f"{self.path}/postprocess.json"
        params = from_json(Postprocess, self._text("postprocess.json"), where)
        if not 0 <= params.threshold <= 1:
            got, do = f"{params.threshold:g}", "restore it or train again"
            raise CalcoError(Problem("RUN_FILE", "no such threshold", where, got, "0 to 1", do))
        return params

    def save_scores(self, scores: Scores) -> Scores:
        """Write scores.csv, one row per image, and calibration.json where there is one."""
        write_csv(self.path / "scores.csv", SCORE_COLUMNS, map(score_row, scores.images))
        if scores.calibrations:
            write_atomic(self.path / "calibration.json", to_json(scores.calibrations))
        else:  # that of earlier scores would not belong to these
            (self.path / "calibration.json").unlink(missing_ok=True)
        return scores

    def load_scores(self) -> tuple[ImageScore, ...]:
        """Read scores.csv; what an older one lacks is NaN or None."""
        path = self.path / "scores.csv"
        return from_rows(ImageScore, [score_fields(row) for row in read_csv(path)], path)

    def load_calibrations(self) -> dict[str, Calibration]:
        """Read calibration.json, one per subset; empty when no probabilities were scored."""
        path = self.path / "calibration.json"
        text = self._text(path.name) if path.exists() else "{}"
        return from_json(dict[str, Calibration], text, str(path))

    def load_suspicions(self) -> tuple[LabelSuspicion, ...]:
        """Read label_suspicions.csv; empty while there is none."""
        path = self.suspicions_csv
        if not path.exists():
            return ()
        rows = [{**row, "box": _box(row)} for row in read_csv(path)]
        return from_rows(LabelSuspicion, rows, path)

    def save_summary(
        self, scores: Scores, fits: Sequence[FitResult], reference: Reference, seconds_total: float
    ) -> None:
        """Write summary.json: the keys that scripts outside the project read.

        Args:
            scores: One summary per subset.
            fits: How each training went.
            reference: What the scores are compared with.
            seconds_total: Since the command started.
        """
        tree = {
            **{name: asdict(summary) for name, summary in scores.summaries.items()},
            "baseline": {"otsu_dice_mean": reference.otsu_dice},
            "tuning": {"nested_dice_mean": reference.nested_dice},
            "definition": SCORE_DEFINITION,
            "epochs": sum(len(fit.history) for fit in fits),
            "best_epoch": fits[0].best_epoch if len(fits) == 1 else [f.best_epoch for f in fits],
            "stopped_because": "; ".join(dict.fromkeys(fit.stopped_because for fit in fits)),
            "seconds_total": round(seconds_total, 1),
        }
        write_atomic(self.summary_json, json.dumps(without_nan(tree), indent=2) + "\n")

    def load_summary(self) -> dict[str, Any]:
        """Read summary.json."""
        return from_json(dict[str, Any], self._text("summary.json"), f"{self.path}/summary.json")

    def _text(self, name: str) -> str:
        path = self.path / name
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            what, got = "cannot read a file of the run", type(error).__name__
            do = "give a folder that calco train has finished"
            raise CalcoError(Problem("RUN_FILE", what, str(path), got, do=do)) from None


def _box(row: Mapping[str, str]) -> list[str] | None:
    """Return the cells of a box; None where there is none."""
    cells = [row.get(name, "") for name in Box._fields]
    return cells if all(cells) else None


def _map_paths(index: SampleIndex, root: Path, change: Callable[[Path], Path]) -> SampleIndex:
    def moved(sample: Sample) -> Sample:
        match sample.mask:
            case FileMask(path):
                mask: object = FileMask(change(path))
            case ObjectMasks(paths):
                mask = ObjectMasks(tuple(change(p) for p in paths))
            case other:
                mask = other
        return replace(sample, image=change(sample.image), mask=mask)  # type: ignore[arg-type]

    return replace(index, root=root, samples=tuple(moved(s) for s in index))
