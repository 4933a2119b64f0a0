"""No answer is larger than RunPod takes, whatever was asked; and nothing of it is lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from docs.generate import ANSWER
from tests.support.small_components import KEYS, NotedStorage, small_components
from worker.api.field_types import MAX_TEXT
from worker.api.request import parse_request
from worker.api.response import SpeechResponse, TimedWord
from worker.errors import StorageError
from worker.job.answer_size import (
    LINES_MAX,
    OF_JOBS,
    OF_STREAMED_ITEMS,
    AnswerLimit,
    fit,
    size_of,
)
from worker.job.context import Job
from worker.job.limits import MOST_STREAMED

RUNPODS = {OF_STREAMED_ITEMS: 1_000_000, OF_JOBS: 10_000_000}  # by its documentation
REQUEST = parse_request({"text": "Hello.", "output_name": "hi", "url_expiry": 600})
WORD = TimedWord(word="extraordinary", start=1234.567, end=1235.678, score=0.123, estimated=False)
SENTENCE = ANSWER.segments[0].model_copy(update={"start": 1234.567, "end": 1235.678})


class Desk:
    """A job and its storage, whose URLs are as long as is said."""

    def __init__(self, folder: Path, url: int = 0) -> None:
        small = small_components(folder)
        self.storage: NotedStorage = small.storage
        self.job = Job("job-1", replace(small.components), folder)
        self.url = "?" + "x" * url
        given = self.storage.url
        self.storage.url = lambda key, seconds: given(key, seconds) + self.url  # type: ignore[method-assign] # longer URLs

    def fit(self, answer: SpeechResponse, limit: AnswerLimit) -> SpeechResponse:
        return fit(answer, REQUEST, self.job, limit)

    def read(self, name: str) -> list[dict[str, object]]:
        file = self.storage.get(
            KEYS.output_key("hi", "job-1", name), self.job.folder / name, max_bytes=1 << 24
        )
        return json.loads(file.read_bytes())


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def answer(
    words: int = 0, sentences: int = 1, faults: int = 0, url: int = 0, word: TimedWord = WORD
) -> SpeechResponse:
    sentence = SENTENCE.model_copy(update={"audio_url": "u" * url if url else None})
    told = tuple(f"sentence {n}: 'extraordinary' lasts 3.1 s" for n in range(faults))
    return ANSWER.model_copy(
        update={
            "word_timings": (word,) * words if words else None,
            "segments": (sentence,) * sentences,
            "warnings": ("The beginning.",),
            "metrics": ANSWER.metrics.model_copy(update={"faults": told}),
        }
    )


def test_an_answer_that_is_taken_stays_as_it_is(desk: Desk) -> None:
    small = answer(words=3, sentences=2, faults=LINES_MAX + 1)
    exact = AnswerLimit(size_of(small.to_json()), "anything")
    assert desk.fit(small, exact) is small
    assert desk.storage.put_keys == []
    below = AnswerLimit(exact.bytes - 1, "anything")
    assert desk.fit(small, below).word_timings_url is not None


def test_words_become_a_file_first_and_all_else_stays(desk: Desk) -> None:
    large = answer(words=12_000, sentences=9)
    fitted = desk.fit(large, OF_STREAMED_ITEMS)
    assert fitted.word_timings is None
    assert fitted.word_timings_url is not None
    assert fitted.word_timings_url.endswith("output/hi_job-1.words.json?for=600?")
    assert desk.storage.put_keys == [("output/hi_job-1.words.json", "application/json")]
    assert desk.read("words.json") == large.to_json()["word_timings"]
    assert fitted.warnings == (
        "The beginning.",
        "the 12000 word_timings are too many for an item of /stream: word_timings_url has them",
    )
    assert fitted.segments == large.segments
    assert "word_timings" not in fitted.to_json()
    assert size_of(fitted.to_json()) < OF_STREAMED_ITEMS.bytes
    assert desk.fit(large, OF_JOBS) is large
    assert not (desk.job.folder / "part-of-answer.json").exists()


def test_then_the_sentences_with_their_urls(desk: Desk) -> None:
    """A URL with a session's token may have 2 kB, and a streamed job 1,000 sentences."""
    large = answer(words=100, sentences=1_000, url=2_000)
    fitted = desk.fit(large, OF_STREAMED_ITEMS)
    assert fitted.segments == ()
    assert fitted.to_json()["segments"] == []
    assert fitted.segments_url is not None
    assert "output/hi_job-1.segments.json" in fitted.segments_url
    assert desk.read("segments.json") == large.to_json()["segments"]
    assert desk.read("words.json") == large.to_json()["word_timings"]
    assert fitted.warnings[2] == (
        "the 1000 segments are too many for an item of /stream: segments_url has them"
    )
    assert fitted.audio_url == large.audio_url


