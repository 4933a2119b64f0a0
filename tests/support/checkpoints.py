"""Random checkpoints in the published layout: exact in shape, of any size, the same each time."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import Qwen2Config, Qwen2ForCausalLM, Wav2Vec2Config, Wav2Vec2Model

from worker.speech.upstream import find_upstream

# Qwen2's way of cutting text into words before the merges.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CORPUS = [
    "The boy walked to the river and the girl went to the sea; they said that it was cold.",
    "It was in the other town, there, then and now: the weather, the water, the winter.",
]
TASKS = ("vc", "tts", "asr", "s2s", "t2s", "understand", "cap", "controllable_tts", "prompt_tts")
PARTS = ("content", "global_token", "semantic_token", "style_label", "acoustic_token")


@dataclass(frozen=True)
class Sizes:
    """Sizes of a checkpoint; the defaults are tiny and differ from each other on purpose."""

    hidden: int = 48
    layers: int = 3
    heads: int = 6
    kv_heads: int = 2
    intermediate: int = 80
    vocabulary: int | None = None  # None: just as many as the tokenizer has
    positions: int = 2048
    semantic_codes: int = 96
    voice_length: int = 5
    fsq_levels: tuple[int, ...] = (4, 4)
    pitch_values: int = 1001
    feature_hidden: int = 32
    feature_layers: int = 17
    feature_conv: int = 16
    codec: dict[str, Any] = field(default_factory=lambda: TINY_CODEC)
    spread: float = 0.2  # of random weights; more than usual, so that no token always wins


TINY_CODEC: dict[str, Any] = {
    "encoder": {
        "input_channels": 32, "vocos_dim": 24, "vocos_intermediate_dim": 40,
        "vocos_num_layers": 2, "out_channels": 28, "sample_ratios": [1, 1],
    },
    "decoder": {
        "input_channel": 36, "channels": 32, "rates": [8, 5, 4, 2],
        "kernel_sizes": [16, 11, 8, 4],
    },
    "quantizer": {
        "input_dim": 28, "codebook_size": 96, "codebook_dim": 8, "commitment": 0.25,
        "codebook_loss_weight": 2.0, "use_l2_normlize": True, "threshold_ema_dead_code": 0.2,
    },
    "speaker_encoder": {
        "input_dim": 128, "out_dim": 36, "latent_dim": 16, "token_num": 5,
        "fsq_levels": [4, 4], "fsq_num_quantizers": 1,
    },
    "prenet": {
        "input_channels": 28, "vocos_dim": 24, "vocos_intermediate_dim": 40,
        "vocos_num_layers": 2, "out_channels": 36, "condition_dim": 36,
        "sample_ratios": [1, 1], "use_tanh_at_final": False,
    },
    "postnet": {
        "input_channels": 36, "vocos_dim": 16, "vocos_intermediate_dim": 24,
        "vocos_num_layers": 1, "out_channels": 32, "use_tanh_at_final": False,
    },
}  # fmt: skip

# The published model's, from its config files.
FULL = Sizes(
    hidden=896, layers=24, heads=14, kv_heads=2, intermediate=4864, vocabulary=166_000,
    positions=32_768, semantic_codes=8192, voice_length=32, fsq_levels=(4,) * 6,
    feature_hidden=1024, feature_layers=24, feature_conv=512, spread=0.02,
    codec={
        "encoder": {
            "input_channels": 1024, "vocos_dim": 384, "vocos_intermediate_dim": 2048,
            "vocos_num_layers": 12, "out_channels": 1024, "sample_ratios": [1, 1],
        },
        "decoder": {
            "input_channel": 1024, "channels": 1536, "rates": [8, 5, 4, 2],
            "kernel_sizes": [16, 11, 8, 4],
        },
        "quantizer": TINY_CODEC["quantizer"] | {"input_dim": 1024, "codebook_size": 8192},
        "speaker_encoder": {
            "input_dim": 128, "out_dim": 1024, "latent_dim": 128, "token_num": 32,
            "fsq_levels": [4, 4, 4, 4, 4, 4], "fsq_num_quantizers": 1,
        },
        "prenet": {
            "input_channels": 1024, "vocos_dim": 384, "vocos_intermediate_dim": 2048,
            "vocos_num_layers": 12, "out_channels": 1024, "condition_dim": 1024,
            "sample_ratios": [1, 1], "use_tanh_at_final": False,
        },
        "postnet": {
            "input_channels": 1024, "vocos_dim": 384, "vocos_intermediate_dim": 2048,
            "vocos_num_layers": 6, "out_channels": 1024, "use_tanh_at_final": False,
        },
    },
)  # fmt: skip


def make_checkpoint(folder: Path, sizes: Sizes | None = None, seed: int = 0) -> Path:
    """Write a random checkpoint into `folder` and return it."""
    sizes = sizes or Sizes()
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(sizes)
    (folder / "config.yaml").write_text(
        yaml.safe_dump(
            {
                "highpass_cutoff_freq": 40,
                "sample_rate": 16000,
                "segment_duration": 2.4,
                "max_val_duration": 12,
                "latent_hop_length": 320,
                "ref_segment_duration": 6,
                "volume_normalize": True,
            }
        )
    )
    _language_model(folder / "LLM", tokenizer, sizes)
    _codec(folder / "BiCodec", sizes)
    _features(folder / "wav2vec2-large-xlsr-53", sizes)
    return folder


def make_tokenizer(sizes: Sizes) -> Tokenizer:
    """A Qwen2-like byte-level BPE with all of Spark-TTS's tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    names = [
        *(f"<|{name}|>" for name in ("endoftext", "im_start", "im_end")),
        *(f"<|task_{name}|>" for name in TASKS),
        *(f"<|{edge}_{part}|>" for part in PARTS for edge in ("start", "end")),
        *(f"<|bicodec_semantic_{n}|>" for n in range(sizes.semantic_codes)),
        *(f"<|bicodec_global_{n}|>" for n in range(torch.Size(sizes.fsq_levels).numel())),
        *(f"<|gender_{n}|>" for n in range(2)),
        *(f"<|{what}_label_{n}|>" for what in ("pitch", "speed") for n in range(5)),
        *(f"<|pitch_value_{n}|>" for n in range(sizes.pitch_values)),
        *(f"<|speed_value_{n}|>" for n in range(11)),
    ]
    tokenizer.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in names])
    return tokenizer


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


