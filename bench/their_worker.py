"""The least that makes a RunPod worker of upstream: load its model, hand it the jobs.

python -m bench.their_worker MODEL_DIR
"""

from __future__ import annotations

import sys
from typing import Any

import runpod
import torch
from spark_tts_lib.SparkTTS import SparkTTS


def main() -> None:
    """Load, then serve."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = SparkTTS(sys.argv.pop(1), device)  # the SDK reads the arguments that are left

    def handler(job: dict[str, Any]) -> list[float]:
        return list(model.inference(**job["input"]).tolist())

    runpod.serverless.start({"handler": handler})


if __name__ == "__main__":
    main()
