"""Settings as they are written: a YAML file, and assignments on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calco.config_faults import shown
from calco.errors import CalcoError, Problem
from calco.strict_yaml import MAX_CHARS, parse_yaml


def read_tree(path: Path) -> dict[str, Any]:
    """Read a file of settings as a tree of plain values.

    Args:
        path: YAML file.

    Raises:
        CalcoError: When it cannot be read or holds no sections.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(MAX_CHARS + 1)
    except (OSError, UnicodeDecodeError) as error:
        got = error.strerror if isinstance(error, OSError) else "a file that is not UTF-8"
        do = "check the path" if isinstance(error, OSError) else "save it as UTF-8"
        raise CalcoError(
            Problem("CONFIG_READ", "cannot read the settings", str(path), str(got), do=do)
        ) from None
    tree = parse_yaml(text, str(path))
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise CalcoError(
            Problem(
                "CONFIG_TYPE",
                "settings are written in sections",
                str(path),
                got=type(tree).__name__,
                expected="'section:' lines with indented 'key: value' lines below",
                do="see docs/reference/config.md",
            )
        )
    return tree


def assign(tree: dict[str, Any], override: str, known: Sequence[str]) -> None:
    """Put what ``section.key=value`` says into a tree of settings.

    Args:
        tree: Changed in place.
        override: Its value is parsed as YAML.
        known: Names of the sections, for the message.

    Raises:
        CalcoError: When it is no assignment, or a setting is taken for a section.

    Example:
        >>> tree = {"fit": {"epochs": 1}}
        >>> assign(tree, "fit.batch=8", ["fit"])
        >>> tree
        {'fit': {'epochs': 1, 'batch': 8}}
    """
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise CalcoError(
            Problem(
                "CONFIG_SET",
                "not an assignment",
                "--set",
                got=shown(override),
                expected="section.key=value",
                do="write it without blanks around the equals sign",
            )
        )
    *sections, name = key.strip().split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise CalcoError(
                Problem(
                    "CONFIG_SET",
                    f"{section!r} is not a section",
                    "--set",
                    got=shown(override),
                    expected="one of " + ", ".join(sorted(known)),
                    do="see docs/reference/config.md",
                )
            )
    tree[name] = parse_yaml(value, f"--set {key}")
