"""Predictions made again: after a kill, after a change, with another model."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.stages.identity import ALL, Identity, gray, read, save, save_ten, tree

import calco.inference.outputs as outputs
from calco.errors import CalcoError
from calco.files import write_atomic
from calco.stages.predict import PredictOptions, predict_files


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return save_ten(tmp_path / "in")


def test_a_rerun_keeps_what_is_done(images: Path, tmp_path: Path) -> None:
    first = predict_files(Identity(), [images], tmp_path / "out", ALL)
    before, again = tree(tmp_path / "out"), Identity()
    assert predict_files(again, [images], tmp_path / "out", ALL) == first
    assert again.n_asked == 0
    assert tree(tmp_path / "out") == before


def test_without_a_model_identity_everything_is_done_again(images: Path, tmp_path: Path) -> None:
    predict_files(Identity(), [images], tmp_path / "out")
    again = Identity()
    predict_files(again, [images], tmp_path / "out")
    assert again.n_asked == 10


def test_a_changed_a_missing_and_a_new_file_are_done(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_files(Identity(), [images], out, ALL)
    save(images / "0001.png", gray(5, 5, seed=99))
    (out / "prob/0002.png").unlink()
    save(images / "new.png", gray(5, 5, seed=98))
    again = Identity()
    predict_files(again, [images], out, ALL)
    assert again.n_asked == 3
    fresh = tmp_path / "fresh"
    predict_files(Identity(), [images], fresh, ALL)
    assert tree(out) == tree(fresh)


def test_asking_for_more_does_the_images_again(images: Path, tmp_path: Path) -> None:
    predict_files(Identity(), [images], tmp_path / "out", PredictOptions(model="m1"))
    again = Identity()
    predict_files(again, [images], tmp_path / "out", ALL)
    assert again.n_asked == 10


def test_a_file_that_turns_bad_loses_its_old_mask(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_files(Identity(), [images], out, ALL)
    (images / "0001.png").write_bytes(b"")
    predictions = predict_files(Identity(), [images], out, ALL)
    assert predictions[1].status == "failed"
    assert not list(out.rglob("0001.*"))


@pytest.mark.parametrize("change", ["weights", "threshold"])
def test_another_model_is_refused_unless_overwriting(
    images: Path, tmp_path: Path, change: str
) -> None:
    out = tmp_path / "out"
    predict_files(Identity(), [images], out, PredictOptions(model="m1"))
    before = tree(out)
    other = Identity(threshold=0.3) if change == "threshold" else Identity()
    model = "m2" if change == "weights" else "m1"
    with pytest.raises(CalcoError, match="OUT_OTHER_MODEL"):
        predict_files(other, [images], out, PredictOptions(model=model))
    assert tree(out) == before
    predict_files(other, [images], out, PredictOptions(model=model, overwrite=True))
    assert other.n_asked == 10


def test_predictions_of_other_images_are_neither_mixed_nor_lost(
    images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict_files(Identity(), [images], out, ALL)
    before = tree(out)
    with pytest.raises(CalcoError, match=r"OUT_OTHER_IMAGES.*0000, 0001"):
        predict_files(Identity(), [images / "sub"], out, ALL)
    assert tree(out) == before
    options = PredictOptions(prob=True, overlay=True, model="m1", overwrite=True)
    predict_files(Identity(), [images / "sub"], out, options)
    assert sorted(p.name for p in out.glob("*.png")) == ["0008.png", "0009.png"]


N_WORKERS = 2
KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from dataclasses import replace
from identity import ALL, Identity
from calco.stages.predict import predict_files
import calco.inference.outputs as outputs

whole, count, limit, where = outputs.write_atomic, 0, int(sys.argv[4]), sys.argv[5]

def dying(path, data):
    global count
    count += path.suffix in (".png", ".jpg")
    if count > limit:
        if where == "before":
            path.with_name(f".{path.name}.{os.getpid()}-00000000.tmp").write_bytes(data[:9])
            os.kill(os.getpid(), signal.SIGKILL)
        whole(path, data)
        os.kill(os.getpid(), signal.SIGKILL)
    whole(path, data)

outputs.write_atomic = dying
predict_files(Identity(), [Path(sys.argv[1])], Path(sys.argv[2]), replace(ALL, at_once=1))
"""


@pytest.mark.parametrize(
    ("limit", "where"), [(0, "before"), (7, "after"), (13, "before"), (29, "after")]
)
def test_a_killed_run_continues_to_the_same_tree(
    images: Path, tmp_path: Path, limit: int, where: str
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    arguments = [images, out, Path(__file__).parent, limit, where]
    run = subprocess.run([sys.executable, "-c", KILLED, *map(str, arguments)], check=False)
    assert run.returncode == -signal.SIGKILL
    assert not (out / "manifest.csv").exists()  # what is not complete does not look complete
    for path in out.rglob("[0-9]*.png"):
        assert read(path).size  # and nothing has half a file
    again = Identity()
    predict_files(again, [images], out, ALL)
    # of an image that another worker had under way, at most two files and the note were missing
    assert 10 - limit // 3 <= again.n_asked <= min(10, 10 - (limit - 3 * N_WORKERS) // 3)
    predict_files(Identity(), [images], whole, ALL)
    assert tree(out) == tree(whole)


def test_no_stale_overlay_stays_beside_a_new_mask(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_files(Identity(), [images], out, ALL)
    save(images / "0001.png", gray(5, 5, seed=99))
    predict_files(Identity(), [images], out, PredictOptions(model="m1"))
    assert not (out / "overlay/0001.jpg").exists()
    assert (out / "overlay/0002.jpg").exists()  # still true of its mask


def test_a_hostile_journal_removes_nothing_outside(images: Path, tmp_path: Path) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim.png"
    predict_files(Identity(), [images], out, ALL)
    victim.write_bytes(b"precious")
    line = (
        '{"id": "ID", "size": 1, "mtime_ns": 1, "outputs": ["mask"],'
        ' "foreground_fraction": 0, "estimated_dice": 1, "seconds": 0}\n'
    )
    with (out / outputs.JOURNAL).open("a") as journal:
        for name in ("../victim", str(tmp_path / "victim"), "x/../../victim"):
            journal.write(line.replace("ID", name))
    options = PredictOptions(overwrite=True, model="m2")
    predict_files(Identity(), [images], out, options)
    assert victim.read_bytes() == b"precious"


def test_a_torn_or_foreign_journal_only_costs_time(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_files(Identity(), [images], out, ALL)
    journal = out / outputs.JOURNAL
    journal.write_bytes(journal.read_bytes()[:-30] + b'\n{"id": 3}\nnonsense\n')
    again = Identity()
    predict_files(again, [images], out, ALL)
    assert again.n_asked == 1


def test_a_full_disk_stops_with_advice(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        if path.name == "0004.png":
            raise OSError(28, "No space left on device")
        write_atomic(path, data)

    monkeypatch.setattr(outputs, "write_atomic", full)
    with pytest.raises(CalcoError, match=r"OUT_WRITE.*0004.*No space left.*make room"):
        predict_files(Identity(), [images], tmp_path / "out", PredictOptions(model="m1"))
    monkeypatch.undo()
    again = Identity()
    predict_files(again, [images], tmp_path / "out", PredictOptions(model="m1"))
    assert 1 <= again.n_asked <= 6  # those before it are kept, and those that others had done
    predict_files(Identity(), [images], tmp_path / "fresh", PredictOptions(model="m1"))
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")
