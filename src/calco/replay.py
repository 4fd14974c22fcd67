"""A plan as settings: ``calco train --config RUN/plan.yaml`` trains by it again, edited or not."""

from __future__ import annotations

from collections.abc import Mapping

FIT = (
    "crop_px",
    "resize_px",
    "batch",
    "epochs",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "schedule",
    "ema",
    "clip_norm",
    "augment",
    "focus",
    "precision",
    "threads",
    "channels_last",
    "encoder_lr_factor",
    "layer_decay",
)
DERIVED = ("in_channels", "mean", "std", "weights_sha256")  # follow from data and network
OF_ENCODERS = ("encoder", "decoder", "pretrained", "weights", "freeze_encoder")
RESTS_ON = ("reasons", "foretold_steps", "fingerprint", "machine")  # why, and no setting


def is_plan(tree: Mapping[str, object]) -> bool:
    """Whether what was read is a plan.yaml; settings never have these two keys."""
    return {"network", "reasons"} <= tree.keys()


def settings_of(plan: Mapping[str, object]) -> dict[str, object]:
    """Turn the tree of a plan.yaml into a tree of settings; what it rests on is left out.

    Keys that no plan has are kept, so that the check of the settings names them.

    Args:
        plan: As read.

    Example:
        >>> settings_of({"network": {"width": 8}, "batch": 4, "reasons": {}})
        {'model': {'width': 8}, 'fit': {'batch': 4}}
    """
    tree = {k: v for k, v in plan.items() if k not in RESTS_ON}
    network = tree.pop("network")
    settings: dict[str, object] = {"model": network}
    if isinstance(network, Mapping):
        # a plan names an encoder for networks that have none, too
        unused = OF_ENCODERS if network.get("family") in ("unet", "lean") else ()
        settings["model"] = {k: v for k, v in network.items() if k not in (*DERIVED, *unused)}
    settings["fit"] = {name: tree.pop(name) for name in FIT if name in tree}
    start = tree.pop("start", None)
    if isinstance(start, Mapping):  # not the weights themselves: the file must still be there
        settings["transfer"] = {"source": start.get("source")}
    if "loss" in tree:
        settings["loss"] = {"name": tree.pop("loss")}
    return settings | tree
