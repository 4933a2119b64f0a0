"""What the tests of S3 servers share: the servers' names, the worker's storage, plain HTTP."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.support import s3_debian, s3_servers
from tests.support.s3_servers import BUCKET, REGION, Key, S3Server
from worker.settings import Settings
from worker.storage.s3 import S3Storage
from worker.storage.s3_client import S3Limits

Start = Callable[[Path], AbstractContextManager[S3Server]]
IN_WHEELS: dict[str, Start] = {
    "moto": s3_servers.moto,
    "seaweedfs": s3_servers.seaweedfs,
    "rclone": s3_servers.rclone,
}
IN_DEBIAN: dict[str, Start] = {"radosgw": s3_debian.radosgw, "swift": s3_debian.swift}
PART = 5 << 20  # the least that S3 takes


def storage(server: S3Server, key: Key | None = None, **changed: str) -> S3Storage:
    """The worker's storage on that server, with its own key, or another one."""
    return _storage(server.url, key or server.worker, tuple(changed.items()))


@cache  # a client takes a while to make
def _storage(url: str, key: Key, changed: tuple[tuple[str, str], ...]) -> S3Storage:
    values = {
        "s3_bucket_name": BUCKET,
        "aws_endpoint_url": url,
        "aws_region": REGION,
        "aws_access_key_id": key.access,
        "aws_secret_access_key": key.secret,
    }
    settings = Settings(**(values | dict(changed)))
    return S3Storage.from_settings(settings, S3Limits(part_bytes=PART))


@dataclass(frozen=True)
class Answer:
    """What a plain HTTP client got."""

    status: int
    content_type: str
    body: bytes


def ask(url: str, **headers: str) -> Answer:
    """GET it, as a client does that knows nothing of S3."""
    try:
        opened = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20)
    except urllib.error.HTTPError as refused:
        opened = refused
    with opened as answer:
        return Answer(answer.status, answer.headers.get("Content-Type", ""), answer.read())
