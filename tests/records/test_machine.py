"""What is read off a machine's measurements, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from calco.files import from_json, to_json
from calco.records import Machine, NetworkPlan, Setup, Timing

NETWORK = NetworkPlan("unet", 1, (0.0,), (255.0,), width=4, depth=2)
OTHER = replace(NETWORK, width=8)
BASE = Setup(NETWORK, crop_px=100, batch=2, threads=2)


def timing(setup: Setup, step_s: float) -> Timing:
    return Timing(setup, step_s, 3, 2 * step_s, 1.9, math.nan)


def machine(*timings: Timing) -> Machine:
    return Machine("cpu", 2, 8.0, timings, timings[0], 1.0)


def test_samples_per_second_are_batch_over_step() -> None:
    assert timing(BASE, 0.5).samples_per_s == 4.0


def test_setups_are_alike_whatever_crop_and_batch() -> None:
    assert BASE.alike(replace(BASE, crop_px=64, batch=7))
    for change in (
        replace(BASE, threads=1),
        replace(BASE, channels_last=False),
        replace(BASE, precision="bf16"),
        replace(BASE, network=OTHER),
    ):
        assert not BASE.alike(change)


def test_what_was_measured_is_not_estimated() -> None:
    larger = timing(replace(BASE, crop_px=200), 1.0)
    assert machine(timing(BASE, 0.4), larger).step_s(NETWORK, 200, 2) == 1.0


def test_two_crops_give_a_line_of_fixed_time_and_pixels() -> None:
    # 20 000 px take 0.4 s and 80 000 px 1.0 s: 0.2 s and 1 s per 100 000 px
    known = machine(timing(BASE, 0.4), timing(replace(BASE, crop_px=200), 1.0))
    assert known.step_s(NETWORK, 150, 2) == pytest.approx(0.2 + 0.45)  # 45 000 px between them
    assert known.step_s(NETWORK, 50, 2) == pytest.approx(0.2 + 0.05)  # 5 000 px
    assert known.step_s(NETWORK, 300, 2) == pytest.approx(0.2 + 1.8)  # 180 000 px
    assert known.step_s(NETWORK, 100, 4) == pytest.approx(0.2 + 0.4)  # 40 000 px, by batch


def test_steps_cost_by_what_the_network_sees() -> None:
    known = machine(timing(BASE, 0.4), timing(replace(BASE, crop_px=200), 1.0))
    doubled = replace(NETWORK, scale=2.0)
    assert BASE.alike(replace(BASE, network=doubled))
    assert known.step_s(doubled, 50, 2) == 0.4
    assert known.step_s(doubled, 75, 2) == known.step_s(NETWORK, 150, 2)


def test_a_pixel_of_an_image_costs_more_to_predict_when_it_is_enlarged() -> None:
    doubled = replace(BASE, network=replace(NETWORK, scale=2.0), crop_px=50)
    plain, enlarged = machine(timing(BASE, 0.4)), machine(timing(doubled, 0.4))
    assert enlarged.predict_px_s == pytest.approx(4 * plain.predict_px_s)


def test_one_crop_is_scaled_with_the_pixels() -> None:
    assert machine(timing(BASE, 0.4)).step_s(NETWORK, 200, 2) == pytest.approx(1.6)


def test_noise_yields_no_step_that_takes_no_time() -> None:
    # from 20 000 to 24 200 px the time doubles: that line is below zero at 15 000 px
    known = machine(timing(BASE, 0.4), timing(replace(BASE, crop_px=110), 0.8))
    assert known.step_s(NETWORK, 50, 2) == pytest.approx(0.1)  # a quarter of the pixels
    # and larger crops never take less
    known = machine(timing(BASE, 0.4), timing(replace(BASE, crop_px=110), 0.3))
    assert known.step_s(NETWORK, 200, 2) == pytest.approx(0.3)


def test_what_was_measured_in_another_way_says_nothing() -> None:
    slow = timing(replace(BASE, network=OTHER, threads=1), 9.0)
    known = machine(timing(BASE, 0.4), slow, timing(replace(BASE, crop_px=200, threads=1), 9.0))
    assert known.step_s(OTHER, 100, 2) == math.inf
    assert known.step_s(NETWORK, 200, 2) == pytest.approx(1.6)


def test_a_machine_reads_back_from_its_file() -> None:
    known = machine(replace(timing(BASE, 0.4), growth_mib=3.0))
    assert from_json(Machine, to_json(known), "machine.json") == known
