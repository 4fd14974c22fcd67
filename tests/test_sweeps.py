"""Whole sweeps: what they leave, what they never open, how they stop and go on."""

from __future__ import annotations

import csv
import json
import math
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from tests.conftest import TINY, draw_discs
from typer.testing import CliRunner

from calco.cli import app
from calco.config import Config, load_config
from calco.errors import CalcoError
from calco.records import Sweep
from calco.searching.folder import SweepDir, best_settings
from calco.sweeps import SweepListener, SweepOptions, begin_sweep, resume_sweep
from calco.training.budget import Clock

SPACE = """\
learning_rate: {low: 1e-3, high: 3e-2, log: true}
fit.batch: [4, 8]
"""


@dataclass(frozen=True)
class Swept:
    folder: SweepDir
    found: Sweep
    data: Path


def options(folder: Path, **changed: object) -> SweepOptions:
    space = folder / "space.yaml"
    space.write_text(SPACE, encoding="utf-8")
    return replace(SweepOptions(3, space=space), **changed)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def swept(discs: Path, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Three trials of two epochs; tests must not change them."""
    root = tmp_path_factory.mktemp("sweep")
    folder = SweepDir(root / "sweep")
    given = options(root)
    found = begin_sweep(discs, tiny_config, given, folder, Clock(), SweepListener())
    return Swept(folder, found, discs)


def test_a_sweep_leaves_its_trials_and_the_best_settings(swept: Swept) -> None:
    assert swept.found.count("complete", "pruned") == 3
    best = swept.found.best
    assert best is not None
    with swept.folder.trials_csv.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["0", "1", "2"]
    assert float(rows[best.number]["dice"]) == pytest.approx(best.dice, abs=1e-5)
    chosen = load_config(swept.folder.best_yaml)
    assert chosen.fit.learning_rate == best.params["fit.learning_rate"]
    assert chosen.fit.batch == best.params["fit.batch"]
    assert chosen.model.width == 4  # what all trials had is kept
    assert not swept.folder.cache.exists()
    assert not list(swept.folder.path.glob("tmp*"))  # no weights are left


def test_the_first_trial_is_what_would_be_done_without_a_sweep(swept: Swept) -> None:
    assert swept.found.trials[0].params["fit.learning_rate"] == 0.01  # as the settings say
    assert swept.found.trials[0].params["fit.batch"] == 4


def test_the_best_settings_train_to_the_same_validation_dice(swept: Swept, tmp_path: Path) -> None:
    best = swept.found.best
    assert best is not None
    out = tmp_path / "run"
    arguments = ["train", str(swept.data), "--config", str(swept.folder.best_yaml), "-o", str(out)]
    assert load_config(swept.folder.best_yaml).fit.epochs is None  # for a training of any length
    result = CliRunner().invoke(app, [*arguments, "-q", "--epochs", "2"])
    assert result.exit_code == 0, result.output
    history = list(csv.DictReader((out / "history.csv").open(encoding="utf-8")))
    reached = max(float(row["validation_dice"]) for row in history)
    assert reached == pytest.approx(best.dice, abs=1e-5)  # epochs make it exact
    split = (out / "split.csv").read_text(encoding="utf-8")
    assert split == (swept.folder.path / "split.csv").read_text(encoding="utf-8")


def test_the_page_needs_nothing_else(swept: Swept) -> None:
    page = swept.folder.page.read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert "<script" not in page
    best = swept.found.best
    assert best is not None
    assert f"{best.dice:.4f}" in page
    assert best_settings(swept.found, Config()).splitlines()[0] in page
    for title in ("Parallel coordinates", "fit.learning_rate", "fit.batch"):
        assert title in page


def test_resuming_a_finished_sweep_changes_nothing(swept: Swept) -> None:
    before = swept.folder.trials_csv.read_bytes()
    found = resume_sweep(swept.folder, SweepOptions(), None, SweepListener(), swept.data)
    assert found.trials == swept.found.trials
    assert swept.folder.trials_csv.read_bytes() == before


def test_without_an_end_or_with_too_little_time_nothing_begins(
    discs: Path, tiny_config: Config, tmp_path: Path
) -> None:
    endless = tiny_config.model_copy(
        update={"fit": tiny_config.fit.model_copy(update={"epochs": None})}
    )
    folder = SweepDir(tmp_path / "sweep")
    cases = [
        (endless, options(tmp_path), "trials need an end"),
        (tiny_config, options(tmp_path, budget_s=20.0), "6.7 s for each of 3"),
        (tiny_config, options(tmp_path, storage="mysql://a/b"), "cannot share"),
        (tiny_config, options(tmp_path, name="ours"), "has no name"),
        (load_config(None, (*TINY, "split.folds=3")), options(tmp_path), "split.folds"),
        (load_config(None, (*TINY, "devices=2")), options(tmp_path), "devices"),
        (tiny_config, replace(options(tmp_path), space=tmp_path / "no.yaml"), "No such file"),
    ]
    for config, given, said in cases:
        with pytest.raises(CalcoError, match=said):
            begin_sweep(discs, config, given, folder, Clock(), SweepListener())
    assert not folder.path.exists()


def test_a_fault_of_the_data_leaves_no_folder(tmp_path: Path, tiny_config: Config) -> None:
    data = draw_discs(tmp_path / "data", 6)
    (data / "images" / "disc00.png").write_bytes(b"no picture")
    folder = SweepDir(tmp_path / "sweep")
    with pytest.raises(CalcoError, match="disc00"):
        begin_sweep(data, tiny_config, options(tmp_path), folder, Clock(), SweepListener())
    assert not folder.path.exists()


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("fit.crop_px: {low: 32, high: 64}", "got 33 px"),
        ("fit.crop_px: [32, 40, 41]", "got 41 px"),
        ("model.layer_decay: [0.5]", "unknown setting"),
        ("fit.layer_decay: [0.5, 0.7]", "unet has no encoder"),
        ("model.pretrained: [true, false]", "would change no trial; got model.family unet"),
        ("loss.gamma: {low: 1, high: 3}", "would change no trial; got loss.name bce_dice"),
    ],
)
def test_what_no_trial_could_use_is_said_before_the_first(
    discs: Path, tiny_config: Config, tmp_path: Path, space: str, said: str
) -> None:
    given = options(tmp_path)
    (tmp_path / "space.yaml").write_text(space, encoding="utf-8")
    folder = SweepDir(tmp_path / "sweep")
    with pytest.raises(CalcoError) as caught:
        begin_sweep(discs, tiny_config, given, folder, Clock(), SweepListener())
    assert said in " ".join(map(str, caught.value.problems))
    assert not folder.path.exists()


def test_settings_of_some_searched_losses_are_searched(
    discs: Path, tiny_config: Config, tmp_path: Path
) -> None:
    given = options(tmp_path, n_trials=2)
    both = "loss.gamma: [1, 2]\nloss.name: [focal, dice]\n"
    (tmp_path / "space.yaml").write_text(both, encoding="utf-8")
    folder = SweepDir(tmp_path / "sweep")
    found = begin_sweep(discs, tiny_config, given, folder, Clock(), SweepListener())
    assert found.count("complete", "pruned") == 2


def test_a_folder_that_another_sweep_took_meanwhile_is_left_alone(
    discs: Path, tiny_config: Config, tmp_path: Path
) -> None:
    folder = SweepDir(tmp_path / "sweep")
    theirs = folder.path / "study.db"

    def take(record: object) -> None:  # while we read the data
        folder.path.mkdir(exist_ok=True)
        theirs.write_text("a study", encoding="utf-8")

    listener = SweepListener(on_record=take)
    with pytest.raises(CalcoError, match="not empty"):
        begin_sweep(discs, tiny_config, options(tmp_path), folder, Clock(), listener)
    assert theirs.read_text(encoding="utf-8") == "a study"


def test_a_sweep_that_is_interrupted_before_its_first_trial_leaves_no_folder(
    discs: Path, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("calco.sweeps.set_up", interrupt)
    folder = SweepDir(tmp_path / "sweep")
    with pytest.raises(KeyboardInterrupt):
        begin_sweep(discs, tiny_config, options(tmp_path), folder, Clock(), SweepListener())
    assert not folder.path.exists()


@pytest.mark.slow
def test_a_budget_is_shared_and_kept(discs: Path, tmp_path: Path) -> None:
    config = load_config(None, tuple(s for s in TINY if not s.startswith("fit.epochs")))
    given = options(tmp_path, budget_s=36.0)
    clock, folder = Clock(36.0), SweepDir(tmp_path / "sweep")
    found = begin_sweep(discs, config, given, folder, clock, SweepListener())
    assert found.count("complete", "pruned") == 3
    assert found.trials[0].state == "complete"
    each_s = found.spec.each_s
    assert each_s is not None
    assert 0.5 * each_s < found.trials[0].seconds < 1.3 * each_s
    assert clock.elapsed_s < 1.15 * 36


def test_another_worker_helps_only_with_the_same_sweep(
    discs: Path, tiny_config: Config, tmp_path: Path
) -> None:
    shared = f"sqlite:///{tmp_path / 'shared.db'}"
    given = options(tmp_path, storage=shared, name="ours", n_trials=2)
    begin_sweep(discs, tiny_config, given, SweepDir(tmp_path / "a"), Clock(), SweepListener())
    ended: list[object] = []
    listener = SweepListener(on_trial=ended.append)
    found = begin_sweep(discs, tiny_config, given, SweepDir(tmp_path / "b"), Clock(), listener)
    assert not ended  # both were done already
    assert found.count("complete") == 2
    other = load_config(None, (*TINY, "model.dropout=0.1"))
    with pytest.raises(CalcoError, match="different config"):
        begin_sweep(discs, other, given, SweepDir(tmp_path / "c"), Clock(), SweepListener())
    assert not (tmp_path / "c").exists()
    with pytest.raises(CalcoError, match="of another folder"):
        resume_sweep(SweepDir(tmp_path / "b"), given, None, SweepListener(), tmp_path)
    with pytest.raises(CalcoError, match="repeat the --storage"):
        resume_sweep(SweepDir(tmp_path / "b"), SweepOptions(), None, SweepListener())


def test_a_grid_is_tried_point_by_point(discs: Path, tmp_path: Path) -> None:
    space = tmp_path / "grid.yaml"
    space.write_text("learning_rate: [0.01, 0.02]\n", encoding="utf-8")
    arguments = ["sweep", str(discs), "--space", str(space), "-o", str(tmp_path / "s"), "--json"]
    for setting in TINY:
        arguments += ["--set", setting]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    rates = [trial["params"]["fit.learning_rate"] for trial in told["trials"]]
    assert rates == [0.01, 0.02]
    assert told["best"]["dice"] == max(trial["dice"] for trial in told["trials"])


# --- signals, and what is never opened ---------------------------------------------------------

PROGRAM = """
import json, sys
from pathlib import Path
events = []

def note(event, arguments):
    if event == "open":
        events.append(str(arguments[0]))
    elif event == "os.rename" and str(arguments[1]).endswith("split.csv"):
        events.append("SPLIT")

sys.addaudithook(note)
from calco.cli import main
log, sys.argv = sys.argv[1], ["calco", *sys.argv[2:]]
try:
    main()
finally:
    Path(log).write_text(json.dumps(events))
"""


def opened(log: Path) -> list[str]:
    events: list[str] = json.loads(log.read_text(encoding="utf-8"))
    return events


def names_of(folder: Path, *subsets: str) -> set[str]:
    with (folder / "split.csv").open(encoding="utf-8") as file:
        return {f"{row['id']}.png" for row in csv.DictReader(file) if row["subset"] in subsets}


def of_data(events: list[str], data: Path) -> set[str]:
    return {Path(e).name for e in events if Path(e).is_relative_to(data)}


@pytest.mark.slow
def test_the_test_part_is_never_opened_and_a_signal_stops_cleanly(
    discs: Path, tmp_path: Path
) -> None:
    data, out, space = tmp_path / "data", tmp_path / "sweep", tmp_path / "space.yaml"
    shutil.copytree(discs, data)
    space.write_text(SPACE, encoding="utf-8")
    settings = [word for setting in TINY for word in ("--set", setting)]
    begin = ["sweep", str(data), "-o", str(out), "--trials", "4", "--space", str(space), *settings]
    call = [sys.executable, "-c", PROGRAM, str(tmp_path / "first.json"), *begin]
    process = subprocess.Popen(call, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("trial"):
            process.send_signal(signal.SIGTERM)
            break
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 75, rest
    assert "--resume" in rest

    events = opened(tmp_path / "first.json")
    after = of_data(events[events.index("SPLIT") :], data)
    test, seen = names_of(out, "test"), names_of(out, "train", "validation")
    assert test
    assert test <= of_data(events, data)  # the audit reads all: the hook sees it
    assert seen <= after  # what is learnt from is opened after the split
    assert not after & test

    for name in test:  # nobody will miss them
        (data / "images" / name).unlink()
        (data / "masks" / name).unlink()
    again = ["sweep", str(data), "-o", str(out), "--resume"]
    call = [sys.executable, "-c", PROGRAM, str(tmp_path / "second.json"), *again]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    resumed = of_data(opened(tmp_path / "second.json"), data)
    assert seen <= resumed  # checked to be unchanged
    assert not resumed & test
    with SweepDir(out).trials_csv.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3"]
    assert {row["state"] for row in rows} <= {"complete", "pruned"}
    assert all(math.isfinite(float(row["dice"])) for row in rows)


def test_a_sweep_is_resumed_as_it_was_begun(tmp_path: Path) -> None:
    for settled in (["--trials", "3"], ["--pruner", "none"], ["--name", "other"]):
        result = CliRunner().invoke(app, ["sweep", ".", "--resume", "-o", "x", *settled])
        assert result.exit_code == 2
        assert settled[0] in result.output
    result = CliRunner().invoke(app, ["sweep", ".", "--resume", "-o", str(tmp_path)])
    assert result.exit_code == 2
    assert "not a folder of a sweep" in result.output
    (tmp_path / "config.yaml").touch()
    result = CliRunner().invoke(app, ["sweep", ".", "--resume", "-o", str(tmp_path)])
    assert "ended before its first trial" in result.output
    result = CliRunner().invoke(app, ["sweep", ".", "--budget", "1h", "--lost-after", "soon"])
    assert "--lost-after" in result.output


def test_best_settings_are_plain_yaml(swept: Swept) -> None:
    tree = yaml.safe_load(swept.folder.best_yaml.read_text(encoding="utf-8"))
    assert set(tree) == {"model", "fit", "evaluate"}
    assert tree["evaluate"] == {"bootstrap": 100}
