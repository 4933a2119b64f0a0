"""The least that makes a RunPod worker of upstream: load its model, hand it the jobs.

python -m bench.their_worker MODEL_DIR ALIGNER_EN ALIGNER_ZH

The aligners, of which each is a folder, are loaded by WhisperX's own function.
"""

from __future__ import annotations

import sys
from typing import Any

import runpod
import torch
import whisperx
from spark_tts_lib.SparkTTS import SparkTTS

LANGUAGES = ("en", "zh")


def main() -> None:
    """Load, then serve."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # The SDK reads the arguments that are left.
    folder, *aligners = sys.argv[1:]
    del sys.argv[1:]
    model = SparkTTS(folder, device)
    align_models = {
        language: whisperx.load_align_model(language, str(device), model_name=aligner)
        for language, aligner in zip(LANGUAGES, aligners, strict=True)
    }

    def handler(job: dict[str, Any]) -> dict[str, Any]:
        asked = dict(job["input"])
        text, language = asked["text"], asked.pop("language", "en")
        speech = model.inference(**asked)
        samples = torch.as_tensor(speech).numpy().reshape(-1)
        aligner, about = align_models[language]
        segment = {"text": text, "start": 0.0, "end": len(samples) / model.sample_rate}
        words = whisperx.align([segment], aligner, about, samples, str(device))
        return {"speech": samples.tolist(), "words": words["word_segments"]}

    runpod.serverless.start({"handler": handler})


if __name__ == "__main__":
    main()
