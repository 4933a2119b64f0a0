from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.net.https_url import HttpsUrl, parse_https_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://a.example", HttpsUrl("a.example", None, 443, "/")),
        ("HTTPS://A.Example:443/B", HttpsUrl("a.example", None, 443, "/B")),
        ("https://a.example:/b", HttpsUrl("a.example", None, 443, "/b")),
        ("https://a.example:0008443?b", HttpsUrl("a.example", None, 8443, "/?b")),
        ("https://8.8.8.8/b", HttpsUrl("8.8.8.8", "8.8.8.8", 443, "/b")),
        ("https://８.8。8.8/b", HttpsUrl("8.8.8.8", "8.8.8.8", 443, "/b")),
        (
            "https://[2606:4700:0::1111]:1/b",
            HttpsUrl("2606:4700::1111", "2606:4700::1111", 1, "/b"),
        ),
        ("https://a.example/b@c:d@e", HttpsUrl("a.example", None, 443, "/b@c:d@e")),
        ("https://a.example?@10.0.0.1/", HttpsUrl("a.example", None, 443, "/?@10.0.0.1/")),
        ("https://a.example#@10.0.0.1/", HttpsUrl("a.example", None, 443, "/")),
        ("https://a.example//10.0.0.1/", HttpsUrl("a.example", None, 443, "//10.0.0.1/")),
    ],
)
def test_the_parts_of_a_url(text: str, url: HttpsUrl) -> None:
    assert parse_https_url(text) == url


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("https://a@b.example/", "holds a user name or password"),
        ("https://public@10.0.0.1/", "holds a user name or password"),
        ("https://a@b@c.example/", "holds a user name or password"),
        ("https://@b.example/", "holds a user name or password"),
        ("https://a:b@10.0.0.1:443@c.example/", "holds a user name or password"),
        ("https://public\\@10.0.0.1/", "cannot hold; percent-encode them"),
        ("https://public\\.10.0.0.1/", "cannot hold; percent-encode them"),
        ("https://a.example/\\b", "cannot hold; percent-encode them"),
        ("https://a.exa\tmple/", "cannot hold; percent-encode them"),
        ("ht\ntps://a.example/", "cannot hold; percent-encode them"),
        ("https://a.example/\r\nHost: b", "cannot hold; percent-encode them"),
        ("https://10.0.0.1%2f.a.example/", "no valid host"),
        ("https://%31%30.0.0.1/", "no valid host"),
        ("https://a.example%40b.example/", "no valid host"),
        ("https://a%00.example/", "no valid host"),
        ("https://0x7f.1/", "no valid host"),
        ("https://2130706433/", "no valid host"),
        ("https://0177.0.0.1/", "no valid host"),
        ("https://127.1/", "no valid host"),
        ("https://[fe80::1%25eth0]/", "no valid host"),
        ("https://[fe80::1%eth0]/", "no valid host"),
        ("https://[127.0.0.1]/", "no valid host"),
        ("https://[v1.a]/", "no valid host"),
        ("https://[::1].a.example/", "no valid host"),
        ("https://a.example[::1]/", "no valid host"),
        ("https://[[::1]]/", "no valid host"),
        ("https://[::1/", "no valid host"),
        ("https://::1/", "no valid host"),
        ("https://[]/", "no valid host"),
        ("https://a.example:443:443/", "no valid host"),
        ("https://a.example:+443/", "no valid host"),
        ("https://a.example:-1/", "no valid host"),
        ("https://a.example:４４３/", "no valid host"),
        ("https://a.example:65536/", "no valid host"),
        ("https://a.example:99999999999999999999/", "no valid host"),
        ("https://a.example:4 43/", "no valid host"),
        ("https://a.example:00/", "port is 0"),
        ("https://a.example／b/", "no valid host"),
        ("https://a.example\N{CARE OF}b/", "no valid host"),
        ("https://a\u200b.example/", "no valid host"),
        ("https://a\xad.example/", "no valid host"),
        ("https://a\u202e.example/", "no valid host"),
        ("https://a..example/", "no valid host"),
        ("https://。/", "no valid host"),
        ("https://a b.example/", "no valid host"),
        ("https://a;b.example/", "no valid host"),
        ("https://*.a.example/", "no valid host"),
        ("https://xn--/", "no valid host"),
        ("https:///10.0.0.1/", "no valid host"),
        ("https:/10.0.0.1/", "no valid host"),
        ("https:10.0.0.1/", "no valid host"),
        ("https:", "no valid host"),
        ("https://", "no valid host"),
        (" https://a.example/", "not relative ones"),
        ("//a.example/", "not relative ones"),
        ("", "not relative ones"),
        ("https", "not relative ones"),
        ("http://a.example/", "not http"),
        ("url:https://a.example/", "not url"),
        ("httpſ://a.example/", "not relative ones"),
    ],
)
def test_what_is_refused_says_why(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"^(the URL|only https:// URLs)") as refused:
        parse_https_url(text)
    assert words in str(refused.value)
    assert "10.0.0.1" not in str(refused.value)


@pytest.mark.parametrize(
    ("reference", "url"),
    [
        ("http://c.example/%7E", "http://c.example/%7E"),
        ("//c.example/%7E", "https://c.example/%7E"),
        ("/%7E//../?", "https://b.example:8443/%7E//../?"),
        ("?token=%2B", "https://b.example:8443/folder/file?token=%2B"),
        ("../other%7E?", "https://b.example:8443/other%7E?"),
        ("#part", "https://b.example:8443/folder/file?query"),
    ],
)
def test_a_location_means_a_url_from_where_it_was_sent(reference: str, url: str) -> None:
    base = parse_https_url("https://b.example:8443/folder/file?query")
    assert base.resolve(reference) == url


_WORDS = (
    "//",
    "a.example",
    "127.0.0.1",
    "::1",
    "443",
    "0",
    "%2f",
    "%40",
    "xn--a",
    "user",
    "0x7f.1",
)
PIECES = st.sampled_from([*"@:/?#[].%\\;&= \t。／＠é\u200b", *_WORDS])


@given(rest=st.lists(PIECES, max_size=8).map("".join))
def test_the_parts_checked_are_the_parts_asked(rest: str) -> None:
    """What aiohttp takes from the URL that it is given is what was checked, and nothing else."""
    try:
        url = parse_https_url(f"https://{rest}")
    except ValueError:
        return
    request = url.request_url()
    assert request.scheme == "https"
    assert request.raw_host == url.host
    assert request.port == url.port
    assert request.raw_path_qs == url.target
    assert request.raw_user is None
    assert request.raw_password is None
    assert request.raw_fragment == ""
    assert parse_https_url(str(url)) == url
    assert urlsplit(str(url)).hostname == url.host.lower()


@given(target=st.from_regex(r"/[!-\"$-\[\]-~]{0,80}", fullmatch=True))
def test_whatever_is_printed_is_asked_for_as_it_stands(target: str) -> None:
    request = parse_https_url(f"https://a.example{target}#part").request_url()
    assert request.raw_path_qs == target


@given(reference=st.lists(PIECES, max_size=8).map("".join))
def test_a_reference_without_a_host_of_its_own_stays_where_it_is(reference: str) -> None:
    base = parse_https_url("https://b.example:8443/folder/file?query")
    resolved = base.resolve(reference)
    if "//" in reference[:2] or ":" in reference.partition("/")[0]:
        return
    try:
        url = parse_https_url(resolved)
    except ValueError:
        return
    assert (url.host, url.port) == (base.host, base.port)
