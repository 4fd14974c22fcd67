import hashlib
import json
import logging
import os
import pickle
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from calco.errors import CalcoError
from calco.nets import checkpoint, weights
from calco.nets.build import build_network
from calco.nets.checkpoint import ModelCard, load_model, load_state, save_model, save_state
from calco.nets.sealed import write_sealed
from calco.records import ImageSpec, NetworkPlan

PLAN = NetworkPlan("unet", 3, (1.5, 2.0, 3.0), (4.0, 5.0, 6.0), width=4, depth=2, dropout=0.1)
ENCODER = NetworkPlan("encoder_unet", 1, (127.0,), (128.0,), pretrained=True)
CARD = ModelCard(PLAN, ImageSpec(channels=3, high=4095.0), resize_px=96)


def _network(plan: NetworkPlan = PLAN, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network = build_network(plan).train()
    network(torch.rand(2, plan.in_channels, 32, 32) * 255)  # moves the batch statistics
    return network.eval()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "best.safetensors"
    save_model(path, _network(), CARD)
    return path


# --- models --------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", [PLAN, ENCODER], ids=["unet", "encoder_unet"])
def test_loaded_model_answers_as_the_saved_one(tmp_path: Path, plan: NetworkPlan) -> None:
    card = ModelCard(plan, ImageSpec(channels=plan.in_channels))
    network = _network(plan)
    save_model(tmp_path / "m.safetensors", network, card)
    loaded, loaded_card = load_model(tmp_path / "m.safetensors")
    image = torch.randint(0, 256, (1, plan.in_channels, 45, 33), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image))
    assert loaded_card == card
    assert not loaded.training


def test_card_survives_with_all_its_numbers(path: Path) -> None:
    assert load_model(path)[1] == CARD


def test_loading_needs_no_imagenet_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, _network(ENCODER), ModelCard(ENCODER, ImageSpec(channels=1)))
    monkeypatch.setattr(weights, "PACKAGES", {})  # as if none were installed
    assert load_model(path)[1].network.pretrained


