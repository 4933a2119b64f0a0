"""A process that loads one side and speaks one cloned sentence; it prints its memory as JSON.

python -m bench.speaker theirs|ours CHECKPOINT REFERENCE TOKENS DEVICE DTYPE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from bench.material import TRANSCRIPT
from bench.measure import resident
from bench.sentences import sentences


def main() -> None:
    """Only the side that is asked for is imported."""
    side, *rest = sys.argv[1:]
    checkpoint, reference, tokens, device, dtype = rest
    (text,) = sentences(1)
    if side == "theirs":
        from bench.theirs import Theirs

        Theirs(Path(checkpoint), device).speak(text, int(tokens), Path(reference), TRANSCRIPT)
    else:
        from bench.ours import Ours

        ours = Ours(Path(checkpoint), dtype, device)
        ours.speak([text], int(tokens), ours.engine.listen(Path(reference), TRANSCRIPT))
    fields = {"peak": "VmHWM", "now": "RssAnon", "mapped_files": "RssFile"}
    found = {name: resident(field) for name, field in fields.items()}
    if device == "cuda":
        found["gpu_peak"] = torch.cuda.max_memory_reserved()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
