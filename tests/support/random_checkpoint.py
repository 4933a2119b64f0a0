"""Random checkpoints in the published layout, without transformers: in seconds, where torch is.

`checkpoints.py` makes them by transformers' own classes, for the comparison with it.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from torch import Tensor

from worker.speech.codec.upstream import find_upstream
from worker.speech.codec.wav2vec2 import LAYERS
from worker.speech.codec.weight_norm import built_folded
from worker.speech.lm.config import LMConfig
from worker.speech.lm.torch_model import LanguageModel
from worker.wav2vec2.config import Wav2Vec2Config
from worker.wav2vec2.shapes import shapes_of

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

    @property
    def feature_heads(self) -> int:
        """Of wav2vec2's attention."""
        return self.feature_hidden // 16 if self.feature_hidden < 512 else 16

    @property
    def feature_surroundings(self) -> int:
        """Frames that its convolution of positions looks at."""
        return 128 if self.feature_hidden > 512 else 16

    @property
    def feature_groups(self) -> int:
        """Of channels in that convolution."""
        return 16 if self.feature_hidden > 512 else 4


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


def make_random_checkpoint(
    folder: Path, sizes: Sizes | None = None, device: str = "cpu", seed: int = 0
) -> Path:
    """Write a random checkpoint into `folder`, its weights drawn on `device`, and return it.

    The language model's weights are rounded to bfloat16: each precision has the same ones.
    """
    sizes = sizes or Sizes()
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(sizes)
    write_audio_config(folder)
    _language_model(folder / "LLM", tokenizer, sizes, device)
    write_codec(folder / "BiCodec", sizes, device, folded=True)
    _features(folder / "wav2vec2-large-xlsr-53", sizes, device)
    return folder


def write_audio_config(folder: Path) -> None:
    """config.yaml, as published."""
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


def _language_model(folder: Path, tokenizer: Tokenizer, sizes: Sizes, device: str) -> None:
    folder.mkdir(exist_ok=True)
    config = LMConfig(
        vocab_size=sizes.vocabulary or tokenizer.get_vocab_size(),
        hidden_size=sizes.hidden,
        intermediate_size=sizes.intermediate,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        max_position_embeddings=sizes.positions,
        rms_norm_eps=1e-6,
        rope_theta=1e6,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in LanguageModel(config).state_dict().items()}
    shapes.pop("lm_head.weight")  # the embedding's
    weights = {}
    for name, shape in shapes.items():
        weight = torch.zeros(shape, device=device)
        if "norm" in name:
            weight.fill_(1.0)
        elif not name.endswith("bias"):
            weight.normal_(0, sizes.spread)
        weights[f"model.{name}"] = weight.to("cpu", torch.bfloat16)
    save_file(weights, folder / "model.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2"} | asdict(config)))


def write_codec(folder: Path, sizes: Sizes, device: str = "cpu", *, folded: bool = False) -> None:
    """BiCodec's folder: weights as upstream's modules draw them, with weight norm or `folded`."""
    folder.mkdir(exist_ok=True)
    upstream = find_upstream()
    mel = {
        "sample_rate": 16000, "n_fft": 1024, "win_length": 640, "hop_length": 320,
        "mel_fmin": 10, "mel_fmax": None, "num_mels": 128,
    }  # fmt: skip
    parts = sizes.codec
    with torch.device(device), built_folded(upstream.package) if folded else nullcontext():
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
        _published(name): tensor.contiguous().cpu()
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


def _features(folder: Path, sizes: Sizes, device: str) -> None:
    folder.mkdir(exist_ok=True)
    config = {
        "hidden_size": sizes.feature_hidden,
        "intermediate_size": 4 * sizes.feature_hidden,
        "num_hidden_layers": sizes.feature_layers,
        "num_attention_heads": sizes.feature_heads,
        "hidden_act": "gelu",
        "do_stable_layer_norm": True,
        "feat_extract_norm": "layer",
        "feat_extract_activation": "gelu",
        "layer_norm_eps": 1e-5,
        "conv_dim": [sizes.feature_conv] * 7,
        "conv_bias": True,
        "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
        "conv_stride": [5, 2, 2, 2, 2, 2, 2],
        "num_conv_pos_embeddings": sizes.feature_surroundings,
        "num_conv_pos_embedding_groups": sizes.feature_groups,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))
    weights = {
        name: _drawn(name, shape, device)
        for name, shape in shapes_of(Wav2Vec2Config.read(folder), LAYERS, head=False).items()
    }
    save_file(weights, folder / "model.safetensors")


def _drawn(name: str, shape: tuple[int, ...], device: str) -> Tensor:
    """A weight of wav2vec2, its variance one by the number of its inputs; norms do nothing."""
    if len(shape) == 1:
        return torch.full(shape, float("norm.weight" in name))
    inputs = torch.Size(shape[1:]).numel()
    return torch.empty(shape, device=device).normal_(0, inputs**-0.5).cpu()
