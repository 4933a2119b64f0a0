"""Wheels of what is installed on this machine, so that an index can be made of it."""

from __future__ import annotations

import json
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from tests.nix.workshop import REPOSITORY
from tests.support.index_server import Wheel, make_wheel

# With the CUDA libraries that it needs 5 GB: seen by the worker in a folder beside the volume.
LARGE = ("torch", "torchaudio", "triton", "nvidia-")
NOTES_OF_INSTALLS = {"RECORD", "WHEEL", "METADATA", "INSTALLER", "REQUESTED", "direct_url.json"}


def installed() -> tuple[list[Distribution], list[Distribution]]:
    """Return what is installed of the production lock: the small ones, and the large ones."""
    lock = json.loads((REPOSITORY / "volume" / "pins" / "environment.json").read_text())
    names = [wheel["name"] for wheel in lock["wheels"]]
    large = [name for name in names if name.startswith(LARGE)]
    return found(set(names) - set(large)), found(set(large))


def found(names: set[str]) -> list[Distribution]:
    """Return the distributions of these names that this machine has."""
    distributions = []
    for name in sorted(names):
        try:
            distributions.append(distribution(name))
        except PackageNotFoundError:  # a CUDA library of another version of torch, flash-attn
            continue
    return distributions


def wheel_of(dist: Distribution) -> Wheel:
    """Put an installed distribution back into a wheel: its modules and its entry points."""
    name = dist.metadata["Name"]
    info = f"{name.replace('-', '_')}-{dist.version}.dist-info"
    content = {}
    for file in dist.files or []:
        path = Path(file)
        if "__pycache__" in path.parts or ".." in path.parts or path.name in NOTES_OF_INSTALLS:
            continue
        inside = path.parts[0].endswith(".dist-info")
        target = f"{info}/{'/'.join(path.parts[1:])}" if inside else path.as_posix()
        content[target] = Path(str(dist.locate_file(file))).read_bytes()
    return make_wheel(name, dist.version, content)


def top_folders(dists: list[Distribution]) -> dict[str, Path]:
    """Return the folders and files of the distributions directly below site-packages."""
    return {
        Path(file).parts[0]: Path(str(dist.locate_file(Path(file).parts[0])))
        for dist in dists
        for file in dist.files or []
        if Path(file).parts[0] not in {"..", "__pycache__"}
    }
