"""Stops (SIGTERM, SIGINT), which are heard from the first line on, whatever a process is doing.

The kernel ends a process that has no handler for a stop at once, be it in the midst of loading a
library. A handler in Python comes later: the interpreter runs it when the call of C that it is in
returns, and while that holds Python's lock no thread of the process can do anything either. So
there is none until something has to be finished.

The kernel spares a container's first process, though: a stop that it has no handler for is dropped.
Therefore the program goes on as a child, and the first process only passes stops on, reaps what
lost its parent and ends as its child does.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

STOPS = (signal.SIGTERM, signal.SIGINT)
UNWINDING_SECONDS = 5.0
_HEARD = {*STOPS, signal.SIGCHLD}


def hear_stops() -> None:
    """Let a stop end this process at once, until it sets handlers of its own.

    A container's first process does not return from here: its child does.
    """
    if os.getpid() == 1:
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)  # nothing is lost from here on
        if (program := os.fork()) != 0:
            _pass_on(program)
    leave_stops_to_the_kernel()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)


def leave_stops_to_the_kernel() -> None:
    """Take away the handlers of stops: Python's own prints a traceback, and any may come late.

    What is ignored, as a shell has it for what runs behind it, stays ignored.
    """
    for stop in STOPS:
        if signal.getsignal(stop) is not signal.SIG_IGN:
            signal.signal(stop, signal.SIG_DFL)


def ignore_stops() -> None:
    """Let no further stop interrupt the end that the first one has begun."""
    for stop in STOPS:
        signal.signal(stop, signal.SIG_IGN)


def _pass_on(program: int) -> NoReturn:
    """Send the child the stops that this process gets; end as it ends."""
    stop = 0
    while True:
        heard = signal.sigwaitinfo(_HEARD).si_signo
        if heard != signal.SIGCHLD:
            stop = heard
            os.kill(program, stop)  # not reaped yet, so the number is still its own
            continue
        ended = True
        while ended:
            pid, status = os.waitpid(-1, os.WNOHANG)
            ended = pid != 0
            if pid == program:
                number = os.waitstatus_to_exitcode(status)
                if stop and number == -stop:
                    _tell(stop)
                os._exit(number if number >= 0 else 128 - number)


def _tell(stop: int) -> None:
    """Write the line that the child had no time for, in the form of the worker's own."""
    now = time.time()
    when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03}+00:00"
    line = f'"level": "INFO", "event": "worker ends", "reason": "{signal.Signals(stop).name}"'
    os.write(sys.stderr.fileno(), f'{{"time": "{when}", {line}}}\n'.encode())


def unwind_at_stops(seconds: float = UNWINDING_SECONDS) -> None:
    """Make a stop a SystemExit with 128 + its number: children are stopped, a lease is released.

    What is not through `seconds` later, in a call that waits for the volume, is left as it stands.
    """
    told, tell = os.pipe()  # neither survives an exec
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)  # written at once, where the handler waits for the main thread
    for stop in STOPS:
        signal.signal(stop, _unwind)
    threading.Thread(target=_leave_after, args=(told, seconds), daemon=True).start()


def _unwind(stop: int, _frame: FrameType | None) -> NoReturn:
    ignore_stops()
    print(f"stopped by {signal.Signals(stop).name}", file=sys.stderr, flush=True)
    sys.exit(128 + stop)


def _leave_after(told: int, seconds: float) -> None:
    (stop,) = os.read(told, 1)
    time.sleep(seconds)
    os._exit(128 + stop)
