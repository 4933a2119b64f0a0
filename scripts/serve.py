"""`make serve`: the worker's HTTP door on this machine; prints its address once it takes requests.

PORT, HTTP_HOST and all other settings come from the environment. Ctrl-C drains and ends it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from types import FrameType

PAUSE = 0.2  # seconds between two looks


def main() -> int:
    """Run the worker to its end; its exit status."""
    host, port = os.environ.get("HTTP_HOST", "127.0.0.1"), os.environ.get("PORT", "8000")
    reached = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104 - not bound here
    url = f"http://{f'[{reached}]' if ':' in reached else reached}:{port}"
    command = [sys.executable, "-m", "worker", "--http"]
    worker = subprocess.Popen(  # noqa: S603 - our own
        command, env={**os.environ, "HTTP_HOST": host, "PORT": port}
    )

    def stop(number: int, _frame: FrameType | None) -> None:
        # A terminal sends Ctrl-C to the worker too; what comes to this process alone is passed on.
        if number == signal.SIGTERM:
            worker.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    print(f"loading the model; the worker will be at {url}", flush=True)
    threading.Thread(target=_announce, args=(worker, url), daemon=True).start()
    return worker.wait()


def _announce(worker: subprocess.Popen[bytes], url: str) -> None:
    """Say where the worker is, once it takes requests."""
    while worker.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/ping", timeout=5) as answer:  # noqa: S310 - http
                if answer.status == 200:
                    print(f"ready: open {url} in a browser; Ctrl-C ends it", flush=True)
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(PAUSE)


if __name__ == "__main__":
    sys.exit(main())
