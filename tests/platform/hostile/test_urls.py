"""URLs that try to reach inside, against servers that really stand there.

The worker's own `download` and `keys` run unchanged. Of the loopback, 127.0.0.1 alone counts as
the public internet; on the same port of 127.0.0.2 and ::1 stand servers that must never hear
anything: a request that went astray would be accepted there, so it would be seen. The resolver
lies. tests/unit/worker/net/test_download.py has what is refused by the URL's form alone.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web

from tests.conftest import DEMO_VOICE
from tests.platform.hostile.desk import HostileDesk
from tests.support.https import Handler, HttpsServer, https_server
from worker.errors import DownloadError
from worker.net.download import Limits, fetch_blocking
from worker.net.public_addresses import is_public

PUBLIC = "127.0.0.1"
INSIDE = ("127.0.0.2", "::1")
FIELD = "prompt_speech_url"
VOICE = DEMO_VOICE.read_bytes()  # once: a read during a job would be taken for the worker's
SECONDS = 1.0  # of a download, in all

# 127.0.0.2 and ::1, each as some resolver, browser or C library reads them. {p} is the port.
LITERAL = [
    "https://127.0.0.2:{p}/",
    "https://127.0.0.2.:{p}/",
    "https://127.2:{p}/",
    "https://127.0.2:{p}/",
    "https://2130706434:{p}/",
    "https://0x7f000002:{p}/",
    "https://0x7F.0.0.2:{p}/",
    "https://0x7f.0x0.0x0.0x2:{p}/",
    "https://0177.0.0.2:{p}/",
    "https://0177.0000.0000.02:{p}/",
    "https://00000177.0.0.2:{p}/",
    "https://017700000002:{p}/",
    "https://127.0.0.0x2:{p}/",
    "https://127.0.0.258:{p}/",
    "https://6425673730:{p}/",
    "https://[::1]:{p}/",
    "https://[0000:0000::0001]:{p}/",
    "https://[::ffff:127.0.0.2]:{p}/",
    "https://[::ffff:7f00:2]:{p}/",
    "https://[0:0:0:0:0:FFFF:7F00:0002]:{p}/",
    "https://[::127.0.0.2]:{p}/",
    "https://[::ffff:0:127.0.0.2]:{p}/",
    "https://[64:ff9b::127.0.0.2]:{p}/",
    "https://[2002:7f00:2::1]:{p}/",
    "https://[::1%25lo]:{p}/",
    "https://[::1%lo]:{p}/",
    "https://１２７．０．０．２:{p}/",
    "https://127。0。0。2:{p}/",
    "https://①②⑦.⓪.⓪.②:{p}/",
    "https://%31%32%37.0.0.2:{p}/",
    "https://127.0.0.2%00.voice.example:{p}/",
    "https://127.0.0.2%23.voice.example:{p}/",
    "https://127.0.0.2%2f@voice.example:{p}/",
    "https://voice.example@127.0.0.2:{p}/",
    "https://voice.example:pass@127.0.0.2:{p}/",
    "https://voice.example%40127.0.0.2:{p}/",
    "https://voice.example;127.0.0.2:{p}/",
    "https://voice.example,127.0.0.2:{p}/",
    "https://127.0.0.2:{p}:443/",
    "https://127.0.0.2:{p}@voice.example/",
    "https://user@voice.example:{p}/plain",
    "https://:secret@voice.example:{p}/plain",
    "http://voice.example:{p}/plain",
    "https:127.0.0.2:{p}/",
    "https:/127.0.0.2:{p}/",
    "https:///127.0.0.2:{p}/",
    "https://\u200b127.0.0.2:{p}/",
    "gopher://127.0.0.2:{p}/_GET",
    "dict://127.0.0.2:{p}/info",
    "jar:https://127.0.0.2:{p}!/",
    "url:https://127.0.0.2:{p}/",
    "unix:///var/run/docker.sock",
    "\thttps://127.0.0.2:{p}/",
]

# What a name resolves to: one inside, alone, among others or in another form, is too many.
LIES: dict[str, list[str] | Exception] = {
    "one": ["127.0.0.2"],
    "first": ["127.0.0.2", "127.0.0.1"],
    "last": ["127.0.0.1", "127.0.0.2"],
    "six": ["::1"],
    "both": ["127.0.0.1", "::1"],
    "mapped": ["::ffff:127.0.0.2"],
    "translated": ["64:ff9b::7f00:2"],
    "tunnelled": ["2002:7f00:2::"],
    "zero": ["0.0.0.0"],
    "link": ["169.254.169.254"],
    "scope": ["fe80::1%lo"],
    "private": ["10.0.0.7"],
    "crowd": [*["127.0.0.1"] * 500, "192.168.0.1"],
    "words": ["localhost"],
    "octal": ["0177.0.0.2"],
    "decimal": ["2130706434"],
    "nothing": [""],
    "none": [],
    "fails": socket.gaierror(socket.EAI_FAIL, "no"),
    "stalls": TimeoutError("the resolver gave up"),
}

REDIRECTS = [
    "https://127.0.0.2:{p}/",
    "https://2130706434:{p}/",
    "https://0177.0.0.2:{p}/",
    "https://[::1]:{p}/",
    "https://[::ffff:127.0.0.2]:{p}/",
    "//127.0.0.2:{p}/",
    "https:\\\\127.0.0.2:{p}\\",
    "http://voice.example:{p}/plain",
    "https://user:secret@voice.example:{p}/plain",
    "https://one.example:{p}/",
    "https://mapped.example:{p}/",
    "https://voice.example:{p}/redirect?to=https%3A%2F%2F127.0.0.2%3A{p}%2F",
    "/redirect?to=/redirect%3Fto=//127.0.0.2:{p}/",
    "/loop",
    "ftp://127.0.0.2:{p}/",
    "file:///etc/passwd",
    "s3://bucket/voices/demo.wav",
    "data:audio/wav;base64,AAAA",
    "https://127.0.0.2%00.voice.example:{p}/",
    "https://[::1",
    "https://voice.example:99999/",
    "\x01https://127.0.0.2:{p}/",
]


async def plain(request: web.Request) -> web.StreamResponse:
    return web.Response(body=VOICE, content_type="audio/wav")


async def redirect(request: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": request.query["to"]})


async def loop(request: web.Request) -> web.StreamResponse:
    return web.Response(status=307, headers={"Location": "/loop"})


async def refresh(request: web.Request) -> web.StreamResponse:
    """A redirect of browsers, which a downloader must not follow."""
    return web.Response(
        body=b"<meta http-equiv=refresh content='0; url=https://127.0.0.2/'>",
        headers={"Refresh": "0; url=https://127.0.0.2/", "Content-Location": "https://127.0.0.2/"},
    )


def raw(*parts: bytes, again: bool = False, pause: float = 0.0) -> Handler:
    """Send bytes past aiohttp's own HTTP: all parts, the last one for ever where `again`."""

    async def send(request: web.Request) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        for part in parts:
            transport.write(part)
        while again and not transport.is_closing():
            if transport.get_write_buffer_size() < 1 << 20:  # type: ignore[attr-defined]
                transport.write(parts[-1])
            await asyncio.sleep(pause)
        transport.close()
        return web.Response()

    return send


