"""Logs: one logger for the worker, one line an event, never a secret nor a whole signed URL."""

from __future__ import annotations

import logging
import sys

log = logging.getLogger("worker")


def set_up_logging(level: str) -> None:
    """Print the worker's log lines of this level and above on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(level)
    log.propagate = False