def test_loading_leaves_random_numbers_alone(path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    load_model(path)
    assert torch.equal(before, torch.get_rng_state())


def test_a_loaded_model_can_be_trained_and_saved_again(path: Path) -> None:
    network, card = load_model(path)
    network.train()(torch.rand(2, 3, 16, 16)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    save_model(path, network, card)
    assert load_model(path)[1] == card


def test_saving_twice_writes_the_same_bytes(path: Path) -> None:
    before = path.read_bytes()
    save_model(path, _network().to(memory_format=torch.channels_last), CARD)
    assert path.read_bytes() == before


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_are_removed(path: Path, prefix: str) -> None:
    before = path.read_bytes()
    state = {prefix + name: tensor for name, tensor in _network().state_dict().items()}
    save_model(path, state, CARD)
    assert path.read_bytes() == before


def test_every_flipped_byte_is_found(path: Path) -> None:
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    offsets = random.Random(0).sample(range(header, len(whole)), 25)
    for offset in [*range(0, header, 97), *offsets]:
        damaged = bytearray(whole)
        damaged[offset] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(CalcoError, match=r"CKPT_HASH.*best\.safetensors"):
            load_model(path)


def test_weights_that_are_not_finite_are_not_saved(path: Path) -> None:
    before = path.read_bytes()
    network = _network()
    with torch.no_grad():
        next(network.parameters())[0] = torch.nan
    with pytest.raises(CalcoError, match=r"CKPT_NAN.*network\.first"):
        save_model(path, network, CARD)
    assert path.read_bytes() == before


def _rewrite(path: Path, tensors: dict[str, Tensor], header: dict[str, Any] | None = None) -> None:
    """Write a sealed file as a hostile or a newer program might."""
    blob = path.read_bytes()
    length = int.from_bytes(blob[:8], "little")
    mine = json.loads(json.loads(blob[8 : 8 + length])["__metadata__"]["calco"])
    text = json.dumps(mine | (header or {}))
    write_sealed(path, safetensors.torch.save(tensors, metadata={"calco": text}))


def test_weights_that_are_not_finite_are_not_loaded(path: Path) -> None:
    state = _network().state_dict()
    state["network.head.bias"] = torch.tensor([torch.inf])
    _rewrite(path, state)
    with pytest.raises(CalcoError, match=r"CKPT_NAN.*network\.head\.bias"):
        load_model(path)


def test_weights_of_another_network_are_listed(path: Path) -> None:
    wide = _network(replace(PLAN, width=8)).state_dict()
    wide["extra"] = torch.zeros(1)
    del wide["network.head.bias"]
    wide["network.head.weight"] = wide["network.head.weight"][:, :4].half()
    _rewrite(path, wide)
    with pytest.raises(CalcoError) as caught:
        load_model(path)
    (problem,) = caught.value.problems
    assert problem.code == "CKPT_MISMATCH"
    assert problem.got.split("; ")[:3] == [
        "network.head.bias is missing",
        "extra is unknown",
        "network.first.0.weight is float32 (8, 3, 3, 3), not float32 (4, 3, 3, 3)",
    ]
    assert len(problem.got.split("; ")) == 5


def test_a_newer_layout_is_named(path: Path) -> None:
    _rewrite(path, _network().state_dict(), {"schema": 2})
    with pytest.raises(CalcoError, match=r"CKPT_SCHEMA.*got schema 2; expected schema 1"):
        load_model(path)


@pytest.mark.parametrize("family", ["os.system", "builtins.eval", "torch.hub.load"])
def test_strings_in_a_card_name_no_code(path: Path, family: str) -> None:
    card = {"network": {"family": family, "in_channels": 3, "mean": [], "std": []}, "spec": {}}
    _rewrite(path, _network().state_dict(), {"card": card})
    with pytest.raises(CalcoError, match="RUN_FILE"):
        load_model(path)


def test_a_card_cannot_claim_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the widest network there is would take 10 GB; it is compared without being allocated
    monkeypatch.setattr(checkpoint, "Segmenter", None)
    huge = {"family": "unet", "in_channels": 1, "mean": [0], "std": [1], "width": 256, "depth": 6}
    _rewrite(path, _network().state_dict(), {"card": {"network": huge, "spec": {"channels": 1}}})
    with pytest.raises(CalcoError, match="CKPT_MISMATCH"):
        load_model(path)


@pytest.mark.parametrize(
    ("card", "got"),
    [
        (replace(CARD, resize_px=10**9), "resized to 1000000000 px"),
        (replace(CARD, resize_px=0), "resized to 0 px"),
        (replace(CARD, spec=ImageSpec(channels=1)), "1 channels for a network of 3"),
        (replace(CARD, spec=ImageSpec(low=7, high=7)), "from 7 to 7"),
        (replace(CARD, spec=ImageSpec(high=float("nan"))), "from 0 to nan"),
        (replace(CARD, spec=ImageSpec(max_megapixels=0)), "at most 0 megapixels"),
    ],
)
def test_a_card_cannot_ask_for_the_impossible(path: Path, card: ModelCard, got: str) -> None:
    save_model(path, _network(), card)
    with pytest.raises(CalcoError, match=f"CKPT_CARD.*{got}"):
        load_model(path)


def test_a_bloated_header_is_not_parsed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("parsed")

    bloated = b"{" + b" " * 2_000_000 + b"}"
    write_sealed(path, len(bloated).to_bytes(8, "little") + bloated)
    monkeypatch.setattr(json, "loads", never)
    with pytest.raises(CalcoError, match=r"CKPT_FOREIGN.*2000002 bytes"):
        load_model(path)


@pytest.mark.parametrize("header", [b"{" + b"[" * 900_000, b"{}", b'{"__metadata__":{"calco":1}}'])
def test_headers_without_a_card_are_foreign(path: Path, header: bytes) -> None:
    write_sealed(path, len(header).to_bytes(8, "little") + header)
    with pytest.raises(CalcoError, match="CKPT_FOREIGN"):
        load_model(path)


def test_safetensors_of_other_programs_are_foreign(path: Path) -> None:
    write_sealed(path, safetensors.torch.save({"a": torch.zeros(2)}))
    with pytest.raises(CalcoError, match=r"CKPT_FOREIGN.*no card"):
        load_model(path)


class _Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.sentinel}",)


def _torch_save(value: object, path: Path, new: bool) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=new)


HOSTILE: dict[str, Callable[[_Bomb, Path], object]] = {
    "pickle 0": lambda bomb, path: path.write_bytes(pickle.dumps(bomb, 0)),
    "pickle 2": lambda bomb, path: path.write_bytes(pickle.dumps(bomb, 2)),
    "pickle 5": lambda bomb, path: path.write_bytes(pickle.dumps([{"a": bomb}], 5)),
    "torch zip": lambda bomb, path: _torch_save({"state_dict": bomb}, path, new=True),
    "torch legacy": lambda bomb, path: _torch_save({"state_dict": bomb}, path, new=False),
    "whole module": lambda _, path: torch.save(nn.Linear(2, 2), path),
    "cut zip": lambda _, path: path.write_bytes(b"PK\x03\x04"),
}


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_and_run_nothing(tmp_path: Path, name: str, sealed: bool) -> None:
    sentinel, path = tmp_path / "sentinel", tmp_path / "best.safetensors"
    HOSTILE[name](_Bomb(sentinel), path)
    if sealed:
        write_sealed(path, path.read_bytes())
    with pytest.raises(CalcoError, match="CKPT_UNSAFE"):
        load_model(path)
    assert not sentinel.exists()


