"""The aws commands of docs/DEPLOY.md, done on a server that speaks S3's and IAM's protocols."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import xform_name

from tests.support.documents import blocks, commands
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, s3_server
from worker.errors import StorageError
from worker.settings import Settings
from worker.storage import open_storage

FILES = dict(
    zip(
        ("policy.json", "lifecycle.json"),
        [b.text for b in blocks() if (b.file.name, b.language) == ("DEPLOY.md", "json")],
        strict=True,
    )
)


def aws(command: str, endpoint: str) -> Any:
    """What the command line would send, by the same descriptions of the services."""
    _, service, operation, *options = shlex.split(command)
    client: Any = boto3.client(
        {"s3api": "s3"}.get(service, service),
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    method = operation.replace("-", "_")
    model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method])
    members = {xform_name(name, "-"): name for name in model.input_shape.members}
    given = {}
    for option, value in zip(options[::2], options[1::2], strict=True):
        name = option.removeprefix("--")
        if name == "region":
            assert value == client.meta.region_name
            continue
        text = FILES[value.removeprefix("file://")] if value.startswith("file://") else value
        shape = model.input_shape.members[members[name]]
        given[members[name]] = text if shape.type_name == "string" else _structure(text)
    return getattr(client, method)(**given)


def _structure(text: str) -> dict[str, Any]:
    if text.startswith("{"):
        return dict(json.loads(text))
    return {name: value == "true" for name, value in (part.split("=") for part in text.split(","))}


def test_the_commands_give_a_worker_what_it_needs_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server("another-bucket") as endpoint:
        answers = {" ".join(shlex.split(c)[1:3]): aws(c, endpoint) for c in commands("aws")}
        assert set(answers) == {
            "s3api create-bucket",
            "s3api put-public-access-block",
            "s3api put-bucket-lifecycle-configuration",
            "iam create-user",
            "iam put-user-policy",
            "iam create-access-key",
        }
        # From now on the server looks at what a key may do.
        monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0.0)
        key = answers["iam create-access-key"]["AccessKey"]

        def storage(bucket: str) -> Any:
            settings = Settings(
                s3_bucket_name=bucket,
                aws_endpoint_url=endpoint,
                aws_region="us-east-1",
                aws_access_key_id=key["AccessKeyId"],
                aws_secret_access_key=key["SecretAccessKey"],
            )
            return open_storage(settings)

        file = tmp_path / "speech.wav"
        file.write_bytes(b"RIFF")
        own = storage("my-speech")
        own.check()
        for prefix in ("output", "voices"):
            own.put(file, f"{prefix}/speech.wav", "audio/wav")
            assert own.read_bytes(f"{prefix}/speech.wav") == b"RIFF"
            assert not own.exists(f"{prefix}/nothing.wav")
        with pytest.raises(StorageError):
            own.put(file, "elsewhere/speech.wav", "audio/wav")
        with pytest.raises(StorageError):
            storage("another-bucket").put(file, "output/speech.wav", "audio/wav")
