"""YAML that states values and nothing else: no tags, no aliases, no repeated keys."""

from __future__ import annotations

import re
from typing import Any

import yaml

from calco.errors import CalcoError, Problem

MAX_CHARS = 1_000_000  # far above any honest settings, and read in an instant


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML without repeated keys, aliases and tags; 1e-3 is a number, a date is text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is a list or a mapping", key_node.start_mark
                )
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value!r} is repeated", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        what = "anchors and aliases" if isinstance(event, yaml.AliasEvent) else "tags"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None:
            raise yaml.composer.ComposerError(
                None, None, f"{what} are not used here", event.start_mark
            )
        return super().compose_node(parent, index)


# YAML 1.1 wants a dot in floats; everybody writes learning_rate: 1e-3
_FLOAT = re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
_StrictLoader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789"))
# a folder may be named 2026-01-31, and no setting is a date
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in _StrictLoader.yaml_implicit_resolvers.items()
}


def parse_yaml(text: str, where: str) -> object:
    """Parse YAML safely: no tags, no aliases, no repeated keys, size-capped.

    Raises:
        CalcoError: With the line of the first fault.
    """
    if len(text) > MAX_CHARS:
        expected = f"at most {MAX_CHARS} characters"
        raise CalcoError(
            Problem("CONFIG_SIZE", "too long for settings", where, "more", expected, "shorten it")
        )
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader subclass
    except RecursionError:
        do = "write sections and settings, no deeper"
        raise CalcoError(Problem("CONFIG_SYNTAX", "nested too deeply", where, do=do)) from None
    except ValueError as error:  # e.g. a number of more digits than Python reads
        what, do = f"not a value: {error}", "write it in quotes, or correct it"
        raise CalcoError(Problem("CONFIG_SYNTAX", what, where, do=do)) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"{where}:{mark.line + 1}" if mark else where
        what = getattr(error, "problem", None) or "not valid YAML"
        raise CalcoError(
            Problem("CONFIG_SYNTAX", what, line, do="write plain 'key: value' lines")
        ) from None
