"""A model is locked at another revision of its hub: every file by size and sha256."""

from __future__ import annotations

import http.client
import io
import json
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tests.support.faulty_http import sha256
from tests.support.hub_server import LARGE, REVISION, hub_of
from volume.errors import DownloadError, PinError
from volume.hub_api import TokenStaysHome
from volume.pinning.model import pin_model
from volume.pins import pinned_model

REPOSITORY = "someone/model"
FILES = {"config.json": b"{}", "LLM/weights.bin": bytes(range(256)) * (LARGE // 100), "more": b"-"}


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock of an older revision, which knew neither sizes nor hashes."""
    files = [{"path": path, "size": None, "sha256": None} for path in list(FILES)[:2]]
    entry = {"source": "hub", "repository": REPOSITORY, "revision": "old", "licence": "MIT"}
    content = {"models": {"m": entry | {"files": files, "unsized": 5}, "demo": {"source": "x"}}}
    (tmp_path / "models.json").write_text(json.dumps(content))
    return tmp_path / "models.json"


def test_every_file_is_locked_by_its_content(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_of({REPOSITORY: FILES}).running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        pin_model("m", REVISION, lock)
    raised = pinned_model("m", lock.parent)
    assert raised.revision == REVISION
    assert [(f.path, f.size, f.sha256) for f in raised.files] == [
        (path, len(FILES[path]), sha256(FILES[path])) for path in list(FILES)[:2]
    ]
    assert raised.size == sum(len(FILES[f.path]) for f in raised.files)
    assert json.loads(lock.read_text())["models"]["demo"] == {"source": "x"}


def test_a_file_that_is_gone_is_named(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lock.read_text()
    with hub_of({REPOSITORY: {"config.json": b"{}"}}).running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        with pytest.raises(PinError, match=r"LLM/weights\.bin"):
            pin_model("m", REVISION, lock)
    assert lock.read_text() == before


def test_a_revision_that_the_hub_lacks(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_of({REPOSITORY: FILES}).running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        with pytest.raises(DownloadError, match="404"):
            pin_model("m", "nothing", lock)


@pytest.mark.parametrize("name", ["demo", "nobody"])
def test_only_a_model_of_a_hub_is_raised(lock: Path, name: str) -> None:
    with pytest.raises(PinError, match=name):
        pin_model(name, "main", lock)


def test_what_the_hub_tells_of_a_branch_is_locked_at_its_commit(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A branch moves; the files and the revision in the lock are those of one commit."""
    server = hub_of({REPOSITORY: FILES})
    named = f"/api/models/{REPOSITORY}/revision/"
    find = server.find
    server.find = lambda path: find(path.replace(f"{named}refs%2Fpr%2F1", f"{named}{REVISION}"))
    with server.running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/")
        pin_model("m", "refs/pr/1", lock)
        assert hub.started[f"/{REPOSITORY}/resolve/{REVISION}/config.json"] == 1
        assert not any("weights" in path for path in hub.started)
    assert pinned_model("m", lock.parent).revision == REVISION


@pytest.mark.parametrize(("token", "sent"), [("secret", "Bearer secret"), (None, None), ("", None)])
def test_the_token_is_sent_where_there_is_one(
    lock: Path, monkeypatch: pytest.MonkeyPatch, token: str | None, sent: str | None
) -> None:
    heard = []

    def answer(_: object, request: urllib.request.Request, timeout: float) -> io.BytesIO:
        heard.append((request.full_url, request.get_header("Authorization"), timeout))
        return io.BytesIO(b'{"sha": "new", "siblings": []}')

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", answer)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    if token is None:
        monkeypatch.delenv("HF_TOKEN", raising=False)
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(PinError, match=r"has no config\.json, LLM/weights\.bin"):
        pin_model("m", "a/b", lock)
    ((url, header, timeout),) = heard
    assert url.endswith(f"/api/models/{REPOSITORY}/revision/a%2Fb?blobs=true")
    assert url.startswith("https://")
    assert header == sent
    assert timeout == 60


@pytest.mark.parametrize(
    ("there", "token"),
    [
        ("https://hub.test/b", "Bearer secret"),
        ("https://HUB.test/b", "Bearer secret"),
        ("https://files.test/b", None),
        ("https://hub.test.evil.test/b", None),
        ("https://hub.test:8443/b", None),
        ("http://hub.test/b", None),
    ],
)
def test_a_redirect_takes_the_token_to_no_other_host_and_to_none_in_the_clear(
    there: str, token: str | None
) -> None:
    here = urllib.request.Request("https://hub.test/a", headers={"Authorization": "Bearer secret"})
    here.set_proxy("proxy.test:3128", "http")  # whose name is then that of the request's host
    after = TokenStaysHome().redirect_request(
        here, io.BytesIO(), 302, "Found", http.client.HTTPMessage(), there
    )
    assert after is not None
    assert after.full_url == there
    assert after.get_header("Authorization") == token


def test_a_redirect_to_the_same_host_in_cipher_takes_the_token_along() -> None:
    here = urllib.request.Request("http://hub.test/a", headers={"Authorization": "Bearer secret"})
    after = TokenStaysHome().redirect_request(
        here, io.BytesIO(), 302, "Found", http.client.HTTPMessage(), "https://hub.test/a"
    )
    assert after is not None
    assert after.get_header("Authorization") == "Bearer secret"


class Redirecting(BaseHTTPRequestHandler):
    """Sends what is asked of 127.0.0.1 to localhost, which is another host by name."""

    heard: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        host = self.headers["Host"]
        self.heard.append((host.split(":")[0], self.headers["Authorization"]))
        self.send_response(302 if host.startswith("127.") else 404)
        self.send_header("Location", f"http://{host.replace('127.0.0.1', 'localhost')}/b")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_hub_that_sends_elsewhere_sends_no_token_there(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("NO_PROXY", "*")
    Redirecting.heard.clear()
    with HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.001,))
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(DownloadError, match="404"):
            pin_model("m", "main", lock)
        server.shutdown()
        thread.join()
    assert Redirecting.heard == [("127.0.0.1", "Bearer secret"), ("localhost", None)]


def test_an_answer_that_breaks_off_is_told(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise http.client.IncompleteRead(b"{", 100)

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", lambda *_, timeout: Broken())
    before = lock.read_text()
    with pytest.raises(DownloadError, match="the hub did not answer"):
        pin_model("m", REVISION, lock)
    assert lock.read_text() == before
