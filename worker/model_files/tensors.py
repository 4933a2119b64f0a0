"""Maps files of tensors: nothing of them is read before it is used."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from worker.errors import SetupError


def map_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Map all tensors of a safetensors file, as they lie in it: each is read when it is used.

    Raises SetupError naming the file when it is missing, cut short or not safetensors.
    """
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise SetupError(f"{path.parent.name}/{path.name} cannot be read: {error}") from error


def in_float32(
    tensors: Mapping[str, torch.Tensor], device: torch.device
) -> dict[str, torch.Tensor]:
    """Give tensors in float32 on a device; on a CPU, what is in float32 stays mapped.

    All others go into one stretch of memory there: torch's, of ordinary pages. numpy asks for large
    ones, which a system whose memory is full of files may be slow to make: 1.8 s in place of 0.4.
    """
    if device.type != "cpu":
        return {name: tensor.to(device).float() for name, tensor in tensors.items()}
    others = [tensor for tensor in tensors.values() if tensor.dtype != torch.float32]
    memory = torch.empty(sum(map(_room, others)), dtype=torch.float32)
    free, found = 0, dict(tensors)
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            place = memory[free : free + tensor.numel()].view(tensor.shape)
            found[name] = place.copy_(tensor)
            free += _room(tensor)
    return found


def _room(tensor: torch.Tensor) -> int:
    """Floats that a tensor takes: whole cache lines."""
    return -(-tensor.numel() // 16) * 16


# What torch raises at files cut short and at other files.
_DAMAGED = (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError)


def map_pickle(path: Path) -> dict[str, torch.Tensor]:
    """Map all tensors of a file in torch's own format; no code in it is run.

    The format before torch 1.6, which cannot be mapped, is read whole.
    Raises SetupError naming the file when it is missing, cut short or of another kind.
    """
    try:
        return dict(torch.load(path, map_location="cpu", mmap=_is_zip(path), weights_only=True))
    except (*_DAMAGED, pickle.UnpicklingError) as error:
        told = str(error) or "it is cut short"
        raise SetupError(f"{path.parent.name}/{path.name} cannot be read: {told}") from error


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"
