"""The settings that a sweep tries: a few lines of YAML, checked before the first trial.

    learning_rate: {low: 1e-4, high: 1e-2, log: true}
    fit.batch: [8, 16, 32]

A list is tried as it stands, a range is drawn from. A space of lists alone is a grid.
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from calco.config import Config, Family, known_keys, validate_config
from calco.errors import CalcoError, Problem
from calco.strict_yaml import MAX_CHARS, parse_yaml

Value = bool | int | float | str | None
Params = Mapping[str, Value]
"""Values of settings by their dotted keys."""

SECTIONS = ("model", "loss", "fit")  # others change what a trial is scored on, or nothing of it
NOT_SEARCHED = {  # what of those sections is no choice between models
    "fit.epochs": "all trials have the same time",
    "fit.monitor": "trials are compared by validation Dice",
    "fit.preflight": "it changes no training",
    "fit.threads": "it changes no training",
    "fit.validation_share": "it changes no training",
    "fit.workers": "it changes no training",
    "model.decoder": "networks are timed before the first trial; sweep once per decoder",
    "model.download": "it changes no training",
    "model.encoder": "networks are timed before the first trial; sweep once per encoder",
    "model.weights": "they belong to one encoder; sweep once per file",
}
RANGE_WORDS = ("low", "high", "log", "step")


@dataclass(frozen=True)
class Choices:
    """A setting that takes one of some values."""

    key: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Range:
    """A setting drawn from a range, both ends included.

    Attributes:
        key: Of the setting.
        low: Smallest value.
        high: Largest value.
        log: Whether each doubling is as likely as any other.
        step: Distance of the values that are drawn; None draws any.
        whole: Whether the setting takes whole numbers alone.
    """

    key: str
    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False


Dimension = Choices | Range


@dataclass(frozen=True)
class Space:
    """What is searched: one dimension per setting."""

    dimensions: tuple[Dimension, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Of the settings, in the order given."""
        return tuple(d.key for d in self.dimensions)

    @property
    def n_combinations(self) -> float:
        """Points of the grid; infinite with a range."""
        counts = [len(d.values) if isinstance(d, Choices) else math.inf for d in self.dimensions]
        return math.prod(counts)

    def grid(self) -> Iterator[dict[str, Value]]:
        """Yield every combination of a space of lists, the last setting changing fastest."""
        lists = [d.values for d in self.dimensions if isinstance(d, Choices)]
        for values in itertools.product(*lists):
            yield dict(zip(self.keys, values, strict=True))

    def inside(self, params: Params) -> dict[str, Value]:
        """Return those of some values that could have been drawn."""
        return {d.key: params[d.key] for d in self.dimensions if _holds(d, params.get(d.key))}


