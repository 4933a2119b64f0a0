"""The WebSocket: text in pieces, spoken sentence by sentence."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import cycle
from pathlib import Path
from socket import SHUT_RDWR, SHUT_WR, create_connection
from typing import Any

import numpy as np
import pytest
from starlette.websockets import WebSocket
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.support.http_door import LONG, DoorServer, serving_door
from tests.support.small_components import TEXT, EvenAligner, SmallParts, small_components
from tests.support.waiting import until
from tests.unit.worker.serve.http.test_openai_routes import events_of
from worker.errors import SynthesisError
from worker.serve.http.text_socket import PATH
from worker.speech.voice import Voice
from worker.text.sentence_buffer import SentenceBuffer

HANDSHAKE = (
    f"GET {PATH} HTTP/1.1\r\nHost: worker\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()
START = {"type": "session.start", "seed": 3, "multi_sentence_gap": 0.5, "response_format": "wav"}
CLOSE = {"type": "close"}
FLUSH = {"type": "flush"}
CANCEL = {"type": "cancel"}
WAV_HEADER = 44


@pytest.fixture
def parts(tmp_path: Path) -> SmallParts:
    return small_components(tmp_path, EvenAligner())


@pytest.fixture
def server(parts: SmallParts) -> Iterator[DoorServer]:
    with serving_door(parts, http_max_text=300, http_max_requests=2) as door:
        yield door


def opened(server: DoorServer, **options: Any) -> AbstractContextManager[ClientConnection]:
    address = f"ws://127.0.0.1:{server.port}{PATH}"
    return connect(address, proxy=None, open_timeout=LONG, max_size=None, **options)


def send(socket: ClientConnection, *messages: dict[str, Any]) -> None:
    for message in messages:
        socket.send(json.dumps(message))


def say(socket: ClientConnection, text: str, size: int = 3) -> None:
    send(socket, *({"type": "text", "text": text[i : i + size]} for i in range(0, len(text), size)))


def told(socket: ClientConnection, until_type: str | None = None) -> tuple[list[Any], bytes]:
    """The events and the audio, up to an event of this type, or to the close."""
    events: list[Any] = []
    audio = b""
    while not events or events[-1]["type"] != until_type:
        try:
            message = socket.recv(LONG)
        except ConnectionClosed:
            break
        if isinstance(message, bytes):
            audio += message
        else:
            events.append(json.loads(message))
    return events, audio


def code_of(socket: ClientConnection) -> int | None:
    """How the server closes it."""
    told(socket)
    return socket.close_code


def types(events: list[Any]) -> list[str]:
    return [event["type"] for event in events]


NUMBERS = "We saw " + "1,234,567, " * 6 + "no more."


@pytest.mark.parametrize("more", [{}, {"voice": "ann", "task_token": "continue"}])
def test_what_takes_too_long_to_say_is_spoken_as_several_sentences(
    parts: SmallParts, server: DoorServer, more: dict[str, Any]
) -> None:
    parts.voices.save("ann", Voice((1, 2), (3, 4), "So it was."))
    with opened(server) as socket:
        send(socket, START | more)
        say(socket, f"{NUMBERS} So be it, said the old man.", 50)
        send(socket, CLOSE)
        events, _ = told(socket)
    spoken = [event["text"] for event in events if event["type"] == "speech.sentence"]
    assert " ".join(spoken) == f"{NUMBERS} So be it, said the old man."
    assert len(spoken) > 2
    said = [sentence for asked in parts.engine.asked for sentence in asked.sentences]
    assert not any(char.isdigit() for sentence in said for char in sentence)
    if more:  # each goes on from the one before it, also within what was written as one
        voices = [asked.voice for asked in parts.engine.asked]
        assert [voice.transcript for voice in voices] == ["So it was.", *said[:-1]]


def test_it_is_spoken_as_one_request_would_be(server: DoorServer, parts: SmallParts) -> None:
    with server.client() as client:
        body = {"text": TEXT, "stream": True, "enable_whisperx": True, **START}
        del body["type"]
        events = events_of(client.post("/v1/speech", json=body))
        one = parts.engine.asked[-1]
    with opened(server) as socket:
        send(socket, {**START, "enable_whisperx": True})
        say(socket, TEXT)
        send(socket, CLOSE)
        mine, audio = told(socket)
    assert socket.close_code == 1000
    assert types(mine) == ["session.started", *["speech.sentence"] * 3, "speech.done"]
    expected = [event for event in events if event["type"] == "speech.sentence"]
    assert [event | {"total": 3} for event in mine[1:4]] == expected
    assert mine[-1]["duration"] == events[-1]["duration"]
    assert mine[-1]["seed"] == 3
    whole = b"".join(base64.b64decode(event.get("audio", "")) for event in events)
    assert audio == whole
    assert parts.engine.begun == [(text, i) for i, text in enumerate(TEXT.split("\n"))]
    assert parts.engine.asked[-1].sampling == one.sampling
    assert parts.engine.asked[-1].voice == one.voice


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"loudness": -16}, "loudness"),
        ({"bit_rate": 64}, "bit_rate"),  # of pcm
        ({"response_format": "opus", "sample_rate": 44_100}, "sample_rate"),
    ],
)
def test_what_a_stream_cannot_have_is_refused(
    server: DoorServer, fields: dict[str, Any], field: str
) -> None:
    with opened(server) as socket:
        send(socket, {**START, **fields})
        events, _ = told(socket)
    assert [event["error"]["param"] for event in events] == [field]
    assert socket.close_code == 1008


def test_a_sentence_is_spoken_before_the_next_is_whole(server: DoorServer) -> None:
    with opened(server) as socket:
        send(socket, START)
        say(socket, "The first sentence is here. And the sec")
        events, audio = told(socket, "speech.sentence")
    assert events[-1]["text"] == "The first sentence is here."
    assert len(audio) > WAV_HEADER


def test_after_a_flush_all_audio_is_there_and_the_session_goes_on(server: DoorServer) -> None:
    with opened(server) as socket:
        send(socket, START)
        say(socket, "The first sentence is here")
        send(socket, FLUSH)
        events, audio = told(socket, "speech.flushed")
        assert types(events)[1:] == ["speech.sentence", "speech.flushed"]
        seconds = (len(audio) - WAV_HEADER) / 2 / 16_000
        assert seconds == pytest.approx(events[1]["end"] + 0.5, abs=0.001)  # and the gap after it
        say(socket, "and another")
        send(socket, CLOSE)
        more, _ = told(socket)
    assert types(more) == ["speech.sentence", "speech.done"]
    assert more[0]["start"] == pytest.approx(seconds, abs=0.001)
    assert more[0]["index"] == 1


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        *((kind, None) for kind in ("mp3", "opus", "aac", "flac", "pcm")),
        *((kind, 8_000) for kind in ("mp3", "opus", "aac", "pcm")),
        *(("aac", 16_000), ("mp3", 44_100)),
    ],
)
def test_a_flush_brings_the_sound_out_of_every_encoder(
    server: DoorServer, kind: str, asked: int | None, tmp_path: Path
) -> None:
    import av

    from worker.audio.live import LiveTrim  # noqa: F401 - as the sound that is heard

    asked_for = {"response_format": kind, "sample_rate": asked}
    with opened(server) as socket:
        send(socket, {**START, **asked_for, "multi_sentence_gap": 0})
        say(socket, "The first sentence is here")
        send(socket, FLUSH)
        events, audio = told(socket, "speech.flushed")
    end = events[1]["end"]
    assert events[0]["sample_rate"] == (asked or (24_000 if kind == "pcm" else 16_000))
    if kind == "pcm":
        assert len(audio) / 2 / (asked or 24_000) >= end
        return
    file = tmp_path / "audio"
    file.write_bytes(audio)
    with av.open(str(file)) as container:
        heard = [frame.to_ndarray() for frame in container.decode(audio=0)]
        rate = container.streams.audio[0].rate
    sound = np.concatenate(heard, axis=1)[0]
    if sound.dtype == np.int16:
        sound = sound / 32_768
    loud = np.flatnonzero(np.abs(sound) > 0.1)
    assert (loud[-1] - loud[0]) / rate > end - 0.01


def test_a_cancel_drops_what_is_not_given(server: DoorServer, parts: SmallParts) -> None:
    going = threading.Event()

    def hold(_sentence: int, piece: int) -> None:
        if piece == 2:
            going.wait(LONG)

    parts.engine.before_piece = hold
    with opened(server) as socket:
        send(socket, START)
        say(socket, "The first sentence is here. The second sentence is here. And the third")
        while not isinstance(socket.recv(LONG), bytes):
            pass
        send(socket, CANCEL)
        until(lambda: parts.engine.asked[-1].cancellation.cancelled, LONG)
        going.set()
        events, _ = told(socket, "speech.cancelled")
        assert "speech.sentence" not in types(events)
        say(socket, "What comes after")
        send(socket, CLOSE)
        events, _ = told(socket)
    assert types(events) == ["speech.sentence", "speech.done"]
    assert events[0]["text"] == "What comes after"
    assert events[1]["sentences"] == 1
    assert socket.close_code == 1000


def test_times_go_on_after_a_cancel_by_what_was_given(server: DoorServer) -> None:
    with opened(server) as socket:
        send(socket, START)
        audio = b""
        for _ in range(3):
            say(socket, "The first sentence is here. The second sentence is here")
            send(socket, CANCEL)
            audio += told(socket, "speech.cancelled")[1]
        say(socket, "What comes after")
        send(socket, CLOSE)
        events, rest = told(socket)
    spoken = next(event for event in events if event["type"] == "speech.sentence")
    given = max(0, len(audio) - WAV_HEADER) / 2 / 16_000
    assert spoken["start"] == pytest.approx(given, abs=0.001)
    whole = len(audio + rest) - WAV_HEADER
    assert events[-1]["duration"] == pytest.approx(whole / 2 / 16_000, abs=0.001)


def test_what_is_said_after_the_end_counts_for_nothing(server: DoorServer) -> None:
    with opened(server) as socket:
        send(socket, START)
        say(socket, "The sentence is here")
        send(socket, CLOSE, CLOSE, {"type": "text", "text": "Nothing."}, START)
        socket.send(b"nothing")
        assert types(told(socket)[0]) == ["session.started", "speech.sentence", "speech.done"]
    assert socket.close_code == 1000


def test_nothing_said_is_nothing_spoken(server: DoorServer, parts: SmallParts) -> None:
    with opened(server) as socket:
        send(socket, START, FLUSH, CANCEL, {"type": "text", "text": " ... \n"}, FLUSH, CLOSE)
        events, _ = told(socket)
    assert types(events) == [
        *("session.started", "speech.flushed", "speech.cancelled", "speech.flushed"),
        "speech.done",
    ]
    assert events[-1]["voice"] is None
    assert parts.engine.asked == []


@pytest.mark.parametrize(
    ("messages", "code", "field"),
    [
        ([b"bytes"], 1003, None),
        (["no json"], 1003, "type"),
        (["[1]"], 1003, "type"),
        (['{"type": 5}'], 1003, "type"),
        (["[" * 100_000], 1003, "type"),
        ([{"type": "text", "text": "Hello."}], 1008, "type"),
        ([{"type": "session.start", "text": "Hello."}], 1008, "text"),
        ([{"type": "session.start", "voice": "../x"}], 1008, "voice"),
        ([{"type": "session.start", "voice": "nobody"}], 1008, "voice"),
        ([{"type": "session.start", "colour": "red"}], 1008, "colour"),
        ([{"type": "session.start", "response_format": "gif"}], 1008, "response_format"),
        ([{"type": "session.start", "markup": True}], 1008, "markup"),
        ([{"type": "session.start", "turns": [{"text": "Hi."}]}], 1008, "turns"),
        ([START, START], 1008, "type"),
        ([START, {"type": "text"}], 1008, "text"),
        ([START, {"type": "text", "text": 5}], 1008, "text"),
        ([START, {"type": "text", "text": "x" * 301}], 1009, "text"),
        ([START, {"type": "flush", "now": True}], 1008, None),
        ([START, {"type": "text", "text": "Hello <|end|> there."}, FLUSH], 1008, "text"),
        ([START, {"type": "text", "text": "Hello \u0007 there."}, FLUSH], 1008, "text"),
        ([START, {"type": "text", "text": "Hello \ud800 there."}, FLUSH], 1008, "text"),
    ],
)
def test_what_is_wrong_is_told_and_ends_the_session(
    server: DoorServer, messages: list[Any], code: int, field: str | None
) -> None:
    with opened(server) as socket:
        for message in messages:
            socket.send(json.dumps(message) if isinstance(message, dict) else message)
        events, _ = told(socket)
    assert events[-1]["type"] == "error"
    assert events[-1]["error"]["param"] == field
    assert socket.close_code == code
    until(lambda: server.door.open_requests == 0, LONG)


def test_words_are_said_as_the_session_has_them(server: DoorServer, parts: SmallParts) -> None:
    with opened(server) as socket:
        send(socket, {**START, "pronunciations": {"SQL": "sequel"}, "markup": False})
        say(socket, "They learn SQL and more.")
        send(socket, CLOSE)
        events, _ = told(socket)
    assert parts.engine.begun == [("They learn sequel and more.", 0)]
    assert events[1]["text"] == "They learn SQL and more."
    assert "speaker" not in events[1]


def test_a_token_of_the_model_is_found_across_messages(server: DoorServer) -> None:
    with opened(server) as socket:
        send(socket, START)
        say(socket, "Hello there <|im_end|> my friend", 2)
        send(socket, FLUSH)
        assert code_of(socket) == 1008


def test_a_fault_that_comes_while_an_event_is_sent_ends_the_session(
    server: DoorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender is cancelled at the moment that its event is out, and heeds it."""
    sent = asyncio.Event()
    send_text = WebSocket.send_text

    async def send_when_told(socket: WebSocket, text: str) -> None:
        await send_text(socket, text)
        if json.loads(text)["type"] == "session.started":
            await sent.wait()

    def fail(_buffer: SentenceBuffer, _text: str) -> list[str]:
        sent.set()
        raise SynthesisError("no more")

    monkeypatch.setattr(WebSocket, "send_text", send_when_told)
    monkeypatch.setattr(SentenceBuffer, "feed", fail)
    with opened(server) as socket:
        send(socket, START)
        told(socket, "session.started")
        send(socket, {"type": "text", "text": "Hello."})
        assert code_of(socket) == 1011


