"""Clients of ill will, and of ill luck, against a real worker process.

Each test leaves the worker as it found it: nobody inside, nothing spoken, nothing waiting. At the
end its log is read: lines of JSON alone, no fault of its own, no secret, and it stops with 0.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import DEMO_VOICE
from tests.support.http_worker import HttpWorker, http_serving
from tests.support.waiting import until
from tests.support.worker_process import NO_ALIGNER, environment

KEY = "key-of-the-operator"
SIGNATURE = "signature-of-a-url"
BODY = 2_000_000
SPEECH, OWN, BATCH = "/v1/audio/speech", "/v1/speech", "/v1/audio/speech/batch"
VOICES, STREAM = "/v1/audio/voices", "/v1/audio/speech/stream"
LONG_TEXT = "The old man went to the sea and looked at the water for a long time. " * 60
SECONDS = 60.0  # after which a test that waits has failed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the worker's storage and, beside it, what is nobody's business."""
    path = tmp_path_factory.mktemp("hostile")
    (path / "secret.json").write_text("{}")
    (path / "temp").mkdir()
    return path


@pytest.fixture(scope="module")
def victim(demo_volume: Path, folder: Path) -> Iterator[HttpWorker]:
    """One worker for all, with a key and little patience."""
    env = environment(
        demo_volume,
        API_KEY=KEY,
        HTTP_BODY_SECONDS="2",
        HTTP_MAX_BODY=str(BODY),
        HTTP_MAX_REQUESTS="8",
        DRAIN_SECONDS="2",
        TMPDIR=str(folder / "temp"),
        **NO_ALIGNER,
    )
    with http_serving(env, folder) as worker:
        yield worker


@pytest.fixture(scope="module")
def client(victim: HttpWorker) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(
        base_url=victim.url, timeout=SECONDS, trust_env=False, headers=headers
    ) as one:
        yield one


@pytest.fixture(autouse=True)
def unharmed(victim: HttpWorker, client: httpx.Client, folder: Path) -> Iterator[None]:
    """After each test nothing of it is left, and the next client is served."""
    yield
    if victim.process.returncode == 0:  # the last test has waited for its end
        return
    assert victim.process.poll() is None, victim.written()

    def quiet() -> bool:
        told = client.get("/health").json()
        return not any(told[what] for what in ("requests", "speaking", "waiting"))

    until(quiet, SECONDS)
    until(lambda: not list((folder / "temp").glob("*/*")), SECONDS)
    assert client.post(SPEECH, json={"input": "Hi."}).status_code == 200
    assert (folder / "secret.json").read_text() == "{}"


# Bytes


def connected(worker: HttpWorker) -> socket.socket:
    return socket.create_connection(("127.0.0.1", worker.port), SECONDS)


