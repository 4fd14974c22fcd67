"""The engine asked for, or the fastest whose masks are alike."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile

from calco.errors import CalcoError
from calco.images import windowed
from calco.images.io import read_image
from calco.inference import choice as module
from calco.inference.choice import engine_name, open_predictor, px_per_second
from calco.inference.engines import Engine, Images, Logits, TorchEngine
from calco.inference.networks import load_networks
from calco.inference.openvino_engine import OpenVinoEngine
from calco.inference.parity import compare
from calco.inference.predictor import Predictor
from calco.nets.graph import to_onnx

RATES = {"torch cpu": 1e6, "onnxruntime cpu": 2e6, "openvino cpu": 3e6}
REAL = Path(__file__).resolve().parents[2].parent / "shared/data/dsb2018/train/images"


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture
def files(discs: Path) -> list[Path]:
    return sorted((discs / "images").iterdir())


@pytest.fixture(scope="module")
def graph(finished_run: Path) -> bytes:
    """Making one takes seconds."""
    return to_onnx(load_networks(finished_run)[0], 3, {})


@pytest.fixture
def timed(graph: bytes, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let engines take a known time, and any work be worth a choice; return who was timed."""
    monkeypatch.setattr(module, "_graph", lambda *_: graph)
    names: list[str] = []

    def px_s(engine: Engine, _: Sequence[Images]) -> float:
        names.append(engine.name)
        return RATES[engine.name]

    monkeypatch.setattr(module, "px_per_second", px_s)
    monkeypatch.setattr(module, "WORTH_S", 0.0)
    return names


def opened(run: Path, files: list[Path], tell: Callable[[str], object] = str) -> str:
    return open_predictor(run, "auto", None, lambda: files, tell).engine.name


def test_names() -> None:
    assert engine_name("auto") is None
    assert engine_name("onnx") == "onnx"
    with pytest.raises(CalcoError, match=r"ENGINE.*auto, torch, onnx, openvino"):
        engine_name("tensorrt")


def test_the_fastest_is_taken_and_remembered(
    run: Path, files: list[Path], timed: list[str]
) -> None:
    said: list[str] = []
    assert opened(run, files, said.append) == "openvino cpu"
    assert said == [
        "engine    openvino; millions of pixels per second: torch 1.0, onnx 2.0, openvino 3.0"
    ]
    assert sorted(timed) == sorted(RATES)
    assert opened(run, files) == "openvino cpu"
    assert len(timed) == 3  # not again


def test_little_work_is_done_by_torch_at_once(
    run: Path, files: list[Path], timed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WORTH_S", len(files) * 48 * 48 / 1e6 + 0.001)
    assert opened(run, files) == "torch cpu"
    assert timed == ["torch cpu"]
    assert not (run / "engines.json").exists()
    assert opened(run, [*files, files[0]]) == "openvino cpu"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("machine", "another, 2 cores"),
        ("versions", {}),
        ("weights_sha256", "0" * 64),
        ("px_s", {"torch": 1.0, "calc.exe": 9e9}),
        ("px_s", {"onnx": 9e9}),
        ("px_s", {"torch": 1.0, "onnx": "NaN"}),
        ("px_s", {"torch": 0.0, "onnx": -1.0}),
        ("schema", 2),
        (None, "[" * 100_000),
        (None, "\udcff"),
    ],
)
def test_what_is_remembered_is_not_believed_beyond_its_form(
    run: Path, files: list[Path], timed: list[str], key: str | None, value: object
) -> None:
    opened(run, files)
    file = run / "engines.json"
    record = json.loads(file.read_text())
    text = json.dumps(record | {key: value}) if key else str(value)
    file.write_bytes(text.encode(errors="surrogateescape"))
    assert opened(run, files) == "openvino cpu"
    assert len(timed) == 6
    assert json.loads(file.read_text()) == record


def test_an_engine_whose_masks_are_others_is_left_out(
    run: Path, files: list[Path], timed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(OpenVinoEngine):
        def logits(self, images: Images) -> Logits:
            return -super().logits(images)

    said: list[str] = []
    monkeypatch.setattr(module, "OpenVinoEngine", Wrong)
    assert opened(run, files, said.append) == "onnxruntime cpu"
    assert said[0] == "engine    openvino is left out: its masks are others"


def test_engines_that_are_not_installed_are_no_candidates(
    run: Path, files: list[Path], timed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert opened(run, files) == "torch cpu"
    assert timed == []


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_the_engine_asked_for_draws_the_same_masks(run: Path, files: list[Path], name: str) -> None:
    wanted = engine_name(name)
    predictor = open_predictor(run, "auto", wanted, list)
    assert predictor.engine.name.startswith(name)
    reference = Predictor.from_run(run)
    images = [read_image(file, reference.spec) for file in files]
    threshold = reference.params.threshold
    assert compare(reference.engine, predictor.engine, images, threshold).n_unlike == 0
    with pytest.raises(CalcoError, match="DEVICE"):
        open_predictor(run, "cuda", wanted, list)


def test_engines_are_timed_as_they_are_used(run: Path) -> None:
    engine = Predictor.from_run(run).engine
    assert px_per_second(engine, [np.zeros((8, 8, 3), np.uint8)]) > 0


def test_of_a_slide_a_corner_is_timed(
    run: Path, timed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", slide, tile=(64, 64))
    monkeypatch.setattr(windowed, "WINDOWED_PX", 64 * 64)
    monkeypatch.setattr(module, "TIMED_PX", 96)
    monkeypatch.setattr(module, "read_image", None)  # nothing may read it whole
    seen: list[Images] = []

    def px_s(engine: Engine, images: Sequence[Images]) -> float:
        seen.extend(images)
        return RATES[engine.name]

    monkeypatch.setattr(module, "px_per_second", px_s)
    assert opened(run, [tmp_path / "a.tif"]) == "openvino cpu"
    assert seen
    assert all(np.array_equal(image, slide[:96, :96]) for image in seen)


def test_a_file_says_its_engine_itself(run: Path, tmp_path: Path) -> None:
    from calco.runs import RunDir
    from calco.stages.export import ExportOptions, export_run

    out = tmp_path / "model.xml"
    export_run(RunDir(run), out, ExportOptions("openvino"))
    assert open_predictor(out, "auto", None, list).engine.name == "openvino cpu"
    assert open_predictor(out, "auto", "openvino", list).engine.name == "openvino cpu"
    with pytest.raises(CalcoError, match=r"ENGINE.*for openvino"):
        open_predictor(out, "auto", "onnx", list)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="needs the real images")
def test_masks_of_real_images_are_the_same(run: Path, timed: list[str]) -> None:
    """A network that knows discs draws much on nuclei, well and badly; engines agree on it."""
    reference = Predictor.from_run(run)
    images = [read_image(file, reference.spec) for file in sorted(REAL.iterdir())[::40]]
    assert isinstance(reference.engine, TorchEngine)
    for name in ("onnx", "openvino"):
        engine = open_predictor(run, "cpu", engine_name(name), list).engine
        parity = compare(reference.engine, engine, images, reference.params.threshold)
        assert parity.n_px > 1_000_000
        assert parity.n_unlike == 0
        assert parity.max_error < 1e-3


def test_everything_else_stays(run: Path, files: list[Path], timed: list[str]) -> None:
    reference = Predictor.from_run(run)
    predictor = open_predictor(run, "auto", None, lambda: files)
    assert predictor.card == reference.card
    assert predictor.params == reference.params
