"""A survey of the volume: what is there, in which versions and sizes, complete or not."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from volume.in_place import has_marks, links_below
from volume.layout import PREPARED, Layout, folder_name
from volume.lease import describe, is_free, newest_claim
from volume.manifest import intact_manifest
from volume.own_models import README, licence_of, own_folders
from volume.pins import PINS, model_names, pinned_environment, pinned_model
from volume.progress import gigabytes
from volume.start_pack.key import pack_key
from volume.start_pack.making import resource_of


@dataclass(frozen=True)
class Item:
    """One environment, model, prepared model or start pack: `bytes` and `files` are its manifest's.

    `in_place` are those of its bytes that are used where the platform has cached them. `locked`
    says whether it is pinned; if it is, `versions` are those of the packages in an environment.
    `licence` is a model's, also of one of the operator's own. `in_image` is of an environment
    that the image brings.
    """

    kind: str
    name: str
    locked: bool
    complete: bool
    files: int
    bytes: int
    installing: str | None = None
    licence: str | None = None
    in_image: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    in_place: int = 0


def survey(layout: Layout, pins: Path = PINS, in_image: Path | None = None) -> list[Item]:
    """Return everything that is installed or that is pinned.

    `in_image` is the environment's folder where the image brings it.
    """
    environment = pinned_environment(pins)
    folder = layout.environments / environment.digest
    versions = {wheel.name: wheel.version for wheel in environment.wheels}
    items = [
        replace(
            _item(layout, "environment", folder, f"environment-{environment.digest}"),
            versions=versions,
            in_image=in_image is not None,
        )
    ]
    for model in (pinned_model(name, pins) for name in model_names(pins)):
        folder = layout.models / model.resource
        item = _item(layout, "model", folder, model.resource)
        items.append(replace(item, licence=model.licence))
        if model.prepared:
            resource = f"{model.resource}-{PREPARED}"
            items.append(_item(layout, "prepared", folder / PREPARED, resource))
    start = layout.starts / pack_key(environment.digest)
    items.append(_item(layout, "start pack", start, resource_of(start)))
    known = {item.name for item in items}
    own = [folder_name(str(model)) for model in own_folders(layout)]
    places = (
        ("environment", layout.environments, "environment-"),
        ("model", layout.models, ""),
        ("start pack", layout.starts, "start-"),
    )
    for kind, place, prefix in places:
        unknown = [path for path in sorted(place.glob("*")) if path.name not in known]
        items += [
            replace(_item(layout, kind, path, prefix + path.name), locked=False)
            for path in unknown
            if path.is_dir() and path.name not in own
        ]
    for name in own:
        folder = layout.models / name
        licence = licence_of(folder / README) or "not named"
        item = _item(layout, "own model", folder, name)
        items.append(replace(item, locked=False, licence=licence))
        items.append(_item(layout, "prepared", folder / PREPARED, f"{name}-{PREPARED}"))
    return items


def report(layout: Layout, items: list[Item]) -> dict[str, Any]:
    """Return the survey as one JSON object."""
    return {
        "volume": str(layout.mount),
        "free_bytes": shutil.disk_usage(layout.mount).free,
        "items": [asdict(item) for item in items],
    }


def table(items: list[Item]) -> str:
    """Write the survey for people."""
    lines = []
    width = max((len(item.name) for item in items), default=0)
    for item in items:
        elsewhere = "in the image" if item.in_image else "not installed"
        state = "complete" if item.complete else elsewhere
        if item.installing:
            state += f", being installed by {item.installing}"
        size = f"{item.files} files, {gigabytes(item.bytes)}" if item.complete else ""
        note = f"licence {item.licence}" if item.licence else ""
        note = note if item.locked or item.kind == "own model" else "not pinned by this image"
        if item.in_place:
            note = f"{gigabytes(item.in_place)} of it in the platform's cache, {note}"
        lines.append(f"{item.kind:<12} {item.name:<{width}} {state:<14} {size:<22} {note}".rstrip())
    return "\n".join(lines)


def _item(layout: Layout, kind: str, folder: Path, resource: str) -> Item:
    files = intact_manifest(folder) or ()
    links = set(links_below(folder)) if has_marks(folder) else set()
    lease = layout.leases / resource
    holder = newest_claim(lease)
    return Item(
        kind=kind,
        name=f"{folder.parent.name}/{PREPARED}" if folder.name == PREPARED else folder.name,
        locked=True,
        complete=folder.is_dir(),
        files=len(files),
        bytes=sum(file.size or 0 for file in files),
        in_place=sum(file.size or 0 for file in files if file.path in links),
        installing=None if is_free(lease, holder) else describe(lease, holder),
    )
