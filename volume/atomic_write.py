"""Files that appear whole or not at all: staged beside their place, flushed, then renamed.

Another than worker/atomic_write.py, for neither package may import the other's code: this one runs
before there is an environment. What it writes stays on the volume for years, so it waits for the
disk, which the worker's files, most of them gone with their job, need not.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staging(final: Path) -> Iterator[Path]:
    """Give a path beside `final` to write to; what is still there when the block ends goes."""
    final.parent.mkdir(parents=True, exist_ok=True)
    staged = final.with_name(f".{final.name}.{uuid.uuid4().hex}")
    try:
        yield staged
    finally:
        staged.unlink(missing_ok=True)


@contextmanager
def replacing(final: Path) -> Iterator[Path]:
    """Give a path to write to, which replaces `final` on leaving; who has that one open keeps it.

    When the block raises, `final` stays as it was. Raises OSError.
    """
    with staging(final) as staged:
        yield staged
        flush_file(staged)
        staged.replace(final)


def flush_file(path: Path) -> None:
    """Have a file's content on the disk, so that its rename cannot outrun it."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
