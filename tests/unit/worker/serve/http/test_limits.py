"""The limits of a request: its key, its size, its time, and whose page it comes from."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.http_door import LONG, SPEECH, DoorServer, serving_door, speech_request
from tests.support.small_components import TEXT, SmallParts, small_components
from tests.support.waiting import until
from worker.logs import set_up_logging
from worker.serve.http import limits as limits_module
from worker.serve.http.connection import HEAD_BYTES
from worker.serve.http.limits import OPEN_PATHS
from worker.serve.http.origins import origins_of
from worker.settings import Settings

KEY = "k\u00e4y-1"
PAGE = "https://page.example"
SAID = {"input": TEXT, "response_format": "pcm"}
WEB_SOCKET = (
    "GET /v1/audio/speech/stream HTTP/1.1",
    "Host: worker",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


@pytest.fixture
def parts(tmp_path: Path) -> SmallParts:
    return small_components(tmp_path)


@pytest.fixture
def serve(parts: SmallParts) -> Iterator[Callable[..., httpx.Client]]:
    """Gives a client of a server with such settings."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def started(**settings: Any) -> httpx.Client:
            server = stack.enter_context(serving_door(parts, **settings))
            return stack.enter_context(server.client())

        yield started


def received(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    connection.settimeout(LONG)
    got = b""
    try:
        while part := connection.recv(65_536):
            got += part
    except ConnectionError:
        pass
    return got


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server that asks for a key."""
    parts = small_components(tmp_path_factory.mktemp("locked"))
    with serving_door(parts, api_key=KEY) as server, server.client() as client:
        yield client


class TestKey:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Authorization": f"Bearer {KEY}"},
            {"Authorization": f"bearer  {KEY}"},
            {"X-API-Key": KEY},
            {"X-API-Key": KEY, "Authorization": "Bearer of-the-load-balancer"},
        ],
    )
    def test_it_opens_the_door(self, locked: httpx.Client, headers: dict[str, str]) -> None:
        encoded = {name: value.encode() for name, value in headers.items()}
        assert locked.post(SPEECH, json=SAID, headers=encoded).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": b"Bearer"},
            {"Authorization": KEY.encode()},
            {"Authorization": b"Basic " + KEY.encode()},
            {"Authorization": b"Bearer " + KEY.encode()[:-1]},
            {"Authorization": b"Bearer " + KEY.encode() + b"1"},
            {"X-API-Key": b"\xff\xfe"},
            {"Cookie": b"key=" + KEY.encode()},
        ],
    )
    def test_nothing_else_does(
        self,
        locked: httpx.Client,
        headers: dict[str, bytes],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        set_up_logging("DEBUG")
        for method, path in (("POST", SPEECH), ("GET", "/v1/models"), ("GET", "/metrics")):
            answer = locked.request(method, path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            error = answer.json()["error"]
            assert (error["code"], error["type"]) == ("invalid_api_key", "authentication_error")
        assert locked.get(f"/v1/models?api_key={KEY}", headers=headers).status_code == 401
        assert "k\\u00e4y" not in capsys.readouterr().err

    def test_health_and_documents_need_none(self, serve: Callable[..., httpx.Client]) -> None:
        client = serve(api_key=KEY, health_check_path="/alive")
        for path in ("/alive", *OPEN_PATHS):
            assert client.get(path).status_code == 200, path
        assert client.get("/health").json() == {"status": "ready"}
        told = client.get("/health", headers={"X-API-Key": KEY.encode()}).json()
        assert told["model"] == "demo"
        assert (told["requests"], told["limit"], told["slots"]) == (0, 16, 16)

    def test_a_websocket_needs_it_too(self, parts: SmallParts) -> None:
        with serving_door(parts, api_key="key") as server, server.connect() as connection:
            head = [*WEB_SOCKET, "Sec-WebSocket-Protocol: key"]
            connection.sendall("\r\n".join([*head, "", ""]).encode())
            answer = received(connection)
        assert answer.startswith(b"HTTP/1.1 401 ")


class TestBody:
    def test_one_that_says_it_is_too_large_is_refused(
        self, serve: Callable[..., httpx.Client]
    ) -> None:
        client = serve(http_max_body=2_000)
        answer = client.post(SPEECH, content=b"x" * 3_000_000)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "too_large"
        assert "2000 bytes" in answer.json()["error"]["message"]

    def test_one_that_turns_out_to_be_too_large_is_refused(
        self, serve: Callable[..., httpx.Client]
    ) -> None:
        client = serve(http_max_body=2_000)

        def in_pieces() -> Iterator[bytes]:
            for _ in range(30):
                yield b" " * 100
                time.sleep(0.01)  # or they would come as one

        headers = {"Content-Type": "application/json"}
        answer = client.post(SPEECH, content=in_pieces(), headers=headers)
        assert answer.status_code == 413

    def test_who_asks_first_is_told_before_sending(self, parts: SmallParts) -> None:
        with (
            serving_door(parts, http_max_body=2_000) as server,
            server.connect() as connection,
        ):
            head = [f"POST {SPEECH} HTTP/1.1", "Host: worker", "Content-Length: 99999"]
            asked = "\r\n".join([*head, "Expect: 100-continue", "", ""])
            connection.sendall(asked.encode())
            assert received(connection).startswith(b"HTTP/1.1 413 ")

    def test_one_that_does_not_come_in_time_is_given_up(self, parts: SmallParts) -> None:
        with serving_door(parts, http_body_seconds=1) as server, server.connect() as connection:
            connection.sendall(speech_request(b'{"input": "a"}')[:-1])
            answer = received(connection)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"timeout"' in answer

    def test_all_together_have_a_bound_but_the_small_ones(
        self, parts: SmallParts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits_module, "BODIES_BYTES", 300_000)
        monkeypatch.setattr(limits_module, "UNCOUNTED_BYTES", 1_000)
        large = json.dumps(SAID).encode() + b" " * 69_000
        headers = {"Content-Type": "application/json"}
        with serving_door(parts, http_max_body=70_000) as server, server.client() as client:
            held = [server.connect() for _ in range(4)]
            for connection in held:
                connection.sendall(speech_request(large)[:-1])
            try:
                ask = partial(client.post, SPEECH, content=large, headers=headers)
                until(lambda: ask().status_code == 429, LONG)
                assert ask().json()["error"]["code"] == "busy"
                assert client.post(SPEECH, json=SAID).status_code == 200
            finally:
                for connection in held:
                    connection.close()
            until(lambda: ask().status_code == 200, LONG)

    def test_json_of_too_many_values_is_not_parsed(
        self, serve: Callable[..., httpx.Client]
    ) -> None:
        client = serve()
        headers = {"Content-Type": "application/json"}
        for content in (
            b'{"input": [' + b"0," * 1_000_000 + b"0]}",
            b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
            b" " * 8_000_001,
        ):
            answer = client.post(SPEECH, content=content, headers=headers)
            assert answer.status_code == 413
            assert answer.json()["error"]["code"] == "too_large"

    def test_a_text_is_too_long_from_one_character_on(
        self, serve: Callable[..., httpx.Client]
    ) -> None:
        client = serve(http_max_text=20)
        assert client.post(SPEECH, json={"input": f" {'a' * 20} "}).status_code == 200
        answer = client.post(SPEECH, json={"input": "a" * 21})
        assert answer.status_code == 413
        error = answer.json()["error"]
        assert (error["param"], error["code"]) == ("input", "too_large")
        assert "21 characters" in error["message"]


class TestOpenRequests:
    def test_one_too_many_is_asked_to_come_again(self, parts: SmallParts) -> None:
        reached, go = threading.Event(), threading.Event()

        def held(_sentence: int, _piece: int) -> None:
            reached.set()
            go.wait(LONG)

        parts.engine.before_piece = held
        with serving_door(parts, http_max_requests=1) as server, server.client() as client:
            first = threading.Thread(target=lambda: server.client().post(SPEECH, json=SAID))
            first.start()
            try:
                assert reached.wait(LONG)
                answer = client.post(SPEECH, json=SAID)
                assert answer.status_code == 429
                assert answer.headers["Retry-After"].isdecimal()
                error = answer.json()["error"]
                assert (error["code"], error["type"]) == ("busy", "rate_limit_error")
                assert client.get("/v1/models").status_code == 200
                assert client.get("/ping").status_code == 200
            finally:
                go.set()
            first.join(LONG)
            until(lambda: server.door.open_requests == 0, LONG)
            assert client.post(SPEECH, json=SAID).status_code == 200


class TestTime:
    def test_without_a_byte_it_is_408(self, parts: SmallParts) -> None:
        go = threading.Event()
        parts.engine.before_piece = lambda _sentence, _piece: go.wait(LONG)
        with serving_door(parts, http_seconds=1) as server, server.client() as client:
            answer = client.post(SPEECH, json=SAID)
            go.set()
            assert answer.status_code == 408
            assert answer.json()["error"]["code"] == "timeout"
            until(lambda: server.door.open_requests == 0, LONG)

    def test_after_the_first_byte_the_answer_is_cut_off(self, parts: SmallParts) -> None:
        go = threading.Event()
        parts.engine.before_piece = lambda sentence, _piece: sentence == 0 or go.wait(LONG)
        with serving_door(parts, http_seconds=2) as server, server.client() as client:
            with (
                client.stream("POST", SPEECH, json=SAID) as answer,
                pytest.raises(httpx.RemoteProtocolError),
            ):
                answer.read()
            go.set()
            assert answer.status_code == 200
            until(lambda: server.door.open_requests == 0, LONG)

    def test_who_does_not_read_is_cut_off(self, parts: SmallParts) -> None:
        parts.engine.word = 60.0
        with serving_door(parts, http_seconds=2) as server, server.connect() as deaf:
            deaf.sendall(speech_request(json.dumps(SAID).encode()))
            until(lambda: server.connections == 1, LONG)
            until(lambda: server.connections == 0, LONG)
            got = received(deaf)
        assert got.startswith(b"HTTP/1.1 200 ")
        assert not got.endswith(b"0\r\n\r\n")


class TestOrigins:
    def test_they_are_read_with_and_without_a_slash(self) -> None:
        settings = Settings(cors_origins=f"{PAGE}/ , https://other.example")
        assert origins_of(settings) == [PAGE, "https://other.example"]

    def test_cors_is_closed_where_nobody_is_named(self, serve: Callable[..., httpx.Client]) -> None:
        client = serve()
        asks = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
        for answer in (
            client.options(SPEECH, headers=asks),
            client.get("/v1/models", headers={"Origin": PAGE}),
        ):
            assert not [name for name in answer.headers if name.startswith("access-control")]

    @pytest.mark.parametrize("named", [f"{PAGE}/, https://other.example", "*"])
    def test_pages_that_are_named_may_ask_and_read(
        self, serve: Callable[..., httpx.Client], named: str
    ) -> None:
        client = serve(cors_origins=named, api_key="key")
        asks = {
            "Origin": PAGE,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, content-type, x-stainless-os",
        }
        allowed = client.options(SPEECH, headers=asks)  # brings no key, and cannot
        assert allowed.status_code == 200
        assert allowed.headers["Access-Control-Allow-Origin"] in (PAGE, "*")
        assert "x-stainless-os" in allowed.headers["Access-Control-Allow-Headers"].lower()
        with_key = {"Origin": PAGE, "Authorization": "Bearer key"}
        spoken = client.post(SPEECH, json=SAID, headers=with_key)
        assert spoken.headers["Access-Control-Allow-Origin"] in (PAGE, "*")
        assert "X-Request-Id" in spoken.headers["Access-Control-Expose-Headers"]
        # So that the page can show what is wrong.
        refused = client.post(SPEECH, json=SAID, headers={"Origin": PAGE})
        assert refused.status_code == 401
        assert refused.headers["Access-Control-Allow-Origin"] in (PAGE, "*")

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({}, 200),  # of no browser
            ({"Origin": PAGE}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": "http://worker:8000"}, 200),  # as the Host below
            ({"Origin": "http://worker:9000"}, 403),
            ({"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}, 403),
            ({"Origin": PAGE, "Sec-Fetch-Site": "same-origin"}, 200),  # behind a load balancer
        ],
    )
    def test_pages_that_are_not_named_may_have_nothing_done(
        self, serve: Callable[..., httpx.Client], headers: dict[str, str], status: int
    ) -> None:
        client = serve(http_host="0.0.0.0")
        answer = client.post(SPEECH, json=SAID, headers={"Host": "worker:8000", **headers})
        assert answer.status_code == status
        if status == 403:
            assert answer.json()["error"]["code"] == "origin_not_allowed"
            assert "CORS_ORIGINS" in answer.json()["error"]["message"]

    def test_on_the_loopback_no_name_may_have_been_led_here(
        self, serve: Callable[..., httpx.Client]
    ) -> None:
        client = serve()
        for host in ("127.0.0.1:1", "localhost:1", "[::1]:1"):
            headers = {"Host": host, "Origin": f"http://{host}"}
            assert client.post(SPEECH, json=SAID, headers=headers).status_code == 200
        for site in ({}, {"Sec-Fetch-Site": "same-origin"}):
            headers = {"Host": "evil.example:1", "Origin": "http://evil.example:1", **site}
            assert client.post(SPEECH, json=SAID, headers=headers).status_code == 403

    def test_a_websocket_of_such_a_page_is_refused(self, parts: SmallParts) -> None:
        with serving_door(parts) as server, server.connect() as connection:
            connection.sendall("\r\n".join([*WEB_SOCKET, f"Origin: {PAGE}", "", ""]).encode())
            assert received(connection).startswith(b"HTTP/1.1 403 ")


def test_a_head_may_be_as_large_as_most_servers_take(serve: Callable[..., httpx.Client]) -> None:
    client = serve()
    for size, status in ((HEAD_BYTES // 2, 200), (HEAD_BYTES, 431)):
        assert client.get("/ping", headers={"Cookie": "a" * size}).status_code == status


def test_a_server_takes_the_next_request_after_each_refusal(parts: SmallParts) -> None:
    with serving_door(parts, http_max_body=2_000, api_key="key") as server:
        for headers, content in (({}, b"{}"), ({"X-API-Key": "key"}, b"x" * 9_000)):
            with server.client() as client:
                assert client.post(SPEECH, content=content, headers=headers).status_code >= 400
        with server.client(headers={"X-API-Key": "key"}) as client:
            assert client.post(SPEECH, json=SAID).status_code == 200


@pytest.fixture
def server(parts: SmallParts) -> Iterator[DoorServer]:
    with serving_door(parts) as door:
        yield door


class TestLeaving:
    """A client that goes away frees its rows at once."""

    def leave(self, connection: socket.socket, how: str) -> None:
        if how == "half":
            connection.shutdown(socket.SHUT_WR)
        else:
            connection.close()

    @pytest.mark.parametrize("how", ["half", "whole"])
    def test_before_the_first_byte(self, parts: SmallParts, server: DoorServer, how: str) -> None:
        reached, cancelled = threading.Event(), threading.Event()

        def held(_sentence: str) -> None:
            cancellation = parts.engine.asked[-1].cancellation
            assert cancellation is not None
            cancellation.call(cancelled.set)
            reached.set()
            assert cancelled.wait(LONG)

        parts.engine.before = held
        connection = server.connect()
        connection.sendall(speech_request(json.dumps(SAID).encode()))
        assert reached.wait(LONG)
        self.leave(connection, how)
        assert cancelled.wait(LONG)
        until(lambda: server.door.open_requests == 0, LONG)
        assert parts.engine.closed == len(parts.engine.asked) == 1
        connection.close()

    @pytest.mark.parametrize("how", ["half", "whole"])
    @pytest.mark.parametrize("reads", [True, False])
    def test_in_the_midst(
        self, parts: SmallParts, server: DoorServer, how: str, reads: bool
    ) -> None:
        if not reads:
            parts.engine.word = 60.0
        reached, cancelled = threading.Event(), threading.Event()

        def held(sentence: int, piece: int) -> None:
            if (sentence, piece) == (0, 2) or (reads and sentence > 0):
                cancellation = parts.engine.asked[-1].cancellation
                assert cancellation is not None
                cancellation.call(cancelled.set)
                reached.set()
                if reads:
                    assert cancelled.wait(LONG)

        parts.engine.before_piece = held
        connection = server.connect()
        connection.sendall(speech_request(json.dumps(SAID).encode()))
        assert connection.recv(200).startswith(b"HTTP/1.1 200 ")
        assert reached.wait(LONG)
        self.leave(connection, how)
        assert cancelled.wait(LONG)
        until(lambda: server.door.open_requests == 0, LONG)
        assert parts.engine.closed == len(parts.engine.asked)
        connection.close()