def test_a_giant_frame_is_refused(server: DoorServer) -> None:
    with opened(server) as socket:
        send(socket, START)
        socket.send("x" * 2_000_000)
        assert code_of(socket) == 1009
    until(lambda: server.door.open_requests == 0, LONG)


def test_who_sends_on_is_told_why_and_not_cut_off(server: DoorServer) -> None:
    """A socket that is closed with something unread would be reset."""
    with create_connection(("127.0.0.1", server.port), LONG) as raw:
        raw.sendall(HANDSHAKE)
        answer = raw.makefile("rb")
        while answer.readline() != b"\r\n":
            pass
        raw.sendall(b"\x81\xff" + (2_000_000).to_bytes(8, "big") + b"mask" + b"x" * 60_000)
        opcode, length = answer.read(2)
        code = int.from_bytes(answer.read(length)[:2], "big")
        raw.sendall(b"x" * 60_000)
        assert (opcode, code, answer.read()) == (0x88, 1009, b"")
    until(lambda: server.door.open_requests == 0, LONG)


def test_a_failure_of_the_model_ends_the_session(server: DoorServer, parts: SmallParts) -> None:
    def fail(_text: str) -> None:
        raise SynthesisError("nothing came")

    parts.engine.before = fail
    with opened(server) as socket:
        send(socket, START)
        say(socket, TEXT)
        send(socket, CLOSE)
        events, _ = told(socket)
    assert events[-1]["error"]["message"] == "nothing came"
    assert socket.close_code == 1011