# --- resume states -------------------------------------------------------------------------------


def _state(step: int) -> dict[str, Any]:
    """A state as training keeps it: weights, optimiser, random numbers and plain values."""
    torch.manual_seed(step)
    network = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.rand(4, 3)).sum().backward()
    optimizer.step()
    return {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "python": random.Random(step).getstate(),
        "history": [[1, 0.5, float("nan")]],
        "numbers": {"step": step, "name": "x", "none": None},
    }


def _steps(folder: Path) -> list[int]:
    paths = sorted(folder.glob("state-*.pt"), key=lambda p: int(p.name.split("-")[1]))
    return [torch.load(p, weights_only=True)["numbers"]["step"] for p in paths]


def test_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    state = _state(7)
    save_state(tmp_path / "run" / "last", state)
    loaded = load_state(tmp_path / "run" / "last")
    assert loaded is not None
    assert torch.equal(loaded["random"], state["random"])
    assert torch.equal(loaded["network"]["weight"], state["network"]["weight"])
    moments = loaded["optimizer"]["state"][0]["exp_avg"]
    assert torch.equal(moments, state["optimizer"]["state"][0]["exp_avg"])
    assert loaded["python"] == state["python"]
    assert loaded["numbers"] == state["numbers"]
    assert str(loaded["history"]) == str(state["history"])


def test_nothing_saved_is_no_error(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None
    assert load_state(tmp_path / "missing") is None


def test_two_generations_are_kept_and_ordered_as_numbers(tmp_path: Path) -> None:
    for step in range(1, 13):  # past 9 -> 10, where order as text would go wrong
        save_state(tmp_path, _state(step))
        assert _steps(tmp_path) == [step - 1, step][step == 1 :]
    loaded = load_state(tmp_path)
    assert loaded is not None
    assert loaded["numbers"]["step"] == 12


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_damaged_newest_falls_back_with_a_warning(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    save_state(tmp_path, _state(1))
    newest = save_state(tmp_path, _state(2))
    blob = bytearray(newest.read_bytes())
    blob[len(blob) // 2] ^= 1
    newest.write_bytes({"flip": bytes(blob), "cut": bytes(blob[:-100]), "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        loaded = load_state(tmp_path)
    assert loaded is not None
    assert loaded["numbers"]["step"] == 1
    assert "warning[CKPT_HASH]" in caplog.text
    assert newest.name in caplog.text
    save_state(tmp_path, _state(3))  # goes on after the damaged one
    reloaded = load_state(tmp_path)
    assert reloaded is not None
    assert reloaded["numbers"]["step"] == 3


def test_all_damaged_is_an_error_that_names_each(tmp_path: Path) -> None:
    for step in (1, 2):
        save_state(tmp_path, _state(step)).write_bytes(b"?")
    with pytest.raises(CalcoError) as caught:
        load_state(tmp_path)
    assert [p.code for p in caught.value.problems] == ["CKPT_HASH", "CKPT_HASH"]
    assert {p.severity for p in caught.value.problems} == {"error"}


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_failure_while_saving_leaves_the_state_before(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    save_state(tmp_path, _state(1))
    save_state(tmp_path, _state(2))
    before = sorted(p.name for p in tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(OSError, match="No space"):
            save_state(tmp_path, _state(3))
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    loaded = load_state(tmp_path)
    assert loaded is not None
    assert loaded["numbers"]["step"] == 2


def test_a_killed_save_is_swept_up_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".state-1-abc.99-00ff00ff.tmp").write_bytes(b"half")
    save_state(tmp_path, _state(1))
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("value", [np.float64(1.0), Path("x"), np.zeros(2), _Bomb(Path("x"))])
def test_values_that_could_not_be_loaded_are_not_saved(tmp_path: Path, value: object) -> None:
    with pytest.raises(TypeError, match="tensors and plain values"):
        save_state(tmp_path, {"value": value})
    assert list(tmp_path.iterdir()) == []


def test_hostile_state_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    sentinel = tmp_path / "sentinel"
    folder = tmp_path / "last"
    folder.mkdir()
    torch.save({"network": _Bomb(sentinel)}, folder / "x")
    digest = hashlib.sha256((folder / "x").read_bytes()).hexdigest()
    (folder / "x").rename(folder / f"state-1-{digest}.pt")
    with pytest.raises(CalcoError, match="CKPT_UNSAFE"):
        load_state(folder)
    assert not sentinel.exists()


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    for name in ("state-1.pt", "state-x-y.pt", "notes.txt"):
        (tmp_path / name).write_text("mine")
    for step in range(4):
        save_state(tmp_path, _state(step))
    assert {"state-1.pt", "state-x-y.pt", "notes.txt"} <= {p.name for p in tmp_path.iterdir()}
