"""A lock of a few small wheels, for what is built of the environment."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.support.faulty_http import sha256
from tests.support.index_server import Wheel, make_wheel

CODE = b"NAMES = {'some', 'of', 'them'}\ndef answer() -> int:\n    return 42\n"
WHEELS = [
    make_wheel("part-one", "1.0", {"part_one.py": CODE, "shared/one.py": b"ONE = 1\n"}),
    make_wheel("part-two", "2.0", {"part_two.py": CODE, "shared/two.py": b"TWO = 2\n"}),
    # As flash-attn's: from a URL, its version with a local part that its metadata lacks.
    make_wheel("fast", "2.0.post2", {"fast.py": b"FAST = True\n"}, local="+cu1torch2"),
]


def small_tree(tree: Path, folder: Path, wheels: Sequence[Wheel]) -> Path:
    """Copy the tree; its lock has these wheels."""
    shutil.copytree(tree, folder)
    entries = [
        {"name": wheel.name, "version": wheel.version, "file": wheel.file}
        | {"sha256": sha256(wheel.data), "unpacked": wheel.unpacked, "requires": []}
        | ({"url": f"https://x.invalid/{wheel.file}"} if "+" in wheel.file else {"path": "x"})
        for wheel in wheels
    ]
    lock = {"python": "3.11", "platform": "any", "wheels": entries}
    (folder / "volume" / "pins" / "environment.json").write_text(json.dumps(lock))
    return folder
