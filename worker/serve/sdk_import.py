"""Halves the import time of RunPod's SDK: what a worker never uses is not imported."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from worker import cpu_info
from worker.stand_ins import StandIns, later


def lighten() -> None:
    """Have the SDK imported without what its command line and its own uploads use, and cpuinfo.

    It asks cpuinfo for the processor's name alone, for which that starts processes (0.7 s of a
    CPU). The others are imported as soon as the SDK uses anything of them.
    """
    modules = {name: later(name) for name in ("paramiko", "tomli", "tomlkit")}
    modules["tqdm_loggable.auto"] = later("tqdm_loggable.auto", tqdm=_progress_bar)
    StandIns("runpod", {**modules, "cpuinfo": _cpuinfo()}).install()


def _progress_bar(*given: Any, **named: Any) -> Any:
    """The SDK's progress bar of an upload."""
    return import_module("tqdm_loggable.auto").tqdm(*given, **named)


def _cpuinfo() -> ModuleType:
    """The one function of py-cpuinfo that the SDK calls, with the one value that it reads."""
    module = ModuleType("cpuinfo")
    module.get_cpu_info = _processor  # type: ignore[attr-defined] # a stand-in's own
    return module


def _processor() -> dict[str, str]:
    name = cpu_info.model_name()
    return {} if name is None else {"brand_raw": name}
