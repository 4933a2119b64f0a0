"""Leases: one installer at a time, on filesystems where a lock may be granted to two machines.

docs/VOLUME.md says why that is safe.

A lease is a folder of numbered claims. Whoever creates claim N+1 exclusively holds the lease from
then on; claims are never deleted, so a number is never given twice. The holder counts a heartbeat
up in a file of its own. Others compare no clocks: they take over when, by their own monotonic
clock, the count has stood still for `Timing.takeover` seconds, or when the holder is a process of
this very machine and has gone. A holder that stood still finds a greater claim when it wakes.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from volume.errors import LeaseLostError

_BYTES_MAX = 1 << 16  # of a claim or a heartbeat, which have some 200; what is longer is damaged
_NUMBER = re.compile(r"[0-9]{8,12}").fullmatch


@dataclass(frozen=True)
class Timing:
    """Seconds between heartbeats, of silence until a takeover, and between looks."""

    heartbeat: float = 5.0
    takeover: float = 60.0
    poll: float = 1.0


@dataclass(frozen=True)
class Process:
    """One process, told from every other: equal `boot` and `namespace` make pids comparable."""

    host: str
    boot: str
    namespace: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> Self:
        """Return this process."""
        return cls(
            host=socket.gethostname(),
            boot=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            namespace=str(Path("/proc/self/ns/pid").readlink()),
            pid=os.getpid(),
            started=_start_time(os.getpid()) or "",
        )

    def is_known_dead(self) -> bool:
        """Say whether this is a process that would be seen from here, and is not."""
        here = Process.current()
        comparable = (self.boot, self.namespace) == (here.boot, here.namespace)
        return comparable and _start_time(self.pid) != self.started


def _start_time(pid: int) -> str | None:
    """Return a process's start, in ticks since boot (proc(5), stat field 22); None when gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {"Z", "X"} else fields[19]


class Lease:
    """The right to install one resource, from entering until leaving or losing it."""

    def __init__(self, folder: Path, generation: int, timing: Timing) -> None:
        self.generation = generation
        self._claimed = False
        self._folder = folder
        self._timing = timing
        self._lost = threading.Event()
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Self:
        """Begin the heartbeat."""
        try:
            self._beat(0)
        except OSError:
            self.release()
            raise
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the heartbeat and let the next one in at once."""
        self._leave.set()
        self._thread.join()
        self.release()
        atexit.unregister(self.release)

    def claim(self) -> bool:
        """Create the claim file; False when another was first. O_EXCL is atomic on NFS too."""
        path, owner = _claim_file(self._folder, self.generation), asdict(Process.current())
        atexit.register(self.release)  # a stop may come before the lease is entered
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            atexit.unregister(self.release)
            return False
        self._claimed = True
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(owner, file)
        except OSError:  # full: nobody should wait for a holder without a name
            self.release()
            raise
        return True

    def release(self) -> None:
        """Let the next one in, where this one has claimed it."""
        if self._claimed:
            with suppress(OSError):
                _released(self._folder, self.generation).touch()

    def check(self) -> None:
        """Raise LeaseLostError when another has taken over."""
        if self._lost.is_set():
            raise LeaseLostError(
                "another worker took over this install, since this one was silent for "
                f"{self._timing.takeover:g} s; nothing is broken, start again"
            )

    def _keep(self) -> None:
        """Count up until left; give up when a greater claim stands or the volume takes no beat."""
        count = 0
        last = time.monotonic()
        while not self._leave.wait(self._timing.heartbeat):
            count += 1
            with suppress(OSError):
                if newest_claim(self._folder) != self.generation:
                    break
                self._beat(count)
                last = time.monotonic()
            if time.monotonic() - last > self._timing.takeover:
                break
        else:
            return
        self._lost.set()

    def _beat(self, count: int) -> None:
        """Write the count; always the same number of bytes, so a full disk does not stop it."""
        path = _heartbeat(self._folder, self.generation)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644), "wb") as file:
            file.write(b"%012d" % count)


def acquire(
    folder: Path,
    *,
    is_done: Callable[[], bool],
    on_wait: Callable[[str], None] = lambda _: None,
    timing: Timing,
    silent: int = 0,
) -> Lease | None:
    """Wait for the lease of `folder`; None as soon as `is_done`, for then there is no need.

    `on_wait` hears once of each holder that is waited for; the claim `silent` is waited for no
    more. Raises OSError when the volume cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seen = (0, b"")
    since = time.monotonic()
    while not is_done():
        beat = newest_beat(folder)
        holder, _ = beat
        free = holder == silent or is_free(folder, holder)
        if beat != seen:
            if holder != seen[0] and not free:
                on_wait(describe(folder, holder))
            seen, since = beat, time.monotonic()
        if free or time.monotonic() - since > timing.takeover:
            lease = Lease(folder, holder + 1, timing)
            if lease.claim():
                return lease
        else:
            time.sleep(timing.poll)
    return None


def is_free(folder: Path, holder: int) -> bool:
    """Say whether nobody holds the lease, as far as can be known without waiting."""
    owner = owner_of(folder, holder)
    return (
        holder == 0
        or _released(folder, holder).exists()
        or (owner is not None and owner.is_known_dead())
    )


def is_silent(folder: Path, holder: int, seconds: float) -> bool:
    """Say whether the holder's last heartbeat is so old, by the times of the volume's own files.

    For who does not want to watch. Raises OSError when the volume cannot be written.
    """
    probe = folder / f"{uuid.uuid4().hex}.look"
    try:
        probe.touch(exist_ok=False)
        here = probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
    try:
        beaten = _heartbeat(folder, holder).stat().st_mtime
    except FileNotFoundError:  # it has claimed, and has not begun
        beaten = _claim_file(folder, holder).stat().st_mtime
    return here - beaten > seconds


def newest_claim(folder: Path) -> int:
    """Return the number of the claim that holds; 0 when there never was one."""
    try:
        return max((int(p.stem) for p in folder.glob("*.claim") if _NUMBER(p.stem)), default=0)
    except FileNotFoundError:
        return 0


def newest_beat(folder: Path) -> tuple[int, bytes]:
    """Return the claim that holds and its count: while they stay the same, no holder was seen."""
    holder = newest_claim(folder)
    return holder, _read(_heartbeat(folder, holder))


def owner_of(folder: Path, generation: int) -> Process | None:
    """Return who made a claim, or None when it died before saying so."""
    try:
        owner = Process(**json.loads(_read(_claim_file(folder, generation))))
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (owner.host, owner.boot, owner.namespace, owner.started)
    typed = isinstance(owner.pid, int) and all(isinstance(text, str) for text in texts)
    return owner if typed else None


def describe(folder: Path, generation: int) -> str:
    """Name the holder of the lease, for people."""
    owner = owner_of(folder, generation)
    return (
        f"process {owner.pid} on {owner.host}" if owner else "a worker that has not said its name"
    )


def _claim_file(folder: Path, generation: int) -> Path:
    return folder / f"{generation:08d}.claim"


def _heartbeat(folder: Path, generation: int) -> Path:
    return folder / f"{generation:08d}.heartbeat"


def _released(folder: Path, generation: int) -> Path:
    return folder / f"{generation:08d}.released"


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_BYTES_MAX)
    except OSError:
        return b""
