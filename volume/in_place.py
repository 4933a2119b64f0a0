"""Marks of what a model uses in place: which state of the linked files was hashed and found right.

    models/<name>@<revision>/LLM/model.safetensors -> ../../../../huggingface-cache/hub/models--...
    models/<name>@<revision>/in-place/<digest>.json   one for each state that was seen

A state is the size and time of each file behind a link, and the digest is of those. A platform that
gives each machine a cache of its own gives them files of other times: each gets its mark, once. So
a start asks for the times of some ten files, and hashes what it has not seen.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from volume.atomic_write import replacing
from volume.layout import IN_PLACE

# Size in bytes and nanoseconds of the last change of a file; None where there is none.
State = dict[str, tuple[int, int] | None]


def has_marks(folder: Path) -> bool:
    """Say whether a model's folder has been marked as using files in place."""
    return (folder / IN_PLACE).is_dir()


def links_below(folder: Path) -> list[str]:
    """Return the paths of the model's files that are links, sorted; no prepared ones."""
    return sorted(_links(folder, ""))


def _links(folder: Path, prefix: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + entry.name
            if entry.is_symlink():
                yield path
            elif entry.is_dir() and not (path == IN_PLACE or path.startswith("prepared-")):
                yield from _links(Path(entry.path), f"{path}/")


def state_of(folder: Path, links: list[str]) -> State:
    """Return what is behind the links now."""
    state: State = {}
    for path in links:
        try:
            found = (folder / path).stat()
        except OSError:
            state[path] = None
        else:
            state[path] = found.st_size, found.st_mtime_ns
    return state


def is_marked(folder: Path, state: State) -> bool:
    """Say whether just this state was found right before."""
    return None not in state.values() and _mark(folder, state).is_file()


def mark(folder: Path, state: State) -> None:
    """Note that this state was hashed and found right. Raises OSError."""
    with replacing(_mark(folder, state)) as staged:
        staged.write_text(json.dumps(state, indent=0))


def _mark(folder: Path, state: State) -> Path:
    digest = hashlib.sha256(json.dumps(sorted(state.items())).encode()).hexdigest()
    return folder / IN_PLACE / f"{digest}.json"
