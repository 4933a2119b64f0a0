"""lm.cu and lm_int8.cu as Python calls them: a Qwen2 decoder in bfloat16. Knows no torch.

The structures are those of lm.cu and lm_products.cuh, which say what each number is. Pointers are
addresses on the device; whoever launches keeps what they point to.
"""

from __future__ import annotations

import ctypes
from ctypes import Structure
from typing import Protocol

from worker.speech.cuda.driver import FLOAT, INT, POINTER

PAGE = 64  # positions
TILE, CHUNK = 16, 32  # outputs and inputs that a weights' tile holds
WARP, MOST_WARPS = 32, 8
TOKENS = (8, 16, 32, 64)  # that a product's kernels are made for; more are several blocks
HEAD_SIZES = (32, 64, 128)
MOST_SHARING = 8  # queries that share a key
MOST_CANDIDATES = 64  # of a draw
SPLITS = 8  # blocks that share the positions of a token
EMBED_THREADS = FINISH_THREADS = ATTEND_THREADS = 128
DRAW_THREADS = 1024
# Blocks of a product that one of the GPU's processors runs at once, by the tokens of a block.
BLOCKS_AT_ONCE = {8: 2, 16: 2, 32: 2, 64: 1}
NARROW, FEW_OUTPUTS = ("project", "add"), 32  # products of few outputs; tokens of a block of these
LONG = ("add",)  # products whose inputs may be many


class Tokens(Structure):
    """Which tokens are computed."""

    _fields_ = (("count", POINTER), ("rows", POINTER), ("positions", POINTER))


class Squares(Structure):
    """The sums of squares of a residual."""

    _fields_ = (("parts", POINTER), ("number", INT), ("eps", FLOAT))


class Residual(Structure):
    """The residual, and it times the next norm's weight."""

    _fields_ = (
        ("values", POINTER),
        ("weighted", POINTER),
        ("norm", POINTER),
        ("squares", Squares),
    )


class Matrix(Structure):
    """Weights in tiles."""

    _fields_ = (
        ("weights", POINTER),
        ("scales", POINTER),
        ("inputs", INT),
        ("outputs", INT),
        ("warps", INT),
    )


class Pages(Structure):
    """Keys and values of a layer."""

    _fields_ = (
        ("keys_values", POINTER),
        ("table", POINTER),
        ("pages_of_row", INT),
        ("kv_heads", INT),
        ("head_size", INT),
    )


class Embed(Structure):
    """Arguments of `embed_all`."""

    _fields_ = (
        ("tokens", Tokens),
        ("ids", POINTER),
        ("table", POINTER),
        ("residual", Residual),
        ("channels", INT),
    )


class Project(Structure):
    """Arguments of `project_N`."""

    _fields_ = (
        ("tokens", Tokens),
        ("matrix", Matrix),
        ("x", POINTER),
        ("squares", Squares),
        ("bias", POINTER),
        ("cosines", POINTER),
        ("sines", POINTER),
        ("queries", POINTER),
        ("pages", Pages),
        ("heads", INT),
    )


class Attend(Structure):
    """Arguments of `attend_D`."""

    _fields_ = (
        ("tokens", Tokens),
        ("queries", POINTER),
        ("pages", Pages),
        ("out", POINTER),
        ("partial", POINTER),
        ("arrived", POINTER),
        ("heads", INT),
        ("splits", INT),
        ("scale", FLOAT),
    )


class Add(Structure):
    """Arguments of `add_N`."""

    _fields_ = (("tokens", Tokens), ("matrix", Matrix), ("x", POINTER), ("residual", Residual))


class Gate(Structure):
    """Arguments of `gate_N`."""

    _fields_ = (
        ("tokens", Tokens),
        ("matrix", Matrix),
        ("x", POINTER),
        ("squares", Squares),
        ("out", POINTER),
    )


class Finish(Structure):
    """Arguments of `finish_all`."""

    _fields_ = (
        ("tokens", Tokens),
        ("which", POINTER),
        ("weighted", POINTER),
        ("squares", Squares),
        ("out", POINTER),
        ("channels", INT),
    )


class Score(Structure):
    """Arguments of `score_N`."""

    _fields_ = (("tokens", Tokens), ("matrix", Matrix), ("x", POINTER), ("logits", POINTER))


class Draw(Structure):
    """Arguments of `draw_all`."""

    _fields_ = (
        ("tokens", Tokens),
        ("logits", POINTER),
        ("stride", INT),
        ("candidates", INT),
        ("end", INT),
        ("names", POINTER),
        ("places", POINTER),
        ("speaking", POINTER),
        ("apart", ctypes.c_longlong),
        ("temperature", POINTER),
        ("top_p", POINTER),
        ("top_k", POINTER),
        ("uniforms", POINTER),
        ("ids", POINTER),
        ("at", POINTER),
        ("drawn", POINTER),
        ("end_from", POINTER),
        ("positions", ctypes.c_longlong),
        ("out", POINTER),
    )


PRODUCTS: dict[str, type[Structure]] = {
    "project": Project,
    "add": Add,
    "gate": Gate,
    "score": Score,
}
# Each kernel of lm.cu by its name, and the structure that it takes.
KERNELS: dict[str, type[Structure]] = {
    "embed_all": Embed,
    "finish_all": Finish,
    "draw_all": Draw,
    **{f"attend_{size}": Attend for size in HEAD_SIZES},
    **{
        f"{name}_{tokens}": arguments
        for name, arguments in (
            ("project", Project),
            ("add", Add),
            ("gate", Gate),
            ("score", Score),
        )
        for tokens in TOKENS
    },
}
# Those of lm_int8.cu.
INT8_FILE, INT8 = "lm_int8", "_int8"  # the file's name, and how its kernels' names end
INT8_KERNELS: dict[str, type[Structure]] = {
    f"{name}_{tokens}{INT8}": PRODUCTS[name]
    for name in ("project", "add", "gate")
    for tokens in TOKENS
}


class Launcher(Protocol):
    """Launches the kernels of one file, one after the other."""

    @property
    def processors(self) -> int:
        """Multiprocessors of the GPU."""

    def launch(
        self, name: str, grid: tuple[int, int, int], threads: int, arguments: Structure
    ) -> None:
        """Launch a kernel over a grid of blocks of so many threads, behind all launched before."""


def tokens_at_once(name: str, count: int) -> int:
    """For how many tokens at once the product of this name computes `count`: one of TOKENS.

    A product of few outputs leaves processors idle where one block computes all tokens.
    """
    most = FEW_OUTPUTS if name in NARROW and count <= 2 * TOKENS[-1] else TOKENS[-1]
    return next((size for size in TOKENS if size >= min(count, most)), most)


def warps_for(name: str, inputs: int) -> int:
    """How many warps share the inputs of the product of this name: four chunks each, if there are.

    Sums are in the order that this gives, so that it must not depend on the number of tokens.
    """
    chunks = inputs // CHUNK
    most = MOST_WARPS * (2 if name in LONG else 1)
    turns = max(min(4, chunks), -(-chunks // most))
    return -(-chunks // turns)


def blocks_for(at_once: int, tiles: int, groups: int, processors: int) -> int:
    """How many blocks share the tiles of a product of `at_once` tokens, for each group of them.

    As many as run at once, each with as many tiles, so that a block reads its tokens once. Of many
    groups some may have no tokens: then twice as many.
    """
    together = max(1, BLOCKS_AT_ONCE[at_once] * processors * (2 if groups > 2 else 1) // groups)
    return -(-tiles // -(-tiles // together))
