"""An HTTP server on the loopback that serves bytes, ranges included, and misbehaves on demand."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Literal

Fault = Literal["cut", "wrong", "stall", "429", "500", "503"]
CHUNK = 16384


@dataclass(frozen=True)
class Answer:
    """What is at a path; `extra` are headers, `redirect` another path of this server."""

    body: bytes = b""
    kind: str = "application/octet-stream"
    extra: dict[str, str] = field(default_factory=dict)
    redirect: str | None = None


@dataclass(frozen=True)
class Refusal:
    """A status that is none of success, and headers."""

    status: int
    extra: dict[str, str] = field(default_factory=dict)


@dataclass
class FaultyServer:
    """Serves what `find` gives for a path.

    `refusal` is asked before each request, with its path and headers, and `fault` before each GET
    with the path and how often it was asked for before; `rate` in bytes a second makes a download
    last. Without `ranges` every answer is the whole. `started` counts the GETs of each path, `sent`
    its bytes.
    """

    find: Callable[[str], Answer | None]
    refusal: Callable[[str, Mapping[str, str]], Refusal | None] = lambda path, headers: None
    fault: Callable[[str, int], Fault | None] = lambda path, times: None
    rate: float = 1e9
    ranges: bool = True
    url: str = ""
    started: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def running(self) -> Iterator[FaultyServer]:
        handler = type("Handler", (_Handler,), {"owner": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    owner: FaultyServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client that was killed
            super().handle()

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        path = self.path.split("?")[0]
        refused = self.owner.refusal(path, self.headers)
        if refused is not None:
            self.refuse(refused.status, refused.extra)
            return
        found = self.owner.find(path)
        if found is None:
            self.refuse(404)
            return
        fault = None
        if with_body:
            with self.owner.lock:
                times = self.owner.started[path]
                self.owner.started[path] += 1
            fault = self.owner.fault(path, times)
            if fault in {"429", "500", "503"}:
                self.refuse(int(fault))
                return
        if found.redirect is not None:
            self.send_response(302)
            self.send_header("Location", self.owner.url + found.redirect)
            self.finish_headers(found, 0)
            return
        body, start = found.body, 0
        wanted = self.headers.get("Range") if self.owner.ranges else None
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start = int(first) if first else max(len(body) - int(last), 0)
            end = min(int(last), len(body) - 1) if first and last else len(body) - 1
            if start >= len(body):
                self.refuse(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(body)}")
            body = body[start : end + 1]
        else:
            self.send_response(200)
        self.send_header("Content-Type", found.kind)
        self.finish_headers(found, len(body))
        if with_body:
            self.send_body(path, body, fault)

    def finish_headers(self, found: Answer, length: int) -> None:
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(length))
        for name, value in found.extra.items():
            self.send_header(name, value)
        self.end_headers()

    def send_body(self, path: str, body: bytes, fault: Fault | None) -> None:
        if fault == "wrong":
            body = bytes([body[0] ^ 1]) + body[1:]
        for start in range(0, len(body), CHUNK):
            if fault in {"cut", "stall"} and start >= len(body) // 2:
                if fault == "stall":
                    time.sleep(4)
                self.close_connection = True
                return
            chunk = body[start : start + CHUNK]
            self.owner.sent[path] += len(chunk)  # before a client can have it, and look
            self.wfile.write(chunk)
            time.sleep(len(chunk) / self.owner.rate)

    def refuse(self, status: int, extra: Mapping[str, str] = MappingProxyType({})) -> None:
        self.send_response(status)
        for name, value in extra.items():
            self.send_header(name, value)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", "0")
        self.end_headers()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
