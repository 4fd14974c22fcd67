from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from calco.config import DataConfig
from calco.formats.rle import encode, encode_objects, parse_runs
from calco.formats.rle_guess import Guess, ImageRuns, guess_dialect
from calco.images.objects import split_objects
from calco.records import RleDialect

ORDERS: tuple[Literal["column", "row"], ...] = ("column", "row")
BASES: tuple[Literal[0, 1], ...] = (0, 1)


def blobs(size: tuple[int, int], seed: int) -> NDArray[np.bool_]:
    """Draw discs, some of them cut by the border, none at the first or last pixel."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, bool)
    for row, col in [
        (0, size[1] / 2),
        (size[0] - 1, size[1] / 3),
        (size[0] / 2, 0),
        *rng.random((3, 2)) * size,
    ]:
        mask |= (rows - row) ** 2 + (cols - col) ** 2 < 20
    mask[0, 0] = mask[-1, -1] = False
    return mask


def written(masks: Sequence[NDArray[np.bool_]], dialect: RleDialect) -> list[ImageRuns]:
    return [
        ImageRuns(
            Path(f"{n}.png"), (m.shape[0], m.shape[1]), (parse_runs(encode(m, dialect), dialect),)
        )
        for n, m in enumerate(masks)
    ]


def guess(items: Sequence[ImageRuns], config: DataConfig | None = None) -> Guess:
    return guess_dialect(items, RleDialect(), config or DataConfig(), "train.csv")


@pytest.mark.parametrize(("order", "base", "relative"), list(product(ORDERS, BASES, (False, True))))
@pytest.mark.parametrize("size", [(40, 64), (64, 40)])
def test_every_dialect_is_found_on_oblong_images(
    order: Literal["column", "row"], base: Literal[0, 1], relative: bool, size: tuple[int, int]
) -> None:
    dialect = RleDialect(order, base, relative)
    found = guess(written([blobs(size, n) for n in range(6)], dialect))
    assert found.dialect == dialect
    assert found.problems == ()


@pytest.mark.parametrize("order", ORDERS)
def test_square_masks_are_held_against_the_edges_of_the_image(
    tmp_path: Path, order: Literal["column", "row"]
) -> None:
    masks = [blobs((48, 48), n) for n in range(4)]
    items = [
        replace(item, image=tmp_path / item.image) for item in written(masks, RleDialect(order))
    ]
    rng = np.random.default_rng(0)
    for item, mask in zip(items, masks, strict=True):
        noisy = rng.normal(90, 8, mask.shape) + 60 * mask
        cv2.imwrite(str(item.image), noisy.clip(0, 255).astype(np.uint8))
    found = guess(items)
    assert found.dialect.order == order
    assert "edges" in found.reasons[0]


def test_square_masks_on_images_that_say_nothing_are_a_problem(tmp_path: Path) -> None:
    items = [
        replace(item, image=tmp_path / item.image)
        for item in written([blobs((48, 48), n) for n in range(4)], RleDialect())
    ]
    for item in items:
        cv2.imwrite(str(item.image), np.full((48, 48), 128, np.uint8))
    (problem,) = guess(items).problems
    assert (problem.code, problem.severity) == ("RLE_ORDER", "error")
    assert "data.rle_order" in problem.do


def test_first_and_last_pixel_prove_the_base() -> None:
    first, last = np.zeros((4, 6), bool), np.zeros((4, 6), bool)
    first[:2, :2], last[2:, 4:] = True, True
    assert guess(written([first], RleDialect(base=0))).dialect.base == 0
    assert guess(written([last], RleDialect(base=1))).dialect.base == 1


def test_conflicting_proofs_are_a_problem() -> None:
    first, last = np.zeros((4, 6), bool), np.zeros((4, 6), bool)
    first[:2, :2], last[2:, 4:] = True, True
    mixed = written([first], RleDialect(base=0)) + written([last], RleDialect(base=1))
    (problem,) = guess(mixed).problems
    assert (problem.code, problem.severity) == ("RLE_BASE", "error")
    assert problem.got == "0: 1 run from pixel 0; 1: 1 run up to the last pixel counted from 1"
    assert guess(mixed, DataConfig(rle_base=1)).problems == ()


def test_objects_away_from_the_border_leave_the_base_to_custom_with_a_note() -> None:
    middle = np.zeros((20, 30), bool)
    middle[8:12, 10:16] = True
    found = guess(written([middle], RleDialect(base=0)))
    assert found.dialect.base == 1
    (note,) = found.problems
    assert (note.code, note.severity) == ("RLE_BASE", "note")


def test_settings_are_taken_without_question() -> None:
    items = written([blobs((40, 64), 1)], RleDialect("column", 1))
    found = guess(items, DataConfig(rle_order="row", rle_base=0))
    assert (found.dialect.order, found.dialect.base) == ("row", 0)
    assert found.reasons == ("row order as set", "first pixel 0 as set")


def test_objects_in_rows_of_their_own_are_no_relative_starts() -> None:
    mask = blobs((40, 64), 3)
    rows = tuple(
        parse_runs(text, RleDialect()) for text in encode_objects(split_objects(mask), RleDialect())
    )
    found = guess([ImageRuns(Path("a.png"), (40, 64), rows)])
    assert not found.dialect.relative


def test_empty_table_takes_the_usual_dialect() -> None:
    assert guess([]).dialect == RleDialect()
