"""The aws commands of docs/DEPLOY.md, done on a server that speaks S3's and IAM's protocols."""

from __future__ import annotations

import json
import shlex
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import xform_name
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.documents import blocks, commands
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, Door, s3_server
from worker.errors import StorageError
from worker.settings import Settings
from worker.storage.open import open_storage

FILES = dict(
    zip(
        ("policy.json", "lifecycle.json", "cors.json"),
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
    with s3_server("another-bucket") as endpoint, Door(endpoint).running() as door:
        answers = {" ".join(shlex.split(c)[1:3]): aws(c, endpoint) for c in commands("aws")}
        assert set(answers) == {
            "s3api create-bucket",
            "s3api put-public-access-block",
            "s3api put-bucket-lifecycle-configuration",
            "s3api put-bucket-cors",
            "iam create-user",
            "iam put-user-policy",
            "iam create-access-key",
        }
        # From now on the server looks at what a key may do.
        monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0.0)
        key = answers["iam create-access-key"]["AccessKey"]

        # It reads the key of a request from its headers alone, also that of a pre-signed URL.
        door.resign = partial(by_headers, door.url, key["AccessKeyId"], key["SecretAccessKey"])

        def storage(bucket: str) -> Any:
            settings = Settings(
                s3_bucket_name=bucket,
                aws_endpoint_url=door.url,
                aws_region="us-east-1",
                aws_access_key_id=key["AccessKeyId"],
                aws_secret_access_key=key["SecretAccessKey"],
            )
            return open_storage(settings)

        file = tmp_path / "speech.wav"
        file.write_bytes(b"RIFF")
        own = storage("my-speech")
        own.check()
        assert any("X-Amz-Signature=" in path for _, path, _ in door.seen)
        for prefix in ("output", "voices"):
            own.put(file, f"{prefix}/speech.wav", "audio/wav")
            assert own.read_bytes(f"{prefix}/speech.wav") == b"RIFF"
            assert not own.exists(f"{prefix}/nothing.wav")
        assert "voices/speech.wav" in {file.key for file in own.children("voices/")}
        own.delete("voices/speech.wav")
        assert not own.exists("voices/speech.wav")
        with pytest.raises(StorageError, match="the key needs s3:DeleteObject below S3_VOICES"):
            own.delete("output/speech.wav")
        assert own.exists("output/speech.wav")
        with pytest.raises(StorageError):
            own.put(file, "elsewhere/speech.wav", "audio/wav")
        with pytest.raises(StorageError):
            storage("another-bucket").put(file, "output/speech.wav", "audio/wav")
        with pytest.raises(StorageError, match="access is denied; the key needs"):
            storage("another-bucket").check()


@pytest.mark.parametrize("action", ["s3:GetObject", "s3:PutObject"])
def test_a_policy_with_less_ends_the_start(action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server("another-bucket") as endpoint, Door(endpoint).running() as door:
        forget = urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")
        urllib.request.urlopen(forget, timeout=10).close()  # what other servers were told, too
        answers = {c.split()[2]: aws(c, endpoint) for c in commands("aws")}
        less = json.loads(FILES["policy.json"])
        less["Statement"][0]["Action"].remove(action)
        boto3.client(
            "iam",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        ).put_user_policy(
            UserName="spark-tts", PolicyName="speech", PolicyDocument=json.dumps(less)
        )
        monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0.0)
        key = answers["create-access-key"]["AccessKey"]
        door.resign = partial(by_headers, door.url, key["AccessKeyId"], key["SecretAccessKey"])
        settings = Settings(
            s3_bucket_name="my-speech",
            aws_endpoint_url=door.url,
            aws_region="us-east-1",
            aws_access_key_id=key["AccessKeyId"],
            aws_secret_access_key=key["SecretAccessKey"],
        )
        with pytest.raises(StorageError, match=f"access is denied; the key needs .*{action}"):
            open_storage(settings).check()


def by_headers(url: str, key_id: str, secret: str, path: str) -> tuple[str, dict[str, str]]:
    """The path of a pre-signed URL without its signature, and headers that sign it."""
    bare = path.split("?", maxsplit=1)[0]
    request = AWSRequest("GET", url + bare)
    S3SigV4Auth(Credentials(key_id, secret), "s3", "us-east-1").add_auth(request)
    return bare, dict(request.headers)


def test_the_rule_lets_pages_of_that_origin_read_the_urls_and_no_other() -> None:
    with s3_server("my-speech") as endpoint:
        for command in commands("aws"):
            if "put-bucket-cors" in command:
                aws(command, endpoint)
        storage = open_storage(
            Settings(
                s3_bucket_name="my-speech",
                aws_endpoint_url=endpoint,
                aws_region="us-east-1",
                aws_access_key_id=ACCESS_KEY,
                aws_secret_access_key=SECRET_KEY,
            )
        )
        storage.write_bytes("output/x.vtt", b"WEBVTT", "text/vtt")

        def allowed(origin: str) -> str | None:
            url = urllib.request.Request(
                storage.url("output/x.vtt", 60), headers={"Origin": origin, "Range": "bytes=0-0"}
            )
            with urllib.request.urlopen(url, timeout=10) as answer:
                assert answer.read() == b"W"
                methods = answer.headers.get("Access-Control-Allow-Methods")
                assert methods in {None, "GET"}
                return answer.headers.get("Access-Control-Allow-Origin") if methods else None

        assert allowed("https://www.example.com") == "https://www.example.com"
        assert allowed("https://evil.example") is None
