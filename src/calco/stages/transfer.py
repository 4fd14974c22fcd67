"""Begin a training with the weights of an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from torch import Tensor

from calco.config import Config, ModelConfig
from calco.errors import CalcoError, Problem
from calco.files import sha256_of
from calco.nets.channels import adapt_constants
from calco.nets.checkpoint import ModelCard, load_model, save_model
from calco.nets.transfer import carry_over
from calco.records import Audit, NetworkPlan, Plan, Split, Start
from calco.runs import RunDir
from calco.wording import name_some

FINER_RATE = 1 / 3  # of the usual peak: what is good already should not be unlearnt
FREE = ("dropout", "scale")  # as in the weights unless given: no weight depends on them
OF_TRAINING = ("pretrained", "weights", "freeze_encoder")  # how it is trained, not what it is


@dataclass(frozen=True)
class Source:
    """A trained network to begin with.

    Attributes:
        given: As the user typed it.
        sha256: Of the weights file.
        card: What the network is.
        weights: Every tensor, by name.
        learnt: sha256 of the images that the weights have learnt from, as far as that is known.
    """

    given: str
    sha256: str
    card: ModelCard
    weights: Mapping[str, Tensor]
    learnt: frozenset[str]


def open_source(config: Config) -> Source | None:
    """Read the weights that the settings name, and check that the settings go with them.

    Args:
        config: Says where they are, if anywhere.

    Raises:
        CalcoError: When they are missing, damaged, of several trainings, or of a network that
            other settings contradict.
    """
    given = config.transfer.source
    if given is None:
        return None
    path = _weights_of(Path(given))
    network, card = load_model(path)
    source = Source(given, sha256_of(path), card, network.state_dict(), _learnt_by(path))
    _refuse_conflict(source, config)
    return source


def settings_with(source: Source, config: Config) -> Config:
    """Return the settings with the network, and the resizing, that the weights are for.

    Args:
        source: From ``open_source``.
        config: What the user gave; dropout and scale that are not at their default stay, and
            whether the encoder is frozen.
    """
    network, default = source.card.network, ModelConfig()
    kept = [name for name in FREE if getattr(config.model, name) != getattr(default, name)]
    taken = (*_shaping(), *FREE, "pretrained")  # the last for the learning rate alone
    model = {name: getattr(network, name) for name in taken if name not in kept}
    fit = {} if config.fit.resize_px or config.fit.crop_px else {"resize_px": source.card.resize_px}
    return config.model_copy(
        update={
            "model": config.model.model_copy(update=model),
            "fit": config.fit.model_copy(update=fit),
        }
    )


def begin_from(source: Source, plan: Plan, config: Config, split: Split, folder: RunDir) -> Plan:
    """Write the weights to begin with into the run, and note in the plan where they are from.

    The run needs the source no more: it is resumed from what is written here.

    Args:
        source: From ``open_source``.
        plan: Made with ``settings_with``.
        config: What the user gave.
        split: Of the new data.
        folder: Gets start.safetensors, and which images those weights have learnt from.

    Raises:
        CalcoError: When the weights do not fit the planned network.
    """
    old, resize_px = source.card.network, plan.resize_px
    n_channels = plan.network.in_channels
    mean, std = adapt_constants(old.mean, n_channels), adapt_constants(old.std, n_channels)
    network = replace(plan.network, mean=mean, std=std)
    carried = carry_over(source.weights, old, network)
    save_model(folder.start, carried.state, ModelCard(network, split.index.spec, resize_px))
    folder.save_start_images(source.learnt)
    start = Start(source.given, source.sha256, len(carried.reused), len(carried.adapted))
    freezing = "network.freeze_encoder"  # the one that is not taken over
    taken = [n for n in plan.reasons if n.startswith("network.") and n != freezing]
    taken += ["resize_px"] if resize_px and not config.fit.resize_px else []
    reasons = {**plan.reasons, **dict.fromkeys(taken, "as in the weights it starts from")}
    rate = plan.learning_rate
    if config.fit.learning_rate is None:
        rate *= FINER_RATE
        reasons["learning_rate"] = "a third of the usual: weights that are good should stay near"
    return replace(plan, network=network, learning_rate=rate, start=start, reasons=reasons)


def seen_before(source: Source, split: Split, audit: Audit) -> Problem | None:
    """Say how many images now kept for validation or test the weights have learnt from.

    Files are compared byte by byte; a picture that was saved anew is not recognised.

    Args:
        source: Weights, and what they have learnt from.
        split: Of the new data.
        audit: Of the new data.
    """
    kept = {a.id for a in split.assignments if a.subset != "train"}
    seen = [f.id for f in audit.facts if f.id in kept and f.image_sha256 in source.learnt]
    if not seen:
        return None
    return Problem(
        "START_SEEN",
        "the weights have learnt from images that are now kept for validation or test:"
        " scores will be too good",
        source.given,
        got=f"{len(seen)} of {len(kept)}: {name_some(seen, 3)}",
        do="give the same parts as sub-folders train, val and test, or other images",
        severity="warning",
        ids=tuple(seen),
    )


def _weights_of(path: Path) -> Path:
    """Return the weights file of what the user gave.

    Raises:
        CalcoError: When there is nothing, or more than one.
    """
    if not path.exists():
        what, do = "there are no weights to start from", "check the path"
        raise CalcoError(Problem("START_MISSING", what, str(path), do=do))
    if not path.is_dir():
        return path
    members = RunDir(path).members()
    if len(members) > 1:
        what = "the run has several trainings, and one can be gone on with"
        do = f"give one of them, like --from {members[0].path}"
        raise CalcoError(Problem("START_FOLDS", what, str(path), f"{len(members)} folds", do=do))
    return members[0].weights


def _learnt_by(weights: Path) -> frozenset[str]:
    """Return the sha256 of the images that a run, and those it started from, have learnt from.

    Args:
        weights: File of the run or of one of its folds; of a file that lies elsewhere nothing is
            known.
    """
    folders = (weights.parent, weights.parent.parent.parent)
    run = next((RunDir(path) for path in folders if (path / "audit.json").exists()), None)
    if run is None:
        return frozenset()
    try:
        audit, split, before = run.load_audit(), run.load_split(), run.load_start_images()
    except CalcoError:  # a part of a run
        return frozenset()
    # folds train on the validation parts of each other
    kinds = ("train", "validation") if split.n_folds > 1 else ("train",)
    ids = {a.id for a in split.assignments if a.subset in kinds}
    return before | {f.image_sha256 for f in audit.facts if f.id in ids}


def _refuse_conflict(source: Source, config: Config) -> None:
    """Refuse settings of the network, not at their default, that its weights contradict."""
    network, default = source.card.network, ModelConfig()
    problems = []
    for name in _shaping():
        asked, has = getattr(config.model, name), getattr(network, name)
        if asked not in (getattr(default, name), has):
            problems.append(
                Problem(
                    "START_CONFLICT",
                    "the weights to start from are of another network",
                    f"model.{name}",
                    got=str(asked),
                    expected=f"{has}, as in {source.given}",
                    do=f"leave out model.{name}, or --from",
                )
            )
    if problems:
        raise CalcoError(*problems)


def _shaping() -> list[str]:
    """Name the settings of a network that its weights depend on."""
    shared = (f.name for f in fields(NetworkPlan) if f.name in ModelConfig.model_fields)
    return [name for name in shared if name not in (*FREE, *OF_TRAINING)]
