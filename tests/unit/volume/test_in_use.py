"""Who uses what: counts that go up are users, counts that stand still are the dead."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.waiting import until
from volume.in_use import announce, in_use

ROOT = Path(__file__).parents[3]


def test_each_user_says_so_in_a_file_of_its_own_for_each_thing(tmp_path: Path) -> None:
    mine = announce(tmp_path, ["env", "m@1"])
    assert [file.parent.name for file in mine] == ["env", "m@1"]
    assert [file.read_bytes() for file in mine] == [b"000000000000"] * 2
    yours = announce(tmp_path, ["env"])
    assert sorted((tmp_path / "env").iterdir()) == sorted([mine[0], *yours])


def test_who_counts_is_there_and_who_stands_still_is_removed(tmp_path: Path) -> None:
    living, dead = announce(tmp_path, ["env"]) + announce(tmp_path, ["env"])
    (gone,) = announce(tmp_path, ["old"])
    waited = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        living.write_bytes(b"%012d" % 1)

    assert in_use(tmp_path, 60.0, wait) == {"env"}
    assert waited == [60.0]
    assert living.exists()
    assert not dead.exists()
    assert not gone.exists()


def test_who_comes_while_one_looks_is_there(tmp_path: Path) -> None:
    announce(tmp_path, ["old"])
    assert in_use(tmp_path, 0, lambda _: announce(tmp_path, ["new"]) and None) == {"new"}
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_who_leaves_while_one_looks_is_not(tmp_path: Path) -> None:
    (file,) = announce(tmp_path, ["env"])
    assert in_use(tmp_path, 0, lambda _: file.unlink()) == set()


def test_what_cannot_be_read_is_nobody(tmp_path: Path) -> None:
    (tmp_path / "env" / "folder").mkdir(parents=True)
    (file,) = announce(tmp_path, ["env"])
    assert in_use(tmp_path, 0, lambda _: file.write_bytes(b"%012d" % 1) and None) == {"env"}
    assert in_use(tmp_path, 0, lambda _: None) == set()


def test_without_users_nobody_waits(tmp_path: Path) -> None:
    assert in_use(tmp_path / "uses", 60, lambda _: pytest.fail("waited")) == set()


@pytest.mark.slow("starts a process")
def test_a_process_counts_for_its_user_and_tidies_up_after_it(tmp_path: Path) -> None:
    files = announce(tmp_path, ["env", "m@1"])
    program = (
        "import sys; from pathlib import Path; from volume.in_use import keep_announcing\n"
        "keep_announcing([Path(name) for name in sys.argv[1:]], 0.005); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, *map(str, files)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as user:
        until(lambda: all(int(file.read_bytes()) > 1 for file in files))
        assert all(len(file.read_bytes()) == 12 for file in files)
        (counter,) = children_of(user.pid)
        assert os.getsid(counter) == counter  # no signal to the worker's group ends it
        files[0].unlink()  # gc took it for dead
        count = int(files[1].read_bytes())
        until(lambda: int(files[1].read_bytes()) > count + 1)
        assert not files[0].exists()
        user.kill()
    until(lambda: not files[1].exists())


def children_of(parent: int) -> list[int]:
    """By the fourth field of each process's stat, proc(5)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(folder.name))
    return found


def test_of_what_lies_in_a_counts_place_little_is_read(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    with (tmp_path / "env" / "large").open("wb") as file:
        file.truncate(1 << 40)
    (living,) = announce(tmp_path, ["env"])
    assert in_use(tmp_path, 0, lambda _: living.write_bytes(b"%012d" % 1) and None) == {"env"}
    assert not (tmp_path / "env" / "large").exists()
