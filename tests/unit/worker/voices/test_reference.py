"""prompt_speech_url -> a local file, bounded, and errors that name the field."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from tests.support.https import HttpsServer, https_server
from worker.api.references import UrlReference
from worker.cancellation import Cancellation
from worker.errors import (
    DownloadError,
    JobCancelledError,
    NotFoundError,
    RequestError,
    StorageError,
    VoiceError,
)
from worker.net.download import Limits
from worker.storage.keys import Keys, checked_key
from worker.storage.local import LocalStorage
from worker.voices.reference import fetch_reference, place_of

FIELD = "prompt_speech_url"
KEYS = Keys(voices="voices/", output="output/", bucket="speech")
CONTENT = bytes(range(250))


async def clip(_request: web.Request) -> web.Response:
    return web.Response(body=CONTENT)


async def loopback(_host: str) -> list[str]:
    return ["127.0.0.1"]


@pytest.fixture(scope="module")
def server() -> Iterator[HttpsServer]:
    with https_server({"/clip": clip}, "voice.example") as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    folder.mkdir()
    return folder


class Bucket(LocalStorage):
    """Remembers the bounds that it was given; fails when told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.bounds: list[int | None] = []
        self.cancellations: list[Cancellation | None] = []
        self.failure: StorageError | None = None

    def get(
        self,
        key: str,
        into: Path,
        *,
        max_bytes: int | None = None,
        cancellation: Cancellation | None = None,
    ) -> Path:
        self.cancellations.append(cancellation)
        self.bounds.append(max_bytes)
        if self.failure is not None:
            raise self.failure
        return super().get(key, into, max_bytes=max_bytes)


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    bucket = Bucket(tmp_path / "bucket")
    bucket.write_bytes("voices/team/alice.wav", CONTENT, "audio/wav")
    return bucket


@pytest.mark.parametrize("reference", ["team/alice.wav", "s3://speech/voices/team/alice.wav"])
def test_a_file_of_the_storage_by_name_or_url(bucket: Bucket, folder: Path, reference: str) -> None:
    file = fetch_reference(reference, bucket, KEYS, folder)
    assert file.read_bytes() == CONTENT
    assert list(folder.iterdir()) == [file]


def test_a_file_of_the_internet(bucket: Bucket, folder: Path, server: HttpsServer) -> None:
    limits = Limits(allow_address=lambda _: True, resolve=loopback, ssl=server.trust)
    file = fetch_reference(server.url("/clip"), bucket, KEYS, folder, limits)
    assert file.read_bytes() == CONTENT
    assert list(folder.iterdir()) == [file]
    assert bucket.bounds == []


def test_a_stored_file_is_bounded_as_a_download_is(bucket: Bucket, folder: Path) -> None:
    fetch_reference("team/alice.wav", bucket, KEYS, folder)
    assert bucket.bounds == [25_000_000]
    fetch_reference("team/alice.wav", bucket, KEYS, folder, Limits(max_bytes=250))
    with pytest.raises(StorageError, match="at most 249 are allowed") as caught:
        fetch_reference("team/alice.wav", bucket, KEYS, folder, Limits(max_bytes=249))
    assert caught.value.field == FIELD


def test_a_download_keeps_to_its_bounds(bucket: Bucket, folder: Path, server: HttpsServer) -> None:
    limits = Limits(249, allow_address=lambda _: True, resolve=loopback, ssl=server.trust)
    with pytest.raises(DownloadError, match="more than 249 bytes") as caught:
        fetch_reference(server.url("/clip"), bucket, KEYS, folder, limits)
    assert caught.value.field == FIELD
    assert list(folder.iterdir()) == []


def test_a_file_that_is_not_there_is_an_error_of_the_voice(bucket: Bucket, folder: Path) -> None:
    with pytest.raises(VoiceError, match=r"no 'team/bob\.wav' in the worker's storage") as caught:
        fetch_reference("team/bob.wav", bucket, KEYS, folder)
    assert caught.value.field == FIELD
    assert caught.value.message.startswith(FIELD)


def test_a_storage_that_fails_is_named_as_that(bucket: Bucket, folder: Path) -> None:
    bucket.failure = StorageError("access is denied")
    with pytest.raises(StorageError) as caught:
        fetch_reference("team/alice.wav", bucket, KEYS, folder)
    assert not isinstance(caught.value, NotFoundError)
    assert caught.value.message == f"{FIELD}: access is denied"
    assert caught.value.field == FIELD


