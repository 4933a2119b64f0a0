"""A reader in a loop: what it finds in place must always be whole."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from volume.manifest import intact_manifest


@dataclass
class Looks:
    """How often the reader found the folder, and each thing that was missing from it."""

    found: int = 0
    problems: list[str] = field(default_factory=list)


@contextmanager
def reading(expected: dict[Path, frozenset[str]]) -> Iterator[Looks]:
    """Look again and again: a folder that is there holds every file, in full size."""
    looks = Looks()
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.005):
            for folder, paths in expected.items():
                if folder.is_dir():
                    looks.found += 1
                    looks.problems += problems_of(folder, paths)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield looks
    finally:
        stop.set()
        thread.join()


def problems_of(folder: Path, paths: frozenset[str]) -> list[str]:
    """Sizes are the manifest's: a compiled module's depends on where it was compiled."""
    files = {file.path: file.size for file in intact_manifest(folder) or ()}
    problems = [f"{path}: not in the manifest" for path in paths - files.keys()]
    for path, size in files.items():
        found = -1
        with suppress(OSError):
            found = (folder / path).stat().st_size
        if found != size:
            problems.append(f"{path}: {found} bytes, not {size}")
    return problems
