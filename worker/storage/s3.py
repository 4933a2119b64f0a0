"""A bucket: what is stored, got and looked up there, each within one deadline."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.httpsession import get_cert_path

from worker.atomic_write import replacing
from worker.cancellation import Cancellation
from worker.errors import NotFoundError, StorageError
from worker.settings import Settings
from worker.storage.base import READ_BYTES_MAX, StoredFile, not_small, too_large
from worker.storage.call import Call
from worker.storage.keys import checked_key, checked_prefix, keys_of
from worker.storage.s3_check import UNREADABLE, Answer, check_bucket, fetch
from worker.storage.s3_client import S3Limits, connect
from worker.storage.s3_errors import Place, is_busy
from worker.storage.s3_requests import BusyError, Requests
from worker.storage.s3_upload import PartedUpload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, ListObjectsV2OutputTypeDef

_CHUNK_BYTES = 1 << 16
PAGE_SECONDS = 5.0  # that each further page of a list may take


class S3Storage:
    """A bucket of AWS or of any service that speaks its protocol."""

    def __init__(
        self,
        client: S3Client,
        bucket: str,
        limits: S3Limits,
        *,
        output: str = "output/",
        place: Place | None = None,
        ca_bundle: str | None = None,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._limits = limits
        self._output = output  # prefix below which the check writes
        self._place = place or Place()
        self._ca_bundle = ca_bundle
        self._requests = Requests(limits, self._place)
        self._parts = PartedUpload(client, bucket, limits, self._requests)

    @classmethod
    def from_settings(cls, settings: Settings, limits: S3Limits) -> S3Storage:
        """Make the client; raise SetupError, naming the variable, where none can be made."""
        made = connect(settings, limits)
        return cls(
            made.client,
            settings.s3_bucket_name or "",
            limits,
            output=keys_of(settings).output,
            place=made.place,
            ca_bundle=made.ca_bundle,
        )

    def put(
        self, path: Path, key: str, content_type: str, *, cancellation: Cancellation | None = None
    ) -> None:
        """Store the file in one request, a large one in parts."""
        what = f"{checked_key(key)} could not be stored"

        def work(call: Call) -> None:
            size = path.stat().st_size
            call.allow(size / self._limits.bytes_per_second)
            if size > self._limits.part_bytes:
                self._parts.send(path, key, content_type, call)
                return
            with path.open("rb") as file:
                self._requests.tried(call, partial(self._put_whole, file, key, content_type))

        self._requests.within(what, work, cancellation)

    def get(
        self,
        key: str,
        into: Path,
        *,
        max_bytes: int | None = None,
        cancellation: Cancellation | None = None,
    ) -> Path:
        """Write the object to `into`; where its body breaks off, it is asked for again."""

        def work(call: Call) -> Path:
            allowed = False

            def attempt() -> None:
                nonlocal allowed
                answer = self._client.get_object(Bucket=self._bucket, Key=key)
                size = answer.get("ContentLength")  # a proxy may send it in pieces, without one
                if size is not None and max_bytes is not None and size > max_bytes:
                    answer["Body"].close()
                    raise too_large(key, size, max_bytes)
                if not allowed:
                    expected = (max_bytes or 0) if size is None else size
                    call.allow(expected / self._limits.bytes_per_second)
                    allowed = True
                with part.open("wb") as file:
                    for chunk in _chunks(answer, call, max_bytes):
                        file.write(chunk)
                    if max_bytes is not None and file.tell() > max_bytes:
                        raise too_large(key, file.tell(), max_bytes)

            with replacing(into) as part:
                self._requests.tried(call, attempt)
                call.check()  # nobody may look for the file any more, in a folder that is gone
            return into

        return self._requests.within(f"{checked_key(key)} could not be read", work, cancellation)

    def exists(self, key: str, *, cancellation: Cancellation | None = None) -> bool:
        """Look the object up, without its content."""

        def attempt() -> None:
            self._client.head_object(Bucket=self._bucket, Key=key)

        what = f"{checked_key(key)} could not be looked up"
        try:
            self._requests.ask(what, attempt, cancellation)
        except NotFoundError:
            return False
        return True

    def url(self, key: str, expiry_seconds: int) -> str:
        """Sign a URL, for which the service is not asked."""
        checked_key(key)
        try:
            return self._client.generate_presigned_url(
                "get_object",
                Params={"Bucket": self._bucket, "Key": key},
                ExpiresIn=expiry_seconds,
            )
        except Exception as error:
            raise self._requests.in_words(f"no URL could be signed for {key}", error) from None

    def write_bytes(
        self,
        key: str,
        content: bytes,
        content_type: str,
        *,
        cancellation: Cancellation | None = None,
    ) -> None:
        """Store `content` in one request."""

        def attempt() -> None:
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=content, ContentType=content_type
            )

        what = f"{checked_key(key)} could not be stored"
        self._requests.ask(what, attempt, cancellation)

    def read_bytes(self, key: str, *, cancellation: Cancellation | None = None) -> bytes:
        """Read a small object; a larger one is refused by its header, or while it comes."""

        def work(call: Call) -> bytes:
            return self._requests.tried(
                call,
                lambda: _read(self._client.get_object(Bucket=self._bucket, Key=key), key, call),
            )

        return self._requests.within(f"{checked_key(key)} could not be read", work, cancellation)

    def children(
        self, prefix: str, *, cancellation: Cancellation | None = None
    ) -> tuple[StoredFile, ...]:
        """List page by page; what lies in folders below the prefix stays on the service."""

        def page(token: str) -> ListObjectsV2OutputTypeDef:
            bucket, most = self._bucket, self._limits.list_keys
            if not token:
                return self._client.list_objects_v2(
                    Bucket=bucket, Prefix=prefix, Delimiter="/", MaxKeys=most
                )
            return self._client.list_objects_v2(
                Bucket=bucket, Prefix=prefix, Delimiter="/", MaxKeys=most, ContinuationToken=token
            )

        def work(call: Call) -> tuple[StoredFile, ...]:
            found: list[StoredFile] = []
            token = ""
            while True:
                answer = self._requests.tried(call, partial(page, token))
                found += _files(answer, prefix)
                following = answer.get("NextContinuationToken", "")
                if not answer.get("IsTruncated") or not following:
                    return tuple(sorted(found, key=lambda file: file.key))
                token = following
                call.allow(PAGE_SECONDS)

        what = f"{checked_prefix(prefix) or 'the bucket'} could not be listed"
        return self._requests.within(what, work, cancellation)

    def delete(self, key: str, *, cancellation: Cancellation | None = None) -> None:
        """Delete the object; most services say nothing of one that is not there."""

        def attempt() -> None:
            self._client.delete_object(Bucket=self._bucket, Key=key)

        what = f"{checked_key(key)} could not be removed"
        with suppress(NotFoundError):
            self._requests.ask(what, attempt, cancellation)

    def check(self) -> None:
        """Try what the worker and its clients do; raises StorageError, saying what to change."""
        try:
            self._check_host()
            check_bucket(self, self._output, self._place, self._fetch)
        except StorageError as error:
            raise StorageError(f"the bucket cannot be used: {error.message}") from None

    def _check_host(self) -> None:
        """Raise StorageError where the endpoint is the bucket's own host.

        Such a service answers, and takes the bucket's name in the path for the beginning of each
        key. It then has no bucket under that path, but an object that is not there.
        """
        host = urlsplit(self._place.endpoint or "").hostname or ""
        if not host.startswith(f"{self._bucket.lower()}."):
            return

        def attempt() -> None:
            self._client.head_bucket(Bucket=self._bucket)

        try:
            self._requests.ask("", attempt)
        except NotFoundError:
            raise StorageError(
                "AWS_ENDPOINT_URL names it, or it does not exist; leave "
                f"'{self._bucket}.' out of AWS_ENDPOINT_URL, and check S3_BUCKET_NAME"
            ) from None
        except StorageError:
            return  # what is asked next says more

    def _fetch(self, url: str) -> Answer:
        """GET by a plain client, which knows the worker's certificate authorities alone."""
        trust = ssl.create_default_context(cafile=self._ca_bundle or get_cert_path(verify=True))

        def attempt() -> Answer:
            answer = fetch(url, trust, self._limits.read_seconds)
            if is_busy(answer.status):
                raise BusyError(answer)
            return answer

        try:
            return self._requests.ask(UNREADABLE, attempt)
        except BusyError as error:
            return error.answer

    def _put_whole(self, file: Any, key: str, content_type: str) -> None:
        file.seek(0)
        self._client.put_object(Bucket=self._bucket, Key=key, Body=file, ContentType=content_type)


