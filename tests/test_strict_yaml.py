"""YAML cannot do more than state values, and its faults are told with their line."""

from __future__ import annotations

import pytest

from calco.errors import CalcoError
from calco.strict_yaml import MAX_CHARS, parse_yaml


@pytest.mark.parametrize("value", ["0x_", "0b_", "9" * 5000])
def test_numbers_that_python_cannot_read_are_refused(value: str) -> None:
    with pytest.raises(CalcoError, match="CONFIG_SYNTAX"):
        parse_yaml(f"seed: {value}", "c.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1.5", 1.5), ("12", 12), ("2026-01-31", "2026-01-31"), ("'7'", "7")],
)
def test_values_are_what_people_mean(text: str, value: object) -> None:
    assert parse_yaml(text, "") == value


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("seed: 1\nfit:\n  epochs: 1\n  epochs: 2\n", 4, "repeated"),
        ("seed: 1\nseed: 2\n", 2, "repeated"),
        ("fit:\n\tepochs: 1\n", 2, ""),
        ("seed: !!python/object/apply:os.system ['true']\n", 1, ""),
        ("seed: !!python/name:os.system\n", 1, ""),
        ("a: &a [1]\nb: *a\n", 2, "aliases"),
        ("fit: {epochs: 1\n", 2, ""),
        ("{[1]: 2}\n", 1, ""),
        ("? {a: 1}\n: 2\n", 1, ""),
        ("seed: 1\ndata: !!timestamp soon\n", 2, "tags"),
        ("seed: !!int one\n", 1, "tags"),
        ("seed: !!set {1}\n", 1, "tags"),
    ],
)
def test_unsafe_or_sloppy_yaml_is_refused_with_its_line(text: str, line: int, what: str) -> None:
    with pytest.raises(CalcoError) as caught:
        parse_yaml(text, "c.yaml")
    message = str(caught.value)
    assert f"c.yaml:{line}" in message
    assert what in message


def test_an_anchor_bomb_costs_nothing() -> None:
    rows = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    with pytest.raises(CalcoError, match="aliases"):
        parse_yaml("\n".join(rows), "bomb")


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    with pytest.raises(CalcoError, match="CONFIG_SYNTAX"):
        parse_yaml("[" * 1000, "deep")


def test_a_file_too_large_is_not_parsed() -> None:
    with pytest.raises(CalcoError, match="CONFIG_SIZE"):
        parse_yaml("#" * (MAX_CHARS + 1), "big")
