"""The worker's own route: the queue's answer, or a stream of events."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.http_door import LONG, DoorServer, serving_door
from tests.support.small_components import TEXT, EvenAligner, SmallParts, small_components
from tests.unit.worker.serve.http.test_openai_routes import events_of
from worker.api.own_fields import SentenceEvent, SpeechDoneEvent
from worker.api.response import SpeechResponse
from worker.errors import SynthesisError

PATH = "/v1/speech"


@pytest.fixture
def parts(tmp_path: Path) -> SmallParts:
    return small_components(tmp_path, EvenAligner())


@pytest.fixture
def server(parts: SmallParts) -> Iterator[DoorServer]:
    with serving_door(parts, http_max_text=100) as door:
        yield door


@pytest.fixture
def client(server: DoorServer) -> Iterator[httpx.Client]:
    with server.client() as one:
        yield one


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_answer_is_the_queues(client: httpx.Client, parts: SmallParts, wrapped: bool) -> None:
    job = {"text": TEXT, "output_format": "flac", "seed": 4}
    answer = client.post(PATH, json={"input": job} if wrapped else job)
    assert answer.status_code == 200
    response = SpeechResponse.model_validate_json(answer.content)
    assert response.seed == 4
    assert [segment.text for segment in response.segments] == TEXT.split("\n")
    (key, kind) = parts.storage.put_keys[-1]
    assert kind == "audio/flac"
    assert answer.headers["X-Request-Id"] in key
    assert key in response.audio_url


@pytest.mark.parametrize("way", ["field", "header"])
def test_a_stream_has_audio_sentences_and_the_end(client: httpx.Client, way: str) -> None:
    body: dict[str, Any] = {"text": TEXT, "enable_subtitles": True, "seed": 4}
    headers = {"Accept": "text/event-stream"} if way == "header" else {}
    answer = client.post(
        PATH, json=body | ({"stream": True} if way == "field" else {}), headers=headers
    )
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    events = events_of(answer)
    audio = b"".join(base64.b64decode(event.get("audio", "")) for event in events)
    sentences = [event for event in events if event["type"] == "speech.sentence"]
    done = events[-1]
    assert [SentenceEvent.model_validate(one).index for one in sentences] == [0, 1, 2]
    assert [one["text"] for one in sentences] == TEXT.split("\n")
    assert [len(one["words"]) for one in sentences] == [1, 2, 3]
    SpeechDoneEvent.model_validate(done)
    assert done["word_timings"] == [word for one in sentences for word in one["words"]]
    assert set(done["subtitles"]) == {"ass", "srt", "vtt"}
    assert done["sample_rate"] == 24_000
    assert len(audio) / 2 / 24_000 == pytest.approx(done["duration"], abs=0.01)


def test_a_stream_has_the_rate_that_was_asked_for(client: httpx.Client) -> None:
    body = {"text": TEXT, "stream": True, "sample_rate": 8_000}
    events = events_of(client.post(PATH, json=body))
    done = events[-1]
    audio = b"".join(base64.b64decode(event.get("audio", "")) for event in events)
    assert done["sample_rate"] == 8_000
    assert len(audio) / 2 / 8_000 == pytest.approx(done["duration"], abs=0.01)


def test_a_loudness_is_for_stored_answers_alone(client: httpx.Client) -> None:
    answer = client.post(PATH, json={"text": TEXT, "loudness": -20})
    assert answer.json()["loudness"] == pytest.approx(-20, abs=0.2)
    refused = client.post(PATH, json={"text": TEXT, "loudness": -20, "stream": True})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "loudness"


TURNS = [{"text": "Hi there.", "voice": "onyx"}, {"text": "Ho.", "speaker": "Bob", "pause": 1.0}]


def test_turns_are_taken_by_both_ways(client: httpx.Client) -> None:
    body = {"turns": TURNS, "enable_subtitles": True, "seed": 4}
    stored = SpeechResponse.model_validate_json(client.post(PATH, json=body).content)
    events = events_of(client.post(PATH, json={**body, "stream": True}))
    sentences = [event for event in events if event["type"] == "speech.sentence"]
    assert [one["speaker"] for one in sentences] == ["onyx", "Bob"]
    assert [SentenceEvent.model_validate(one).speaker for one in sentences] == ["onyx", "Bob"]
    assert [word["speaker"] for word in sentences[0]["words"]] == ["onyx", "onyx"]
    done = events[-1]
    SpeechDoneEvent.model_validate(done)
    dumped = stored.to_json()
    assert done["segments"] == dumped["segments"]
    assert done["speakers"] == dumped["speakers"]
    assert done["duration"] == stored.duration == pytest.approx(0.4 + 1 + 0.2)
    assert "Bob: Ho." in done["subtitles"]["srt"]


def test_turns_that_are_too_long_together_are_refused(client: httpx.Client) -> None:
    answer = client.post(PATH, json={"turns": [{"text": "word " * 11}] * 2})
    assert answer.status_code == 413
    assert answer.json()["error"]["param"] == "turns"


def test_a_streams_subtitles_begin_with_a_byte_order_mark_where_it_is_asked_for(
    client: httpx.Client,
) -> None:
    body = {"text": TEXT, "enable_subtitles": True, "subtitle_bom": True, "stream": True}
    subtitles = events_of(client.post(PATH, json=body))[-1]["subtitles"]
    assert [text[0] for text in subtitles.values()] == ["\ufeff"] * 3


def test_a_stream_stores_nothing(client: httpx.Client, parts: SmallParts) -> None:
    events = events_of(client.post(PATH, json={"text": TEXT, "stream": True}))
    assert events[-1]["type"] == "speech.done"
    assert parts.storage.put_keys == []


def test_no_words_where_none_are_asked_for(client: httpx.Client) -> None:
    events = events_of(client.post(PATH, json={"text": TEXT, "stream": True}))
    assert [event["words"] for event in events if event["type"] == "speech.sentence"] == [None] * 3
    assert events[-1]["word_timings"] is None


def test_words_come_while_the_next_sentence_is_being_spoken(
    client: httpx.Client, parts: SmallParts
) -> None:
    """The second sentence waits until the client has the words of the first."""
    seen = threading.Event()
    parts.engine.before = lambda text: text.startswith("Two") and seen.wait(LONG)
    body = {"text": TEXT, "stream": True, "enable_whisperx": True}
    with client.stream("POST", PATH, json=body) as answer:
        for line in answer.iter_lines():
            if '"speech.sentence"' in line:
                seen.set()
    assert seen.is_set()


def test_what_fails_before_any_audio_has_its_status(
    client: httpx.Client, parts: SmallParts
) -> None:
    def fail(_text: str) -> None:
        raise SynthesisError("nothing came")

    parts.engine.before = fail
    for stream in (True, False):
        answer = client.post(PATH, json={"text": TEXT, "stream": stream})
        assert (answer.status_code, answer.json()["error"]["message"]) == (422, "nothing came")


def test_what_fails_later_is_the_last_event(client: httpx.Client, parts: SmallParts) -> None:
    def fail(text: str) -> None:
        if text.startswith("Three"):
            raise SynthesisError("nothing came")

    parts.engine.before = fail
    events = events_of(client.post(PATH, json={"text": TEXT, "stream": True}))
    assert events[-1] == {
        "type": "error",
        "error": {
            "message": "nothing came",
            "type": "invalid_request_error",
            "param": None,
            "code": "synthesis_failed",
        },
    }


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 400, "text"),
        ([], 400, "text"),
        ({"input": 5}, 400, "input"),
        ({"text": "Hello.", "response_format": "mp3"}, 400, "response_format"),
        ({"text": "Hello.", "response_format": "gif", "stream": True}, 400, "response_format"),
        ({"text": "Hello.", "response_format": ["mp3"], "stream": True}, 400, "response_format"),
        ({"text": "Hello.", "stream": "yes"}, 400, "stream"),
        ({"text": "Hello. " * 20}, 413, "text"),
    ],
)
def test_what_is_wrong_names_the_field(
    client: httpx.Client, body: object, status: int, field: str
) -> None:
    answer = client.post(PATH, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, field)
