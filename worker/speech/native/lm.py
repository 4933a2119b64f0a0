"""lm.c as Python calls it: a Qwen2 decoder in 8-bit integers. Knows no torch.

Pointers are addresses; whoever calls keeps what they point to.
"""

from __future__ import annotations

import ctypes

from worker.speech.native import build
from worker.speech.native.build import INT, INT64, POINTER, Interface

GROUP, BLOCK = 32, 16  # inputs that share a scale, outputs that are computed together
HEAD_DIM_MAX = 128  # MOST_HEAD_DIM
KINDS = {"F32": 0, "BF16": 1, "F16": 2}  # of weights that are packed, by safetensors' names


class Sizes(ctypes.Structure):
    """The decoder's sizes, and the positions of one row of the cache."""

    _fields_ = (
        ("hidden", INT64),
        ("inner", INT64),
        ("layers", INT64),
        ("heads", INT64),
        ("kv_heads", INT64),
        ("head_dim", INT64),
        ("positions", INT64),
        ("eps", ctypes.c_float),
    )


class Layer(ctypes.Structure):
    """One layer: its packed matrices, then its vectors of float32."""

    _fields_ = (
        ("qkv", POINTER),
        ("out", POINTER),
        ("gate_up", POINTER),
        ("down", POINTER),
        ("qkv_bias", POINTER),
        ("attention_norm", POINTER),
        ("mlp_norm", POINTER),
    )


_SIZE_OF_PACKED = (INT64, (INT64, INT64))  # outputs, inputs
_PACK = (
    INT,  # 0, or an error number
    (
        *(POINTER, POINTER, INT, INT64, INT),  # pool; weights or a file and its offset; kind
        *(INT64, INT64, INT64),  # outputs, inputs, outputs of the whole matrix
        *(INT64, INT64, INT64, POINTER),  # first block, parts, step; the packed matrix
    ),
)
_FORWARD = (
    INT,  # 0, or -1 where memory is short
    (
        *(POINTER, ctypes.POINTER(Sizes), ctypes.POINTER(Layer)),  # pool
        *(POINTER, POINTER, POINTER),  # final norm, cosines, sines
        *(INT64, INT64, POINTER),  # tokens, results, which tokens these are
        *(POINTER, POINTER, POINTER, POINTER),  # rows, positions, cache, hidden states
    ),
)
_LINEAR = (
    INT,  # 0, or -1 where memory is short
    (POINTER, POINTER, INT64, INT64, INT64, POINTER, POINTER),  # outputs, inputs, tokens; x, y
)


class LmKernel(build.Kernel):
    """lm.c with a team of threads."""

    interface = Interface(
        name="lm",
        extensions=("avx512_vnni",),
        functions={
            "lm_packed_size": _SIZE_OF_PACKED,
            "lm_pack": _PACK,
            "lm_forward": _FORWARD,
            "lm_linear": _LINEAR,
        },
        structs=(Sizes, Layer),
    )

    def packed_size(self, outputs: int, inputs: int) -> int:
        """Bytes of a packed matrix."""
        return int(self.library.lm_packed_size(outputs, inputs))
