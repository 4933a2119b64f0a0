"""wave.c as Python calls it: BiCodec's wave generator in bfloat16.

Pointers are addresses; whoever calls keeps what they point to.
"""

from __future__ import annotations

import ctypes

from worker.speech.native import build
from worker.speech.native.build import INT, INT64, POINTER, Interface

BLOCK = 16  # channels that are computed together
MARGIN = 32  # rows of zeros before and after those of the input
SPEAK, START, INSIDE, ADD = range(4)  # what becomes of a convolution's sums


class Convolution(ctypes.Structure):
    """A convolution, or one phase of a transposed one."""

    _fields_ = (
        ("weights", POINTER),
        ("bias", POINTER),
        ("inputs", INT64),
        ("outputs", INT64),
        ("taps", INT64),
        ("offset", INT64),
        ("step", INT64),
        ("stride", INT64),
        ("phase", INT64),
    )


class Layer(ctypes.Structure):
    """The convolutions that make one layer, and the snake that follows."""

    _fields_ = (
        ("count", INT64),
        ("parts", ctypes.POINTER(Convolution)),
        ("alpha", POINTER),
        ("what", INT64),
    )


_SPEAK = (
    INT,  # 0, or -1 where memory is short
    (POINTER, ctypes.POINTER(Layer), INT64, INT64, POINTER, POINTER),  # pool; layers, rows; x, y
)
_PACK = (
    None,
    (
        *(POINTER, POINTER, INT64, INT64, INT64),  # pool, weights; outputs, inputs, taps
        *(INT64, INT64, INT64, POINTER),  # floats from one of each to the next; the packed ones
    ),
)


class WaveKernel(build.Kernel):
    """wave.c with a team of threads."""

    interface = Interface(
        name="wave",
        extensions=("avx512_bf16",),
        functions={"wave_speak": _SPEAK, "wave_pack": _PACK},
        structs=(Convolution, Layer),
    )