def head(method: str, path: str, *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: worker", f"X-API-Key: {KEY}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def request(path: str, body: object, *headers: str) -> bytes:
    content = json.dumps(body).encode()
    length = f"Content-Length: {len(content)}"
    return head("POST", path, "Content-Type: application/json", length, *headers) + content


def rest_of(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    got = b""
    try:
        while part := connection.recv(65_536):
            got += part
    except ConnectionResetError:  # it did not read all that was sent
        pass
    return got


def answer_to(worker: HttpWorker, *sent: bytes) -> bytes:
    """What a connection gets that says this, till the worker closes it."""
    with connected(worker) as connection:
        try:
            for part in sent:
                connection.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return rest_of(connection)


def resident(worker: HttpWorker) -> int:
    """Bytes of memory of the worker."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


# WebSockets, by hand: no client library sends what is wrong

UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)
CONT, TEXT, BINARY, CLOSE, PING = 0, 1, 2, 8, 9


def frame(kind: int, data: bytes = b"", *, last: bool = True) -> bytes:
    """A frame of a client (RFC 6455, 5.2), masked with zeros."""
    size = len(data)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65_536:
        length = bytes([0x80 | 126]) + struct.pack("!H", size)
    else:
        length = bytes([0x80 | 127]) + struct.pack("!Q", size)
    return bytes([last << 7 | kind]) + length + bytes(4) + data


def said(kind: str, **fields: object) -> bytes:
    return frame(TEXT, json.dumps({"type": kind, **fields}).encode())


START = said("session.start", voice="alloy")


def opened(worker: HttpWorker) -> socket.socket:
    """A WebSocket whose handshake is done."""
    connection = connected(worker)
    connection.sendall(head("GET", STREAM, *UPGRADE))
    assert connection.recv(4_096).startswith(b"HTTP/1.1 101 ")
    return connection


def close_code(got: bytes) -> int:
    """The code of the close frame, which is the last that came."""
    place = got.rindex(b"\x88")
    return int.from_bytes(got[place + 2 : place + 4], "big")


class TestKeys:
    @pytest.mark.parametrize(
        ("query", "headers"),
        [
            ("", {}),
            ("", {"Authorization": f"Bearer {KEY}x"}),
            ("", {"Authorization": f"Basic {KEY}"}),
            ("", {"Authorization": f"Bearer\t{KEY[:-1]}"}),
            ("", {"X-API-Key": KEY.upper(), "Cookie": f"key={KEY}"}),
            ("", {"X-API-Key": "\xe9" * 9_000}),
            (f"?api_key={KEY}&key={KEY}&access_token={KEY}", {}),
        ],
    )
    def test_no_route_takes_another(
        self, victim: HttpWorker, client: httpx.Client, query: str, headers: dict[str, str]
    ) -> None:
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        paths = client.get("/openapi.json").json()["paths"]
        open_ones = {"/ping", "/health", "/docs", "/openapi.json", "/"}
        asked = 0
        with httpx.Client(base_url=victim.url, trust_env=False) as stranger:
            for path in {*paths, STREAM} - open_ones:
                for method in ("GET", "POST"):
                    answer = stranger.request(method, path.split("{")[0] + query, headers=raw)
                    assert answer.status_code == 401, (method, path)
                    asked += 1
        assert asked > 15

    def test_a_websocket_without_it_is_refused(self, victim: HttpWorker) -> None:
        key = f"X-API-Key: {KEY}".encode()
        for instead in (b"X: y", b"X-API-Key: " + bytes([0xE9]), b"Sec-WebSocket-Protocol: k"):
            asked = head("GET", f"{STREAM}?api_key={KEY}", *UPGRADE).replace(key, instead)
            assert answer_to(victim, asked).startswith(b"HTTP/1.1 40")


WRONG = [
    b'{"input": "Hi.", "speed": NaN}',
    b'{"input": "Hi.", "temperature": -1e999}',
    b'{"input": "Hi.", "seed": ' + b"9" * 4_000 + b"}",
    b'{"input": "Hi.", "seed": ' + b"9" * 400_000 + b"}",
    b'{"input": "Hi.", "speed": ' + b"9" * 4_000 + b"}",
    b"[" * 400_000,
    b'{"input": "\\ud800"}',
    b'{"input": "\xed\xa0\x80"}',
    b'{"input": "a\\u0000b"}',
    b'{"input": "\xff"}',
    b"\x1f\x8b\x08\x00" + bytes(60),  # gzip
    '{"input": "😀"}'.encode(),
    '{"input": "好"}'.encode(),  # of which the embedded model has no token
    json.dumps({"input": "Hi.", **{f"k{i}": i for i in range(15_000)}}).encode(),
]
FILE = b"--b\r\nContent-Disposition: form-data; name=audio"


class TestBodies:
    def test_what_cannot_be_read_is_said_and_closed(self, victim: HttpWorker) -> None:
        json_type = "Content-Type: application/json"
        chunked = head("POST", SPEECH, json_type, "Transfer-Encoding: chunked")
        both = head("POST", SPEECH, json_type, "Transfer-Encoding: chunked", "Content-Length: 5")
        declared = head("POST", SPEECH, json_type, f"Content-Length: {BODY + 1}")
        for status, sent in (
            (b"400", [chunked, b"zz\r\n{}\r\n0\r\n\r\n"]),
            (b"400", [both, b"0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n"]),
            (b"413", [declared, b" " * (BODY + 1)]),
            (b"413", [chunked, *([b"20000\r\n" + b" " * 0x20000 + b"\r\n"] * 17), b"0\r\n\r\n"]),
            (b"408", [head("POST", SPEECH, json_type, "Content-Length: 9"), b'{"inp']),
            (b"408", [chunked, b"f" * 16 + b"\r\n{"]),  # the longest chunk that there is
        ):
            got = answer_to(victim, *sent)
            assert got.startswith(b"HTTP/1.1 " + status), (sent[0], got[:300])
            assert got.count(b"HTTP/1.1 ") == 1

    def test_what_is_wrong_in_it_is_a_short_400_or_413(self, client: httpx.Client) -> None:
        headers = {"Content-Type": "application/json"}
        for content in WRONG:
            answer = client.post(SPEECH, content=content, headers=headers)
            assert answer.status_code in (400, 413), content[:50]
            assert len(answer.content) < 2_000
            if b"9" * 5_000 in content:
                assert "too many digits" in answer.json()["error"]["message"]

    @pytest.mark.parametrize(
        "parts",
        [
            b"--b\r\n" * 300_000,
            b"--b\r\nContent-Disposition: form-data; name=name\r\n\r\nx\r\n" * 9_000,
            b"--b\r\n" + b"X: y\r\n" * 200_000,
            b"--b\r\nContent-Disposition: form-data; name=" + b"a" * 1_000_000,
            b"--b\r\nContent-Disposition: form-data; name=name\r\n\r\n" + b"a" * 1_000_000,
            FILE + b"; filename=../../secret.json\r\n\r\n[]\r\n--b--\r\n",
            b"{}",
        ],
        ids=["ends", "fields", "headers", "header", "field", "path", "none"],
    )
    def test_a_bomb_of_a_form_costs_no_more_than_its_bytes(
        self, client: httpx.Client, parts: bytes
    ) -> None:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = client.post(VOICES, content=parts, headers=headers)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"]


NAMES = ["..", "../secret", "..%2f..%2fsecret", "%2e%2e/secret", "a%00b", "%ff", "a%0d%0aX:%201"]


def test_no_name_leads_out_of_the_store(victim: HttpWorker, client: httpx.Client) -> None:
    for name in NAMES:
        leads_nowhere(victim, client, name)


def leads_nowhere(victim: HttpWorker, client: httpx.Client, name: str) -> None:
    for method in ("GET", "DELETE"):
        got = answer_to(victim, head(method, f"{VOICES}/{name}", "Connection: close"))
        assert got.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404"))
        assert b"\r\nX: 1" not in got
    form = {"name": name.replace("%2f", "/"), "consent": "Mine."}
    answer = client.post(VOICES, data=form, files={"audio": DEMO_VOICE.read_bytes()})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "name"


class TestWebSockets:
    @pytest.mark.parametrize(
        "extra", [["Content-Length: 5"], ["X: y"] * 150, [f"X: {'y' * 9_000}"]]
    )
    def test_a_handshake_that_is_none_is_answered(
        self, victim: HttpWorker, extra: list[str]
    ) -> None:
        got = answer_to(victim, head("GET", STREAM, *extra, *UPGRADE))
        assert got.startswith(b"HTTP/1.1 4")

    @pytest.mark.parametrize(
        ("sent", "code"),
        [
            (b"\x81\x05hello", 1002),  # not masked
            (b"\xf1\x80\0\0\0\0", 1002),  # reserved bits
            (frame(3), 1002),
            (frame(CONT, b"x"), 1002),
            (frame(PING, b"x" * 126), 1002),
            (frame(CLOSE, struct.pack("!H", 1005)), 1002),
            (frame(TEXT, b"\xff"), 1007),
            (b"\x81\xff" + struct.pack("!Q", 2**62) + bytes(4), 1009),
            (frame(TEXT, b"x" * 600_000, last=False) + frame(CONT, b"x" * 600_000), 1009),
            (frame(TEXT, last=False) + frame(CONT, last=False) * 1_000, 1009),
        ],
        ids=lambda sent: repr(sent[:8]) if isinstance(sent, bytes) else str(sent),
    )
    def test_what_is_no_message_ends_it(self, victim: HttpWorker, sent: bytes, code: int) -> None:
        with opened(victim) as connection:
            connection.sendall(sent)
            assert close_code(rest_of(connection)) == code

    @pytest.mark.parametrize(
        ("flood", "least"),
        [(frame(PING, b"x" * 125), 30_000_000), (said("flush"), 400_000)],
        ids=["pings", "flushes"],
    )
    def test_who_floods_and_does_not_read_fills_no_memory(
        self, victim: HttpWorker, flood: bytes, least: int
    ) -> None:
        with opened(victim) as connection:
            connection.sendall(START)
            before = resident(victim)
            connection.settimeout(2)
            sent = 0
            try:
                while sent < least:
                    sent += connection.send(flood * 500)
            except TimeoutError:  # it is not read on, which is as good
                pass
            assert resident(victim) - before < 15_000_000

    def test_many_sessions_beyond_the_limit_are_asked_to_come_again(
        self, victim: HttpWorker
    ) -> None:
        inside = [opened(victim) for _ in range(8)]
        try:
            for connection in inside:
                connection.sendall(START)
                assert b"session.started" in connection.recv(4_096)
            with opened(victim) as one_more:
                one_more.sendall(START)
                got = b""
                while b"\x88\x02" not in got:
                    got += one_more.recv(4_096)
                assert close_code(got) == 1013
        finally:
            for connection in inside:
                connection.close()


def leave(connection: socket.socket, how: str) -> None:
    """End a connection: in order, by a reset, or only to write."""
    if how == "half":
        connection.shutdown(socket.SHUT_WR)
        return
    if how == "reset":
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()


@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_who_leaves_in_any_phase_leaves_nothing(
    victim: HttpWorker, client: httpx.Client, how: str
) -> None:
    """The fixture waits until nobody is inside and nothing is spoken."""
    audio = {"input": LONG_TEXT, "response_format": "pcm"}
    items = {"items": [{"input": LONG_TEXT}] * 32}
    multipart = "Content-Type: multipart/form-data; boundary=b"
    form = head("POST", VOICES, multipart, "Content-Length: 9")
    phases: list[tuple[bytes, int]] = [
        (b"GET /", 0),
        (request(SPEECH, audio)[:-1], 0),
        (form + b"--b", 0),
        (request(SPEECH, audio), 0),
        (request(SPEECH, audio), 60_000),
        (request(OWN, {"text": LONG_TEXT, "stream": True}), 60_000),
        (request(OWN, {"text": LONG_TEXT}), 0),
        (request(BATCH, items), 0),
    ]
    left = []
    for sent, least in phases:
        connection = connected(victim)
        connection.sendall(sent)
        read = 0
        while read < least:
            read += len(connection.recv(8_192))
        left.append(connection)
    for text in (b"", said("text", text=LONG_TEXT)):
        connection = opened(victim)
        connection.sendall(START + text)
        assert connection.recv(8_192)
        left.append(connection)
    for connection in left:
        leave(connection, how)
    until(lambda: client.get("/health").json()["requests"] == 0, SECONDS)
    for connection in left:
        connection.close()


def test_a_crowd_is_answered_or_asked_to_come_again(victim: HttpWorker) -> None:
    crowd = [connected(victim) for _ in range(40)]
    for connection in crowd:
        connection.sendall(request(SPEECH, {"input": LONG_TEXT, "response_format": "pcm"}))
    heads = [connection.recv(500) for connection in crowd]
    statuses = [one[9:12] for one in heads]
    assert set(statuses) == {b"200", b"429"}
    assert 1 <= statuses.count(b"200") <= 8
    assert all(b"retry-after: " in one.lower() for one in heads if one[9:12] == b"429")
    for connection in crowd:
        connection.close()


def test_nothing_of_a_stranger_is_a_line_or_a_header(
    victim: HttpWorker, client: httpx.Client
) -> None:
    line = '\r\n{"event": "worker ends"}\r\nX-Evil: 1\r\n'
    url = f"https://127.0.0.1/x?X-Amz-Signature={SIGNATURE}"
    for body in (
        {"input": "Hi.", "instructions": line},
        {"input": "Hi.", "voice": line, line: line},
        {"input": "Hi.", "model": line},
        {"input": "Hi.", "prompt_speech_url": url},
    ):
        answer = client.post(SPEECH, json=body)
        assert "X-Evil" not in answer.headers
        assert SIGNATURE not in answer.text
    for path in ("/a%0d%0aX-Evil:%201", f"/v1/models/a%0a{KEY}", "/%1b[31m"):
        got = answer_to(victim, head("GET", path, "X-Request-Id: mine", "Connection: close"))
        assert got.startswith(b"HTTP/1.1 404 ")
        assert b"\r\nX-Evil" not in got
        assert b"mine" not in got


def test_at_its_end_its_log_is_clean_and_its_status_0(victim: HttpWorker) -> None:
    """The last of this module: it stops the worker while some are inside."""
    busy = opened(victim)
    busy.sendall(START + said("text", text=LONG_TEXT))
    unread = connected(victim)
    unread.sendall(request(SPEECH, {"input": LONG_TEXT, "response_format": "pcm"}))
    assert busy.recv(100)
    assert unread.recv(100).startswith(b"HTTP/1.1 200 ")
    victim.process.send_signal(signal.SIGTERM)
    assert victim.process.wait(SECONDS) == 0
    busy.close()
    unread.close()
    lines = victim.written().splitlines()
    assert [one for one in lines if not one.startswith("{")] == []
    events = [json.loads(one) for one in lines]
    assert [one for one in events if one["level"] == "ERROR"] == []
    assert sum(one["event"] == "worker ends" for one in events) == 1
    for secret in (KEY, SIGNATURE):
        assert secret not in victim.written()
