"""A model of a hub -> its entry in volume/pins/models.json: a revision, files by sha256."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from volume.errors import PinError
from volume.hub_api import entry_of, file_url, get, info_url
from volume.layout import MODEL_PINS
from volume.manifest import FileEntry


def pin_model(name: str, revision: str, pins_file: Path = MODEL_PINS) -> None:
    """Pin the model's files at another revision: a branch, a tag or a commit.

    The files are those that are pinned already; the repository's others are left alone. The hub
    tells size and sha256 of a large file; a small one is fetched. Raises PinError when the model
    is none of a hub's or a file is gone, DownloadError when the hub does not answer.
    """
    pins = json.loads(pins_file.read_text())
    entry = pins["models"].get(name)
    if entry is None or entry["source"] != "hub":
        raise PinError(f"{name!r} is no model of a hub in {pins_file.name}")
    repository = entry["repository"]
    told = json.loads(get(info_url(repository, revision)))
    there = {file["rfilename"]: file for file in told["siblings"]}
    wanted = [file["path"] for file in entry["files"]]
    if gone := [path for path in wanted if path not in there]:
        raise PinError(f"{repository} at {revision} has no {', '.join(gone)}")
    commit = entry["revision"] = told["sha"]
    entry["files"] = [asdict(_pinned(there[path], repository, commit)) for path in wanted]
    entry.pop("unsized", None)
    pins_file.write_text(json.dumps(pins, indent=1) + "\n")


def _pinned(told: dict[str, Any], repository: str, commit: str) -> FileEntry:
    """Size and sha256 of a file: the hub's word for a large one, its content for a small one."""
    entry = entry_of(told)
    if entry.sha256:
        return entry
    content = get(file_url(repository, commit, entry.path))
    return FileEntry(entry.path, len(content), hashlib.sha256(content).hexdigest())
