"""Free space: checked before an install, and again when one fails."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from volume.errors import FullError
from volume.progress import gigabytes


def require_space(folder: Path, needed: int, label: str, *, held: int = 0) -> None:
    """Raise FullError, naming the missing bytes, unless `needed` - `held` bytes are free.

    `held` is what an interrupted attempt has left on the volume and this one will use.
    """
    missing = missing_bytes(folder, needed - held)
    if missing > 0:
        raise FullError(
            f"{label} does not fit on the volume: {missing} bytes ({gigabytes(missing)}) are "
            f"missing; it needs {gigabytes(needed)}. Make room (python -m volume gc) or use a "
            "larger volume"
        )


def missing_bytes(folder: Path, needed: int) -> int:
    """Return how many more bytes than are free would be needed; 0 when there are enough."""
    return max(needed - shutil.disk_usage(folder).free, 0)


def bytes_below(folder: Path) -> int:
    """Return the bytes of all files below `folder`, a file with several names counted once."""
    sizes: dict[int, int] = {}
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                status = (Path(where) / name).lstat()
            except OSError:  # removed meanwhile
                continue
            sizes[status.st_ino] = status.st_size
    return sum(sizes.values())
