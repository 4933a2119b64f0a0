"""Tells `inspect` the files of modules that come from the pack, which it would look for.

`inspect.getmodule`, which torch's import calls, asks the file system of each module that there is
for the true name of its file: some 800 calls on the volume. They are what the pack was made of.
"""

from __future__ import annotations

import sys


class KnownFiles:
    """Remembers modules until `inspect` is imported, and then fills its tables."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, str]] = []

    def add(self, name: str, place: str) -> None:
        """Say that the module of this name has this file, which is no link."""
        self._waiting.append((name, place))
        inspect = sys.modules.get("inspect")
        by_name = getattr(inspect, "_filesbymodname", None)
        by_file = getattr(inspect, "modulesbyfile", None)
        if not isinstance(by_name, dict) or not isinstance(by_file, dict):
            return
        while self._waiting:
            known, file = self._waiting.pop()
            by_name[known] = file
            by_file[file] = known
