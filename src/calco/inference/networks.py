"""The networks of a run, or of several that predict as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from calco.errors import CalcoError, Problem
from calco.nets.build import Ensemble
from calco.nets.checkpoint import ModelCard, load_model
from calco.runs import RunDir


def common_card(runs: Sequence[Path], cards: Sequence[ModelCard]) -> ModelCard:
    """Return how networks that predict together are fed; what is seen largest decides on memory.

    Args:
        runs: Where each is from.
        cards: Of each.

    Raises:
        CalcoError: ENSEMBLE when they read or resize images in different ways.
    """
    first = _fed(cards[0])
    for run, card in zip(runs, cards, strict=True):
        if _fed(card) != first:
            what = f"it reads images otherwise than {runs[0]}, so both cannot predict together"
            do = "train them on the same data set with the same data settings and fit.resize_px"
            raise CalcoError(Problem("ENSEMBLE", what, str(run), _fed(card), first, do))
    return replace(cards[0], network=max((c.network for c in cards), key=lambda n: n.scale))


def _fed(card: ModelCard) -> str:
    spec, resized = card.spec, f", resized to {card.resize_px}" if card.resize_px else ""
    frame = "" if spec.frame is None else f", frame {spec.frame}"
    return f"{spec.channels} channels of {spec.low:g} to {spec.high:g}{frame}{resized}"


def folder_of(run: Path) -> RunDir:
    """Return the folder of a run, or the one that a weights file lies in."""
    return RunDir(run if run.is_dir() else run.parent)


def load_networks(run: Path) -> tuple[nn.Module, ModelCard]:
    """Load the network of a run, its folds as one, and how it reads images.

    Folds are averaged as the run was tuned to.

    Args:
        run: Run folder or a weights file with its seal beside it.

    Raises:
        CalcoError: When the model is missing, damaged or not calco's, or folds do not match.
    """
    folder = folder_of(run)
    weights = [member.weights for member in folder.members()] if run.is_dir() else [run]
    models = [load_model(path) for path in weights]
    card = models[0][1]
    for path, (_, other) in zip(weights, models, strict=True):
        if other != card:
            raise CalcoError(
                Problem(
                    "RUN_FILE",
                    "the folds of this run are different networks",
                    str(path),
                    expected=f"a network like {weights[0]}",
                    do="restore it or train again",
                )
            )
    members = [network for network, _ in models]
    if len(members) == 1:
        return members[0], card
    return Ensemble(members, folder.load_postprocess().mean), card