def test_sessions_count_as_open_requests(server: DoorServer) -> None:
    with opened(server) as first, opened(server) as second, opened(server) as third:
        for socket in (first, second):
            send(socket, START)
            told(socket, "session.started")
        send(third, START)
        events, _ = told(third)
        assert events[-1]["error"]["code"] == "busy"
        assert third.close_code == 1013
    until(lambda: server.door.open_requests == 0, LONG)
    with opened(server) as socket:
        send(socket, START, CLOSE)
        assert code_of(socket) == 1000


@pytest.mark.parametrize("leave", ["close", "abort", "half"])
def test_a_client_that_leaves_frees_its_place(
    server: DoorServer, parts: SmallParts, leave: str
) -> None:
    parts.engine.word = 5.0
    with opened(server) as socket:
        send(socket, START)
        say(socket, "The first sentence is here. The second sentence is here. And the third")
        while not isinstance(socket.recv(LONG), bytes):
            pass
        if leave == "abort":
            socket.socket.close()
        elif leave == "half":
            socket.socket.shutdown(SHUT_WR)
        else:
            socket.close()
        until(lambda: server.door.open_requests == 0, LONG)
    assert parts.engine.asked[-1].cancellation.cancelled


LONG_FLUSH = json.dumps(FLUSH) + " " * 10_000  # so that the connection's buffers are soon full
LONG_TEXT = json.dumps({"type": "text", "text": "The sentence is here. " * 13}) + " " * 10_000


