from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from tests.images.facts import sound
from tests.stages.audits import audit_of, sample

from calco.config import AuditConfig, SplitConfig
from calco.images.duplicates import connected, find_twins, signature
from calco.images.io import read_image
from calco.images.series import find_series
from calco.records import ImageSpec, Twins
from calco.stages.split import split_samples

Array = NDArray[np.float32]
REAL = Path(__file__).resolve().parents[2].parent / "shared/data"


def stack(count: int, seed: int, between: float = 1.0) -> list[Array]:
    """Signatures of slices; neighbours correlate by exp(-1 / (4 between ** 2)), here 0.78."""
    noise = np.random.default_rng(seed).standard_normal((count, 64, 64))
    slices = gaussian_filter(noise, (between, 3, 3)).reshape(count, -1)
    slices -= slices.mean(axis=1, keepdims=True)
    return [*(slices / np.linalg.norm(slices, axis=1, keepdims=True)).astype(np.float32)]


def unrelated(count: int, seed: int = 9) -> list[Array]:
    return stack(count, seed, between=0)


def series_of(
    names: Sequence[str], signatures: Sequence[Array], twins: Sequence[Twins] = ()
) -> list[tuple[str, ...]]:
    found = find_series(names, [sound(n) for n in names], signatures, AuditConfig(), twins)
    assert {group.kind for group in found} <= {"series"}
    return [group.ids for group in found]


def numbers_of_blocks(names: Sequence[str], signatures: Sequence[Array]) -> list[int]:
    """Tell of each group found how many blocks it is one of."""
    found = find_series(names, [sound(n) for n in names], signatures, AuditConfig())
    return [group.n_blocks for group in found]


OTHERS = tuple(f"img_{i:04d}" for i in range(1, 41))
NAMES = {
    "slices": [f"patient3_slice{i:03d}" for i in range(8, 18)],
    "numbers without zeros": [f"t{i}" for i in range(5, 15)],
    "sites": [f"A01_s{i}_w1" for i in range(10)],
    "exposures": [f"img_07_exp{1 << i}ms" for i in range(10)],
    "letters": [f"scene12-{letter}" for letter in "abcdefghij"],
    "letters at once": [f"scene12{letter}" for letter in "ABCDEFGHIJ"],
    "folders": [f"week/film/{i}" for i in range(10)],
}


@pytest.mark.parametrize("kind", NAMES)
def test_neighbours_by_name_that_are_alike_are_a_series(kind: str) -> None:
    names = NAMES[kind]
    found = series_of([*OTHERS, *names], unrelated(40) + stack(10, 1))
    assert found == [tuple(sorted(names))]


def test_a_counter_alone_makes_no_series() -> None:
    names = [f"img_{i:04d}" for i in range(1, 547)]
    assert series_of(names, unrelated(546)) == []


@pytest.mark.parametrize(
    "names",
    [
        [
            f"{i * 7919 % 1009:x}".translate(str.maketrans("0123456789", "ghijklmnop"))
            for i in range(10)
        ],
        [f"img_{i}" for i in np.random.default_rng(0).permutation(10)],
    ],
    ids=["no counter", "another order"],
)
def test_likeness_alone_makes_no_series(names: list[str]) -> None:
    found = series_of([*OTHERS, *names], unrelated(40) + stack(10, 1))
    assert all(len(group) < 4 for group in found)


def test_slices_of_two_patients_are_two_series_although_their_anatomy_is_alike() -> None:
    anatomy = np.stack(stack(12, 1, between=3))
    names, signatures = [], []
    for patient in range(6):
        names += [f"patient{patient}_slice{i:02d}" for i in range(12)]
        signatures += [*(anatomy + np.stack(stack(12, 10 + patient, between=3)))]
    expected = [tuple(names[i : i + 12]) for i in range(0, 72, 12)]
    assert series_of(names, signatures) == expected


def test_one_spoilt_slice_stays_among_its_neighbours() -> None:
    slices = stack(10, 1, between=1.5)
    slices[4] = unrelated(1, seed=3)[0]
    assert series_of([*OTHERS, *NAMES["slices"]], unrelated(40) + slices) == [
        tuple(NAMES["slices"])
    ]


def test_pictures_of_another_size_are_of_another_series() -> None:
    names = [*OTHERS, *NAMES["slices"]]
    facts = [sound(name, height=64 + 64 * (name[-1] in "13579")) for name in names]
    found = find_series(names, facts, unrelated(40) + stack(10, 1), AuditConfig())
    assert not any({"patient3_slice008", "patient3_slice009"} <= {*group.ids} for group in found)


def test_a_stack_that_is_the_whole_set_is_cut_into_blocks() -> None:
    names = [f"slice{i:02d}" for i in range(30)]
    blocks = series_of(names, stack(30, 1))
    assert [name for block in blocks for name in block] == names  # intervals, none left out
    assert [len(block) for block in blocks] == pytest.approx([30 / 8] * 8, abs=1)


