"""A bucket: the one module that knows boto3."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import boto3
from boto3.s3.transfer import TransferConfig
from botocore import exceptions as boto
from botocore.config import Config

from worker.atomic import replacing
from worker.errors import NotFoundError, SetupError, StorageError
from worker.keys import checked_key
from worker.settings import Settings
from worker.storage.contract import READ_BYTES_MAX, not_small, too_large

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

T = TypeVar("T")

_MEGABYTE = 1 << 20
_CHUNK_BYTES = 1 << 16

# What to do, by the code of the service's answer. A HEAD request has no body and so no code:
# there botocore gives the status.
_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "NoSuchBucket": "the bucket does not exist; check S3_BUCKET_NAME, AWS_REGION and "
        "AWS_ENDPOINT_URL",
        "AccessDenied": "access is denied; the key needs s3:GetObject, s3:PutObject and "
        "s3:ListBucket on the bucket",
        "403": "access is denied; check the credentials, which need s3:GetObject, s3:PutObject and "
        "s3:ListBucket on the bucket",
        "InvalidAccessKeyId": "AWS_ACCESS_KEY_ID is not known there; check it and AWS_ENDPOINT_URL",
        "SignatureDoesNotMatch": "the signature is wrong; check AWS_SECRET_ACCESS_KEY, AWS_REGION",
        "AuthorizationHeaderMalformed": "the bucket is in another region; check AWS_REGION",
        "PermanentRedirect": "the bucket is in another region; check AWS_REGION",
        "301": "the bucket is in another region; check AWS_REGION",
        "ExpiredToken": "the credentials have expired; renew them",
        "RequestTimeTooSkewed": "the clock of this machine is wrong",
        "SlowDown": "the storage is overloaded; try again later",
        "ServiceUnavailable": "the storage is unavailable; try again later",
        "503": "the storage is unavailable; try again later",
        "InternalError": "the storage failed; try again later",
        "500": "the storage failed; try again later",
    }
)
_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_BROKEN_BODY = (
    boto.ReadTimeoutError,
    boto.ResponseStreamingError,
    boto.IncompleteReadError,
    boto.ConnectionClosedError,
)


@dataclass(frozen=True)
class S3Limits:
    """How long and how often S3 is asked. Timeouts are seconds, of one attempt."""

    connect_seconds: float = 5.0
    read_seconds: float = 30.0
    attempts: int = 6  # of one request, with growing pauses
    threads: int = 4
    part_bytes: int = 8 * _MEGABYTE  # larger files are sent in parts of this size


class S3Storage:
    """A bucket of AWS or of any service that speaks its protocol."""

    def __init__(self, client: S3Client, bucket: str, limits: S3Limits) -> None:
        self._client = client
        self._bucket = bucket
        self._attempts = limits.attempts
        self._transfer = TransferConfig(
            multipart_threshold=limits.part_bytes,
            multipart_chunksize=limits.part_bytes,
            max_concurrency=limits.threads,
        )

    @classmethod
    def from_settings(cls, settings: Settings, limits: S3Limits) -> S3Storage:
        """Make the client. Without keys in the settings, boto3 looks where it always does."""
        key, secret = settings.aws_access_key_id, settings.aws_secret_access_key
        token = settings.aws_session_token
        if bool(key) != bool(secret):
            raise SetupError("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or neither")
        endpoint = settings.aws_endpoint_url
        if endpoint and not endpoint.startswith(("https://", "http://")):
            raise SetupError("AWS_ENDPOINT_URL must begin with https://")
        session = boto3.session.Session(
            aws_access_key_id=key,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            aws_session_token=token.get_secret_value() if key and token else None,
            region_name=settings.aws_region,
        )
        config = Config(
            region_name=session.region_name or "us-east-1",
            signature_version="s3v4",
            # Virtual hosts on AWS, so that pre-signed URLs lead to the bucket's own region;
            # paths elsewhere: not every service has a name and a certificate for each bucket.
            s3={"addressing_style": "path" if endpoint else "virtual"},
            connect_timeout=limits.connect_seconds,
            read_timeout=limits.read_seconds,
            retries={"mode": "standard", "total_max_attempts": limits.attempts},
            max_pool_connections=max(10, 2 * limits.threads),
            # Backblaze B2, Cloudflare R2 and others refuse the checksum headers that boto3
            # sends by default since 1.36.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        try:
            client = session.client("s3", endpoint_url=endpoint, config=config)
        except (ValueError, boto.BotoCoreError) as error:
            raise SetupError(
                f"no S3 client can be made of the settings ({type(error).__name__}); "
                "check AWS_ENDPOINT_URL and AWS_REGION"
            ) from None
        return cls(client, settings.s3_bucket_name or "", limits)

    def put(self, path: Path, key: str, content_type: str) -> None:
        """See Storage."""
        with _s3_errors(f"{checked_key(key)} could not be stored"), path.open("rb") as file:
            self._client.upload_fileobj(
                file,
                self._bucket,
                key,
                ExtraArgs={"ContentType": content_type},
                Config=self._transfer,
            )

    def get(self, key: str, into: Path, *, max_bytes: int | None = None) -> Path:
        """See Storage."""
        with _s3_errors(f"{checked_key(key)} could not be read"), replacing(into) as part:
            self._until_whole(key, lambda answer: _download(answer, key, part, max_bytes))
        return into

    def exists(self, key: str) -> bool:
        """See Storage."""
        try:
            with _s3_errors(f"{checked_key(key)} could not be looked up"):
                self._client.head_object(Bucket=self._bucket, Key=key)
        except NotFoundError:
            return False
        return True

    def url(self, key: str, expiry_seconds: int) -> str:
        """See Storage."""
        with _s3_errors(f"no URL could be signed for {checked_key(key)}"):
            return self._client.generate_presigned_url(
                "get_object",
                Params={"Bucket": self._bucket, "Key": key},
                ExpiresIn=expiry_seconds,
            )

    def write_bytes(self, key: str, content: bytes, content_type: str) -> None:
        """See Storage."""
        with _s3_errors(f"{checked_key(key)} could not be stored"):
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=content, ContentType=content_type
            )

    def read_bytes(self, key: str) -> bytes:
        """See Storage."""
        with _s3_errors(f"{checked_key(key)} could not be read"):
            return self._until_whole(key, lambda answer: _read(answer, key))

    def check(self) -> None:
        """See Storage."""
        # A GET, since the answer to a HEAD does not say what is wrong.
        with _s3_errors("the bucket cannot be used"):
            self._client.list_objects_v2(Bucket=self._bucket, MaxKeys=1)

    def _until_whole(self, key: str, read: Callable[[GetObjectOutputTypeDef], T]) -> T:
        """Read again what broke off: botocore's own retries cover the answer, not its body."""
        for _ in range(self._attempts - 1):
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            with suppress(*_BROKEN_BODY):
                return read(answer)
        return read(self._client.get_object(Bucket=self._bucket, Key=key))


