"""What may be installed, by hash: the lock files of this folder, typed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from volume.errors import LockError
from volume.manifest import FileEntry

LOCKS = Path(__file__).parent
EMBEDDED = LOCKS.parent
ENVIRONMENT_LOCK = LOCKS / "environment.json"


@dataclass(frozen=True)
class ModelLock:
    """One model: where its files come from, at which revision, and what they are.

    `embedded` models are in this package, `hub` ones in `repository` on a Hugging Face hub.
    `voices` are reference clips that are put beside the user's own where there are none.
    `aligners` names, by language, the models that time the words of what this one speaks.
    `prepared` says whether it is converted for fast loading after the download. `unsized` is about
    how many bytes the files have whose size is not locked, for the check of free space.
    """

    name: str
    source: Literal["embedded", "hub"]
    revision: str
    licence: str
    files: tuple[FileEntry, ...]
    voices: tuple[FileEntry, ...] = ()
    repository: str = ""
    aligners: tuple[tuple[str, str], ...] = ()
    prepared: bool = False
    unsized: int = 0

    @property
    def resource(self) -> str:
        """The model's folder name on the volume."""
        return f"{self.name}@{self.revision}"

    @property
    def size(self) -> int:
        """Bytes of all files, as far as the lock knows them."""
        return sum(file.size or 0 for file in self.files) + self.unsized


@dataclass(frozen=True)
class WheelLock:
    """One wheel: `url` for those that no index has, else the path below the index's file root.

    `size` is that of the file, None where not known; `unpacked` that of its content.
    """

    name: str
    version: str
    file: str
    sha256: str
    unpacked: int
    size: int | None = None
    url: str | None = None
    path: str | None = None
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class EnvironmentLock:
    """The wheels of the production environment, with all that they need among them."""

    python: str
    platform: str
    wheels: tuple[WheelLock, ...]

    @property
    def digest(self) -> str:
        """What the environment's folder is called: one sha256 for the interpreter and all wheels.

        Only what decides the installed bytes counts, so a change of notes asks for no new install.
        """
        wheels = sorted((wheel.file, wheel.sha256) for wheel in self.wheels)
        return hashlib.sha256(json.dumps([self.python, wheels]).encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all wheels when unpacked."""
        return sum(wheel.unpacked for wheel in self.wheels)


def load_model_lock(name: str, folder: Path = LOCKS) -> ModelLock:
    """Read the lock of the model NAME or NAME@REVISION; LockError lists the names there are."""
    name, _, revision = name.partition("@")
    with _reading(folder / "models.json") as content:
        models = content["models"]
        if name not in models:
            known = ", ".join(sorted(models))
            raise LockError(f"no model {name!r} in the model lock; it names: {known}")
        entry = models[name]
        if revision not in {"", entry["revision"]}:
            raise LockError(
                f"the model lock has {name} at revision {entry['revision']}, not {revision}"
            )
        return ModelLock(
            name=name,
            source=entry["source"],
            revision=entry["revision"],
            licence=entry["licence"],
            files=tuple(FileEntry(**file) for file in entry["files"]),
            voices=tuple(FileEntry(**file) for file in entry.get("voices", [])),
            repository=entry.get("repository", ""),
            aligners=tuple(entry.get("aligners", {}).items()),
            prepared=entry.get("prepared", False),
            unsized=entry.get("unsized", 0),
        )


def model_names(folder: Path = LOCKS) -> list[str]:
    """Return the names of all locked models."""
    with _reading(folder / "models.json") as content:
        return sorted(content["models"])


def load_environment_lock(folder: Path = LOCKS) -> EnvironmentLock:
    """Read the lock of the production environment."""
    with _reading(folder / ENVIRONMENT_LOCK.name) as content:
        wheels = tuple(
            WheelLock(**{**wheel, "requires": tuple(wheel["requires"])})
            for wheel in content["wheels"]
        )
        return EnvironmentLock(content["python"], content["platform"], wheels)


@contextmanager
def _reading(path: Path) -> Iterator[dict[str, Any]]:
    """Give what a lock file says; LockError when it cannot be read or lacks what is read of it."""
    try:
        yield json.loads(path.read_text())
    except KeyError as error:
        raise LockError(f"the lock file {path.name} cannot be read: it lacks {error}") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise LockError(f"the lock file {path.name} cannot be read: {error}") from None
