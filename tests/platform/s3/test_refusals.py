"""What servers refuse, each in its own way, and what the operator reads of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from botocore import auth
from botocore import exceptions as boto

from tests.platform.s3.asking import ask, storage
from tests.support.s3_servers import BUCKET, HELD_PREFIX, Key, S3Server, worker_policy
from worker.errors import StorageError
from worker.storage.s3 import S3Storage

STORED = "output/stored.wav"
SPEECH = b"RIFF of some speech"
VERIFYING = pytest.mark.servers("seaweedfs", "rclone", "radosgw", "swift")  # moto takes it all
WITH_POLICIES = pytest.mark.servers("seaweedfs", "radosgw")


@pytest.fixture
def bucket(server: S3Server) -> S3Storage:
    """The worker's storage, where something is stored."""
    storage(server).write_bytes(STORED, SPEECH, "audio/wav")
    return storage(server)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the clock by which botocore signs so many seconds forward."""
    right = auth.get_current_datetime

    def shift(seconds: int) -> None:
        monkeypatch.setattr(
            auth, "get_current_datetime", lambda: right() + timedelta(seconds=seconds)
        )

    return shift


def uses(storage: S3Storage, folder: Path) -> dict[str, Callable[[], object]]:
    """Everything that asks the server something."""
    (folder / "sent").write_bytes(b"x")
    return {
        "check": storage.check,
        "put": lambda: storage.put(folder / "sent", "output/refused.wav", "audio/wav"),
        "write": lambda: storage.write_bytes("output/refused.wav", b"x", "audio/wav"),
        "get": lambda: storage.get(STORED, folder / "got"),
        "read": lambda: storage.read_bytes(STORED),
        "exists": lambda: storage.exists(STORED),
    }


def refused(use: Callable[[], object]) -> str:
    with pytest.raises(StorageError) as error:
        use()
    return str(error.value)


@VERIFYING
@pytest.mark.usefixtures("bucket")
def test_a_wrong_secret_is_refused_by_all(server: S3Server, tmp_path: Path) -> None:
    wrong = Key(server.worker.access, f"{server.worker.secret[:-1]}-")
    said = {name: refused(use) for name, use in uses(storage(server, wrong), tmp_path).items()}
    assert "AWS_SECRET_ACCESS_KEY" in said["check"]
    assert not [text for text in said.values() if wrong.secret[:-1] in text]
    assert not (tmp_path / "got").exists()
    answer = ask(storage(server, wrong).url(STORED, 60))
    assert answer.status == 403
    assert SPEECH not in answer.body
    assert not storage(server).exists("output/refused.wav")


@VERIFYING
def test_a_key_that_is_not_known_is_refused(server: S3Server) -> None:
    unknown = storage(server, Key(f"{server.worker.access}0", server.worker.secret))
    # To Swift it is a wrong signature.
    name = "AWS_SECRET_ACCESS_KEY" if server.name == "swift" else "AWS_ACCESS_KEY_ID"
    assert name in refused(unknown.check)


@VERIFYING
def test_a_request_that_nobody_signed_is_refused(server: S3Server, bucket: S3Storage) -> None:
    assert ask(bucket.url(STORED, 60)).body == SPEECH
    answer = ask(bucket.url(STORED, 60).partition("?")[0])
    assert answer.status in {400, 403}  # 400 is rclone's
    assert SPEECH not in answer.body


@VERIFYING
def test_a_url_is_of_use_to_its_end_and_no_longer(
    bucket: S3Storage, clock: Callable[[int], None]
) -> None:
    clock(-120)
    assert ask(bucket.url(STORED, 180)).body == SPEECH
    answer = ask(bucket.url(STORED, 60))
    assert answer.status in {400, 403}  # 400 is rclone's
    assert SPEECH not in answer.body


@VERIFYING
def test_a_url_is_for_its_key_alone(bucket: S3Storage) -> None:
    bucket.write_bytes("output/secret.wav", b"of another job", "audio/wav")
    url = bucket.url(STORED, 60)
    answer = ask(url.replace("stored.wav", "secret.wav"))
    assert answer.status == 403
    assert b"of another job" not in answer.body
    assert ask(url.replace("X-Amz-Expires=60", "X-Amz-Expires=604800")).status == 403


@VERIFYING
@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_a_clock_that_is_wrong_by_an_hour_is_found_at_start(
    server: S3Server, seconds: int, clock: Callable[[int], None], tmp_path: Path
) -> None:
    storage(server).write_bytes(STORED, SPEECH, "audio/wav")
    clock(seconds)
    said = {name: refused(use) for name, use in uses(storage(server), tmp_path).items()}
    # A request of long ago is AccessDenied to rclone, which says why in its message alone.
    expected = "clock", "denied"
    assert any(word in said["check"] for word in expected[: 1 + (server.name == "rclone")])


@VERIFYING
@pytest.mark.parametrize("seconds", [-60, 60])
def test_a_clock_that_is_wrong_by_a_minute_does_no_harm(
    server: S3Server, seconds: int, clock: Callable[[int], None]
) -> None:
    clock(seconds)
    bucket = storage(server)
    bucket.check()
    bucket.write_bytes(STORED, SPEECH, "audio/wav")
    assert bucket.read_bytes(STORED) == SPEECH
    assert ask(bucket.url(STORED, 3600)).body == SPEECH


@pytest.mark.servers("seaweedfs", "rclone", "radosgw")
def test_where_no_one_looks_at_the_region_any_will_do(server: S3Server) -> None:
    elsewhere = storage(server, aws_region="eu-west-1")
    elsewhere.check()
    elsewhere.write_bytes(STORED, SPEECH, "audio/wav")
    assert elsewhere.read_bytes(STORED) == SPEECH
    assert ask(elsewhere.url(STORED, 60)).body == SPEECH


def test_a_bucket_that_is_not_there_is_named_at_start(server: S3Server, tmp_path: Path) -> None:
    policy = json.loads(json.dumps(worker_policy()).replace(BUCKET, "not-there"))
    key = server.grant("of-nothing", policy) if server.grant else server.worker
    missing = storage(server, key, s3_bucket_name="not-there")
    assert "S3_BUCKET_NAME" in refused(missing.check)
    assert "bucket" in refused(lambda: missing.write_bytes("output/x.wav", b"x", "audio/wav"))
    with pytest.raises(boto.ClientError):
        server.client().list_objects(Bucket="not-there")


@WITH_POLICIES
def test_a_key_that_may_only_read_reads_and_stores_nothing(
    server: S3Server, reader: Key, bucket: S3Storage, tmp_path: Path
) -> None:
    reading = storage(server, reader)
    assert reading.read_bytes(STORED) == SPEECH
    assert ask(reading.url(STORED, 60)).body == SPEECH
    for name in ("put", "write"):
        assert "s3:PutObject" in refused(uses(reading, tmp_path)[name])
    assert not bucket.exists("output/refused.wav")


@WITH_POLICIES
def test_a_key_that_is_held_to_a_prefix_does_all_below_it(
    server: S3Server, held: Key, bucket: S3Storage
) -> None:
    below, key = storage(server, held), f"{HELD_PREFIX}output/x.wav"
    below.write_bytes(key, SPEECH, "audio/wav")
    assert below.exists(key)
    assert below.read_bytes(key) == SPEECH
    assert ask(below.url(key, 60)).body == SPEECH
    assert "denied" in refused(lambda: below.write_bytes(STORED, b"x", "audio/wav"))
    assert "denied" in refused(lambda: below.read_bytes(STORED))
    assert ask(below.url(STORED, 60)).status == 403
    assert bucket.read_bytes(STORED) == SPEECH
