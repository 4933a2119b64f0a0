"""Start packs under faults: whatever becomes of one, the worker starts, and says what was wrong."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.first_process import AS_FIRST
from tests.support.packed_world import SERVE, pack_of, packed_world, released
from tests.support.volume_reader import reading
from tests.support.volume_world import Mounting, World, flip_a_bit
from tests.support.waiting import until
from volume.manifest import MANIFEST, TWIN
from volume.start_pack.pack import NAME

Times = Callable[[int, int], int]

# What a worker says of its modules and its library: all came from the pack, or all from the volume.
PACKED = "up: version 1, 0 modules\nwhole: version 1, 0 modules\n"
UNPACKED = "up: version 1, 20 modules\nwhole: version 1, 20 modules and 1 library\n"
SMALL_FILES = ("sh", "-c", 'ulimit -f 16; exec "$@"', "sh")  # kB or half as many, by the shell


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world with everything installed."""
    with packed_world(tmp_path_factory.mktemp("packed")) as made:
        made.installed()
        yield made


@pytest.fixture
def here(packed: World, tmp_path: Path, mounting: Mounting) -> Iterator[World]:
    """The same, with a copy of the volume."""
    folder = tmp_path / "volume"
    shutil.copytree(packed.layout.mount, folder)
    with mounting(folder) as mount:
        yield packed.on(mount)


def worker(here: World) -> str:
    """What `volume run` and its worker say, who must come up and end well."""
    status, output = here.volume("run", module=SERVE)
    assert status == 0, output
    return output


def is_up(output: str) -> bool:
    """Whether a worker came up: as it would without faults, or with a line that says of which."""
    if "told: " in output or "starts without" in output:
        return "up: version 1" in output and "whole: version 1" in output
    return output.endswith(PACKED)


def test_a_packing_that_is_killed_at_a_random_moment_is_completed_by_the_next_start(
    here: World, times: Times
):
    moments = random.Random(20)
    pack = pack_of(here)
    shutil.rmtree(pack.parent)
    begun = time.monotonic()
    here.installed()
    usual = time.monotonic() - begun
    for turn in range(times(4, 60)):
        shutil.rmtree(pack.parent)
        with reading({pack.parent: frozenset({NAME})}) as looks:
            killed = here.start(*(("run",) if turn % 2 else ("install",)), module=SERVE)
            time.sleep(moments.uniform(0, usual))
            killed.kill()
            killed.communicate()
            assert worker(here).endswith(PACKED)
        assert looks.problems == []
        assert looks.found > 0
    assert here.volume("verify") == (0, "clean: environment\nclean: small\nclean: start pack\n")
    here.volume("gc")
    assert list(here.layout.cache.iterdir()) == []


def test_a_volume_whose_place_is_a_link_is_packed_whole(here: World, tmp_path: Path):
    """Python tells of modules by the place that it was given, the kernel by that of the folder."""
    shutil.rmtree(pack_of(here).parent)
    (tmp_path / "link").symlink_to(here.layout.mount)
    assert worker(here.on(tmp_path / "link")).endswith(PACKED)


