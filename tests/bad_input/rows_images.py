"""Rows 1 to 22: files that are no images, and images of every unusual kind."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from .drawing import (
    GREY,
    MASK,
    OPACITY,
    RGB,
    SHAPE,
    SMOOTH,
    Array,
    deep_png,
    deepened,
    encoded,
    flipped,
    frames,
    grey,
    half,
    image,
    images,
    mask,
    png_header,
    tagged,
    tiff,
    with_palette,
)
from .matrix import Accepted, Refused, Row

PNG, JPEG = encoded(RGB), encoded(RGB, "JPEG", quality=95)
DEEP_GREY, DEEP_RGB = deepened(GREY), deepened(RGB)
NAN = np.where(np.arange(32) == 7, np.nan, np.zeros(SHAPE)).astype(np.float32)
TILE = np.full((*SHAPE, 3), (200, 100, 50), np.uint8)
LINE = np.random.default_rng(0).integers(0, 256, (1, 5000, 3), dtype=np.uint8)
LINE_MASK = LINE[..., 0] > 127
INDICES = (GREY % 3).astype(np.uint8)
COLORS = ((0, 0, 0), (250, 10, 20), (1, 2, 3))
PALETTE = np.array(COLORS, np.uint8)
DOT = MASK[:1, :1]
SEEN = np.where(OPACITY[..., None], RGB, 0).astype(np.uint8)  # its left half is transparent

# how a picture lies in the file of a camera that was held so: EXIF 2.32, tag 0x0112
TURNED = {
    2: RGB[:, ::-1],
    3: RGB[::-1, ::-1],
    4: RGB[::-1],
    5: RGB.swapaxes(0, 1),
    6: np.rot90(RGB, 1),
    7: RGB[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90(RGB, -1),
}
SVG, PAGE = b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<!DOCTYPE html><title>404</title>"
STRANGERS = {
    "eps": ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0"),
    "pdf": ("a PDF", b"%PDF-1.7"),
    "fits": ("FITS", b"SIMPLE  =                    T"),
    "wmf": ("a WMF drawing", b"\xd7\xcd\xc6\x9a\0\0"),
    "svg": ("an SVG drawing", SVG),
    "photoshop": ("a Photoshop file", b"8BPS\0\1"),
    "heic": ("a HEIC or AVIF photo", b"\0\0\0\x18ftypheic"),
}

X, X_JPG, X_TIF, TRUTH = "images/x.png", "images/x.jpg", "images/x.tif", "masks/x.png"
AGAIN, CONVERT, FRAME = "copy it again", "convert it to PNG", "data.frame: 0"
LIMIT = "data.max_megapixels"
SRGB = "brought to sRGB by its colour profile"
FIRST_NAN = "24 NaN or infinite values, first at (row, col) = (0, 7)"
MIXED = Accepted(GREY, code="IMG_CHANNEL_MIX", told="1 with 1, 3 with 3")
LEFT_OUT = Accepted(mask=None, sample="a", code="IMG_EMPTY", told="zero bytes; left out")
SWOLLEN = Refused("IMG_METADATA", X, "exiftool -all=", peak_mb=16)
SIDEWAYS = Refused("MASK_SIZE", TRUTH, "exiftool -Orientation=", "mask 32 x 24 24 x 32 (H x W)")
TURNED_MASK = Refused("MASK_EXIF", TRUTH, "mogrify -auto-orient FILE", "orientation 3")
BLACK = "transparency composited on black"


def swollen_text() -> bytes:
    """Write a PNG with a text of 100 MB, which is 100 kB as long as it is compressed."""
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(1_000_000)) for _ in range(100)) + packer.flush()
    return png_header(*SHAPE, (b"zTXt", b"note\0\0" + packed))


def wrong_crc(png: bytes) -> bytes:
    """Damage the checksum of the chunk of pixels, not the pixels."""
    start = png.index(b"IDAT")
    return flipped(png, start + 4 + int.from_bytes(png[start - 4 : start]))


def cmyk(**options: Any) -> bytes:  # noqa: ANN401
    """Print a picture with three inks, in a JPEG that is inverted as Adobe's are."""
    ink = Image.fromarray(SMOOTH).convert("CMYK")
    return encoded(ink, "JPEG", quality=100, subsampling=0, **options)


def lab() -> bytes:
    """Write a picture in CIE Lab."""
    srgb, target = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(Image.fromarray(TILE), srgb, target, outputMode="LAB")
    assert converted is not None
    return encoded(converted, "TIFF")


def grey_alpha() -> bytes:
    """Write a grey picture whose left half is transparent."""
    return encoded(Image.fromarray(np.dstack([GREY, OPACITY]), mode="LA"))


