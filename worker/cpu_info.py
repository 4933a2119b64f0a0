"""What Linux says of this machine's processor in /proc/cpuinfo; nothing on other systems.

And whether there is a GPU to take its place, which torch alone could tell better, and late.
"""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
GPU = Path("/dev/nvidiactl")  # is there where a GPU of NVIDIA's is


def flags(path: Path = CPUINFO) -> frozenset[str]:
    """The processor's extensions by Linux's names (avx512_vnni); empty where they are unknown."""
    return frozenset((_first("flags", path) or "").split())


def multiplies_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags())


def model_name(path: Path = CPUINFO) -> str | None:
    """The processor's name; None where Linux gives none, as on Arm."""
    return _first("model name", path)


def _first(name: str, path: Path) -> str | None:
    """The first processor's value of that name."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for field, _, value in fields if field.strip() == name), None)
