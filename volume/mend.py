"""Mending: damaged files of an installed folder are made anew aside, and put into their places."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from volume.errors import DamagedError, explain
from volume.installer import Installer, take_over
from volume.lease import Lease, acquire
from volume.manifest import MANIFEST, TWIN, intact_manifest, scan, write_manifest
from volume.publish import portable, remove_folder, replace_by_link, replace_file


def mend(
    installer: Installer,
    resource: str,
    final: Path,
    damaged: Collection[str],
    remake: Callable[[Path, Lease], Path],
    *,
    still: Callable[[], Collection[str]] | None = None,
) -> None:
    """Replace each damaged file of `final` by the one that `remake` made, and renew the manifests.

    `remake` gets a work folder and returns the folder of what it made; a link there is put in place
    as a link. Files that the pins or a wheel name were checked when they were made anew; what an
    installer generates (compiled modules, its own notes) may differ from what it was and is
    recorded so. With `still` nobody mends what another has mended meanwhile: it is asked, under the
    lease, for what is damaged then.
    """
    try:
        lease = acquire(
            installer.layout.leases / resource,
            is_done=lambda: False,
            on_wait=lambda owner: installer.say(f"{resource}: waiting for {owner}"),
            timing=installer.timing,
        )
        assert lease is not None  # noqa: S101 - only `is_done` ends the wait without one
        with lease:
            if still is not None and not (damaged := still()):
                return
            old = {file.path: file for file in intact_manifest(final) or ()}
            damaged = [path for path in damaged if path not in {MANIFEST, TWIN}]
            if damaged:
                fresh = remake(
                    take_over(installer.layout.cache / resource, lease.generation), lease
                )
                absent = [path for path in damaged if not (fresh / path).is_file()]
                if absent and old:
                    raise DamagedError(f"{resource}: no source for {', '.join(absent)}")
                for path in damaged:
                    if path not in absent:
                        lease.check()
                        _put(fresh / path, final / path, installer.layout.mount)
            renewed = {file.path: file for file in scan(final, damaged if old else None)}
            files = old | renewed
            lease.check()
            write_manifest(final, tuple(files[path] for path in sorted(files)))
            remove_folder(installer.layout.cache / resource)
    except OSError as error:
        raise explain(error) from error


def _put(fresh: Path, final: Path, mount: Path) -> None:
    if fresh.is_symlink():
        replace_by_link(portable(fresh.readlink(), final, mount), final)
    else:
        replace_file(fresh, final)
