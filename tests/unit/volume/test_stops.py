"""SIGTERM and SIGINT before there is a worker, each in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from volume.stops import STOPS

REPOSITORY = Path(__file__).parents[3]


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script that has `stop`, a function that sends it the signal of that name, or more."""
    prelude = (
        "import os, signal, sys, threading, time\n"
        "from volume import stops\n"
        "def stop(name, after=0.0):\n"
        "    send = lambda: os.kill(os.getpid(), getattr(signal, name))\n"
        "    threading.Timer(after, send).start() if after else send()\n"
    )
    return subprocess.run(
        [sys.executable, "-c", prelude + script],
        cwd=REPOSITORY, text=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.slow("starts a process")
@pytest.mark.parametrize("number", STOPS)
def test_until_there_are_handlers_the_kernel_ends_it_without_a_word(number: signal.Signals) -> None:
    done = run(f"stops.hear_stops()\nstop('{number.name}')\nprint('still here')")
    assert done.returncode == -number
    assert done.stdout + done.stderr == ""


@pytest.mark.slow("starts a process")
def test_what_a_shell_has_ignored_stays_ignored() -> None:
    done = run(
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "stops.hear_stops()\nstop('SIGINT')\nprint('still here')"
    )
    assert (done.returncode, done.stdout) == (0, "still here\n")


@pytest.mark.slow("starts a process")
@pytest.mark.parametrize("number", STOPS)
def test_an_installer_is_ended_by_an_exception_so_that_the_lease_is_released(
    number: signal.Signals,
) -> None:
    """And a second stop does not interrupt that."""
    done = run(
        "stops.unwind_at_stops()\n"
        "try:\n"
        f"    stop('{number.name}')\n"
        "    time.sleep(60)\n"
        "finally:\n"
        "    stop('SIGTERM'), stop('SIGINT')\n"
        "    print('released')\n"
    )
    assert done.returncode == 128 + number
    assert done.stdout == "released\n"
    assert done.stderr == f"stopped by {number.name}\n"


@pytest.mark.slow("starts a process")
def test_what_is_stuck_in_a_call_of_c_is_left_when_its_time_is_up() -> None:
    done = run(
        "import hashlib\n"
        "stops.unwind_at_stops(0.2)\n"
        "stop('SIGTERM', after=0.3)\n"
        "hashlib.pbkdf2_hmac('sha512', b'', b'', 2_000_000_000)\n"  # half an hour, without the lock
    )
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr == ""


@pytest.mark.slow("starts a process")
def test_a_swallowed_exception_is_no_way_out() -> None:
    done = run(
        "stops.unwind_at_stops(0.2)\n"
        "try:\n"
        "    stop('SIGTERM')\n"
        "    time.sleep(60)\n"
        "except SystemExit:\n"
        "    time.sleep(60)\n"
    )
    assert done.returncode == 128 + signal.SIGTERM


@pytest.mark.slow("starts a process")
def test_after_the_end_has_begun_stops_change_nothing() -> None:
    done = run("stops.ignore_stops()\nstop('SIGTERM'), stop('SIGINT')\nprint('ended well')")
    assert (done.returncode, done.stdout) == (0, "ended well\n")
