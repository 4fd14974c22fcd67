"""The rules of the race, on clocks and learners that are made up."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from calco.images.toy import write_toy
from contenders import courses
from contenders.calco_run import command
from contenders.courses import FEW, Course, Labelled, open_course
from contenders.loop import MARKS, Stopwatch, race
from contenders.records import Job
from contenders.scoring import dice, mean_dice, pooled_dice, score
from contenders.smp_unet import CROP_PX, crop


class Sun:
    """A clock that moves when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)


@pytest.fixture
def sun(monkeypatch: pytest.MonkeyPatch) -> Sun:
    return Sun(monkeypatch)


def test_the_watch_stands_still_while_the_referee_looks(sun: Sun) -> None:
    clock = Stopwatch(50.0)
    sun.now_s += 10
    with clock.paused():
        sun.now_s += 1000
    sun.now_s += 5
    assert (clock.elapsed_s, clock.left_s, clock.fraction) == (15.0, 35.0, 0.3)


class Scripted:
    """A learner whose steps take what they take and whose skill is written down."""

    settings = "scripted"
    marks = MARKS

    def __init__(self, sun: Sun, step_s: float, skills: list[bool]) -> None:
        self.sun, self.step_s, self.skills = sun, step_s, skills
        self.fractions: list[float] = []
        self.looked = 0
        self.kept = -1
        self.restored = False

    def step(self, fraction: float) -> None:
        self.fractions.append(fraction)
        self.sun.now_s += self.step_s

    def prob(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.sun.now_s += 60  # must not count
        good = self.skills[min(self.looked, len(self.skills) - 1)]
        self.looked += 1
        return np.full(image.shape[:2], 1.0 if good else 0.0, np.float32)

    def final_prob(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.ones(image.shape[:2], np.float32)

    def keep(self) -> None:
        self.kept = self.looked

    def restore(self) -> None:
        self.restored = True


def labelled(name: str) -> Labelled:
    return Labelled(name, name, np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), bool))


class OneImage(Course):
    def read(self, subset: str) -> tuple[Labelled, ...]:
        return (labelled(subset),)


COURSE = OneImage("made up", Path(), {}, Path())


def test_a_race_ends_on_time_and_is_validated_ten_times(sun: Sun) -> None:
    learner = Scripted(sun, 1.0, [True])
    outcome = race(learner, COURSE, Stopwatch(100.0))
    assert outcome.steps == 100
    assert outcome.seconds == 100.0
    assert [p.seconds for p in outcome.curve] == [10.0 * n for n in range(1, MARKS + 1)]
    assert learner.fractions[0] == 0.0
    assert learner.fractions[-1] == 0.99  # the schedule has landed
    assert outcome.scores == {
        "validation": {"validation": (16, 0, 0)},
        "test": {"test": (16, 0, 0)},
    }


def test_long_steps_end_nearest_to_the_budget_and_are_validated_after_each(sun: Sun) -> None:
    outcome = race(Scripted(sun, 30.0, [True]), COURSE, Stopwatch(100.0))
    assert (outcome.steps, outcome.seconds) == (3, 90.0)  # a fourth would end at 120
    assert [p.seconds for p in outcome.curve] == [30.0, 60.0, 90.0]


def test_preparation_counts_and_may_use_up_the_time(sun: Sun) -> None:
    clock = Stopwatch(100.0)
    sun.now_s += 130
    outcome = race(Scripted(sun, 1.0, [True]), COURSE, clock)
    assert (outcome.steps, outcome.curve) == (0, ())
    assert outcome.seconds == 130.0  # said, not hidden


def test_the_best_validated_weights_are_kept(sun: Sun) -> None:
    learner = Scripted(sun, 10.0, [False, True, False])
    outcome = race(learner, COURSE, Stopwatch(100.0))
    assert [p.dice for p in outcome.curve] == [0.0, 1.0, *[0.0] * 8]
    assert (learner.kept, learner.restored) == (2, True)


# --- scores


def test_the_policy_for_empty_masks_is_calcos() -> None:
    assert [dice(t) for t in ((2, 1, 1), (0, 0, 0), (0, 5, 0), (0, 0, 5))] == [4 / 6, 1, 0, 0]
    assert mean_dice({"a": (1, 1, 1), "b": (0, 0, 0)}) == 0.75
    assert pooled_dice([(1, 1, 1), (3, 0, 0)]) == 8 / 10


def test_all_are_cut_at_one_half() -> None:
    probs = {4: 0.49, 5: 0.51}
    images = [
        Labelled(str(n), str(n), np.zeros((n, n, 3), np.uint8), np.ones((n, n), bool))
        for n in probs
    ]

    def prob(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.full(image.shape[:2], probs[len(image)], np.float32)

    assert score(prob, images) == {"4": (0, 0, 16), "5": (25, 0, 0)}


# --- data


@pytest.mark.parametrize("size", [(300, 400), (100, 300), (CROP_PX, CROP_PX)])
def test_crops_cut_image_and_mask_alike(size: tuple[int, int]) -> None:
    true = np.random.default_rng(0).random(size) > 0.5
    image = np.repeat(true[..., None], 3, axis=2).astype(np.uint8)
    pixels, mask = crop(Labelled("a", "a", image, true), np.random.default_rng(1))
    assert pixels.shape == (CROP_PX, CROP_PX, 3)
    assert np.array_equal(pixels[..., 0], mask)
    assert 0.4 < mask.mean() < 0.6


def test_a_grey_image_is_repeated_for_an_encoder_that_knows_colour() -> None:
    image = np.arange(300 * 300, dtype=np.uint32).reshape(300, 300, 1).astype(np.uint8)
    sample = Labelled("a", "a", image, np.zeros((300, 300), bool))
    pixels, _ = crop(sample, np.random.default_rng(0))
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_few_labels_leave_the_rest_for_the_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(courses.ROOTS, "dsb2018", write_toy(tmp_path / "toy", 64))
    few = open_course("dsb2018-20", 3, tmp_path / "work")
    used = few.ids("train") | few.ids("validation")
    assert len(used) == FEW
    assert not used & few.ids("test")
    whole = open_course("dsb2018", 0, tmp_path / "work")
    group_of = {
        sample.id: group
        for index, groups in whole.parts.values()
        for sample, group in zip(index, groups, strict=True)
    }
    seen = {group_of[i] for i in used}
    assert {i for i in group_of if group_of[i] not in seen} == few.ids("test")
    assert whole.ids("test") <= few.ids("test")  # whose groups never train
    files = {path.stem for path in (few.root / "images").iterdir()}
    assert files == used == {path.stem for path in (few.root / "masks").iterdir()}
    assert [len(i.true) for i in few.read("validation")]


def test_calco_is_given_what_a_user_would_type() -> None:
    course = Course("few", Path("data"), {}, Path(), ("split.test=0",))
    words = command(Job("classic", "few", 2, 300.0), course, Path("run"))[3:]
    assert words[:4] == ["train", "data", "-o", "run"]
    assert words[4:8] == ["--budget", "300s", "--seed", "2"]
    assert words[-2:] == ["--set", "split.test=0"]
    assert any(word.endswith("classic.yaml") for word in words)
