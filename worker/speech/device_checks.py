"""Checks that the GPU, its driver and flash-attn can run the model, before it is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch

from volume.layout import why_unloadable
from worker.errors import SetupError

# Ampere: cards before it only emulate bfloat16, and flash-attn refuses them.
CAPABILITY = (8, 0)
LOAD_BYTES = 2 << 30  # free, to load a model at all: the published one's weights are 2.5 GB
FREE_BYTES = 1 << 30  # that jobs need beside the loaded model
CHOICE = "choose an Ampere, Ada or Hopper GPU (RTX A4000, RTX 3090, L4, RTX 4090, A100, H100)"


def check_gpu(devices: Path = Path("/dev")) -> None:
    """Raise SetupError where there is a GPU that cannot be used. Without one, the CPU is used."""
    if not torch.cuda.is_available():
        if (devices / "nvidiactl").exists():
            raise SetupError(
                f"there is a GPU that torch {torch.__version__} cannot use: its driver is too old "
                f"for CUDA {torch.version.cuda}, or torch was built without it; choose hosts with "
                "CUDA 12.6 or newer in the endpoint's settings"
            )
        return
    name = torch.cuda.get_device_name()
    capability = torch.cuda.get_device_capability()
    said = f"{name} has compute capability {_dotted(capability)}"
    if capability < CAPABILITY:
        raise SetupError(
            f"{said}; {_dotted(CAPABILITY)} (Ampere) is the oldest that is supported: Volta (V100) "
            "and Turing (T4, RTX 20xx, Quadro RTX) have no bfloat16 of their own, and flash-attn "
            f"refuses them; {CHOICE}"
        )
    kernels = torch.cuda.get_arch_list()
    if not has_kernels(capability, kernels):
        raise SetupError(
            f"{said}, for which torch {torch.__version__} has no kernels (it has those of "
            f"{', '.join(kernels)}): the GPU is newer than this torch, as Blackwell (RTX 50xx, "
            f"RTX PRO, B200) is; {CHOICE}"
        )
    free, total = torch.cuda.mem_get_info()
    if free < LOAD_BYTES:
        raise SetupError(
            f"{name} has {free >> 20} of {total >> 20} MiB free; {LOAD_BYTES >> 20} MiB are needed "
            "to load a model, and 16 GB to speak many sentences at once: choose a larger GPU"
        )


def has_kernels(capability: tuple[int, int], kernels: Iterable[str]) -> bool:
    """Whether a GPU can run any of these kernels, named as torch.cuda.get_arch_list() does.

    The binary sm_XY runs on X.Y and on later minors of the same major; the program compute_XY is
    compiled by the driver of any GPU from X.Y on. With an `a` behind it, either runs on X.Y alone.
    (CUDA C++ Programming Guide, 3.1 "Compilation with NVCC".) True where no name is of this form.
    """
    found = [re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name) for name in kernels]
    forms = [match.groups() for match in found if match]
    return not forms or any(
        _runs(capability, kind, (int(major), int(minor)), suffix)
        for kind, major, minor, suffix in forms
    )


def _runs(capability: tuple[int, int], kind: str, built_for: tuple[int, int], suffix: str) -> bool:
    if suffix == "a":
        return capability == built_for
    same_major = capability[0] == built_for[0]
    return capability >= built_for and (same_major or (kind == "compute" and not suffix))


def check_gpu_memory() -> None:
    """Raise SetupError where the loaded model leaves jobs too little of the GPU's memory."""
    if not torch.cuda.is_available():
        return
    free, total = torch.cuda.mem_get_info()
    free += torch.cuda.memory_reserved() - torch.cuda.memory_allocated()  # that torch has for reuse
    if free < FREE_BYTES:
        raise SetupError(
            f"{torch.cuda.get_device_name()} has {free >> 20} of {total >> 20} MiB free beside the "
            f"model; {FREE_BYTES >> 20} MiB are needed: choose a larger GPU"
        )


def _dotted(capability: tuple[int, int]) -> str:
    return "{}.{}".format(*capability)


def check_hardware(flash_attention: str | None) -> None:
    """Raise SetupError where the GPU, its driver or flash-attn could not run a model.

    `flash_attention` is the file name of the pinned wheel.
    """
    check_gpu()
    check_flash_attention(flash_attention)


def check_flash_attention(wheel: str | None) -> None:
    """Raise SetupError when flash-attn is there for a GPU and cannot be loaded beside torch.

    `wheel` is the file name of the pinned flash-attn wheel. Without CUDA, or without flash-attn,
    torch's own attention is used and there is nothing to check.
    """
    if not torch.cuda.is_available() or not find_spec("flash_attn"):
        return
    new_abi = bool(torch._C._GLIBCXX_USE_CXX11_ABI)  # noqa: SLF001 - it has no public name
    if wheel is not None and (why := why_unloadable(wheel, new_abi=new_abi)):
        raise SetupError(f"{why}, and install again")
    try:
        import_module("flash_attn")
    except (ImportError, OSError) as error:  # an undefined symbol, a library that is not there
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise SetupError(
            f"flash-attn is installed and cannot be imported beside torch {torch.__version__} "
            f"({reason}): it was built for another torch, CUDA or Python; run: "
            "python -m volume verify --repair"
        ) from error
