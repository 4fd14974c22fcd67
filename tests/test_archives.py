"""Archives read as folders: the same bytes, nothing unpacked, nothing read that is not in them."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from calco.archives import archive_of, members, open_binary
from calco.errors import CalcoError
from calco.files import sha256_of


def pack(path: Path, **files: bytes) -> Path:
    """Write a tar with files of these names; ``__`` stands for a slash, ``_`` for a dot."""
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            add(tar, name.replace("__", "/").replace("_", "."), data)
    return path


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def test_members_are_read_where_they_are(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar", x_png=b"one", sub__y_png=b"three" * 1000)
    assert set(members(archive)) == {"x.png", "sub/y.png"}
    assert open_binary(archive / "x.png").read() == b"one"
    assert open_binary(archive / "sub" / "y.png").read() == b"three" * 1000
    assert archive_of(archive / "sub" / "y.png") == archive
    (tmp_path / "x.png").write_bytes(b"one")
    assert sha256_of(archive / "x.png") == sha256_of(tmp_path / "x.png")


def test_paths_of_the_file_system_stay_what_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "unpacked.tar"
    folder.mkdir()
    (folder / "x.png").write_bytes(b"plain")
    assert archive_of(folder / "x.png") is None
    assert open_binary(folder / "x.png").read() == b"plain"


def test_parts_of_a_member_are_read_as_of_a_file(tmp_path: Path) -> None:
    data = bytes(range(256)) * 20
    archive = pack(tmp_path / "a.tar", w_png=b"before", x_png=data, y_png=b"behind")
    with open_binary(archive / "x.png") as file:
        assert file.read(10) == data[:10]
        file.seek(-7, os.SEEK_END)
        assert file.read() == data[-7:]
        assert file.read() == b""
        file.seek(300)
        assert (file.read(5), file.tell()) == (data[300:305], 305)


def test_what_is_not_there_is_missing(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar", x_png=b"one")
    with pytest.raises(FileNotFoundError, match="no such file in the archive"):
        open_binary(archive / "y.png")


def test_the_last_of_one_name_counts(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "x.png", b"old")
        add(tar, "./x.png", b"new")
    assert open_binary(tmp_path / "a.tar/x.png").read() == b"new"


def test_soft_links_and_devices_are_no_files(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (("l.png", tarfile.SYMTYPE), ("d.png", tarfile.CHRTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            tar.addfile(entry)
    assert not members(tmp_path / "a.tar")


def test_hard_links_are_other_names_of_a_file(tmp_path: Path) -> None:
    """As GNU tar packs them; a later file of the same name is another one."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_bytes(b"one")
    (tmp_path / "a" / "y.png").hardlink_to(tmp_path / "a" / "x.png")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("x.png", "y.png"):
            tar.add(tmp_path / "a" / name, f"./{name}")
        assert tar.getmember("./y.png").islnk()
        add(tar, "x.png", b"new")
    assert open_binary(tmp_path / "a.tar/y.png").read() == b"one"
    assert open_binary(tmp_path / "a.tar/x.png").read() == b"new"


@pytest.mark.parametrize("target", ["/etc/passwd", "../x.png", "z.png"])
def test_a_hard_link_to_what_is_not_in_the_archive_is_told(tmp_path: Path, target: str) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "x.png", b"one")
        entry = tarfile.TarInfo("h.png")
        entry.type, entry.linkname = tarfile.LNKTYPE, target
        tar.addfile(entry)
    with pytest.raises(CalcoError, match=f"h.png is a link to {target}"):
        members(tmp_path / "a.tar")


def test_a_file_with_holes_is_told(tmp_path: Path) -> None:
    """As ``tar -S`` packs it, which is not what a decoder reads."""
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("x.npy")
        entry.size = 8
        entry.pax_headers = {"GNU.sparse.size": "8", "GNU.sparse.map": "0,8"}
        tar.addfile(entry, io.BytesIO(b"8 bytes."))
    with pytest.raises(CalcoError, match=r"x\.npy is stored without its zeros"):
        members(tmp_path / "a.tar")


