"""Several processes find what one finds: gradients, figures and maps, each image counted once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.training.member import findings, resumed

from calco.errors import CalcoError, Problem
from calco.training.device import FABRIC_NAMES
from calco.training.team import ALONE, Team, is_broken

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 5, 24])
def test_each_item_is_in_exactly_one_share(size: int, count: int) -> None:
    shares = [Team(rank, size).share(range(count)) for rank in range(size)]
    assert sorted(i for share in shares for i in share) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_every_exchange_gives_back_what_it_got() -> None:
    assert ALONE.leads
    assert ALONE.total(1.5, 2) == ALONE.largest(1.5, 2) == ALONE.led(1.5, 2) == (1.5, 2)
    assert ALONE.told("job") == "job"
    maps = [np.zeros((2, 3), np.uint8), np.ones((1, 1), np.uint8)]
    assert all(a is b for a, b in zip(ALONE.collected(maps), maps, strict=True))
    ALONE.report(CalcoError(Problem("X", "no store: nobody hears it", do="nothing")))
    assert ALONE.fault() is None


def test_only_failed_exchanges_are_taken_for_lost_processes() -> None:
    assert is_broken(RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer"))
    assert not is_broken(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, NDArray[np.generic]]]:
    """What one process finds, then what each of two finds."""
    folder = tmp_path_factory.mktemp("team")
    line = [sys.executable, "-m", "tests.training.member"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": path}
    two = [
        subprocess.Popen([*line, str(rank), "2", str(folder)], cwd=ROOT, env=env) for rank in (0, 1)
    ]
    before = dict(FABRIC_NAMES)
    try:
        one = findings(ALONE, folder)
        assert [process.wait(120) for process in two] == [0, 0]
        one["went on alone"] = resumed(ALONE, folder / "runs/steps-True", fsdp=True)["weights"]
    finally:
        FABRIC_NAMES.update(before)
    return [one, *(dict(np.load(folder / f"{rank}.npz")) for rank in (0, 1))]


def error(found: list[dict[str, NDArray[np.generic]]], name: str) -> float:
    """Return the relative error of the gradient of two processes against that of one."""
    one, two = (np.asarray(f[name], np.float64) for f in found[:2])
    return float(np.linalg.norm(two - one) / np.linalg.norm(one))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["five", "four"])
def test_two_processes_make_the_gradient_of_one(
    found: list[dict[str, NDArray[np.generic]]], name: str
) -> None:
    assert found[0][name].dtype == np.float64
    assert error(found, name) < 1e-10
    assert np.array_equal(found[1][name], found[2][name])  # so their weights stay alike


@pytest.mark.slow
def test_parts_that_were_not_weighted_would_be_seen(
    found: list[dict[str, NDArray[np.generic]]],
) -> None:
    """Negative control: three and two images, each part counted as a half."""
    assert error(found, "unweighted") > 0.005


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [False, True])
@pytest.mark.parametrize("name", ["weights", "average"])
def test_steps_of_two_processes_are_those_of_one_across_a_stop(
    found: list[dict[str, NDArray[np.generic]]], name: str, fsdp: bool
) -> None:
    one, two, other = (np.asarray(f[f"{name} {fsdp}"], np.float64) for f in found)
    # the whole network beside a divided one stays in single precision
    assert np.linalg.norm(two - one) / np.linalg.norm(one) < (1e-6 if fsdp else 1e-9)
    assert np.array_equal(two, other)
    assert np.array_equal(one, found[0][f"{name} False"])  # alone, nothing is divided


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [False, True])
def test_divided_weights_are_gathered_for_what_is_written_alone(
    found: list[dict[str, NDArray[np.generic]]], fsdp: bool
) -> None:
    one, two, other = (np.asarray(f[f"best {fsdp}"], np.float64) for f in found)
    assert np.linalg.norm(two - one) / np.linalg.norm(one) < (1e-6 if fsdp else 1e-9)
    assert np.array_equal(two, other)  # the same file
    assert [f[f"gathered {fsdp}"].tolist() for f in found] == [[0, 1]] * 3


@pytest.mark.slow
def test_stages_with_their_own_rates_are_trained_whole_and_divided(
    found: list[dict[str, NDArray[np.generic]]],
) -> None:
    """Of efficientnet-b0, some of whose weights no map needs."""
    whole, divided = (np.asarray(found[1][f"staged {fsdp}"], np.float64) for fsdp in (False, True))
    assert np.linalg.norm(divided - whole) / np.linalg.norm(whole) < 1e-6
    for fsdp in (False, True):
        assert np.array_equal(found[1][f"staged {fsdp}"], found[2][f"staged {fsdp}"])


@pytest.mark.slow
def test_one_process_goes_on_where_two_have_stopped(
    found: list[dict[str, NDArray[np.generic]]],
) -> None:
    alone, two = (
        np.asarray(w, np.float64) for w in (found[0]["went on alone"], found[1]["weights True"])
    )
    assert np.linalg.norm(alone - two) / np.linalg.norm(two) < 1e-6


@pytest.mark.slow
def test_divided_weights_are_held_in_parts(found: list[dict[str, NDArray[np.generic]]]) -> None:
    whole, *parts = (int(f["own True"]) for f in found)
    assert sum(parts) == whole
    assert max(parts) < 0.6 * whole
    assert {int(f["own False"]) for f in found} == {whole}


@pytest.mark.slow
def test_two_processes_validate_as_one_does(found: list[dict[str, NDArray[np.generic]]]) -> None:
    one, first, second = found
    assert np.array_equal(one["figures"], first["figures"])
    assert np.array_equal(one["figures"], second["figures"])
    for number in range(7):
        assert np.array_equal(one[f"levels{number}"], first[f"levels{number}"])
    assert not any(name.startswith("levels") for name in second)


@pytest.mark.slow
def test_what_one_decides_all_hear(found: list[dict[str, NDArray[np.generic]]]) -> None:
    for each in found[1:]:
        assert each["led"][0] == 3.0
        assert np.isnan(each["led"][1])
        assert each["largest"].tolist() == [1.0, -np.inf]
        assert each["told"].tobytes().decode() == "ä"
