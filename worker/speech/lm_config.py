"""A Qwen2 decoder's sizes, from its config.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from worker.errors import SetupError
from worker.speech.checkpoint import read_json


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
        """From config.json; raises SetupError for another architecture or a missing size."""
        raw = read_json(path)
        if raw.get("model_type") != "qwen2":
            raise SetupError(f"LLM/config.json: model_type is {raw.get('model_type')!r}, not qwen2")
        if raw.get("use_sliding_window") or raw.get("rope_scaling"):
            raise SetupError("LLM/config.json: sliding windows and rope scaling are not supported")
        try:
            return cls(**{name: raw[name] for name in cls.__dataclass_fields__})
        except KeyError as error:
            raise SetupError(f"LLM/config.json lacks {error}") from None
