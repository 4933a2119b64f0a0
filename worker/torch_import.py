"""Imports torch in two thirds of the time: without what serves its compiler and training alone."""

from __future__ import annotations

from worker import cpu_info
from worker.stand_ins import StandIns, later


def lighten() -> None:
    """Have torch imported without its functions of shapes and its quantisation (0.3 s).

    Not where a GPU is: kernels for those register shapes with the first (torch.library). Where none
    is, nothing here uses torch's compiler; it would need `torch._meta_registrations` before it.
    """
    if cpu_info.GPU.exists():
        return
    names = ("torch._meta_registrations", "torch.quantization")
    StandIns("torch", {name: later(name) for name in names}, first=True).install()
