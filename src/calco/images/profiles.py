"""Colours as sRGB, whatever colour profile a file carries.

The same colour has other numbers in the profiles of a camera, a scanner and a press. Networks are
fed numbers, so images of mixed sources are brought to one meaning of them, in training as later.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

MAX_PROFILE_BYTES = 8_000_000
"""Profiles of printing presses have up to 3 MB; larger ones are not opened."""
UNSEEN = 2
"""Levels of 255 by which the many copies of sRGB differ from each other."""

_STEPS = np.linspace(0, 255, 6).astype(np.uint8)
_PROBE = np.stack(np.meshgrid(_STEPS, _STEPS, _STEPS), axis=-1).reshape(1, -1, 3)  # (1, 216, 3)
_FAULTS = (ImageCms.PyCMSError, OSError, TypeError, ValueError)
_APPLIED = "brought to sRGB by its colour profile"
_NOT_APPLIED = "has a colour profile that is broken or of other channels, and not applied"
_TOO_DEEP = "has a colour profile that is not applied to more than 8 bits"


def to_srgb(values: NDArray[Any], profile: bytes) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Bring an image to sRGB by its embedded profile.

    Args:
        values: (H, W) grey or (H, W, C) in RGB order; only 8-bit ones are converted.
        profile: ICC profile as the file holds it.

    Returns:
        The converted image, or the very same one when its profile is sRGB under any name or cannot
        be applied; and what there is to say, for people. No profile is an error.
    """
    mode = "L" if profile[16:20] == b"GRAY" else "RGB"
    plain = values.ndim == 2 or (values.shape[2] == 3 and mode == "RGB")
    try:
        transform = _transform(profile, mode) if plain else None
    except _FAULTS:
        transform = None
    if transform is None:
        return values, (_NOT_APPLIED,)
    if _is_identity(transform):
        return values, ()
    if values.dtype != np.uint8:
        return values, (_TOO_DEEP,)
    return _applied(transform, values), (_APPLIED,)


def to_rgb(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Turn a CMYK, Lab or YCbCr image into RGB, CMYK by its profile; any other stays as it is.

    Returns:
        The image, with the profile its colours are then in, and what was done, for people.
    """
    if image.mode not in ("CMYK", "LAB", "YCbCr"):
        return image, ()
    note = f"converted from {image.mode} to RGB"
    if image.mode == "LAB":
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        return ImageCms.ImageCmsTransform(lab, _srgb(), "LAB", "RGB").apply(image), (note,)
    profile = image.info.get("icc_profile")
    if image.mode == "CMYK" and profile:
        try:
            return _transform(profile, "CMYK").apply(image), (f"{note} by its colour profile",)
        except _FAULTS:
            note += "; its colour profile is broken or of other channels, and not applied"
    rgb = image.convert("RGB")  # Pillow has undone Adobe's inversion of CMYK
    if image.mode == "CMYK":
        rgb.info.pop("icc_profile", None)
    return rgb, (note,)


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    """Build the way from a profile to sRGB; the files of a data set mostly share one."""
    if len(profile) > MAX_PROFILE_BYTES:
        raise ValueError("the profile is too large")
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.ImageCmsTransform(source, _srgb(), mode, "RGB")


def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _is_identity(transform: ImageCms.ImageCmsTransform) -> bool:
    probe = _PROBE if transform.input_mode == "RGB" else _STEPS[None]
    change = np.abs(_applied(transform, probe).astype(int) - probe)
    return bool(change.max() <= UNSEEN)


def _applied(transform: ImageCms.ImageCmsTransform, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    grey = values.ndim == 2
    if grey and transform.input_mode == "RGB":  # the greys of a profile that knows colours
        values = np.dstack([values] * 3)
    picture = Image.fromarray(np.ascontiguousarray(values))
    rgb: NDArray[np.uint8] = np.asarray(transform.apply(picture))  # (H, W, 3)
    return rgb[..., 1] if grey else rgb
