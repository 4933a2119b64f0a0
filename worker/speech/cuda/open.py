"""Opens compiled kernels on a GPU."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from worker.logs import event
from worker.speech.cuda.cubins import ARCHITECTURES, open_cubins
from worker.speech.cuda.driver import LIBRARY, Driver, DriverError, Module
from worker.speech.cuda.nvrtc import CompileError


def open_module(
    name: str,
    device: torch.device,
    folders: Sequence[Path] | None = None,
    driver: str = LIBRARY,
) -> Module | None:
    """The kernels of NAME.cu, loaded on a GPU; None, and an event, where they cannot be had.

    They are kept in `folders`, else on the network volume or in the user's cache; `driver` is
    libcuda's name.
    """
    capability = torch.cuda.get_device_capability(device)
    architecture = architecture_for(capability)
    if architecture is None:
        said = "{}.{}".format(*capability)
        event(logging.INFO, "no CUDA kernels for this GPU", kernels=name, capability=said)
        return None
    cubins = open_cubins(folders)
    if cubins is None:
        return None
    try:
        Driver(driver)  # to compile takes longer, and is of no use without one
        cubin = cubins.get(name, architecture)
        with torch.cuda.device(device):
            torch.cuda.synchronize()  # which gives this thread the device's context
            return Module.load(cubin, driver)
    except CompileError as error:
        event(logging.WARNING, "CUDA kernels do not compile", kernels=name, error=str(error))
    except DriverError as error:
        event(logging.WARNING, "CUDA kernels cannot be loaded", kernels=name, error=str(error))
    return None


def architecture_for(capability: tuple[int, int]) -> str | None:
    """The architecture whose cubins a GPU of this compute capability runs best; None for none.

    A cubin runs on its own capability and on later minors of the same major. (CUDA C++ Programming
    Guide, "Binary Compatibility".)
    """
    major, minor = capability
    versions = {divmod(int(name.removeprefix("sm_")), 10): name for name in ARCHITECTURES}
    fitting = [version for version in versions if version[0] == major and version[1] <= minor]
    return versions[max(fitting)] if fitting else None
