"""The codec around toy networks: all tokens are spoken, at any length and in any pieces."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.events import Events
from worker import cpu_info
from worker.errors import SetupError, SynthesisError
from worker.speech.checkpoint import Checkpoint
from worker.speech.codec import codec as codec_module
from worker.speech.codec import eager_stream
from worker.speech.codec.codec import AudioParameters, Codec, _fill
from worker.speech.codec.cpu_vocoder import CpuVocoder
from worker.speech.codec.eager_stream import FIRST_STEP, ON_CPU, ON_GPU, Growth, look_ahead_of
from worker.speech.codec.speech_stream import PRENET_LENGTH, WAVE_LENGTH
from worker.speech.codec.upstream import find_upstream
from worker.speech.voice import CodecSizes

CPU = torch.device("cpu")
HOP, CODES, VOICE_CODES = 2, 8, 4
VOICE = (0, 3, 1)
REACH = 2 + 4  # tokens, of the prenet and of the generator


class Prenet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(2, 2, 5, padding=2)
        self.lengths: list[int] = []

    def forward(self, vectors: Tensor, condition: Tensor) -> Tensor:
        self.lengths.append(vectors.shape[-1])
        made: Tensor = self.convolution(vectors) * condition.unsqueeze(-1)
        return made


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv1d(2, 2, 7, padding=3),
            nn.ConvTranspose1d(2, 1, 4, stride=HOP, padding=1),
            nn.Tanh(),
        )
        self.lengths: list[int] = []
        self.one_dnn: list[bool] = []
        self.fails: BaseException | None = None

    def forward(self, spoken: Tensor) -> Tensor:
        self.lengths.append(spoken.shape[-1])
        self.one_dnn.append(torch.backends.mkldnn.enabled)
        if self.fails:
            raise self.fails
        made: Tensor = self.model(spoken)
        return made


class Tokens(nn.Module):
    """Tokens [1, n] as vectors [1, 2, n]; a voice [1, 1, n] as one vector [1, 2]."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.vectors = nn.Embedding(count, 2)

    def detokenize(self, tokens: Tensor) -> Tensor:
        if tokens.dim() == 3:
            made: Tensor = self.vectors(tokens[:, 0]).mean(1)
            return made
        return self.vectors(tokens).transpose(1, 2)


