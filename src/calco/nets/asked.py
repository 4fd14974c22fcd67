"""What settings ask of an encoder, and whether it can be had: known before any data are read."""

from __future__ import annotations

from calco.config import Config
from calco.errors import CalcoError, Problem
from calco.nets.encoders import DEFAULT_ENCODER, POOLING_DECODERS, require_fitting
from calco.nets.weights import find_weights, require_matching
from calco.records import NetworkPlan

LEAST_POOLED_BATCH = 3  # batches are split evenly: of two, one image may be alone
RATES = ("fit.encoder_lr_factor", "fit.layer_decay")
ASKING = ("model.encoder", "model.decoder", "model.weights", "model.freeze_encoder", *RATES)


def asked_of_encoder(config: Config) -> list[str]:
    """Name the settings given that only a network with an encoder can follow.

    Example:
        >>> asked_of_encoder(Config.model_validate({"model": {"encoder": "resnet18"}}))
        ['model.encoder']
    """
    default = Config()
    return [
        f"{section}.{name}"
        for section, name in (key.split(".") for key in ASKING)
        if getattr(getattr(config, section), name) != getattr(getattr(default, section), name)
    ]


def require_network(config: Config, trained: NetworkPlan | None = None) -> None:
    """Refuse a network that cannot be built, or whose weights cannot be had.

    Args:
        config: What the user gave.
        trained: Network of the run to start from: built already, and in need of no weights but its
            own. None starts with a new one.

    Raises:
        CalcoError: With what to set instead.
    """
    require_agreeing(config, trained)
    if trained is None and config.model.family in (None, "encoder_unet"):
        _require_weights(config)


def require_agreeing(config: Config, trained: NetworkPlan | None = None) -> None:
    """Refuse settings of which one makes the other meaningless.

    Args:
        config: All settings.
        trained: Network of the run that training starts from, if it does.

    Raises:
        CalcoError: With what to set instead.
    """
    _require_encoder(config, trained)
    _require_consistent(config, trained)


def _require_encoder(config: Config, trained: NetworkPlan | None) -> None:
    """Refuse what asks for an encoder where there is none."""
    asked = asked_of_encoder(config)
    if config.model.encoder == DEFAULT_ENCODER:  # older config.yaml name it for all networks
        asked.remove("model.encoder")
    family = trained.family if trained else config.model.family
    if family not in ("unet", "lean") or not asked:
        return
    where, do = "model.family", f"set model.family: encoder_unet, or leave out {asked[0]}"
    if trained:
        where, do = asked[0], f"leave out {asked[0]}, or start from a run that has one"
    raise CalcoError(Problem("ENCODER_NONE", f"{family} has no encoder", where, do=do))


def _require_consistent(config: Config, trained: NetworkPlan | None) -> None:
    """Refuse settings that contradict each other."""
    model, fit = config.model, config.fit
    if trained and model.weights:
        what = "training starts from a run, and would not use weights of an encoder"
        do = "leave out --weights (set model.weights: null), or --from"
        raise CalcoError(Problem("START_WEIGHTS", what, "model.weights", model.weights, do=do))
    contradictions = [
        (model.weights and not model.pretrained, "model.weights", "leave out model.weights"),
        (model.freeze_encoder and not model.pretrained, "model.freeze_encoder", "train it"),
    ]
    for holds, where, do in contradictions:
        if holds and trained is None:
            what, got = "the encoder starts from random weights", "model.pretrained: false"
            do = f"set model.pretrained: true, or {do}"
            raise CalcoError(Problem("ENCODER_RANDOM", what, where, got, do=do))
    slow = [name for name in RATES if name in asked_of_encoder(config)]
    if model.freeze_encoder and slow:
        what = "a frozen encoder has no learning rate"
        do = f"leave out {slow[0]} or model.freeze_encoder"
        raise CalcoError(Problem("ENCODER_FROZEN", what, slow[0], do=do))
    decoder = trained.decoder if trained else model.decoder
    if decoder in POOLING_DECODERS and fit.batch and fit.batch < LEAST_POOLED_BATCH:
        what = f"{decoder} normalises one number per image, over the batch"
        do = f"set fit.batch: {LEAST_POOLED_BATCH} or more"
        do += "" if trained else ", or another model.decoder"
        raise CalcoError(Problem("ENCODER_BATCH", what, "fit.batch", str(fit.batch), do=do))


def _require_weights(config: Config) -> None:
    """Refuse an encoder that does not fit its decoder, or the weights that were found for it."""
    model = config.model
    encoder, network = model.encoder or DEFAULT_ENCODER, None
    if model.encoder or model.decoder or model.weights:  # what calco chooses is known to fit
        network = require_fitting(encoder, model.decoder or "light")
    if model.pretrained:
        found = find_weights(encoder, model.weights, download=model.download)
        if network:
            require_matching(network.encoder, found)
