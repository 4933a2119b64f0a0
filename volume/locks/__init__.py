"""What may be installed, by hash: the lock files of this folder, typed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from volume.layout import MODEL_LOCK
from volume.manifest import FileEntry

EMBEDDED = Path(__file__).parent.parent


@dataclass(frozen=True)
class ModelLock:
    """One model: where its files come from, at which revision, and what they are.

    `embedded` models are in this package, `hub` ones in `repository` on a Hugging Face hub.
    `voices` are reference clips that are put beside the user's own where there are none.
    """

    name: str
    source: Literal["embedded", "hub"]
    revision: str
    licence: str
    files: tuple[FileEntry, ...]
    voices: tuple[FileEntry, ...] = ()
    repository: str | None = None

    @property
    def resource(self) -> str:
        """The model's folder name on the volume."""
        return f"{self.name}@{self.revision}"


class UnknownModelError(LookupError):
    """The model lock does not name this model."""


def load_model_lock(name: str, path: Path = MODEL_LOCK) -> ModelLock:
    """Read the lock of the model NAME; UnknownModelError lists the names that there are."""
    models = json.loads(path.read_text())["models"]
    if name not in models:
        known = ", ".join(sorted(models))
        raise UnknownModelError(f"no model {name!r} in the model lock; it names: {known}")
    entry = models[name]
    return ModelLock(
        name=name,
        source=entry["source"],
        revision=entry["revision"],
        licence=entry["licence"],
        files=tuple(FileEntry(**file) for file in entry["files"]),
        voices=tuple(FileEntry(**file) for file in entry.get("voices", [])),
        repository=entry.get("repository"),
    )