class Toy(nn.Module):
    """What the codec knows of upstream's BiCodec."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.prenet = Prenet()
        self.decoder = Generator()
        self.quantizer = Tokens(CODES)
        self.speaker_encoder = Tokens(VOICE_CODES)
        self.asked: dict[str, Tensor] = {}
        self.requires_grad_(requires_grad=False)

    def tokenize(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        self.asked = batch
        return torch.tensor([[4, 5, 6]]), torch.tensor([[[1, 2]]])


class Upstream:
    """A loader of audio that gives so many samples."""

    def __init__(self, samples: int = 1) -> None:
        self.samples = samples
        self.asked: dict[str, Any] = {}

    def load_audio(self, path: Path, **more: Any) -> np.ndarray:
        self.asked = {"path": path} | more
        return np.arange(1, self.samples + 1, dtype=np.float64)


def make(
    toy: Toy | None = None,
    dtype: torch.dtype = torch.float32,
    upstream: Upstream | None = None,
    look_ahead: int = REACH,
) -> Codec:
    """With a look-ahead as long as the reach, which loses nothing."""
    return Codec(
        upstream or Upstream(),
        toy or Toy(),
        lambda wav: wav[None, :, None],
        AudioParameters(sample_rate=10, hop=HOP, reference_seconds=1.3, volume_normalize=True),
        CodecSizes(voice_length=3, global_codes=VOICE_CODES, semantic_codes=CODES),
        dtype,
        look_ahead,
    )


def tokens(length: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng(length).integers(0, CODES, length).tolist())


def whole(codes: tuple[int, ...]) -> np.ndarray:
    """All tokens at once."""
    toy = Toy()
    condition = toy.speaker_encoder.detokenize(torch.tensor([[VOICE]]))
    spoken = toy.prenet(toy.quantizer.detokenize(torch.tensor([codes])), condition)
    return toy.decoder(spoken + condition.unsqueeze(-1)).flatten().numpy()


def close(samples: np.ndarray, codes: tuple[int, ...]) -> bool:
    return samples.shape == (len(codes) * HOP,) and np.allclose(samples, whole(codes), atol=1e-6)


# All tokens at once

AROUND = [
    length + more
    for length in (1, WAVE_LENGTH, PRENET_LENGTH, 2 * PRENET_LENGTH)
    for more in (-1, 0, 1)
    if length + more
]


@pytest.mark.parametrize("length", AROUND)
def test_a_sentence_is_whole_at_any_length(length: int) -> None:
    toy = Toy()
    samples = make(toy).decode(VOICE, tokens(length))
    assert samples.dtype == np.float32
    assert close(samples, tokens(length))
    assert max(toy.prenet.lengths) <= PRENET_LENGTH
    assert max(toy.decoder.lengths) <= WAVE_LENGTH


def test_without_tokens_there_is_no_speech() -> None:
    with pytest.raises(SynthesisError, match=f"semantic tokens below {CODES}"):
        make().decode(VOICE, ())


@pytest.mark.parametrize("stray", [-1, CODES])
def test_a_token_that_is_none_of_the_codecs_is_refused_before_anything_runs(stray: int) -> None:
    toy = Toy()
    codec = make(toy)
    with pytest.raises(SynthesisError, match=f"semantic tokens below {CODES}"):
        codec.decode(VOICE, (*tokens(2 * PRENET_LENGTH), stray))
    stream = codec.stream(VOICE)
    with pytest.raises(SynthesisError, match=f"semantic tokens below {CODES}"):
        stream.feed([*tokens(100), stray])
    assert toy.prenet.lengths == []
    assert close(np.concatenate([stream.feed(tokens(50)), stream.feed((), last=True)]), tokens(50))


def test_the_first_and_the_last_code_are_the_codecs() -> None:
    assert make().decode((0, VOICE_CODES - 1, 0), (0, CODES - 1)).shape == (2 * HOP,)


@pytest.mark.parametrize("voice", [(0, 1), (0, 1, 2, 3), (0, 1, VOICE_CODES), (-1, 0, 1), ()])
def test_a_voice_of_another_codec_is_refused(voice: tuple[int, ...]) -> None:
    with pytest.raises(SynthesisError, match=f"3 global tokens below 4, not {len(voice)}"):
        make().stream(voice)
    with pytest.raises(SynthesisError, match="3 global tokens"):
        make().decode(voice, (1, 2))


# A stream


@pytest.mark.parametrize("piece", [1, 13, 300, 5000])
@pytest.mark.parametrize("length", [1, 20, 512, 513, 1100])
def test_a_stream_is_whole_in_any_pieces(length: int, piece: int) -> None:
    codes, stream = tokens(length), make().stream(VOICE)
    parts = [stream.feed(codes[i : i + piece]) for i in range(0, length, piece)]
    assert close(np.concatenate([*parts, stream.feed((), last=True)]), codes)


@pytest.mark.parametrize("eager", [True, False])
def test_samples_come_with_as_many_tokens_as_are_wanted_and_no_earlier(eager: bool) -> None:
    stream, given = make().stream(VOICE, eager=eager), 0
    for code in tokens(300):
        wanted = stream.wanted
        came = len(stream.feed([code])) > 0
        assert came == (wanted == 1)
        given += came
    assert (given > 3) is eager


@pytest.mark.parametrize("look_ahead", [0, 2, REACH])
def test_pieces_come_after_the_look_ahead_and_grow_by_half_of_what_was_given(
    look_ahead: int,
) -> None:
    codec, codes = make(look_ahead=look_ahead), tokens(2000)
    stream, given, fed_before = codec.stream(VOICE), [], []
    for count, code in enumerate(codes, 1):
        made = len(stream.feed([code])) // HOP
        if made:
            given.append(made)
            fed_before.append(count)
    assert fed_before[0] == look_ahead + FIRST_STEP
    assert given[:8] == [12, 12, 12, 18, 27, 40, 60, 64]
    assert set(given[7:]) == {64}
    behind = [count - sum(given[: n + 1]) for n, count in enumerate(fed_before)]
    assert set(behind) == {look_ahead}


def test_pieces_on_a_gpu_are_few_and_on_a_cpu_never_longer_than_what_was_given() -> None:
    assert pieces(ON_GPU, 600) == [12, 18, 45, 112, 256, 157]
    assert pieces(ON_CPU, 250) == [12, 12, 12, 18, 27, 40, 60, 64, 5]


def pieces(growth: Growth, length: int) -> list[int]:
    """The tokens of each piece of a sentence of so many."""
    found: list[int] = []
    while left := length - sum(found):
        found.append(min(left, growth.tokens(sum(found))))
    return found


def test_a_look_ahead_is_no_longer_than_the_reach_and_by_default_a_share_of_it() -> None:
    assert [look_ahead_of(REACH, asked) for asked in (0, 3, REACH, 99)] == [0, 3, REACH, REACH]
    assert look_ahead_of(29, None) == 14  # the embedded model's, as it was measured
    assert look_ahead_of(68, None) == 33  # the published one's: never less than that share
    assert make(look_ahead=99).look_ahead == make().reach == REACH


def test_a_piece_ends_as_if_the_sentence_did_and_passes_softly_into_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is given is made of what was drawn: the last of it fades into what is known better."""
    monkeypatch.setattr(eager_stream, "FADE", 1.5)  # tokens, so three samples
    codes, ahead = tokens(70), 2
    stream = make(look_ahead=ahead).stream(VOICE)
    first = stream.feed(codes[: FIRST_STEP + ahead])
    early = whole(codes[: FIRST_STEP + ahead])
    seam = FIRST_STEP * HOP
    assert np.allclose(first, early[:seam], atol=1e-6)
    assert not np.allclose(first, whole(codes)[:seam], atol=1e-6)  # what was not waited for
    second = stream.feed(codes[FIRST_STEP + ahead : 2 * FIRST_STEP + ahead])
    known = whole(codes[: 2 * FIRST_STEP + ahead])
    share = 0.5 - 0.5 * np.cos(np.pi * np.array([1 / 6, 1 / 2, 5 / 6]))
    mixed = share * known[seam : seam + 3] + (1 - share) * early[seam : seam + 3]
    assert np.allclose(second[:3], mixed, atol=1e-6)
    assert np.allclose(second[3:], known[seam + 3 : 2 * seam], atol=1e-6)
    rest = stream.feed(codes[2 * FIRST_STEP + ahead :], last=True)
    assert len(first) + len(second) + len(rest) == len(codes) * HOP
    assert np.allclose(rest[-4:], whole(codes)[-4:], atol=1e-6)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 10, 11, 24, 26, 27, 58, 123, 400])