def profile(swapped: bool = False) -> bytes:
    """Return sRGB, or sRGB in which red and green have changed their names."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, other in ((b"rXYZ", b"...."), (b"gXYZ", b"rXYZ"), (b"....", b"gXYZ")):
        data = data.replace(name, other) if swapped else data
    return data


SWAPPED = profile(swapped=True)


def with_profile(icc: bytes) -> bytes:
    """Write a picture that claims a colour profile."""
    return encoded(RGB, icc_profile=icc)


def too_large(where: str, shows: str) -> Refused:
    """Refused by its header, before memory is taken for it."""
    return Refused("IMG_SIZE", where, LIMIT, shows, peak_mb=16)


def noted(pixels: Array, told: str, within: int = 0) -> Accepted:
    """Read as drawn, with a note of what was converted."""
    return Accepted(pixels, within=within, code="IMG_NOTE", told=told)


def framed(kind: str, suffix: str, **options: Any) -> Row:  # noqa: ANN401
    """Two pictures in one file."""
    refused = Refused("IMG_FRAMES", f"images/x{suffix}", FRAME, "file has 2 frames")
    return Row(20, f"two-frames-{kind.lower()}", image(frames(kind, **options)), refused)


IMAGES = (
    Row(1, "no-bytes", image(b""), Refused("IMG_EMPTY", X, "copy it again or remove it")),
    Row(1, "no-bytes-left-out", image(b""), LEFT_OUT, {"on_bad": "skip"}),
    Row(2, "half-jpeg", image(half(JPEG)), Refused("IMG_TRUNCATED", X_JPG, AGAIN)),
    Row(3, "half-png", image(half(PNG)), Refused("IMG_TRUNCATED", X, AGAIN)),
    Row(3, "flipped-bit", image(flipped(PNG, len(PNG) // 2)), Refused("IMG_TRUNCATED", X, AGAIN)),
    Row(3, "crc-of-header", image(flipped(PNG, 30)), Refused("IMG_TRUNCATED", X, AGAIN)),
    Row(3, "crc-of-pixels", image(wrong_crc(PNG)), Refused("IMG_TRUNCATED", X, AGAIN, "CRC error")),
    Row(4, "web-page", image(PAGE, "x.jpg"), Refused("IMG_FORMAT", X_JPG, "download", "web page")),
    Row(4, "first-bytes", image(PAGE), Refused("IMG_FORMAT", X, CONVERT, "b'<!DOCTYPE html><")),
    Row(4, "text", image(b"not found"), Refused("IMG_FORMAT", X, CONVERT, "looks like text")),
    Row(5, "png-named-jpg", image(PNG, "x.jpg"), noted(RGB, "is PNG though named .jpg")),
    Row(6, "144-megapixels", image(png_header(12000, 12000)), too_large(X, "144 megapixels")),
    Row(7, "70-bytes", image(png_header(30000, 30000)), too_large(X, "30000 x 30000 (H x W)")),
    Row(7, "70-bytes-mask", mask(png_header(30000, 30000)), too_large(TRUTH, "900 megapixels")),
    *(
        Row(8, f"{kind}-named-png", image(content), Refused("IMG_FORMAT", X, CONVERT, guess))
        for kind, (guess, content) in STRANGERS.items()
    ),
    Row(8, "svg", image(SVG, "x.svg"), Refused("ORPHAN_MASK", "masks", "convert those", "1 .svg")),
    Row(9, "text-of-100-mb", image(swollen_text), SWOLLEN),
    *(
        Row(number, f"exif-{n}", image(tagged(TURNED[n], n)), noted(RGB, f"EXIF orientation {n}"))
        for number, n in ((10, 5), (10, 6), (10, 7), (10, 8), (11, 2), (11, 3), (11, 4))
    ),
    Row(10, "exif-6-and-mask-without", image(tagged(TURNED[6], 6), mask=np.rot90(MASK)), SIDEWAYS),
    Row(12, "exif-on-the-mask", mask(tagged(grey(MASK), 3)), TURNED_MASK),
    Row(13, "16-bit-png", images(lambda rgb: deep_png(deepened(rgb[..., 0]))), Accepted(DEEP_GREY)),
    Row(13, "16-bit-tiff", images(lambda rgb: tiff(deepened(rgb[..., 0]))), Accepted(DEEP_GREY)),
    Row(14, "16-bit-rgb-png", images(lambda rgb: deep_png(deepened(rgb))), Accepted(DEEP_RGB)),
    Row(15, "nan-in-tiff", image(tiff(NAN)), Refused("IMG_NONFINITE", X_TIF, "replace", FIRST_NAN)),
    Row(16, "cmyk-of-adobe", image(cmyk()), noted(SMOOTH, "converted from CMYK to RGB", 3)),
    Row(17, "transparency", image(encoded(np.dstack([RGB, OPACITY]))), noted(SEEN, BLACK)),
    Row(18, "grey-with-alpha", image(grey_alpha()), noted(SEEN[..., 0], BLACK)),
    Row(18, "one-bit", image(encoded(MASK)), Accepted(grey(MASK))),
    Row(18, "palette", image(encoded(with_palette(INDICES, *COLORS))), Accepted(PALETTE[INDICES])),
    Row(19, "grey-among-rgb", image(encoded(GREY)), MIXED),
    framed("GIF", ".gif"),
    framed("PNG", ".png"),
    framed("WEBP", ".webp", lossless=True),
    framed("TIFF", ".tif"),
    Row(20, "first-page", image(frames("TIFF")), Accepted(RGB), {"frame": 0}),
    Row(21, "one-pixel", image(encoded(RGB[:1, :1]), mask=DOT), Accepted(RGB[:1, :1], DOT)),
    Row(21, "one-line", image(encoded(LINE), mask=LINE_MASK), Accepted(LINE, LINE_MASK)),
    Row(22, "lab", image(lab()), noted(TILE, "converted from LAB to RGB", within=3)),
    Row(22, "foreign-profile", image(with_profile(SWAPPED)), noted(RGB[..., [1, 0, 2]], SRGB, 2)),
    Row(22, "srgb-profile", image(with_profile(profile())), Accepted(RGB)),
    Row(22, "half-a-profile", image(with_profile(profile()[:300])), noted(RGB, "is broken")),
    Row(22, "cmyk-profile", image(cmyk(icc_profile=b"no")), noted(SMOOTH, "profile is broken", 3)),
)
