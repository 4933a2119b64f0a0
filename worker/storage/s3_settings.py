"""The check of a bucket's settings: each mistake in words that name the variable."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from worker.errors import SetupError
from worker.settings import Settings

_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
_ACCESS_POINT = re.compile(r"arn:.*accesspoint.*")


def check_settings(settings: Settings) -> None:
    """Raise SetupError for settings of which no working bucket can come."""
    if bool(settings.aws_access_key_id) != bool(settings.aws_secret_access_key):
        raise SetupError("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or neither")
    bucket = settings.s3_bucket_name or ""
    _check_bucket(bucket)
    if settings.aws_endpoint_url is not None:
        _check_endpoint(settings.aws_endpoint_url, bucket)


def _check_bucket(bucket: str) -> None:
    if _BUCKET.fullmatch(bucket) or _ACCESS_POINT.fullmatch(bucket):
        return
    bare = re.sub(r"^([a-z0-9+.-]+://|arn:[^/]*:::)", "", bucket, flags=re.IGNORECASE)
    if bare != bucket and "//" in bucket and not bucket.lower().startswith("s3://"):
        raise SetupError(
            "S3_BUCKET_NAME must be the bucket's name alone; an address goes into AWS_ENDPOINT_URL"
        )
    name, _, rest = bare.partition("/")
    if not _BUCKET.fullmatch(name):
        raise SetupError(
            "S3_BUCKET_NAME is no bucket's name: it may hold letters, digits and . _ - alone"
        )
    further = (
        f"; {rest.strip('/')!r} goes into S3_OUTPUT_PREFIX and S3_VOICES_PREFIX"
        if rest.strip("/")
        else ""
    )
    raise SetupError(f"S3_BUCKET_NAME must be the bucket's name alone: set it to {name!r}{further}")


def _check_endpoint(endpoint: str, bucket: str) -> None:
    if not endpoint.lower().startswith(("https://", "http://")):
        raise SetupError(
            "AWS_ENDPOINT_URL must begin with https:// (or, in a network of your own, http://)"
        )
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        raise SetupError("AWS_ENDPOINT_URL is no address; check AWS_ENDPOINT_URL: https://HOST")
    if parts.username is not None or parts.query or parts.fragment:
        raise SetupError(
            "AWS_ENDPOINT_URL must be https://HOST alone, without a user, '?' or '#'; the key "
            "goes into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if bucket in parts.path.split("/"):
        raise SetupError(
            f"AWS_ENDPOINT_URL names the bucket: leave {'/' + bucket!r} out, S3_BUCKET_NAME has it"
        )
