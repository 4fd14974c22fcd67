"""No name ever holds half a file, and tables say what was put into them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from calco.errors import CalcoError
from calco.files import atomic_file, read_csv, sha256_of, write_atomic, write_csv

# --- whole files -----------------------------------------------------------------------------


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    write_atomic(path, b"new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    with pytest.raises(TypeError), atomic_file(path) as file:
        file.writelines([b"half of the new", "not bytes"])  # type: ignore[list-item]
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_the_writer_can_read_back_before_the_name_exists(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_file(path) as file:
        file.write(b"123")
        file.seek(0)
        assert file.read() == b"123"
        assert not path.exists()
    assert path.read_bytes() == b"123"


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from calco.files import write_atomic\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    write_atomic(Path(sys.argv[1]), b'x' * 100_000)\n"
        "except OSError as error:\n    print(error.errno)\n"
    )
    path = tmp_path / "a.bin"
    write_atomic(path, b"old")
    run = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip().isdigit()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_kill_before_the_rename_keeps_the_old_file(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from calco.files import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "a.bin"
    write_atomic(path, b"old")
    run = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert run.returncode == -9
    assert path.read_bytes() == b"old"


def test_a_planted_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("untouched")
    path = tmp_path / "out.txt"
    path.symlink_to(secret)
    write_atomic(path, "mine")
    assert secret.read_text() == "untouched"
    assert not path.is_symlink()


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a", "")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_name_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 125 + ".png")  # 254 bytes
    write_atomic(path, "x")
    assert path.read_text() == "x"


def test_sha256_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223")


# --- tables ----------------------------------------------------------------------------------

CELLS = ["0001", "NA", "1e5", "true", "=1+1", "+3", "@x", "-7", "'quoted", "a,b", 'say "x"', "l\nf"]


def test_every_text_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_csv(path, ("id", "n"), [(cell, 1) for cell in CELLS])
    assert [row["id"] for row in read_csv(path)] == CELLS


@pytest.mark.parametrize(
    "cell", ["=1+1", "+3", "@x", "-1+1", "\tx", "\rx", "\n=1", "\uff1d1", "=cmd|' /C calc'!A0"]
)
def test_formulas_are_inert_on_disk(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "a.csv"
    write_csv(path, ("id", "message"), [("a", cell)])
    line = path.read_bytes().decode().split("\n", 1)[1]
    assert line.removeprefix("a,").removeprefix('"').startswith("'")


def test_a_table_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "long.csv").write_text("id\n" + "x" * 200_000)
    with pytest.raises(CalcoError, match=r"FILE_READ.*long\.csv"):
        read_csv(tmp_path / "long.csv")
    with pytest.raises(CalcoError, match=r"FILE_READ.*a\.csv"):
        read_csv(tmp_path / "a.csv")
    with pytest.raises(CalcoError, match="FILE_READ"):
        read_csv(tmp_path / "gone.csv")
