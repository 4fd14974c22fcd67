"""The command ``calco audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calco.exits import BAD_INPUT, speaking
from calco.invocation import read_settings, require_report_name
from calco.options import AsJson, ConfigFile, Data, Quiet, Sets, Verbose


def audit(
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Page (.html, with a .json beside it), or .json alone."),
    ] = None,
    strict: Annotated[bool, typer.Option(help="Exit 1 when there are warnings.")] = False,
    config: ConfigFile = None,
    sets: Sets = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Look for everything that ruins models, and say what to do about it."""
    from calco.files import to_json, write_atomic
    from calco.stages.audit import audit_samples
    from calco.stages.samples import index_samples

    with speaking(verbose, quiet) as terminal:
        settings = read_settings(config, sets)
        require_report_name(out)  # a typo is said before an hour of reading
        index = index_samples(data, settings.data)
        terminal.record(index)
        found = audit_samples(
            index, settings.data, settings.audit, lambda i, n: terminal.step("audit", i, n)
        )
        if out and out.suffix.lower() == ".html":
            from calco.stages.audit_page import write_audit_page

            write_audit_page(found, out)
        elif out:
            write_atomic(out, to_json(found))
        if as_json:
            typer.echo(to_json(found))
        terminal.problems(found.problems)
        if out:
            terminal.say(f"report    {out}")
        if found.errors:
            raise typer.Exit(BAD_INPUT)
        if strict and found.warnings:
            raise typer.Exit(1)
