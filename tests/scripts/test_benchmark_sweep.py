"""The page of the sweeps is what their results say."""

from __future__ import annotations

import json

from benchmark_sweep import PAGE, REPORT, page

FOUND = {
    "pruner": "median",
    "n_trials": 12,
    "n_given_up": 8,
    "best_dice": {"pruned": 0.82, "full": 0.8235},
    "dice_lost": 0.0035,
    "time_share": 0.451,
    "epochs_share": 0.566,
}


def test_the_page_is_what_its_results_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(json.loads(REPORT.read_text(encoding="utf-8")))


def test_both_aims_count() -> None:
    row = "| a | 12 | 8 | 0.8200 | 0.8235 | 0.0035 | 45% | 57% |"
    assert f"{row} yes |" in page({"a": FOUND})
    assert page({"a": {**FOUND, "time_share": 0.51}}).count("**no**") == 1
    assert page({"a": {**FOUND, "dice_lost": 0.0051}}).count("**no**") == 1


def test_trials_in_full_alone_are_no_comparison() -> None:
    assert page({"a": {**FOUND, "pruner": "none"}}) == page({})
