"""What is on the volume: versions, sizes, complete or not."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from volume.layout import Layout
from volume.lease import describe, is_free, newest_claim
from volume.locks import LOCKS, load_environment_lock, load_model_lock, model_names
from volume.manifest import intact_manifest
from volume.progress import gigabytes


@dataclass(frozen=True)
class Item:
    """One environment or model: `bytes` and `files` by its manifest, `locked` by this image's."""

    kind: str
    name: str
    locked: bool
    complete: bool
    files: int
    bytes: int
    installing: str | None = None


def survey(layout: Layout, locks: Path = LOCKS) -> list[Item]:
    """Return everything that is installed or that the locks name."""
    environment = load_environment_lock(locks)
    models = [load_model_lock(name, locks) for name in model_names(locks)]
    items = [
        _item(layout, layout.environments / environment.digest, f"environment-{environment.digest}")
    ]
    items += [_item(layout, layout.models / model.resource, model.resource) for model in models]
    known = {item.name for item in items}
    installed = [*layout.environments.glob("*"), *layout.models.glob("*@*")]
    others = [path for path in sorted(installed) if path.is_dir() and path.name not in known]
    return items + [_item(layout, path, path.name, locked=False) for path in others]


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
    for item in items:
        state = "complete" if item.complete else "not installed"
        if item.installing:
            state += f", being installed by {item.installing}"
        size = f"{item.files} files, {gigabytes(item.bytes)}" if item.complete else ""
        lines.append(f"{item.kind:<12} {item.name:<40.40} {state:<14} {size}".rstrip())
        if not item.locked:
            lines[-1] += " (no lock of this image names it)"
    return "\n".join(lines)


def _item(layout: Layout, folder: Path, resource: str, *, locked: bool = True) -> Item:
    files = intact_manifest(folder) or ()
    lease = layout.leases / resource
    holder = newest_claim(lease)
    return Item(
        kind="environment" if folder.parent == layout.environments else "model",
        name=folder.name,
        locked=locked,
        complete=folder.is_dir(),
        files=len(files),
        bytes=sum(file.size or 0 for file in files),
        installing=None if is_free(lease, holder) else describe(lease, holder),
    )
