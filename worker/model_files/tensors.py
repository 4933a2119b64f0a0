"""Maps files of tensors: nothing of them is read before it is used."""

from __future__ import annotations

import pickle
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from worker.errors import SetupError


def map_tensors(path: Path, names: Collection[str] | None = None) -> dict[str, torch.Tensor]:
    """Map the tensors of a safetensors file, as they lie in it: each is read when it is used.

    All of them, or those of `names` that are there: safetensors touches the first page of each,
    for which a volume is asked one by one. Raises SetupError naming the file when it is missing,
    cut short or not safetensors.
    """
    try:
        with safe_open(path, "pt") as file:
            found = [name for name in file.keys() if names is None or name in names]  # noqa: SIM118 - no dict
            return {name: file.get_tensor(name) for name in found}
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
