from calco.errors import CalcoError, Problem
from calco.inference.faults import one_line


def test_an_error_is_one_printable_line() -> None:
    fault = CalcoError(Problem("A", "first", do="mend it"), Problem("B", "second", do="mend it"))
    assert one_line(fault) == "error[A]: first -- mend it"
    assert one_line(RuntimeError("out of\n  memory\x1b[31m")) == (
        "RuntimeError: out of memory\\x1b[31m"
    )
    assert len(one_line(ValueError("x" * 10_000))) < 400
