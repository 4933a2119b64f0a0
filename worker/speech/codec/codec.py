"""BiCodec: reference audio to tokens, and tokens to waveforms, with upstream's modules.

Follows upstream's BiCodecTokenizer step by step, so the same audio gives the same tokens. What
differs: tensors are taken as they are read, without a random initialisation before; weight norm is
folded into the weights (which changes no weight's value); and waveforms are made in chunks, so
that memory is bounded and speech can be heard before its sentence has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from worker.errors import SetupError, SynthesisError
from worker.logs import event
from worker.model_files.tensors import map_tensors
from worker.model_files.weight_norm import fold
from worker.speech.checkpoint import WEIGHTS, Checkpoint
from worker.speech.codec.chunked_network import ChunkedNetwork, context_of, cut
from worker.speech.codec.codec_batch import BatchedSentence, CodecBatch, open_batch
from worker.speech.codec.cpu_vocoder import CpuVocoder
from worker.speech.codec.eager_stream import ON_CPU, ON_GPU, EagerStream, look_ahead_of
from worker.speech.codec.speech_stream import (
    PRENET_LENGTH,
    WAVE_LENGTH,
    SpeechStream,
    Stages,
    WholeStream,
)
from worker.speech.codec.upstream import Upstream
from worker.speech.codec.wav2vec2 import Wav2Vec2Features
from worker.speech.codec.weight_norm import built_folded
from worker.speech.device import has_fast_bfloat16
from worker.speech.tensors import Uninitialised
from worker.speech.voice import CodecSizes

SPEAKER_ENCODER = "speaker_encoder.speaker_encoder."
WAVE_GENERATOR = "decoder."
POSTNET = "postnet."  # which upstream runs in training alone


@dataclass(frozen=True)
class AudioParameters:
    """The codec's audio, as config.yaml describes it."""

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
        features: Wav2Vec2Features,
        audio: AudioParameters,
        sizes: CodecSizes,
        dtype: torch.dtype,
        look_ahead: int | None = None,
    ) -> None:
        self._upstream = upstream
        self._bicodec = bicodec
        self._features = features
        self.audio = audio
        self.sizes = sizes
        self.dtype = dtype
        self._contexts = context_of(bicodec.prenet), context_of(bicodec.decoder)
        self.look_ahead = look_ahead_of(self.reach, look_ahead)  # of eager streams, in tokens
        self._cpu_vocoder: CpuVocoder | None = None
        if dtype == torch.bfloat16 and self.device.type == "cpu":
            self._cpu_vocoder = CpuVocoder.open(bicodec.decoder)
        if self._cpu_vocoder is not None:
            bicodec.decoder = nn.Identity()  # its weights are packed: these are let go
        else:
            bicodec.decoder.to(dtype)
        self._batch: CodecBatch | None = None
        if self.device.type == "cuda":
            self._batch = open_batch(bicodec, dtype, sizes.voice_length, self._contexts[1])

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint,
        upstream: Upstream,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        look_ahead: int | None = None,
        published: Checkpoint | None = None,
    ) -> Codec:
        """Load a checkpoint in the published layout. Raises SetupError for files that do not fit.

        `dtype` is that of the wave generator; all else is in float32. A CPU that does not multiply
        bfloat16 faster takes float32 instead. `look_ahead` is that of eager streams, in tokens; by
        default a share of the reach. `published` is what a prepared checkpoint was made from: its
        wave generator is rounded, so for one in float32 the published one is read.
        """
        if device.type == "cpu" and not has_fast_bfloat16(device):
            dtype = torch.float32
        if device.type == "cuda":
            _compute_exactly(dtype)
        exact = published if published is not None and dtype == torch.float32 else checkpoint
        top = upstream.load_config(checkpoint.folder / "config.yaml")
        config = upstream.load_config(checkpoint.codec / "config.yaml")["audio_tokenizer"]
        bicodec = _build(upstream, config)
        _fill(bicodec, fold(_read(exact.codec / WEIGHTS, device, dtype)))
        bicodec = bicodec.to(device).eval().requires_grad_(requires_grad=False)
        return cls(
            upstream=upstream,
            bicodec=bicodec,
            features=Wav2Vec2Features.load(checkpoint.features, device),
            dtype=dtype,
            look_ahead=look_ahead,
            audio=AudioParameters(
                sample_rate=int(top["sample_rate"]),
                hop=int(top["latent_hop_length"]),
                reference_seconds=float(top["ref_segment_duration"]),
                volume_normalize=bool(top["volume_normalize"]),
            ),
            sizes=CodecSizes.of(config),
        )

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        where: torch.device = next(self._bicodec.parameters()).device
        return where

    def prepare(self) -> None:
        """Capture on a GPU what speech is made by; elsewhere there is nothing to prepare."""
        if self._batch is not None:
            self._batch.prepare()

    def tokenize(self, path: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Turn a reference audio file into global tokens and semantic tokens (50 a second).

        The file must have been checked to be audio (see worker.audio); it is read as upstream
        reads it: first channel, resampled, loudness evened out.
        """
        return self.tokens_of(
            self._upstream.load_audio(
                path,
                sampling_rate=self.audio.sample_rate,
                volume_normalize=self.audio.volume_normalize,
            )
        )

    @torch.inference_mode()
    def tokens_of(self, wav: NDArray[Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Turn samples [n] at the codec's rate into global tokens and semantic tokens."""
        feature = self._features(torch.from_numpy(wav).float().to(self.device))  # [1, T, C]
        clip = torch.from_numpy(self._reference_clip(wav)).float()[None].to(self.device)
        semantic, voice = self._bicodec.tokenize({"feat": feature, "ref_wav": clip})
        return tuple(voice.flatten().tolist()), tuple(semantic.flatten().tolist())

    def decode(
        self,
        global_tokens: tuple[int, ...],
        semantic_tokens: Sequence[int],
        *,
        eager: bool = False,
    ) -> NDArray[np.float32]:
        """Turn a voice and all semantic tokens into samples, float32 [hop * tokens] in -1..1.

        Raises SynthesisError when a token is not one of the codec's, before anything runs.
        """
        if not semantic_tokens:
            raise SynthesisError(f"speech needs semantic tokens below {self.sizes.semantic_codes}")
        return self.stream(global_tokens, eager=eager).feed(semantic_tokens, last=True)

    @property
    def reach(self) -> int:
        """How many semantic tokens after its own, and before it, a sample depends on."""
        return sum(self._contexts)

    def stream(self, global_tokens: tuple[int, ...], *, eager: bool = True) -> SpeechStream:
        """Begin a sentence in this voice, whose semantic tokens are yet to come.

        An `eager` one gives samples as early as can be, at the price of more work.

        Raises SynthesisError when a token is not one of the codec's.
        """
        sizes = self.sizes
        known = all(0 <= token < sizes.global_codes for token in global_tokens)
        if len(global_tokens) != sizes.voice_length or not known:
            raise SynthesisError(
                f"a voice has {sizes.voice_length} global tokens below {sizes.global_codes}, "
                f"not {len(global_tokens)}"
            )
        if eager:
            return EagerStream(
                partial(self._open_stage, global_tokens),
                sizes.semantic_codes,
                self.look_ahead,
                self.audio.hop,
                ON_CPU if self._batch is None else ON_GPU,
            )
        return WholeStream(
            self._embed, partial(self._open_stages, global_tokens), sizes.semantic_codes
        )

    def _open_stages(self, global_tokens: tuple[int, ...]) -> Stages:
        """Make the networks of a sentence that is wanted whole: the prenet, the wave generator.

        On a GPU they are one, which runs over chunks of many sentences.
        """
        if self._batch is not None:
            return (self._batched(self._batch, global_tokens, eager=False),)
        return self._prenet(self._condition(global_tokens)), self._wave_generator()

    def _open_stage(self, global_tokens: tuple[int, ...]) -> ChunkedNetwork:
        """Make the networks of a sentence that somebody listens to: tokens [1, 1, n] to samples."""
        if self._batch is not None:
            return self._batched(self._batch, global_tokens, eager=True)
        condition = self._condition(global_tokens)
        context, hop = self._contexts[1], self.audio.hop

        def network(codes: Tensor, kept: slice) -> Tensor:
            features = self._features_of(self._embed(codes[0, 0].tolist()), condition)
            begin = max(0, kept.start - context)
            made = self._generate(features[..., begin : kept.stop + context])
            return made[..., hop * (kept.start - begin) : hop * (kept.stop - begin)]

        return ChunkedNetwork(network, hop, self.reach, PRENET_LENGTH)

    def _batched(
        self, batch: CodecBatch, global_tokens: tuple[int, ...], *, eager: bool
    ) -> ChunkedNetwork:
        network = BatchedSentence(batch, global_tokens, self.audio.sample_rate, eager=eager)
        return ChunkedNetwork(network, self.audio.hop, self.reach, PRENET_LENGTH)

    @torch.inference_mode()
    def _condition(self, global_tokens: tuple[int, ...]) -> Tensor:
        """The voice as the prenet reads it, [1, C]."""
        tokens = torch.tensor([[global_tokens]], device=self.device)
        condition: Tensor = self._bicodec.speaker_encoder.detokenize(tokens)
        return condition

    def _embed(self, semantic_tokens: Sequence[int]) -> Tensor:
        """Look up the vectors of tokens [n]: float32 [1, C, n]; a GPU's networks look for them."""
        tokens = torch.tensor([list(semantic_tokens)], dtype=torch.long)
        if self._batch is not None:
            return tokens[None]
        vectors: Tensor = self._bicodec.quantizer.detokenize(tokens.to(self.device))
        return vectors

    def _features_of(self, vectors: Tensor, condition: Tensor) -> Tensor:
        """Turn tokens' vectors [1, C, n] into features [1, D, n], in the voice's condition."""
        features: Tensor = self._bicodec.prenet(vectors, condition)
        return features + condition.unsqueeze(-1)

    def _generate(self, features: Tensor) -> Tensor:
        """Turn features [1, D, n] into samples [1, 1, hop * n]."""
        if self._cpu_vocoder is not None:
            return self._cpu_vocoder(features)
        with _without_onednn() if self.dtype == torch.float32 else nullcontext():
            wav: Tensor = self._bicodec.decoder(features.to(self.dtype))
        return wav.float()

    def _prenet(self, condition: Tensor) -> ChunkedNetwork:
        """The prenet, in chunks."""
        network = partial(self._features_of, condition=condition)
        return ChunkedNetwork(cut(network, 1), 1, self._contexts[0], PRENET_LENGTH)

    def _wave_generator(self) -> ChunkedNetwork:
        """The wave generator, in chunks."""
        hop = self.audio.hop
        compiled = self._cpu_vocoder is None and self.dtype != torch.float32
        return ChunkedNetwork(
            cut(self._generate, hop), hop, self._contexts[1], WAVE_LENGTH, fixed=compiled
        )

    def _reference_clip(self, wav: NDArray[Any]) -> NDArray[Any]:
        """Cut the reference to its first seconds; a shorter one is repeated (upstream's rule)."""
        hop = self.audio.hop
        length = int(self.audio.sample_rate * self.audio.reference_seconds) // hop * hop
        if length > len(wav):
            wav = np.tile(wav, length // len(wav) + 1)
        return wav[:length]


def _compute_exactly(dtype: torch.dtype) -> None:
    """Let cuDNN compute float32 in float32, and where all is float32, the same each time.

    It would take TF32, so that a reference might have other tokens than on a CPU; and algorithms
    that add in whatever order threads come, so that on an H100 a sentence's samples differed from
    one time to the next in their last bits.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = dtype == torch.float32


def _without_onednn() -> AbstractContextManager[object]:
    """Compute without oneDNN, which compiles a kernel for each length that it has not seen.

    That takes longer than all the rest: torch's plain kernels are faster until lengths repeat.
    """
    return torch.backends.mkldnn.flags(enabled=False)


def _build(upstream: Upstream, config: Any) -> nn.Module:
    """Build BiCodec's modules without weights.

    The mel transformer and the speaker encoder's quantizer compute buffers when they are built.
    """
    with Uninitialised(), built_folded(upstream.package):
        bicodec: nn.Module = upstream.bicodec(
            mel_params=config["mel_params"],
            encoder=upstream.encoder(**config["encoder"]),
            quantizer=upstream.quantizer(**config["quantizer"]),
            speaker_encoder=upstream.speaker_encoder(**config["speaker_encoder"]),
            prenet=upstream.decoder(**config["prenet"]),
            postnet=nn.Identity(),
            decoder=upstream.wave_generator(**config["decoder"]),
        )
    return bicodec


def _read(path: Path, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors that are used: of the wave generator as they lie where that is `dtype`.

    All others are made float32. Raises SetupError where the file cannot be read.
    """
    tensors = {}
    for name, tensor in map_tensors(path).items():
        as_it_lies = name.startswith(WAVE_GENERATOR) and tensor.dtype == dtype
        if not name.startswith(POSTNET):
            kind = torch.float32 if tensor.is_floating_point() and not as_it_lies else None
            tensors[name] = tensor.to(device=device, dtype=kind)
    return tensors


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
    unheard = [name for name in missing if name.startswith(SPEAKER_ENCODER)]
    if unheard and not any(name.startswith(SPEAKER_ENCODER) for name in tensors):
        event(logging.WARNING, "every reference gives the same voice")
        state = bicodec.state_dict()
        for name in unheard:
            state[name].zero_()
        missing = [name for name in missing if name not in set(unheard)]
    if missing or unexpected:
        raise SetupError(
            f"BiCodec/model.safetensors does not fit its config: "
            f"missing {sorted(missing)[:5]}, unexpected {sorted(unexpected)[:5]}"
        )
