"""Weight files that are whole, verified, and of a kind that cannot run code.

Beside ``best.safetensors`` lies its seal ``best.json`` with the sha256 values the file may have.
While a new content replaces an old one the seal lists both, so whenever the process dies, what is
on disk is whole and sealed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from calco.errors import CalcoError, Problem
from calco.files import from_json, sha256_of, to_json, write_atomic


@dataclass(frozen=True)
class Seal:
    """One content that the file may have.

    Attributes:
        sha256: 64 hex digits.
        bytes: Size, so that a message can say whether the file was cut.
    """

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Seals:
    """The JSON beside the file.

    Attributes:
        file: Name of the sealed file.
        accepted: Newest first; two only while a write is under way.
    """

    file: str
    accepted: tuple[Seal, ...]


def write_sealed(path: Path, blob: bytes) -> None:
    """Replace a file and its seal; dying midway leaves the old or the new content, never neither.

    Raises:
        OSError: When the disk is full; the old content stays.
    """
    seal_path = path.with_suffix(".json")
    new = Seal(hashlib.sha256(blob).hexdigest(), len(blob))
    current = sha256_of(path) if path.exists() else ""
    old = [seal for seal in _read_seals(seal_path) if seal.sha256 == current]
    remove_leftovers(path.parent, path.stem)
    write_atomic(seal_path, to_json(Seals(path.name, (new, *old))))  # either may be there now
    write_atomic(path, blob)
    write_atomic(seal_path, to_json(Seals(path.name, (new,))))  # the old one is gone


def read_sealed(path: Path) -> bytes:
    """Return the content of a safetensors file that is what its seal says.

    Raises:
        CalcoError: When the file is missing, may hold code, has no seal, or is damaged.
    """
    try:
        with path.open("rb") as file:
            _refuse_other_kind(file.read(16), path)  # before a foreign giant is read
            file.seek(0)
            blob = file.read()
    except OSError as error:
        problem = Problem(
            "CKPT_READ",
            "cannot read the model",
            str(path),
            got=type(error).__name__,
            do="give a run folder that calco train has finished",
        )
        raise CalcoError(problem) from None
    seal_path = path.with_suffix(".json")
    if not seal_path.exists():
        raise foreign(path, f"no {seal_path.name} with its sha256 beside it")
    seals = _read_seals(seal_path)
    digest = hashlib.sha256(blob).hexdigest()
    if digest not in {seal.sha256 for seal in seals}:
        sealed = " or ".join(f"{seal.sha256[:16]} ({seal.bytes} bytes)" for seal in seals)
        problem = Problem(
            "CKPT_HASH",
            "the model or its seal is damaged",
            str(path),
            got=f"sha256 {digest[:16]} ({len(blob)} bytes)",
            expected=sealed or f"a readable {seal_path.name}",
            do=f"restore it and {seal_path.name} from a copy, or train again",
        )
        raise CalcoError(problem)
    return blob


def foreign(path: Path, got: str) -> CalcoError:
    """Return the error for a file that calco did not write."""
    return CalcoError(
        Problem(
            "CKPT_FOREIGN",
            "not a model written by calco",
            str(path),
            got=got,
            expected="a .safetensors file of calco with its .json",
            do="give the run folder, or copy both files",
        )
    )


def remove_leftovers(folder: Path, stem: str) -> None:
    """Remove what a killed process left unfinished; one process at a time writes a run folder."""
    for leftover in folder.glob(f".{stem}*.tmp"):
        leftover.unlink(missing_ok=True)


def _read_seals(path: Path) -> tuple[Seal, ...]:
    """Return the accepted contents; none when the seal is missing or damaged."""
    try:
        return from_json(Seals, path.read_text(encoding="utf-8"), str(path)).accepted
    except (OSError, UnicodeDecodeError, CalcoError):
        return ()


def _refuse_other_kind(head: bytes, path: Path) -> None:
    """Tell files that may hold code from merely foreign ones, by their first bytes."""
    if head[8:9] == b"{":  # safetensors: eight bytes of length, then JSON
        return
    pickled = head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    if pickled or head.startswith((b"PK\x03\x04", b"c", b"(")):  # c, (: pickles written as text
        problem = Problem(
            "CKPT_UNSAFE",
            "loading this kind of file can run code hidden in it, so calco does not",
            str(path),
            got="a pickle or zip archive (torch.save, TorchScript, Keras)",
            expected="a .safetensors file written by calco",
            do="give the run folder, or train again with calco",
        )
        raise CalcoError(problem)
    if head.startswith((b"\x89HDF", b"\x08")):
        raise foreign(path, "an HDF5 (Keras) or ONNX file")
