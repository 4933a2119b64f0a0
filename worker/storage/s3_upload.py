"""A large file -> a bucket, in parts that are sent side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, TypeVar

from botocore import exceptions as boto

from worker.storage.call import Call
from worker.storage.s3_client import S3Limits
from worker.storage.s3_requests import Requests

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

T = TypeVar("T")


class PartedUpload:
    """Uploads files in parts, as S3 calls them, of `limits.part_bytes` each."""

    def __init__(self, client: S3Client, bucket: str, limits: S3Limits, requests: Requests) -> None:
        self._client = client
        self._bucket = bucket
        self._limits = limits
        self._requests = requests

    def send(self, path: Path, key: str, content_type: str, call: Call) -> None:
        """Store the file at `path`; where a part cannot be sent, the others are given up too."""
        client, bucket, tried = self._client, self._bucket, self._requests.tried
        begun = tried(
            call,
            lambda: client.create_multipart_upload(
                Bucket=bucket, Key=key, ContentType=content_type
            ),
        )
        upload = begun["UploadId"]

        def send_part(number: int) -> CompletedPartTypeDef:
            def attempt() -> CompletedPartTypeDef:
                body = BytesIO(self._part(path, number))
                sent = client.upload_part(
                    Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body
                )
                return {"PartNumber": number, "ETag": sent["ETag"]}

            return tried(call, attempt)

        size = path.stat().st_size
        numbers = range(1, -(-size // self._limits.part_bytes) + 1)
        try:
            parts = _side_by_side(send_part, numbers, self._limits.threads)
            tried(
                call,
                lambda: client.complete_multipart_upload(
                    Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
                ),
            )
        except BaseException as error:
            if self._is_whole(error, key, size):
                return
            with suppress(Exception):  # the bucket's lifecycle rule does it else
                client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
            raise

    def _part(self, path: Path, number: int) -> bytes:
        """The bytes of a part; S3 counts them from 1."""
        with path.open("rb") as file:
            file.seek((number - 1) * self._limits.part_bytes)
            return file.read(self._limits.part_bytes)

    def _is_whole(self, error: BaseException, key: str, size: int) -> bool:
        """Whether an upload that is not known any more is complete: the answer to that was lost."""
        if not isinstance(error, boto.ClientError):
            return False
        if error.response.get("Error", {}).get("Code") != "NoSuchUpload":
            return False
        with suppress(Exception):
            found = self._client.head_object(Bucket=self._bucket, Key=key)
            return found["ContentLength"] == size
        return False


def _side_by_side(work: Callable[[int], T], numbers: Iterable[int], threads: int) -> list[T]:
    """The results of `work` on each number, in order; raises what failed first.

    In threads that the end of the process does not wait for, as it does for those of a pool.
    """
    left, done, failed = iter(numbers), dict[int, T](), list[BaseException]()
    lock = Lock()

    def run() -> None:
        while not failed:
            with lock:
                number = next(left, None)
            if number is None:
                return
            try:
                done[number] = work(number)
            except BaseException as error:
                failed.append(error)

    crew = [Thread(target=run, name="storage-part", daemon=True) for _ in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    if failed:
        raise failed[0]
    return [done[number] for number in sorted(done)]
