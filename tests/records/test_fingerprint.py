from __future__ import annotations

import json
import math
from dataclasses import fields, replace

import pytest
import yaml

from calco.errors import CalcoError
from calco.files import from_json, to_json
from calco.records import Fingerprint, Quantiles
from calco.strict_yaml import parse_yaml

SOME = Fingerprint(
    n_images=546,
    n_groups=31,
    n_measured=300,
    channels=3,
    height_px=Quantiles(256.0, 256.0, 520.0),
    width_px=Quantiles(256.0, 256.0, 256.0),
    intensity=Quantiles(2.0, 13.0, 209.0),
    contrast=Quantiles(-0.5, 0.25, 1.0),
    texture_px=Quantiles(0.63, 10.8, 26.5),
    empty_fraction=0.25,
    foreground_fraction=Quantiles(0.0144, 0.0951, 0.33),
    mean_foreground_fraction=0.00123,
    blank_tile_fraction=0.5,
    n_objects=Quantiles(7.0, 21.5, 101.0),
    diameter_px=Quantiles(7.23, 19.2, 1234.5),
    thickness_px=Quantiles(3.0, 11.8, 37.5),
    half_scale_dice=0.992,
    quarter_scale_dice=0.9634,
)
BARE = replace(
    SOME, n_objects=Quantiles(), thickness_px=Quantiles(), half_scale_dice=math.nan, n_images=0
)


def values(fingerprint: Fingerprint) -> dict[str, str]:
    return {name: value for name, value, _ in fingerprint.rows()}


def test_every_figure_has_a_row() -> None:
    assert len(SOME.rows()) == len(fields(Fingerprint)) - 1  # n_measured lies beside n_images
    assert len(values(SOME)) == len(SOME.rows())
    assert all(value and meaning for _, value, meaning in SOME.rows())
    assert SOME.rows()[0] == ("images", "546", "300 of them were measured")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", "256 px"),
        ("height", "256 to 256 to 520 px"),
        ("contrast", "-0.5 to 0.25 to 1"),
        ("empty images", "25 %"),
        ("foreground", "1.44 to 9.51 to 33 %"),
        ("mean foreground", "0.123 %"),
        ("objects", "7 to 21.5 to 101"),
        ("object diameter", "7.23 to 19.2 to 1234 px"),
        ("left at a quarter", "0.963"),
    ],
)
def test_values_have_their_units(name: str, value: str) -> None:
    assert values(SOME)[name] == value


def test_what_does_not_exist_is_none() -> None:
    absent = {name for name, value in values(BARE).items() if value == "none"}
    assert absent == {"objects", "thickness", "left at half size"}
    assert "nan" not in str(BARE.rows())


def test_a_notebook_shows_every_row() -> None:
    page = SOME._repr_html_()
    assert page.count("<tr>") == 1 + len(SOME.rows())
    assert "<td>7.23 to 19.2 to 1234 px</td>" in page


def test_it_survives_json_and_yaml() -> None:
    assert from_json(Fingerprint, to_json(SOME), "here") == SOME
    written = yaml.safe_dump(json.loads(to_json(SOME)), sort_keys=False)
    assert from_json(Fingerprint, json.dumps(parse_yaml(written, "here")), "here") == SOME


def test_nan_survives_json_and_yaml() -> None:
    written = yaml.safe_dump(json.loads(to_json(BARE)), sort_keys=False)
    back = from_json(Fingerprint, json.dumps(parse_yaml(written, "here")), "here")
    assert back != SOME
    assert math.isnan(back.thickness_px.mid)
    assert math.isnan(back.half_scale_dice)
    assert to_json(back) == to_json(BARE)


def test_a_damaged_one_is_refused() -> None:
    tree = json.loads(to_json(SOME))
    tree["height_px"]["mid"] = "tall"
    with pytest.raises(CalcoError, match=r"height_px\.mid"):
        from_json(Fingerprint, json.dumps(tree), "plan.yaml")
