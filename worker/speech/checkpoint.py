"""A checkpoint's files: the published layout, its configurations, and where its tensors lie.

It knows neither the models nor torch, whose import takes longer than the reading of the files.

<folder>/config.yaml                                     audio parameters
<folder>/LLM/{config.json, tokenizer.json, model.safetensors}
<folder>/BiCodec/{config.yaml, model.safetensors}
<folder>/wav2vec2-large-xlsr-53/{config.json, preprocessor_config.json, weights}

What transformers 5 saves of a whole processor is processor_config.json, which stands for
preprocessor_config.json where that is missing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volume.layout import PREPARED
from worker.errors import SetupError
from worker.model_files.json_object import read_json

WEIGHTS = "model.safetensors"
EXTRACTOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"
HEADER_BYTES_MAX = 100_000_000  # of a safetensors file, as its own library has it


@dataclass(frozen=True)
class Checkpoint:
    """A folder in the published layout."""

    folder: Path

    @classmethod
    def to_load(cls, published: Path) -> Checkpoint:
        """What was prepared of a published folder for fast loading; itself where nothing was."""
        prepared = published / PREPARED
        return cls(prepared if prepared.is_dir() else published)

    @property
    def language_model(self) -> Path:
        """The folder of the Qwen2 decoder and its tokenizer."""
        return self.folder / "LLM"

    @property
    def codec(self) -> Path:
        """The folder of BiCodec."""
        return self.folder / "BiCodec"

    @property
    def features(self) -> Path:
        """The folder of wav2vec2, which turns reference audio into semantic features."""
        return self.folder / "wav2vec2-large-xlsr-53"

    def check(self) -> None:
        """Raise SetupError naming each file that is missing."""
        wanted = [
            self.folder / "config.yaml",
            self.language_model / "config.json",
            self.language_model / "tokenizer.json",
            self.language_model / WEIGHTS,
            self.codec / "config.yaml",
            self.codec / WEIGHTS,
            self.features / "config.json",
            self.features / EXTRACTOR,
        ]
        missing = [str(path.relative_to(self.folder)) for path in wanted if not path.is_file()]
        if (self.features / PROCESSOR).is_file():
            missing = [path for path in missing if not path.endswith(EXTRACTOR)]
        shards = self.language_model / f"{WEIGHTS}.index.json"
        if f"LLM/{WEIGHTS}" in missing and shards.is_file():
            raise SetupError(
                f"checkpoint {self.folder.name}: LLM has its weights in several files, which is "
                f'not supported; save one {WEIGHTS}: save_pretrained(..., max_shard_size="50GB")'
            )
        if missing:
            raise SetupError(
                f"checkpoint {self.folder.name} is incomplete, missing: {', '.join(missing)}; "
                "run: python -m volume verify --repair"
            )


def read_extractor(folder: Path) -> dict[str, Any]:
    """Read how wav2vec2 wants its samples: of the two files, the one that transformers 5 takes.

    Raises SetupError where there is none that says it.
    """
    if (folder / PROCESSOR).is_file():
        extractor = read_json(folder / PROCESSOR).get("feature_extractor")
        if isinstance(extractor, dict):
            return extractor
    return read_json(folder / EXTRACTOR)


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in a safetensors file."""

    dtype: str  # as the file says it: F32, BF16, F16 ...
    shape: tuple[int, ...]
    offset: int  # bytes from the file's begin


def find_tensors(path: Path) -> dict[str, Place]:
    """Find the tensors of a safetensors file, by name.

    The format: https://github.com/huggingface/safetensors#format. Raises SetupError naming the
    file when it is missing, cut short or not safetensors.
    """
    try:
        return _places(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise SetupError(f"{path.parent.name}/{path.name} cannot be read: {error}") from error


def _places(path: Path) -> dict[str, Place]:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length < min(size, HEADER_BYTES_MAX):
            raise ValueError(f"its header cannot have {length} bytes")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    begin = 8 + length
    if any(begin + entry["data_offsets"][1] > size for entry in header.values()):
        raise ValueError("it is cut short")
    return {
        name: Place(entry["dtype"], tuple(entry["shape"]), begin + entry["data_offsets"][0])
        for name, entry in header.items()
    }
