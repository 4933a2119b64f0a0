"""Room on the container's disk, where no volume is mounted: told before the first download."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from volume.cached_models import snapshots_of
from volume.environment import OVERHEAD
from volume.errors import FullError, VolumeError
from volume.installer import Installer
from volume.layout import Layout
from volume.pins import PinnedEnvironment, PinnedModel
from volume.progress import gigabytes
from volume.space import bytes_below

ROOT = Path("/")  # what the SDK looks at
# The SDK's own default of RUNPOD_MIN_DISK_PERCENT, in runpod/serverless/modules/rp_system_fitness.
MIN_DISK_PERCENT = 10.0


def require_room(
    installer: Installer, environment: PinnedEnvironment | None, models: Sequence[PinnedModel]
) -> None:
    """Raise FullError, naming the missing bytes, unless all that is missing fits at once.

    Besides, so much must stay free that RunPod's SDK does not end the worker when all is done.
    """
    folder = installer.layout.mount
    needed = bytes_to_install(installer, environment, models)
    kept = bytes_kept_free(folder, os.environ)
    if needed == 0:
        return
    held = bytes_below(installer.layout.cache)
    missing = needed - held + kept - shutil.disk_usage(folder).free
    if missing > 0:
        besides = f", {gigabytes(kept)} of which RunPod's SDK wants free" if kept else ""
        raise FullError(
            f"{missing} bytes ({gigabytes(missing)}) are missing: {gigabytes(needed + kept)} are "
            f"needed{besides}"
        )


def bytes_to_install(
    installer: Installer, environment: PinnedEnvironment | None, models: Sequence[PinnedModel]
) -> int:
    """Return the bytes of what is not there yet. Nothing is prepared on a container's disk.

    What the platform has cached is used where it lies. Its hashes come later: where one is wrong,
    the download of that file looks for room again.
    """
    layout = installer.layout
    needed = 0
    if environment is not None and not installer.site_packages.is_dir():
        needed += int(environment.size * OVERHEAD)
    for model in models:
        folder = layout.models / model.resource
        needed += 0 if folder.is_dir() else model.size - bytes_cached(layout, model)
    return needed


def bytes_cached(layout: Layout, model: PinnedModel) -> int:
    """Return the bytes of the model's files that the platform has cached, by their sizes."""
    sizes: dict[str, int] = {}
    for snapshot in snapshots_of(layout, model.repository, lambda _: None):
        if snapshot.revision != model.revision:
            continue
        for file in model.files:
            with suppress(OSError):
                if (snapshot.folder / file.path).stat().st_size == file.size:
                    sizes[file.path] = file.size
    return sum(sizes.values())


def bytes_kept_free(folder: Path, variables: Mapping[str, str]) -> int:
    """Return how much of the disk of `folder` must stay free for the SDK's check of the disk.

    The check is of the root's file system alone, and may be switched off.
    """
    if variables.get("RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", "").lower() == "true":
        return 0
    if folder.stat().st_dev != ROOT.stat().st_dev:
        return 0
    value = variables.get("RUNPOD_MIN_DISK_PERCENT") or MIN_DISK_PERCENT
    try:
        return int(shutil.disk_usage(ROOT).total * float(value) / 100)
    except ValueError:
        raise VolumeError(f"RUNPOD_MIN_DISK_PERCENT must be a number, not {value!r}") from None
