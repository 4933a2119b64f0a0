"""A worker whose GPU breaks: python -m tests.platform.queue.broken_gpu, as python -m worker.

It is the real worker, but once the file named by BREAK_WHEN is there, every step of the language
model raises what torch raises from then on in a process whose CUDA context is broken.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from worker import __main__ as worker
from worker.speech.int8 import Int8LanguageModel
from worker.speech.lm import LanguageModel

TOLD = """CUDA error: an illegal memory access was encountered
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace \
below might be incorrect.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.
"""


def break_when(there: Path) -> None:
    """Put the fault into the steps of both decoders."""
    for decoder in (Int8LanguageModel, LanguageModel):
        whole = decoder.step

        def step(lm: Any, *arguments: Any, whole: Any = whole) -> Any:
            if there.exists():
                raise RuntimeError(TOLD)
            return whole(lm, *arguments)

        decoder.step = step  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    break_when(Path(os.environ["BREAK_WHEN"]))
    sys.exit(worker.main())