def test_workers_that_start_while_another_packs_do_not_wait_for_it(
    here: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REHEARSAL_SECONDS", "5")
    shutil.rmtree(pack_of(here).parent)
    third = here.start("install")
    until(lambda: any(here.layout.cache.glob("start-*/*/pack")), 60, pause=0.02)
    both = [here.start("run", module=SERVE) for _ in range(2)]
    for process in both:
        output, _ = process.communicate(timeout=60)
        assert "another worker makes it; this one starts without" in output
        assert output.endswith(UNPACKED)
    assert third.poll() is None
    output, _ = third.communicate(timeout=60)
    assert third.returncode == 0, output
    assert worker(here).endswith(PACKED)


def test_an_upgrade_packs_for_itself_and_gc_waits_for_the_old_worker(here: World, tmp_path: Path):
    gate = tmp_path / "gate"
    old = here.start("run", "--", str(gate), module=SERVE)
    assert old.stdout is not None
    until(lambda: "up: version 1" in old.stdout.readline(), 60)
    with released(here, tmp_path / "new", "2") as new:
        shutil.copytree(pack_of(here).parent, pack_of(new).parent)  # another image's
        status, output = new.volume("run", module=SERVE)
        assert status == 0
        assert "told: the start pack is of no use: it is that of " in output
        assert output.endswith(UNPACKED.replace("version 1", "version 2"))
        shutil.rmtree(pack_of(new).parent)
        new.installed()
        assert new.volume("gc") == (0, "nothing to remove\n")
        assert pack_of(here).exists()
        gate.touch()
        output, _ = old.communicate(timeout=60)
        assert output == "whole: version 1, 0 modules\n"
        until(lambda: not any(here.layout.uses.glob("*/*")), 60, pause=0.05)
        assert new.volume("gc")[0] == 0
        assert not pack_of(here).exists()
        assert not here.environment_folder.exists()
        status, output = new.volume("run", module=SERVE)
        assert output.endswith(PACKED.replace("version 1", "version 2"))


def test_a_pack_that_vanishes_under_a_starting_worker_is_done_without(
    here: World, tmp_path: Path, times: Times
):
    """As where another machine's gc could not see the worker: a read-only or full volume."""
    moments = random.Random(4)
    begun = time.monotonic()
    worker(here)
    usual = time.monotonic() - begun
    place = tmp_path / "volume" / pack_of(here).relative_to(here.layout.mount)
    for _ in range(times(4, 30)):
        starting = here.start("run", module=SERVE)
        time.sleep(moments.uniform(0, usual))
        shutil.rmtree(place.parent)
        output, _ = starting.communicate(timeout=60)
        assert starting.returncode == 0, output
        assert is_up(output), output
        # For some seconds the mount still has the names of what another machine has removed.
        until(lambda: here.installed() and place.exists(), 60)


def test_a_pack_that_is_damaged_anywhere_costs_no_start_and_is_mended(here: World, times: Times):
    pack = pack_of(here)
    good = pack.read_bytes()
    clean = "clean: environment\nclean: small\n"

    def told_of(damaged: str) -> None:
        output = worker(here)
        assert is_up(output), output
        status, output = here.volume("verify")
        assert (status, output[: output.index("error")]) == (
            6,
            f"{clean}damaged: start pack: {damaged}\n",
        )

    flips = [number / 50 for number in range(51)]
    for where in [0.0, 0.02, 0.5, 1.0][: times(4, 0)] or flips:
        flip_a_bit(pack, where)
        told_of(NAME)
        pack.write_bytes(good)
    cuts = [0, 20, 60, 4096, *(len(good) * part // 20 for part in range(1, 20)), len(good) - 1]
    for size in [20, len(good) // 2][: times(2, 0)] or cuts:
        os.truncate(pack, size)
        told_of(NAME)
        pack.write_bytes(good)
    for name in (MANIFEST, TWIN)[: times(1, 2)]:
        flip_a_bit(pack.with_name(name), 0.5)
        assert worker(here).endswith(PACKED)
        assert here.volume("verify")[0] == 6
    pack.write_bytes(b"")
    status, output = here.volume("verify", "--repair")
    assert status == 0, output
    assert here.volume("verify") == (0, f"{clean}clean: start pack\n")
    assert worker(here).endswith(PACKED)


def test_libraries_that_cannot_be_unpacked_come_from_the_volume_and_leave_the_disk_as_it_was(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    assert worker(here).endswith(PACKED)
    assert list(scratch.iterdir()) == []
    gate = tmp_path / "gate"
    process = here.start("run", "--", str(gate), module=SERVE, around=SMALL_FILES)
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    told = next(line for line in lines if line.startswith("told: "))
    assert told == "told: the start pack cannot be unpacked: File too large\n"
    assert [path for path in scratch.rglob("*") if path.is_file() and not path.is_symlink()] == []
    gate.touch()
    assert list(lines)[-1] == "whole: version 1, 0 modules and 1 library\n"
    assert process.wait() == 0
    assert list(scratch.iterdir()) == []


def test_workers_that_share_a_temporary_folder_leave_each_others_libraries_alone(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of containers that share /tmp, each has its own numbers of processes."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    gate = tmp_path / "gate"
    first = here.start("run", "--", str(gate), module=SERVE)
    assert first.stdout is not None
    until(lambda: "up: version 1" in first.stdout.readline(), 60)
    second = here.start("run", module=SERVE, around=AS_FIRST)
    assert second.communicate(timeout=60)[0].endswith(PACKED)
    gate.touch()
    output, _ = first.communicate(timeout=60)
    assert (first.returncode, output) == (0, "whole: version 1, 0 modules\n")
    killed = here.start("run", "--", str(tmp_path / "never"), module=SERVE)
    assert killed.stdout is not None
    until(lambda: "up: version 1" in killed.stdout.readline(), 60)
    killed.kill()
    killed.communicate()
    assert list(scratch.iterdir()) != []
    assert worker(here).endswith(PACKED)
    assert list(scratch.iterdir()) == []
