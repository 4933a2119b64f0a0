from __future__ import annotations

import asyncio
import errno
import gzip
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web

from tests.support.https import HttpsServer, https_server
from worker.errors import DownloadError
from worker.net.download import Limits, fetch, fetch_blocking, resolve
from worker.net.public_addresses import is_public

CONTENT = bytes(range(256)) * 400
FIELD = "prompt_speech_url"


def connected(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()


async def plain(request: web.Request) -> web.Response:
    return web.Response(body=CONTENT, content_type="audio/wav")


async def empty(request: web.Request) -> web.Response:
    return web.Response()


async def missing(request: web.Request) -> web.Response:
    return web.Response(status=404, text="the secret of the server")


async def redirect(request: web.Request) -> web.Response:
    """To ?to=..., with the status ?status=..."""
    location = request.query.get("to")
    headers = {"Location": location} if location else {}
    return web.Response(status=int(request.query.get("status", "302")), headers=headers)


async def hop(request: web.Request) -> web.Response:
    """?left=n: n more redirects."""
    left = int(request.query["left"])
    if not left:
        return await plain(request)
    return web.Response(status=307, headers={"Location": f"/hop?left={left - 1}"})


async def endless(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    while connected(request):
        await answer.write(CONTENT)
        await asyncio.sleep(0)
    return answer


async def drip(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    while connected(request):
        await answer.write(b".")
        await asyncio.sleep(0.02)
    return answer


async def slow(request: web.Request) -> web.StreamResponse:
    """Ends, after most of a second."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    for _ in range(40):
        if connected(request):
            await answer.write(b".")
            await asyncio.sleep(0.02)
    return answer


async def silent(request: web.Request) -> web.StreamResponse:
    while connected(request):
        await asyncio.sleep(0.02)
    return web.Response()


async def cut(request: web.Request) -> web.StreamResponse:
    """Promises more than it sends."""
    answer = web.StreamResponse(headers={"Content-Length": str(2 * len(CONTENT))})
    await answer.prepare(request)
    await answer.write(CONTENT)
    request.transport.close()
    return answer


async def large(request: web.Request) -> web.StreamResponse:
    """Says how large it is and sends nothing."""
    answer = web.StreamResponse(headers={"Content-Length": "999999999"})
    await answer.prepare(request)
    while connected(request):
        await asyncio.sleep(0.02)
    return answer


async def bomb(request: web.Request) -> web.Response:
    body = gzip.compress(bytes(50_000_000))
    return web.Response(body=body, headers={"Content-Encoding": "gzip"})


async def chunked(request: web.Request) -> web.StreamResponse:
    """Does not say how long it is."""
    answer = web.StreamResponse()
    answer.enable_chunked_encoding()
    await answer.prepare(request)
    await answer.write(CONTENT)
    return answer


async def page(request: web.Request) -> web.Response:
    """Says that it is no audio, and that it is not packed."""
    headers = {"Content-Encoding": " Identity "}
    return web.Response(body=CONTENT, content_type="text/html", headers=headers)


async def cookie(request: web.Request) -> web.Response:
    answer = web.Response(status=302, headers={"Location": "/plain?after"})
    answer.set_cookie("session", "1")
    return answer


async def garbage(request: web.Request) -> web.StreamResponse:
    request.transport.write(b"\x00\x01 this is no HTTP\r\n\r\n")
    request.transport.close()
    return web.Response()


@pytest.fixture(scope="module")
def server():
    handlers = (
        plain,
        empty,
        missing,
        redirect,
        hop,
        endless,
        drip,
        slow,
        silent,
        cut,
        large,
        bomb,
        chunked,
        page,
        cookie,
        garbage,
    )
    routes = {f"/{handler.__name__}": handler for handler in handlers}
    names = ("voice.example", "other.example", "127.0.0.1")
    with https_server(routes, *names) as server:
        yield server


class Names:
    """A resolver whose answers may change from call to call; the last one stays."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def limits(server: HttpsServer, resolve: Callable | None = None, **changed: object) -> Limits:
    """As in earnest, but that the loopback's 127.0.0.1, and it alone, counts as public."""
    values = {
        "allow_address": lambda address: address == "127.0.0.1",
        "resolve": resolve or Names(["127.0.0.1"]),
        "ssl": server.trust,
        "seconds": 10,
    }
    return Limits(**(values | changed))


def refused(server: HttpsServer, folder: Path, url: str, **changed: object) -> str:
    """The message with which `url` is refused; nothing may be left in `folder`."""
    with pytest.raises(DownloadError) as caught:
        fetch_blocking(url, folder / "clip", limits(server, **changed), field=FIELD)
    assert list(folder.iterdir()) == []
    assert caught.value.field == FIELD
    assert caught.value.code == "download_failed"
    assert str(folder) not in caught.value.message
    return caught.value.message


class TestWhatIsFetched:
    def test_the_bytes_of_an_https_url(self, server, tmp_path):
        into = tmp_path / "clip"
        assert fetch_blocking(server.url("/plain?sig=1"), into, limits(server)) == into
        assert into.read_bytes() == CONTENT
        assert list(tmp_path.iterdir()) == [into]

    def test_from_an_event_loop_too(self, server, tmp_path):
        asyncio.run(fetch(server.url("/plain"), tmp_path / "clip", limits(server)))
        assert (tmp_path / "clip").read_bytes() == CONTENT

    def test_from_an_address_that_is_allowed(self, server, tmp_path):
        names = Names([])
        url = server.url("/plain", host="127.0.0.1")
        fetch_blocking(url, tmp_path / "clip", limits(server, names))
        assert names.asked == []

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_through_a_redirect(self, server, tmp_path, status):
        target = server.url("/plain", host="other.example")
        names = Names(["127.0.0.1"])
        url = server.url(f"/redirect?status={status}&to={target}")
        fetch_blocking(url, tmp_path / "clip", limits(server, names))
        assert (tmp_path / "clip").read_bytes() == CONTENT
        assert names.asked == ["voice.example", "other.example"]

    def test_through_as_many_redirects_as_allowed(self, server, tmp_path):
        fetch_blocking(server.url("/hop?left=3"), tmp_path / "clip", limits(server))
        assert (tmp_path / "clip").read_bytes() == CONTENT
        message = refused_in(tmp_path, server, "/hop?left=4")
        assert "redirects more than 3 times" in message

    def test_up_to_the_last_byte_allowed(self, server, tmp_path):
        exact = limits(server, max_bytes=len(CONTENT))
        fetch_blocking(server.url("/plain"), tmp_path / "clip", exact)
        assert (tmp_path / "clip").stat().st_size == len(CONTENT)

    @pytest.mark.parametrize("path", ["/chunked", "/plain", "/page"])
    def test_not_a_byte_more_however_it_is_sent(self, server, tmp_path, path):
        exact = limits(server, max_bytes=len(CONTENT))
        into = fetch_blocking(server.url(path), tmp_path / "clip", exact)
        assert into.read_bytes() == CONTENT
        into.unlink()
        words = refused(server, tmp_path, server.url(path), max_bytes=len(CONTENT) - 1)
        assert f"more than {len(CONTENT) - 1} bytes" in words

    def test_whatever_type_the_server_says_it_is(self, server, tmp_path):
        """What it really is, is seen when it is read."""
        fetch_blocking(server.url("/page"), tmp_path / "clip", limits(server))
        assert (tmp_path / "clip").read_bytes() == CONTENT

    def test_without_redirects_where_none_are_allowed(self, server, tmp_path):
        none = limits(server, redirects=0)
        fetch_blocking(server.url("/plain"), tmp_path / "clip", none).unlink()
        message = refused(server, tmp_path, server.url("/hop?left=1"), redirects=0)
        assert message.startswith("the URL redirects more than 0 times; ")

    def test_what_was_there_is_replaced_or_stays(self, server, tmp_path):
        into = tmp_path / "clip"
        into.write_bytes(b"old")
        with pytest.raises(DownloadError):
            fetch_blocking(server.url("/cut"), into, limits(server))
        assert into.read_bytes() == b"old"
        fetch_blocking(server.url("/plain"), into, limits(server))
        assert into.read_bytes() == CONTENT

    def test_proxies_of_the_environment_are_not_used(self, server, tmp_path, monkeypatch):
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        fetch_blocking(server.url("/plain"), tmp_path / "clip", limits(server))

    def test_the_request_carries_no_cookies_and_asks_for_no_packing(self, server, tmp_path):
        fetch_blocking(server.url("/plain?note"), tmp_path / "clip", limits(server))
        headers = next(headers for path, headers in server.seen if path == "/plain?note")
        assert headers["Accept-Encoding"] == "identity"
        assert headers["Accept"] == "audio/*, */*;q=0.5"
        assert headers["Host"] == f"voice.example:{server.port}"
        assert not {"Cookie", "Authorization", "Referer"} & set(headers)

    def test_what_one_hop_sets_the_next_does_not_get(self, server, tmp_path):
        fetch_blocking(server.url("/cookie"), tmp_path / "clip", limits(server))
        headers = next(headers for path, headers in server.seen if path == "/plain?after")
        assert not {"Cookie", "Authorization", "Referer"} & set(headers)


def test_what_is_allowed_where_nothing_is_said():
    """docs/API.md and the handler count on these."""
    usual = Limits()
    assert (usual.max_bytes, usual.seconds, usual.redirects) == (25_000_000, 30, 3)
    assert usual.allow_address is is_public
    assert usual.resolve is resolve
    assert usual.ssl is None


def refused_in(tmp_path: Path, server: HttpsServer, path: str) -> str:
    folder = tmp_path / "refused"
    folder.mkdir()
    return refused(server, folder, server.url(path))


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("path", "words"),
        [
            ("/missing", "answered 404"),
            ("/empty", "is empty"),
            ("/cut", "broke off"),
            ("/garbage", "broke off"),
            ("/large", "more than 25000000 bytes"),
            ("/bomb", "the server sent the file compressed"),
            ("/redirect", "redirects to no URL"),
            ("/redirect?status=304", "answered 304"),
            ("/redirect?status=300&to=/plain", "answered 300"),
            ("/redirect?status=201", "answered 201"),
            ("/redirect?status=204", "answered 204"),
            ("/redirect?status=206", "answered 206"),
            ("/redirect?status=401", "answered 401"),
            ("/redirect?status=503", "answered 503"),
            ("/redirect?to=https://[::1", "redirects to no URL"),
        ],
    )
    def test_bad_answers(self, server, tmp_path, path, words):
        message = refused(server, tmp_path, server.url(path))
        assert words in message
        assert "secret" not in message

    def test_an_endless_body_ends_at_the_limit(self, server, tmp_path):
        message = refused(server, tmp_path, server.url("/endless"), max_bytes=1_000_000)
        assert "more than 1000000 bytes" in message

    @pytest.mark.parametrize("path", ["/drip", "/silent", "/redirect?to=/drip"])
    def test_slowness_ends_at_the_deadline(self, server, tmp_path, path):
        message = refused(server, tmp_path, server.url(path), seconds=0.4)
        assert "took longer than 0.4 s" in message

    def test_the_deadline_holds_without_redirects_too(self, server, tmp_path):
        message = refused(server, tmp_path, server.url("/slow"), seconds=0.2, redirects=0)
        assert "took longer than 0.2 s" in message

    def test_a_slow_resolver_ends_at_the_deadline(self, server, tmp_path):
        async def never(host: str) -> list[str]:
            await asyncio.sleep(60)
            return []

        message = refused(server, tmp_path, server.url("/plain"), resolve=never, seconds=0.2)
        assert "took longer than 0.2 s" in message

    def test_a_server_that_accepts_and_says_nothing_ends_at_the_deadline(self, server, tmp_path):
        with socket.socket() as mute:
            mute.bind(("127.0.0.1", 0))
            mute.listen()
            url = f"https://voice.example:{mute.getsockname()[1]}/"
            assert "took longer" in refused(server, tmp_path, url, seconds=0.3)

    def test_the_query_is_not_repeated(self, server, tmp_path):
        message = refused(server, tmp_path, server.url("/missing?sig=hidden#part"))
        assert f"https://voice.example:{server.port}/missing?...: " in message
        assert "hidden" not in message

    def test_a_long_url_is_cut(self, server, tmp_path):
        message = refused(server, tmp_path, server.url("/missing/" + "x" * 1_000))
        assert message.startswith(f"https://voice.example:{server.port}/missing/xxx")
        assert len(message) < 250

    def test_by_default_only_the_systems_authorities_are_trusted(self, server, tmp_path):
        message = refused(server, tmp_path, server.url("/plain"), ssl=None)
        assert "certificate is not trusted" in message

    def test_a_full_disk(self, server, tmp_path, monkeypatch):
        def refuse(part: Path, into: Path) -> Path:
            raise OSError(errno.ENOSPC, "No space left on device", str(part))

        monkeypatch.setattr(Path, "replace", refuse)
        message = refused(server, tmp_path, server.url("/plain"))
        assert message.endswith("/plain could not be stored: No space left on device")

    def test_a_certificate_of_an_unknown_authority(self, server, tmp_path):
        message = refused(server, tmp_path, server.url("/plain"), ssl=ssl.create_default_context())
        assert "certificate is not trusted" in message

    def test_a_certificate_for_another_name(self, server, tmp_path):
        message = refused(server, tmp_path, server.url("/plain", host="third.example"))
        assert "certificate is not trusted" in message

    def test_a_closed_port(self, server, tmp_path):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
        message = refused(server, tmp_path, f"https://voice.example:{port}/x")
        assert "cannot be reached" in message

    def test_a_folder_that_is_not_there(self, server, tmp_path):
        with pytest.raises(DownloadError, match="could not be stored") as caught:
            fetch_blocking(server.url("/plain"), tmp_path / "gone" / "clip", limits(server))
        assert str(tmp_path) not in caught.value.message

    def test_a_cancelled_download_leaves_nothing(self, server, tmp_path):
        async def cancel() -> None:
            task = asyncio.create_task(
                fetch(server.url("/drip"), tmp_path / "clip", limits(server))
            )
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(cancel())
        assert list(tmp_path.iterdir()) == []


class TestNames:
    def test_the_connection_goes_to_the_address_that_was_checked(self, server, tmp_path):
        names = Names(["127.0.0.1"], ["169.254.169.254"])  # the second answer is never asked for
        fetch_blocking(server.url("/plain"), tmp_path / "clip", limits(server, names))
        assert names.asked == ["voice.example"]

    def test_a_name_is_checked_again_at_each_hop(self, server, tmp_path):
        names = Names(["127.0.0.1"], ["169.254.169.254"])
        message = refused(server, tmp_path, server.url("/hop?left=1"), resolve=names)
        assert "voice.example is not on the public internet" in message
        assert names.asked == ["voice.example", "voice.example"]

    @pytest.mark.parametrize(
        "addresses",
        [
            ["10.0.0.1"],
            ["127.0.0.1", "10.0.0.1"],
            ["10.0.0.1", "127.0.0.1"],
            ["::1"],
            ["::ffff:127.0.0.1"],
            ["fe80::1%lo"],
        ],
    )
    def test_one_address_that_is_not_allowed_is_enough(self, server, tmp_path, addresses):
        message = refused(server, tmp_path, server.url("/plain"), resolve=Names(addresses))
        assert "not on the public internet" in message

    def test_a_name_without_addresses(self, server, tmp_path):
        message = refused(server, tmp_path, server.url("/plain"), resolve=Names([]))
        assert "voice.example cannot be found" in message

    def test_a_name_that_fails(self, server, tmp_path):
        async def fail(host: str) -> list[str]:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")

        message = refused(server, tmp_path, server.url("/plain"), resolve=fail)
        assert "voice.example cannot be found" in message

    def test_the_next_address_is_tried_where_the_first_is_dead(self, server, tmp_path):
        names = Names(["127.0.0.9", "127.0.0.1"])
        either = limits(server, names, allow_address=lambda address: address.startswith("127."))
        fetch_blocking(server.url("/plain"), tmp_path / "clip", either)
        assert (tmp_path / "clip").read_bytes() == CONTENT

    def test_the_systems_answer_has_each_address_once_and_in_its_order(self, monkeypatch):
        def answer(host, port, **wanted):
            assert wanted == {"type": socket.SOCK_STREAM}
            return [
                (family, socket.SOCK_STREAM, 6, "", (address, 0))
                for family, address in (
                    (socket.AF_INET, "8.8.8.8"),
                    (socket.AF_INET6, "2606:4700::1111"),
                    (socket.AF_INET, "8.8.8.8"),
                    (socket.AF_INET, "1.1.1.1"),
                )
            ]

        monkeypatch.setattr(socket, "getaddrinfo", answer)
        assert asyncio.run(resolve("voice.example")) == ["8.8.8.8", "2606:4700::1111", "1.1.1.1"]

    def test_the_system_s_own_answer_for_localhost_is_refused(self, tmp_path):
        with pytest.raises(DownloadError, match="localhost is not on the public internet"):
            fetch_blocking("https://localhost/x", tmp_path / "clip")


INSIDE = [
    ("http://{server}/plain", "only https:// URLs are fetched, not http"),
    ("https://169.254.169.254/latest/meta-data/", "169.254.169.254 is not on the public internet"),
    ("https://127.0.0.2/", "127.0.0.2 is not on the public internet"),
    ("https://2130706433/", "has no valid host"),
    ("https://[::1]/", "::1 is not on the public internet"),
    ("https://user@{server}/plain", "holds a user name"),
    ("https://{name}:0/plain", "port is 0"),
    ("file:///etc/passwd", "only https:// URLs are fetched, not file"),
    ("//10.0.0.1/", "10.0.0.1 is not on the public internet"),
    ("https://0x7f.1/", "has no valid host"),
    ("/\\10.0.0.1/", "redirects to no URL"),
]

HOSTILE = [
    "",
    "voice.wav",
    "//voice.example/x",
    "http://voice.example/x",
    "HTTP://voice.example/x",
    "ftp://voice.example/x",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "data:audio/wav;base64,AAAA",
    "javascript:alert(1)",
    "https:",
    "https://",
    "https:///etc/passwd",
    "https:voice.example/x",
    "https://:443/",
    "https://?x",
    "https://user@voice.example/",
    "https://user:secret@voice.example/",
    "https://:secret@voice.example/",
    "https://voice.example@127.0.0.1/",
    "https://127.0.0.1/",
    "https://127.0.0.1:22/",
    "https://127.0.0.1./",
    "https://127.1/",
    "https://0/",
    "https://0.0.0.0/",
    "https://2130706433/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0x7F.1/",
    "https://127.0.0.0x1/",
    "https://1.2.3.4.5/",
    "https://300.1.1.1/",
    "https://１２７.0.0.1/",
    "https://127。0。0。1/",
    "https://①②⑦.0.0.1/",
    "https://%31%32%37.0.0.1/",
    "https://127.0.0.1%2f.voice.example/",
    "https://10.0.0.1/",
    "https://100.64.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://168.63.129.16/",
    "https://172.16.0.1/",
    "https://192.168.0.1/",
    "https://224.0.0.1/",
    "https://255.255.255.255/",
    "https://[::]/",
    "https://[::1]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[::127.0.0.1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:a9fe:a9fe]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b:1::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2001:0:7f00:1::]/",
    "https://[fc00::1]/",
    "https://[fd00:ec2::254]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[2606:4700::1111%25lo]/",
    "https://[ff02::1]/",
    "https://[::1/",
    "https://voice.example:0/",
    "https://voice.example:99999/",
    "https://voice.example:x/",
    "https://voice.example\\@127.0.0.1/",
    "https://voice.example\t/",
    "https://voice.example/a\r\nHost: 127.0.0.1",
    "https://voice.example/\0",
    "https://voice.example/\x1f",
    "https://voice.example/\x7f",
    "https://voice..example/",
    "https://.example/",
    "https://-voice.example/",
    "https://voice example/",
    "https://" + "a" * 64 + ".example/",
    "https://" + "a." * 130 + "example/",
]


class TestHostileUrls:
    @pytest.fixture
    def connections(self, monkeypatch) -> list[object]:
        """Every address that asyncio is asked to connect to; none is reached."""
        asked: list[object] = []

        async def refuse(loop, sock, address):
            asked.append(address)
            raise ConnectionRefusedError

        monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", refuse)
        return asked

    def test_there_are_many(self):
        assert len(set(HOSTILE)) == len(HOSTILE) >= 40

    @pytest.mark.parametrize("url", HOSTILE)
    def test_each_is_refused_without_a_name_asked_or_a_connection_made(
        self, tmp_path, connections, url
    ):
        names = Names(["8.8.8.8"])
        with pytest.raises(DownloadError) as caught:
            fetch_blocking(url, tmp_path / "clip", Limits(resolve=names, seconds=5), field=FIELD)
        assert caught.value.field == FIELD
        assert "secret" not in caught.value.message
        assert names.asked == []
        assert connections == []
        assert list(tmp_path.iterdir()) == []

    def test_the_watch_on_connections_would_see_one(self, tmp_path, connections):
        names = Names(["8.8.8.8"])
        with pytest.raises(DownloadError, match="cannot be reached"):
            fetch_blocking("https://voice.example/", tmp_path / "clip", Limits(resolve=names))
        assert connections == [("8.8.8.8", 443)]

    def test_every_address_of_either_kind_may_be_connected_to(self, tmp_path, connections):
        names = Names(["2606:4700::1111", "8.8.8.8", "1.1.1.1"])
        with pytest.raises(DownloadError, match="cannot be reached"):
            fetch_blocking("https://voice.example:8443/", tmp_path / "clip", Limits(resolve=names))
        assert {place[:2] for place in connections} == {
            ("2606:4700::1111", 8443),
            ("8.8.8.8", 8443),
            ("1.1.1.1", 8443),
        }

    @pytest.mark.parametrize(("target", "words"), INSIDE)
    def test_a_redirect_to_one_is_refused_before_anything_is_connected_to(
        self, server, tmp_path, monkeypatch, target, words
    ):
        asked = []
        connect = asyncio.SelectorEventLoop.sock_connect

        async def note(loop, sock, address):
            asked.append(address[:2])
            await connect(loop, sock, address)

        monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", note)
        target = target.format(server=f"voice.example:{server.port}", name="voice.example")
        url = server.url(f"/redirect?to={quote(target, safe='')}")
        assert words in refused(server, tmp_path, url)
        assert asked == [("127.0.0.1", server.port)]
