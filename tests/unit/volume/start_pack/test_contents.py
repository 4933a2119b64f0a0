"""What comes out of a pack: checked, in its place, and from the volume where it is damaged."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from tests.support.packed_site import EXTENSION, PackedSite, packed_site
from volume.start_pack import contents as contents_module
from volume.start_pack.contents import Contents
from volume.start_pack.pack import CODE


@pytest.fixture
def packed(tmp_path: Path) -> PackedSite:
    return packed_site(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


def deliver(contents: Contents, packed: PackedSite, *, flip: int | None = None) -> None:
    """Give all segments, with a bit flipped in the byte `flip` of each."""
    data = packed.file.read_bytes()
    for first, end in contents.ranges:
        part = bytearray(data[first:end])
        if flip is not None:
            part[flip] ^= 1
        contents.take(first, memoryview(part))


def test_bytecode_is_what_the_module_compiles_to(packed: PackedSite, folder: Path) -> None:
    told: list[str] = []
    contents = Contents(packed.index, packed.site, folder, told.append)
    deliver(contents, packed)
    code = contents.bytecode("parcel/paper.py")
    assert code is not None
    assert code[4:8] == b"\1\0\0\0"  # by the hash of its source, which is not asked for (PEP 552)
    assert contents.bytecode("parcel/unread.py") is None
    assert told == []


def test_a_library_is_unpacked_whole(packed: PackedSite, folder: Path) -> None:
    contents = Contents(packed.index, packed.site, folder, pytest.fail)
    deliver(contents, packed)
    place = contents.library(EXTENSION)
    assert place == folder / EXTENSION
    assert place.read_bytes() == (packed.site / EXTENSION).read_bytes()
    assert os.access(place, os.X_OK)


def test_who_needs_a_file_waits_for_its_segment(packed: PackedSite, folder: Path) -> None:
    contents = Contents(packed.index, packed.site, folder, pytest.fail)
    got: list[object] = []
    waiting = [
        threading.Thread(target=lambda: got.append(contents.bytecode("parcel/paper.py"))),
        threading.Thread(target=lambda: got.append(contents.library(EXTENSION))),
    ]
    for thread in waiting:
        thread.start()
    assert got == []
    deliver(contents, packed)
    for thread in waiting:
        thread.join(60)
    assert len(got) == 2
    assert None not in got


def test_no_byte_of_a_damaged_segment_is_used(packed: PackedSite, folder: Path) -> None:
    told: list[str] = []
    contents = Contents(packed.index, packed.site, folder, told.append)
    deliver(contents, packed, flip=0)
    assert contents.bytecode("parcel/paper.py") is None
    assert contents.library(EXTENSION).resolve() == packed.site / EXTENSION
    assert told == ["a part of the start pack is damaged"] * len(packed.index.segments)


def test_what_could_not_be_read_is_on_the_volume(packed: PackedSite, folder: Path) -> None:
    told: list[str] = []
    contents = Contents(packed.index, packed.site, folder, told.append)
    for first, _ in contents.ranges:
        contents.take(first, None)
    assert contents.bytecode("loose.py") is None
    assert contents.library(EXTENSION).resolve() == packed.site / EXTENSION
    assert set(told) == {"a part of the start pack cannot be read"}


def test_a_disk_that_fills_while_unpacking_is_told(
    packed: PackedSite, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    told: list[str] = []
    contents = Contents(packed.index, packed.site, folder, told.append)
    monkeypatch.setattr(contents_module.os, "write", full)
    deliver(contents, packed)
    monkeypatch.undo()
    assert contents.library(EXTENSION).resolve() == packed.site / EXTENSION
    assert contents.bytecode("loose.py") is not None  # which needs no disk
    assert told == ["the start pack cannot be unpacked: No space left on device"]


def test_without_a_folder_the_code_alone_is_taken(packed: PackedSite) -> None:
    contents = Contents(packed.index, packed.site, None, pytest.fail)
    kinds = {s.offset: s.kind for s in packed.index.segments}
    assert [kinds[first] for first, _ in contents.ranges] == [CODE]
    deliver(contents, packed)
    assert contents.bytecode("loose.py") is not None
    assert contents.library(EXTENSION) == packed.site / EXTENSION
    assert contents.libraries == ()


def test_nothing_stays_in_memory(packed: PackedSite, folder: Path) -> None:
    contents = Contents(packed.index, packed.site, folder, pytest.fail)
    deliver(contents, packed)
    contents.clear()
    assert contents.bytecode("loose.py") is None
