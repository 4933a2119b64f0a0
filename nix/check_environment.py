"""Is the environment of the lock whole? Every wheel's version, and the C++ ABI of flash-attn."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from volume.layout import why_unloadable

LOCK = Path("volume/pins/environment.json")


def main() -> int:
    """Print what is wrong; 1 when something is."""
    wheels = json.loads(LOCK.read_text())["wheels"]
    faults = []
    for wheel in wheels:
        found = version(wheel["name"])
        # flash-attn's metadata has the version without its local part.
        if found not in {wheel["version"], wheel["version"].partition("+")[0]}:
            faults.append(f"{wheel['name']}: the lock has {wheel['version']}, installed is {found}")
        new_abi = bool(torch._C._GLIBCXX_USE_CXX11_ABI)  # noqa: SLF001 - it has no public name
        if why := why_unloadable(wheel["file"], new_abi=new_abi):
            faults.append(why)
    print("\n".join(faults) or f"{len(wheels)} wheels, as locked")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
