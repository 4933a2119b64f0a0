"""The b2 commands of docs/DEPLOY.md, as they are written, against a stand-in for the service."""

from __future__ import annotations

import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.support.b2 import BackblazeB2
from tests.support.documents import commands
from tests.support.s3 import Door, s3_server
from tests.support.worker_process import REPOSITORY, environment
from worker.errors import StorageError
from worker.settings import Settings
from worker.storage.s3 import S3Storage
from worker.storage.s3_client import S3Limits

BUCKET = "my-speech"
PART = 5 << 20  # the least that S3 takes


def b2(service: BackblazeB2, folder: Path, command: str) -> str:
    """What the command prints."""
    env = environment(folder, **service.environment(str(folder / "account")))
    return subprocess.run(
        command, shell=True, cwd=REPOSITORY, env=env, text=True, capture_output=True,
        timeout=60, check=True,
    ).stdout  # fmt: skip


def use(storage: S3Storage, folder: Path) -> None:
    """All that a worker does to its bucket."""
    storage.check()
    small, large = folder / "small.wav", folder / "large.wav"
    small.write_bytes(b"RIFF")
    large.write_bytes(bytes(2 * PART))
    for prefix in ("output", "voices"):
        for file in (small, large):
            storage.put(file, f"{prefix}/{file.name}", "audio/wav")
        storage.write_bytes(f"{prefix}/record.json", b"{}", "application/json")
        assert storage.read_bytes(f"{prefix}/small.wav") == b"RIFF"
        assert storage.get(f"{prefix}/large.wav", folder / "copy").stat().st_size == 2 * PART
        assert storage.exists(f"{prefix}/record.json")
        assert not storage.exists(f"{prefix}/nothing.wav")
        with urllib.request.urlopen(storage.url(f"{prefix}/small.wav", 60), timeout=10) as answer:
            assert answer.read() == b"RIFF"
    assert "voices/small.wav" in {file.key for file in storage.children("voices/")}
    storage.delete("voices/small.wav")
    assert not storage.exists("voices/small.wav")


def test_the_commands_give_a_worker_what_it_needs_and_no_more(tmp_path: Path) -> None:
    with (
        BackblazeB2().running() as service,
        s3_server(BUCKET) as behind,
        Door(behind).running() as door,
    ):
        door.chance = lambda: service.refusal(*door.seen[-1])

        def storage(bucket: str, key_id: str, key: str) -> S3Storage:
            settings = Settings(
                s3_bucket_name=bucket,
                aws_endpoint_url=door.url,
                aws_region="us-west-004",
                aws_access_key_id=key_id,
                aws_secret_access_key=key,
            )
            return S3Storage.from_settings(settings, S3Limits(attempts=1, part_bytes=PART))

        printed = [b2(service, tmp_path, command) for command in commands("b2")]
        key_id, key = printed[-1].split()
        kept = service.service.bucket_name_to_bucket
        assert {name: bucket.bucket_type for name, bucket in kept.items()} == {BUCKET: "allPrivate"}
        use(storage(BUCKET, key_id, key), tmp_path)

        with pytest.raises(StorageError, match="denied"):
            storage("another-bucket", key_id, key).check()
        with pytest.raises(StorageError, match="does not know"):
            storage(BUCKET, service.key_id, service.key).check()
        given = service.service.key_id_to_key[key_id]
        whole = list(given.capabilities)
        for capability in whole:
            given.capabilities = [other for other in whole if other != capability]
            with pytest.raises(StorageError, match="denied") as caught:
                use(storage(BUCKET, key_id, key), tmp_path)
            if capability in {"listFiles", "deleteFiles"}:  # the start goes well without
                assert capability in caught.value.message
                storage(BUCKET, key_id, key).check()
        given.capabilities = whole
        given.name_prefix_or_none = "mine/"
        held = Settings(
            s3_bucket_name=BUCKET,
            aws_endpoint_url=door.url,
            aws_region="us-west-004",
            aws_access_key_id=key_id,
            aws_secret_access_key=key,
            s3_output_prefix="mine/output",
            s3_voices_prefix="mine/voices",
        )
        S3Storage.from_settings(held, S3Limits(attempts=1)).check()
        with pytest.raises(StorageError, match="denied"):
            storage(BUCKET, key_id, key).check()


def test_a_wrong_command_is_seen(tmp_path: Path) -> None:
    with BackblazeB2().running() as service:
        for right in ("b2 account authorize", "b2 bucket create my-speech allPrivate"):
            b2(service, tmp_path, right)
        for wrong in (
            "b2 bucket create their-speech private",
            "b2 key create --bucket my-speech spark-tts listFiles,readFile,writeFiles",
            "b2 key create --bucket their-speech spark-tts listFiles",
        ):
            with pytest.raises(subprocess.CalledProcessError):
                b2(service, tmp_path, wrong)
