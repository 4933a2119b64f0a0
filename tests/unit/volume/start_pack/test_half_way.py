"""Libraries that come late, in part or not at all; packs of a volume whose place is a link."""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.packed_site import EXTENSION, packed_site, recording_of
from volume.start_pack.contents import Contents
from volume.start_pack.pack import CODE, Content, Index, write_pack
from volume.start_pack.packing import pack
from volume.start_pack.recording import Library

# Of two packages, each library in a segment of its own.
LIBRARIES = {
    "first/one.so": b"1" * (2 << 20),
    "first.libs/needed.so": b"2" * (2 << 20),
    "second/three.so": b"3" * (2 << 20),
}


class Unpacking:
    """A pack of libraries, whose segments come when they are asked to."""

    def __init__(self, tmp_path: Path) -> None:
        self.told: list[str] = []
        self.folder = tmp_path / "temporary"
        self.folder.mkdir()
        plan = Index("key", (), (), (), (), (), ())
        libraries = [Content(path, data) for path, data in LIBRARIES.items()]
        with (tmp_path / "pack").open("wb") as file:
            index = write_pack(file, plan, code=(), libraries=libraries)
        self.offsets = {segment.paths[0]: segment.offset for segment in index.segments}
        self.contents = Contents(index, tmp_path / "site", self.folder, self.told.append)

    def come(self, path: str, data: bytes | None = None) -> None:
        self.contents.take(self.offsets[path], memoryview(data or LIBRARIES[path]))

    @property
    def files(self) -> list[str]:
        """What is in the folder and no link."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return [path.name for path in found if not path.is_symlink()]


@pytest.fixture
def unpacking(tmp_path: Path) -> Unpacking:
    return Unpacking(tmp_path)


def test_each_library_has_its_place_before_it_has_come(unpacking: Unpacking) -> None:
    for path in LIBRARIES:
        assert (unpacking.folder / path).readlink().parts[-3:] == ("site", *path.split("/"))


def test_a_library_is_given_when_all_of_its_package_have_come(unpacking: Unpacking) -> None:
    given: list[Path] = []
    waiting = threading.Thread(
        target=lambda: given.append(unpacking.contents.library("first/one.so"))
    )
    unpacking.come("first/one.so")
    unpacking.come("second/three.so")
    assert unpacking.contents.library("second/three.so").read_bytes()[:1] == b"3"
    waiting.start()
    waiting.join(0.05)
    assert given == []
    unpacking.come("first.libs/needed.so")
    waiting.join(60)
    assert given == [unpacking.folder / "first/one.so"]


def test_a_library_beside_one_that_is_damaged_finds_that_on_the_volume(
    unpacking: Unpacking,
) -> None:
    unpacking.come("first/one.so")
    unpacking.come("first.libs/needed.so", b"2" * ((2 << 20) - 1) + b"?")
    place = unpacking.contents.library("first/one.so")
    assert place.read_bytes() == LIBRARIES["first/one.so"]
    assert (place.parent.parent / "first.libs" / "needed.so").is_symlink()
    assert unpacking.told == ["a part of the start pack is damaged"]


def test_a_full_disk_is_not_filled_further(
    unpacking: Unpacking, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = os.write

    def until_it_is_full(file: int, data: memoryview) -> int:
        written.append(len(data))
        if len(data) < 2 << 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[:1000])

    monkeypatch.setattr(os, "write", until_it_is_full)
    for path in LIBRARIES:
        unpacking.come(path)
    monkeypatch.undo()
    assert written == [2 << 20, (2 << 20) - 1000]
    assert unpacking.files == []
    assert unpacking.contents.library("first/one.so").is_symlink()
    assert unpacking.told == ["the start pack cannot be unpacked: No space left on device"]


def test_a_folder_that_cannot_have_the_links_is_not_used(tmp_path: Path) -> None:
    told: list[str] = []
    packed = packed_site(tmp_path)
    (tmp_path / "file").touch()
    contents = Contents(packed.index, packed.site, tmp_path / "file", told.append)
    assert contents.library(EXTENSION) == packed.site / EXTENSION
    assert told == ["the start pack cannot be unpacked: Not a directory"]


def test_a_volume_whose_place_is_a_link_is_packed_whole(tmp_path: Path) -> None:
    """Python tells of files by the place that it was given, the kernel by that of the folder."""
    site = packed_site(tmp_path).site
    (tmp_path / "link").symlink_to(site)
    recorded = recording_of(tmp_path / "link")
    (library, *_) = recorded.libraries
    seen = replace(recorded, libraries=(Library(str(site / EXTENSION), library.ranges),))
    index = pack(seen, tmp_path / "link", "key", tmp_path / "pack")
    paths = {kind: [] for kind in (True, False)}
    for segment in index.segments:
        paths[segment.kind == CODE] += segment.paths
    assert paths[False] == [EXTENSION]
    assert "parcel/paper.py" in paths[True]
    assert index.preload == ()  # for it is Python's
