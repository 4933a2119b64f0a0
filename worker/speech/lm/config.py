"""A Qwen2 decoder's sizes, and how they are read from its config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.errors import SetupError
from worker.model_files.json_object import read_json


@dataclass(frozen=True)
class LMConfig:
    """The sizes of a Qwen2 decoder, named as in its config.json."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def read(cls, path: Path) -> LMConfig:
        """Read config.json, as transformers 4 or 5 wrote it.

        Raises SetupError for another architecture or a missing size.
        """
        raw = read_json(path)
        if raw.get("model_type") != "qwen2":
            raise SetupError(f"LLM/config.json: model_type is {raw.get('model_type')!r}, not qwen2")
        if raw.get("hidden_act", "silu") != "silu":
            raise SetupError(f"LLM/config.json: hidden_act is {raw['hidden_act']!r}, not silu")
        if _has_sliding_layers(raw):
            raise SetupError("LLM/config.json: layers with sliding windows are not supported")
        sizes = raw | {"rope_theta": _rope_theta(raw)}
        try:
            return cls(**{name: sizes[name] for name in cls.__dataclass_fields__})
        except KeyError as error:
            raise SetupError(f"LLM/config.json lacks {error}") from None


def _has_sliding_layers(raw: Mapping[str, Any]) -> bool:
    """Whether some layer sees only the latest positions.

    `use_sliding_window` alone does not say so: the first `max_window_layers` see all, and so does
    each layer where `sliding_window` is null. transformers writes what comes of it, `layer_types`,
    but older versions of 4 did not.
    """
    if kinds := raw.get("layer_types"):
        return any(kind != "full_attention" for kind in kinds)
    if not raw.get("use_sliding_window") or raw.get("sliding_window", 0) is None:
        return False
    return bool(raw.get("max_window_layers", 0) < raw.get("num_hidden_layers", 0))


def _rope_theta(raw: Mapping[str, Any]) -> float:
    """The base of the rotary positions; raises SetupError where they are scaled, or it is unknown.

    transformers 4 writes it as `rope_theta` beside `rope_scaling`, and 5 into `rope_parameters`.
    Both always write it, so that there is no default. transformers 4 does not know the new place:
    it computes a model of 5 with a base of 10,000 and saves both. What was trained then with which
    of them, the file does not say.
    """
    bases = [raw.get("rope_theta")]
    for name in ("rope_scaling", "rope_parameters"):
        rope = raw.get(name) or {}
        if any(isinstance(value, dict) for value in rope.values()):
            raise SetupError(f"LLM/config.json: {name} differs by layer, which is not supported")
        kind = rope.get("rope_type") or rope.get("type") or "default"
        if kind != "default":
            raise SetupError(f"LLM/config.json: rope scaling ({kind}) is not supported")
        bases.append(rope.get("rope_theta"))
    found = sorted({float(base) for base in bases if base is not None})
    if not found:
        raise SetupError("LLM/config.json lacks 'rope_theta'")
    if len(found) > 1:
        raise SetupError(
            f"LLM/config.json gives rope_theta twice, as {found[0]} and {found[1]}, which is what "
            "transformers 4 makes of a model of transformers 5; leave the one of its training alone"
        )
    return found[0]
