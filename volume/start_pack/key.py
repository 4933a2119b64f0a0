"""The key of a start pack: what it was made of, so that a pack of anything else is never used."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path

RECIPE = 1  # whoever changes what a pack holds, or how, gives it a new number
PROJECT = Path(__file__).parents[2]  # the folder of `worker` and `volume`


def pack_key(environment: str, project: Path = PROJECT) -> str:
    """Return the key for the environment of this digest and the worker in `project`.

    The worker's sources count, for they say what a start imports, and the recipe's own.
    """
    digest = hashlib.sha256()
    parts = [str(RECIPE).encode(), environment.encode(), importlib.util.MAGIC_NUMBER]
    for path in sources(project):
        parts += [path.relative_to(project).as_posix().encode(), path.read_bytes()]
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def sources(project: Path) -> Iterable[Path]:
    """Return the sources of the worker and of the start pack, in order."""
    found = [*(project / "worker").rglob("*.py"), *(project / "volume/start_pack").rglob("*.py")]
    return sorted(found)
