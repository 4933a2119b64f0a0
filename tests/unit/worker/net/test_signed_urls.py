"""Signed URLs reach the server as they were given: a real https server looks at the bytes."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.https import HttpsServer, https_server
from worker.api.references import parse_reference
from worker.errors import DownloadError
from worker.net.download import Limits, fetch_blocking

# After public reports; each path and query is what somebody's signer made.
SIGNED = [
    "/v/a.wav?Expires=1800000000",
    "/v/a.wav?response-content-disposition=attachment%3B%20filename%3D%22a.wav%22",
    "/v/a.wav?response-content-type=audio%2Fwav",
    "/v/a.wav?X-Goog-Credential=svc%40p.iam.gserviceaccount.com%2F20260101%2Fauto%2Fgoog4_request",
    "/v/my%20voice%20%281%29.wav?e=1",
    "/v/it%27s.wav?e=1",
    "/v/caf%C3%A9.wav?e=1",
    "/v/a%7Eb.wav?e=1",
    "/v/a%2Bb.wav?e=1",
    "/v/a+b.wav?e=1",
    "/v/a%3Ab.wav?e=1",
    "/v/a.wav?tok=ab%2Bcd%3D%3D",
    "/v/a.wav?tok=ab%2bcd%3d%3d",
    "/v/a.wav?tok=%e4%bd%a0",
    "/v/a.wav?st=2026-01-01T00%3A00%3A00Z&se=2026",
    "/v/a.wav?",
    "/v/a.wav?x=a%2526b",
    # S3, version 4, with a session's token; version 2
    "/b/key.wav?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20260101%2Fus-east-1"
    "%2Fs3%2Faws4_request&X-Amz-Date=20260101T000000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host"
    "&X-Amz-Security-Token=IQoJb3%2F%2F%2F%2B" + "aZ09" * 900 + "%3D%3D&x-id=GetObject",
    "/b/key.wav?AWSAccessKeyId=AKIA&Expires=1800000000&Signature=a%2Fb%2Bc%3D",
    # CloudFront: its own alphabet, with ~, - and _
    "/v/a.wav?Expires=1800000000&Policy=eyJ_~-&Key-Pair-Id=K1&Signature=ab~cd-ef__",
    # Azure, Google, Alibaba, Tencent, Supabase
    "/c/a.wav?sv=2024-11-04&st=2026-01-01T00%3A00%3A00Z&sr=b&sp=r&spr=https&sig=ab%2Bcd%2Fef%3D",
    "/c/a.wav?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-SignedHeaders=host&X-Goog-Signature=00ff",
    "/a.wav?OSSAccessKeyId=LTAI&Expires=1800000000&Signature=Xy%2Bz%3D&response-content-type=",
    "/a.wav?q-sign-algorithm=sha1&q-sign-time=1;2&q-header-list=host&q-url-param-list=",
    "/storage/v1/object/sign/voices/a.wav?token=eyJhbGciOiJIUzI1NiJ9.e30.a-b_c",
    # Paths that a parser might tidy up
    "/",
    "//v//a.wav?e=1",
    "/a/../b.wav?e=1",
    "/a/./b.wav?e=1",
    "/a/%2e%2e/b.wav?e=1",
    "/a/..;/b.wav?e=1",
    "/a;v=1/b.wav;x?e=1",
    "/a%2Fb%5Cc.wav?e=1",
    "/a%00b%0D%0A.wav?e=1",
    "/a:b@c!$&'()*+,;=.wav?e=1",
    '/a[1]{2}|^`"<>.wav?e=[1]{2}|^`"<>\'',
    "/100%.wav?e=%zz%&f=%4",
    "/%41%5a.wav?%61=%7e",
    "/a.wav?a=&b&&c==&=d&a=",
    "/a.wav?next=https://b.example/c?d=e/../f",
    "/a.wav?x=1?y=2??",
    "/a.wav??",
    "/a.wav?a=b+c%20d",
    "/a.wav?%26=%3D&%23=%3f",
]
HUB = (
    "/repo/abc?response-content-disposition=inline%3B+filename*%3DUTF-8%27%27voice.wav%3B"
    "+filename%3D%22voice.wav%22%3B&response-content-type=audio%2Fwav&Expires=1800000000"
    "&Policy=eyJ&Signature=ab~cd-ef_&Key-Pair-Id=K1"
)
CLIP = b"RIFF"
_targets: list[str] = []  # as the server got them


def signature(target: str) -> str:
    return hmac.new(b"key", target.encode(), hashlib.sha256).hexdigest()


_locations: list[str] = []  # what the next requests are redirected to


async def ask(request: web.Request) -> web.Response:
    """Answer where the signature fits the bytes of the request line."""
    _targets.append(request.raw_path)
    if _locations:
        location = _locations.pop().encode("utf-8", "surrogateescape")
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\n\r\n")
        request.transport.close()
        return web.Response()
    target, mark, given = request.raw_path.rpartition("&sig=")
    if mark and signature(target) != given:
        return web.Response(status=403)
    return web.Response(body=CLIP)


@pytest.fixture(scope="module")
def server() -> Iterator[HttpsServer]:
    with https_server({r"/{tail:[\s\S]*}": ask}, "voice.example", "bücher.example") as server:
        yield server


async def at_home(_host: str) -> list[str]:
    return ["127.0.0.1"]


def asked(server: HttpsServer, url: str, into: Path) -> list[str]:
    """What the server was asked for, when `url` was fetched; the clip must have come."""
    limits = Limits(allow_address=lambda _: True, resolve=at_home, ssl=server.trust, seconds=10)
    _targets.clear()
    fetch_blocking(url, into / "clip", limits)
    assert (into / "clip").read_bytes() == CLIP
    return list(_targets)


def redirected(server: HttpsServer, start: str, location: str, into: Path) -> str:
    """What the server is asked for after it sent `location` for `start`."""
    _locations.append(location)
    first, second = asked(server, server.url(start), into)
    assert first == start
    return second


@pytest.mark.parametrize("target", SIGNED)
def test_the_server_gets_the_bytes_that_were_signed(
    server: HttpsServer, tmp_path: Path, target: str
) -> None:
    url = server.url(f"{target}&sig={signature(target)}")
    assert str(parse_reference(url)) == url  # nor does the request's check change any
    assert asked(server, url, tmp_path) == [url.partition(f":{server.port}")[2]]


@pytest.mark.parametrize("target", [*SIGNED, HUB])
def test_a_redirect_s_location_is_asked_for_as_the_server_sent_it(
    server: HttpsServer, tmp_path: Path, target: str
) -> None:
    signed = f"{target}&sig={signature(target)}"
    assert redirected(server, "/a/1", server.url(signed), tmp_path) == signed
    if not signed.startswith("//"):  # there the path would be a host
        assert redirected(server, "/a/2", signed, tmp_path) == signed


@pytest.mark.parametrize("target", ["/a.wav?", "/a.wav", "/", "/?", "/?a=%2f"])
def test_an_empty_query_stays_one_and_none_is_added(
    server: HttpsServer, tmp_path: Path, target: str
) -> None:
    assert asked(server, server.url(target), tmp_path) == [target]


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ("", "/"),
        ("?a=b", "/?a=b"),
        ("#part", "/"),
        ("/a.wav#part", "/a.wav"),
        ("/a.wav?#part?b", "/a.wav?"),
        ("/a.wav?b=%23#part#of it", "/a.wav?b=%23"),
    ],
)
def test_the_path_is_never_empty_and_the_fragment_is_not_sent(
    server: HttpsServer, tmp_path: Path, given: str, target: str
) -> None:
    assert asked(server, server.url(given), tmp_path) == [target]


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ("/声音/é.wav?名=你%20b", "/%E5%A3%B0%E9%9F%B3/%C3%A9.wav?%E5%90%8D=%E4%BD%A0%20b"),
        ("/e\u0301.wav", "/e%CC%81.wav"),  # not made one letter
        ("/a b.wav?c= d", "/a%20b.wav?c=%20d"),
        ("/😀\u200b\xa0\x85.wav", "/%F0%9F%98%80%E2%80%8B%C2%A0%C2%85.wav"),
    ],
)
def test_what_is_outside_ascii_is_percent_encoded_as_browsers_do(
    server: HttpsServer, tmp_path: Path, given: str, target: str
) -> None:
    assert asked(server, server.url(given), tmp_path) == [target]


def test_a_location_in_bytes_that_are_no_utf_8_is_asked_for_in_these_bytes(
    server: HttpsServer, tmp_path: Path
) -> None:
    assert redirected(server, "/a/1", "/caf\udce9.wav", tmp_path) == "/caf%E9.wav"


def test_characters_that_are_none_are_refused_in_words(server: HttpsServer, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="characters that are none; percent-encode them"):
        asked(server, server.url("/\ud800.wav"), tmp_path)


def test_a_host_of_another_script_is_asked_by_its_ascii_name(
    server: HttpsServer, tmp_path: Path
) -> None:
    for host in ("bücher.example", "BÜCHER.example", "xn--bcher-kva.example", "bücher。example"):
        assert asked(server, server.url("/é", host=host), tmp_path) == ["/%C3%A9"]
        assert server.seen[-1][1]["Host"] == f"xn--bcher-kva.example:{server.port}"


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("b.wav?x=%2F", "/to/folder/b.wav?x=%2F"),
        ("./b.wav", "/to/folder/b.wav"),
        ("../b%7E.wav?", "/to/b%7E.wav?"),
        ("../../../b.wav", "/b.wav"),
        ("..", "/to/"),
        ("../..", "/"),
        (".", "/to/folder/"),
        ("b/../c.wav", "/to/folder/c.wav"),
        ("b//c.wav", "/to/folder/b//c.wav"),
        ("?token=%2B", "/to/folder/a.wav?token=%2B"),
        ("/b/../c.wav", "/b/../c.wav"),
        ("b.wav?c=../d#e", "/to/folder/b.wav?c=../d"),
        ("b.wav?c=https://d.example", "/to/folder/b.wav?c=https://d.example"),
        ("b.wav#?c", "/to/folder/b.wav"),
    ],
)
def test_a_relative_location_is_joined_and_its_bytes_stay(
    server: HttpsServer, tmp_path: Path, location: str, target: str
) -> None:
    assert redirected(server, "/to/folder/a.wav?old=1", location, tmp_path) == target


def test_a_location_without_a_scheme_keeps_its_host(server: HttpsServer, tmp_path: Path) -> None:
    location = f"//voice.example:{server.port}//a%7E"
    assert redirected(server, "/a/1", location, tmp_path) == "//a%7E"


def test_a_location_that_is_the_same_page_is_no_way_out(
    server: HttpsServer, tmp_path: Path
) -> None:
    _locations.extend(["#part"] * 4)
    with pytest.raises(DownloadError, match="redirects more than 3 times"):
        asked(server, server.url("/a/1"), tmp_path)
