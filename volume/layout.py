"""The folders under SparkTTS-serverless/ on the network volume, and nothing about their making.

    /runpod-volume/SparkTTS-serverless/
      envs/<digest of the pinned wheels>/site-packages/ installed once, never changed
      models/<name>@<revision>/                         as published, every file checked; of an
                                                        operator's own, <name> is <org>--<name>
      models/<name>@<revision>/in-place/                which files are used where the platform has
                                                        them, as links to its cached models
      models/<name>@<revision>/prepared-<recipe>/       the same model in files that load faster
      starts/<key>/start.pack                           what a start reads, in one file
      voices/<name>@<revision>/<place>.json             cache of voices
      cubins/<kernels>-<architecture>-<key>-<sha256>.cubin  compiled kernels for GPUs
      local/                                            results, where no bucket is set
      cache/                                            downloads under way, staged installs
      locks/                                            who is installing what
      uses/                                             which worker uses what

Of `volume`, `worker` may import this module, `stops`, `start_clock` and the part of `start_pack`
that runs in a worker.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = "SparkTTS-serverless"
# The number is that of the recipe: whoever changes what is written there gives it a new one.
PREPARED = "prepared-2"
# In a model's folder: marks of the files that are links to the platform's cached models.
IN_PLACE = "in-place"
MODEL_PINS = Path(__file__).parent / "pins" / "models.json"
ENVIRONMENT_PINS = Path(__file__).parent / "pins" / "environment.json"


class LayoutError(LookupError):
    """Something that should be on the volume is not there; the message says what to do."""


def wheel_abi(file: str) -> bool | None:
    """Whether a wheel is built for torch's new C++ ABI, by its file name; None where it is silent.

    flash-attn's names say it, and torch's builds differ in it.
    """
    tag = re.search(r"cxx11abi(TRUE|FALSE)", file, re.IGNORECASE)
    return tag[1].upper() == "TRUE" if tag else None


def why_unloadable(file: str, *, new_abi: bool) -> str | None:
    """Why a wheel cannot be loaded beside a torch of this C++ ABI; None where it can."""
    if wheel_abi(file) in {None, new_abi}:
        return None
    return (
        f"{file} cannot be loaded beside this torch, whose _GLIBCXX_USE_CXX11_ABI is {new_abi}: "
        f"pin the build with cxx11abi{str(new_abi).upper()} in its name"
    )


@dataclass(frozen=True)
class Layout:
    """Paths on the volume whose mount point is `mount`; no folder is made by asking."""

    mount: Path

    @property
    def root(self) -> Path:
        """The project's folder on the volume."""
        return self.mount / ROOT

    @property
    def environments(self) -> Path:
        """One folder for each set of pinned wheels ever installed."""
        return self.root / "envs"

    @property
    def models(self) -> Path:
        """One folder for each model revision."""
        return self.root / "models"

    @property
    def starts(self) -> Path:
        """One folder for each environment and worker whose start is packed."""
        return self.root / "starts"

    @property
    def voices(self) -> Path:
        """The cache of reference voices, in a folder for each model."""
        return self.root / "voices"

    @property
    def cubins(self) -> Path:
        """The compiled kernels for GPUs."""
        return self.root / "cubins"

    @property
    def local_storage(self) -> Path:
        """The folder that stands in for the bucket when none is set."""
        return self.root / "local"

    @property
    def cache(self) -> Path:
        """Work folders: downloads under way, staged installs."""
        return self.root / "cache"

    @property
    def leases(self) -> Path:
        """Leases: who is installing what."""
        return self.root / "locks"

    @property
    def uses(self) -> Path:
        """Marks of use: who uses which environment and model."""
        return self.root / "uses"

    @property
    def cached_models(self) -> Path:
        """Where the platform puts the models that it caches, in Hugging Face's cache layout."""
        return self.mount / "huggingface-cache" / "hub"

    def site_packages(self, digest: str) -> Path:
        """The folder with the modules of the environment of this digest."""
        return self.environments / digest / "site-packages"

    def model(self, name: str) -> Path:
        """Return the folder of a model: NAME, NAME@REVISION or, of a hub, ORG/NAME@REVISION.

        NAME alone means the pinned revision, or the only one where none is pinned.
        Raises LayoutError when it is not installed, or several are and none is pinned.
        """
        if "@" in name:
            found = [self.models / folder_name(name)]
        else:
            pinned = pinned_revision(name)
            found = (
                [self.models / f"{name}@{pinned}"]
                if pinned
                else sorted(p for p in self.models.glob(f"{folder_name(name)}@*") if p.is_dir())
            )
        found = [path for path in found if path.is_dir()]
        if len(found) == 1:
            return found[0]
        if not found:
            raise LayoutError(
                f"model {name!r} is not on the volume at {self.mount}; "
                f"install it with: python -m volume install --model {name}"
            )
        names = ", ".join(path.name for path in found)
        raise LayoutError(f"several revisions of model {name!r} are installed; name one: {names}")


def folder_name(name: str) -> str:
    """Return a model's name as that of one folder; no name of a hub holds two hyphens in a row."""
    return name.replace("/", "--")


def pinned_revision(name: str) -> str | None:
    """Return the revision that pins/models.json gives the model, or None where it names none."""
    models = json.loads(MODEL_PINS.read_text())["models"]
    entry = models.get(name)
    return str(entry["revision"]) if entry else None


def pinned_wheel(name: str) -> str | None:
    """Return the file name that pins/environment.json gives the wheel, or None for no such one."""
    wheels = json.loads(ENVIRONMENT_PINS.read_text())["wheels"]
    return next((str(wheel["file"]) for wheel in wheels if wheel["name"] == name), None)
