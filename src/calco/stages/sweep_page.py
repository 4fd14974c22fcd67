"""Write a sweep as a page: what was tried, how it went, which settings were best and why."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from calco.config import Config
from calco.files import write_atomic
from calco.formats.pages import page_template
from calco.images.overlays import data_uri
from calco.images.sweep_figures import draw_importance, draw_parallel, draw_trials
from calco.records import Sweep, SweepTrial
from calco.records.sweep import short_name
from calco.searching.folder import best_settings
from calco.wording import counted, duration

ORDER = ("complete", "pruned", "failed", "running", "waiting")
NAMES = {"pruned": "given up", "complete": "complete"}


@dataclass(frozen=True)
class Plot:
    """A picture; ``alt`` is for those who cannot see it."""

    title: str
    alt: str
    uri: str


def write_sweep_page(sweep: Sweep, base: Config, path: Path) -> Path:
    """Write one self-contained page.

    Args:
        sweep: Any number of trials, ended or not.
        base: Settings of all trials.
        path: Of the page.

    Returns:
        The page's path.
    """
    keys = list(dict.fromkeys(key for trial in sweep.trials for key in trial.params))
    ranked = sorted(sweep.trials, key=_rank)
    page = page_template("sweep.html.jinja", _FILTERS).render(
        sweep=sweep,
        keys=keys,
        ranked=ranked,
        best=sweep.best,
        best_yaml=best_settings(sweep, base),
        counts=[(NAMES.get(s, s), sweep.count(s)) for s in ORDER if sweep.count(s)],  # type: ignore[arg-type]
        parallel=_parallel(sweep, keys),
        importance=_importance(sweep),
        curves=_curves(sweep, keys),
        seconds=math.fsum(trial.seconds for trial in sweep.trials),
    )
    write_atomic(path, page)
    return path


def _rank(trial: SweepTrial) -> tuple[int, float, int]:
    dice = trial.dice if math.isfinite(trial.dice) else -1.0
    return ORDER.index(trial.state), -dice, trial.number


def _parallel(sweep: Sweep, keys: list[str]) -> Plot | None:
    if sum(math.isfinite(t.dice) for t in sweep.trials) < 2:
        return None
    alt = "Each trial as a line through the values of its settings to its validation Dice"
    return Plot("Parallel coordinates", alt, data_uri(draw_parallel(sweep, keys, "none"), "png"))


def _importance(sweep: Sweep) -> Plot | None:
    if not sweep.importance:
        return None
    told = ", ".join(f"{key} {share:.2f}" for key, share in sweep.importance.items())
    picture = draw_importance(sweep.importance, "none")
    return Plot("Importance", f"Share of each setting: {told}", data_uri(picture, "png"))


def _curves(sweep: Sweep, keys: list[str]) -> list[Plot]:
    varied = [k for k in keys if len({repr(t.params.get(k)) for t in sweep.trials if t.params}) > 1]
    if not any(trial.history for trial in sweep.trials):
        return []
    return [
        Plot(
            key,
            f"Loss and Dice of training and validation of all trials, coloured by {key}",
            data_uri(draw_trials(sweep, key, "none"), "png"),
        )
        for key in varied or keys
    ]


# --- text --------------------------------------------------------------------------------------


def _score(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "n/a"


def _setting(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


_FILTERS: dict[str, Callable[..., object]] = {
    "score": _score,
    "setting": _setting,
    "duration": duration,
    "many": counted,
    "state": lambda state: NAMES.get(state, state),
    "short": short_name,
}
