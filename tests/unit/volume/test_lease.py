"""The lease: one holder, whatever clocks, dead processes and full disks do."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from volume import lease as module
from volume.errors import LeaseLostError
from volume.lease import (
    Lease,
    Process,
    Timing,
    acquire,
    describe,
    is_free,
    newest_beat,
    newest_claim,
    owner_of,
)

QUICK = Timing(heartbeat=0.01, takeover=0.15, poll=0.005)


def never() -> bool:
    return False


def take(folder: Path, timing: Timing = QUICK) -> Lease:
    lease = acquire(folder, is_done=never, timing=timing)
    assert lease is not None
    return lease


def claim_of(folder: Path, generation: int, owner: Process) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{generation:08d}.claim").write_text(json.dumps(asdict(owner)))
    (folder / f"{generation:08d}.heartbeat").write_bytes(b"%012d" % 7)


def elsewhere() -> Process:
    """A process of another machine, of which nothing can be known from here."""
    return replace(Process.current(), boot="another boot", host="elsewhere", pid=1)


def test_a_lease_names_its_holder_and_is_free_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "thing"
    with take(folder) as lease:
        assert newest_claim(folder) == lease.generation == 1
        assert owner_of(folder, 1) == Process.current()
        assert not is_free(folder, 1)
        lease.check()
    assert is_free(folder, 1)
    with take(folder) as lease:
        assert lease.generation == 2


def test_of_many_at_once_one_holds(tmp_path: Path) -> None:
    holding = []
    most = []

    def work() -> None:
        with take(tmp_path / "thing", replace(QUICK, takeover=60)):
            holding.append(1)
            most.append(len(holding))
            threading.Event().wait(0.02)
            holding.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


def test_nobody_waits_for_what_is_done(tmp_path: Path) -> None:
    assert acquire(tmp_path / "thing", is_done=lambda: True, timing=QUICK) is None
    claim_of(tmp_path / "other", 3, elsewhere())
    looks = iter([False, False, True])
    assert acquire(tmp_path / "other", is_done=lambda: next(looks), timing=QUICK) is None


def test_a_silent_holder_elsewhere_is_replaced_and_told(tmp_path: Path) -> None:
    folder = tmp_path / "thing"
    claim_of(folder, 3, elsewhere())
    heard: list[str] = []
    lease = acquire(folder, is_done=never, on_wait=heard.append, timing=QUICK)
    assert lease is not None
    assert lease.generation == 4
    assert heard == ["process 1 on elsewhere"]


def test_a_holder_elsewhere_that_counts_is_waited_for(tmp_path: Path) -> None:
    """However far its clock is off: nothing but its count is looked at."""
    folder = tmp_path / "thing"
    claim_of(folder, 1, elsewhere())
    beats = 0

    def done_after_many_beats() -> bool:
        nonlocal beats
        beats += 1
        (folder / "00000001.heartbeat").write_bytes(b"%012d" % beats)
        return beats > 3 * QUICK.takeover / QUICK.poll

    assert acquire(folder, is_done=done_after_many_beats, timing=QUICK) is None
    assert newest_claim(folder) == 1


@pytest.mark.slow("starts a process")
def test_a_dead_process_of_this_machine_is_replaced_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "thing"
    program = (
        "import os, sys; from pathlib import Path; from volume.lease import acquire, Timing\n"
        "acquire(Path(sys.argv[1]), is_done=lambda: False, timing=Timing()); os._exit(9)"
    )
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", program, str(folder)], cwd=root, check=False)
    assert is_free(folder, 1)
    assert take(folder, Timing(takeover=1e6)).generation == 2


def test_a_pid_that_now_is_another_process_does_not_count_as_the_holder() -> None:
    assert not Process.current().is_known_dead()
    assert replace(Process.current(), started="1").is_known_dead()
    assert not elsewhere().is_known_dead()


def test_a_holder_that_was_replaced_finds_out(tmp_path: Path) -> None:
    folder = tmp_path / "thing"
    with take(folder) as lease:
        claim_of(folder, 2, elsewhere())
        lease._thread.join(timeout=10)
        with pytest.raises(LeaseLostError, match="took over"):
            lease.check()


def test_a_holder_whose_volume_takes_no_heartbeat_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Lease, count: int) -> None:
        if count:
            raise OSError

    monkeypatch.setattr(Lease, "_beat", refuse)
    with take(tmp_path / "thing") as lease:
        lease._thread.join(timeout=10)
        with pytest.raises(LeaseLostError):
            lease.check()


def test_a_claim_without_a_name_is_waited_for_and_then_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "thing"
    folder.mkdir()
    (folder / "00000001.claim").write_text("")
    assert "not said its name" in describe(folder, 1)
    assert take(folder).generation == 2


class Clock:
    """Time as the lease sees it: it passes by sleeping, or by `step` at each look."""

    def __init__(self, step: float = 0.0) -> None:
        self.now = 0.0
        self.step = step
        self.slept: list[float] = []
        self.at: dict[int, Callable[[], object]] = {}

    def monotonic(self) -> float:
        self.now += self.step
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        self.at.get(len(self.slept), lambda: None)()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("volume.lease.time", made)
    return made


def test_a_holder_may_be_silent_for_just_the_time_and_not_longer(
    tmp_path: Path, clock: Clock
) -> None:
    folder = tmp_path / "thing"
    claim_of(folder, 1, elsewhere())
    assert take(folder, Timing()).generation == 2
    assert clock.slept == [1.0] * 61


def test_the_silence_counts_from_the_last_beat(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "thing"
    claim_of(folder, 1, elsewhere())
    clock.at[50] = lambda: (folder / "00000001.heartbeat").write_bytes(b"%012d" % 8)
    heard: list[str] = []
    lease = acquire(folder, is_done=never, on_wait=heard.append, timing=Timing())
    assert lease is not None
    assert lease.generation == 2
    assert len(clock.slept) == 50 + 61
    assert heard == ["process 1 on elsewhere"]


def test_each_new_holder_is_told_and_gets_the_whole_time(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "thing"
    claim_of(folder, 1, elsewhere())
    clock.at[50] = lambda: claim_of(folder, 2, replace(elsewhere(), pid=2))
    heard: list[str] = []
    lease = acquire(folder, is_done=never, on_wait=heard.append, timing=Timing())
    assert lease is not None
    assert lease.generation == 3
    assert heard == ["process 1 on elsewhere", "process 2 on elsewhere"]
    assert len(clock.slept) == 50 + 61


def test_who_releases_is_followed_without_a_wait(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "thing"
    claim_of(folder, 1, elsewhere())
    clock.at[3] = (folder / "00000001.released").touch
    assert take(folder, Timing()).generation == 2
    assert len(clock.slept) == 3


def test_who_sees_an_old_state_of_the_folder_takes_nobodys_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network filesystems may show for a while what was."""
    folder = tmp_path / "thing"
    claim_of(folder, 1, elsewhere())
    (folder / "00000001.released").touch()
    looks: list[int] = []

    def look(where: Path) -> int:
        looks.append(newest_claim(where) if looks else 0)
        return looks[-1]

    monkeypatch.setattr("volume.lease.newest_claim", look)
    assert take(folder).generation == 2
    assert looks == [0, 1]
    assert owner_of(folder, 1) == elsewhere()


