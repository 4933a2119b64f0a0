from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.waiting import until
from tests.support.worker_process import REPOSITORY
from volume.start_pack import read_ahead, runtime
from volume.start_pack.page_cache import is_cached, populate
from volume.start_pack.read_ahead import PIECE, ReadAhead

SECONDS = 60
SIZE = 3 * PIECE + 5


@pytest.fixture
def forgotten(tmp_path: Path) -> Path:
    """A file of which the kernel has nothing in memory."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert not is_cached(file.fileno(), 0, SIZE)
    return path


def test_bytes_are_brought_into_memory(forgotten: Path) -> None:
    with forgotten.open("rb") as file:
        assert populate(file.fileno(), 5, SIZE)
        assert is_cached(file.fileno(), 0, SIZE)


def test_what_a_file_does_not_have_cannot_be_brought(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"short")
    with path.open("rb") as file:
        assert not populate(file.fileno(), 0, 1 << 20)
    assert not populate(-1, 0, 10)


class Counting:
    """A filler that says whether it could, and how many it was asked for at the same time."""

    def __init__(self, *, able: bool) -> None:
        self.able = able
        self.most = 0
        self.asked: list[tuple[int, int]] = []
        self.go = threading.Semaphore(0)
        self._now = 0
        self._lock = threading.Lock()

    def fill(self, channel: int, file: int, first: int, end: int) -> bool:
        assert os.fstat(file).st_size > 0
        assert channel < 8
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self.asked.append((first, end))
        self.go.acquire()
        with self._lock:
            self._now -= 1
        return self.able

    def close(self) -> None:
        for _ in range(9):
            self.go.release()


@pytest.mark.parametrize("able", [True, False])
def test_what_is_large_is_the_fillers_and_read_where_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, able: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(SIZE))
    read: list[tuple[int, int]] = []
    monkeypatch.setattr(
        read_ahead, "_read", lambda _file, first, end, _buffer: read.append((first, end))
    )
    monkeypatch.setattr(read_ahead, "is_cached", lambda *_: False)
    filler = Counting(able=able)
    reader = ReadAhead(5, filler)  # type: ignore[arg-type] # as far as it is called
    reading = reader.add(path)
    small = (3 * PIECE, SIZE)
    large = [(0, PIECE), (PIECE, 2 * PIECE), (2 * PIECE, 3 * PIECE)]
    for _ in large:
        filler.go.release()
    assert reading.done.wait(SECONDS)
    assert sorted(filler.asked) == large
    assert sorted(read) == ([small] if able else [*large, small])
    reader.close()


def test_few_large_pieces_are_read_at_once_and_small_ones_beside_them(tmp_path: Path) -> None:
    large, small = tmp_path / "large", tmp_path / "small"
    with large.open("wb") as file:
        file.truncate(9 * PIECE)
    small.write_bytes(b"small")
    filler = Counting(able=True)
    reader = ReadAhead(8, filler)  # type: ignore[arg-type] # as far as it is called
    reading = reader.add(large)
    until(lambda: len(filler.asked) == read_ahead.AT_ONCE, SECONDS)
    assert reader.add(small).done.wait(SECONDS)
    assert not reading.done.is_set()
    for _ in range(9):
        filler.go.release()
    assert reading.done.wait(SECONDS)
    assert filler.most == read_ahead.AT_ONCE
    reader.close()


@pytest.mark.parametrize("able", [True, False])
def test_what_is_taken_is_brought_by_the_filler_first_where_it_is_large(
    tmp_path: Path, able: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * (read_ahead.LARGE // 128))
    filler = Counting(able=able)
    reader = ReadAhead(3, filler)  # type: ignore[arg-type] # as far as it is called
    taken: dict[int, bytes] = {}
    ranges = ((0, read_ahead.LARGE), (read_ahead.LARGE, read_ahead.LARGE + 9))
    reading = reader.add(
        path, ranges, lambda first, data: taken.update({first: bytes(data or b"")})
    )
    filler.go.release()
    assert reading.done.wait(SECONDS)
    assert filler.asked == [ranges[0]]
    assert taken == {first: path.read_bytes()[first:end] for first, end in ranges}
    reader.close()


PROGRAM = """
import os, sys, threading
from pathlib import Path
from volume.start_pack.page_cache import is_cached
from volume.start_pack.read_ahead import ReadAhead
from volume.start_pack.runtime import open_filler
path = Path(sys.argv[1])
filler = open_filler()
assert filler is not None
reader = ReadAhead(10, filler)
assert open_filler() is None  # there are threads now
assert reader.add(path).done.wait(60)
with path.open("rb") as file:
    assert is_cached(file.fileno(), 0, path.stat().st_size)
if len(sys.argv) > 2:
    os.kill(filler.pid, 9)
    assert reader.add(path).done.wait(60)  # read by the process itself
reader.close()
for thread in threading.enumerate():
    if thread.name == "filler-end":
        thread.join(60)
        assert not thread.is_alive()
print("done")
"""


@pytest.mark.slow("starts processes")
@pytest.mark.parametrize("arguments", [[], ["killed"]])
def test_a_process_reads_ends_with_the_reading_and_is_not_missed(
    forgotten: Path, arguments: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(forgotten), *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_where_no_process_can_be_made_there_is_no_filler(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError("too many processes")

    monkeypatch.setattr(os, "fork", refuse)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    assert runtime.open_filler() is None
