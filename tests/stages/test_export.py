"""An exported file predicts like its run, or is not left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from calco.errors import CalcoError
from calco.files import sha256_of
from calco.inference.engines import Images, Logits, OnnxEngine
from calco.inference.predictor import Predictor
from calco.nets.build import build_network
from calco.nets.checkpoint import ModelCard, save_model
from calco.nets.graph import to_onnx
from calco.records import ImageSpec, NetworkPlan, Postprocess
from calco.runs import RunDir
from calco.stages import export as module
from calco.stages.export import compare, export_onnx

PLAN = NetworkPlan("unet", 3, (120.0,) * 3, (60.0,) * 3, width=4, depth=2)


class Fixed:
    """An engine that answers the first channel as logits, moved by some error."""

    name = "fixed"

    def __init__(self, error: float = 0.0) -> None:
        self.error = error

    def with_threads(self, threads: int) -> Fixed:
        return self

    def logits(self, images: Images) -> Logits:
        logits = (images[..., 0].astype(np.float32) - 128) / 100 + self.error
        return logits.astype(np.float32)


@pytest.fixture(scope="module")
def graph() -> bytes:
    """A graph without a card; making one takes seconds."""
    torch.manual_seed(1)
    return to_onnx(build_network(PLAN).eval(), 3, {})


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    torch.manual_seed(0)
    network = build_network(PLAN).train()
    network(torch.rand(4, 3, 64, 64) * 255)
    folder = RunDir(tmp_path / "run")
    folder.path.mkdir()
    save_model(folder.weights, network, ModelCard(PLAN, ImageSpec(channels=3)))
    folder.save_postprocess(Postprocess(0.45, 3, 2, flips=True))
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, size in enumerate([(40, 50, 3), (33, 64, 3), (5, 7, 3)]):
        pixels = np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_the_file_predicts_as_the_run_does(run: RunDir, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "model.onnx"
    certificate = export_onnx(run, out, [pictures])
    loaded, original = Predictor.from_run(out), Predictor.from_run(run.path)
    assert loaded.params == original.params
    assert loaded.card == original.card
    for picture in pictures.iterdir():
        np.testing.assert_array_equal(loaded.predict(picture), original.predict(picture))
    assert Predictor.from_run(out, "auto").engine.name == "onnxruntime cpu"
    with pytest.raises(CalcoError, match="DEVICE"):
        Predictor.from_run(out, "cuda")
    assert certificate.parity.n_images == 3
    assert certificate.parity.n_px == 40 * 50 + 33 * 64 + 5 * 7
    assert certificate.parity.max_error < 1e-4
    written = json.loads((out.parent / "model.onnx.parity.json").read_text())
    assert written["file_sha256"] == sha256_of(out)
    assert written["weights_sha256"] == sha256_of(run.weights)


def test_the_script_in_the_docs_needs_onnxruntime_alone(
    run: RunDir, pictures: Path, tmp_path: Path
) -> None:
    run.save_postprocess(Postprocess(0.45))  # what the script does without
    export_onnx(run, tmp_path / "model.onnx", [pictures])
    page = (Path(__file__).parents[2] / "docs/how-to/export.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    assert "calco" not in "".join(line for line in code.splitlines() if "import" in line)
    call = [sys.executable, "-c", code, "model.onnx", "pictures/0.png", "out.png"]
    subprocess.run(call, cwd=tmp_path, check=True)
    with Image.open(tmp_path / "out.png") as written:
        mask = np.asarray(written)
    expected = Predictor.from_run(run.path).predict(pictures / "0.png")
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(mask, expected.astype(np.uint8) * 255)


def test_pixels_that_part_are_counted_and_near_ones_excused() -> None:
    # logits are (value - 128) / 100: three far from 0 and one within the margin of it
    image = np.array([[100, 127, 128, 200]], np.uint8)[..., None].repeat(3, axis=2)  # (1, 4, 3)
    same = compare(Fixed(), Fixed(), [image], 0.5)
    assert (same.n_px, same.n_unlike, same.n_near, same.max_error) == (4, 0, 0, 0.0)
    near = compare(Fixed(), Fixed(0.015), [image], 0.5)  # -0.01 and 0.0 are above 0 now
    assert (near.n_unlike, near.n_near) == (0, 2)
    far = compare(Fixed(), Fixed(0.5), [image], 0.5)  # so is -0.28
    assert (far.n_unlike, far.n_near) == (1, 2)
    assert far.max_error == pytest.approx(1 / (1 + np.exp(-0.25)) - 1 / (1 + np.exp(0.25)), 0.01)


def test_the_threshold_decides_what_parts() -> None:
    image = np.full((1, 1, 3), 228, np.uint8)  # logit 1, probability 0.73
    assert compare(Fixed(), Fixed(-0.5), [image], 0.5).n_unlike == 0
    assert compare(Fixed(), Fixed(-0.5), [image], 0.7).n_unlike == 1


def test_certainty_of_all_folds_is_no_error() -> None:
    class Certain(Fixed):
        def logits(self, images: Images) -> Logits:
            return np.full(images.shape[:3], np.inf, np.float32)

    parity = compare(Certain(), Certain(), [np.zeros((2, 2, 3), np.uint8)], 0.5)
    assert (parity.max_error, parity.n_unlike) == (0.0, 0)


def test_a_file_that_predicts_otherwise_is_not_left(
    graph: bytes, run: RunDir, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "to_onnx", lambda *_: graph)  # of other weights
    with pytest.raises(CalcoError, match="EXPORT_PARITY"):
        export_onnx(run, tmp_path / "model.onnx", [pictures])
    assert not list(tmp_path.glob("model.onnx*"))


def test_export_needs_images(run: RunDir, tmp_path: Path) -> None:
    with pytest.raises(CalcoError):
        export_onnx(run, tmp_path / "model.onnx", [tmp_path / "nowhere"])
    assert not list(tmp_path.glob("model.onnx*"))


@pytest.mark.parametrize("package", ["onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(
    package: str, run: RunDir, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CalcoError, match=r"calco\[export\]"):
        export_onnx(run, tmp_path / "model.onnx", [pictures])


def test_foreign_and_damaged_files_are_refused(graph: bytes, tmp_path: Path) -> None:
    def with_card(text: str) -> bytes:
        model = onnx.load_from_string(graph)
        entry = model.metadata_props.add()
        entry.key, entry.value = "calco", text
        return bytes(model.SerializeToString())

    path = tmp_path / "model.onnx"
    with pytest.raises(CalcoError, match="ONNX_READ"):
        Predictor.from_run(path)
    for code, blob in {
        "ONNX_READ": graph[:-500],
        "ONNX_CARD": graph,
        "ONNX_CARD.*schema 99": with_card('{"schema": 99}'),
        "ONNX_CARD.*cannot be read": with_card("[" * 100_000),
        "RUN_FILE": with_card('{"schema": 1}'),
    }.items():
        path.write_bytes(blob)
        with pytest.raises(CalcoError, match=code):
            Predictor.from_run(path)


def test_a_graph_cannot_read_other_files(graph: bytes, tmp_path: Path) -> None:
    model = onnx.load_from_string(graph)
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    tensor = next(t for t in model.graph.initializer if t.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", str(tmp_path / "secret.bin")
    with pytest.raises(CalcoError, match="ONNX_READ"):
        OnnxEngine(model.SerializeToString())
