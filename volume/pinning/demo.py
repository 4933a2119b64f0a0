"""The embedded demo checkpoint -> its entry in volume/pins/models.json."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from volume.layout import MODEL_PINS
from volume.manifest import digest_of, scan
from volume.pins import EMBEDDED


def demo_entry() -> dict[str, Any]:
    """Return the entry that the files of volume/demo/ themselves ask for."""
    files = scan(EMBEDDED / "demo" / "checkpoint")
    return {
        "source": "embedded",
        "revision": digest_of(files),
        "licence": "Apache-2.0",
        "files": [asdict(file) for file in files],
        "voices": [asdict(file) for file in scan(EMBEDDED / "demo" / "voices")],
    }


def pin_demo() -> None:
    """Replace the demo's entry in the models' pins."""
    pins = json.loads(MODEL_PINS.read_text())
    pins["models"]["demo"] = demo_entry()
    MODEL_PINS.write_text(json.dumps(pins, indent=1) + "\n")
