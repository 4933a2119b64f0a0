"""Halves the import time of RunPod's SDK: what a worker never uses is not imported."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from worker import cpu_info
from worker.stand_ins import StandIns


def lighten() -> None:
    """Have the SDK imported without paramiko, which only its command line uses, and cpuinfo.

    It asks cpuinfo for the processor's name alone, for which that starts processes (0.7 s of a
    CPU). Paramiko is imported as soon as the SDK uses anything of it.
    """
    StandIns("runpod", {"paramiko": _later("paramiko"), "cpuinfo": _cpuinfo()}).install()


def _later(name: str) -> ModuleType:
    """A module that is imported when one of its names is first used."""

    def use(attribute: str) -> Any:
        return getattr(import_module(name), attribute)

    module = ModuleType(name)
    module.__getattr__ = use  # type: ignore[method-assign] # a module's own (PEP 562)
    return module


def _cpuinfo() -> ModuleType:
    """The one function of py-cpuinfo that the SDK calls, with the one value that it reads."""
    module = ModuleType("cpuinfo")
    module.get_cpu_info = _processor  # type: ignore[attr-defined] # a stand-in's own
    return module


def _processor() -> dict[str, str]:
    name = cpu_info.model_name()
    return {} if name is None else {"brand_raw": name}
