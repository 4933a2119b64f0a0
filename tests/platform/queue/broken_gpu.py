"""A worker whose GPU breaks: python -m tests.platform.queue.broken_gpu, as python -m worker.

It is the real worker, but once the file named by BREAK_WHEN is there, every step of the language
model (BREAK_WHAT=model) or every decoding to a waveform (BREAK_WHAT=codec) raises what torch raises
from then on in a process whose CUDA context is broken.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worker import __main__ as worker
from worker.speech.codec import Codec
from worker.speech.int8 import Int8LanguageModel
from worker.speech.lm import LanguageModel

TOLD = """CUDA error: an illegal memory access was encountered
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace \
below might be incorrect.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.
"""


PLACES: dict[str, list[tuple[Any, str]]] = {
    "model": [(Int8LanguageModel, "step"), (LanguageModel, "step")],
    "codec": [(Codec, "decode")],
}


def break_when(there: Path, what: str) -> None:
    """Put the fault into that part."""
    for kind, name in PLACES[what]:
        setattr(kind, name, _broken(getattr(kind, name), there))


def _broken(whole: Callable[..., Any], there: Path) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        if there.exists():
            raise RuntimeError(TOLD)
        return whole(*arguments)

    return call


if __name__ == "__main__":
    break_when(Path(os.environ["BREAK_WHEN"]), os.environ["BREAK_WHAT"])
    sys.exit(worker.main())