def _read(answer: GetObjectOutputTypeDef, key: str, call: Call) -> bytes:
    if answer.get("ContentLength", 0) > READ_BYTES_MAX:
        answer["Body"].close()
        raise not_small(key)
    content = b"".join(_chunks(answer, call, READ_BYTES_MAX))
    if len(content) > READ_BYTES_MAX:
        raise not_small(key)
    return content


def _files(answer: ListObjectsV2OutputTypeDef, prefix: str) -> Iterator[StoredFile]:
    """The files of a page; not the mark of an empty folder, which some consoles make."""
    for one in answer.get("Contents", ()):
        if one["Key"] == prefix:
            continue
        modified = one["LastModified"].timestamp()
        version = f"{one.get('ETag', '')} {modified:.3f}"
        yield StoredFile(one["Key"], one["Size"], modified, version)


def _chunks(answer: GetObjectOutputTypeDef, call: Call, most: int | None) -> Iterator[bytes]:
    """The body in pieces, until more than `most` bytes have come."""
    read = 0
    # Unlike read() of a number of bytes, this raises where the body is shorter than it says.
    for chunk in answer["Body"].iter_chunks(_CHUNK_BYTES):
        yield chunk
        call.check()
        read += len(chunk)
        if most is not None and read > most:
            answer["Body"].close()
            return
