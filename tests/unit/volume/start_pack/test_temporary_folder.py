"""The folder for a pack's libraries: made where it is of use, kept while its worker lives."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from volume.start_pack.pack import Index, Segment
from volume.start_pack.runtime import SPARE, Start, held_folder, remove_abandoned, temporary_folder

LIBRARIES = 1000  # bytes
SEGMENTS = (
    Segment("code", 0, "", ("a.py",), (10_000_000,)),
    Segment("libraries", 10_000_000, "", ("b.so",), (LIBRARIES,)),
)
INDEX = Index("key", SEGMENTS, (), (), (), (), ())


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def disk(monkeypatch: pytest.MonkeyPatch, free: int, flags: int = 0) -> None:
    found = SimpleNamespace(f_bavail=free, f_frsize=1, f_flag=flags)
    monkeypatch.setattr(os, "statvfs", lambda _path: found)


def made(start: Start) -> Path | None:
    start.read_ahead.close()
    return temporary_folder(start, INDEX)


def test_a_folder_is_made_where_the_libraries_fit_and_something_stays_free(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(monkeypatch, LIBRARIES + SPARE)
    start = Start()
    folder = made(start)
    assert folder is not None
    assert [*place.iterdir()] == [folder]
    assert start.problem is None


@pytest.mark.parametrize(
    ("free", "flags", "told"),
    [
        (LIBRARIES + SPARE - 1, 0, "has no room"),
        (2 * SPARE, os.ST_NOEXEC, "lets nothing be executed"),
    ],
)
def test_a_disk_that_is_of_no_use_is_told(
    place: Path, monkeypatch: pytest.MonkeyPatch, free: int, flags: int, told: str
) -> None:
    disk(monkeypatch, free, flags)
    start = Start()
    assert made(start) is None
    assert start.problem == f"libraries are loaded from the volume: {place} {told}"
    assert [*place.iterdir()] == []


def test_a_disk_that_cannot_be_written_is_told(place: Path) -> None:
    start = Start()
    place.rmdir()
    assert made(start) is None
    told = "libraries are loaded from the volume: No such file or directory"
    assert start.problem == told


def test_a_folder_is_kept_for_as_long_as_somebody_holds_it(place: Path) -> None:
    folder = held_folder(place)
    (folder / "library.so").touch()
    abandoned = place / "spark-start-abandoned"
    abandoned.mkdir()
    (abandoned / "library.so").touch()
    (place / "other").mkdir()
    remove_abandoned(place)
    assert sorted(path.name for path in place.iterdir()) == ["other", folder.name]
    assert (folder / "library.so").exists()


def test_a_folder_has_its_name_when_it_is_held(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or another worker, which looks between the two, would take it for an abandoned one."""
    seen: list[list[str]] = []
    lock = fcntl.flock

    def look(file: int, how: int) -> None:
        seen.append([path.name for path in place.glob("spark-start-*")])
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", look)
    assert held_folder(place).name.startswith("spark-start-")
    assert seen == [[]]