def test_a_holder_whose_beats_arrive_holds_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volume.lease.time", Clock(step=20.0))
    folder = tmp_path / "thing"
    with take(folder, Timing(heartbeat=0.001, takeover=60.0)) as lease:
        while int((folder / "00000001.heartbeat").read_bytes() or 0) < 20:
            assert lease._thread.is_alive()
            threading.Event().wait(0.001)
        lease.check()


def test_a_holder_whose_beats_fail_gives_up_when_others_may_take_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats = []

    def refuse(self: Lease, count: int) -> None:
        beats.append(count)
        if count:
            raise OSError

    monkeypatch.setattr("volume.lease.time", Clock(step=1.0))
    monkeypatch.setattr(Lease, "_beat", refuse)
    with take(tmp_path / "thing", Timing(heartbeat=0.001, takeover=3.0)) as lease:
        lease._thread.join(timeout=10)
        with pytest.raises(LeaseLostError, match="silent for 3 s"):
            lease.check()
    assert beats == [0, 1, 2, 3, 4]


def test_a_beat_that_fails_now_and_then_is_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat, beats = Lease._beat, []

    def every_other(self: Lease, count: int) -> None:
        beats.append(count)
        if count % 2:
            raise OSError
        beat(self, count)

    monkeypatch.setattr("volume.lease.time", Clock(step=20.0))
    monkeypatch.setattr(Lease, "_beat", every_other)
    with take(tmp_path / "thing", Timing(heartbeat=0.001, takeover=60.0)) as lease:
        while len(beats) < 12:
            assert lease._thread.is_alive()
            threading.Event().wait(0.001)
        lease.check()


@pytest.mark.slow("starts a process")
def test_a_zombie_of_this_machine_is_replaced_at_once(tmp_path: Path) -> None:
    """A killed installer whose parent has not yet asked for its status does nothing any more."""
    child = subprocess.Popen(["sleep", "1000"])
    try:
        started = stat_of(child.pid)[19]
        holder = replace(Process.current(), pid=child.pid, started=started)
        claim_of(tmp_path / "thing", 1, holder)
        assert not is_free(tmp_path / "thing", 1)
        child.kill()
        while stat_of(child.pid)[0] != "Z":
            threading.Event().wait(0.001)
        assert is_free(tmp_path / "thing", 1)
        assert take(tmp_path / "thing", Timing(takeover=1e6)).generation == 2
    finally:
        child.kill()
        child.wait()