class Flood:
    """Sends without end, from a thread."""

    def __init__(self, socket: ClientConnection, messages: Sequence[str]) -> None:
        self._socket = socket
        self._messages = messages
        self._sent = 0
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        with suppress(ConnectionClosed):
            for message in cycle(self._messages):
                self._socket.send(message)
                self._sent += 1

    def stands_still(self) -> bool:
        before = self._sent
        time.sleep(0.5)
        return 0 < before == self._sent

    def end(self) -> None:
        self._socket.socket.shutdown(SHUT_RDWR)
        self._thread.join(LONG)


@pytest.mark.parametrize("more", [LONG_TEXT, LONG_FLUSH], ids=["text", "flushes"])
def test_a_flood_is_read_no_faster_than_it_is_spoken(
    server: DoorServer, parts: SmallParts, more: str
) -> None:
    going = threading.Event()
    parts.engine.before = lambda _text: going.wait(LONG)
    with opened(server) as socket:
        send(socket, START)
        told(socket, "session.started")
        say(socket, "The first sentence. The second one. ")
        flood = Flood(socket, [more])
        try:
            until(flood.stands_still, LONG)
        finally:
            going.set()
            flood.end()
    until(lambda: server.door.open_requests == 0, LONG)


def quiet(parts: SmallParts, **settings: Any) -> AbstractContextManager[DoorServer]:
    return serving_door(parts, **settings)


