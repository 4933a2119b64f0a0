"""The embedded demo checkpoint -> its entry in volume/pins/models.json."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from volume.layout import MODEL_LOCK
from volume.manifest import digest_of, scan
from volume.pins import EMBEDDED


def demo_entry() -> dict[str, Any]:
    """Return the lock entry that the files of volume/demo/ themselves ask for."""
    files = scan(EMBEDDED / "demo" / "checkpoint")
    return {
        "source": "embedded",
        "revision": digest_of(files),
        "licence": "Apache-2.0",
        "files": [asdict(file) for file in files],
        "voices": [asdict(file) for file in scan(EMBEDDED / "demo" / "voices")],
    }


def write_demo_entry() -> None:
    """Replace the demo's entry in the model lock."""
    lock = json.loads(MODEL_LOCK.read_text())
    lock["models"]["demo"] = demo_entry()
    MODEL_LOCK.write_text(json.dumps(lock, indent=1) + "\n")
