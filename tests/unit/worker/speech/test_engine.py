"""The engine on a tiny random model: grammar, seeds, voices, limits."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
import torch

from tests.support.checkpoints import make_checkpoint
from tests.support.random_checkpoint import Sizes
from tests.support.scheduling import answer, occupancy
from worker.cancellation import Cancellation
from worker.errors import JobCancelledError, NotAvailableError, SetupError, SynthesisError
from worker.speech.batch.sampling import Sampling
from worker.speech.batch.sequence import SequenceRequest
from worker.speech.engine import Engine
from worker.speech.grammar import Grammar
from worker.speech.lm.torch_model import LanguageModel
from worker.speech.voice import Style, Voice

VOICE = Voice(global_tokens=(3, 0, 15, 7, 7))
SHORT = Sampling(max_tokens=64, seed=5)
SENTENCES = ["The first one.", "And then a second, longer one.", "三。"]


def codes(engine: Engine, sentences: list[str], sampling: Sampling) -> list[tuple[int, ...]]:
    return [u.semantic_tokens for u in engine.speak(sentences, VOICE, sampling)]


def test_speech_has_the_length_of_its_tokens(tiny_engine: Engine) -> None:
    spoken = list(tiny_engine.speak(SENTENCES, VOICE, SHORT))
    assert len(spoken) == len(SENTENCES)
    for utterance in spoken:
        assert utterance.samples.dtype == np.float32
        assert len(utterance.samples) == 320 * len(utterance.semantic_tokens) > 0
        assert all(0 <= code < 96 for code in utterance.semantic_tokens)
        assert np.isfinite(utterance.samples).all()


def test_sentences_come_in_order_and_all(tiny_engine: Engine) -> None:
    many = [f"Sentence {i}." for i in range(2 * 16 + 3)]  # more than fit in one batch
    sampling = replace(SHORT, max_tokens=3)
    assert [u.text for u in tiny_engine.speak(many, VOICE, sampling)] == many


def test_a_stream_is_the_same_speech_in_pieces(tiny_engine: Engine) -> None:
    sampling = replace(SHORT, max_tokens=300, min_tokens=250)
    whole = list(tiny_engine.speak(SENTENCES, VOICE, sampling))
    pieces = list(tiny_engine.stream(SENTENCES, VOICE, sampling))
    ends = [piece.utterance for piece in pieces if piece.utterance is not None]
    assert [end.semantic_tokens for end in ends] == [one.semantic_tokens for one in whole]
    for index, one in enumerate(whole):
        mine = [piece for piece in pieces if piece.sentence == index]
        assert len(mine) > (2 if index == 0 else 0)  # the others are ready when their turn comes
        assert [piece.utterance is not None for piece in mine] == [False] * (len(mine) - 1) + [True]
        joined = np.concatenate([piece.samples for piece in mine])
        assert np.array_equal(joined, ends[index].samples)
        np.testing.assert_allclose(joined, one.samples, rtol=0, atol=1e-4)


def test_jobs_of_many_threads_are_spoken_as_each_alone(tiny_engine: Engine) -> None:
    voices = [replace(VOICE, global_tokens=(n, 0, 15, 7, 7)) for n in range(8)]

    def job(voice: Voice) -> list[tuple[int, ...]]:
        return [u.semantic_tokens for u in tiny_engine.speak(SENTENCES, voice, SHORT)]

    alone = [job(voice) for voice in voices]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(job, voices)) == alone


def test_a_job_that_is_given_up_frees_its_rows(tiny_engine: Engine) -> None:
    many = [f"Sentence {i}." for i in range(40)]
    cancellation = Cancellation()
    Timer(0.2, cancellation.cancel).start()
    with pytest.raises(JobCancelledError):
        list(
            tiny_engine.speak(
                many, VOICE, replace(SHORT, max_tokens=1500, min_tokens=1500),
                cancellation=cancellation,
            )
        )  # fmt: skip
    one = tiny_engine.speak(SENTENCES, VOICE, replace(SHORT, max_tokens=20))
    next(one)
    one.close()
    deadline = time.monotonic() + 10
    while occupancy(tiny_engine._scheduler) != (0, 0):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_every_model_can_be_tried_out(tiny_engine: Engine, demo_engine: Engine) -> None:
    for engine in (tiny_engine, demo_engine):
        spoken = engine.try_out()
        assert len(spoken.samples) == 320 * len(spoken.semantic_tokens) > 0


def test_a_seed_repeats_and_another_does_not(tiny_engine: Engine) -> None:
    first = codes(tiny_engine, SENTENCES, SHORT)
    assert codes(tiny_engine, SENTENCES, SHORT) == first
    assert codes(tiny_engine, SENTENCES, replace(SHORT, seed=6)) != first


def test_the_same_text_twice_is_not_spoken_the_same_twice(tiny_engine: Engine) -> None:
    first, second = codes(tiny_engine, ["Again.", "Again."], SHORT)
    assert first != second


def test_neighbours_in_the_batch_change_nothing(tiny_engine: Engine) -> None:
    alone = codes(tiny_engine, SENTENCES[:1], SHORT)
    assert codes(tiny_engine, SENTENCES, SHORT)[:1] == alone


def test_a_sentence_that_does_not_end_is_cut_and_told(tiny_engine: Engine) -> None:
    (utterance,) = tiny_engine.speak(["Long."], VOICE, replace(SHORT, max_tokens=2))
    assert not utterance.complete
    assert utterance.tokens == len(utterance.semantic_tokens) + 1 == 2  # one opens the speech


def test_a_designed_voice_has_the_codecs_length(tiny_engine: Engine) -> None:
    for seed in range(20):
        designed = tiny_engine.design(Style(), "Hello.", replace(SHORT, seed=seed))
        assert tiny_engine.why_unusable(designed.voice) is None
        assert designed.voice.style is not None
        assert 0 <= (designed.voice.style.pitch_value or 0) <= 1000
        assert 0 <= (designed.voice.style.speed_value or 0) <= 10
        list(tiny_engine.speak(SENTENCES, designed.voice, replace(SHORT, max_tokens=4)))


def test_values_force_the_acoustic_tokens(tiny_engine: Engine) -> None:
    style = Style("male", "high", "low", pitch_value=777, speed_value=0)
    assert tiny_engine.design(style, "Hello.", SHORT).voice.style == style


def test_a_chained_sentence_goes_on_from_the_one_before(tiny_engine: Engine) -> None:
    greedy = replace(SHORT, temperature=0, max_tokens=30)
    spoken = replace(VOICE, transcript="Before.", semantic_tokens=(1, 2, 3))
    first, second = tiny_engine.speak(["One.", "Two."], spoken, greedy, continues=True)
    after = replace(VOICE, transcript="One.", semantic_tokens=first.semantic_tokens)
    (expected,) = tiny_engine.speak(["Two."], after, greedy)
    assert second.semantic_tokens == expected.semantic_tokens
    (unchained,) = tiny_engine.speak(["Two."], spoken, greedy)
    assert second.semantic_tokens != unchained.semantic_tokens


def test_a_model_without_control_tokens_says_so(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))
    file = folder / "LLM" / "tokenizer.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("task_controllable_tts", "task_of_another_kind"), encoding="utf-8")
    engine = Engine.load(folder, "float32", "cpu")
    with pytest.raises(NotAvailableError, match="prompt_speech_url or voice"):
        engine.design(Style(), "Hello.", SHORT)
    assert not engine.designs


def test_a_model_with_control_tokens_designs(tiny_engine: Engine) -> None:
    assert tiny_engine.designs


def test_stray_tokens_never_reach_the_codec(tiny_engine: Engine) -> None:
    codec = tiny_engine._codec
    for voice, speech in [
        ((3, 0, 15, 7), (1,)),
        ((3, 0, 16, 7, 7), (1,)),
        ((3, 0, -1, 7, 7), (1,)),
        ((3, 0, 15, 7, 7), (96,)),
        ((3, 0, 15, 7, 7), (-1,)),
        ((3, 0, 15, 7, 7), ()),
    ]:
        with pytest.raises(SynthesisError):
            codec.decode(voice, speech)


def test_voices_of_another_model_are_told_apart(tiny_engine: Engine) -> None:
    assert tiny_engine.why_unusable(VOICE) is None
    assert "4 global tokens" in str(tiny_engine.why_unusable(Voice((1, 2, 3, 4))))
    assert "global token" in str(tiny_engine.why_unusable(Voice((1, 2, 3, 4, 16))))
    assert "semantic token" in str(tiny_engine.why_unusable(replace(VOICE, semantic_tokens=(96,))))


def test_a_reference_that_fills_the_model_is_refused(tiny_engine: Engine) -> None:
    crowded = replace(VOICE, transcript="x", semantic_tokens=(1,) * 2040)
    with pytest.raises(SynthesisError, match="shorter reference"):
        list(tiny_engine.speak(["Hello."], crowded, SHORT))


@pytest.mark.parametrize("seed", range(10))
def test_answers_keep_to_the_grammar(tiny_engine: Engine, seed: int) -> None:
    lm = tiny_engine._lm
    grammar = Grammar(tuple(frozenset(s) for s in [{9}, {1, 2}, {1, 2}, {3, 4}]), end=4)
    rows = [SequenceRequest((7,) * n, f"row {n}", 20) for n in (1, 5, 3)]
    found = answer(lm, rows, grammar, Sampling(temperature=2, top_k=0, top_p=1, seed=seed))
    assert len(found) == len(rows)
    for answered in found:
        head, tail = answered.tokens[:3], answered.tokens[3:]
        assert head[0] == 9
        assert set(head[1:]) <= {1, 2}
        assert set(tail) <= {3}
        assert answered.ended == (len(answered.tokens) < 20)


def broken(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "broken"))


@pytest.mark.parametrize(
    "name",
    ["LLM/config.json", "LLM/tokenizer.json", "LLM/model.safetensors", "BiCodec/model.safetensors"],
)
def test_a_missing_file_is_named(tiny_checkpoint: Path, tmp_path: Path, name: str) -> None:
    folder = broken(tiny_checkpoint, tmp_path)
    (folder / name).unlink()
    with pytest.raises(SetupError, match=name):
        Engine.load(folder, device="cpu")


@pytest.mark.slow("needs compiled C")
@pytest.mark.parametrize(
    "name",
    ["LLM/config.json", "LLM/tokenizer.json", "LLM/model.safetensors", "BiCodec/model.safetensors"],
)
def test_a_file_cut_short_is_named(tiny_checkpoint: Path, tmp_path: Path, name: str) -> None:
    folder = broken(tiny_checkpoint, tmp_path)
    file = folder / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(SetupError, match=name):
        Engine.load(folder, device="cpu")


def test_weights_of_another_size_are_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    other = make_checkpoint(tmp_path / "other", Sizes(hidden=24))
    shutil.copy(tiny_checkpoint / "LLM" / "model.safetensors", other / "LLM")
    with pytest.raises(SetupError, match=r"LLM/model\.safetensors does not fit"):
        LanguageModel.load(other / "LLM", torch.float32, torch.device("cpu"))


@pytest.mark.slow("needs compiled C")
def test_bfloat16_speaks_too(tiny_checkpoint: Path) -> None:
    engine = Engine.load(tiny_checkpoint, "bfloat16", "cpu")
    assert engine._lm.norm.weight.dtype == torch.bfloat16
    assert codes(engine, SENTENCES, SHORT) == codes(engine, SENTENCES, SHORT)
