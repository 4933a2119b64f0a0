"""Whether what is installed can run here: asked before anything is loaded."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec

import torch

from worker.errors import SetupError
from worker.speech.device_checks import check_gpu


def check_hardware(flash_attention: str | None) -> None:
    """Raise SetupError where a model could not run: by the GPU, its driver or flash-attn.

    `flash_attention` is the file name of the locked wheel.
    """
    check_gpu()
    check_flash_attention(flash_attention)


def check_flash_attention(wheel: str | None) -> None:
    """Raise SetupError when flash-attn is there for a GPU and cannot be loaded beside torch.

    `wheel` is the file name of the locked flash-attn wheel. Without CUDA, or without flash-attn,
    torch's own attention is used and there is nothing to check.
    """
    if not torch.cuda.is_available() or not find_spec("flash_attn"):
        return
    if wheel is not None:
        refuse_other_abi(wheel, new_abi=bool(torch._C._GLIBCXX_USE_CXX11_ABI))  # noqa: SLF001
    try:
        import_module("flash_attn")
    except (ImportError, OSError) as error:  # an undefined symbol, a library that is not there
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise SetupError(
            f"flash-attn is installed and cannot be imported beside torch {torch.__version__} "
            f"({reason}): it was built for another torch, CUDA or Python; run: "
            "python -m volume verify --repair"
        ) from error


def refuse_other_abi(wheel: str, *, new_abi: bool) -> None:
    """Raise SetupError when the wheel's name says another C++ ABI than torch's `new_abi`."""
    tag = re.search(r"cxx11abi(TRUE|FALSE)", wheel, re.IGNORECASE)
    if tag and (tag[1].upper() == "TRUE") != new_abi:
        raise SetupError(
            f"{wheel} cannot be loaded beside this torch, whose _GLIBCXX_USE_CXX11_ABI is "
            f"{new_abi}: lock the build of flash-attn with cxx11abi{str(new_abi).upper()} in its "
            "name, and install again"
        )