def read_space(path: Path, base: Config) -> Space:
    """Read a space from a YAML file.

    Args:
        path: Of the file.
        base: Settings that the values are tried with.

    Raises:
        CalcoError: Lists every unknown setting (with the nearest name) and every value it refuses.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(MAX_CHARS + 1)
    except (OSError, UnicodeDecodeError) as error:
        got = error.strerror if isinstance(error, OSError) else "a file that is not UTF-8"
        what, do = "cannot read the search space", "check the path given with --space"
        raise CalcoError(Problem("SPACE_READ", what, str(path), str(got), do=do)) from None
    return parse_space(text, base, str(path))


def parse_space(text: str, base: Config, where: str = "space") -> Space:
    """Read a space from YAML; see ``read_space``."""
    tree = parse_yaml(text, where)
    if not isinstance(tree, dict) or not tree:
        got = "nothing" if not tree else type(tree).__name__
        expected = "lines like 'fit.learning_rate: [0.001, 0.0005]'"
        do = "name at least one setting"
        what = "a search space names settings and their values"
        raise CalcoError(Problem("SPACE_TYPE", what, where, got, expected, do))
    dimensions: list[Dimension] = []
    faults: list[Problem] = []
    for name, spec in _flat(tree):
        try:
            key = _full_key(name, where)
            if key in {d.key for d in dimensions}:
                do = "write its values on one line"
                raise CalcoError(Problem("SPACE_KEY", "given twice", where, key, do=do))
            dimensions.append(_dimension(key, spec, base, where))
        except CalcoError as error:
            faults += error.problems
    if faults:
        raise CalcoError(*faults)
    return Space(tuple(dimensions))


def space_to_yaml(space: Space) -> str:
    """Return a space as YAML that ``parse_space`` reads back unchanged."""
    tree: dict[str, Any] = {}
    for dimension in space.dimensions:
        match dimension:
            case Choices(key, values):
                tree[key] = list(values)
            case Range(key, low, high, log, step):
                tree[key] = {"low": low, "high": high}
                tree[key] |= {"log": True} if log else {}
                tree[key] |= {"step": step} if step is not None else {}
    return yaml.safe_dump(tree, sort_keys=False, default_flow_style=None)


def overlay(base: Config, params: Params, where: str = "settings") -> Config:
    """Return settings with some of them replaced.

    Args:
        base: All settings.
        params: The others, by dotted keys.
        where: Named by errors.

    Raises:
        CalcoError: Lists every value that is refused.
    """
    tree = base.model_dump(mode="json")
    for key, value in params.items():
        *sections, name = key.split(".")
        inner = tree
        for section in sections:
            inner = inner[section]
        inner[name] = value
    return validate_config(tree, where)


def default_space(base: Config, family: Family, crops_px: tuple[int, ...]) -> Space:
    """Return what is searched unless the user says otherwise.

    Settings that the user gave in ``base`` are kept out of it.

    Args:
        base: Settings of all trials.
        family: Of the network that is planned; what it has no use for is left out.
        crops_px: Sides of crops that fit it.
    """
    depth = base.model.depth
    dimensions: list[Dimension] = [
        Range("fit.learning_rate", 3e-4, 1e-2, log=True),
        Choices("fit.batch", (8, 16, 32)),
        Choices("fit.crop_px", crops_px),
        Range("fit.augment", 0.0, 1.0),
        Range("model.dropout", 0.0, 0.4),
        Choices("loss.name", ("bce_dice", "dice", "focal", "lovasz")),
    ]
    match family:
        case "unet":
            dimensions.append(Choices("model.width", (16, 32, 64)))
            if depth > 1:
                dimensions.append(Choices("model.depth", (depth - 1, depth)))
        case "lean":
            dimensions.append(Choices("model.width", (16, 32, 48)))
        case _:
            pass  # its encoder sets both
    given = _given(base)
    if base.fit.resize_px:
        given.add("fit.crop_px")
    kept = [d for d in dimensions if d.key not in given]
    return Space(tuple(d for d in kept if not isinstance(d, Choices) or len(d.values) > 1))


def _given(base: Config) -> set[str]:
    """Name the settings that are not at their defaults."""
    default, own = Config().model_dump(), base.model_dump()
    keys = [key.split(".") for key in known_keys() if "." in key]
    return {f"{s}.{name}" for s, name in keys if own[s][name] != default[s][name]}


# --- reading -----------------------------------------------------------------------------------


def _flat(tree: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (key, values); settings may stand below their section, as in other files."""
    sections = {key.split(".")[0] for key in known_keys() if "." in key}
    for name, spec in tree.items():
        if name in sections and isinstance(spec, dict):
            yield from ((f"{name}.{inner}", values) for inner, values in spec.items())
        else:
            yield str(name), spec


def _full_key(name: str, where: str) -> str:
    """Return the dotted key of a setting that may be called by its last word alone."""
    searched = [key for key in known_keys() if key.split(".")[0] in SECTIONS]
    if name in NOT_SEARCHED:
        what, do = f"not searched: {NOT_SEARCHED[name]}", "remove it, or give it with --set"
        raise CalcoError(Problem("SPACE_KEY", what, where, name, do=do))
    if name in searched:
        return name
    if name in known_keys():
        what = "not searched: trials must be scored on the same data in the same way"
        do = "remove it, or give it with --set"
        raise CalcoError(Problem("SPACE_KEY", what, where, name, do=do))
    same = [key for key in searched if key.split(".")[-1] == name]
    if len(same) == 1 and same[0] not in NOT_SEARCHED:
        return same[0]
    near = same or difflib.get_close_matches(name, searched, n=1, cutoff=0.5)
    if not near:  # a short name with a slip
        last = {key.split(".")[-1]: key for key in searched}
        near = [last[n] for n in difflib.get_close_matches(name, last, n=1, cutoff=0.5)]
    do = f"did you mean {' or '.join(near)}?" if near else "see docs/reference/config.md"
    raise CalcoError(Problem("SPACE_KEY", "unknown setting", where, name, do=do))


