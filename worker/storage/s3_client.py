"""The settings of a bucket -> a client of boto3, which mends nothing in silence."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import boto3
import botocore.session
from botocore import exceptions as boto
from botocore.config import Config
from botocore.loaders import Loader

from worker.errors import SetupError
from worker.settings import Settings
from worker.storage.s3_errors import Place
from worker.storage.s3_settings import check_settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MEGABYTE = 1 << 20
# Of which a client is made: the bucket's, and those that botocore asks for credentials.
_SERVICES = ("s3", "signin", "sso", "sso-oidc", "sts")


@dataclass(frozen=True)
class S3Limits:
    """Deadlines, attempts and sizes of requests to S3.

    A call is what the worker asks of a storage: one thing stored, got or looked up, whatever
    requests that takes. All its attempts and pauses share one deadline.
    """

    connect_seconds: float = 5.0  # of one attempt; also for sending 16 kB of a body
    # Of one attempt, without a byte. The slowest answer of a healthy service is that to the last
    # request of an upload in parts, which takes some seconds for a large one.
    read_seconds: float = 30.0
    attempts: int = 6  # of one request, in all: a rolling restart of a service takes some seconds
    pause_seconds: float = 0.5  # at most, after the first attempt; twice as long after each further
    # A service that accepts and never answers is tried twice. A job makes a handful of calls, so
    # that it fails in words before RunPod's execution timeout, 600 s by default, ends it without.
    call_seconds: float = 60.0
    # What a call with more to carry gets beyond that: 4 Mbit/s; an hour of WAV, 115 MB, has 280 s.
    bytes_per_second: float = 512 * 1024
    threads: int = 4
    list_keys: int = 1_000  # that one page of a list has at most; also what S3 gives at most
    part_bytes: int = 8 * _MEGABYTE  # larger files are sent in parts of this size


@dataclass(frozen=True)
class Connected:
    """A client, and what a plain one must know to reach the same bucket."""

    client: S3Client
    place: Place
    ca_bundle: str | None  # file of certificate authorities; None: those that boto3 brings


def connect(settings: Settings, limits: S3Limits) -> Connected:
    """Make the client. Without keys in the settings, boto3 looks where it always does.

    Raises SetupError, naming the variable, for settings of which no client can come.
    """
    check_settings(settings)
    with _setup_errors():
        core = botocore.session.get_session()
        core.register_component("data_loader", descriptions(core))
        session = _session(settings, core)
        ca_bundle = settings.aws_ca_bundle or core.get_config_variable("ca_bundle")
        if ca_bundle:
            _check_bundle(str(ca_bundle))
        client = session.client(
            "s3",
            endpoint_url=settings.aws_endpoint_url,
            config=_config(settings, limits, session.region_name or "us-east-1"),
            verify=str(ca_bundle) if ca_bundle else None,
        )
    client.meta.events.register("before-call.s3", _stay_in_the_region)
    place = Place(client.meta.region_name, bool(session.region_name), settings.aws_endpoint_url)
    return Connected(client, place, str(ca_bundle) if ca_bundle else None)


class Descriptions(Loader):
    """Botocore's descriptions of services, found without looking through those of all 400.

    Its own loader looks into the folder of each for one client: 3,500 calls on a volume.
    """

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 - botocore's name
        """Those of which the worker makes clients, whether or not they have this type."""
        return list(_SERVICES)


def descriptions(core: botocore.session.Session) -> Descriptions:
    """Those of botocore, and of the folders that AWS_DATA_PATH names."""
    folders = str(core.get_config_variable("data_path") or "").split(os.pathsep)
    return Descriptions(
        extra_search_paths=[str(Path(folder).expanduser()) for folder in folders if folder]
    )


def _session(settings: Settings, core: botocore.session.Session) -> boto3.session.Session:
    """A session of boto3 with the settings' credentials and region."""
    key, secret = settings.aws_access_key_id, settings.aws_secret_access_key
    token = settings.aws_session_token
    return boto3.session.Session(
        aws_access_key_id=key,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        aws_session_token=token.get_secret_value() if key and token else None,
        region_name=settings.aws_region,
        botocore_session=core,
    )


def _config(settings: Settings, limits: S3Limits, region: str) -> Config:
    """The client's own settings, as other services than AWS need them too."""
    return Config(
        region_name=region,
        signature_version="s3v4",
        s3={"addressing_style": _addressing_style(settings)},
        connect_timeout=limits.connect_seconds,
        read_timeout=limits.read_seconds,
        # One: `Requests.tried` asks again, within the deadline of the whole call.
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=max(10, 2 * limits.threads),
        # Backblaze B2, Cloudflare R2 and others refuse the checksum headers that boto3
        # sends by default since 1.36.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


@contextmanager
def _setup_errors() -> Iterator[None]:
    """Raise SetupError, naming the variable, for what boto3 says of the settings."""
    try:
        yield
    except boto.ProfileNotFound:
        raise SetupError(
            "AWS_PROFILE names a profile that is in no configuration file here; unset it, or "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in its place"
        ) from None
    except (boto.ConfigParseError, boto.ConfigNotFound):
        raise SetupError(
            "the file of AWS_CONFIG_FILE or AWS_SHARED_CREDENTIALS_FILE cannot be read"
        ) from None
    except (ValueError, boto.BotoCoreError) as error:
        raise SetupError(
            f"no S3 client can be made of the settings ({type(error).__name__}); "
            "check AWS_ENDPOINT_URL and AWS_REGION"
        ) from None


def _addressing_style(settings: Settings) -> Literal["auto", "path", "virtual"]:
    """Virtual hosts on AWS, so that pre-signed URLs lead to the bucket's own region.

    Paths elsewhere, since not every service has a name and a certificate for each bucket. Where a
    name has dots, and AWS's certificate is for one label before s3, botocore itself takes a path.
    """
    if settings.s3_addressing_style != "auto":
        return settings.s3_addressing_style
    return "path" if settings.aws_endpoint_url else "virtual"


def _stay_in_the_region(context: dict[str, Any], **_: object) -> None:
    """Keep botocore from asking another region's endpoint in silence.

    It would mend its own requests so and no pre-signed URL, of which clients then get errors. It
    leaves alone what has been redirected once.
    """
    context.setdefault("s3_redirect", {})["redirected"] = True


def _check_bundle(path: str) -> None:
    """Raise SetupError for a file of which no certificate authority can be read."""
    if not Path(path).is_file():
        raise SetupError("AWS_CA_BUNDLE names a file that is not there")
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        raise SetupError("AWS_CA_BUNDLE names a file that holds no certificate (PEM)") from None
