"""Checks of an installed environment that no hash can make: whether its parts fit each other."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from volume.errors import DamagedError, PinError
from volume.pins import PinnedWheel
from volume.process import run_child

# The C++ ABI that a wheel beside torch was built for, as flash-attn's file names say it.
ABI = re.compile(r"cxx11abi(TRUE|FALSE)", re.IGNORECASE)


def check_abi(wheels: Iterable[PinnedWheel], site: Path) -> None:
    """Raise PinError when a wheel is for another C++ ABI than the torch in `site`.

    Such a wheel installs and then cannot be imported: torch 2.6's builds differ in their ABI.
    DamagedError when torch itself cannot be imported. Without such wheels torch is not asked.
    """
    tagged = [(wheel, tag[1].upper()) for wheel in wheels if (tag := ABI.search(wheel.file))]
    if not tagged:
        return
    outcome = run_child(
        [sys.executable, "-c", "import torch; print(torch._C._GLIBCXX_USE_CXX11_ABI)"],
        environment=os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    if outcome.status:
        raise DamagedError(f"torch cannot be imported after its install:\n{outcome.last_lines}")
    own = outcome.output.split()[-1].upper()
    for wheel, built_for in tagged:
        if built_for != own:
            raise PinError(
                f"{wheel.file} cannot be loaded beside the pinned torch, whose "
                f"_GLIBCXX_USE_CXX11_ABI is {own.capitalize()}: pin the build of {wheel.name} "
                f"with cxx11abi{own} in its name"
            )
