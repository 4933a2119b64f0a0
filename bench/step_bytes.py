"""What a step of the language model must read from memory, at the least."""

from __future__ import annotations

from worker.speech.lm.config import LMConfig
from worker.speech.native.lm import GROUP

# Of a weight; in int8, each group of them has a scale in float16.
BYTES = {"float32": 4.0, "bfloat16": 2.0, "int8": 1 + 2 / GROUP}


def weight_bytes(config: LMConfig, head: int, width: float) -> int:
    """Of all matrices of the layers and `head` rows of the output, `width` bytes a weight."""
    c = config
    keys = c.num_key_value_heads * c.head_dim
    attention = 2 * c.hidden_size * (c.hidden_size + keys)
    layers = c.num_hidden_layers * (attention + 3 * c.hidden_size * c.intermediate_size)
    return round(width * (layers + head * c.hidden_size))


def key_value_bytes(config: LMConfig, rows: int, position: int, width: float) -> int:
    """Of the keys and values that so many rows at this position look at."""
    channels = 2 * config.num_key_value_heads * config.head_dim
    return round(width * config.num_hidden_layers * channels * rows * position)
