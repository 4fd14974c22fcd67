"""Work ahead of who needs it: in order, bounded, and ended by the first fault."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from calco.ahead import in_order


def test_results_keep_the_order_of_the_items() -> None:
    def work(item: int) -> int:
        time.sleep(0.02 * (item == 0))  # the first is done last
        return -item

    assert list(in_order(work, range(5), threads=3, ahead=3)) == [0, -1, -2, -3, -4]


def test_no_more_items_are_begun_than_asked_for() -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            drawn.append(number)
            yield number

    results = in_order(str, items(), threads=2, ahead=3)
    assert next(results) == "0"
    assert drawn == [0, 1, 2, 3]


def test_a_fault_is_raised_where_its_result_is_due_and_ends_the_rest() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        return 1 // (item - 2)

    results = in_order(work, range(100), threads=1, ahead=2)
    assert [next(results), next(results)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(begun) <= 5
