"""What is in a docker archive, unpacked as a container runtime would."""

from __future__ import annotations

import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Image:
    """An image's root folder and how it wants to be started."""

    root: Path
    entry: list[str]
    variables: dict[str, str]
    labels: dict[str, str]
    layers: int

    @property
    def app(self) -> Path:
        """Where the worker's modules are, as the container sees it."""
        return Path(self.variables["PYTHONPATH"])


def unpack(archive: Path, root: Path) -> Image:
    """Lay the layers of the archive over each other in the new folder `root`."""
    root.mkdir()
    with tarfile.open(archive) as outer:
        (manifest,) = json.load(outer.extractfile("manifest.json"))
        config = json.load(outer.extractfile(manifest["Config"]))["config"]
        for layer in manifest["Layers"]:
            # tar, since a layer has folders that may not be written to.
            subprocess.run(
                ["tar", "--extract", "--no-same-owner", "--preserve-permissions", "-C", str(root)],
                input=outer.extractfile(layer).read(),
                check=True,
            )
    return Image(
        root,
        config["Entrypoint"],
        dict(variable.split("=", 1) for variable in config["Env"]),
        config["Labels"],
        len(manifest["Layers"]),
    )
