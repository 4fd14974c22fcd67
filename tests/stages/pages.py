"""Pages as a browser sees them, and the pictures they show."""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
from tests.images.facts import sound

from calco.records import Audit, FileMask, ImageSpec, MaskCode, Sample, SampleIndex


class Page(HTMLParser):
    """What a browser would see: the text, and every tag with its attributes."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._skip = False
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.words.append(" ")
        self._skip = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._skip = False

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]

    def alts(self) -> list[str]:
        return [a["alt"] or "" for a in self.all("img")]

    def images(self) -> list[str]:
        return [a["src"] or "" for a in self.all("img")]


def write_png(path: Path, pixels: np.ndarray) -> Path:
    """Write a picture, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return path


def write_set(root: Path, masks: Mapping[str, np.ndarray]) -> Audit:
    """Write a data set and what an audit knows of it; objects are 200, the rest is 40.

    Args:
        root: Folder, below which images/ and masks/ are made.
        masks: (H, W) bool, per id.
    """
    samples, facts = [], []
    for number, (name, true) in enumerate(masks.items()):
        pixels = np.where(true, 200, 40).astype(np.uint8)
        image = write_png(root / "images" / f"{name}.png", pixels)
        mask = write_png(root / "masks" / f"{name}.png", true.astype(np.uint8) * 255)
        samples.append(Sample(name, image, FileMask(mask)))
        height, width = true.shape
        facts.append(
            sound(
                name,
                height=height,
                width=width,
                channels=1,
                low=40,
                high=200,
                mean=60.0,
                foreground_fraction=float(true.mean()),
                n_objects=int(true.any()),
                image_sha256=f"{number:064x}",
            )
        )
    code = MaskCode("values", (255,), note="0 is background, 255 is foreground")
    layout = f"images/ beside masks/ ({len(masks)} images)"
    index = SampleIndex(root, layout, tuple(samples), ImageSpec(channels=1), code)
    return Audit(index, tuple(facts))