def test_a_series_of_a_third_of_the_set_is_not_cut() -> None:
    slices = [f"slice{i:02d}" for i in range(20)]
    assert series_of([*OTHERS, *slices], unrelated(40) + stack(20, 1)) == [tuple(slices)]
    assert numbers_of_blocks([*OTHERS, *slices], unrelated(40) + stack(20, 1)) == [1]
    assert numbers_of_blocks([*OTHERS[1:], *slices], unrelated(39) + stack(20, 1)) == [8] * 8


def test_known_twins_are_never_separated_by_a_cut() -> None:
    names = [f"slice{i:02d}" for i in range(30)]
    twins = [Twins((names[i], names[i + 1]), "near") for i in range(1, 29, 2)]
    blocks = series_of(names, stack(30, 1), twins)
    assert sorted(name for block in blocks for name in block) == names
    place = {name: i for i, name in enumerate(names)}
    groups = [*blocks, *(group.ids for group in twins)]
    pairs = [(place[group[0]], place[name]) for group in groups for name in group]
    assert len(connected(30, pairs)) == len(blocks) >= 4


def test_a_film_whose_frames_are_near_copies_can_still_be_split() -> None:
    slices = stack(60, 1, between=2)  # neighbours correlate by 0.94
    names = [f"frame{i}" for i in range(60)]
    twins = find_twins(names, slices, names, AuditConfig())
    assert twins  # the frames are near copies of the next ones
    groups = [*series_of(names, slices, twins), *(group.ids for group in twins)]
    place = {name: i for i, name in enumerate(names)}
    pairs = [(place[group[0]], place[name]) for group in groups for name in group]
    parts = connected(60, pairs)
    assert 4 <= len(parts) <= 8
    assert all(part == list(range(part[0], part[-1] + 1)) for part in parts)


def test_parts_given_by_the_user_win_over_a_series() -> None:
    names = [f"slice{i:02d}" for i in range(30)]
    samples = [sample(name, subset="train" if i < 24 else "test") for i, name in enumerate(names)]
    blocks = find_series(names, [sound(name) for name in names], stack(30, 1), AuditConfig())
    audit = audit_of(samples, *blocks, shares=dict.fromkeys(names, 0.1))
    split = split_samples(audit, SplitConfig())
    assert [s.id for s in split.part("test")] == names[24:]
    validated = [names.index(s.id) for s in split.part("validation")]
    assert validated == list(range(validated[0], validated[0] + len(validated)))  # one block
    assert 3 <= len(validated) <= 4  # of 24


def test_pictures_of_one_fixed_scene_are_no_series() -> None:
    scene, others = unrelated(1, seed=1)[0], unrelated(40, seed=2)
    assert series_of(OTHERS, [3 * scene + other for other in others]) == []


def test_sparse_pictures_that_are_alike_by_chance_are_no_series() -> None:
    rng = np.random.default_rng(3)
    rows, cols = np.mgrid[:64, :64]
    signatures = []
    for _ in range(40):
        row, col = rng.uniform(24, 40, 2)  # one disc, hardly away from the middle
        disc = np.hypot(rows - row, cols - col) < rng.uniform(5, 14)
        image = 60 + 120 * disc + rng.normal(0, 4, disc.shape)
        signatures.append(signature(image.clip(0, 255).astype(np.uint8)[..., None]))
    assert series_of(OTHERS, signatures) == []


def test_order_does_not_matter() -> None:
    names, signatures = [*OTHERS, *NAMES["slices"]], unrelated(40) + stack(10, 1)
    order = np.random.default_rng(0).permutation(50)
    shuffled = series_of([names[i] for i in order], [signatures[i] for i in order])
    assert shuffled == series_of(names, signatures)


def test_nothing_is_sought_when_switched_off_or_among_few() -> None:
    names = NAMES["slices"]
    off = AuditConfig(twins=False)
    assert find_series(names, [sound(n) for n in names], stack(10, 1), off) == ()
    assert series_of(names, stack(10, 1)) != []
    assert series_of(names[:7], stack(7, 1)) == []


def test_blank_pictures_are_no_series() -> None:
    assert series_of(NAMES["slices"], [np.zeros(64 * 64, np.float32)] * 10) == []


@settings(max_examples=40)
@given(st.lists(st.text(max_size=30), min_size=8, max_size=12, unique=True))
def test_any_name_is_read(names: list[str]) -> None:
    found = series_of(names, unrelated(len(names)))
    grouped = [name for group in found for name in group]
    assert len(grouped) == len(set(grouped))
    assert {*grouped} <= {*names}


@pytest.mark.skipif(not REAL.exists(), reason="real data not beside the repository")
def test_real_slices_are_a_series_in_blocks() -> None:
    paths = sorted((REAL / "isbi2012").glob("*/images/*.png"), key=lambda path: path.name)
    signatures = [signature(read_image(path, ImageSpec())) for path in paths]
    blocks = series_of([path.stem for path in paths], signatures)
    assert [name for block in blocks for name in block] == [path.stem for path in paths]
    assert len(blocks) == 8
    mixed = np.random.default_rng(0).permutation(30)
    assert series_of([path.stem for path in paths], [signatures[i] for i in mixed]) == []
