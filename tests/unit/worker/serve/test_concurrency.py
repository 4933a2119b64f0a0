"""How many jobs the worker takes at once, by the memory that is free."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.events import Events
from worker.cancellation import Cancellation
from worker.serve import concurrency as concurrency_module
from worker.serve.concurrency import Concurrency, host_memory_free
from worker.serve.shutdown import RunningJobs


class Memory:
    def __init__(self, free: float) -> None:
        self.free = free

    def __call__(self) -> float:
        return self.free


def test_concurrency_follows_the_memory() -> None:
    async def numbers() -> list[int]:
        running, memory = RunningJobs(), Memory(0.2)
        modifier = Concurrency(8, running, memory)
        seen = [modifier(1)]  # the SDK begins with one
        memory.free = 0.05
        seen += [modifier(8), modifier(4)]
        memory.free = 0.2  # neither short nor plenty
        seen.append(modifier(2))
        memory.free = 0.9
        busy = asyncio.ensure_future(asyncio.sleep(0.05))

        async def job() -> None:
            running.enter(Cancellation())
            await busy

        task = asyncio.create_task(job())
        await asyncio.sleep(0)
        seen.append(modifier(2))  # a change would keep new jobs waiting for this one
        await task
        await asyncio.sleep(0)
        seen.append(modifier(2))
        return seen

    assert asyncio.run(numbers()) == [8, 4, 2, 2, 2, 8]


def test_it_begins_with_less_when_memory_is_short_already() -> None:
    async def number() -> int:
        return Concurrency(8, RunningJobs(), Memory(0.01))(1)

    assert asyncio.run(number()) == 1


def test_the_memory_of_this_machine_is_a_share() -> None:
    assert 0 < host_memory_free() <= 1


def concurrency(free: float, current: int, most: int = 8) -> int:
    """What the modifier says at its second call, where nothing runs."""

    async def run() -> int:
        memory = Memory(0.2)
        modifier = Concurrency(most, RunningJobs(), memory)
        modifier(most)
        memory.free = free
        return modifier(current)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("free", "current", "expected"),
    [
        (0.0999, 8, 4),
        (0.1, 8, 8),  # a tenth is not yet short
        (0.0999, 5, 2),
        (0.0999, 3, 1),
        (0.0999, 1, 1),  # never none
        (0.25, 2, 2),  # a quarter is not yet plenty
        (0.2501, 2, 8),
        (0.9, 8, 8),
        (0.2, 9, 8),  # never more than the operator says
    ],
)
def test_halved_below_a_tenth_and_raised_above_a_quarter(
    free: float, current: int, expected: int
) -> None:
    assert concurrency(free, current) == expected


def test_after_a_short_start_the_number_is_raised_when_there_is_plenty() -> None:
    async def numbers() -> list[int]:
        memory = Memory(0.05)
        modifier = Concurrency(8, RunningJobs(), memory)
        seen = [modifier(1)]
        memory.free = 0.2  # enough to begin with, but it has begun
        seen.append(modifier(1))
        memory.free = 0.3
        return [*seen, modifier(1)]

    assert asyncio.run(numbers()) == [1, 1, 8]


def test_a_change_is_told_and_no_change_is_not(events: Events) -> None:
    concurrency(0.05, 8)
    assert events.of("concurrency changed") == [{"jobs": 4, "memory_free": 0.05}]


def test_the_machines_memory_is_asked_where_nothing_else_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(concurrency_module, "host_memory_free", lambda: 0.01)

    async def number() -> int:
        return Concurrency(8, RunningJobs())(6)

    assert asyncio.run(number()) == 3


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "memory").mkdir()
    monkeypatch.setattr(concurrency_module, "_CGROUP", tmp_path)
    return tmp_path


def test_without_a_container_the_machines_memory_counts(cgroup: Path) -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    assert host_memory_free() == pytest.approx(sizes["MemAvailable"] / sizes["MemTotal"], abs=0.05)


@pytest.mark.parametrize("version", [1, 2])
def test_a_containers_limit_counts_without_the_files_that_it_caches(
    cgroup: Path, version: int
) -> None:
    def write(most: object, used: object, cached: object) -> None:
        if version == 2:
            (cgroup / "memory.max").write_text(f"{most}\n")
            (cgroup / "memory.current").write_text(f"{used}\n")
            stat = f"anon 5\ninactive_file {cached}\ntotal_inactive_file 7\n"
            (cgroup / "memory.stat").write_text(stat)
        else:
            (cgroup / "memory" / "memory.limit_in_bytes").write_text(f"{most}\n")
            (cgroup / "memory" / "memory.usage_in_bytes").write_text(f"{used}\n")
            stat = f"cache 5\ninactive_file 7\ntotal_inactive_file {cached}\n"
            (cgroup / "memory" / "memory.stat").write_text(stat)

    write(10_000, 9_990, 20)
    assert host_memory_free() == pytest.approx(0.003)
    write(10_000, 10_500, 20)  # over it, as it may be for a moment
    assert host_memory_free() == 0
    machine = max(host_memory_free(), 0)
    write("max", 9_990, 20)
    assert host_memory_free() > machine
    write(10_000, 9_990, "?")  # not to be read: the machine's counts
    assert host_memory_free() > 0.003
    write(0, 0, 0)  # of nothing there is no share
    assert host_memory_free() > 0.003
