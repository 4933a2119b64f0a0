"""codec.cu as Python calls it: the snake of the codec's wave generator. Knows no torch.

The structure is codec.cu's, which says what each number is. Pointers are addresses on the device.
"""

from __future__ import annotations

from ctypes import Structure

from worker.speech.cuda.driver import INT, POINTER

THREADS = 256
EIGHT = 8  # numbers that a thread computes


class Snake(Structure):
    """Arguments of both kernels."""

    _fields_ = (
        ("made", POINTER),
        ("bias", POINTER),
        ("alpha", POINTER),
        ("residual", POINTER),
        ("valid", POINTER),
        ("total", POINTER),
        ("out", POINTER),
        ("channels", INT),
        ("positions", INT),
        ("rate", INT),
    )


KERNELS: dict[str, type[Structure]] = {"snake_rows": Snake, "snake_columns": Snake}
