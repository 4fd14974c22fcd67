import hashlib
import json
import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from calco.errors import CalcoError
from calco.nets.sealed import read_sealed, write_sealed

OLD = b"\x02\0\0\0\0\0\0\0{}" + b"old weights" * 10_000
NEW = b"\x02\0\0\0\0\0\0\0{}" + b"new weights" * 10_000
STEPS = ("open", "fsync", "replace", "unlink")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "best.safetensors"
    write_sealed(path, OLD)
    return path


def _in_child(action: Callable[[], None]) -> int:
    """Run in a forked process and return its exit code; 9 stands for killed."""
    pid = os.fork()
    if not pid:
        try:
            action()
        except BaseException:  # noqa: BLE001 - nothing may escape into pytest's own loop
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _die_before_step(number: int) -> None:
    """Make the n-th call of any of STEPS end this process at once, without any clean-up."""
    done = 0

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*args: object, **keywords: object) -> object:
            nonlocal done
            if done == number:
                os._exit(9)
            done += 1
            return call(*args, **keywords)

        return wrapper

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))


def _names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_reads_what_was_written(path: Path) -> None:
    assert read_sealed(path) == OLD
    write_sealed(path, NEW)
    assert read_sealed(path) == NEW
    assert _names(path.parent) == ["best.json", "best.safetensors"]


def test_seal_is_one_sha256_that_other_tools_can_check(path: Path) -> None:
    seal = json.loads(path.with_suffix(".json").read_text())
    digest = hashlib.sha256(OLD).hexdigest()
    assert seal == {
        "file": "best.safetensors",
        "accepted": [{"sha256": digest, "bytes": len(OLD)}],
    }


def test_killed_between_any_two_steps_leaves_a_whole_model(path: Path) -> None:
    seen = set()
    for number in range(100):

        def replace_and_die(number: int = number) -> None:
            _die_before_step(number)
            write_sealed(path, NEW)

        code = _in_child(replace_and_die)
        content = read_sealed(path)  # raises when neither is left
        assert content in (OLD, NEW)
        seen.add(content)
        write_sealed(path, OLD)  # the next start
        assert read_sealed(path) == OLD
        assert _names(path.parent) == ["best.json", "best.safetensors"]
        if code == 0:
            break
        assert code == 9
    assert number > 12  # three files, each opened, synced, renamed, its folder synced
    assert seen == {OLD, NEW}


def test_killed_again_and_again_does_not_forget_the_old_one(path: Path) -> None:
    for number in range(10):

        def replace_and_die(number: int = number) -> None:
            _die_before_step(6)  # the seal is written, the weights are not
            write_sealed(path, NEW + bytes([number]))

        assert _in_child(replace_and_die) == 9
        assert read_sealed(path) == OLD
    assert len(json.loads(path.with_suffix(".json").read_text())["accepted"]) == 2


def test_full_disk_leaves_the_old_model_and_no_litter(path: Path) -> None:
    def replace_on_a_full_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        with pytest.raises(OSError, match="too large"):
            write_sealed(path, NEW)

    assert _in_child(replace_on_a_full_disk) == 0
    assert read_sealed(path) == OLD
    assert _names(path.parent) == ["best.json", "best.safetensors"]


def test_file_mode_follows_the_umask(path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_sealed(path, NEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("offset", [0, 1, 7, 8, 9, 10, 5_000, len(OLD) - 1])
@pytest.mark.parametrize("bit", [0, 4, 7])
def test_a_flipped_bit_is_found(path: Path, offset: int, bit: int) -> None:
    damaged = bytearray(OLD)
    damaged[offset] ^= 1 << bit
    path.write_bytes(damaged)
    with pytest.raises(CalcoError, match=r"CKPT_HASH.*best\.safetensors"):
        read_sealed(path)


@pytest.mark.parametrize("length", [0, 5, 10, len(OLD) - 1])
def test_a_cut_file_is_found(path: Path, length: int) -> None:
    path.write_bytes(OLD[:length])
    with pytest.raises(CalcoError, match=rf"CKPT_HASH.*\({length} bytes\)"):
        read_sealed(path)


@pytest.mark.parametrize("seal", ["", "{", '{"file": "x", "accepted": []}', "[1]", "\0"])
def test_a_damaged_seal_is_found(path: Path, seal: str) -> None:
    path.with_suffix(".json").write_text(seal)
    with pytest.raises(CalcoError, match="CKPT_HASH"):
        read_sealed(path)


def test_without_its_seal_a_file_is_foreign(path: Path) -> None:
    path.with_suffix(".json").unlink()
    with pytest.raises(CalcoError, match=r"CKPT_FOREIGN.*no best\.json"):
        read_sealed(path)


def test_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(CalcoError, match=r"CKPT_READ.*FileNotFoundError"):
        read_sealed(tmp_path / "best.safetensors")


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"PK\x03\x04rest of a zip archive", "CKPT_UNSAFE"),
        (b"\x80\x02}q\x00.", "CKPT_UNSAFE"),
        (b"\x80\x05\x95\x0b\x00\x00\x00\x00\x00\x00\x00", "CKPT_UNSAFE"),
        (b"cposix\nsystem\np0\n", "CKPT_UNSAFE"),
        (b"(lp0\nI1\na.", "CKPT_UNSAFE"),
        (b"\x89HDF\r\n\x1a\n\0\0\0\0", "CKPT_FOREIGN"),
        (b"\x08\x08\x12\x07pytorch", "CKPT_FOREIGN"),
    ],
)
def test_other_kinds_are_refused_even_under_a_valid_seal(
    path: Path, head: bytes, code: str
) -> None:
    write_sealed(path, head)
    with pytest.raises(CalcoError, match=code):
        read_sealed(path)
