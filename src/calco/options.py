"""Options that several commands share, each with the one sentence that --help prints."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

Data = Annotated[Path, typer.Argument(help="Folder of images and masks; its layout is detected.")]
Run = Annotated[Path, typer.Argument(help="Run folder left by calco train.")]
Out = Annotated[Path | None, typer.Option("-o", "--out", help="Where to write.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML of settings.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="section.key=value; repeatable.")]
Budget = Annotated[
    str | None, typer.Option(help="Wall-clock time from start to finished report, e.g. 20m.")
]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Every reason and epoch.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Errors only.")]
AsJson = Annotated[bool, typer.Option("--json", help="Result as JSON on standard output.")]


class Annotation(StrEnum):
    """Formats of other programs; an enumeration, because Typer takes no list of literals."""

    coco = "coco"
    labelme = "labelme"
    geojson = "geojson"


Objects = Annotated[
    Literal["components", "watershed"],
    typer.Option(help="How objects are told apart: connected parts, or cut where they touch, too."),
]
With = Annotated[
    list[Path] | None,
    typer.Option("--with", help="A run that predicts together with RUN; repeatable."),
]
As = Annotated[
    list[Annotation] | None,
    typer.Option("--as", help="Write objects for other programs too; repeatable."),
]
Engine = Annotated[
    str, typer.Option(help="auto, torch, onnx or openvino; auto times those installed.")
]
Cluster = Annotated[
    str | None, typer.Option(help="ray: Ray Data predicts, from and to paths or URLs.")
]
