"""A process beside the worker's that brings files into memory, by large requests.

The kernel's largest requests are those of mappings (`page_cache`), and mappings of one process take
turns at one lock: the worker's imports, which fault in pages of their own, would wait for them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress

from volume.start_pack.page_cache import populate

NICE = 10  # what the worker computes goes first
_PDEATHSIG = 1  # prctl(2): a signal for when the parent ends
_REQUEST_MAX = 64  # bytes: two numbers
_DONE, _FAILED = b"\1", b"\0"


class Filler:
    """The process, and a channel to it for each of some threads."""

    def __init__(self, channels: int) -> None:
        """Fork; for a process that has no threads yet. Raises OSError."""
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(channels)]
        parent = os.getpid()
        self.pid = pid = os.fork()
        if pid == 0:
            _be_the_filler(parent, [theirs for _, theirs in pairs], [ours for ours, _ in pairs])
        for _, theirs in pairs:
            theirs.close()
        self._channels = [ours for ours, _ in pairs]
        threading.Thread(target=_reap, args=(pid,), name="filler-end", daemon=True).start()

    def fill(self, channel: int, file: int, first: int, end: int) -> bool:
        """Bring these bytes of a file into memory; False where it cannot. One thread a channel.

        The file goes along as it is open here: another `open` would cost the volume a call.
        """
        try:
            socket.send_fds(self._channels[channel], [b"%d %d" % (first, end)], [file])
            return self._channels[channel].recv(1) == _DONE
        except OSError:
            return False

    def close(self) -> None:
        """Have the process end; who waits for it goes on."""
        for channel in self._channels:
            with suppress(OSError):  # it has ended
                channel.shutdown(socket.SHUT_RDWR)


def _be_the_filler(
    parent: int, own: Sequence[socket.socket], others: Sequence[socket.socket]
) -> None:
    """Do what comes through the channels until they are closed; does not return."""
    try:
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's is for the worker
        for channel in others:
            channel.close()
        if os.getppid() == parent:
            os.nice(NICE)
            threads = [threading.Thread(target=_serve, args=(channel,)) for channel in own]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        os._exit(0)


def _serve(channel: socket.socket) -> None:
    while (received := socket.recv_fds(channel, _REQUEST_MAX, 1))[0]:
        request, (file,), _, _ = received
        first, end = request.split()
        channel.send(_DONE if populate(file, int(first), int(end)) else _FAILED)
        os.close(file)


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