@pytest.mark.parametrize("look_ahead", [0, 2])
def test_an_eager_sentence_of_any_length_has_all_its_samples(length: int, look_ahead: int) -> None:
    """Though it ends where a piece did: its end may be told with the last token or after it."""
    codes = tokens(length)
    at_once, later = (make(look_ahead=look_ahead).stream(VOICE) for _ in range(2))
    samples = at_once.feed(codes, last=True)
    assert samples.shape == (length * HOP,)
    parts = [later.feed([code]) for code in codes]
    assert np.array_equal(np.concatenate([*parts, later.feed((), last=True)]), samples)


@pytest.mark.parametrize("share", [[1] * 400, [400], [75, 1, 200, 124], [0, 390, 10]])
@pytest.mark.parametrize("look_ahead", [2, REACH])
def test_the_pieces_do_not_depend_on_when_tokens_come(share: list[int], look_ahead: int) -> None:
    """Many come at once where the reader is slow: what it hears is the same to the bit."""
    toy, codes, heard = Toy(), iter(tokens(400)), []
    stream = make(toy, look_ahead=look_ahead).stream(VOICE)
    heard += [stream.feed(list(islice(codes, count))) for count in share]
    heard.append(stream.feed((), last=True))
    plain = Toy()
    steadily = make(plain, look_ahead=look_ahead).stream(VOICE)
    expected = [steadily.feed([code]) for code in tokens(400)]
    assert np.array_equal(
        np.concatenate(heard), np.concatenate([*expected, steadily.feed((), last=True)])
    )
    assert toy.decoder.lengths == plain.decoder.lengths


