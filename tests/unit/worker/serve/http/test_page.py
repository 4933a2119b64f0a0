"""The page's file, and what a browser is told it may do."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from starlette.testclient import TestClient

from worker.serve.http.page import PAGE, Page, content_security_policy

TEXT = PAGE.read_text()


@pytest.fixture
def client() -> TestClient:
    return TestClient(Page())


def test_the_page_is_small_and_needs_nothing_from_elsewhere() -> None:
    assert PAGE.stat().st_size <= 60_000
    for fetched in (r"<link[^>]+href=\"(?!data:)", r"\ssrc=", "@import", r"\burl\(", r"import\("):
        assert not re.search(fetched, TEXT), fetched
    assert not re.search(r"<[^>]+\s(style|on\w+)=", TEXT)  # the policy forbids them


def test_the_policy_names_each_script_and_style_by_its_hash() -> None:
    page = "<style>a{}</style><script>one()</script><script>two()</script>"

    def hashed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    policy = content_security_policy(page).split("; ")
    assert f"script-src {hashed('one()')} {hashed('two()')}" in policy
    assert f"style-src {hashed('a{}')}" in policy
    assert policy[0] == "default-src 'none'"
    assert "unsafe" not in content_security_policy(TEXT)


def test_the_page_comes_with_its_policy_and_is_sent_once(client: TestClient) -> None:
    first = client.get("/")
    assert first.status_code == 200
    assert first.text == TEXT
    assert first.headers["Content-Type"] == "text/html; charset=utf-8"
    assert first.headers["Content-Security-Policy"] == content_security_policy(TEXT)
    assert first.headers["X-Content-Type-Options"] == "nosniff"
    again = client.get("/", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
