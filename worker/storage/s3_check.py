"""The check of a bucket before the first job: clients and the worker can do what they do."""

from __future__ import annotations

import re
import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import IncompleteRead

from worker.errors import NotFoundError, StorageError
from worker.storage.base import Storage
from worker.storage.s3_errors import DeniedError, Place, refusal

FOLDER = "worker-check/"  # below the output prefix; a result's name has a "_", so none is there
# Some services take one write a second of one key, and a hundred workers may start at once. What
# they write is the same under each, so that they do not disturb each other, and few objects stay.
KEYS = 32
CONTENT = b"Written at each start of a Spark-TTS worker, to see that the bucket can be used.\n"
UNREADABLE = "a pre-signed URL of what was stored cannot be read"
_URL_SECONDS = 300
_ANSWER_BYTES = 1 << 14  # of a refusal; S3's have some hundred


@dataclass(frozen=True)
class Answer:
    """An answer to a plain client, its body cut at _ANSWER_BYTES."""

    status: int
    headers: Mapping[str, str]  # in small letters
    body: bytes


def check_bucket(
    storage: Storage, prefix: str, place: Place, fetch: Callable[[str], Answer]
) -> None:
    """Write a small object below `prefix`, read it as a client and as the worker; look for none.

    `fetch` gets a URL as any client would. Nothing is listed or deleted: only who lists or removes
    voices needs it, and a key need not be allowed to. Raises StorageError, saying what to change.
    """
    key = f"{prefix}{FOLDER}{secrets.randbelow(KEYS):02}.txt"
    storage.write_bytes(key, CONTENT, "text/plain")
    _check_url(fetch(storage.url(key, _URL_SECONDS)), place)
    if not storage.exists(key):
        raise StorageError(f"{key} was stored and is not there; check AWS_ENDPOINT_URL")
    if storage.read_bytes(key) != CONTENT:
        raise StorageError(f"{key} was stored and reads differently; check AWS_ENDPOINT_URL")
    for look in (storage.read_bytes, storage.exists):
        try:
            look(f"{prefix}{FOLDER}missing")
        except NotFoundError:
            pass
        except DeniedError:
            raise StorageError(
                "access is denied where a file is missing; the key needs s3:ListBucket on "
                "the bucket (listFiles on Backblaze B2)"
            ) from None


def _check_url(answer: Answer, place: Place) -> None:
    """See that the URL gave what was stored to someone who knows the URL alone."""
    if (answer.status, answer.body) == (200, CONTENT):
        return
    if answer.status == 200:
        raise StorageError(
            f"{UNREADABLE}: something else answers; check AWS_ENDPOINT_URL, which must be the "
            "address of the S3 interface"
        )
    code = _tag(b"Code", answer.body) or str(answer.status)
    if code in {"NoSuchKey", "404"}:
        raise StorageError(
            f"{UNREADABLE}: nothing is there; check AWS_ENDPOINT_URL and S3_ADDRESSING_STYLE"
        )
    details = {"Region": _tag(b"Region", answer.body)}
    found = refusal(UNREADABLE, code, answer.status, answer.headers, place, details)
    if isinstance(found, DeniedError):
        raise StorageError(
            f"{UNREADABLE}: access is denied; the key needs s3:GetObject below S3_OUTPUT_PREFIX "
            "(readFiles on Backblaze B2)"
        )
    raise found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect of a pre-signed URL: not every client would."""

    def redirect_request(self, *_: object) -> None:
        return None


def fetch(url: str, trust: ssl.SSLContext, seconds: float) -> Answer:
    """GET as any client would. Raises OSError and HTTPException where no answer comes."""
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=trust), _NoRedirect())
    try:
        answer = opener.open(url, timeout=seconds)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        body = answer.read(_ANSWER_BYTES)
        promised = headers.get("content-length", "")
        if promised.isdecimal() and len(body) < min(int(promised), _ANSWER_BYTES):
            raise IncompleteRead(body)  # a read of so many bytes does not notice
        return Answer(answer.status, headers, body)


def _tag(name: bytes, body: bytes) -> str:
    found = re.search(rb"<%b>([A-Za-z0-9_.-]{1,64})</%b>" % (name, name), body)
    return found[1].decode() if found else ""
