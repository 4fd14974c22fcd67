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
from calco.files import read_csv, sha256_of
from calco.inference.engines import OnnxEngine
from calco.inference.postprocess import clean
from calco.inference.predictor import Predictor, predict_maps
from calco.metrics.summary import score_image
from calco.nets.build import build_network
from calco.nets.checkpoint import ModelCard, save_model
from calco.nets.graph import to_onnx
from calco.records import ImageSpec, NetworkPlan, Postprocess
from calco.runs import RunDir
from calco.stages import export as module
from calco.stages.export import ExportOptions, export_run

PLAN = NetworkPlan("unet", 3, (120.0,) * 3, (60.0,) * 3, width=4, depth=2)


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
    certificate = export_run(run, out, ExportOptions(images=[pictures]))
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


@pytest.mark.slow
def test_a_pair_for_openvino_predicts_as_the_run_does(
    run: RunDir, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model.xml"
    certificate = export_run(run, out, ExportOptions("openvino", [pictures]))
    names = {"model.xml", "model.bin", "model.xml.parity.json"}
    assert {path.name for path in tmp_path.glob("model.*")} == names
    assert certificate.file_sha256 == sha256_of(out)
    loaded, original = Predictor.from_run(out), Predictor.from_run(run.path)
    assert (loaded.params, loaded.card) == (original.params, original.card)
    for picture in pictures.iterdir():
        np.testing.assert_array_equal(loaded.predict(picture), original.predict(picture))
    # halves of two exports do not match, though every size does
    weights = bytearray((tmp_path / "model.bin").read_bytes())
    weights[100] ^= 1
    (tmp_path / "model.bin").write_bytes(weights)
    with pytest.raises(CalcoError, match=r"MODEL_CARD.*another model beside"):
        Predictor.from_run(out)
    (tmp_path / "model.bin").unlink()
    with pytest.raises(CalcoError, match=r"MODEL_READ.*model\.bin"):
        Predictor.from_run(out)


def test_a_torch_program_is_written_but_never_loaded(
    run: RunDir, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model.pt2"
    certificate = export_run(run, out, ExportOptions("torch", [pictures]))
    assert (certificate.parity.n_images, certificate.parity.n_unlike) == (3, 0)
    extra = {"calco": ""}
    program = torch.export.load(out, extra_files=extra).module()
    assert json.loads(extra["calco"])["weights_sha256"] == run.model_sha256()
    wanted = Predictor.from_run(run.path).engine
    for size in ((1, 1), (7, 40), (2, 64)):
        image = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
        found = program(torch.from_numpy(image)).detach().numpy()
        np.testing.assert_allclose(found, wanted.logits(image), atol=1e-4)
    with pytest.raises(CalcoError, match="MODEL_UNSAFE"):
        Predictor.from_run(out)


@pytest.mark.slow
def test_whole_numbers_say_what_they_cost(finished_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.xml"
    options = ExportOptions("openvino", int8=True, max_drop=1.0)
    int8 = export_run(RunDir(finished_run), out, options).int8
    assert int8 is not None
    split = RunDir(finished_run).load_split()
    assert int8.n_calibration == len(split.part("train"))
    assert int8.n_scored == len(split.part("validation"))
    scores = [
        float(row["dice"])
        for row in read_csv(finished_run / "scores.csv")
        if row["subset"] == "validation"
    ]
    assert int8.dice_before == pytest.approx(np.mean(scores), abs=1e-4)
    assert int8.speed_ratio > 0
    assert json.loads((tmp_path / "model.xml.parity.json").read_text())["int8"]
    assert b'type="FakeQuantize"' in out.read_bytes()
    predictor = Predictor.from_run(out)
    index, groups = split.part_and_groups("validation")
    maps = predict_maps(predictor, index, groups)
    after = [score_image("", "", "", clean(m.levels, predictor.params), m.true).dice for m in maps]
    assert int8.dice_after == pytest.approx(np.mean(after), abs=1e-6)


@pytest.mark.slow
def test_whole_numbers_that_cost_too_much_are_not_left(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = iter([0.9, 0.8949])  # before, after
    monkeypatch.setattr(module, "_dice", lambda *_: next(dice))
    options = ExportOptions("openvino", int8=True)
    with pytest.raises(CalcoError, match=r"EXPORT_DROP.*0\.9000 before, 0\.8949 after"):
        export_run(RunDir(finished_run), tmp_path / "model.xml", options)
    assert not list(tmp_path.glob("model*"))


def test_the_script_in_the_docs_needs_onnxruntime_alone(
    run: RunDir, pictures: Path, tmp_path: Path
) -> None:
    run.save_postprocess(Postprocess(0.45))  # what the script does without
    export_run(run, tmp_path / "model.onnx", ExportOptions(images=[pictures]))
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


def test_a_file_that_predicts_otherwise_is_not_left(
    graph: bytes, run: RunDir, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "to_onnx", lambda *_: graph)  # of other weights
    with pytest.raises(CalcoError, match="EXPORT_PARITY"):
        export_run(run, tmp_path / "model.onnx", ExportOptions(images=[pictures]))
    assert not list(tmp_path.glob("model.onnx*"))


def test_export_needs_images(run: RunDir, tmp_path: Path) -> None:
    with pytest.raises(CalcoError):
        export_run(run, tmp_path / "model.onnx", ExportOptions(images=[tmp_path / "nowhere"]))
    assert not list(tmp_path.glob("model.onnx*"))


@pytest.mark.slow
@pytest.mark.parametrize("package", ["onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(
    package: str, run: RunDir, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CalcoError, match=r"calco\[export\]"):
        export_run(run, tmp_path / "model.onnx", ExportOptions(images=[pictures]))


def test_foreign_and_damaged_files_are_refused(graph: bytes, tmp_path: Path) -> None:
    def with_card(text: str) -> bytes:
        model = onnx.load_from_string(graph)
        entry = model.metadata_props.add()
        entry.key, entry.value = "calco", text
        return bytes(model.SerializeToString())

    path = tmp_path / "model.onnx"
    with pytest.raises(CalcoError, match="MODEL_READ"):
        Predictor.from_run(path)
    for code, blob in {
        "ONNX_READ": graph[:-500],
        "MODEL_CARD": graph,
        "MODEL_CARD.*schema 99": with_card('{"schema": 99}'),
        "MODEL_CARD.*cannot be read": with_card("[" * 100_000),
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
