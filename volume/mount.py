"""Where things are installed: on the network volume, or on the container's own disk.

The platform mounts a network volume at /runpod-volume for a worker of an endpoint, and in a pod,
which may fill it for the endpoint, at /workspace. What it keeps of the Hugging Face hub for an
endpoint ("cached models") appears below the first, in huggingface-cache, also without a volume:
https://docs.runpod.io/serverless/endpoints/model-caching.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from volume.errors import NotMountedError, VolumeError

DEFAULT_MOUNT = Path("/runpod-volume")
POD_MOUNT = Path("/workspace")
CACHED_MODELS = "huggingface-cache"
ALLOWED = "ALLOW_CONTAINER_DISK"
IN_IMAGE = "SPARK_ENVIRONMENT"  # set by the image that brings the environment (nix/image.nix)
# What pydantic takes for a bool, since worker.settings describes the variable.
_YES = frozenset({"1", "true", "t", "yes", "y", "on"})
_NO = frozenset({"0", "false", "f", "no", "n", "off"})


@dataclass(frozen=True)
class Place:
    """The folder that everything is installed in, and whether it goes with the container.

    `note` says why it is this one, where that is not plain.
    """

    folder: Path
    on_container: bool = False
    note: str = ""


def find_place(variables: Mapping[str, str]) -> Place:
    """Return where the environment variables say that things are installed.

    A folder that RUNPOD_VOLUME names is made where it is missing; the platform's own mount points
    never are. Where no volume is mounted at the endpoint's, it is a pod's; a mere folder of that
    name, which would be on the container's disk, is not. Where there is none either, and the
    container's disk may stand in for a volume, it is a folder below TMPDIR.
    Raises NotMountedError.
    """
    value = variables.get("RUNPOD_VOLUME", "").strip()
    mount = Path(value) if value else DEFAULT_MOUNT
    if mount != DEFAULT_MOUNT:
        return Place(_made(mount, "RUNPOD_VOLUME"))
    allowed = container_disk_allowed(variables)
    in_pod = os.path.ismount(POD_MOUNT)
    if mount.is_dir() and not holds_cached_models_alone(mount):
        both = f"volumes are mounted at {mount} and {POD_MOUNT}: {mount} is used; RUNPOD_VOLUME "
        return Place(mount, note=f"{both}may name the other" if in_pod else "")
    if in_pod:
        note = (
            f"nothing is mounted at {mount}, and a volume at {POD_MOUNT}, as in a pod: it is used"
        )
        return Place(POD_MOUNT, note=note)
    if allowed:
        folder = Path(tempfile.gettempdir()) / "without-volume"
        return Place(_made(folder, "no volume is mounted, and"), on_container=True)
    found = f", only RunPod's cached models ({CACHED_MODELS})" if mount.is_dir() else ""
    mere = ", which is a folder of the container's disk" if POD_MOUNT.is_dir() else ""
    raise NotMountedError(
        f"no volume is mounted at {mount}{found}, nor, as in a pod, at {POD_MOUNT}{mere}: attach "
        f"a network volume to the endpoint or the pod, or let each worker install on its "
        f"container's disk by {ALLOWED}=true, or set RUNPOD_VOLUME to a folder"
    )


def container_disk_allowed(variables: Mapping[str, str]) -> bool:
    """Say whether the container's disk may stand in for a volume.

    It may where the operator says so; where the image brings the environment, unless he says no.
    """
    value = variables.get(ALLOWED, "").strip().lower()
    if not value:
        return bool(variables.get(IN_IMAGE))
    if value in _YES:
        return True
    if value in _NO:
        return False
    raise VolumeError(f"{ALLOWED} must be true or false, not {value!r}")


def holds_cached_models_alone(mount: Path) -> bool:
    """Say whether a folder is there for the platform's cached models alone, and is no volume.

    A network volume may hold that one folder too: a new one that has it mounted within, or one
    that other workers keep their downloads on. So the folder must besides be no mount point, which
    the platform made for what it mounts below, or one that nobody can write to.
    """
    names = [entry.name for entry in mount.iterdir()]
    return names == [CACHED_MODELS] and not (os.path.ismount(mount) and os.access(mount, os.W_OK))


def _made(folder: Path, variable: str) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotMountedError(f"{variable} {folder}: {error.strerror}") from None
    return folder
