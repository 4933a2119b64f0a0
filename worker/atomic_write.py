"""Files that appear whole or not at all: the worker's one way to replace a file.

The volume's installer has its own, volume/atomic_write.py, which says why.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, which replaces `path` on leaving.

    When the block raises, `path` stays as it was and nothing else is left. The folder of `path`
    must be there. Raises OSError.
    """
    with tempfile.TemporaryDirectory(prefix=".part-", dir=path.parent) as folder:
        part = Path(folder) / "part"
        yield part
        part.replace(path)
