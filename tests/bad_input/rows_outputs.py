"""Rows 60 to 62: what is written for spreadsheets and judges, and archives given as data."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

from calco.files import write_csv
from calco.stages.submission import write_submission

from .drawing import NAMES, also, box, encoded, grey, image, only, runs
from .matrix import Holds, Raised, Refused, Row

FORMULAS = ("=1+1", "+1", "@x", "-1", "\t=1")


def predicted(root: Path, *names: str) -> dict[str, Path]:
    """Write predicted masks beside the data."""
    paths = {}
    for number, name in enumerate(names or NAMES):
        paths[name] = root.parent / f"p{number}.png"
        paths[name].write_bytes(encoded(grey(box(number))))
    return paths


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))


def template(root: Path, *names: str) -> Path:
    """Write a sample submission that asks for these ids."""
    path = root / "sample_submission.csv"
    path.write_text("id,rle_mask\n" + "".join(f"{name},1 1\n" for name in names))
    return path


# --- formulas


def cells_are_inert(root: Path) -> None:
    """A spreadsheet shows the text behind an apostrophe."""
    write_csv(root / "t.csv", ("id", "status"), [(text, "done") for text in FORMULAS])
    assert [row[0] for row in rows_of(root / "t.csv")[1:]] == [f"'{text}" for text in FORMULAS]


def submit_formula(root: Path) -> object:
    return write_submission(predicted(root, "=1+1"), root / "s.csv")


def formula_of_the_judge(root: Path) -> None:
    """Ids out of a template are the judge's own, and must come back as they are."""
    masks = predicted(root, "=1+1")
    write_submission(masks, root / "s.csv", like=template(root, "=1+1"))
    assert rows_of(root / "s.csv")[1][0] == "=1+1"


# --- templates


def order_of_the_template(root: Path) -> None:
    """Rows stand as the template has them, each with the mask of its id."""
    order = ("b", "x", "c", "a")
    write_submission(predicted(root), root / "s.csv", like=template(root, *order))
    header, *rows = rows_of(root / "s.csv")
    assert header == ["id", "rle_mask"]
    assert [row[0] for row in rows] == list(order)
    for name, cell in rows:
        lengths = [int(number) for number in cell.split()[1::2]]
        first = runs(box(NAMES.index(name))).split()[0]
        assert (cell.split()[0], sum(lengths)) == (first, 54)


def submit(*ids: str) -> Callable[[Path], object]:
    """Submit masks of x, a, b and c for a template of other ids."""

    def entry(root: Path) -> object:
        like = template(root, *ids)
        try:
            return write_submission(predicted(root), root / "s.csv", like=like)
        finally:
            assert not (root / "s.csv").exists()

    return entry


# --- archives


def archive(*names: str) -> bytes:
    """Write an archive whose members have these names."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        for name in names:
            members.writestr(name, b"member")
    return file.getvalue()


HOSTILE = archive("../x.png", "/etc/x.png", "images/a.png")
ZIP = "{root}/data.zip"
SAMPLE = "{root}/sample_submission.csv"

FORMULA = Raised(submit_formula, "SUBMISSION_FORMULA", "", "rename the image", "'=1+1'")
FEWER = Raised(submit("x", "a", "b"), "SUBMISSION_EXTRA", SAMPLE, "exactly the images", "c")
MORE = Raised(submit(*NAMES, "y"), "SUBMISSION_MISSING", SAMPLE, "exactly the images", "y")
NO_FOLDER = Refused("DATA_MISSING", ZIP, "unpack it", "data must be a folder or a .tar")
PACKED = Refused("DATA_EMPTY", "{root}", "unpack the archive first", "1 .zip")
NO_IMAGE = Refused("IMG_FORMAT", "images/x.png", "convert it to PNG", "a zip archive")

OUTPUTS = (
    Row(60, "formulas-in-tables", only({}), Holds(cells_are_inert)),
    Row(60, "formula-as-id", only({}), FORMULA),
    Row(60, "formula-of-the-template", only({}), Holds(formula_of_the_judge)),
    Row(61, "order-of-the-template", only({}), Holds(order_of_the_template)),
    Row(61, "fewer-ids-than-masks", only({}), FEWER),
    Row(61, "more-ids-than-masks", only({}), MORE),
    Row(62, "archive-as-data", also({"data.zip": HOSTILE}), NO_FOLDER, at="data.zip"),
    Row(62, "archive-in-the-folder", only({"data.zip": HOSTILE}), PACKED),
    Row(62, "archive-named-png", image(HOSTILE), NO_IMAGE),
)