def test_a_stream_to_which_nothing_was_fed_ends_in_nothing() -> None:
    stream = make().stream(VOICE)
    assert stream.feed((), last=True).shape == stream.feed([]).shape == (0,)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no"), KeyboardInterrupt()])
def test_a_call_that_fails_has_done_nothing(error: BaseException) -> None:
    toy, codes = Toy(), tokens(400)
    stream = make(toy).stream(VOICE)
    parts = []
    for start, end in ((0, 60), (60, 150), (150, 400)):
        toy.decoder.fails = error
        with pytest.raises(type(error)):
            stream.feed(codes[start:end])
        toy.decoder.fails = None
        parts.append(stream.feed(codes[start:end]))
    toy.decoder.fails = error
    with pytest.raises(type(error)):
        stream.feed((), last=True)
    toy.decoder.fails = None
    assert close(np.concatenate([*parts, stream.feed((), last=True)]), codes)


def test_sentences_side_by_side_are_each_their_own() -> None:
    codec, one, other = make(), tokens(90), tokens(120)
    first, second = codec.stream(VOICE), codec.stream(VOICE)
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for start in range(0, 120, 30):
        parts[0].append(first.feed(one[start : start + 30]))
        parts[1].append(second.feed(other[start : start + 30]))
    assert close(np.concatenate([*parts[0], first.feed((), last=True)]), one)
    assert close(np.concatenate([*parts[1], second.feed((), last=True)]), other)


# Which kernels


def test_one_dnn_is_off_while_float32_is_decoded_and_on_again_afterwards() -> None:
    toy, before = Toy(), torch.backends.mkldnn.enabled
    make(toy).decode(VOICE, tokens(9))
    assert toy.decoder.one_dnn == [False]
    assert torch.backends.mkldnn.enabled is before


def test_bfloat16_on_a_cpu_without_the_kernel_has_windows_of_one_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CpuVocoder, "open", lambda _generator: None)
    toy, codes = Toy(), tokens(700)
    codec = make(toy, torch.bfloat16)
    assert toy.decoder.model[0].weight.dtype == torch.bfloat16
    samples = codec.decode(VOICE, codes)
    assert set(toy.decoder.lengths) == {WAVE_LENGTH}
    assert set(toy.decoder.one_dnn) == {torch.backends.mkldnn.enabled}
    assert samples.dtype == np.float32
    assert np.abs(samples - whole(codes)).max() < 0.05


def test_bfloat16_on_a_cpu_is_the_kernels_where_it_can_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toy, codes, opened = Toy(), tokens(700), Toy().decoder
    asked: list[Any] = []

    def found(generator: Any) -> Any:
        asked.append(generator)
        return opened

    monkeypatch.setattr(CpuVocoder, "open", found)
    generator = toy.decoder
    assert close(make(toy, torch.bfloat16).decode(VOICE, codes), codes)
    assert asked == [generator]
    assert generator.lengths == []
    assert isinstance(toy.decoder, nn.Identity)  # its weights are let go


def test_float32_asks_for_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CpuVocoder, "open", lambda _generator: pytest.fail("asked"))
    assert make().dtype == torch.float32


