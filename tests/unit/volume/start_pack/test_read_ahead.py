"""Files are read into the page cache, in order, by threads; no failure of theirs is anybody's."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from volume.start_pack import read_ahead
from volume.start_pack.page_cache import is_cached
from volume.start_pack.read_ahead import PIECE, ReadAhead, in_pieces

SECONDS = 60


@pytest.fixture
def reader() -> ReadAhead:
    return ReadAhead(3)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The ranges that were read, none of which counts as cached."""
    done: list[tuple[int, int]] = []
    real = read_ahead._read

    def note(file: int, first: int, end: int, buffer: memoryview) -> None:
        done.append((first, end))
        real(file, first, end, buffer)

    monkeypatch.setattr(read_ahead, "_read", note)
    monkeypatch.setattr(read_ahead, "is_cached", lambda *_: False)
    return done


def big(folder: Path, size: int) -> Path:
    path = folder / "file"
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_a_file_is_read_whole(
    tmp_path: Path, reader: ReadAhead, read: list[tuple[int, int]]
) -> None:
    reading = reader.add(big(tmp_path, 2 * PIECE + 5))
    assert reading.done.wait(SECONDS)
    assert sorted(read) == [(0, PIECE), (PIECE, 2 * PIECE), (2 * PIECE, 2 * PIECE + 5)]
    reader.close()
    reader.join(SECONDS)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading.file)


def test_ranges_alone_are_read(
    tmp_path: Path, reader: ReadAhead, read: list[tuple[int, int]]
) -> None:
    reading = reader.add(big(tmp_path, 100), [(10, 20), (50, 100)])
    assert reading.done.wait(SECONDS)
    assert sorted(read) == [(10, 20), (50, 100)]
    reader.close()


def test_what_was_added_first_is_read_first(tmp_path: Path, read: list[tuple[int, int]]) -> None:
    path = big(tmp_path, 9)
    reader = ReadAhead(0)
    readings = [reader.add(path, [(number, number + 1)]) for number in range(9)]
    threading.Thread(target=reader._work, args=(0,), daemon=True).start()
    assert readings[-1].done.wait(SECONDS)
    assert [first for first, _ in read] == list(range(9))
    reader.close()


def test_a_missing_file_is_left_to_who_needs_it(tmp_path: Path, reader: ReadAhead) -> None:
    assert reader.add(tmp_path / "none").done.wait(SECONDS)
    (tmp_path / "there").write_bytes(b"1")
    assert reader.add(tmp_path / "there").done.wait(SECONDS)  # the threads are alive
    assert reader.add(tmp_path).done.wait(SECONDS)  # a folder, which opens and cannot be read
    assert reader.add(tmp_path / "there", [(0, 100)]).done.wait(SECONDS)  # it has become shorter
    reader.close()


def test_who_waits_goes_on_after_the_end(tmp_path: Path) -> None:
    reader = ReadAhead(0)  # which would never read it
    reading = reader.add(tmp_path / "file")
    assert not reading.done.is_set()
    reader.close()
    assert reading.done.is_set()
    assert reader.add(tmp_path / "file").done.is_set()


def test_what_is_in_memory_is_known(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1 << 20))
    file = os.open(path, os.O_RDONLY)
    assert is_cached(file, 0, 1 << 20)
    assert is_cached(file, 5000, 9000)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    assert not is_cached(file, 0, 1 << 20)
    os.close(file)


def test_a_reader_that_the_kernel_tells_nothing_reads(
    tmp_path: Path, read: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "is_cached", lambda *_: True)
    path = big(tmp_path, 10)
    reader = ReadAhead(1)
    assert reader.add(path).done.wait(SECONDS)
    assert read == []
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert reader.add(path).done.wait(SECONDS)
    assert read == [(0, 10)]
    reader.close()


def test_pieces() -> None:
    assert in_pieces([(1, 2), (10, PIECE + 11)]) == [
        (1, 2),
        (10, PIECE + 10),
        (PIECE + 10, PIECE + 11),
    ]
    assert in_pieces([]) == []
