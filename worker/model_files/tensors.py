"""Maps files of tensors: nothing of them is read before it is used."""

from __future__ import annotations

import pickle
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
