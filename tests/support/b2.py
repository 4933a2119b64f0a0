"""Backblaze B2 on the loopback: its native API, and the rights of its keys before an S3 server.

The native API is b2sdk's own simulator of the service, which keeps accounts, buckets and keys,
behind HTTP. What the simulator takes and the service does not is refused here: a capability or a
kind of bucket that there is not. The S3 side follows Backblaze's table of S3-compatible application
keys; the master key has no place in it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from b2sdk.v3 import ALL_CAPABILITIES, RawSimulator
from b2sdk.v3.exception import B2Error

from tests.support.s3 import Refusal
from tests.support.serving import serving

KINDS = ("allPublic", "allPrivate")
SIGNED_BY = re.compile(r"Credential=([^/]+)/")


class BackblazeB2(ThreadingHTTPServer):
    """One account, as `key_id` and `key` open it: the master application key."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _NativeHandler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.service = RawSimulator()
        self.service.API_URL = self.url
        self.key_id, self.key = self.service.create_account()

    @contextmanager
    def running(self) -> Iterator[BackblazeB2]:
        with serving(self):
            yield self

    def environment(self, account_info: str) -> dict[str, str]:
        """For the b2 command, which keeps what it knows of the account in that file."""
        return {
            "B2_ENVIRONMENT": self.url,
            "B2_ACCOUNT_INFO": account_info,
            "B2_APPLICATION_KEY_ID": self.key_id,
            "B2_APPLICATION_KEY": self.key,
        }

    def call(self, name: str, authorization: str, asked: Mapping[str, Any]) -> Any:
        """One call of the native API. Raises B2Error, or ValueError for what it does not know."""
        if name == "b2_authorize_account":
            given = base64.b64decode(authorization.removeprefix("Basic ")).decode()
            return self.service.authorize_account(self.url, *given.split(":", 1))
        who = (self.url, authorization, asked["accountId"])
        if name == "b2_create_bucket":
            if asked["bucketType"] not in KINDS:
                raise ValueError(f"bucketType: {asked['bucketType']}")
            return self.service.create_bucket(*who, asked["bucketName"], asked["bucketType"])
        if name == "b2_list_buckets":
            return self.service.list_buckets(*who, asked.get("bucketId"), asked.get("bucketName"))
        if name == "b2_create_key":
            if unknown := set(asked["capabilities"]) - set(ALL_CAPABILITIES):
                raise ValueError(f"capabilities: {unknown}")
            return self.service.create_key(
                *who,
                asked["capabilities"],
                asked["keyName"],
                asked.get("validDurationInSeconds"),
                asked.get("bucketIds"),
                asked.get("namePrefix"),
            )
        raise ValueError(name)

    def refusal(self, method: str, path: str, headers: Mapping[str, str]) -> Refusal | None:
        """What the S3 side says to a request, None where its key may do that."""
        parts = urlsplit(path)
        query = parse_qs(parts.query, keep_blank_values=True)
        signed = SIGNED_BY.search(headers.get("Authorization", ""))
        by = signed[1] if signed else query.get("X-Amz-Credential", [""])[0].split("/")[0]
        key = self.service.key_id_to_key.get(by)
        if key is None or by == self.key_id:
            return Refusal(403, "InvalidAccessKeyId")
        bucket, _, name = unquote(parts.path).removeprefix("/").partition("/")
        mine = key.buckets_or_none is None or bucket in {b["name"] for b in key.buckets_or_none}
        within = name.startswith(key.name_prefix_or_none or "")
        if mine and within and _needed(method, name, query) in key.capabilities:
            return None
        return Refusal(403, "AccessDenied")


def _needed(method: str, name: str, query: Mapping[str, list[str]]) -> str:
    """The capability that a call of the S3 API needs."""
    if not name:
        return "listFiles" if method == "GET" else "writeBuckets"
    if method in {"GET", "HEAD"}:
        return "readFiles"
    return "deleteFiles" if method == "DELETE" and "uploadId" not in query else "writeFiles"


class _NativeHandler(BaseHTTPRequestHandler):
    server: BackblazeB2
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name = self.path.removeprefix("/b2api/v4/")
        try:
            asked = json.loads(body or b"{}")
            status, answer = 200, self.server.call(name, self.headers["Authorization"], asked)
        except ValueError as error:
            status, answer = 400, {"status": 400, "code": "bad_request", "message": str(error)}
        except B2Error as error:
            status, answer = 401, {"status": 401, "code": "unauthorized", "message": str(error)}
        content = json.dumps(answer, default=list).encode()  # the simulator's sets
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Say nothing."""
