"""Checks before the first job: each raises SetupError, in one line, where the worker is unfit."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import numpy as np

from volume.layout import MODEL_PINS
from worker.components import Components
from worker.errors import SetupError, WorkerError, in_one_line
from worker.logs import event
from worker.stopwatch import Stopwatch

REPAIR = "python -m volume verify --repair"
FILES_AT_ONCE = 8


def named(
    name: str, check: Callable[[], None], stage: Callable[[str], AbstractContextManager[None]]
) -> Callable[[], None]:
    """A check under the name that the SDK shows; it logs its result, and is part of a stage."""

    def run() -> None:
        watch = Stopwatch()
        try:
            with stage("checks"):
                check()
        except Exception as error:
            event(logging.ERROR, "check failed", check=name, error=in_one_line(error))
            raise
        event(logging.INFO, "check passed", check=name, seconds=watch.total)

    run.__name__ = name
    return run


def check_model(folder: Path) -> None:
    """Check that every file of the model is there, has its size and can be read."""
    sizes = _locked_sizes(folder) or _recorded_sizes(folder) or dict.fromkeys(_files(folder))
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:  # a volume keeps each waiting
        for _ in pool.map(partial(_check_file, folder), *zip(*sizes.items(), strict=True)):
            pass


def _check_file(folder: Path, path: Path, size: int | None) -> None:
    shown = path.relative_to(folder)
    try:
        with path.open("rb") as file:
            file.read(1)
            there = file.seek(0, 2)
    except OSError as error:
        if path.is_symlink() and not path.exists():
            raise SetupError(
                f"{shown} of {folder.name} was used where the platform had cached it, and is "
                "gone there; a start by python -m volume run downloads it, and so does: "
                f"{REPAIR}"
            ) from None
        raise SetupError(
            f"{shown} of {folder.name} cannot be read ({error.strerror}); run: {REPAIR}"
        ) from None
    if size is not None and there != size:
        raise SetupError(f"{shown} of {folder.name} has {there} bytes, not {size}; run: {REPAIR}")


def check_storage(components: Components) -> None:
    """Check that the bucket, or the folder in its place, can be read and written."""
    try:
        components.storage.check()
    except WorkerError as error:
        raise SetupError(error.message) from None


def check_speech(components: Components) -> None:
    """Check that a short synthesis gives sound; the kernels that it runs are warm for the jobs."""
    try:
        spoken = components.engine.try_out()
    except Exception as error:
        raise SetupError(f"a short synthesis failed ({in_one_line(error)})") from None
    if not np.isfinite(spoken.samples).all():
        raise SetupError("a short synthesis gave no numbers: the GPU or the model is damaged")


def _locked_sizes(folder: Path) -> dict[Path, int | None]:
    """The size of each file that the pins name, as far as they know it; none where they do not."""
    name, _, revision = folder.name.partition("@")
    locked = json.loads(MODEL_PINS.read_text())["models"].get(name)
    if locked is None or locked["revision"] != revision:
        return {}
    return {folder / file["path"]: file["size"] for file in locked["files"]}


def _recorded_sizes(folder: Path) -> dict[Path, int | None]:
    """The size of each file of an operator's own model, as its install recorded it."""
    try:
        files = json.loads((folder / "manifest.json").read_text())["files"]
        return {folder / file["path"]: int(file["size"]) for file in files}
    except (OSError, ValueError, LookupError, TypeError):  # damaged, which verify tells
        return {}


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() or path.is_symlink())
