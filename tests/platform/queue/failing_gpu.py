"""A worker whose GPU fails: python -m tests.platform.queue.failing_gpu, as python -m worker.

It is the real worker, but while the folder FAILURES holds a file of one of these names, the calls
below raise what torch raises: at every step of the language model, at every decoding to a waveform
or at every listening to a reference. A broken CUDA context stays so, a short memory does not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from worker import __main__ as worker
from worker.speech.codec.codec import Codec
from worker.speech.codec.speech_stream import SpeechStream
from worker.speech.lm.int8_model import Int8LanguageModel
from worker.speech.lm.torch_model import LanguageModel

BROKEN = RuntimeError("""CUDA error: an illegal memory access was encountered
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace \
below might be incorrect.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.
""")
SHORT = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 1.17 GiB. GPU 0 has a total capacity of 15.77 GiB of "
    "which 512.00 MiB is free."
)

FAILURES: dict[str, tuple[Exception, list[tuple[Any, str]]]] = {
    "model": (BROKEN, [(Int8LanguageModel, "step"), (LanguageModel, "step")]),
    "codec": (BROKEN, [(SpeechStream, "feed")]),
    "codec_memory": (SHORT, [(SpeechStream, "feed")]),
    "listening_memory": (SHORT, [(Codec, "tokenize")]),
}


def fail_while(folder: Path) -> None:
    """Put the failures into their places."""
    for name, (error, places) in FAILURES.items():
        for kind, method in places:
            setattr(kind, method, _failing(getattr(kind, method), folder / name, error))


def _failing(whole: Callable[..., Any], there: Path, error: Exception) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        if there.exists():
            raise type(error)(*error.args)
        return whole(*arguments, **named)

    return call


if __name__ == "__main__":
    fail_while(Path(os.environ["FAILURES"]))
    sys.exit(worker.main())