def _dimension(key: str, spec: object, base: Config, where: str) -> Dimension:
    match spec:
        case list() if spec:
            return _choices(key, spec, base, where)
        case dict():
            return _range(key, spec, base, where)
    expected = "a list, or {low: ..., high: ...}"
    do = f"write {key}: [{spec}] to try this value alone" if spec else f"give {key} values"
    raise CalcoError(Problem("SPACE_VALUES", f"no values of {key}", where, str(spec), expected, do))


def _choices(key: str, values: list[Any], base: Config, where: str) -> Choices:
    faults: list[Problem] = []
    for value in values:
        if isinstance(value, list | dict):
            what, expected = f"{key}: not a single value", "numbers, words, true or false"
            faults.append(Problem("SPACE_VALUES", what, where, str(value), expected))
            continue
        faults += _refusals(base, {key: value}, where)
    if len({repr(v) for v in values}) < len(values):
        do = "name each value once"
        faults.append(Problem("SPACE_VALUES", f"{key}: a value is repeated", where, do=do))
    if faults:
        raise CalcoError(*faults)
    return Choices(key, tuple(values))


def _range(key: str, spec: Mapping[str, Any], base: Config, where: str) -> Range:
    unknown = sorted(map(str, spec.keys() - set(RANGE_WORDS)))
    ends = [spec.get("low"), spec.get("high")]
    numbers = [v for v in (*ends, spec.get("step", 1)) if _is_number(v)]
    is_log = spec.get("log", False)
    if unknown or len(numbers) < 3 or not isinstance(is_log, bool):
        what, do = f"{key}: not a range", f"write {key}: {{low: 1, high: 2}}"
        expected = "low and high; log: true or step where wanted"
        raise CalcoError(Problem("SPACE_VALUES", what, where, str(dict(spec)), expected, do))
    low, high, step = spec["low"], spec["high"], spec.get("step")
    fault = ""
    if not low < high:
        fault = "low is not below high"
    elif is_log and low <= 0:
        fault = "a range with log begins above 0"
    elif step is not None and (is_log or not 0 < step <= high - low):
        fault = "step is above 0, at most high - low, and not with log"
    if fault:
        do = "correct the range"
        raise CalcoError(Problem("SPACE_VALUES", f"{key}: {fault}", where, str(dict(spec)), do=do))
    if faults := [p for end in (low, high) for p in _refusals(base, {key: end}, where)]:
        raise CalcoError(*faults)
    # what takes both ends but nothing between two whole numbers, takes whole numbers
    between = low + 0.5 if low + 0.5 < high else (low + high) / 2
    whole = isinstance(low, int) and isinstance(high, int)
    whole = whole and bool(_refusals(base, {key: between}, where))
    if whole and step is not None and step != int(step):
        do = "give a whole step"
        raise CalcoError(Problem("SPACE_VALUES", f"{key}: whole numbers", where, str(step), do=do))
    return Range(key, low, high, is_log, step, whole)


def _refusals(base: Config, params: Params, where: str) -> tuple[Problem, ...]:
    try:
        overlay(base, params, where)
    except CalcoError as error:
        return error.problems
    return ()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _holds(dimension: Dimension, value: Value) -> bool:
    match dimension:
        case Choices(_, values):
            return any(v == value and type(v) is type(value) for v in values)
        case Range(_, low, high, _, step):
            if not _is_number(value):
                return False
            number = float(value)  # type: ignore[arg-type]
            on_step = step is None or math.isclose((number - low) / step % 1, 0, abs_tol=1e-9)
            return low <= number <= high and on_step
