"""Errors of a bucket: each refusal in words that say what to change, and hold no secret."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from types import MappingProxyType
from typing import Any
from urllib.error import URLError

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from worker.errors import NotFoundError, StorageError
from worker.redaction import origin

_RIGHTS = "s3:GetObject, s3:PutObject and s3:ListBucket on the bucket of S3_BUCKET_NAME"
# What some calls need, and others not.
_OWN_RIGHTS: Mapping[str, str] = MappingProxyType(
    {
        "ListObjectsV2": "s3:ListBucket on the bucket (listFiles on Backblaze B2)",
        "DeleteObject": "s3:DeleteObject below S3_VOICES_PREFIX (deleteFiles on Backblaze B2)",
    }
)
_LATER = "try again later"
_UNKNOWN_KEY = "the service does not know AWS_ACCESS_KEY_ID; check it and AWS_ENDPOINT_URL"
_REGION = "the bucket is in another region; check AWS_REGION and AWS_ENDPOINT_URL"
_NO_SUCH_SERVICE = "AWS_ENDPOINT_URL is not the address of an S3 service, or of one that lacks this"

# What to do, by the code of the service's answer. A HEAD request has no body and so no code:
# there, and where the body is no XML, botocore gives the status.
_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "NoSuchBucket": "the bucket does not exist; check S3_BUCKET_NAME, AWS_REGION and "
        "AWS_ENDPOINT_URL",
        "InvalidBucketName": "the service refuses the bucket's name; check S3_BUCKET_NAME, and "
        "S3_ADDRESSING_STYLE",
        "AccessDenied": f"access is denied; the key needs {_RIGHTS}",
        "AllAccessDisabled": "the bucket is closed; check S3_BUCKET_NAME and the account",
        "AccountProblem": "the account has a problem; see the provider's console",
        "401": f"access is denied; check the credentials, which need {_RIGHTS}",
        "403": f"access is denied; check the credentials, which need {_RIGHTS}",
        "InvalidAccessKeyId": _UNKNOWN_KEY,
        "SignatureDoesNotMatch": "the signature is wrong; check AWS_SECRET_ACCESS_KEY, AWS_REGION",
        "InvalidToken": "AWS_SESSION_TOKEN is wrong; renew it, or unset it where the key is a "
        "lasting one",
        "InvalidClientTokenId": _UNKNOWN_KEY,
        "AuthorizationHeaderMalformed": _REGION,
        "AuthorizationQueryParametersError": _REGION,
        "IllegalLocationConstraintException": _REGION,
        "PermanentRedirect": _REGION,
        "TemporaryRedirect": _REGION,
        "301": _REGION,
        "302": _REGION,
        "307": _REGION,
        "308": _REGION,
        "400": "the request is refused; check AWS_REGION and AWS_ENDPOINT_URL",
        "404": "there is no such thing; check S3_BUCKET_NAME and AWS_ENDPOINT_URL",
        "405": f"{_NO_SUCH_SERVICE}; check AWS_ENDPOINT_URL and S3_ADDRESSING_STYLE",
        "MethodNotAllowed": f"{_NO_SUCH_SERVICE}; check AWS_ENDPOINT_URL and S3_ADDRESSING_STYLE",
        "501": f"{_NO_SUCH_SERVICE}; check AWS_ENDPOINT_URL and S3_ADDRESSING_STYLE",
        "NotImplemented": f"{_NO_SUCH_SERVICE}; check AWS_ENDPOINT_URL and S3_ADDRESSING_STYLE",
        "413": "the file is too large for the service, or for a proxy before it; raise its bound",
        "EntityTooLarge": "the file is too large for the service, or for a proxy before it; raise "
        "its bound",
        "507": "the storage is full; make room, or raise its quota",
        "QuotaExceeded": "the storage is full; make room, or raise its quota",
        "XMinioStorageFull": "the storage is full; make room, or raise its quota",
        "ExpiredToken": "the credentials have expired; renew them",
        "TokenRefreshRequired": "the credentials have expired; renew them",
        "RequestTimeTooSkewed": "the clock of this machine is wrong",
        "RequestExpired": "the clock of this machine is wrong",
        "SlowDown": f"the storage is overloaded; {_LATER}",
        "429": f"the storage is overloaded; {_LATER}",
        "ServiceUnavailable": f"the storage is unavailable; {_LATER}",
        "503": f"the storage is unavailable; {_LATER}",
        "502": "a proxy before the storage cannot reach it (502); "
        f"{_LATER}, and check AWS_ENDPOINT_URL",
        "504": "a proxy before the storage had no answer from it in time (504); "
        f"{_LATER}, and check AWS_ENDPOINT_URL",
        "InternalError": f"the storage failed; {_LATER}",
        "500": f"the storage failed; {_LATER}",
    }
)
# What "missing" is an answer to.
_LOOKS = frozenset({"GetObject", "HeadObject", "HeadBucket", "DeleteObject"})
_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_DENIED = frozenset({"AccessDenied", "401", "403"})
_THROTTLED = frozenset(
    {
        *("SlowDown", "RequestTimeout", "RequestTimeoutException", "Throttling"),
        *(
            "ThrottlingException",
            "RequestThrottled",
            "RequestLimitExceeded",
            "BandwidthLimitExceeded",
        ),
        *("TooManyRequests", "TooManyRequestsException", "InternalError", "ServiceUnavailable"),
    }
)
_BUSY = frozenset({429, 500, 502, 503, 504})  # statuses

_NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
)
_NETWORK = (
    *(boto.ConnectionError, boto.HTTPClientError, boto.IncompleteReadError),
    # of a plain client; URLError is an OSError too
    *(URLError, ConnectionError, TimeoutError, HTTPException),
)
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
_OTHER_HOST = ("doesn't match", "mismatch", "is not valid for", "no appropriate subjectAltName")
_TLS_REFUSALS = ("CERTIFICATE_VERIFY_FAILED", *_OTHER_HOST, *_NO_TLS)


class DeniedError(StorageError):
    """The key may not do this. Or, where it may not list, there is nothing of that name."""


@dataclass(frozen=True)
class Place:
    """The place where the bucket was looked for, as far as a message may tell it."""

    region: str = "us-east-1"
    region_is_set: bool = True
    endpoint: str | None = None


def is_busy(status: int) -> bool:
    """Whether the service is busy, by its status: asking again may help."""
    return status in _BUSY


def is_transient(error: Exception) -> bool:
    """Whether asking again may help: the network failed, a body broke off, the service is busy."""
    if isinstance(error, boto.ClientError):
        code, status = _code(error.response)
        return code in _THROTTLED or status in _BUSY
    return isinstance(error, _NETWORK) and not any(sign in str(error) for sign in _TLS_REFUSALS)


def storage_error(what: str, error: Exception, place: Place) -> StorageError | None:
    """The error for the user; None for what neither the storage nor the disk has raised.

    `what` says what could not be done. NotFoundError, where there is nothing of that name, and
    DeniedError are of their own.
    """
    if isinstance(error, boto.ClientError):
        code, status = _code(error.response)
        headers = dict(error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}))
        operation = error.operation_name
        if operation.startswith("Head"):
            headers.pop("content-type", None)  # of a body that does not come
        if code in _MISSING and operation in _LOOKS and not _is_page(code, status, headers):
            return NotFoundError(f"{what}: there is nothing of that name")
        if code in _DENIED and operation in _OWN_RIGHTS:
            return DeniedError(f"{what}: access is denied; the key needs {_OWN_RIGHTS[operation]}")
        return refusal(what, code, status, headers, place, error.response.get("Error", {}))
    words = _failure(error, place)
    return None if words is None else StorageError(f"{what}: {words}")


def refusal(
    what: str,
    code: str,
    status: int,
    headers: Mapping[str, str],
    place: Place,
    details: Mapping[str, Any] | None = None,
) -> StorageError:
    """The error for an answer of the service: by its headers first, which its body may lack."""
    region = headers.get("x-amz-bucket-region") or str((details or {}).get("Region", ""))
    elsewhere = status == 400 or 300 <= status < 400
    if elsewhere and region != place.region and re.fullmatch(r"[a-z0-9-]{2,40}", region):
        now = f"not in {place.region}" if place.region_is_set else "and AWS_REGION is not set"
        return StorageError(f"{what}: the bucket is in {region}, {now}; set AWS_REGION={region}")
    leads = origin(headers.get("location", ""))
    if 300 <= status < 400 and leads and place.endpoint:
        return StorageError(
            f"{what}: AWS_ENDPOINT_URL is redirected to {leads}; set it to that, or check it and "
            "AWS_REGION"
        )
    if _is_page(code, status, headers):
        return StorageError(
            f"{what}: a web page answers (HTTP {status}), not an S3 service; check "
            "AWS_ENDPOINT_URL, which must be the address of the S3 interface"
        )
    if code == "500" and "html" in headers.get("content-type", ""):  # or 200: botocore says 500
        return StorageError(
            f"{what}: a web page answers in the storage's place; try again later, and check "
            "AWS_ENDPOINT_URL"
        )
    kind = DeniedError if code in _DENIED else StorageError
    if code in _ADVICE:
        return kind(f"{what}: {_ADVICE[code]}")
    by_status = _ADVICE.get(str(status))
    told = f"{what}: the storage answered {code}"
    return kind(f"{told}; {by_status}" if by_status else told)


def _is_page(code: str, status: int, headers: Mapping[str, str]) -> bool:
    """Whether a page for people came; what stands before a service also sends some when busy."""
    return code == str(status) and status < 500 and "html" in headers.get("content-type", "")


def _code(response: Mapping[str, Any]) -> tuple[str, int]:
    """Code and status. A web page that happens to be XML has no code; then the status is it."""
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(response.get("Error", {}).get("Code", ""))
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", code):
        code = str(status)
    return code, status or (int(code) if code.isdigit() else 0)


def _failure(error: Exception, place: Place) -> str | None:  # noqa: PLR0911 - a table
    """The fault where no answer came; None for an error of anything else."""
    if isinstance(error, _NO_CREDENTIALS):
        return "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    cause = getattr(error, "reason", error)
    if isinstance(cause, (boto.SSLError, ssl.SSLError)):
        return _certificate_fault(str(cause))
    if isinstance(error, boto.ProxyConnectionError):
        return "the proxy cannot be reached; check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
    if isinstance(error, _NETWORK):
        check = "AWS_ENDPOINT_URL (S3_ADDRESSING_STYLE too, if it is virtual)"
        check = check if place.endpoint else "AWS_REGION"
        return (
            f"the storage cannot be reached ({type(cause).__name__}); check {check} and the network"
        )
    if isinstance(error, ResponseParserError):
        return "the answer is not one of S3; check AWS_ENDPOINT_URL"
    if isinstance(error, boto.BotoCoreError):
        return f"{type(error).__name__}; check the AWS_ variables"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return None


def _certificate_fault(text: str) -> str:
    """The fault where TLS fails, and what to do, by OpenSSL's and urllib3's words."""
    if any(sign in text for sign in _NO_TLS):
        return "the storage does not speak TLS; check AWS_ENDPOINT_URL: http:// or another port"
    if not any(sign in text for sign in _TLS_REFUSALS):
        return "no secure connection to the storage; check AWS_ENDPOINT_URL and the network"
    fault = "the certificate of the storage is not trusted"
    if any(sign in text for sign in _OTHER_HOST):
        return (
            f"{fault}: it is for another host; check AWS_ENDPOINT_URL, or set "
            "S3_ADDRESSING_STYLE=path"
        )
    if "expired" in text or "not yet valid" in text:
        return f"{fault}: it is out of date; renew it, or set the clock of this machine right"
    return (
        f"{fault}: its authority is not known here; check AWS_ENDPOINT_URL, or name a file with "
        "the authority's certificate in AWS_CA_BUNDLE"
    )
