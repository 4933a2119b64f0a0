"""What a job answers: plain JSON, milliseconds, no nulls, nothing that cannot be."""

from __future__ import annotations

import json
import math

import pytest
from pydantic import BaseModel, ValidationError

from worker.api.response import (
    Metrics,
    Progress,
    Segment,
    SpeechResponse,
    SpokenSegment,
    TimedWord,
    VoiceUsed,
)
from worker.timing.word_timing import WordTiming


def metrics() -> Metrics:
    return Metrics(
        seconds={"total": 1.23456},
        sentences=1,
        tokens=50,
        tokens_per_second=40.5,
        real_time_factor=0.5,
        batch_occupancy=1.5,
        truncated_sentences=0,
        silent_sentences=0,
    )


def response() -> SpeechResponse:
    return SpeechResponse(
        audio_url="https://example.com/a.wav",
        sample_rate=16_000,
        duration=2.0004,
        segments=(Segment(text="Hello.", start=0.0, end=1.99951),),
        voice=VoiceUsed(source="style"),
        seed=0,
        metrics=metrics(),
    )


def test_an_answer_holds_what_was_asked_for_and_no_more() -> None:
    answer = response().to_json()
    assert json.loads(json.dumps(answer)) == answer
    assert answer == {
        "status": "success",
        "audio_url": "https://example.com/a.wav",
        "sample_rate": 16_000,
        "duration": 2.0,
        "segments": [{"text": "Hello.", "start": 0.0, "end": 2.0}],
        "voice": {"source": "style"},
        "seed": 0,
        "warnings": [],
        "metrics": {
            "seconds": {"total": 1.235},
            "sentences": 1,
            "tokens": 50,
            "tokens_per_second": 40.5,
            "real_time_factor": 0.5,
            "batch_occupancy": 1.5,
            "truncated_sentences": 0,
            "silent_sentences": 0,
            "retries": 0,
            "faults": [],
        },
    }


def test_what_is_told_of_a_streamed_job() -> None:
    segment = SpokenSegment(
        index=0, total=2, text="Hello.", start=0, end=1.0006, audio_url="https://example.com/0.wav"
    )
    told = {
        "status": "segment",
        "index": 0,
        "total": 2,
        "text": "Hello.",
        "start": 0.0,
        "end": 1.001,
        "audio_url": "https://example.com/0.wav",
    }
    assert segment.to_json() == told
    assert segment.model_copy(update={"speaker": "A"}).to_json() == {**told, "speaker": "A"}
    progress = Progress(done=1, total=2, segments=(segment,)).to_json()
    assert progress == {"done": 1, "total": 2, "segments": [told]}
    assert json.loads(json.dumps(progress)) == progress


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, 0.0), (0.0004, 0.0), (0.0006, 0.001), (59.9994, 59.999)]
)
def test_times_are_told_in_milliseconds(seconds: float, told: float) -> None:
    word = TimedWord(word="a", start=seconds, end=seconds, score=0.12345, estimated=False)
    assert (word.start, word.end, word.score) == (told, told, 0.123)


@pytest.mark.parametrize("seconds", [-0.001, math.nan, math.inf])
@pytest.mark.parametrize("name", ["start", "end"])
def test_a_time_is_a_number_from_0_on(name: str, seconds: float) -> None:
    given = {"text": "Hello.", "start": 0.0, "end": 1.0} | {name: seconds}
    with pytest.raises(ValidationError, match=name):
        Segment.model_validate(given)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sentences", -1),
        ("tokens", -1),
        ("tokens_per_second", -0.1),
        ("real_time_factor", -0.1),
        ("batch_occupancy", -0.1),
        ("truncated_sentences", -1),
        ("silent_sentences", -1),
        ("retries", -1),
        ("seconds", {"total": math.nan}),
        ("queries", 1),
    ],
)
def test_figures_that_cannot_be_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        Metrics.model_validate(metrics().model_dump() | {name: value})


@pytest.mark.parametrize(("score", "taken"), [(0, True), (1, True), (-0.01, False), (1.01, False)])
def test_a_score_is_from_0_to_1(score: float, taken: bool) -> None:
    given = {"word": "a", "start": 0.0, "end": 0.1, "estimated": False}
    assert TimedWord.model_validate(given).score is None
    if taken:
        assert TimedWord.model_validate(given | {"score": score}).score == score
    else:
        with pytest.raises(ValidationError, match="score"):
            TimedWord.model_validate(given | {"score": score})


def test_a_word_of_the_aligner_is_told_without_its_sentence_and_to_the_millisecond() -> None:
    timing = WordTiming("one", 1.23449, 1.5, None, sentence=3, estimated=True)
    assert TimedWord.of(timing).model_dump() == {
        "word": "one",
        "start": 1.234,
        "end": 1.5,
        "score": None,
        "estimated": True,
        "speaker": None,
    }
    assert TimedWord.of(timing, "Anna").speaker == "Anna"


@pytest.mark.parametrize(("name", "value"), [("sample_rate", 0), ("seed", -1), ("duration", -1)])
def test_an_answer_that_cannot_be_is_refused(name: str, value: int) -> None:
    with pytest.raises(ValidationError, match=name):
        SpeechResponse.model_validate(response().model_dump() | {name: value})


@pytest.mark.parametrize("answer", [response(), metrics(), VoiceUsed(source="saved", name="a")])
def test_an_answer_cannot_be_changed_nor_hold_more(answer: BaseModel) -> None:
    name = next(iter(type(answer).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(answer, name, getattr(answer, name))
    with pytest.raises(ValidationError, match="more"):
        type(answer).model_validate(answer.model_dump() | {"more": 1})
