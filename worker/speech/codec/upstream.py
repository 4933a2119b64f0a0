"""Finds upstream's Spark-TTS modules: the one place that knows where they come from.

In the image and under Nix it is the pinned commit of SparkAudio/Spark-TTS (package `sparktts`);
where only a package index is reachable it is `spark-tts-lib`, the same source renamed. Neither is
modified.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from worker.errors import SetupError
from worker.speech.codec.mel import MelSpectrogram
from worker.speech.codec.yaml_config import YamlConfig
from worker.stand_ins import StandIns, later

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

    _lighten(package)
    return _collect(package, part)


def _lighten(package: str) -> None:
    """Let upstream's modules be imported without what none of them needs here.

    spark-tts-lib's own __init__ brings transformers (5 s): it is not run, as if there were none,
    as in the GitHub package. einops registers its operations with torch's compiler, whose import
    takes 3 s. Of einx, which brings sympy (1.5 s), upstream uses one expression; of torchaudio (100
    modules and libraries), one transform; of omegaconf (75 modules), the reading of a file.
    """
    modules = {
        "einx": SimpleNamespace(get_at=_get_at),
        "torchaudio": later(
            "torchaudio", transforms=SimpleNamespace(MelSpectrogram=MelSpectrogram)
        ),
        "omegaconf": later("omegaconf", OmegaConf=YamlConfig, DictConfig=dict),
        "tqdm": later("tqdm", tqdm=None),  # of what prepares a training
    }
    StandIns(package, modules, bare=True).install()
    StandIns("einops", {"torch._dynamo": SimpleNamespace(allow_in_graph=_as_it_is)}).install()


def _as_it_is(operation: object) -> object:
    return operation


def _get_at(expression: str, codebooks: Tensor, indices: Tensor) -> Tensor:
    """Compute the one expression of einx that upstream uses: each codebook's codes by index."""
    if expression != "q [c] d, b n q -> q b n d":
        raise SetupError(f"upstream asks einx for an unknown expression: {expression}")
    return torch.stack([book[indices[..., i]] for i, book in enumerate(codebooks)])


def _collect(package: str, part: Callable[[str, str], Any]) -> Upstream:
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
