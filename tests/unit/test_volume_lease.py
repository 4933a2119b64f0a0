"""The lease: one holder, whatever clocks, dead processes and full disks do."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from volume.errors import LeaseLostError
from volume.lease import (
    Lease,
    Process,
    Timing,
    acquire,
    describe,
    is_free,
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


def test_a_dead_process_of_this_machine_is_replaced_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "thing"
    program = (
        "import os, sys; from pathlib import Path; from volume.lease import acquire, Timing\n"
        "acquire(Path(sys.argv[1]), is_done=lambda: False, timing=Timing()); os._exit(9)"
    )
    root = Path(__file__).parents[2]
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
        lease._thread.join()
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
        lease._thread.join()
        with pytest.raises(LeaseLostError):
            lease.check()


def test_a_claim_without_a_name_is_waited_for_and_then_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "thing"
    folder.mkdir()
    (folder / "00000001.claim").write_text("")
    assert "not said its name" in describe(folder, 1)
    assert take(folder).generation == 2
