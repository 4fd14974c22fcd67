"""What the training part looks like: sizes, objects, foreground and grain."""

from __future__ import annotations

import math
from dataclasses import dataclass

from calco.records.tables import html_table


@dataclass(frozen=True)
class Quantiles:
    """Where nine tenths of many values lie; NaN of none.

    Attributes:
        low: 5 % are smaller.
        mid: The median.
        high: 5 % are larger.
    """

    low: float = math.nan
    mid: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Fingerprint:
    """What was measured on the training part; NaN where nothing could be, as without any object.

    Lengths are in pixels of the images as they are. Objects are 8-connected parts of a mask; one
    that the picture cuts off counts as it is seen. A median is taken over images unless a figure
    says otherwise.

    Attributes:
        n_images: Training images.
        n_groups: Groups they come from: what the split must not separate counts once.
        n_measured: Images that all but the sizes were measured on.
        channels: Of the images as the network gets them.
        height_px: Of all training images.
        width_px: Of all training images.
        intensity: Of all values of all channels, 0 to 255; every image weighs the same.
        contrast: Chance that a foreground pixel is brighter than one of the background, minus that
            it is darker: 1 when all are brighter, 0 when grey levels tell nothing.
        texture_px: Distance at which the grey levels of an image forget each other.
        empty_fraction: Share of images without foreground.
        foreground_fraction: Of images that have some.
        mean_foreground_fraction: Over all images, empty ones included.
        blank_tile_fraction: Share of an image's tiles of up to 128 px without foreground, mean.
        n_objects: Of images that have some.
        diameter_px: Of all objects: that of the disc with the object's area.
        thickness_px: Along the centre lines of all objects: across a line, or a disc.
        half_scale_dice: Dice of a mask with what half the size leaves of it, mean over images with
            foreground: about what a network that works there can reach at best.
        quarter_scale_dice: The same at a quarter of the size.
    """

    n_images: int
    n_groups: int
    n_measured: int
    channels: int
    height_px: Quantiles
    width_px: Quantiles
    intensity: Quantiles
    contrast: Quantiles
    texture_px: Quantiles
    empty_fraction: float
    foreground_fraction: Quantiles
    mean_foreground_fraction: float
    blank_tile_fraction: float
    n_objects: Quantiles
    diameter_px: Quantiles
    thickness_px: Quantiles
    half_scale_dice: float
    quarter_scale_dice: float

    def rows(self) -> list[tuple[str, str, str]]:
        """List (name, value with its unit, meaning) of every figure, for people."""
        px, share = " px", "%"
        return [
            ("images", str(self.n_images), f"{self.n_measured} of them were measured"),
            ("groups", str(self.n_groups), "that stay on one side of the split"),
            ("channels", str(self.channels), "that the network gets"),
            ("height", _spread(self.height_px, px), "of all images"),
            ("width", _spread(self.width_px, px), "of all images"),
            ("intensity", _spread(self.intensity), "grey levels of all channels, 0 to 255"),
            ("contrast", _spread(self.contrast), "1: objects are brighter, -1: darker, 0: neither"),
            (
                "texture",
                _spread(self.texture_px, px),
                "distance over which pixels resemble each other",
            ),
            ("empty images", _figure(self.empty_fraction, share), "without any foreground"),
            ("foreground", _spread(self.foreground_fraction, share), "of images that have some"),
            ("mean foreground", _figure(self.mean_foreground_fraction, share), "of all images"),
            (
                "blank tiles",
                _figure(self.blank_tile_fraction, share),
                "parts of up to 128 px without foreground",
            ),
            ("objects", _spread(self.n_objects), "in images that have some"),
            ("object diameter", _spread(self.diameter_px, px), "of discs of the same area"),
            ("thickness", _spread(self.thickness_px, px), "across lines, objects and their arms"),
            ("left at half size", _figure(self.half_scale_dice), "Dice that masks themselves keep"),
            (
                "left at a quarter",
                _figure(self.quarter_scale_dice),
                "Dice that masks themselves keep",
            ),
        ]

    def _repr_html_(self) -> str:
        return html_table(self.rows(), header=("figure", "5 % to median to 95 %", "meaning"))


def _spread(values: Quantiles, unit: str = "") -> str:
    """Write quantiles.

    Example:
        >>> _spread(Quantiles(0.011, 0.052, 0.2), "%"), _spread(Quantiles(8, 8, 8), " px")
        ('1.1 to 5.2 to 20 %', '8 px')
    """
    if math.isnan(values.mid):
        return "none"
    written = [_figure(value, unit) for value in (values.low, values.mid, values.high)]
    if len(set(written)) == 1:
        return written[0]
    suffix = " %" if unit == "%" else unit
    return " to ".join(text.removesuffix(suffix) for text in written) + suffix


def _figure(value: float, unit: str = "") -> str:
    """Write a figure to three digits; "none" for NaN.

    Example:
        >>> _figure(1234.5, " px"), _figure(0.0712, "%"), _figure(math.nan)
        ('1234 px', '7.12 %', 'none')
    """
    if math.isnan(value):
        return "none"
    scaled, suffix = (100 * value, " %") if unit == "%" else (value, unit)
    digits = f"{scaled:.0f}" if abs(scaled) >= 1000 else f"{scaled:.3g}"
    return digits + suffix
