"""Write docs/reference/config.md from the settings' own docstrings.

Run ``python scripts/write_config_reference.py`` after changing a setting.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel

from calco.config import Config

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "config.md"
INTRODUCTION = """# Settings

Written by `scripts/write_config_reference.py` from `src/calco/config.py`. Give them in YAML
(`--config my.yaml`) or one by one (`--set fit.batch=8`); both go through the same check, and an
unknown key is an error that offers the nearest name. Where the default is `null` the plan
chooses from the data and the time there is, and says why in `plan.yaml`.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Return the page: one table per section."""
    own = {n: f for n, f in Config.model_fields.items() if not _is_section(f.annotation)}
    parts = [INTRODUCTION, "## Top level\n", _table(Config, list(own))]
    for name, field in Config.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            table = _table(section, list(section.model_fields))
            parts += [f"\n## {name}\n", f"{section.__doc__}\n", table]
    return "\n".join(parts) + "\n"


def _is_section(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _table(section: type[BaseModel], names: list[str]) -> str:
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for name in names:
        field = section.model_fields[name]
        default = "null" if field.default is None else str(field.default).lower()
        meaning = re.sub(r"\s+", " ", field.description or "")
        meaning = meaning.replace("``", "`").replace("|", "\\|")
        rows.append(f"| `{name}` | `{default}` | {meaning} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
