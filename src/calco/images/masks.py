"""Which mask pixels are foreground: found by looking at the masks, or said in the settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import assert_never

from calco.config import DataConfig
from calco.errors import Problem
from calco.images import mask_faults as faults
from calco.images.mask_files import pack_color, show_color
from calco.images.mask_tallies import (
    PHOTO_VALUES,
    Tally,
    are_photos,
    mean_foreground,
    pixels_between_ends,
    tally_masks,
    total_colors,
    total_values,
)
from calco.records.data import MaskCode, MaskSource, RleMask
from calco.wording import place

_LISTED = 8
_WHITE = 0xFFFFFF
_USUAL = MaskCode("values", values=(255,), background=(0,))

Finding = tuple[MaskCode, tuple[Problem, ...]]


def detect_code(sources: Sequence[MaskSource], config: DataConfig, root: Path) -> Finding:
    """Find the code of a data set's masks, or take it from the settings.

    Two-valued codes, one colour on black, shapes kept in the transparency and cleanly smeared
    (JPEG) masks are detected; everything else is an error that shows what was found and names
    the setting that decides. Files that cannot be read are passed over: the audit names them.

    Args:
        sources: Masks of all labelled samples.
        config: ``foreground*``, ``threshold`` and ``invert`` win over detection.
        root: Data root, for the paths in messages.

    Returns:
        The code, with a note for people, and what was noticed. After an error the code is a guess
        under which every file can be read, so that the audit can go on.
    """
    said, problems = _said(config)
    files = [source for source in sources if not isinstance(source, RleMask)]
    tallies = tally_masks(files, config.max_megapixels)
    if not tallies:
        return replace(_without_looking(sources, said), invert=config.invert), problems
    where = place(tallies[0].path, root)
    code, found = (said, ()) if said else _detected(tallies, root)
    code = replace(code, invert=config.invert)
    if any(p.severity == "error" for p in found):
        return replace(code, note="what is foreground is undecided"), problems + found
    share = mean_foreground(tallies, code)
    if share == 0:
        found += (faults.all_empty(len(tallies), where),)
    if share == 1:
        found += (faults.all_full(len(tallies), where),)
    return replace(code, note=_note(code, tallies, share)), problems + found


def _without_looking(sources: Sequence[MaskSource], said: MaskCode | None) -> MaskCode:
    if any(isinstance(source, RleMask) for source in sources):
        return MaskCode("rle", note="run-length encoded")
    return replace(said or _USUAL, note="no readable mask" if sources else "no masks")


def _said(config: DataConfig) -> tuple[MaskCode | None, tuple[Problem, ...]]:
    """Return the code of the settings, if they give one."""
    codes: dict[str, MaskCode] = {}
    if config.foreground_channel is not None:
        codes["data.foreground_channel"] = MaskCode("alpha")
    if config.foreground_color is not None:
        codes["data.foreground_color"] = MaskCode("color", color=config.foreground_color)
    if config.foreground is not None:
        codes["data.foreground"] = MaskCode("values", values=config.foreground)
    if config.threshold is not None:
        codes["data.threshold"] = MaskCode("threshold", threshold=config.threshold)
    problems = (faults.conflict(", ".join(codes)),) if len(codes) > 1 else ()
    return next(iter(codes.values()), None), problems


def _detected(tallies: Sequence[Tally], root: Path) -> Finding:
    colors, where = total_colors(tallies), place(tallies[0].path, root)
    if any(t.opaque is not None and 0 < t.opaque < 1 for t in tallies):
        if len(colors) == 1 and all(t.opaque is not None for t in tallies):
            return MaskCode("alpha"), ()
        if not all(t.alpha_agrees for t in tallies):
            return _guessed_color(colors), (faults.alpha_unclear(where),)
    # a palette of one colour shows nothing; its indices still do
    one_color_palette = len(colors) == 1 and all(t.values is not None for t in tallies)
    if one_color_palette or all(t.colors is None for t in tallies):
        return _detected_values(total_values(tallies), tallies, root)
    # elsewhere palettes are read by their colours, since programs order them file by file
    return _detected_colors(colors, tallies, root)


def _detected_values(counts: Mapping[float, int], tallies: Sequence[Tally], root: Path) -> Finding:
    found, where = sorted(counts), place(tallies[0].path, root)
    natural = all(v == int(v) and v >= 0 for v in found)
    match found:
        case [0]:
            return _USUAL, ()  # reported as empty
        case [only] if natural:
            return MaskCode("values", values=(int(only),), background=(0,)), ()
        case [low, high] if natural:
            code = MaskCode("values", values=(int(high),), background=(int(low),))
            return code, (faults.no_zero(int(low), int(high), where),) if low else ()
        case [low, high]:
            return MaskCode("threshold", threshold=(low + high) / 2), ()
    if (between := pixels_between_ends(counts)) is not None:
        return MaskCode("threshold", threshold=127), (faults.smeared(between, counts, where),)
    guess = MaskCode("threshold", threshold=(found[0] + found[-1]) / 2)
    if are_photos(tallies):
        return guess, (faults.photos(len(found), "values", where),)
    if natural and (len(found) < PHOTO_VALUES or found == list(range(len(found)))):
        return guess, (faults.classes(counts, tallies, root),)
    return guess, (faults.many_values(counts, where),)


def _detected_colors(counts: Mapping[int, int], tallies: Sequence[Tally], root: Path) -> Finding:
    where = place(tallies[0].path, root)
    match sorted(counts):
        case [only]:
            return _color_code(only or _WHITE, background=0), ()
        case [0, color]:
            return _color_code(color, background=0), ()
        case [color, white] if white == _WHITE:
            code = _color_code(color, background=_WHITE)
            return code, (faults.white_ground(color, where),)
    if are_photos(tallies):
        return _guessed_color(counts), (faults.photos(len(counts), "colours", where),)
    return _guessed_color(counts), (faults.many_colors(counts, tallies, root),)


def _color_code(color: int, background: int) -> MaskCode:
    rgb = (color >> 16, color >> 8 & 255, color & 255)
    return MaskCode("color", color=rgb, background=(background,))


def _guessed_color(counts: Mapping[int, int]) -> MaskCode:
    """Return the commonest colour after the background, on anything."""
    common = sorted(counts, key=lambda color: -counts[color])
    return replace(_color_code(common[min(1, len(common) - 1)], 0), background=())


def _note(code: MaskCode, tallies: Sequence[Tally], share: float) -> str:
    match code.kind:
        case "values":
            seen = sorted(set().union(*(t.values or () for t in tallies)))
            listed = ", ".join(f"{v:g}" for v in seen[:_LISTED])
            more = ", ..." if len(seen) > _LISTED else ""
            chosen = " or ".join(str(v) for v in code.values)
            text = f"values {{{listed}{more}}}: foreground is {chosen}"
        case "threshold":
            text = f"foreground is every value above {code.threshold:g}"
        case "color":
            text = f"foreground is the colour {show_color(pack_color(code.color))}"
        case "alpha":
            text = "foreground is what is opaque"
        case "rle":
            text = "run-length encoded"
        case _:
            assert_never(code.kind)
    return f"{text}{', then inverted' if code.invert else ''}, {100 * share:.3g} % of pixels"