def test_a_session_in_which_nothing_happens_ends(parts: SmallParts) -> None:
    with quiet(parts, http_idle_seconds=1) as server, opened(server) as socket:
        send(socket, START)
        events, _ = told(socket)
        assert events[-1]["error"]["code"] == "timeout"
        assert socket.close_code == 1008


def test_a_socket_on_which_no_session_starts_ends(parts: SmallParts) -> None:
    with quiet(parts, http_body_seconds=1) as server, opened(server) as socket:
        assert code_of(socket) == 1008


def test_a_client_that_takes_no_audio_ends(parts: SmallParts) -> None:
    parts.engine.word = 60.0
    with quiet(parts, http_idle_seconds=1) as server, opened(server, max_queue=1) as socket:
        send(socket, START)
        say(socket, "The first sentence is here. The second sentence is here. And the third")
        until(lambda: server.door.open_requests == 1, LONG)
        until(lambda: server.door.open_requests == 0, LONG)
        socket.socket.close()


def test_a_session_may_be_longer_than_a_request(parts: SmallParts) -> None:
    with quiet(parts, http_seconds=1) as server, opened(server) as socket:
        send(socket, START)
        told(socket, "session.started")
        threading.Event().wait(1.5)
        say(socket, "The sentence is here")
        send(socket, CLOSE)
        assert types(told(socket)[0]) == ["speech.sentence", "speech.done"]


def test_when_the_worker_ends_what_was_said_is_spoken(
    server: DoorServer, parts: SmallParts
) -> None:
    going = threading.Event()
    parts.engine.before = lambda _text: going.wait(LONG)
    with opened(server) as socket:
        send(socket, START)
        told(socket, "session.started")
        say(socket, "The first sentence is here. And the second")
        until(lambda: bool(parts.engine.asked), LONG)
        server.drain()
        going.set()
        events, _ = told(socket)
    assert types(events) == [*["speech.sentence"] * 2, "speech.done"]
    assert socket.close_code == 1012
    server.join()
    assert server.status == 0


def test_no_session_without_the_key(parts: SmallParts) -> None:
    with quiet(parts, api_key="secret") as server:
        with pytest.raises(InvalidStatus) as caught, opened(server):
            pass
        assert caught.value.response.status_code == 401
        headers = {"Authorization": "Bearer secret"}
        with opened(server, additional_headers=headers) as socket:
            send(socket, START, CLOSE)
            assert code_of(socket) == 1000


def test_no_session_for_a_page_of_another_origin(server: DoorServer) -> None:
    with pytest.raises(InvalidStatus) as caught, opened(server, origin="https://evil.example"):
        pass
    assert caught.value.response.status_code == 403
