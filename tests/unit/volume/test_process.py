"""Children: what they print and how they end comes back, and none outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import until
from volume.process import _DIE_WITH_PARENT, OUTPUT_MAX, Outcome, bytes_written, run_child

ROOT = Path(__file__).parents[3]
PATH = {"PATH": os.environ["PATH"]}


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


@pytest.mark.slow("starts a process")
def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, sys; from volume.process import run_child\n"
        "run_child(['sh', '-c', 'echo $$ > $0; exec sleep 1000', sys.argv[1]], "
        "environment=os.environ)"
    )
    note = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", program, str(note)], cwd=ROOT)
    until(lambda: note.exists() and note.read_text().endswith("\n"))
    child = int(note.read_text())
    try:
        assert is_running(child)
        parent.kill()
        until(lambda: not is_running(child))
    finally:
        parent.wait()
        if is_running(child):
            os.kill(child, signal.SIGKILL)


@pytest.mark.slow("starts a process")
def test_a_child_is_watched_and_ended_when_the_watch_fails(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    heard = []

    def stop(written: int) -> None:
        heard.append(written)
        if note.exists() and note.read_text().endswith("\n"):
            raise KeyError

    command = ["sh", "-c", "echo $$ > $0; exec sleep 1000", str(note)]
    with pytest.raises(KeyError):
        run_child(command, environment=PATH, watch=stop, interval=0.001)
    assert len(heard) > 1
    assert heard == sorted(heard)
    assert not is_running(int(note.read_text()))


@pytest.mark.slow("starts a process")
def test_a_child_gets_the_given_variables_alone_and_no_input() -> None:
    command = ["sh", "-c", "cat; echo $GIVEN $HOME; kill -9 $$"]
    outcome = run_child(command, environment=PATH | {"GIVEN": "x"}, interval=0.01)
    assert outcome == Outcome(-9, "x\n")


@pytest.mark.slow("starts a process")
def test_a_child_whose_parent_died_before_it_began_does_not_begin() -> None:
    command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid() + 1)]
    done = subprocess.run([*command, "echo", "began"], check=False, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.slow("starts a process")
def test_a_command_that_is_not_there_fails_with_its_name() -> None:
    outcome = run_child(["no-such-program"], environment=PATH, interval=0.01)
    assert outcome == Outcome(1, "no-such-program cannot be run: No such file or directory\n")


def test_the_last_six_lines_say_why_it_gave_up() -> None:
    lines = [str(number) for number in range(9)]
    assert Outcome(1, "\n".join(lines) + "\n\n").last_lines == "3\n4\n5\n6\n7\n8"
    assert Outcome(1, "one\ntwo\n").last_lines == "one\ntwo"
    assert Outcome(-9, " \n").last_lines == "exit status -9"


def test_what_a_process_has_written_is_counted_and_what_it_read_is_not() -> None:
    before = bytes_written(os.getpid())
    with Path(os.devnull).open("wb", buffering=0) as sink:
        sink.write(bytes(3_000_000))
    with Path("/dev/zero").open("rb", buffering=0) as source:
        source.read(5_000_000)
    assert 3_000_000 <= bytes_written(os.getpid()) - before < 5_000_000


@pytest.mark.slow("starts a process")
def test_of_a_process_that_is_gone_nothing_is_known() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert bytes_written(child.pid) == 0


@pytest.mark.slow("starts a process")
def test_of_a_child_that_prints_on_and_on_the_end_is_kept() -> None:
    script = "print('begin'); [print('x' * 1023) for _ in range(3000)]; print('end')"
    outcome = run_child([sys.executable, "-c", script], environment={})
    assert len(outcome.output) == OUTPUT_MAX
    assert outcome.output.endswith("x\nend\n")