def _read(answer: GetObjectOutputTypeDef, key: str) -> bytes:
    if answer["ContentLength"] > READ_BYTES_MAX:
        answer["Body"].close()
        raise not_small(key)
    # Unlike read() of a number of bytes, this raises where the body is shorter than it says.
    return b"".join(answer["Body"].iter_chunks(_CHUNK_BYTES))


def _download(answer: GetObjectOutputTypeDef, key: str, part: Path, max_bytes: int | None) -> None:
    if max_bytes is not None and answer["ContentLength"] > max_bytes:
        answer["Body"].close()
        raise too_large(key, answer["ContentLength"], max_bytes)
    with part.open("wb") as file:
        for chunk in answer["Body"].iter_chunks(_CHUNK_BYTES):
            file.write(chunk)


@contextmanager
def _s3_errors(what: str) -> Iterator[None]:
    """Answer every error of botocore and of the local file system with a StorageError."""
    try:
        yield
    except boto.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _MISSING:
            raise NotFoundError(f"{what}: there is nothing of that name") from None
        raise StorageError(f"{what}: {_ADVICE.get(code, f'the storage answered {code}')}") from None
    except (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError):
        raise StorageError(
            f"{what}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from None
    except boto.SSLError:
        raise StorageError(
            f"{what}: the certificate of the storage is not trusted; check AWS_ENDPOINT_URL"
        ) from None
    except (boto.ConnectionError, boto.HTTPClientError) as error:
        raise StorageError(
            f"{what}: the storage cannot be reached ({type(error).__name__}); "
            "check AWS_ENDPOINT_URL and the network"
        ) from None
    except boto.BotoCoreError as error:
        raise StorageError(f"{what}: {type(error).__name__}") from None
    except OSError as error:
        raise StorageError(f"{what}: {error.strerror}") from None