@pytest.mark.parametrize("there", [False, True])
def test_a_cpu_without_bfloat16_takes_float32(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr(cpu_info, "flags", lambda: {"amx_bf16"} if there else set())
    monkeypatch.setattr(CpuVocoder, "open", lambda _generator: None)
    codec = Codec.load(Checkpoint(tiny_checkpoint), find_upstream(), CPU, torch.bfloat16)
    assert codec.dtype == (torch.bfloat16 if there else torch.float32)
    assert codec._bicodec.decoder.model[0].weight.dtype == codec.dtype
    assert next(codec._bicodec.prenet.parameters()).dtype == torch.float32
    audio = AudioParameters(sample_rate=16000, hop=320, reference_seconds=6, volume_normalize=True)
    assert codec.audio == audio
    assert codec.sizes == CodecSizes(voice_length=5, global_codes=16, semantic_codes=96)


# A reference


@pytest.mark.parametrize(
    ("samples", "clip"),
    [
        (20, range(1, 13)),  # 1.3 s are 13 samples: 12 in whole hops
        (12, range(1, 13)),
        (11, [*range(1, 12), 1]),
        (6, [*range(1, 7), *range(1, 7)]),
        (5, [*range(1, 6), *range(1, 6), 1, 2]),
    ],
)
def test_a_voice_is_made_from_the_first_seconds_or_from_a_repeated_clip(
    samples: int, clip: Any
) -> None:
    toy, upstream = Toy(), Upstream(samples)
    voice, semantic = make(toy, upstream=upstream).tokenize(Path("a.wav"))
    assert (voice, semantic) == ((1, 2), (4, 5, 6))
    assert toy.asked["ref_wav"].tolist() == [list(clip)]
    assert toy.asked["feat"].flatten().tolist() == list(range(1, samples + 1))
    assert upstream.asked == {"path": Path("a.wav"), "sampling_rate": 10, "volume_normalize": True}


# Tensors


class Parts(nn.Module):
    """Two layers that listen to the reference, and one that does not."""

    def __init__(self) -> None:
        super().__init__()
        inner = nn.Module()
        inner.first, inner.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.speaker_encoder = nn.Module()
        self.speaker_encoder.speaker_encoder = inner
        self.decoder = nn.Linear(2, 2)
        self.mel_transformer = nn.Linear(1, 1)


def all_tensors() -> dict[str, Tensor]:
    state = Parts().state_dict()
    return {n: torch.ones_like(t) for n, t in state.items() if not n.startswith("mel_")}


def test_the_mel_transformers_constants_need_not_be_in_the_file(events: Events) -> None:
    parts = Parts()
    constant = parts.mel_transformer.weight.clone()
    _fill(parts, all_tensors())
    assert torch.equal(parts.mel_transformer.weight, constant)
    assert events() == []
    assert (parts.decoder.weight == 1).all()


def test_a_checkpoint_without_a_speaker_encoder_gets_zeros_there(events: Events) -> None:
    parts = Parts()
    _fill(parts, {n: t for n, t in all_tensors().items() if not n.startswith("speaker_")})
    assert not any(tensor.any() for tensor in parts.speaker_encoder.state_dict().values())
    assert (parts.decoder.weight == 1).all()
    assert events() == [("every reference gives the same voice", {})]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("speaker_encoder.speaker_encoder.first.weight", "missing .*first.weight.*unexpected"),
        ("decoder.bias", "missing .*decoder.bias.*unexpected"),
    ],
)
def test_a_tensor_that_is_missing_is_named(change: str, words: str) -> None:
    tensors = all_tensors()
    del tensors[change]
    with pytest.raises(SetupError, match=words):
        _fill(Parts(), tensors)


def test_a_speaker_encoder_that_is_missing_excuses_no_other_tensor() -> None:
    tensors = {n: t for n, t in all_tensors().items() if not n.startswith("speaker_")}
    del tensors["decoder.bias"]
    with pytest.raises(SetupError, match=r"missing \['decoder.bias'\]"):
        _fill(Parts(), tensors)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"decoder.more": torch.ones(1)}, r"unexpected \['decoder.more'\]"),
        ({"decoder.bias": torch.ones(3)}, "decoder.bias"),
    ],
)
def test_a_tensor_too_many_or_of_another_shape_is_named(
    change: dict[str, Tensor], words: str
) -> None:
    with pytest.raises(SetupError, match=f"(?s)does not fit its config.*{words}"):
        _fill(Parts(), all_tensors() | change)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_computes_float32_in_float32(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    """And where a job asks for float32, with algorithms that give the same bits each time."""
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "allow_tf32", True)
    monkeypatch.setattr(cudnn, "deterministic", False)
    codec_module._compute_exactly(dtype)
    assert cudnn.allow_tf32 is False
    assert cudnn.deterministic is (dtype == torch.float32)
