"""Tokens <-> waveform, with upstream's BiCodec modules and wav2vec2 as they are.

Follows upstream's BiCodecTokenizer step by step, so the same audio gives the same tokens; only
the loading differs: tensors are taken as they are read, without a random initialisation before,
and weight norm is folded into the weights (which changes no weight's value).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

from worker.errors import SetupError, SynthesisError
from worker.observe import log
from worker.speech.checkpoint import Checkpoint, read_tensors
from worker.speech.prompt import CodecSizes
from worker.speech.upstream import Upstream

FEATURE_LAYERS = (11, 14, 16)  # hidden states of wav2vec2 whose mean is the semantic feature
SPEAKER_ENCODER = "speaker_encoder.speaker_encoder."


@dataclass(frozen=True)
class AudioParameters:
    """What config.yaml says of the audio."""

    sample_rate: int  # Hz
    hop: int  # samples of one semantic token
    reference_seconds: float  # of the clip that the global tokens are made from
    volume_normalize: bool


class Codec:
    """BiCodec with its feature extractor."""

    def __init__(
        self,
        upstream: Upstream,
        bicodec: Any,  # upstream's class, which is not typed
        processor: Wav2Vec2FeatureExtractor,
        features: Wav2Vec2Model,
        audio: AudioParameters,
        sizes: CodecSizes,
    ) -> None:
        self._upstream = upstream
        self._bicodec = bicodec
        self._processor = processor
        self._features = features
        self.audio = audio
        self.sizes = sizes

    @classmethod
    def load(cls, checkpoint: Checkpoint, upstream: Upstream, device: torch.device) -> Codec:
        """From the published layout, in float32. Raises SetupError for files that do not fit."""
        top = upstream.load_config(checkpoint.folder / "config.yaml")
        config = upstream.load_config(checkpoint.codec / "config.yaml")["audio_tokenizer"]
        bicodec = _build(upstream, config)
        tensors = read_tensors(checkpoint.codec / "model.safetensors", torch.float32, device)
        # A prepared file holds the folded weights themselves, so the modules are folded first.
        if not is_weight_normed(tensors):
            _fold_weight_norm(bicodec)
        _fill(bicodec, tensors)
        _fold_weight_norm(bicodec)
        try:
            processor = Wav2Vec2FeatureExtractor.from_pretrained(checkpoint.features)
            features = Wav2Vec2Model.from_pretrained(
                checkpoint.features, dtype=torch.float32, local_files_only=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise SetupError(f"wav2vec2 cannot be loaded: {error}") from error
        if features.config.num_hidden_layers < max(FEATURE_LAYERS):
            raise SetupError(f"wav2vec2 needs {max(FEATURE_LAYERS)} layers or more")
        return cls(
            upstream=upstream,
            bicodec=bicodec.to(device).eval().requires_grad_(requires_grad=False),
            processor=processor,
            features=features.to(device).eval().requires_grad_(requires_grad=False),
            audio=AudioParameters(
                sample_rate=int(top["sample_rate"]),
                hop=int(top["latent_hop_length"]),
                reference_seconds=float(top["ref_segment_duration"]),
                volume_normalize=bool(top["volume_normalize"]),
            ),
            sizes=CodecSizes(
                voice_length=int(config["speaker_encoder"]["token_num"]),
                global_codes=math.prod(config["speaker_encoder"]["fsq_levels"]),
                semantic_codes=int(config["quantizer"]["codebook_size"]),
            ),
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        where: torch.device = next(self._bicodec.parameters()).device
        return where

    @torch.inference_mode()
    def tokenize(self, path: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """A reference audio file -> its global tokens and its semantic tokens (50 a second).

        The file must have been checked to be audio (see worker.audio); it is read as upstream
        reads it: first channel, resampled, loudness evened out.
        """
        wav: NDArray[Any] = self._upstream.load_audio(
            path,
            sampling_rate=self.audio.sample_rate,
            volume_normalize=self.audio.volume_normalize,
        )
        inputs = self._processor(
            wav, sampling_rate=self.audio.sample_rate, return_tensors="pt", padding=True
        ).input_values  # [1, n]
        hidden = self._features(inputs.to(self.device), output_hidden_states=True).hidden_states
        feature = sum(hidden[layer] for layer in FEATURE_LAYERS) / len(FEATURE_LAYERS)  # [1, T, C]
        clip = torch.from_numpy(self._reference_clip(wav)).float()[None].to(self.device)
        semantic, voice = self._bicodec.tokenize({"feat": feature, "ref_wav": clip})
        return tuple(voice.flatten().tolist()), tuple(semantic.flatten().tolist())

    @torch.inference_mode()
    def decode(
        self, global_tokens: tuple[int, ...], semantic_tokens: tuple[int, ...]
    ) -> NDArray[np.float32]:
        """A voice and semantic tokens -> waveform, float32 [hop * tokens], at most 1 in size.

        Raises SynthesisError when a token is not one of the codec's, before anything runs.
        """
        sizes = self.sizes
        if len(global_tokens) != sizes.voice_length or not _within(
            global_tokens, sizes.global_codes
        ):
            raise SynthesisError(
                f"a voice has {sizes.voice_length} global tokens below {sizes.global_codes}, "
                f"not {len(global_tokens)}"
            )
        if not semantic_tokens or not _within(semantic_tokens, sizes.semantic_codes):
            raise SynthesisError(f"speech needs semantic tokens below {sizes.semantic_codes}")
        # oneDNN compiles a kernel for each length that it has not seen, which takes longer than
        # all the rest: on a CPU the plain kernels are faster until lengths repeat.
        with torch.backends.mkldnn.flags(enabled=False):
            wav: Tensor = self._bicodec.detokenize(
                torch.tensor([semantic_tokens], device=self.device),
                torch.tensor([[global_tokens]], device=self.device),
            )
        samples: NDArray[np.float32] = wav.flatten().float().cpu().numpy()
        return samples

    def _reference_clip(self, wav: NDArray[Any]) -> NDArray[Any]:
        """The first seconds of the reference, repeated when it is shorter (upstream's rule)."""
        hop = self.audio.hop
        length = int(self.audio.sample_rate * self.audio.reference_seconds) // hop * hop
        if length > len(wav):
            wav = np.tile(wav, length // len(wav) + 1)
        return wav[:length]


def is_weight_normed(tensors: dict[str, Tensor]) -> bool:
    """Whether weights are given as magnitude and direction, in either of torch's two forms."""
    return any(name.endswith((".weight_g", ".weight.original0")) for name in tensors)


def _within(tokens: tuple[int, ...], size: int) -> bool:
    return all(0 <= token < size for token in tokens)


def _build(upstream: Upstream, config: Any) -> nn.Module:
    """BiCodec's modules without weights: on the meta device, but for what no file holds.

    The mel transformer and the speaker encoder's quantizer compute buffers when they are built.
    """
    with torch.device("meta"):
        parts = {
            "encoder": upstream.encoder(**config["encoder"]),
            "quantizer": upstream.quantizer(**config["quantizer"]),
            "prenet": upstream.decoder(**config["prenet"]),
            "postnet": upstream.decoder(**config["postnet"]),
            "decoder": upstream.wave_generator(**config["decoder"]),
        }
    bicodec: nn.Module = upstream.bicodec(
        mel_params=config["mel_params"],
        speaker_encoder=upstream.speaker_encoder(**config["speaker_encoder"]),
        **parts,
    )
    return bicodec


def _fill(bicodec: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load the tensors. Raises SetupError naming those that are missing or too many.

    Published files hold neither the mel transformer's constants nor, in a checkpoint that was
    made with one voice only, the network that listens to the reference. That network is then all
    zeros: each reference gives the same voice, the same one at each start.
    """
    try:
        missing, unexpected = bicodec.load_state_dict(tensors, strict=False, assign=True)
    except RuntimeError as error:
        raise SetupError(f"BiCodec/model.safetensors does not fit its config: {error}") from error
    missing = [name for name in missing if not name.startswith("mel_transformer.")]
    deaf = [name for name in missing if name.startswith(SPEAKER_ENCODER)]
    if deaf and not any(name.startswith(SPEAKER_ENCODER) for name in tensors):
        log.warning("the checkpoint has no speaker encoder: every reference gives one voice")
        state = bicodec.state_dict()
        for name in deaf:
            state[name].zero_()
        missing = [name for name in missing if name not in set(deaf)]
    if missing or unexpected:
        raise SetupError(
            f"BiCodec/model.safetensors does not fit its config: "
            f"missing {sorted(missing)[:5]}, unexpected {sorted(unexpected)[:5]}"
        )


def _fold_weight_norm(module: nn.Module) -> None:
    """Replace each weight-normalised weight by its value, in either of torch's two forms."""
    for part in module.modules():
        if parametrize.is_parametrized(part, "weight"):
            parametrize.remove_parametrizations(part, "weight", leave_parametrized=True)
        elif hasattr(part, "weight_g"):
            nn.utils.remove_weight_norm(part)
