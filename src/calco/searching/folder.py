"""The folder of a sweep: the name of every file in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from calco.config import Config
from calco.errors import CalcoError, Problem
from calco.files import from_json, to_json, write_atomic, write_csv
from calco.records import Sweep
from calco.runs import RunDir
from calco.searching.space import overlay


@dataclass(frozen=True)
class StudyNote:
    """Which study a folder belongs to.

    Attributes:
        name: Of the study.
        own: Whether it lies in this folder; else the storage must be named again, since it may
            hold a password and is written nowhere.
    """

    name: str
    own: bool


@dataclass(frozen=True)
class SweepDir:
    """What a worker of a sweep reads and leaves.

    Beside the files named here lie those of ``RunDir`` on the data: config.yaml, manifest.json,
    samples.csv, audit.json, split.csv and plan.yaml, the plan of the first trial.
    """

    path: Path

    @property
    def run(self) -> RunDir:
        """The same folder, for the files on the data."""
        return RunDir(self.path)

    @property
    def own_storage(self) -> str:
        """URL of the study in this folder."""
        return f"sqlite:///{(self.path / 'study.db').resolve()}"

    @property
    def note_json(self) -> Path:
        """Which study this is."""
        return self.path / "sweep.json"

    @property
    def space_yaml(self) -> Path:
        """What is searched."""
        return self.path / "space.yaml"

    @property
    def cache(self) -> Path:
        """Folder of the decoded images, shared by the workers here."""
        return self.path / "cache"

    @property
    def trials_csv(self) -> Path:
        """One row per trial."""
        return self.path / "trials.csv"

    @property
    def best_yaml(self) -> Path:
        """Settings of the best trial, for ``calco train --config``."""
        return self.path / "best.yaml"

    @property
    def page(self) -> Path:
        """The page for people."""
        return self.path / "sweep.html"

    def save_note(self, note: StudyNote) -> None:
        """Write sweep.json: the folder is complete from here on."""
        write_atomic(self.note_json, to_json(note))

    def load_note(self) -> StudyNote:
        """Read sweep.json.

        Raises:
            CalcoError: When this is not a folder of a sweep.
        """
        try:
            text = self.note_json.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            what, do = "not a folder of a sweep", "leave out --resume to begin one"
            if self.run.path.joinpath("config.yaml").exists():
                what, do = "this sweep was ended before its first trial", "begin it in a new folder"
            expected = "sweep.json in it"
            where = str(self.path)
            raise CalcoError(Problem("RUN_MISSING", what, where, "", expected, do)) from None
        return from_json(StudyNote, text, str(self.note_json))

    def save_results(self, sweep: Sweep, base: Config) -> None:
        """Write trials.csv and, once a trial is complete, best.yaml.

        Args:
            sweep: All trials.
            base: Settings of all trials.
        """
        keys = sorted({key for trial in sweep.trials for key in trial.params})
        names = ("trial", "state", "dice", "epochs", "seconds", "attempts", "problem", *keys)
        rows = [
            (
                *(t.number, t.state, t.dice, len(t.history), t.seconds, t.attempts, t.problem),
                *(t.params.get(key, "") for key in keys),
            )
            for t in sweep.trials
        ]
        write_csv(self.trials_csv, names, rows)
        if sweep.best is not None:
            write_atomic(self.best_yaml, best_settings(sweep, base))


def best_settings(sweep: Sweep, base: Config) -> str:
    """Return the settings of the best trial as YAML; defaults are left out.

    Args:
        sweep: With a complete trial.
        base: Settings of all trials.
    """
    best = sweep.best
    if best is None:
        return ""
    # not as many epochs as a trial: the settings are for a training of any length
    given = overlay(base, {**sweep.spec.fixed, **best.params, "fit.epochs": None})
    lines = [
        f"# Trial {best.number} of {len(sweep.trials)}: validation Dice {best.dice:.4f} after"
        f" {best.seconds:.0f} s.",
        "# calco train DATA --config best.yaml --budget 20m",
    ]
    if base.fit.epochs:
        lines.append(f"# To repeat the trial: --epochs {base.fit.epochs} instead of --budget.")
    if sweep.spec.fixed:
        keys = ", ".join(sorted(sweep.spec.fixed))
        lines.append(f"# Chosen by the plan for so short trials, not searched: {keys}.")
    return "\n".join(lines) + "\n" + _without_defaults(given)


def _without_defaults(config: Config) -> str:
    tree, usual = config.model_dump(mode="json"), Config().model_dump(mode="json")
    kept: dict[str, object] = {}
    for name, own in tree.items():
        if isinstance(own, dict):
            section = {key: value for key, value in own.items() if value != usual[name][key]}
            kept |= {name: section} if section else {}
        elif own != usual[name]:
            kept[name] = own
    return yaml.safe_dump(kept, sort_keys=False) if kept else ""
