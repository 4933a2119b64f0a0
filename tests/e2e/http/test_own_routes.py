"""The worker's own routes on a real worker process: voices, streams, batches, text in pieces."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from websockets.sync.client import ClientConnection, connect

from tests.conftest import DEMO_VOICE
from tests.support.http_worker import HttpWorker
from worker.api.response import SpeechResponse
from worker.text.sentences import split

TEXT = "The car is green and the house is red. How are you today, my friend? All is well."
SENTENCES = split(TEXT)
SECONDS = 120.0


@pytest.fixture
def client(http_worker: HttpWorker) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=http_worker.url, timeout=SECONDS, trust_env=False) as one:
        yield one


@contextmanager
def session(worker: HttpWorker, **start: Any) -> Iterator[ClientConnection]:
    address = f"ws://127.0.0.1:{worker.port}/v1/audio/speech/stream"
    with connect(address, proxy=None, max_size=None, open_timeout=SECONDS) as socket:
        socket.send(json.dumps({"type": "session.start", **start}))
        yield socket


def say(socket: ClientConnection, text: str, *after: str) -> None:
    for i in range(0, len(text), 4):
        socket.send(json.dumps({"type": "text", "text": text[i : i + 4]}))
    for kind in after:
        socket.send(json.dumps({"type": kind}))


def heard(socket: ClientConnection, last: str) -> tuple[list[dict[str, Any]], bytes]:
    """The events up to one of type `last`, and the audio."""
    events: list[dict[str, Any]] = []
    audio = b""
    while not events or events[-1]["type"] not in (last, "error"):
        message = socket.recv(SECONDS)
        if isinstance(message, bytes):
            audio += message
        else:
            events.append(json.loads(message))
    assert events[-1]["type"] == last, events[-1]
    return events, audio


def stream(client: httpx.Client, **job: Any) -> tuple[list[dict[str, Any]], bytes]:
    """The events of a stream of the worker's own route, and the audio."""
    with client.stream("POST", "/v1/speech", json={**job, "stream": True}) as answer:
        assert answer.status_code == 200
        lines = list(filter(None, answer.iter_lines()))
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    audio = b"".join(base64.b64decode(event.pop("audio", "")) for event in events)
    return [event for event in events if event["type"] != "speech.audio.delta"], audio


def test_a_voice_is_made_of_a_recording_and_speaks_at_both_doors_routes(
    client: httpx.Client,
) -> None:
    with DEMO_VOICE.open("rb") as recording:
        made = client.post(
            "/v1/audio/voices",
            data={"name": "own-anna", "consent": "It is a made-up voice."},
            files={"audio": recording},
        )
    assert made.status_code == 201
    assert "own-anna" in {voice["id"] for voice in client.get("/v1/audio/voices").json()["data"]}
    job = {"text": "The car is green.", "voice": "own-anna", "seed": 1}
    response = SpeechResponse.model_validate(client.post("/v1/speech", json=job).json())
    with open(response.audio_url.removeprefix("file://"), "rb") as file:  # noqa: PTH123 - a URL
        stored, rate = soundfile.read(file)
    events, audio = stream(client, **job, response_format="wav")
    streamed, _ = soundfile.read(io.BytesIO(audio))
    assert len(stored) / rate == pytest.approx(events[-1]["duration"], abs=0.1)
    assert len(stored) == pytest.approx(len(streamed), abs=0.1 * rate)
    assert client.delete("/v1/audio/voices/own-anna").status_code == 204
    assert client.post("/v1/speech", json=job).status_code == 400


def test_a_stream_tells_the_words_of_each_sentence(client: httpx.Client) -> None:
    events, audio = stream(client, text=TEXT, enable_subtitles=True, seed=1)
    sentences = [event for event in events if event["type"] == "speech.sentence"]
    assert [sentence["text"] for sentence in sentences] == SENTENCES
    for sentence in sentences:
        assert [word["word"] for word in sentence["words"]] == sentence["text"].split()
        assert sentence["start"] <= sentence["words"][0]["start"]
        assert sentence["words"][-1]["end"] <= sentence["end"] + 0.001
    done = events[-1]
    assert done["type"] == "speech.done"
    assert "Dialogue:" in done["subtitles"]["ass"]
    assert len(audio) / 2 / 24_000 == pytest.approx(done["duration"], abs=0.01)


def test_text_in_pieces_sounds_as_in_one_request(
    http_worker: HttpWorker, client: httpx.Client
) -> None:
    job = {"seed": 5, "enable_whisperx": True, "response_format": "wav"}
    expected, whole = stream(client, text=TEXT, **job)
    with session(http_worker, **job) as socket:
        say(socket, TEXT, "close")
        events, audio = heard(socket, "speech.done")
    sentences = [event for event in events if event["type"] == "speech.sentence"]
    assert [one["text"] for one in sentences] == SENTENCES
    assert events[-1]["duration"] == pytest.approx(expected[-1]["duration"], abs=0.001)
    mine, _ = soundfile.read(io.BytesIO(audio))
    theirs, _ = soundfile.read(io.BytesIO(whole))
    assert len(mine) == len(theirs)
    # The same draws; where pieces were cut otherwise, the codec's look-ahead differs.
    error = np.sqrt(np.mean((mine - theirs) ** 2)) / np.sqrt(np.mean(theirs**2))
    assert error < 10 ** (-30 / 20)


def test_a_session_flushes_cancels_and_goes_on(http_worker: HttpWorker) -> None:
    with session(http_worker, seed=5) as socket:
        say(socket, "The car is green", "flush")
        events, audio = heard(socket, "speech.flushed")
        assert [event["type"] for event in events] == [
            *("session.started", "speech.sentence", "speech.flushed")
        ]
        assert len(audio) / 2 / 24_000 >= events[1]["end"]
        say(socket, TEXT * 3)
        assert isinstance(socket.recv(SECONDS), bytes)
        say(socket, "", "cancel")
        heard(socket, "speech.cancelled")
        say(socket, "The house is red", "close")
        events, audio = heard(socket, "speech.done")
    assert [event["type"] for event in events] == ["speech.sentence", "speech.done"]
    assert events[0]["text"] == "The house is red"
    assert len(audio) > 10_000


def test_a_session_that_is_left_frees_its_rows(
    http_worker: HttpWorker, client: httpx.Client
) -> None:
    with session(http_worker, seed=5) as socket:
        say(socket, TEXT * 5)
        while not isinstance(socket.recv(SECONDS), bytes):
            pass
        socket.socket.close()
    from tests.support.waiting import until

    def free() -> bool:
        health = client.get("/health").json()
        return health["requests"] == health["speaking"] == health["waiting"] == 0

    until(free, SECONDS)


def test_a_batch_stores_each_item(client: httpx.Client) -> None:
    items = [
        {"text": "The car is green.", "seed": 1},
        {"input": "The house is red.", "response_format": "mp3", "seed": 1},
        {"text": "Spoken.", "voice": "nobody-of-this-name"},
    ]
    data = client.post("/v1/audio/speech/batch", json={"items": items}).json()["data"]
    assert [outcome["status"] for outcome in data] == [200, 200, 400]
    for outcome in data[:2]:
        url = outcome["response"]["audio_url"]
        samples, rate = soundfile.read(url.removeprefix("file://"))
        assert len(samples) / rate == pytest.approx(outcome["response"]["duration"], abs=0.2)
