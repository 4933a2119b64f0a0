"""What a worker does first: its files are read ahead, and its modules come from the start pack."""

from __future__ import annotations

from volume.start_pack.read_ahead import ReadAhead


def begin() -> ReadAhead:
    """Begin to read what a start needs, before any import of what is on the volume."""
    return ReadAhead()
