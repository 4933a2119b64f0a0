"""Where upstream's Spark-TTS modules come from: the one place that knows.

In the image and under Nix it is the pinned commit of SparkAudio/Spark-TTS (package `sparktts`);
where only a package index is reachable it is `spark-tts-lib`, the same source renamed. Neither is
modified.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from worker.errors import SetupError

PACKAGES = ("sparktts", "spark_tts_lib")


@dataclass(frozen=True)
class Upstream:
    """Upstream's classes and functions that the worker drives."""

    package: str
    bicodec: Any
    encoder: Any
    decoder: Any
    wave_generator: Any
    speaker_encoder: Any
    quantizer: Any
    load_config: Any
    load_audio: Any


def find_upstream() -> Upstream:
    """Import upstream's modules. Raises SetupError when there are none."""
    package = next((name for name in PACKAGES if find_spec(name)), None)
    if package is None:
        raise SetupError(
            f"upstream's modules are not importable: neither of {', '.join(PACKAGES)} was found; "
            "put a checkout of Spark-TTS on PYTHONPATH or install spark-tts-lib"
        )

    def part(module: str, name: str) -> Any:
        return getattr(import_module(f"{package}.{module}"), name)

    return Upstream(
        package=package,
        bicodec=part("models.bicodec", "BiCodec"),
        encoder=part("modules.encoder_decoder.feat_encoder", "Encoder"),
        decoder=part("modules.encoder_decoder.feat_decoder", "Decoder"),
        wave_generator=part("modules.encoder_decoder.wave_generator", "WaveGenerator"),
        speaker_encoder=part("modules.speaker.speaker_encoder", "SpeakerEncoder"),
        quantizer=part("modules.vq.factorized_vector_quantize", "FactorizedVectorQuantize"),
        load_config=part("utils.file", "load_config"),
        load_audio=part("utils.audio", "load_audio"),
    )
