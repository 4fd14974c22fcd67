"""Every setting is checked: name, type and range; YAML cannot do more than state values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from calco.config import (
    Config,
    config_to_yaml,
    known_keys,
    load_config,
    validate_config,
)
from calco.errors import CalcoError


def nested(key: str, value: object) -> dict[str, Any]:
    """Return ``{"a": {"b": value}}`` for ``a.b``."""
    *sections, name = key.split(".")
    tree: dict[str, Any] = {name: value}
    for section in reversed(sections):
        tree = {section: tree}
    return tree


def problems_of(tree: object) -> tuple[str, ...]:
    with pytest.raises(CalcoError) as caught:
        validate_config(tree)
    return tuple(str(p) for p in caught.value.problems)


@pytest.mark.parametrize("key", known_keys())
def test_a_misspelt_key_is_refused_with_the_right_one(key: str) -> None:
    stem, last = key[:-1], key[-1]
    (message,) = problems_of(nested(stem + last + last, None))
    assert message.startswith("error[CONFIG_KEY]")
    assert f"did you mean {key}?" in message


@pytest.mark.parametrize("key", known_keys())
def test_no_setting_takes_a_mapping(key: str) -> None:
    messages = problems_of(nested(key, {"x": 1}))
    assert any(f"correct {key}" in message for message in messages)


NUMBERS = [k for k in known_keys() if k.rsplit(".")[-1] in {"epochs", "batch", "patience", "seed"}]


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", ["3", True, 2.5, [1]])
def test_whole_numbers_are_nothing_else(key: str, value: object) -> None:
    assert problems_of(nested(key, value))[0].startswith("error[CONFIG_VALUE]")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fit.epochs", 0),
        ("fit.epochs", -1),
        ("fit.batch", 0),
        ("fit.crop_px", 31),
        ("fit.learning_rate", 0),
        ("fit.learning_rate", -1e-3),
        ("fit.learning_rate", "1e-3"),
        ("fit.learning_rate", float("inf")),
        ("fit.learning_rate", float("nan")),
        ("fit.weight_decay", -1),
        ("fit.augment", 1.01),
        ("fit.precision", "fp8"),
        ("fit.optimizer", "Adam"),
        ("fit.ema", 1),
        ("fit.workers", -1),
        ("fit.validation_share", 0),
        ("split.validation", 0),
        ("split.validation", 1),
        ("split.test", 1),
        ("model.depth", 0),
        ("model.depth", 7),
        ("model.width", 3),
        ("model.dropout", 1),
        ("model.encoder", 34),
        ("model.decoder", "deeplab"),
        ("fit.encoder_lr_factor", 0),
        ("fit.layer_decay", 1.1),
        ("loss.smooth", 0),
        ("loss.alpha", 1.5),
        ("data.channels", 2),
        ("data.rle_base", 2),
        ("data.frame", -1),
        ("data.max_megapixels", 0),
        ("data.foreground_color", [1, 2]),
        ("data.foreground_color", [1, 2, 256]),
        ("audit.twin_correlation", -0.1),
        ("evaluate.bootstrap", 99),
        ("budget_s", 4),
        ("data.threshold", float("inf")),
        ("seed", -1),
        ("split.seed", 2**32),
        ("device", "gpu"),
    ],
)
def test_values_out_of_range_are_refused(key: str, value: object) -> None:
    (message, *_) = problems_of(nested(key, value))
    assert message.startswith("error[CONFIG_VALUE]")
    assert key in message


def test_all_faults_are_told_at_once() -> None:
    messages = problems_of({"fit": {"epochs": -1, "leraning_rate": 1}, "sed": 3})
    assert len(messages) == 3
    assert any("did you mean fit.learning_rate?" in m for m in messages)
    assert any("did you mean seed?" in m for m in messages)


def test_a_right_name_in_the_wrong_section_is_sent_home() -> None:
    (message,) = problems_of({"learning_rate": 1e-3})
    assert "did you mean fit.learning_rate?" in message


def test_the_defaults_survive_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(config_to_yaml(Config()))
    assert load_config(path) == Config()


def test_changed_settings_survive_a_round_trip(tmp_path: Path) -> None:
    config = load_config(
        overrides=(
            "fit.learning_rate=1e-3",
            "data.foreground=[1, 2]",
            "data.foreground_color=[255, 0, 0]",
            r"data.group=^(s\d+)_",
            "fit.epochs=3",
        )
    )
    assert config.fit.learning_rate == 1e-3
    assert config.data.foreground == (1, 2)
    path = tmp_path / "config.yaml"
    path.write_text(config_to_yaml(config))
    assert load_config(path) == config


def test_later_overrides_win_over_earlier_and_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("fit:\n  epochs: 2\n")
    assert load_config(path).fit.epochs == 2
    assert load_config(path, ("fit.epochs=3", "fit.epochs=4")).fit.epochs == 4


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.e-3", "+1e-3", "0.001"])
def test_numbers_are_read_as_people_write_them(text: str) -> None:
    assert load_config(overrides=(f"fit.learning_rate={text}",)).fit.learning_rate == 1e-3


def test_a_folder_may_have_the_name_of_a_date() -> None:
    assert load_config(overrides=("data.images=2026-01-31",)).data.images == "2026-01-31"
    with pytest.raises(CalcoError, match=r"correct data\.images: write it in quotes"):
        load_config(overrides=("data.images=2026",))
    assert load_config(overrides=("data.images='2026'",)).data.images == "2026"


def test_a_long_value_is_shown_in_part() -> None:
    (message,) = problems_of({"seed": "x" * 10_000})
    assert len(message) < 250
    assert "'xxx" in message


def test_endless_sections_are_refused() -> None:
    with pytest.raises(CalcoError, match="CONFIG_"):
        load_config(overrides=("a" + ".b" * 5000 + "=1",))


@pytest.mark.parametrize("override", ["fit.epochs", "=3", "fit", " =1"])
def test_an_override_is_an_assignment(override: str) -> None:
    with pytest.raises(CalcoError, match="CONFIG_SET"):
        load_config(overrides=(override,))


def test_a_value_is_no_section() -> None:
    with pytest.raises(CalcoError, match="'seed' is not a section"):
        load_config(overrides=("seed=1", "seed.deep=2"))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"[1, 2]", "CONFIG_TYPE"),
        (b"\xff\xfe\x00", "CONFIG_READ"),
        (b"seed: 2024-01-01", "CONFIG_VALUE"),
        (b"seed: " + b"9" * 5000, "CONFIG_SYNTAX"),
        (b"#" * 1_000_001, "CONFIG_SIZE"),
        (b"fit: 3", "CONFIG_VALUE"),
    ],
)
def test_files_that_are_no_config(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(CalcoError, match=code):
        load_config(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalcoError, match=r"gone\.yaml"):
        load_config(tmp_path / "gone.yaml")


def test_an_empty_file_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"")
    assert load_config(path) == Config()
    path.write_bytes(b"\xef\xbb\xbfseed: 7\n")
    assert load_config(path).seed == 7
