"""The models that the platform has cached: checked, and used where they lie.

    <mount>/huggingface-cache/hub/models--ORG--NAME/
      snapshots/<revision>/<path>   links to ../../blobs, or files where there are no links
      blobs/<ETag>                  a large file's sha256, or the name that git gives its content

Nothing is copied and nothing there is changed: a file that is right becomes a link in the model's
folder, beside those that had to be downloaded. Right is what has the pinned sha256. A file whose
sha256 is not pinned is right if its content is what its blob's name says, in the snapshot of the
pinned revision: who fills that cache is the platform, which could as well change the worker. Where
such a file has no blob, nothing vouches for it, and it is downloaded.

What is behind the links may change or go later (volume/in_place.py): it is looked at in each start,
hashed where it is not as it was, and downloaded where it is wrong.
"""

from __future__ import annotations

import errno
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from volume.hub import has_etag
from volume.in_place import has_marks, is_marked, links_below, mark, state_of
from volume.installer import Installer
from volume.layout import IN_PLACE, Layout, folder_name
from volume.lease import Lease
from volume.manifest import FileEntry, damaged_files, intact_manifest, sha256_of
from volume.mend import mend
from volume.mount import DEFAULT_MOUNT
from volume.pins import PinnedModel
from volume.progress import gigabytes
from volume.publish import portable, remove_folder, replace_by_link

# A worker without a volume has its folder elsewhere, and the platform's cache still here.
PLATFORM = Layout(DEFAULT_MOUNT).cached_models
COMMIT = re.compile(r"[0-9a-f]{40}").fullmatch
_ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}").fullmatch
_ABSENT = {errno.ENOENT, errno.ENOTDIR}


@dataclass(frozen=True)
class Snapshot:
    """One revision of a cached repository, whose folder with blobs and snapshots is `home`."""

    home: Path
    revision: str

    @property
    def folder(self) -> Path:
        """The folder in which files have their names."""
        return self.home / "snapshots" / self.revision


def snapshots_of(
    layout: Layout, repository: str, say: Callable[[str], None]
) -> tuple[Snapshot, ...]:
    """Return the revisions of a repository that the platform has cached, whole or not.

    What cannot be read counts as not there, and is told.
    """
    found = []
    for root in dict.fromkeys((layout.cached_models, PLATFORM)):
        home = root / f"models--{folder_name(repository)}"
        try:
            revisions = sorted(path.name for path in (home / "snapshots").iterdir())
        except OSError as error:
            if error.errno not in _ABSENT:
                say(f"{repository}: {home} cannot be read ({error.strerror}): not used")
            continue
        found += [Snapshot(home, name) for name in revisions if COMMIT(name)]
    return tuple(found)


def link_cached(
    installer: Installer,
    model: PinnedModel,
    files: tuple[FileEntry, ...],
    folder: Path,
    lease: Lease,
) -> tuple[FileEntry, ...]:
    """Put links into `folder` for those of `files` that the platform has cached, and right.

    Returns those files, each with its size and sha256. The links are absolute until `settle_links`
    makes them hold from the folder's last place.
    """
    snapshots = snapshots_of(installer.layout, model.repository, installer.say)
    linked: dict[str, FileEntry] = {}
    for snapshot in snapshots:
        wanted = tuple(file for file in files if file.path not in linked)
        if snapshot.revision == model.revision and wanted:
            for place, entry in _right_files(installer, model, snapshot, wanted, lease):
                lease.check()
                replace_by_link(place, folder / entry.path)
                linked[entry.path] = entry
    if linked:
        size = sum(entry.size or 0 for entry in linked.values())
        installer.say(
            f"{model.name}: {len(linked)} of {len(files)} files ({gigabytes(size)}) are used where "
            "the platform has cached them"
        )
    elif snapshots and all(snapshot.revision != model.revision for snapshot in snapshots):
        installer.say(_other_revision(model, snapshots))
    return tuple(linked.values())


def _other_revision(model: PinnedModel, snapshots: Iterable[Snapshot]) -> str:
    there = ", ".join(sorted({snapshot.revision for snapshot in snapshots}))
    text = (
        f"{model.name}: the platform has cached {model.repository} at {there}, which is not used: "
        f"the revision of this worker is {model.revision}"
    )
    if model.aligners:  # a voice model
        text += (
            f". To speak with what is cached, set SPARK_MODEL={model.repository}@REVISION; its "
            "files are then recorded by their hashes, as those of a model of your own"
        )
    return text


