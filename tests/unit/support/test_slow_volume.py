"""The slow mount: what it lets through, what it counts, and what a machine without it is told."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.support import slow_volume as support
from tests.support.slow_volume import Counts, SlowVolume, slow_volume, why_unavailable
from tests.support.worker_process import REPOSITORY

pytestmark = pytest.mark.slow("compiles and starts a program")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def volume(root: Path, slow_mount: None) -> Iterator[SlowVolume]:
    with slow_volume(root, 0.1) as mounted:
        yield mounted


def test_everything_that_an_installer_does_is_let_through(volume: SlowVolume, root: Path) -> None:
    here = volume.path
    (here / "folder").mkdir()
    with (here / "folder" / "file").open("xb") as file:
        file.write(b"0123456789")
        os.fsync(file.fileno())
    with pytest.raises(FileExistsError):
        (here / "folder" / "file").open("xb")
    os.link(here / "folder" / "file", here / "linked")
    with pytest.raises(FileExistsError):
        os.link(here / "folder" / "file", here / "linked")
    (here / "soft").symlink_to("linked")
    assert (here / "soft").read_bytes() == b"0123456789"
    os.truncate(here / "linked", 4)
    (here / "folder" / "file").replace(here / "renamed")
    (here / "renamed").chmod(0o755)
    os.utime(here / "renamed", (5, 5))
    assert (root / "renamed").read_bytes() == b"0123"
    assert (root / "renamed").stat().st_mode & 0o777 == 0o755
    assert (root / "renamed").stat().st_mtime == 5
    assert os.statvfs(here).f_blocks == os.statvfs(root).f_blocks
    (here / "folder").rmdir()
    (here / "soft").unlink()
    assert sorted(path.name for path in root.iterdir()) == ["linked", "renamed"]


def test_each_kind_of_call_is_counted_as_what_it_is(volume: SlowVolume, root: Path) -> None:
    (root / "file").write_bytes(bytes(1_000_000))
    (root / "soft").symlink_to("file")

    def counted(call: Callable[[], object]) -> dict[str, int]:
        before = volume.counts
        call()
        return {kind: n for kind, n in asdict(volume.counts - before).items() if n}

    assert counted((volume.path / "file").stat) == {"getattr": 1}
    assert counted((volume.path / "file").stat) == {}  # kept for seconds
    read = counted((volume.path / "file").read_bytes)
    assert (read["open"], read["bytes_read"]) == (1, 1_000_000)
    assert 4 <= read["read"] <= 8
    assert "bytes_read" not in counted((volume.path / "file").read_bytes)  # the contents, too
    assert counted((volume.path / "soft").readlink) == {"getattr": 1, "readlink": 1}
    assert counted(lambda: [*volume.path.iterdir()])["readdir"] > 0
    assert counted((volume.path / "new").mkdir)["change"] == 1
    assert counted(lambda: (volume.path / "x").write_bytes(b"x"))["write"] == 1
    assert Counts(getattr=1, open=2, read=4, bytes_read=8, change=16).metadata == 19


def test_an_absolute_link_stands_for_what_it_leads_to_where_that_is_asked_for(
    root: Path, tmp_path: Path, slow_mount: None
) -> None:
    (tmp_path / "elsewhere" / "inner").mkdir(parents=True)
    (tmp_path / "elsewhere" / "file").write_text("far")
    (tmp_path / "elsewhere" / "soft").symlink_to("file")
    (root / "laid").symlink_to(tmp_path / "elsewhere")
    with slow_volume(root, 0, follow=True) as mounted:
        (laid,) = os.scandir(mounted.path)
        assert laid.is_dir(follow_symlinks=False)
        assert (mounted.path / "laid" / "file").read_text() == "far"
        assert (mounted.path / "laid" / "soft").is_symlink()
        assert mounted.counts.bytes_read == 3
    with slow_volume(root, 0) as mounted:
        assert (mounted.path / "laid").is_symlink()


def test_no_call_is_quicker_than_the_volume(root: Path, slow_mount: None) -> None:
    """How much later a busy machine makes it is the machine's."""
    (root / "file").write_bytes(bytes(100_000))
    with slow_volume(root, 20, 1) as mounted:
        begun = time.monotonic()
        (mounted.path / "file").read_bytes()
        in_order = 3 * 0.020  # its attributes, its opening, its reading
        assert time.monotonic() - begun >= in_order + 0.1


def test_whoever_asks_a_volume_that_stands_still_waits(volume: SlowVolume, root: Path) -> None:
    (root / "file").write_text("here")
    with ThreadPoolExecutor(1) as other:
        with volume.standing_still():
            asked = other.submit((volume.path / "file").read_text)
            with pytest.raises(TimeoutError):
                asked.result(0.3)
        assert asked.result(30) == "here"


def test_a_mount_ends_with_its_block_whatever_is_open_or_has_died(
    root: Path, slow_mount: None
) -> None:
    (root / "file").write_text("here")
    with slow_volume(root, 0) as mounted:
        file = (mounted.path / "file").open()
    file.close()
    assert not mounted.path.exists()
    with slow_volume(root, 0) as mounted:
        os.kill(mounted.pid, 9)
    assert not mounted.path.exists()


def test_what_a_machine_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "REPOSITORY", tmp_path)  # where nothing is compiled yet
    programs = {"cc": "/bin/false", "fusermount3": "/bin/fusermount3"}
    monkeypatch.setattr("shutil.which", programs.get)
    monkeypatch.setattr(support, "DEVICE", Path("/dev/null"))  # which may be read and written
    assert "libfuse3 (Debian's libfuse3-dev)" in (why_unavailable() or "")
    del programs["cc"]
    assert "needs a C compiler (cc, gcc, clang)" in (why_unavailable() or "")
    del programs["fusermount3"]
    assert why_unavailable() == "a slow mount needs fusermount3 (Debian's fuse3)"
    monkeypatch.setattr(support, "DEVICE", tmp_path / "none")
    assert why_unavailable() == f"a slow mount needs {tmp_path}/none"


def test_a_test_that_needs_it_is_skipped_by_that_name(tmp_path: Path) -> None:
    """A test of this file, by pytest, in a process whose PATH has no fusermount3."""
    name = "test_no_call_is_quicker_than_the_volume"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", f"{Path(__file__)}::{name}"],
        env=os.environ | {"PATH": str(tmp_path)}, cwd=REPOSITORY,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "1 skipped" in done.stdout
    lacking = ("/dev/fuse", "fusermount3 (Debian's fuse3)")
    assert any(f"a slow mount needs {one}" in done.stdout for one in lacking), done.stdout
