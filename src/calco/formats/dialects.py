"""Named run-length dialects of well-known competitions."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from calco.errors import CalcoError, Problem
from calco.records import RleDialect

# What stands in quotation marks is from the competition's evaluation page. Where page and
# published masks disagree, the masks decide, because they are what the score is computed from.
# From memory, since their pages could not be read again: Carvana, DSB 2018 and Severstal.
PRESETS: Mapping[str, RleDialect] = MappingProxyType(
    {
        # "top to bottom, then left to right: 1 is pixel (1,1), 2 is pixel (2,1)"; ships of one
        # image must not overlap; no ship is a blank cell
        "airbus": RleDialect(per_object=True, columns=("ImageId", "EncodedPixels")),
        # train_masks.csv starts one car at 879386, 881253, 883140: steps near the image width of
        # 1918, not its height of 1280, so pixels run along the rows; ids end in .jpg
        "carvana": RleDialect(order="row", columns=("img", "rle_mask")),
        # "numbered from top to bottom, then left to right"; "Empty predictions must be marked
        # with '-'"
        "contrails": RleDialect(empty="-", columns=("record_id", "encoded_pixels")),
        # "one-indexed and numbered from top to bottom, then left to right"; one row per nucleus
        "dsb2018": RleDialect(per_object=True, columns=("ImageId", "EncodedPixels")),
        # "top to bottom, then left to right"; "the masks for all objects in an image are joined"
        # (2020/21); the page shows the columns img,pixels, but its files have id,predicted
        "hubmap": RleDialect(columns=("id", "predicted")),
        # "top to bottom, then left to right"; ids are <file>_<class>, one row for each
        "severstal": RleDialect(columns=("ImageId_ClassId", "EncodedPixels")),
        # "pixel locations are measured from the end of the previous run"; the first counts from
        # 0, down the columns; no pneumothorax is -1
        "siim": RleDialect(base=0, relative=True, empty="-1", columns=("ImageId", "EncodedPixels")),
        # "one-indexed and numbered from top to bottom, then left to right"
        "tgs": RleDialect(columns=("id", "rle_mask")),
        # the page says top to bottom, but train.csv only shows organs when read along the rows,
        # as its public notebooks do; a third column, class, comes from the template
        "uwmadison": RleDialect(order="row", columns=("id", "predicted")),
        # "from left to right, then top to bottom: 1 is pixel (1,1), 2 is pixel (1,2)"
        "vesuvius": RleDialect(order="row", columns=("Id", "Predicted")),
    }
)


def dialect(name: str) -> RleDialect:
    """Return the preset of a competition.

    Raises:
        CalcoError: ``RLE_DIALECT`` with the nearest name when there is no such preset.

    Example:
        >>> dialect("siim").relative
        True
    """
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name.casefold(), PRESETS, n=1, cutoff=0.5)
    raise CalcoError(
        Problem(
            "RLE_DIALECT",
            "unknown competition preset",
            got=repr(name),
            expected="one of " + ", ".join(PRESETS),
            do=f"did you mean {near[0]}?" if near else "give a sample_submission.csv instead",
        )
    )
