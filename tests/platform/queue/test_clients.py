"""The stand-in's side of the client: webhooks are tried three times, what is ended stays so."""

from __future__ import annotations

import json
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests.platform.queue.server import CLIENT_KEY, ENDPOINT, Queue
from tests.support.serving import serving


class Webhook(HTTPServer):
    """Answers with these statuses, one after the other."""

    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses = list(statuses)
        self.told: list[dict[str, Any]] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        self.server.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.statuses.pop(0))
        self.end_headers()
        if not self.server.statuses:
            self.server.over.set()

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


def ask(queue: Queue, path: str, body: Any = None) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{queue.url}/v2/{ENDPOINT}/{path}",
        None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Bearer {CLIENT_KEY}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(json.load(answer))


@pytest.mark.parametrize(
    ("statuses", "given_up"), [((200,), 0), ((500, 500, 200), 0), ((500, 404, 302), 1)]
)
def test_a_webhook_is_tried_until_it_answers_with_200(
    statuses: tuple[int, ...], given_up: int
) -> None:
    hook = Webhook(*statuses)
    with serving(hook), Queue(webhook_pause=0.01).running() as queue:
        job = ask(queue, "run", {"input": {"text": "A."}, "webhook": hook.url})
        assert job["status"] == "IN_QUEUE"
        ended = ask(queue, f"cancel/{job['id']}", {})
        assert ended == {"id": job["id"], "status": "CANCELLED"}
        assert hook.over.wait(10)
        queue.wait_until(lambda: queue.counts["webhook: given up"] == given_up, 10)
        assert hook.told == [ended] * len(statuses)
        assert ask(queue, f"status/{job['id']}") == ended
        assert ask(queue, f"stream/{job['id']}") == {"status": "CANCELLED", "stream": []}