def _right_files(
    installer: Installer,
    model: PinnedModel,
    snapshot: Snapshot,
    files: tuple[FileEntry, ...],
    lease: Lease,
) -> list[tuple[Path, FileEntry]]:
    """Hash the snapshot's files: those that are right, each with the place of its content."""

    def look(file: FileEntry) -> tuple[Path, FileEntry] | None:
        found = check_cached(snapshot, file, lambda _: lease.check())
        if isinstance(found, str):
            installer.say(f"{model.name}: the platform's cached {file.path!r} is not used: {found}")
            return None
        return found

    with ThreadPoolExecutor(max_workers=8) as pool:
        return [found for found in pool.map(look, files) if found]


class _NotUsableError(Exception):
    """Why a cached file cannot be used."""


def check_cached(
    snapshot: Snapshot, file: FileEntry, on_bytes: Callable[[int], None] = lambda _: None
) -> tuple[Path, FileEntry] | str:
    """Return where a file's content lies, with its size and sha256; or why it cannot be used."""
    try:
        home = snapshot.home.resolve(strict=True)
        place = (snapshot.folder / file.path).resolve(strict=True)
        return place, _checked(place, home, file, on_bytes)
    except _NotUsableError as reason:
        return str(reason)
    except FileNotFoundError:
        return "it is not there"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    except RuntimeError:  # of Path.resolve
        return "its links lead in a circle"


def _checked(
    place: Path, home: Path, file: FileEntry, on_bytes: Callable[[int], None]
) -> FileEntry:
    found = place.stat()
    if not place.is_relative_to(home):
        raise _NotUsableError("it leads out of the cached model's folder")
    if not stat.S_ISREG(found.st_mode):
        raise _NotUsableError("it is no file")
    if file.size is not None and found.st_size != file.size:
        raise _NotUsableError(f"it has {found.st_size} bytes, not {file.size}")
    blob = place.name if place.parent == home / "blobs" else ""
    if file.sha256 is None and not _ETAG(blob):
        raise _NotUsableError(
            "nothing vouches for it, for its sha256 is not pinned and it is no blob"
        )
    sha256 = sha256_of(place, on_bytes)
    wanted = file.sha256 or blob
    if sha256 != wanted if len(wanted) == 64 else not has_etag(place, wanted):
        raise _NotUsableError("its content is not what it should be")
    return FileEntry(file.path, found.st_size, sha256)


def settle_links(installer: Installer, folder: Path, final: Path) -> None:
    """Mark what `folder` uses in place, and have its links hold once it has become `final`.

    Until then they lead nowhere, so this is the last step before it.
    """
    links = links_below(folder)
    if not links:
        return
    mark(folder, state_of(folder, links))
    final.parent.mkdir(parents=True, exist_ok=True)
    for path in links:
        target = portable((folder / path).readlink(), final / path, installer.layout.mount)
        replace_by_link(target, folder / path)


def see_to_links(
    installer: Installer,
    model: PinnedModel,
    final: Path,
    remake: Callable[[tuple[FileEntry, ...], Path, Lease], Path],
) -> None:
    """Look whether what a model uses in place is as it was, and replace what is not.

    `remake` makes some of the model's files anew in a work folder. Where all is as it was, this
    costs a few calls. Raises what the download raises.
    """
    if not has_marks(final):
        return
    links = links_below(final)
    state = state_of(final, links)
    if is_marked(final, state):
        return
    if links:
        size = gigabytes(sum(found[0] for found in state.values() if found))
        installer.say(f"{model.name}: {size} that the platform has cached are new here: checking")
        known = known_files(model, final)
        bad = _damaged_links(final, known)
        if bad:
            installer.say(
                f"{model.name}: the platform's cached files are gone or others: {', '.join(bad)}"
            )

            def still() -> list[str]:
                nonlocal bad
                bad = _damaged_links(final, known)
                return bad

            def anew(work: Path, lease: Lease) -> Path:
                return remake(tuple(known[path] for path in bad), work, lease)

            mend(installer, model.resource, final, bad, anew, still=still)
    try:
        if links := links_below(final):
            mark(final, state_of(final, links))
        else:
            remove_folder(final / IN_PLACE)
    except OSError as error:  # read-only or full: hashed again at the next start
        installer.say(f"{model.name}: this cannot be noted on the volume: {error.strerror}")


def known_files(model: PinnedModel, final: Path) -> dict[str, FileEntry]:
    """Return what each file of an installed model must be, by its path; the pins come first."""
    known = {file.path: file for file in intact_manifest(final) or ()}
    return known | {
        file.path: file for file in model.files if file.sha256 or file.path not in known
    }


def _damaged_links(final: Path, known: Mapping[str, FileEntry]) -> list[str]:
    """Return the model's links behind which is nothing, or not what is known.

    Without manifests nothing says what a file without a pinned sha256 must be: it counts as wrong.
    """
    files = [known[path] for path in links_below(final) if path in known]
    unknown = {file.path for file in files if file.sha256 is None}
    return sorted(unknown | set(damaged_files(final, files)))