def test_the_storage_hears_of_the_jobs_cancellation(bucket: Bucket, folder: Path) -> None:
    cancellation = Cancellation()
    fetch_reference("team/alice.wav", bucket, KEYS, folder, cancellation=cancellation)
    assert bucket.cancellations == [cancellation]


def test_a_download_ends_when_its_job_is_cancelled(bucket: Bucket, folder: Path) -> None:
    cancellation = Cancellation()

    async def slow(_host: str) -> list[str]:
        cancellation.cancel()
        await asyncio.sleep(60)
        return []

    limits = Limits(resolve=slow, seconds=50)
    begun = time.monotonic()
    for _ in range(2):  # and when it was before
        with pytest.raises(JobCancelledError):
            fetch_reference(
                "https://voice.example/x", bucket, KEYS, folder, limits, cancellation=cancellation
            )
    assert time.monotonic() - begun < 30
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("reference", ["../output/x.wav", "ftp://a.example/x", "s3://other/x"])
def test_a_place_that_is_none_is_not_asked(bucket: Bucket, folder: Path, reference: str) -> None:
    with pytest.raises(RequestError):
        fetch_reference(reference, bucket, KEYS, folder)
    assert bucket.bounds == []


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("alice.wav", "voices/alice.wav"),
        ("team/alice_ü.mp3", "voices/team/alice_ü.mp3"),
        ("voices/alice.wav", "voices/alice.wav"),
        ("voices/voices/alice.wav", "voices/voices/alice.wav"),
        ("s3://speech/any/where.flac", "any/where.flac"),
        ("S3://speech/x.wav", "x.wav"),
        ("https://a.example/x.wav?sig=1", UrlReference("https://a.example/x.wav?sig=1")),
        ("HTTPS://a.example/x.wav", UrlReference("https://a.example/x.wav")),
    ],
)
def test_the_three_kinds_of_places(reference: str, found: str | UrlReference) -> None:
    assert place_of(reference, KEYS) == found


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("http://a.example/x.wav", "is neither an s3:// nor an https:// URL"),
        ("file:///etc/passwd", "is neither an s3:// nor an https:// URL"),
        ("ftp://a.example/x.wav", "is neither an s3:// nor an https:// URL"),
        ("data:audio/wav;base64,AAAA", "is neither an s3:// nor an https:// URL"),
        ("C:\\voice.wav", "holds a space, a backslash"),
        ("s3://speech", "has no file's key"),
        ("s3://other/x.wav", "the bucket 'other' is not this worker's"),
        ("s3://SPEECH/x.wav", "the bucket 'SPEECH' is not this worker's"),
        ("s3:///x.wav", "has no bucket's name"),
        ("s3://speech/../x.wav", "has no file's key"),
        ("s3://speech/", "has no file's key"),
        ("s3://speech//x.wav", "has no file's key"),
        ("", "is neither a URL nor a name below voices/"),
        ("../output/x.wav", "is neither a URL nor a name below voices/"),
        ("/etc/passwd", "is neither a URL nor a name below voices/"),
        ("a\0.wav", "control character"),
    ],
)
def test_all_other_places_are_refused_with_the_field(reference: str, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        place_of(reference, KEYS)
    assert words in caught.value.message
    assert caught.value.message.startswith(FIELD)
    assert caught.value.field == FIELD


def test_without_a_bucket_no_s3_url_can_be_read() -> None:
    with pytest.raises(RequestError, match="has no bucket"):
        place_of("s3://speech/x.wav", Keys("voices/", "output/", None))


def test_with_its_prefix_a_name_is_a_key_that_the_storage_can_have() -> None:
    assert place_of("x" * 1017, KEYS) == "voices/" + "x" * 1017
    with pytest.raises(RequestError, match="1024 bytes") as caught:
        place_of("x" * 1018, KEYS)
    assert caught.value.field == FIELD


@given(st.one_of(st.text(max_size=60), st.from_regex(r"(s3|https)://[!-~]{0,40}", fullmatch=True)))
def test_any_text_is_a_place_or_a_clear_error(reference: str) -> None:
    try:
        found = place_of(reference, KEYS)
    except RequestError as refused:
        field = refused.field
    else:
        field = FIELD
        if isinstance(found, UrlReference):
            assert found.url.startswith("https://")
        else:
            assert checked_key(found) == found
    assert field == FIELD
