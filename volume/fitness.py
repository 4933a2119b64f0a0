"""What no hash says of an installed environment: whether its parts fit each other."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from volume.errors import DamagedError, PinError
from volume.layout import wheel_abi, why_unloadable
from volume.pins import PinnedWheel
from volume.process import run_child
from volume.variables import for_programs


def check_abi(wheels: Iterable[PinnedWheel], site: Path) -> None:
    """Raise PinError when a wheel is for another C++ ABI than the torch in `site`.

    Such a wheel installs and then cannot be imported: torch 2.6's builds differ in their ABI.
    DamagedError when torch itself cannot be imported. Without such wheels torch is not asked.
    """
    tagged = [wheel.file for wheel in wheels if wheel_abi(wheel.file) is not None]
    if not tagged:
        return
    outcome = run_child(
        [sys.executable, "-c", "import torch; print(torch._C._GLIBCXX_USE_CXX11_ABI)"],
        environment=for_programs(os.environ)
        | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    if outcome.status:
        raise DamagedError(f"torch cannot be imported after its install:\n{outcome.last_lines}")
    new_abi = outcome.output.split()[-1] == "True"
    for file in tagged:
        if why := why_unloadable(file, new_abi=new_abi):
            raise PinError(why)
