from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

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
        assert channel < 5
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


def test_few_large_pieces_are_read_at_once_until_the_imports_are_done(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(8 * PIECE)
    filler = Counting(able=True)
    reader = ReadAhead(5, filler)  # type: ignore[arg-type] # as far as it is called
    reading = reader.add(path)
    while len(filler.asked) < read_ahead.AT_FIRST:
        threading.Event().wait(0.001)
    assert not reading.done.wait(0.1)
    assert filler.most == read_ahead.AT_FIRST
    reader.hasten()
    while len(filler.asked) < 5:
        threading.Event().wait(0.001)
    for _ in range(8):
        filler.go.release()
    assert reading.done.wait(SECONDS)
    assert filler.most == 5
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
