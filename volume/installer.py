"""The one way onto the volume: leased, staged, checked, renamed into place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from volume.errors import VolumeError, explain
from volume.layout import Layout
from volume.lease import Lease, Timing, acquire, is_free, is_silent, newest_claim
from volume.pins import PINS, pinned_environment
from volume.publish import publish_folder, remove_folder
from volume.variables import for_programs


@dataclass(frozen=True)
class Installer:
    """Installs onto `layout` what `pins` name, by `uv` and the hub's client; `say` is told of it.

    With a `wheelhouse` (a folder of wheels) no index is asked. A download that fails is tried
    `attempts` times in all, `pause` seconds after the first failure and twice as long each time.
    The start pack is made by a run of the module `rehearsal`; without one there is none.
    `in_image` is the environment's folder where the image brings it, which then is not installed.
    What is not `lasting` goes with this worker: nothing is made on it that only later starts use.
    """

    layout: Layout
    say: Callable[[str], None]
    uv: str = "uv"
    pins: Path = PINS
    wheelhouse: Path | None = None
    timing: Timing = field(default_factory=Timing)
    attempts: int = 5
    pause: float = 1.0
    rehearsal: str | None = None
    in_image: Path | None = None
    lasting: bool = True

    @property
    def site_packages(self) -> Path:
        """The folder with the environment's modules, there or not yet."""
        if self.in_image is not None:
            return self.in_image / "site-packages"
        return self.layout.site_packages(pinned_environment(self.pins).digest)

    def free_claim(self, resource: str) -> int | None:
        """The claim after which this may be installed at once; None where somebody is at it.

        Raises OSError when the volume cannot be written.
        """
        leases = self.layout.leases / resource
        holder = newest_claim(leases)
        free = is_free(leases, holder) or is_silent(leases, holder, self.timing.takeover)
        return holder if free else None

    def ensure(
        self,
        resource: str,
        final: Path,
        build: Callable[[Path, Lease], Path],
        silent: int = 0,
    ) -> Path:
        """Return the folder `final`, made by `build` if it is not there and by nobody else.

        `build` gets a work folder, which may hold what an interrupted attempt has left, and
        returns a complete folder below it. Another installer is waited for, but for that of
        the claim `silent`.
        """
        leases = self.layout.leases / resource
        while not final.is_dir():
            lease = None
            try:
                lease = acquire(
                    leases,
                    is_done=final.is_dir,
                    on_wait=lambda owner: self.say(f"{resource}: waiting for {owner}"),
                    timing=self.timing,
                    silent=silent,
                )
                if lease is None:
                    break
                with lease:
                    if not final.is_dir():
                        work = take_over(self.layout.cache / resource, lease.generation)
                        publish_folder(build(work, lease), final)
                    remove_folder(self.layout.cache / resource)
            except (OSError, VolumeError) as error:
                if lease and newest_claim(leases) > lease.generation:
                    # This process stood still, and its folder went to another: that one will do.
                    self.say(f"{resource}: another worker took over")
                elif isinstance(error, OSError):
                    raise explain(error) from error
                else:
                    raise
        return final


def program_variables(installer: Installer) -> dict[str, str]:
    """Return the variables for a program of the installer's own in the installed environment."""
    return environment_variables(installer, for_programs(os.environ))


def environment_variables(
    installer: Installer, variables: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the variables for a program that runs in the installed environment.

    Where none is installed (a developer's machine) it is this interpreter's own. They are made of
    `variables`, else of all of this process: the worker's are the operator's.
    """
    variables = os.environ if variables is None else variables
    site = installer.site_packages
    paths = [str(site)] if site.is_dir() else []
    paths += [str(Path(__file__).parent.parent), variables.get("PYTHONPATH", "")]
    path = os.pathsep.join(part for part in paths if part)
    return dict(variables) | {
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "RUNPOD_VOLUME": str(installer.layout.mount),  # which may be a folder of the container
    }


def take_over(folder: Path, generation: int) -> Path:
    """Return this holder's own work folder, with the latest predecessor's downloads in it.

    A predecessor that only stood still may still have files open. Its folder is renamed, so that
    it finds nothing by name any more, and partial files get a new inode, so that what it writes
    into its open ones reaches nobody.
    """
    own = folder / f"{generation:08d}"
    earlier = sorted(path for path in folder.glob("[0-9]*") if path.name < own.name)
    folder.mkdir(parents=True, exist_ok=True)
    if earlier:
        earlier.pop().rename(own)
    own.mkdir(exist_ok=True)
    for path in earlier:
        remove_folder(path)
    for partial in list(own.rglob("*.incomplete")):
        copy = partial.with_suffix(".copy")
        shutil.copyfile(partial, copy)
        copy.replace(partial)
    return own
