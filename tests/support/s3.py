"""An S3 server on the loopback, and a door before it that fails when told to."""

from __future__ import annotations

import http.client
import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import boto3
import pytest
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from mypy_boto3_s3 import S3Client
from werkzeug.serving import make_server

from tests.support.serving import serving
from worker.storage import s3_client as s3_client_module

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ACCESS_KEY = "test-key"
SECRET_KEY = "test-secret-never-shown"


def s3_client(endpoint: str) -> S3Client:
    """Another client than the worker's, to look at the bucket from outside."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )


@contextmanager
def s3_server(bucket: str) -> Iterator[str]:
    """Run moto's server with an empty `bucket`; gives its URL."""
    app = _OneAtATime(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    with serving(server):
        endpoint = f"http://127.0.0.1:{server.port}"
        s3_client(endpoint).create_bucket(Bucket=bucket)
        yield endpoint


class _OneAtATime:
    """Moto's store, which answers 500 now and then where two requests touch one file at once."""

    def __init__(self, store: WSGIApplication) -> None:
        self._store = store
        self._turn = threading.Lock()

    def __call__(self, request: WSGIEnvironment, start: StartResponse) -> list[bytes]:
        """Read all of the request first: a slow one holds up no other."""
        if size := int(request.get("CONTENT_LENGTH") or 0):
            request["wsgi.input"] = io.BytesIO(request["wsgi.input"].read(size))
        with self._turn:
            return list(self._store(request, start))


def read_services_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all clients share what botocore reads of its files: half of a client's making."""
    monkeypatch.setattr(s3_client_module, "descriptions", lambda _core: _DESCRIPTIONS)


_DESCRIPTIONS = s3_client_module.Descriptions()


@dataclass(frozen=True)
class Refusal:
    """An answer of S3's kind: a status, and an XML body with a code where there is one.

    Or `page` as its body, whatever that is.
    """

    status: int
    code: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    page: bytes = b""

    @property
    def body(self) -> bytes:
        if not self.code:
            return self.page
        message = f"{ACCESS_KEY} {SECRET_KEY}"  # as if the service told secrets
        return f"<Error><Code>{self.code}</Code><Message>{message}</Message></Error>".encode()


Order = Refusal | str | float


class Door(ThreadingHTTPServer):
    """Passes requests on to `behind` (http://HOST:PORT), after a number of other answers.

    `script` holds what to do with the next requests: a Refusal, "cut" to break the connection
    in the middle of the body, "reset" to break it before, or a number of seconds to wait first.
    When it is empty, `chance` is asked. `seen` holds the request lines and headers. With `bucket`
    it is a service that has each bucket in the host: the path is taken for a key of that one; with
    an empty one, a service that has each in the path, whatever its own host. `resign` makes of a
    pre-signed path one that is signed by headers, for a server that knows no other.
    """

    daemon_threads = True

    def __init__(self, behind: str, bucket: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _DoorHandler)
        self.bucket = bucket
        self.resign: Callable[[str], tuple[str, dict[str, str]]] | None = None
        self.behind = behind.removeprefix("http://")
        self.script: list[Order] = []
        self.chance: Callable[[], Order | None] = lambda: None
        self.seen: list[tuple[str, str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[Door]:
        with serving(self):
            yield self


class _DoorHandler(BaseHTTPRequestHandler):
    server: Door
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        if self.headers.get("Expect") == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        order = self.server.script.pop(0) if self.server.script else self.server.chance()
        if order == "reset":
            self.close_connection = True
            return
        if isinstance(order, float):
            time.sleep(order)
        if isinstance(order, Refusal):
            self.send_response(order.status)
            for name, value in order.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(order.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(order.body)
            return
        connection = http.client.HTTPConnection(self.server.behind, timeout=10)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "expect"}
        path = self.path
        if self.server.bucket is not None:
            headers["Host"] = self.server.behind
        if self.server.resign is not None and "X-Amz-Signature=" in path:
            path, signed = self.server.resign(path)
            headers |= signed
        if self.server.bucket:
            path = f"/{self.server.bucket}{path}"
        connection.request(self.command, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        head = self.command == "HEAD"
        length = answer.getheader("Content-Length", "0") if head else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        if order == "cut":
            content = content[: len(content) // 2]
            self.close_connection = True
        connection.close()
        with suppress(ConnectionError):  # the client need not read to the end
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer  # noqa: N815 - http.server's names

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client that was killed
            super().handle()

    def log_message(self, *args: object) -> None:
        """Say nothing."""