@pytest.mark.parametrize("name", ["../x.png", "/etc/x.png", "a/../../x.png"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, name, b"one")
    with pytest.raises(CalcoError, match="leads out"):
        members(tmp_path / "a.tar")


@pytest.mark.parametrize("data", [b"", b"no tar" * 200, b"\x1f\x8b\x08" + bytes(600)])
def test_what_is_no_archive_is_told(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(CalcoError) as caught:
        members(tmp_path / "a.tar")
    assert caught.value.problems[0].code == "ARCHIVE_READ"


@pytest.mark.parametrize("n_bytes", [300, 2000, 5632, 5800, 8000, 11264])
def test_half_an_archive_is_told(tmp_path: Path, n_bytes: int) -> None:
    """Cut in a header, in a file, between files, and before the end is marked."""
    archive = pack(tmp_path / "a.tar", x_png=b"1" * 5000, y_png=b"2" * 5000)
    assert len(members(archive)) == 2
    os.truncate(archive, n_bytes)
    with pytest.raises(CalcoError, match="archive cannot be read"):
        members(archive)


def test_a_damaged_header_is_no_end(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar", x_png=b"1" * 5000, y_png=b"2" * 5000)
    data = bytearray(archive.read_bytes())
    data[5632 + 148] ^= 1  # the checksum of the second header
    archive.write_bytes(data)
    with pytest.raises(CalcoError, match="archive cannot be read"):
        members(archive)


def test_joined_archives_are_told(tmp_path: Path) -> None:
    """``cat a.tar b.tar``: whoever looks no further than the first end misses the second."""
    first, second = (pack(tmp_path / f"{n}.tar", **{f"{n}_png": b"one"}) for n in "ab")
    (tmp_path / "c.tar").write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(CalcoError, match="more follows behind its end"):
        members(tmp_path / "c.tar")


@pytest.mark.parametrize("start", [5632, 8000])
def test_a_hole_is_no_end(tmp_path: Path, start: int) -> None:
    """Between two files, and from within one on."""
    sizes = {"x_png": 5000, "y_png": 5000, "z_png": 5000}
    archive = pack(tmp_path / "a.tar", **{name: b"1" * size for name, size in sizes.items()})
    data = archive.read_bytes()
    archive.write_bytes(data[:start] + bytes(12000 - start) + data[12000:])
    with pytest.raises(CalcoError, match="more follows behind its end"):
        members(archive)


def test_a_copy_that_was_given_its_size_before_its_bytes_is_told(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar", x_png=b"1" * 5000, y_png=bytes(2 << 20))
    os.truncate(archive, 5632)
    os.truncate(archive, 2 << 20)
    with pytest.raises(CalcoError, match="a copy was not finished"):
        members(archive)


def test_an_archive_filled_up_for_a_tape_is_whole(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar", x_png=b"1" * 5000)
    os.truncate(archive, 1 << 20)
    assert set(members(archive)) == {"x.png"}


@pytest.mark.parametrize("size", [-512, 2**80])
def test_sizes_that_cannot_be_end_at_once(tmp_path: Path, size: int) -> None:
    archive = pack(tmp_path / "a.tar", x_png=b"1" * 500, y_png=b"2" * 500)
    data = bytearray(archive.read_bytes())
    header = data[1024:1536]
    header[124:136] = (
        (size % 2**95 | 2**95).to_bytes(12, "big")
        if size > 0
        else (b"\xff" + (size % 2**88).to_bytes(11, "big"))
    )
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    archive.write_bytes(data[:1024] + header + data[1536:])
    with pytest.raises(CalcoError, match="archive cannot be read"):
        members(archive)


def test_an_archive_that_changed_is_listed_anew(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar", x_png=b"one")
    assert "y.png" not in members(archive)
    pack(archive, x_png=b"one", y_png=b"a longer one" * 2000)
    assert "y.png" in members(archive)