def test_then_there_are_fewer_faults_and_the_first_and_last_are_told(desk: Desk) -> None:
    large = answer(faults=30_000)
    faults = desk.fit(large, OF_STREAMED_ITEMS).metrics.faults
    assert len(faults) == LINES_MAX + 1
    assert faults[49:52] == (
        large.metrics.faults[49],
        "29900 more, which the job's record has",
        large.metrics.faults[-50],
    )


def test_a_file_that_cannot_be_stored_fails_the_job(desk: Desk) -> None:
    def refuse(_key: str) -> None:
        raise StorageError("full")

    desk.storage.before_put = refuse
    with pytest.raises(StorageError):
        desk.fit(answer(words=12_000), OF_STREAMED_ITEMS)
    assert not (desk.job.folder / "part-of-answer.json").exists()


def test_the_size_is_that_of_what_runpods_sdk_sends() -> None:
    told = {"text": "你好\n\"'\\", "n": 0.1}
    sent = json.dumps({"output": told}, ensure_ascii=False)  # rp_http, _handle_result
    assert size_of(told) == len(sent.encode())


@pytest.mark.parametrize(
    ("sign", "length", "streamed", "faults", "warnings", "url"),
    [
        ("a", 1, True, 3, 10_000, 2_000),
        ("\U0001f600", 1, False, 3, 1, 450),
        ('"', 2, True, 0, 0, 4_000),
        ("\u4f60", MAX_TEXT, False, 3, 10_000, 90),
    ],
)
def test_whatever_the_api_allows_is_taken_by_runpod_and_none_of_it_is_lost(
    tmp_path: Path, sign: str, length: int, streamed: bool, faults: int, warnings: int, url: int
) -> None:
    """Texts of 20,000 characters in words of one length, each with so many faults."""
    desk = Desk(tmp_path, url)
    words = MAX_TEXT // length
    sentences = min(words, MOST_STREAMED if streamed else MAX_TEXT // 2)
    text = sign * (MAX_TEXT // sentences)
    whole = answer(words=words, word=WORD.model_copy(update={"word": sign * length}))
    segment = SENTENCE.model_copy(
        update={"text": text, "audio_url": "u" * url if streamed else None}
    )
    told = tuple(f"sentence 9999: {sign * length!r} seems not to be said" for _ in range(words))
    noted = tuple(f"{n}: {sign * min(length, 80)} was left out" for n in range(warnings))
    whole = whole.model_copy(
        update={
            "segments": (segment,) * sentences,
            "metrics": whole.metrics.model_copy(update={"faults": told * faults}),
            "warnings": noted,
            "subtitles_url": "u" * url,
        }
    )
    expected = whole.to_json()
    for limit, runpods in RUNPODS.items():
        fitted = desk.fit(whole, limit)
        assert size_of(fitted.to_json()) <= limit.bytes <= 0.9 * runpods
        if fitted.word_timings_url is not None:
            assert desk.read("words.json") == expected["word_timings"]
        else:
            assert fitted.word_timings == whole.word_timings
        if fitted.segments_url is not None:
            assert desk.read("segments.json") == expected["segments"]
        else:
            assert fitted.segments == whole.segments