def _codec(folder: Path, sizes: Sizes) -> None:
    folder.mkdir(exist_ok=True)
    upstream = find_upstream()
    mel = {
        "sample_rate": 16000, "n_fft": 1024, "win_length": 640, "hop_length": 320,
        "mel_fmin": 10, "mel_fmax": None, "num_mels": 128,
    }  # fmt: skip
    parts = sizes.codec
    model = upstream.bicodec(
        mel_params=mel,
        encoder=upstream.encoder(**parts["encoder"]),
        decoder=upstream.wave_generator(**parts["decoder"]),
        quantizer=upstream.quantizer(**parts["quantizer"]),
        speaker_encoder=upstream.speaker_encoder(**parts["speaker_encoder"]),
        prenet=upstream.decoder(**parts["prenet"]),
        postnet=upstream.decoder(**parts["postnet"]),
    )
    tensors = {
        _published(name): tensor.contiguous()
        for name, tensor in model.state_dict().items()
        if not name.startswith("mel_transformer.")
    }
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"audio_tokenizer": {"mel_params": mel, **parts}})
    )


def _published(name: str) -> str:
    """The name that a weight-normalised tensor has in the published file."""
    return name.replace("parametrizations.weight.original0", "weight_g").replace(
        "parametrizations.weight.original1", "weight_v"
    )


def _features(folder: Path, sizes: Sizes) -> None:
    config = Wav2Vec2Config(
        hidden_size=sizes.feature_hidden,
        num_hidden_layers=sizes.feature_layers,
        num_attention_heads=sizes.feature_hidden // 16 if sizes.feature_hidden < 512 else 16,
        intermediate_size=sizes.feature_hidden * 4,
        conv_dim=(sizes.feature_conv,) * 7,
        feat_extract_norm="layer",
        conv_bias=True,
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=128 if sizes.feature_hidden > 512 else 16,
        num_conv_pos_embedding_groups=16 if sizes.feature_hidden > 512 else 4,
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
