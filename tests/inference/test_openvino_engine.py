"""OpenVINO predicts as torch does, and tells nobody."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.nets.test_graph import PLAN, SIZES, built, images

from calco.errors import CalcoError
from calco.inference.engines import TorchEngine
from calco.inference.openvino_engine import OpenVinoEngine
from calco.inference.openvino_files import to_xml
from calco.nets.graph import to_onnx


@pytest.fixture(scope="module")
def graph() -> bytes:
    """Making one takes seconds."""
    return to_onnx(built(PLAN), 3, {})


def test_masks_of_every_size_and_from_every_thread(graph: bytes) -> None:
    engine, reference = OpenVinoEngine(graph), TorchEngine(built(PLAN))
    assert engine.name == "openvino cpu"
    batches = [images(size, 3) for size in SIZES]
    for batch in batches:
        found, wanted = engine.logits(batch), reference.logits(batch)
        assert found.shape == wanted.shape
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=2e-4)
    alone = engine.with_threads(1)
    with ThreadPoolExecutor(3) as pool:
        for found, batch in zip(pool.map(alone.logits, batches * 4), batches * 4, strict=True):
            np.testing.assert_allclose(found, engine.logits(batch), atol=1e-5)


def test_an_xml_holds_its_texts_and_predicts_alike(graph: bytes) -> None:
    xml, weights = to_xml(graph, {"a": "<ü>"})
    engine = OpenVinoEngine(xml, weights)
    assert engine.metadata["a"] == "<ü>"
    batch = images((20, 30), 3)
    np.testing.assert_allclose(engine.logits(batch), OpenVinoEngine(graph).logits(batch), atol=1e-6)
    assert b"/tmp" not in xml  # no place on the machine that wrote it


@pytest.mark.parametrize("cut", ["xml", "weights"])
def test_what_is_cut_short_is_refused(graph: bytes, cut: str) -> None:
    xml, weights = to_xml(graph, {})
    halves = (xml[:-500], weights) if cut == "xml" else (xml, weights[:-500])
    with pytest.raises(CalcoError, match="OPENVINO_READ"):
        OpenVinoEngine(*halves)


@pytest.mark.parametrize("package", ["openvino", "nncf"])
def test_a_missing_package_is_named(
    graph: bytes, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CalcoError, match=r"calco\[openvino\]"):
        to_xml(graph, {}, [images((32, 32), 3)[0]])


# sockets that fail and say so; a fresh home, where telemetry would write an identity
WATCHED = """
import sys, threading

def watch(event, _):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        print("NETWORK", event, flush=True)
        raise OSError("no network")

sys.addaudithook(watch)
"""
WORK = """
from calco.inference.openvino_engine import OpenVinoEngine, import_openvino
import_openvino()
import nncf
import numpy as np
from calco.inference.openvino_files import to_xml
graph = open("model.onnx", "rb").read()
picture = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
OpenVinoEngine(*to_xml(graph, {}, [picture[0]])).logits(picture)
print("DONE")
"""


def told(code: str, folder: Path) -> str:
    """Run code in a process of its own; add the folders that appear in its home."""
    home = folder / "home"
    home.mkdir()
    source = str(Path(__file__).parents[2] / "src")
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": source}
    run = subprocess.run(
        [sys.executable, "-c", WATCHED + code], cwd=folder, env=env, capture_output=True, text=True
    )
    return " ".join([run.stdout, run.stderr, *(path.name for path in home.iterdir())])


@pytest.mark.slow
def test_nothing_is_told_to_anybody(graph: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(graph)
    said = told(WORK, tmp_path)
    assert "DONE" in said
    assert "NETWORK" not in said
    assert "intel" not in said


def test_telling_would_be_seen(tmp_path: Path) -> None:
    said = told("import openvino", tmp_path)  # the negative control
    assert "NETWORK" in said
    assert "intel" in said
