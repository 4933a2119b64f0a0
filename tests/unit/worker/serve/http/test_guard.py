"""What no route foresees: faults, broken connections, and what is no HTTP at all."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from tests.support.http_door import LONG, SPEECH, DoorServer, serving_door, speech_request
from tests.support.small_components import TEXT, SmallParts, small_components
from tests.support.waiting import until
from worker.logs import set_up_logging
from worker.serve.http import app as app_module
from worker.serve.http import connection as connection_module
from worker.serve.http import server as server_module
from worker.serve.http.door import Door

SECRET = "of-the-operator"


@pytest.fixture
def parts(tmp_path: Path) -> SmallParts:
    return small_components(tmp_path)


@pytest.fixture
def log(capfd: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    """All that is written to standard error, the worker's log among it, once `hear` was called."""
    return capfd


def hear() -> None:
    """Have the worker's log written; in a test, where standard error is what it captures."""
    set_up_logging("DEBUG", [SECRET])


def lines_of(log: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """All that was written, which must be lines of JSON."""
    return [json.loads(line) for line in log.readouterr().err.splitlines()]


@pytest.fixture
def broken(parts: SmallParts, monkeypatch: pytest.MonkeyPatch) -> Iterator[DoorServer]:
    """A server with routes that fail."""
    make = app_module.make_app

    def with_faults(door: Door) -> FastAPI:
        app = make(door)

        async def fails() -> None:
            raise RuntimeError(f"a fault with {SECRET}")

        async def fails_later() -> StreamingResponse:
            async def content() -> object:
                yield b"some"
                await asyncio.sleep(0.05)
                raise RuntimeError("a later fault")

            return StreamingResponse(content())

        app.add_api_route("/fails", fails)
        app.add_api_route("/fails-later", fails_later)
        return app

    monkeypatch.setattr(app_module, "make_app", with_faults)
    with serving_door(parts) as server:
        yield server


class TestFaults:
    def test_one_before_the_answer_is_told_without_its_reason(
        self, broken: DoorServer, log: pytest.CaptureFixture[str]
    ) -> None:
        hear()
        with broken.client() as client:
            answer = client.get("/fails")
        assert answer.status_code == 500
        error = answer.json()["error"]
        assert error["code"] == "internal_error"
        assert answer.headers["X-Request-Id"] in error["message"]
        assert "fault" not in answer.text
        lines: list[dict[str, object]] = []
        until(lambda: lines.extend(lines_of(log)) or lines, LONG)
        (line,) = lines
        assert (line["event"], line["level"]) == ("request failed", "ERROR")
        assert line["job"] == answer.headers["X-Request-Id"]
        assert "RuntimeError: a fault with ..." in str(line["traceback"])

    def test_one_in_the_midst_ends_the_connection(
        self, broken: DoorServer, log: pytest.CaptureFixture[str]
    ) -> None:
        hear()
        with broken.client() as client, pytest.raises(httpx.RemoteProtocolError):
            client.get("/fails-later")
        (line,) = lines_of(log)
        assert line["event"] == "request failed"
        assert "a later fault" in str(line["traceback"])

    def test_what_the_server_itself_fails_at_is_an_event(
        self, broken: DoorServer, log: pytest.CaptureFixture[str]
    ) -> None:
        hear()

        def fails() -> None:
            raise RuntimeError("in a callback")

        broken.call(fails)
        logging.getLogger("uvicorn.error").error("something of uvicorn's")
        lines: list[dict[str, object]] = []

        def both() -> bool:
            lines.extend(lines_of(log))
            return len(lines) == 2

        until(both, LONG)
        assert {line["event"] for line in lines} == {"http server failed"}


class TestRequestId:
    def test_each_answer_has_one_of_its_own(self, parts: SmallParts) -> None:
        with serving_door(parts, api_key="key", http_max_body=1_000) as server:
            key = {"X-API-Key": "key"}
            with server.client() as client:
                answers = [
                    client.get("/ping"),
                    client.get("/v1/models"),
                    client.get("/v1/models", headers=key),
                    client.get("/nothing", headers=key),
                    client.post(SPEECH, headers=key, json={"input": TEXT}),
                    client.post(SPEECH, headers=key, json={"input": 1}),
                    client.post(SPEECH, headers=key, content=b" " * 2_000),
                    client.get("/ping", headers={"X-Request-Id": "mine"}),
                ]
        ids = [answer.headers.get_list("X-Request-Id") for answer in answers]
        assert all(len(one) == 1 for one in ids)
        assert len({one[0] for one in ids}) == len(answers)
        assert ["mine"] not in ids  # results are stored under it


class TestNoHttp:
    @pytest.mark.parametrize(
        "sent",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,  # TLS
            b"GET / HTTP/1.1\r\n\r\n",  # without a Host
            b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 8_000 + b"\r\n",
            b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    )
    def test_it_is_answered_with_400_and_closed(
        self, parts: SmallParts, sent: bytes, log: pytest.CaptureFixture[str]
    ) -> None:
        hear()
        with serving_door(parts) as server, server.connect() as connection:
            log.readouterr()
            connection.sendall(sent)
            if sent.endswith(b"\r\n\r\n"):  # one that is whole may be followed by another
                connection.sendall(b"\0\r\n\r\n")
            got = b""
            try:
                while part := connection.recv(65_536):
                    got += part
            except ConnectionResetError:  # it had not read all that we sent
                pass
            until(lambda: server.connections == 0, LONG)
            assert [line["event"] for line in lines_of(log)] in (
                [],
                ["http ready"],
            )  # it may be late
            with server.client() as client:
                assert client.get("/ping").status_code == 200
        head, _, body = got.partition(b"\r\n\r\n")
        if got:
            assert head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
            assert b"x-request-id" in head.lower()
            assert json.loads(body)["error"]["type"] == "invalid_request_error"

    def test_a_head_that_does_not_come_is_not_waited_for(
        self, parts: SmallParts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connection_module, "HEAD_SECONDS", 0.5)
        with serving_door(parts) as server, server.connect() as silent, server.connect() as slow:
            slow.sendall(b"GET /ping HTTP/1.1\r\n")
            for connection in (silent, slow):
                assert ended(connection)

    def test_too_many_connections_are_closed(
        self, parts: SmallParts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connection_module, "CONNECTIONS", 2)
        with serving_door(parts) as server, server.connect(), server.connect():
            until(lambda: server.connections == 2, LONG)
            with server.connect() as third:
                assert ended(third)
            assert server.connections == 2

    def test_a_second_request_may_come_before_the_first_is_answered(
        self, parts: SmallParts
    ) -> None:
        with serving_door(parts) as server, server.connect() as connection:
            ping = b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"
            last = b"GET /ping HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            said = json.dumps({"input": TEXT, "response_format": "pcm"}).encode()
            connection.sendall(ping + speech_request(said) + last)
            got = b""
            while part := connection.recv(65_536):
                got += part
        assert got.count(b"HTTP/1.1 200 ") == 3


def ended(connection: socket.socket) -> bool:
    """Whether the other side closes the connection without a word."""
    connection.settimeout(LONG)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_the_log_holds_nothing_of_a_strangers_text(
    parts: SmallParts, log: pytest.CaptureFixture[str]
) -> None:
    hear()
    evil = '\r\n{"event": "worker ends"}\r\n'
    with serving_door(parts) as server, server.client() as client:
        assert client.get("/v1/models/a%0d%0a%7b%22event%22").status_code == 404
        answer = client.post(SPEECH, json={"input": TEXT, "voice": evil, "\r\nX": evil})
        assert answer.status_code == 400
        answer = client.get("/v1/models/a%0d%0aSet-Cookie:%20a=b")
        assert answer.status_code == 404
        assert "set-cookie" not in answer.headers
        assert client.get(f"/v1/models?{SECRET}").status_code == 200
    events = [line["event"] for line in lines_of(log)]
    assert events.count("worker ends") == 1  # our own
    assert SECRET not in json.dumps(events)


def test_uvicorn_is_told_what_a_websocket_may(parts: SmallParts) -> None:
    with serving_door(parts) as server:
        (uvicorn,) = server._server._servers
        assert uvicorn.config.ws_max_size == server_module.MESSAGE_BYTES == 1_000_000
        assert uvicorn.config.ws_ping_interval == 20
        assert uvicorn.config.ws_per_message_deflate is False
