"""Names that nobody answers for: the download's deadline holds, and the process may end."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.errors import DownloadError
from worker.net import download
from worker.net.download import LOOKUPS, Limits, fetch_blocking, resolve

ROOT = Path(__file__).parents[4]

# In a network and mount namespace of its own: name servers that take each question and say nothing.
SILENT_SERVERS = """
import ctypes, fcntl, os, socket, struct, sys, time
from pathlib import Path

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    up = struct.pack("16sH14x", b"lo", 0x1 | 0x40)  # IFF_UP, IFF_RUNNING
    fcntl.ioctl(s, 0x8914, up)  # SIOCSIFFLAGS
names = Path(sys.argv[1]) / "resolv.conf"
servers = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
names.write_text("".join(f"nameserver {server}\\n" for server in servers))
libc = ctypes.CDLL(None, use_errno=True)
place = os.path.realpath("/etc/resolv.conf")
if libc.mount(os.fsencode(names), os.fsencode(place), None, 4096, None):  # MS_BIND
    raise OSError(ctypes.get_errno(), "mount --bind")
silent = []
for server in servers:
    silent.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    silent[-1].bind((server, 53))

from worker.net.download import Limits, fetch_blocking
from worker.errors import DownloadError

begun = time.monotonic()
try:
    fetch_blocking("https://voice.example/x.wav", Path(sys.argv[1]) / "x", Limits(seconds=1))
except DownloadError as error:
    print(error, flush=True)
asked = silent[0].recv(512)
assert b"voice" in asked, asked
print(time.monotonic() - begun, flush=True)
"""


@pytest.fixture
def own_network() -> list[str]:
    """A command's begin that gives it a network and mounts of its own."""
    for command in (["unshare", "-n", "-m"], ["unshare", "-r", "-n", "-m"]):
        try:
            done = subprocess.run([*command, "true"], capture_output=True, check=False)
        except FileNotFoundError:
            break
        if done.returncode == 0:
            return command
    pytest.skip("the machine lacks unshare, or allows no network namespace")


@pytest.mark.slow("starts a process")
def test_the_deadline_and_the_process_do_not_wait_for_servers_that_do_not_answer(
    own_network: list[str], tmp_path: Path
) -> None:
    """The system itself would wait for 15 to 30 s."""
    command = [*own_network, sys.executable, "-c", SILENT_SERVERS, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        message, seconds = process.stdout.readline(), process.stdout.readline()
        told = time.monotonic()
        assert process.wait(60) == 0
        ended = time.monotonic() - told
    assert message == "https://voice.example/x.wav took longer than 1 s\n"
    assert float(seconds) < 8
    assert ended < 8


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """No name is found, nor not found, until the event is set."""
    go = threading.Event()

    def getaddrinfo(*_asked: object, **_how: object) -> list[object]:
        go.wait(60)
        return [(0, 0, 0, "", ("8.8.8.8", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield go
    go.set()
    for thread in lookups():
        thread.join(30)


def lookups() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lookup"]


def gives_up(into: Path, seconds: float) -> float:
    """Seconds that a download of such a name took."""
    begun = time.monotonic()
    with pytest.raises(DownloadError, match=f"took longer than {seconds:g} s"):
        fetch_blocking("https://voice.example/x.wav", into, Limits(seconds=seconds))
    return time.monotonic() - begun


def test_a_name_that_is_not_found_in_time_is_given_up(
    stuck: threading.Event, tmp_path: Path
) -> None:
    assert gives_up(tmp_path / "x", 0.1) < 8
    (left,) = lookups()
    assert left.daemon  # for it no process stays
    assert not (tmp_path / "x").exists()
    assert list(tmp_path.iterdir()) == []


def test_those_that_were_given_up_are_few_and_leave_room_when_they_end(
    stuck: threading.Event, tmp_path: Path
) -> None:
    for number in range(LOOKUPS + 3):
        gives_up(tmp_path / f"{number}", 0.02)
    assert len(lookups()) == LOOKUPS
    stuck.set()
    for thread in lookups():
        thread.join(30)
    for _ in range(LOOKUPS + 1):  # each place is free again, once
        assert asyncio.run(resolve("voice.example")) == ["8.8.8.8"]
    assert download._lookups._value == LOOKUPS


@pytest.mark.parametrize(
    "fault", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")]
)
def test_a_name_that_is_none_has_no_address_and_leaves_room(
    fault: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def getaddrinfo(*_asked: object, **_how: object) -> list[object]:
        raise fault

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(DownloadError, match=r"the host voice\.example cannot be found"):
        fetch_blocking("https://voice.example/x.wav", tmp_path / "x", Limits(seconds=30))
    assert download._lookups._value == LOOKUPS


def test_where_no_thread_can_be_had_the_name_has_no_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(OSError, match="can't start new thread"):
        asyncio.run(resolve("voice.example"))
    assert download._lookups._value == LOOKUPS