OK = b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\n"
BODIES: dict[str, tuple[Handler, str]] = {
    "endless": (raw(OK + b"\r\n", bytes(65_536), again=True), "more than"),
    "endless_chunks": (
        raw(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + bytes(4096) + b"\r\n",
            again=True),
        "more than",
    ),
    "endless_header": (raw(OK, b"X-A: " + b"a" * 4096 + b"\r\n", again=True), "broke off|longer"),
    "long_header": (raw(OK + b"X-A: " + b"a" * 1_000_000 + b"\r\n\r\n"), "broke off"),
    "endless_continue": (raw(b"HTTP/1.1 100 Continue\r\n\r\n", again=True), "took longer|broke"),
    "huge": (raw(OK + b"Content-Length: 99999999999999\r\n\r\n"), "more than"),
    "huger": (raw(OK + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n"), "more than|broke off"),
    "negative": (raw(OK + b"Content-Length: -5\r\n\r\n12345"), "broke off|empty"),
    "two_lengths": (
        raw(OK + b"Content-Length: 5\r\nContent-Length: 50\r\n\r\n12345"), "broke off",
    ),
    "length_and_chunks": (
        raw(OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        "broke off|empty",
    ),
    "huge_chunk": (
        raw(OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc"), "broke off",
    ),
    "slow_body": (raw(OK + b"Content-Length: 100000\r\n\r\n", b".", again=True, pause=0.05),
                  "took longer"),
    "slow_header": (raw(OK, b"X: 1\r\n", again=True, pause=0.05), "took longer"),
    "silent": (raw(b"", again=True, pause=0.05), "took longer"),
    "gzip": (raw(OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"),
             "compressed"),
    "deflate_twice": (raw(OK + b"Content-Encoding: deflate, br\r\nContent-Length: 1\r\n\r\nx"),
                      "compressed"),
    "no_http": (raw(b"SSH-2.0-OpenSSH_9.2\r\n" * 50), "broke off"),
    "no_location": (raw(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), "redirects to no URL"),
    "two_locations": (
        raw(b"HTTP/1.1 302 Found\r\nLocation: //127.0.0.2/\r\nLocation: /plain\r\n"
            b"Content-Length: 0\r\n\r\n"),
        "not on the public internet",
    ),
    "switching": (raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nabc"),
                  "answered 101|broke off|took longer"),
    "needs_password": (
        raw(b"HTTP/1.1 401 U\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"), "401",
    ),
    "status_text": (
        raw(b"HTTP/1.1 500 \x1b[31mroot\x1b[0m\r\nContent-Length: 0\r\n\r\n"), "500|broke off",
    ),
    "refresh": (refresh, "cannot be decoded"),
}  # fmt: skip


class Names:
    """The lying resolver: voice.example is public, others as in LIES, `flip` changes its mind."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def __call__(self, host: str) -> list[str]:
        self.asked[host] += 1
        if host == "flip.example":
            return [PUBLIC] if self.asked[host] == 1 else ["127.0.0.2"]
        answer = LIES.get(host.removesuffix(".example"), [PUBLIC])
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextmanager
def listening(port: int) -> Iterator[list[str]]:
    """Servers on the inside that take any connection and note it."""
    heard: list[str] = []
    ends = threading.Event()

    def take(listener: socket.socket, address: str) -> None:
        while not ends.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                heard.append(address)
                connection.close()

    with ExitStack() as stack:
        threads = []
        for address in INSIDE:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listener = stack.enter_context(closing(socket.socket(family)))
            listener.bind((address, port))
            listener.listen()
            listener.settimeout(0.1)
            threads.append(threading.Thread(target=take, args=(listener, address), daemon=True))
        for thread in threads:
            thread.start()
        yield heard
        ends.set()
        for thread in threads:
            thread.join()


@pytest.fixture(scope="module")
def server() -> Iterator[HttpsServer]:
    handlers: dict[str, Handler] = {"plain": plain, "redirect": redirect, "loop": loop}
    handlers |= {name: handler for name, (handler, _) in BODIES.items()}
    names = ("voice.example", "flip.example", "other.example")
    with https_server({f"/{name}": h for name, h in handlers.items()}, *names) as server:
        yield server


@pytest.fixture(scope="module")
def inside(server: HttpsServer) -> Iterator[list[str]]:
    with listening(server.port) as heard:
        yield heard


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
def limits(server: HttpsServer, names: Names) -> Limits:
    return Limits(
        max_bytes=2_000_000,
        seconds=SECONDS,
        allow_address=lambda address: address == PUBLIC or is_public(address),
        resolve=names,
        ssl=server.trust,
    )


Refuse = Callable[[str], str]


@pytest.fixture
def refuse(
    desk: HostileDesk, server: HttpsServer, inside: list[str], limits: Limits, tmp_path: Path
) -> Refuse:
    """Give the message with which a URL is refused, at the queue's desk and at `download`.

    Nothing inside may hear of it, and no connection may go to anything but the public server.
    """
    desk.download_with(limits)

    def refuse(url: str) -> str:
        before = list(inside)
        refused, seen = desk.refuse({"text": "Hello.", FIELD: url})
        assert refused.field == FIELD
        assert refused.code in {"invalid_request", "download_failed", "invalid_voice"}
        assert seen.connected <= {(PUBLIC, server.port)}
        assert seen.looked_up <= {PUBLIC}, "names are for the resolver, which checks them"
        assert inside == before
        assert not {"secret", "pass@"} & {w for w in ("secret", "pass@") if w in refused.message}
        return refused.message

    return refuse


def test_there_are_many() -> None:
    assert len(set(LITERAL)) + len(LIES) + len(set(REDIRECTS)) + len(BODIES) >= 110


def test_the_servers_inside_would_hear(server: HttpsServer, inside: list[str]) -> None:
    for address in INSIDE:
        socket.create_connection((address, server.port), timeout=5).close()
    deadline = threading.Event()
    for _ in range(50):
        if set(inside) == set(INSIDE):
            break
        deadline.wait(0.1)
    assert set(inside) == set(INSIDE)


def test_an_honest_url_speaks(desk: HostileDesk, server: HttpsServer, limits: Limits) -> None:
    desk.download_with(limits)
    outcome = desk.submit({"text": "Hello.", FIELD: server.url("/plain"), "max_length": 64})
    assert outcome.answer is not None, outcome.refused
    assert outcome.seen.connected == {(PUBLIC, server.port)}


@pytest.mark.parametrize("url", LITERAL)
def test_addresses_inside_in_every_dress(
    refuse: Refuse, server: HttpsServer, names: Names, limits: Limits, tmp_path: Path, url: str
) -> None:
    url = url.format(p=server.port)
    before = len(server.seen)
    refuse(url)
    with pytest.raises(DownloadError) as caught:
        fetch_blocking(url, tmp_path / "clip", limits, field=FIELD)
    assert caught.value.message.isprintable()
    assert not (tmp_path / "clip").exists()
    assert len(server.seen) == before
    assert not names.asked


@pytest.mark.parametrize("name", LIES)
def test_names_that_lead_inside(refuse: Refuse, server: HttpsServer, name: str) -> None:
    before = len(server.seen)
    message = refuse(server.url("/plain", host=f"{name}.example"))
    assert f"{name}.example" in message
    assert len(server.seen) == before


def test_a_name_that_changes_between_check_and_use_is_asked_once(
    desk: HostileDesk, server: HttpsServer, inside: list[str], limits: Limits, names: Names
) -> None:
    desk.download_with(limits)
    before = list(inside)
    url = server.url("/plain", host="flip.example")
    outcome = desk.submit({"text": "Hello.", FIELD: url, "max_length": 64})
    assert outcome.answer is not None, outcome.refused
    assert names.asked == {"flip.example": 1}
    assert inside == before


def test_a_name_that_changes_between_two_hops_is_checked_again(
    refuse: Refuse, server: HttpsServer, names: Names
) -> None:
    target = quote(server.url("/plain", host="flip.example"), safe="")
    message = refuse(server.url(f"/redirect?to={target}", host="flip.example"))
    assert "flip.example is not on the public internet" in message
    assert names.asked == {"flip.example": 2}


@pytest.mark.parametrize("target", REDIRECTS)
def test_redirects_that_lead_inside(refuse: Refuse, server: HttpsServer, target: str) -> None:
    target = quote(target.format(p=server.port), safe="")
    refuse(server.url(f"/redirect?to={target}"))


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_do_not_end_or_lie(refuse: Refuse, server: HttpsServer, name: str) -> None:
    expected = BODIES[name][1].split("|")
    message = refuse(server.url(f"/{name}"))
    assert any(words in message for words in expected), message
