"""Pages for people, from templates that lie beside the stage that fills them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import jinja2

TEMPLATES = Path(__file__).parents[1] / "stages"


def page_template(name: str, filters: Mapping[str, Callable[..., object]]) -> jinja2.Template:
    """Open a template.

    Args:
        name: Of its file.
        filters: What it may apply to values, by name.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,  # file names and settings are other people's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(name)
