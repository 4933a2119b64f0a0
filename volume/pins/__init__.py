"""Pins: the models and wheels that may be installed, by hash; the files of this folder, typed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from volume.errors import PinError
from volume.layout import ENVIRONMENT_PINS, MODEL_PINS, folder_name
from volume.manifest import FileEntry

PINS = MODEL_PINS.parent
EMBEDDED = PINS.parent


@dataclass(frozen=True)
class PinnedModel:
    """One model: where its files come from, at which revision, and what they are.

    `embedded` models are in this package, `hub` ones in `repository` on a Hugging Face hub. An
    operator's `own` model is on a hub too, named by its repository, and in no file of pins.
    `voices` are reference clips that are put beside the user's own where there are none.
    `aligners` names, by language, the models that time the words of what this one speaks.
    `prepared` says whether it is converted for fast loading after the download. `unsized` is about
    how many bytes the files have whose size is not pinned, for the check of free space.
    """

    name: str
    source: Literal["embedded", "hub", "own"]
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
        return f"{folder_name(self.name)}@{self.revision}"

    @property
    def size(self) -> int:
        """Bytes of all files, as far as they are pinned."""
        return sum(file.size or 0 for file in self.files) + self.unsized


@dataclass(frozen=True)
class PinnedWheel:
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
class PinnedEnvironment:
    """The wheels of the production environment, with all that they need among them."""

    python: str
    platform: str
    wheels: tuple[PinnedWheel, ...]

    @property
    def digest(self) -> str:
        """The name of the environment's folder: one sha256 for the interpreter and all wheels.

        Only what decides the installed bytes counts, so a change of notes asks for no new install.
        """
        wheels = sorted((wheel.file, wheel.sha256) for wheel in self.wheels)
        return hashlib.sha256(json.dumps([self.python, wheels]).encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all wheels when unpacked."""
        return sum(wheel.unpacked for wheel in self.wheels)


def pinned_model(name: str, folder: Path = PINS) -> PinnedModel:
    """Return the model NAME or NAME@REVISION; PinError lists the names there are."""
    name, _, revision = name.partition("@")
    with _reading(folder / MODEL_PINS.name) as content:
        models = content["models"]
        if name not in models:
            known = ", ".join(sorted(models))
            raise PinError(f"no model {name!r} is pinned; there are: {known}")
        entry = models[name]
        if revision not in {"", entry["revision"]}:
            raise PinError(f"{name} is pinned at revision {entry['revision']}, not {revision}")
        return PinnedModel(
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


def model_names(folder: Path = PINS) -> list[str]:
    """Return the names of all pinned models."""
    with _reading(folder / MODEL_PINS.name) as content:
        return sorted(content["models"])


def pinned_environment(folder: Path = PINS) -> PinnedEnvironment:
    """Return the production environment."""
    with _reading(folder / ENVIRONMENT_PINS.name) as content:
        wheels = tuple(
            PinnedWheel(**{**wheel, "requires": tuple(wheel["requires"])})
            for wheel in content["wheels"]
        )
        return PinnedEnvironment(content["python"], content["platform"], wheels)


@contextmanager
def _reading(path: Path) -> Iterator[dict[str, Any]]:
    """Give what a file of pins says; PinError when it cannot be read or something is missing."""
    try:
        yield json.loads(path.read_text())
    except KeyError as error:
        raise PinError(f"the pins in {path.name} cannot be read: {error} is missing") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise PinError(f"the pins in {path.name} cannot be read: {error}") from None
