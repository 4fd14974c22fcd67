"""Starting from a run: what is taken over, what is refused, and that it is worth it."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.conftest import TINY, draw_discs

from calco.config import Config, load_config
from calco.errors import CalcoError, Problem, StoppedError
from calco.files import sha256_of
from calco.nets.build import build_network
from calco.nets.checkpoint import ModelCard, load_model, save_model
from calco.pipeline import Listener, prepare, resume, run, train
from calco.records import ImageSpec, NetworkPlan, Plan
from calco.replay import settings_of
from calco.runs import RunDir
from calco.stages.audit import audit_samples
from calco.stages.samples import index_samples
from calco.stages.split import split_samples
from calco.stages.transfer import open_source, seen_before, settings_with
from calco.training.budget import Clock
from calco.training.progress import Watch


def starting_from(source: Path, *overrides: str) -> Config:
    """Settings of a tiny run that starts from another; the network is not named."""
    tiny = [setting for setting in TINY if not setting.startswith("model.")]
    return load_config(None, (*tiny, f"transfer.source={source}", *overrides))


def planned(data: Path, config: Config, folder: Path) -> Plan:
    audit = audit_samples(index_samples(data, config.data), config.data, config.audit)
    split = split_samples(audit, config.split)
    return prepare(split, config, RunDir(folder), Clock(), open_source(config)).plan


def test_the_network_is_that_of_the_run(finished_run: Path, discs: Path, tmp_path: Path) -> None:
    tmp_path.joinpath("run").mkdir()
    config = starting_from(finished_run, "fit.learning_rate=null", "model.dropout=0.25")
    plan = planned(discs, config, tmp_path / "run")
    before = RunDir(finished_run).load_plan()
    assert plan.network == replace(before.network, dropout=0.25)
    assert plan.learning_rate == pytest.approx(1e-3 / 3)
    assert "a third of the usual" in plan.reasons["learning_rate"]
    assert plan.reasons["network.width"] == "as in the weights it starts from"
    assert plan.start is not None
    assert plan.start.sha256 == sha256_of(RunDir(finished_run).weights)
    assert (plan.start.n_adapted, plan.start.n_new) == (0, 0)
    assert plan.start.n_reused > 10
    assert RunDir(tmp_path / "run").load_plan() == plan  # and the file says so, too


def test_a_given_learning_rate_is_kept(finished_run: Path, discs: Path, tmp_path: Path) -> None:
    plan = planned(discs, starting_from(finished_run, "data.channels=1"), tmp_path)
    assert plan.learning_rate == 0.01
    assert plan.network.in_channels == len(plan.network.mean) == 1
    assert plan.start is not None
    assert plan.start.n_adapted == 1


def test_few_images_are_learnt_better_than_from_scratch(finished_run: Path, tmp_path: Path) -> None:
    """Same four images, same steps, same rate and seed; only the weights at the start differ."""
    data = draw_discs(tmp_path / "few", 8, seed=3)
    once = ("fit.epochs=1", "split.validation=0.5", "split.test=0")
    dices: list[float] = []
    for config in (starting_from(finished_run, *once), load_config(None, (*TINY, *once))):
        audit = audit_samples(index_samples(data, config.data), config.data, config.audit)
        folder = RunDir(tmp_path / str(len(dices)))
        folder.path.mkdir()
        split, source = split_samples(audit, config.split), open_source(config)
        (result,) = train(
            prepare(split, config, folder, Clock(), source), folder, Clock(), Listener()
        )
        dices.append(result.history[-1].validation_dice)
    transferred, scratch = dices
    assert transferred > scratch + 0.1


def test_resume_needs_the_source_no_more(
    finished_run: Path,
    discs: Path,
    tmp_path: Path,
    stop_at: Callable[[int, signal.Signals], Watch],
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("best.safetensors", "best.json"):
        shutil.copy(finished_run / name, source / name)
    folder = RunDir(tmp_path / "run")
    config = starting_from(source / "best.safetensors")
    with pytest.raises(StoppedError):
        run(discs, config, folder, Clock(), Listener(watch=stop_at(1, signal.SIGTERM)))
    note = folder.load_manifest()["start"]
    assert note == {
        "source": str(source / "best.safetensors"),
        "sha256": sha256_of(finished_run / "best.safetensors"),
    }
    shutil.rmtree(source)
    shutil.rmtree(folder.last)  # as after a kill before the first state: from the start again
    resume(folder, Clock(), Listener())
    assert folder.load_fit().finished
    assert folder.load_history()[0].validation_dice > 0.6  # not from random weights


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("model.width=8",), "model.width"),
        (("model.family=lean",), "model.family"),
        (("model.depth=3", "model.norm=group"), "model.depth"),
    ],
)
def test_settings_that_contradict_the_weights(
    finished_run: Path, overrides: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(CalcoError) as caught:
        open_source(starting_from(finished_run, *overrides))
    assert len(caught.value.problems) == len(overrides)  # all of them
    assert caught.value.problems[0].where == expected
    assert caught.value.problems[0].code == "START_CONFLICT"


def test_settings_that_agree_are_no_conflict(finished_run: Path) -> None:
    config = starting_from(finished_run, "model.family=unet", "model.width=4")
    source = open_source(config)
    assert source is not None
    resized = replace(source, card=replace(source.card, resize_px=64))
    assert settings_with(resized, config).fit.resize_px is None  # crop_px was given
    plain = config.model_copy(update={"fit": config.fit.model_copy(update={"crop_px": None})})
    assert settings_with(resized, plain).fit.resize_px == 64


def test_what_is_no_run(finished_run: Path, tmp_path: Path) -> None:
    folds = tmp_path / "folds"
    for number in "01":
        shutil.copytree(finished_run, folds / "folds" / number, ignore=lambda *_: ["predictions"])
    (tmp_path / "empty").mkdir()
    for path, code in (
        (tmp_path / "nothing", "START_MISSING"),
        (tmp_path / "empty", "CKPT_READ"),
        (finished_run / "report.html", "CKPT_FOREIGN"),
        (folds, "START_FOLDS"),
    ):
        with pytest.raises(CalcoError) as caught:
            open_source(starting_from(path))
        assert caught.value.problems[0].code == code
    assert open_source(starting_from(folds / "folds" / "1")) is not None


def seen(source_run: Path, data: Path, config: Config) -> Problem | None:
    source = open_source(config.model_copy(update={"transfer": starting_from(source_run).transfer}))
    audit = audit_samples(index_samples(data, config.data), config.data, config.audit)
    assert source is not None
    return seen_before(source, split_samples(audit, config.split), audit)


def test_images_that_the_weights_know(
    finished_run: Path, discs: Path, tiny_config: Config, tmp_path: Path
) -> None:
    assert seen(finished_run, discs, tiny_config) is None  # the same split: nothing is crossed
    other = tiny_config.model_copy(
        update={"split": tiny_config.split.model_copy(update={"seed": 1})}
    )
    found = seen(finished_run, discs, other)
    assert found is not None
    assert found.severity == "warning"
    audit = audit_samples(index_samples(discs, other.data), other.data, other.audit)
    split, trained = split_samples(audit, other.split), RunDir(finished_run).load_split()
    kept = {s.id for subset in ("validation", "test") for s in split.part(subset)}
    assert set(found.ids) == kept & {s.id for s in trained.part("train")}
    assert f"{len(found.ids)} of {len(kept)}" in found.got
    assert seen(finished_run, draw_discs(tmp_path / "new", 20, seed=9), other) is None
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("best.safetensors", "best.json"):
        shutil.copy(finished_run / name, alone / name)
    assert seen(alone / "best.safetensors", discs, other) is None  # nothing is known of them


def test_a_plan_trained_by_again_starts_from_the_same() -> None:
    tree = {"network": {}, "reasons": {}, "start": {"source": "results/run1", "sha256": "0" * 64}}
    assert settings_of(tree)["transfer"] == {"source": "results/run1"}


def as_a_run(folder: Path, network: NetworkPlan) -> Path:
    """Leave random weights as a run does."""
    folder.mkdir()
    state = build_network(replace(network, pretrained=False)).state_dict()
    card = ModelCard(network, ImageSpec(network.in_channels))
    save_model(RunDir(folder).weights, state, card)
    return folder


def deep(encoder: str, *, pretrained: bool = True) -> NetworkPlan:
    """A network with an encoder whose weights are on no machine without a network."""
    return NetworkPlan(
        "encoder_unet", 3, (100.0, 110.0, 150.0), (50.0, 60.0, 70.0), encoder, pretrained
    )


def refused(config: Config, folder: Path) -> str:
    """Say why a run of data that are not there is refused."""
    with pytest.raises(CalcoError) as caught:
        run(folder / "no-data", config, RunDir(folder / "new"), Clock(), Listener())
    assert not (folder / "new").exists()
    return caught.value.problems[0].code


def test_what_the_run_settles_is_known_before_data_are_read(
    finished_run: Path, tmp_path: Path
) -> None:
    for given in ("model.freeze_encoder=true", "fit.layer_decay=0.9"):
        assert refused(starting_from(finished_run, given), tmp_path) == "ENCODER_NONE"
    weights = starting_from(finished_run, "model.weights=w.safetensors")
    assert refused(weights, tmp_path) in ("START_WEIGHTS", "ENCODER_NONE")
    source = as_a_run(tmp_path / "run1", deep("resnet18"))
    weights = starting_from(source, "model.weights=w.safetensors")
    assert refused(weights, tmp_path) == "START_WEIGHTS"
    agreeing = starting_from(source, "model.encoder=resnet18")  # no ImageNet weights are here
    assert refused(agreeing, tmp_path) == "DATA_MISSING"


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_plan_of_a_frozen_encoder_is_trained_by_again(
    pretrained: bool, discs: Path, tmp_path: Path
) -> None:
    source = as_a_run(tmp_path / "run1", deep("resnet18", pretrained=pretrained))
    folder = tmp_path / "run2"
    folder.mkdir()
    plan = planned(discs, starting_from(source, "model.freeze_encoder=true"), folder)
    assert plan.network.freeze_encoder
    assert plan.reasons["network.freeze_encoder"] == "given by the user"
    again = load_config(folder / "plan.yaml")
    assert refused(again, tmp_path) == "DATA_MISSING"
    (tmp_path / "run3").mkdir()
    assert planned(discs, again, tmp_path / "run3").network == plan.network


def test_a_frozen_encoder_is_frozen_again_only_if_asked(tmp_path: Path) -> None:
    frozen = replace(deep("resnet18"), freeze_encoder=True)
    source_run = as_a_run(tmp_path / "run1", frozen)
    for given, expected in (((), False), (("model.freeze_encoder=true",), True)):
        config = starting_from(source_run, *given)
        source = open_source(config)
        assert source is not None
        assert settings_with(source, config).model.freeze_encoder is expected


def test_a_run_needs_no_package_of_its_encoder(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("looked for")

    monkeypatch.setattr("calco.stages.plan.find_weights", never)
    source = as_a_run(tmp_path / "run1", deep("efficientnet-lite1"))
    (tmp_path / "run2").mkdir()
    config = starting_from(source, "fit.learning_rate=null")
    plan = planned(discs, config, tmp_path / "run2")
    assert plan.learning_rate == pytest.approx(3e-3 / 3)  # as of networks that began with them
    with pytest.raises(AssertionError):  # the negative control
        planned(discs, load_config(None, ("model.family=encoder_unet",)), tmp_path / "run2")


@pytest.mark.parametrize(
    ("mean", "std"), [((100.0, 110.0, 150.0), (50.0, 60.0, 70.0)), ((120.0,) * 3, (60.0,) * 3)]
)
def test_channels_that_become_one_share_their_constants(
    mean: tuple[float, ...],
    std: tuple[float, ...],
    finished_run: Path,
    discs: Path,
    tmp_path: Path,
) -> None:
    trained, card = load_model(RunDir(finished_run).weights)
    source, folder = tmp_path / "other.safetensors", RunDir(tmp_path / "run")
    network = replace(card.network, mean=mean, std=std)
    save_model(source, trained, replace(card, network=network))
    folder.path.mkdir()
    planned_network = planned(discs, starting_from(source, "data.channels=1"), folder.path).network
    assert (planned_network.mean, planned_network.std) == ((120.0,), (60.0,))  # not the first's
    if len(set(mean)) == 1:  # and where they are alike, so are the answers
        grey = torch.arange(48 * 48).reshape(1, 1, 48, 48).remainder(256).to(torch.uint8)
        with torch.inference_mode():
            before = load_model(source)[0](grey.expand(-1, 3, -1, -1))
            torch.testing.assert_close(load_model(folder.start)[0](grey), before)


def test_images_that_earlier_runs_of_a_chain_knew(
    finished_run: Path, discs: Path, tiny_config: Config, tmp_path: Path
) -> None:
    second = RunDir(tmp_path / "run2")
    new = draw_discs(tmp_path / "new", 8, seed=9)
    config = starting_from(finished_run, "fit.epochs=1", "tune.enabled=false")
    run(new, config, second, Clock(), Listener())
    other = tiny_config.model_copy(
        update={"split": tiny_config.split.model_copy(update={"seed": 1})}
    )
    direct, chained = seen(finished_run, discs, other), seen(second.path, discs, other)
    assert direct is not None
    assert chained is not None
    assert chained.ids == direct.ids
    source = open_source(starting_from(second.path))
    assert source is not None
    hashes = {f.id: f.image_sha256 for f in second.load_audit().facts}
    own = {hashes[sample.id] for sample in second.load_split().part("train")}
    assert source.learnt == second.load_start_images() | own
