"""Small data sets drawn from nothing: sound ones, and files in any encoding to spoil them with."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

Array: TypeAlias = NDArray[Any]
Mask: TypeAlias = NDArray[np.bool_]
Builder: TypeAlias = Callable[[Path], None]
"""Writes a data set into a folder that exists."""
Content: TypeAlias = bytes | Callable[[], bytes]

SHAPE = (24, 32)
SOUND = ("a", "b", "c")
NAMES = ("x", *SOUND)


def picture(number: int) -> NDArray[np.uint8]:
    """Draw noise of its own for every number: (24, 32, 3) uint8."""
    return np.random.default_rng(number).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)


def box(number: int) -> Mask:
    """Draw a box of 7 % of the image, elsewhere for every number: (24, 32) bool."""
    mask = np.zeros(SHAPE, bool)
    mask[3 + 2 * number : 9 + 2 * number, 5 + 3 * number : 14 + 3 * number] = True
    return mask


RGB, MASK = picture(0), box(0)  # of the sample that is not quite sound: x
GREY = RGB[..., 0]
SMOOTH = np.stack(  # (24, 32, 3), which JPEG hardly changes
    np.broadcast_arrays(8 * np.arange(24)[:, None], 6 * np.arange(32), 90), axis=-1
).astype(np.uint8)
OPACITY = np.tile(np.where(np.arange(32) < 16, 0, 255).astype(np.uint8), (24, 1))  # (24, 32)


def grey(mask: Mask, high: int = 255) -> NDArray[np.uint8]:
    """Return a mask as 0 and one other value."""
    return mask.astype(np.uint8) * np.uint8(high)


def runs(mask: Mask) -> str:
    """Write a mask pixel by pixel, down the columns from 1, as plainly as can be."""
    flat = mask.ravel(order="F")
    return " ".join(f"{number} 1" for number, inside in enumerate(flat, 1) if inside)


# --- encodings


def encoded(pixels: Array | Image.Image, kind: str = "PNG", **options: Any) -> bytes:  # noqa: ANN401
    """Write an image as Pillow does."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(pixels: Array, **options: Any) -> bytes:  # noqa: ANN401
    """Write a TIFF of any depth."""
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def deep_png(pixels: Array) -> bytes:
    """Write a PNG of 16 bits."""
    return bytes(imagecodecs.png_encode(pixels))


def deepened(pixels: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return the same picture in 16 bits: 255 becomes 65535."""
    return pixels.astype(np.uint16) * np.uint16(257)


def npy(array: Array, allow_pickle: bool = False) -> bytes:
    """Write an array as NumPy does."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def with_palette(indices: NDArray[np.uint8], *colors: tuple[int, int, int]) -> Image.Image:
    """Return a palette image."""
    image = Image.fromarray(indices, mode="P")
    image.putpalette([level for color in colors for level in color])
    return image


def tagged(pixels: Array, orientation: int) -> bytes:
    """Write a PNG with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(np.ascontiguousarray(pixels), exif=exif)


def frames(kind: str, **options: Any) -> bytes:  # noqa: ANN401
    """Write a file of two frames, the first of which is RGB."""
    pictures = [Image.fromarray(RGB), Image.fromarray(picture(9))]
    return encoded(pictures[0], kind, save_all=True, append_images=pictures[1:], **options)


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    """Put a PNG together from names and contents of its chunks."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def png_header(height: int, width: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Write a PNG that claims a size, with further chunks, and has no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return png_of((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"")), (b"IEND", b""))


def half(data: bytes) -> bytes:
    """Cut a file in the middle."""
    return data[: len(data) // 2]


def flipped(data: bytes, at: int) -> bytes:
    """Change one bit of a file."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _suffix(content: Content) -> str:
    head = content[:4] if isinstance(content, bytes) else b""
    kinds = {b"\xff\xd8": ".jpg", b"GIF8": ".gif", b"RIFF": ".webp", b"II*\0": ".tif"}
    kinds |= {b"\x93NUM": ".npy"}
    return next((suffix for magic, suffix in kinds.items() if head.startswith(magic)), ".png")


# --- data sets


def write(root: Path, files: Mapping[str, Content]) -> None:
    """Write files and their folders."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content())


def sound(root: Path) -> None:
    """Write three images and masks with nothing wrong."""
    for number, name in enumerate(SOUND, 1):
        write(root, {f"images/{name}.png": encoded(picture(number))})
        write(root, {f"masks/{name}.png": encoded(grey(box(number)))})


def image(content: Content, name: str = "", mask: Mask = MASK) -> Builder:
    """Add an image and its mask to a sound set; it is named x and as its content is."""
    name = name or "x" + _suffix(content)
    return also({f"images/{name}": content, f"masks/{Path(name).stem}.png": encoded(grey(mask))})


def mask(content: Content, name: str = "") -> Builder:
    """Add an image and its mask to a sound set, the mask as given."""
    return also({"images/x.png": encoded(RGB), f"masks/{name or 'x' + _suffix(content)}": content})


def also(files: Mapping[str, Content]) -> Builder:
    """Add any files to a sound set."""

    def build(root: Path) -> None:
        sound(root)
        write(root, files)

    return build


def only(files: Mapping[str, Content]) -> Builder:
    """Write these files and nothing else."""
    return lambda root: write(root, files)


def images(draw: Callable[[NDArray[np.uint8]], Array | bytes]) -> Builder:
    """Write a set whose images are all stored in one way."""
    return _paired([draw(picture(n)) for n in range(4)], [grey(box(n)) for n in range(4)])


def masks(draw: Callable[[Mask], Array | bytes]) -> Builder:
    """Write a set whose masks are all stored in one way."""
    return _paired([picture(n) for n in range(4)], [draw(box(n)) for n in range(4)])


def _paired(pictures: Sequence[Array | bytes], traced: Sequence[Array | bytes]) -> Builder:
    files: dict[str, Content] = {}
    for role, drawn in (("images", pictures), ("masks", traced)):
        for name, one in zip(NAMES, drawn, strict=True):
            content = one if isinstance(one, bytes) else encoded(one)
            files[f"{role}/{name}{_suffix(content)}"] = content
    return only(files)
