"""The image's root under bubblewrap, as RunPod starts it: a volume, a port, nothing of the host.

The entry point is process 1, as under a container runtime: the kernel spares that one signals.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.nix.host import tool
from tests.nix.image_files import Image
from tests.support.first_process import first_process
from tests.support.worker_process import free_port, post, wait_until_up

STOPPED = 128 + signal.SIGTERM
HOSTS = b"127.0.0.1 localhost\n"


@dataclass(frozen=True)
class Container:
    """How to start the image. `mounts` are read-only: place in the container -> on the machine.

    `volume` is a folder, or bubblewrap's own words for what is mounted instead of one.
    """

    image: Image
    user: int
    volume: Path | Sequence[str]
    mounts: Mapping[str, Path] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)

    def command(self, *arguments: str) -> list[str]:
        """Return the whole command line."""
        command = [tool("bwrap"), "--tmpfs", "/", *self.root()]
        command += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/var/tmp"]
        command += ["--die-with-parent", "--unshare-pid", "--as-pid-1"]
        command += ["--unshare-user", "--uid", str(self.user), "--gid", str(self.user)]
        if isinstance(self.volume, Path):
            command += ["--bind", str(self.volume), "/runpod-volume"]
        else:
            command += self.volume
        for place, source in self.mounts.items():
            command += ["--ro-bind", str(source), place]
        command += ["--remount-ro", "/", "--chdir", "/", "--clearenv"]
        for name, value in {**self.image.variables, **self.variables}.items():
            command += ["--setenv", name, value]
        return [*command, *self.image.entry, *arguments]

    def root(self) -> list[str]:
        """Return the words for the image's folders, with room beside them for what is mounted.

        Folder by folder, so that no mount point appears in the unpacked image itself. /etc/hosts
        is there in every container: its runtime writes it.
        """
        words = ["--file", "0", "/etc/hosts"]
        for path in sorted([*self.image.root.iterdir(), *(self.image.root / "etc").iterdir()]):
            place = f"/{path.relative_to(self.image.root)}"
            if path.is_symlink():
                words += ["--symlink", str(path.readlink()), place]
            elif place != "/etc":
                words += ["--ro-bind", str(path), place]
        return words

    def start(self, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        """Start it; everything that it prints goes into `log`."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.command(*arguments),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        assert process.stdin
        process.stdin.write(HOSTS)
        process.stdin.close()
        return process

    @staticmethod
    def stop(started: subprocess.Popen[bytes], seconds: float) -> int:
        """Send it SIGTERM, as a container runtime does; the exit status, within so many seconds."""
        try:
            os.kill(first_process(started.pid), signal.SIGTERM)
            return started.wait(seconds)
        finally:
            started.kill()
            started.wait()

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run it to its end: its exit status and what it printed."""
        done = subprocess.run(
            self.command(*arguments), input=HOSTS, capture_output=True, timeout=60, check=False
        )
        return done.returncode, (done.stdout + done.stderr).decode()


def answer(container: Container, log: Path) -> tuple[dict[str, Any], float]:
    """Start a container, give it a job over HTTP; the answer, and the seconds before the job."""
    port = free_port()
    started = time.monotonic()
    process = container.start("--", "--rp_serve_api", "--rp_api_port", str(port), log=log)
    try:
        url = f"http://localhost:{port}"
        wait_until_up(process, url, log, seconds=600)
        seconds = time.monotonic() - started
        text = {"text": "They bought a new car.", "prompt_speech_url": "demo.wav"}
        return post(f"{url}/runsync", {"input": text}), seconds
    finally:
        # The SDK's server, when it has ended well, ends as the signal would have ended it.
        assert container.stop(process, seconds=30) == STOPPED, log.read_text()
