"""Messages are one line, whatever is put into them."""

from __future__ import annotations

import pytest

from calco.errors import CalcoError, Problem, StoppedError, printable


def test_all_parts_come_in_order() -> None:
    problem = Problem("MASK_SIZE", "sizes differ", "a/07.png", "640x480", "640x479", "fix the file")
    assert str(problem) == (
        "error[MASK_SIZE] a/07.png: sizes differ; got 640x480; expected 640x479 -- fix the file"
    )


def test_empty_parts_leave_no_trace() -> None:
    assert str(Problem("X", "what", severity="note")) == "note[X]: what"


@pytest.mark.parametrize("hostile", ["a\nerror[FAKE]: b", "\x1b[31mred", "\rover", "\u202egpj.exe"])
def test_a_file_name_forges_neither_lines_nor_colours(hostile: str) -> None:
    line = str(Problem("X", "bad file", where=hostile, got=hostile))
    assert line.isprintable()
    assert len(line.splitlines()) == 1


def test_every_text_of_a_problem_is_printable_where_it_is_kept() -> None:
    hostile = "a\n\udce9"
    problem = Problem("X", hostile, hostile, hostile, hostile, hostile)
    texts = (problem.what, problem.where, problem.got, problem.expected, problem.do)
    assert set(texts) == {"a\\n\\udce9"}


def test_printable_keeps_letters_of_all_scripts() -> None:
    assert printable("célula 細胞.png") == "célula 細胞.png"
    assert printable("tab\t") == "tab\\t"


def test_an_error_lists_every_problem() -> None:
    error = CalcoError(Problem("A", "first"), Problem("B", "second"))
    assert str(error) == "error[A]: first\nerror[B]: second"
    assert [p.code for p in error.problems] == ["A", "B"]


def test_being_stopped_is_not_bad_input() -> None:
    assert not issubclass(StoppedError, CalcoError)
