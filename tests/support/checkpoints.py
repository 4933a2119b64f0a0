"""Random checkpoints in the published layout: exact in shape, of any size, the same each time.

By transformers' own classes, and with weight norm: as they are published.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import Qwen2Config, Qwen2ForCausalLM, Wav2Vec2Config, Wav2Vec2Model

from tests.support.random_checkpoint import (
    Sizes,
    make_tokenizer,
    write_audio_config,
    write_codec,
)


def make_checkpoint(folder: Path, sizes: Sizes | None = None, seed: int = 0) -> Path:
    """Write a random checkpoint into `folder` and return it."""
    sizes = sizes or Sizes()
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(sizes)
    write_audio_config(folder)
    _language_model(folder / "LLM", tokenizer, sizes)
    write_codec(folder / "BiCodec", sizes)
    _features(folder / "wav2vec2-large-xlsr-53", sizes)
    return folder


def _language_model(folder: Path, tokenizer: Tokenizer, sizes: Sizes) -> None:
    folder.mkdir(exist_ok=True)
    config = Qwen2Config(
        vocab_size=sizes.vocabulary or tokenizer.get_vocab_size(),
        hidden_size=sizes.hidden,
        intermediate_size=sizes.intermediate,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        max_position_embeddings=sizes.positions,
        rope_theta=1e6,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        initializer_range=sizes.spread,
        bos_token_id=tokenizer.token_to_id("<|endoftext|>"),
        eos_token_id=tokenizer.token_to_id("<|im_end|>"),
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_input_names": ["input_ids", "attention_mask"],
                "eos_token": "<|im_end|>",
                "pad_token": "<|endoftext|>",
                "clean_up_tokenization_spaces": False,
            }
        )
    )


def _features(folder: Path, sizes: Sizes) -> None:
    config = Wav2Vec2Config(
        hidden_size=sizes.feature_hidden,
        num_hidden_layers=sizes.feature_layers,
        num_attention_heads=sizes.feature_heads,
        intermediate_size=sizes.feature_hidden * 4,
        conv_dim=(sizes.feature_conv,) * 7,
        feat_extract_norm="layer",
        conv_bias=True,
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=sizes.feature_surroundings,
        num_conv_pos_embedding_groups=sizes.feature_groups,
    )
    Wav2Vec2Model(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "do_normalize": True,
                "feature_extractor_type": "Wav2Vec2FeatureExtractor",
                "feature_size": 1,
                "padding_side": "right",
                "padding_value": 0.0,
                "return_attention_mask": True,
                "sampling_rate": 16000,
            }
        )
    )
