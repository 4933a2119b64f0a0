"""The server's life: it listens at once, loads, serves, drains and ends."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.events import Events
from tests.support.http_door import (
    LONG,
    SPEECH,
    DoorServer,
    serving_door,
    speech_request,
    starting_door,
)
from tests.support.small_components import TEXT, SmallParts, small_components
from tests.support.waiting import until
from tests.support.worker_process import free_port
from worker.components import Components
from worker.errors import DeviceError, SetupError
from worker.serve.http import server as server_module
from worker.serve.start_stages import StartStages

PCM = {"input": TEXT, "response_format": "pcm"}


@pytest.fixture
def parts(tmp_path: Path) -> SmallParts:
    return small_components(tmp_path)


class Held:
    """A point in the speech at which the engine waits until it is let go."""

    def __init__(self, parts: SmallParts, sentence: int = 1, piece: int = 1) -> None:
        self.reached = threading.Event()
        self._go = threading.Event()
        self._at = (sentence, piece)
        parts.engine.before_piece = self._before

    def _before(self, sentence: int, piece: int) -> None:
        if (sentence, piece) == self._at:
            self.reached.set()
            self._go.wait(LONG)

    def let_go(self) -> None:
        self._go.set()


def read(client: httpx.Client, at_first: Callable[[], object]) -> bytes:
    """The speech; `at_first` is called when its first bytes have come."""
    with client.stream("POST", SPEECH, json=PCM) as answer:
        parts = answer.iter_bytes()
        first = next(parts)
        at_first()
        return first + b"".join(parts)


@pytest.fixture
def held(parts: SmallParts) -> Iterator[Held]:
    point = Held(parts)
    yield point
    point.let_go()


class TestLoading:
    def test_health_answers_while_the_model_is_loaded_and_routes_say_why_not(
        self, parts: SmallParts
    ) -> None:
        loaded = threading.Event()

        def load() -> Components:
            assert loaded.wait(LONG)
            return parts.components

        with starting_door(load, health_check_path="/up") as server, server.client() as client:
            try:
                assert client.get("/ping").status_code == 204
                assert client.head("/up").status_code == 204
                refused = client.post(SPEECH, json=PCM)
                assert refused.status_code == 503
                assert refused.headers["Retry-After"].isdecimal()
                assert refused.json()["error"]["code"] == "not_ready"
                assert "loading" in refused.json()["error"]["message"]
            finally:
                loaded.set()
            server.wait_until_ready()
            assert client.get("/ping").status_code == 200
            assert client.get("/up").status_code == 200
            assert client.post(SPEECH, json=PCM).status_code == 200

    def test_the_first_request_is_told_how_the_worker_started(
        self, parts: SmallParts, events: Events
    ) -> None:
        stages = StartStages()

        def load() -> Components:
            with stages("model"):
                return parts.components

        with starting_door(load, stages=stages) as server, server.client() as client:
            server.wait_until_ready()
            until(lambda: events.of("worker started"), LONG)
            assert set(events.of("worker started")[0]["stages"]) == {"interpreter", "model"}
            answers = [client.post("/v1/speech", json={"text": TEXT}).json() for _ in range(2)]
            assert client.post(SPEECH, json=PCM).status_code == 200
        first, second = (answer["metrics"] for answer in answers)
        assert set(first["start"]) == {"interpreter", "model", "ready", "accepted", "answered"}
        assert first["start"]["ready"] <= first["start"]["accepted"] <= first["start"]["answered"]
        assert "start" not in second
        told = [fields["metrics"].get("start") for fields in events.of("job answered")]
        assert told == [first["start"], None, None]

    def test_a_stream_that_is_the_first_is_told_it_too(self, parts: SmallParts) -> None:
        with starting_door(lambda: parts.components, stages=StartStages()) as server:
            server.wait_until_ready()
            asked = {"text": TEXT, "stream": True}
            with server.client() as client:
                texts = [client.post("/v1/speech", json=asked).text for _ in range(2)]
        lines = [line for text in texts for line in text.splitlines() if '"speech.done"' in line]
        ends = [json.loads(line.removeprefix("data: ")) for line in lines]
        assert [set(end["metrics"].get("start", ())) for end in ends] == [
            {"interpreter", "ready", "accepted", "answered"},
            set(),
        ]

    def test_a_failed_load_ends_the_server_with_its_error(self) -> None:
        def load() -> Components:
            raise SetupError("the model is not there")

        with starting_door(load) as server:
            server.join()
        assert isinstance(server.error, SetupError)
        assert server.error.message == "the model is not there"

    def test_a_port_that_is_taken_is_named(self, parts: SmallParts) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            for setting, other in (("port", "port_health"), ("port_health", "port")):
                server = DoorServer(lambda: parts.components, **{setting: port, other: free_port()})
                server.start()
                server.join()
                assert isinstance(server.error, SetupError)
                assert server.error.message.startswith(f"{setting.upper()}: ")
                assert str(port) in server.error.message

    def test_an_address_that_is_not_this_machines_is_named(self, parts: SmallParts) -> None:
        server = DoorServer(lambda: parts.components, http_host="192.0.2.1")
        server.start()
        server.join()
        assert isinstance(server.error, SetupError)
        assert "HTTP_HOST" in server.error.message

    def test_health_has_a_port_of_its_own_where_one_is_set(self, parts: SmallParts) -> None:
        port = free_port()
        with serving_door(parts, port_health=port) as server, server.client() as client:
            assert httpx.get(f"http://127.0.0.1:{port}/ping").status_code == 200
            assert httpx.get(f"http://127.0.0.1:{port}/v1/models").status_code == 404
            assert client.get("/ping").status_code == 200


class TestDrain:
    def test_an_idle_server_ends_at_once_with_status_0(self, parts: SmallParts) -> None:
        with serving_door(parts) as server:
            server.drain()
            server.join()
        assert server.status == 0

    def test_a_stream_ends_whole_and_new_requests_are_sent_elsewhere(
        self, parts: SmallParts, held: Held
    ) -> None:
        with serving_door(parts) as server, server.client() as client:
            whole = None
            with client.stream("POST", SPEECH, json=PCM) as answer:
                got = answer.iter_bytes()
                first = next(got)
                assert held.reached.wait(LONG)
                server.drain()
                with server.client() as other:
                    assert other.get("/ping").status_code == 503
                    refused = other.post(SPEECH, json=PCM)
                assert refused.status_code == 503
                assert refused.headers["Retry-After"].isdecimal()
                assert refused.headers["Connection"] == "close"
                assert "ending" in refused.json()["error"]["message"]
                held.let_go()
                whole = first + b"".join(got)
            server.join()
        assert server.status == 0
        words, gaps = len(TEXT.split()), 2
        seconds = words * parts.engine.word + gaps * 0.3
        assert len(whole) / 2 / 24_000 == pytest.approx(seconds, abs=0.3)

    def test_what_is_not_done_in_time_is_cut_off_and_the_status_is_still_0(
        self, parts: SmallParts, held: Held
    ) -> None:
        with serving_door(parts, drain_seconds=1) as server, server.client() as client:

            def drained() -> None:
                assert held.reached.wait(LONG)
                server.drain()

            with pytest.raises(httpx.RemoteProtocolError):
                read(client, drained)
            held.let_go()
            server.join()
        assert server.status == 0

    def test_who_has_no_byte_yet_is_told_to_ask_again(
        self, parts: SmallParts, tmp_path: Path
    ) -> None:
        point = Held(parts, sentence=0)
        with serving_door(parts, drain_seconds=0) as server:
            answers: list[httpx.Response] = []

            def ask() -> None:
                with server.client() as client:
                    answers.append(client.post(SPEECH, json=PCM))

            asking = threading.Thread(target=ask)
            asking.start()
            try:
                assert point.reached.wait(LONG)
                server.drain()
                asking.join(LONG)
            finally:
                point.let_go()
            server.join()
        (answer,) = answers
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "not_ready"
        assert server.status == 0

    def test_a_client_that_does_not_read_holds_nobody_up(self, parts: SmallParts) -> None:
        parts.engine.word = 60.0  # more than all buffers hold
        with serving_door(parts, drain_seconds=1) as server, server.connect() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.sendall(speech_request(json.dumps(PCM).encode()))
            deaf.recv(100)
            until(lambda: server.door.open_requests == 1, LONG)
            server.drain()
            server.join()
        assert server.status == 0

    def test_an_idle_connection_holds_nobody_up(self, parts: SmallParts) -> None:
        with serving_door(parts) as server, server.client() as client, server.connect():
            assert client.get("/ping").status_code == 200  # and its connection stays open
            server.drain()
            server.join()
        assert server.status == 0

    def test_a_broken_device_drains_and_ends_with_status_1(self, parts: SmallParts) -> None:
        def breaks(_sentence: str) -> None:
            raise DeviceError("the GPU has fallen off the bus")

        parts.engine.before = breaks
        with serving_door(parts) as server, server.client() as client:
            answer = client.post(SPEECH, json=PCM)
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "device_failed"
            server.join()
        assert server.status == 1
        assert server.door.reason == "device_failed: the GPU has fallen off the bus"

    def test_the_second_interrupt_ends_the_drain(self, parts: SmallParts, held: Held) -> None:
        with serving_door(parts, drain_seconds=600) as server, server.client() as client:

            def interrupted_twice() -> None:
                assert held.reached.wait(LONG)
                for _ in range(2):
                    server.call(server_module._stop, server.door, signal.SIGINT)

            with pytest.raises(httpx.RemoteProtocolError):
                read(client, interrupted_twice)
            held.let_go()
            server.join()
        assert server.status == 0
        assert server.door.reason == "SIGINT"
