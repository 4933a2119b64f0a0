"""Which weights a start reads, in the order of their use: to be read ahead while it imports.

Mapped files are among them, which are read when a job first needs them: the reference encoder and
the embedding would else keep the first jobs waiting for a slow volume. It knows no torch. Where it
is wrong about what the engine will choose, the start takes longer and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from volume.layout import Layout, LayoutError
from volume.start_pack.read_ahead import Range
from worker import cpu_info
from worker.settings import Settings
from worker.speech.checkpoint import WEIGHTS, Checkpoint, find_tensors
from worker.speech.lm.int8_weights import PACKED, ROWS, is_wanted
from worker.timing.model_folders import find_folder
from worker.wav2vec2.files import weights_of

Part = tuple[Path, tuple[Range, ...] | None]  # a file; of which all, or some ranges of bytes


def weights_in_order(settings: Settings, model: Path) -> Iterator[Part]:
    """The files of the model in this folder, and of the aligners, as a start uses them.

    Raises SetupError where a file of the model cannot be read.
    """
    published, prepared = Checkpoint(model), Checkpoint.to_load(model)
    rounded = cpu_info.GPU.exists() or cpu_info.multiplies_bfloat16()
    exact = settings.spark_dtype == "float32" or not rounded
    speech = published if exact else prepared
    codec: list[Part] = [(speech.codec / WEIGHTS, None)]
    features: list[Part] = [(weights_of(prepared.features), None)]
    aligners: list[Part] = [(weights_of(path), None) for path in _aligners(settings, model)]
    yield prepared.language_model / "tokenizer.json", None
    if not is_wanted(prepared.language_model, settings.spark_dtype):
        yield from (*codec, *features, (speech.language_model / WEIGHTS, None), *aligners)
        return
    weights, packed = (prepared.language_model / name for name in (WEIGHTS, PACKED))
    if packed.is_file():
        yield from ((packed, None), *codec, *aligners, (weights, _rows(weights)), *features)
    else:
        yield from ((weights, None), *codec, *aligners, *features)


def _aligners(settings: Settings, model: Path) -> Sequence[Path]:
    found, layout = [], Layout(settings.runpod_volume)
    for language in settings.whisperx_languages.split(","):
        try:
            found.append(find_folder(layout, model, language))
        except LayoutError:  # who needs it says so
            continue
    return found


def _rows(weights: Path) -> tuple[Range, ...]:
    """The bytes of the embedding and of the output matrix: of a packed model all that is left."""
    found = find_tensors(weights)
    places = [found[name] for name in ROWS if name in found]
    sizes = [math.prod(place.shape) * (4 if place.dtype == "F32" else 2) for place in places]
    return tuple(
        (place.offset, place.offset + size) for place, size in zip(places, sizes, strict=True)
    )
