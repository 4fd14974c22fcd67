"""Run the notebook from top to bottom and keep only outputs that say nothing of the machine."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "01_end_to_end.ipynb"


def main() -> None:
    """Execute the notebook in a temporary folder and write it back with its outputs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--timeout", type=int, default=900, help="seconds for one cell")
    timeout_s = parser.parse_args().timeout
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(
            notebook, timeout=timeout_s, resources=resources, record_timing=False
        )
        client.execute(env={**os.environ, "TMPDIR": folder})  # its run folder goes with this one
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            drop_repr(output)
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, NOTEBOOK)
    print(f"{NOTEBOOK.name}: {NOTEBOOK.stat().st_size // 1000} kB")


def drop_repr(output: Any) -> None:  # noqa: ANN401 - nbformat has no types
    """Shorten the plain text of a rich output; viewers show the other, and it holds paths."""
    data = output.get("data", {})
    if len(data) > 1 and "text/plain" in data:
        data["text/plain"] = data["text/plain"].split("(")[0].split("\n")[0]


if __name__ == "__main__":
    main()
