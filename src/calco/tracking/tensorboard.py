"""TensorBoard: event files in the run folder; nothing is ever sent."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from calco.tracking.tracker import Parameter, Place, TrackerRun

FOLDER = "tensorboard"


class TensorBoard:
    """Writes scalars, pictures and, for the table of runs, the parameters.

    Args:
        place: Where the events go; a run that goes on gets one more file there.
    """

    def __init__(self, place: Place) -> None:
        # the writer that PyTorch keeps; it needs the package tensorboard
        from torch.utils.tensorboard import SummaryWriter

        self.folder = place.folder / FOLDER
        self.resumed = place.run_id is not None
        self.writer = SummaryWriter(str(self.folder))
        look = f"tensorboard --logdir {shlex.quote(str(self.folder))}"
        self.run = TrackerRun("tensorboard", FOLDER, look)

    def parameters(self, values: Mapping[str, Parameter]) -> None:
        """Write the parameters once: a second set would be a second row of the table."""
        events = self.writer.file_writer
        if self.resumed or events is None:  # None once it is closed
            return
        from torch.utils.tensorboard.summary import hparams

        # add_hparams would open a second run below this one
        for event in hparams(dict(values), {"validation/dice": 0.0}):
            events.add_summary(event)

    def metrics(self, values: Mapping[str, float], epoch: int) -> None:
        """Add a point to the curve of each figure."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)

    def picture(self, name: str, path: Path, caption: str) -> None:
        """Add a picture; its caption is written as text of the same name."""
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))  # (H, W, 3) uint8
        self.writer.add_image(name, pixels, dataformats="HWC")
        self.writer.add_text(name, caption)

    def artefact(self, path: Path) -> None:
        """Name the file: TensorBoard keeps none."""
        self.writer.add_text("files", path.name)

    def close(self, *, finished: bool) -> None:
        """Write what is buffered; TensorBoard has no word for runs that failed."""
        self.writer.close()
