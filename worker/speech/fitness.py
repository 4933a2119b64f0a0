"""Whether what is installed can run here: asked once, before the first job is taken."""

from __future__ import annotations

import re
from importlib.util import find_spec

import torch

from worker.errors import SetupError


def check_flash_attention(wheel: str | None) -> None:
    """Raise SetupError when flash-attn is there for a GPU and cannot be loaded beside torch.

    `wheel` is the file name of the locked flash-attn wheel. Without CUDA, or without flash-attn,
    torch's own attention is used and there is nothing to check.
    """
    if wheel is not None and torch.cuda.is_available() and find_spec("flash_attn"):
        refuse_other_abi(wheel, new_abi=bool(torch._C._GLIBCXX_USE_CXX11_ABI))  # noqa: SLF001


def refuse_other_abi(wheel: str, *, new_abi: bool) -> None:
    """Raise SetupError when the wheel's name says another C++ ABI than torch's `new_abi`."""
    tag = re.search(r"cxx11abi(TRUE|FALSE)", wheel, re.IGNORECASE)
    if tag and (tag[1].upper() == "TRUE") != new_abi:
        raise SetupError(
            f"{wheel} cannot be loaded beside this torch, whose _GLIBCXX_USE_CXX11_ABI is "
            f"{new_abi}: lock the build of flash-attn with cxx11abi{str(new_abi).upper()} in its "
            "name, and install again"
        )
