"""Where upstream's Spark-TTS modules come from: the one place that knows.

In the image and under Nix it is the pinned commit of SparkAudio/Spark-TTS (package `sparktts`);
where only a package index is reachable it is `spark-tts-lib`, the same source renamed. Neither is
modified.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

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

    with _light(package):
        return _collect(package, part)


@contextmanager
def _light(package: str) -> Iterator[None]:
    """Let upstream's modules be imported without what none of them needs here.

    spark-tts-lib's own __init__ brings transformers (5 s): a parent with nothing in it stands in
    its place, as in the GitHub package. einops registers its operations with torch's compiler
    when that can be imported, which takes 3 s. Of einx, which brings sympy (1.5 s), upstream uses
    one expression. All are as they were afterwards.
    """
    parents: dict[str, ModuleType] = {} if package in sys.modules else {package: _bare(package)}
    if "einx" not in sys.modules:
        parents["einx"] = ModuleType("einx")
        parents["einx"].get_at = _get_at  # type: ignore[attr-defined]
    absent = {} if "torch._dynamo" in sys.modules else {"torch._dynamo": None}
    sys.modules.update(parents)
    sys.modules.update(absent)  # type: ignore[arg-type] # None: Python's own way to say absent
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="allow_ops_in_compiled_graph failed")
            yield
    finally:
        for name in (*parents, *absent):
            del sys.modules[name]


def _get_at(expression: str, codebooks: Tensor, indices: Tensor) -> Tensor:
    """The one expression of einx that upstream uses: codes of each codebook at their indices."""
    if expression != "q [c] d, b n q -> q b n d":
        raise SetupError(f"upstream asks einx for an unknown expression: {expression}")
    return torch.stack([book[indices[..., i]] for i, book in enumerate(codebooks)])


def _bare(package: str) -> ModuleType:
    """The package as a namespace: its folders, without running its __init__."""
    found = find_spec(package)
    spec = ModuleSpec(package, None, is_package=True)
    spec.submodule_search_locations = list((found and found.submodule_search_locations) or [])
    return module_from_spec(spec)


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