def stat_of(pid: int) -> list[str]:
    """proc(5), stat: the fields from the third on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@pytest.mark.parametrize("field", ["boot", "namespace"])
def test_a_pid_of_another_boot_or_container_says_nothing(field: str) -> None:
    gone = replace(Process.current(), started="1")
    assert gone.is_known_dead()
    assert not replace(gone, **{field: "another"}).is_known_dead()


def test_a_holder_that_cannot_say_that_it_leaves_does_not_fail(tmp_path: Path) -> None:
    with take(tmp_path / "thing", Timing()):
        (tmp_path / "thing").rename(tmp_path / "away")
    assert newest_claim(tmp_path / "away") == 1


def test_a_holder_is_seen_from_its_first_moment_until_it_leaves(tmp_path: Path) -> None:
    folder = tmp_path / "thing"
    with take(folder, Timing()) as lease:
        assert (folder / "00000001.heartbeat").read_bytes() == b"%012d" % 0
    assert not lease._thread.is_alive()
    assert sorted(path.name for path in folder.iterdir()) == [
        "00000001.claim",
        "00000001.heartbeat",
        "00000001.released",
    ]


def test_claims_are_counted_by_number_and_strangers_files_are_not(tmp_path: Path) -> None:
    assert newest_claim(tmp_path / "nothing") == 0
    for name in ("00000009.claim", "00000010.claim", "copy.claim", "00000011.heartbeat"):
        (tmp_path / name).touch()
    assert newest_claim(tmp_path) == 10


def test_a_file_whose_name_only_looks_like_a_number_is_no_claim(tmp_path: Path) -> None:
    names = (
        "\N{SUPERSCRIPT TWO}.claim",
        "\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668.claim",
        "9" * 200 + ".claim",
    )
    for name in names:
        (tmp_path / name).touch()
    assert newest_claim(tmp_path) == 0
    take(tmp_path)
    assert newest_claim(tmp_path) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 60_000,  # deeper than a parser goes
        b'{"host": "' + b"x" * 100_000 + b'"}',
        b"\xff\xfe",
        b"null",
        b"[1]",
        json.dumps(asdict(Process.current()) | {"pid": "1/../../etc"}).encode(),
        json.dumps(asdict(Process.current()) | {"pid": None}).encode(),
        json.dumps(asdict(Process.current()) | {"started": 1}).encode(),
        json.dumps(asdict(Process.current()) | {"host": ["x"]}).encode(),
    ],
)
def test_a_claim_that_no_process_wrote_so_is_one_without_a_name(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "00000001.claim").write_bytes(content)
    assert owner_of(tmp_path, 1) is None
    assert not is_free(tmp_path, 1)
    assert describe(tmp_path, 1) == "a worker that has not said its name"


def test_of_what_lies_in_a_heartbeats_place_little_is_read(tmp_path: Path) -> None:
    claim_of(tmp_path, 1, elsewhere())
    with (tmp_path / "00000001.heartbeat").open("wb") as file:
        file.truncate(1 << 40)
    assert newest_beat(tmp_path) == (1, bytes(1 << 16))


def test_who_finds_the_volume_full_leaves_the_lease_to_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for a holder that could not even write its name, or its first beat."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module.json, "dump", full)
        with pytest.raises(OSError, match="No space left"):
            acquire(tmp_path, is_done=never, timing=Timing())
    assert is_free(tmp_path, 1)
    lease = acquire(tmp_path, is_done=never, timing=Timing())  # not after 60 s
    assert lease is not None
    assert lease.generation == 2
    with monkeypatch.context() as patched:
        patched.setattr(Lease, "_beat", full)
        with pytest.raises(OSError, match="No space left"), lease:
            pass
    assert is_free(tmp_path, 2)
    third = acquire(tmp_path, is_done=never, timing=Timing())
    assert third is not None
    assert third.generation == 3


@pytest.mark.slow("starts a process")
@pytest.mark.parametrize("stop", ["", "lease.json.dump = lambda *_: sys.exit(1)"])
def test_a_lease_that_was_taken_and_not_entered_is_released_at_the_exit(
    tmp_path: Path, stop: str
) -> None:
    """A stop may come right after the claim, or in the midst of it."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from volume import lease\n"
        f"{stop}\n"
        "taken = lease.acquire(Path(sys.argv[1]), is_done=lambda: False, timing=lease.Timing())\n"
        "sys.exit(taken.generation)\n"
    )
    repository = Path(__file__).parents[3]
    command = [sys.executable, "-c", script, str(tmp_path)]
    assert subprocess.run(command, cwd=repository, check=False, timeout=60).returncode == 1
    assert (tmp_path / "00000001.released").exists()
