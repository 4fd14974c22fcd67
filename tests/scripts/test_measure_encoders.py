"""The table of encoders is what its results say."""

from __future__ import annotations

import math

import pytest

from calco.config import load_config
from calco.nets.asked import require_network
from calco.records import Comparison
from measure_encoders import (
    BLOCK,
    DATA,
    HOW_TO,
    PAGE,
    PAIR_BUDGET,
    PAIRS,
    SURVEY,
    TRIALS,
    Trial,
    difference,
    page,
    points,
    read_results,
    table,
)

FOUND = {
    "validation_dice": 0.91,
    "test_dice": 0.9,
    "n_test": 10,
    "steps": 50,
    "steps_per_minute": 75,
    "crop_px": 64,
    "seconds": 59.0,
    "model_mb": 16.7,
}


def test_the_page_is_what_its_results_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(read_results())
    block = BLOCK.search(HOW_TO.read_text(encoding="utf-8"))
    assert block is not None
    assert block[0] == block[1] + table(read_results()) + block[2]


@pytest.mark.parametrize("trial", TRIALS[::2], ids=lambda t: t.key)
def test_every_run_is_one_that_calco_takes(trial: Trial) -> None:
    config = load_config(None, trial.settings)
    assert config.model.encoder == trial.encoder
    if not trial.pretrained:  # the weights of lite1 and lite2 are an extra
        require_network(config)


def test_a_run_becomes_a_row_and_the_others_are_named_as_missing() -> None:
    trial = TRIALS[0]
    base = {"difference": 0.0123, "low": -0.001, "high": 0.03}
    text = page({trial.key: {**FOUND, "against_base": base}})
    row = "| 5m | `efficientnet-lite0` | trained | 0 | 64 px | 75 | 16.7 MB | 0.9100 | 0.9000 |"
    assert f"{row} +1.2 [-0.1, +3.0] |" in text
    assert f"{len(TRIALS) - 1} of {len(TRIALS)} runs" in text
    assert trial.key not in text


def test_a_minute_of_an_encoder_is_one_row_for_both_data_sets() -> None:
    first, *_ = (t for t in SURVEY if t.data == DATA[1])
    lines = table({first.key: FOUND}).splitlines()
    assert len(lines) == 3  # head, rule, and the one that was run
    assert lines[2] == "| `efficientnet-lite0` | trained | 16.7 MB |  |  |  | 50 | 0.900 |  |"


@pytest.mark.parametrize("data", DATA)
def test_trained_weights_are_compared_over_seeds(data: str) -> None:
    found: dict[str, object] = {"difference": 0.02, "low": 0.01, "high": 0.03, "p_value": 0.0421}
    found |= {"seeds": [0.01, 0.03], "n_images": 12, "n_groups": 4}
    text = page({f"{data}-gain-{PAIR_BUDGET}": found})
    assert "on 12 test images in 4 groups (seeds: +1.0, +3.0; p = 0.0421)" in text
    assert len([t for t in PAIRS if t.data == data]) == 6


def test_a_difference_is_in_points() -> None:
    found = Comparison("a", "b", 10, 10, 0.01234, (-0.00111, 0.03), 0.2)
    assert points(difference(found)) == "+1.2 [-0.1, +3.0]"
    assert points(None) == ""
    alone = Comparison("a", "b", 1, 1, 0.01234, (math.nan, math.nan), 0.2)
    assert points(difference(alone)) == "+1.2 (one group: no interval)"
