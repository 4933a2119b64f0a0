"""The environment variables: what they are when not set, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.errors import SetupError
from worker.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_what_is_not_set_has_the_documented_value() -> None:
    assert load_settings().model_dump() == {
        "s3_bucket_name": None,
        "aws_access_key_id": None,
        "aws_secret_access_key": None,
        "aws_session_token": None,
        "aws_region": None,
        "aws_endpoint_url": None,
        "aws_ca_bundle": None,
        "s3_addressing_style": "auto",
        "s3_url_expiry": 3600,
        "s3_voices_prefix": "voices/",
        "s3_output_prefix": "output/",
        "runpod_volume": Path("/runpod-volume"),
        "allow_container_disk": None,
        "local_storage_dir": None,
        "spark_model": "Spark-TTS-0.5B",
        "spark_dtype": "auto",
        "whisperx_languages": "en,zh",
        "voice_names": None,
        "max_concurrency": None,
        "max_job_seconds": 7200,
        "stream": False,
        "stream_look_ahead": None,
        "drain_seconds": 25,
        "port": 80,
        "port_health": None,
        "health_check_path": "/ping",
        "http_host": "0.0.0.0",
        "api_key": None,
        "cors_origins": "",
        "http_max_requests": None,
        "http_max_body": 30_000_000,
        "http_max_text": 20_000,
        "http_seconds": 330,
        "http_body_seconds": 30,
        "http_idle_seconds": 120,
        "log_level": "INFO",
    }


def test_an_empty_variable_counts_as_not_set_and_a_foreign_one_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(name.upper(), "")
    monkeypatch.setenv("S3_URL_EXPIRES", "soon")
    assert load_settings() == Settings()
    assert load_settings().s3_url_expiry == 3600


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("S3_URL_EXPIRY", ["60", "604800"], ["59", "604801", "soon", "1.5"]),
        ("MAX_CONCURRENCY", ["1", "256"], ["0", "257", "-1", "many"]),
        ("DRAIN_SECONDS", ["0", "3600"], ["-1", "3601", "x"]),
        ("S3_ADDRESSING_STYLE", ["auto", "path", "virtual"], ["Path", "host", "dns"]),
        ("AWS_REGION", ["us-east-1", "us-west-004", "auto"], ["us east 1", "eu\u2011west-1"]),
        (
            "AWS_ACCESS_KEY_ID",
            ["AKIA1/+="],
            ["AKIA 1", "AKIA\n1", '"AKIA1"', "' AKIA1'", "AKI\u0410"],
        ),
        ("AWS_SECRET_ACCESS_KEY", ["a+/b="], ["a b", "`ab`", "\u201cab\u201d"]),
        ("AWS_SESSION_TOKEN", ["a+/b="], ["a\tb"]),
        (
            "AWS_ENDPOINT_URL",
            ["https://s3.example"],
            ["https://s3. example", '"https://s3.example"'],
        ),
        ("S3_BUCKET_NAME", ["my-speech"], ["my speech", '"my-speech"']),
        ("LOG_LEVEL", ["DEBUG", "INFO", "WARNING", "ERROR"], ["TRACE", "info"]),
        ("SPARK_DTYPE", ["auto", "float32", "bfloat16", "int8"], ["float16"]),
        ("STREAM", ["true", "false", "1"], ["perhaps"]),
        ("WHISPERX_LANGUAGES", ["en", "zh", "zh,en"], ["fr", "en,", ",en", "en zh", "en,fr"]),
    ],
)
def test_a_wrong_value_is_refused_by_the_variables_name(
    monkeypatch: pytest.MonkeyPatch, name: str, good: list[str], bad: list[str]
) -> None:
    for value in good:
        monkeypatch.setenv(name, value)
        load_settings()
    for value in bad:
        monkeypatch.setenv(name, value)
        with pytest.raises(SetupError, match=f"environment variables are wrong: {name}: "):
            load_settings()


def test_every_wrong_variable_is_named_and_no_value_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_URL_EXPIRY", "hidden-1")
    monkeypatch.setenv("DRAIN_SECONDS", "hidden-2")
    with pytest.raises(SetupError) as refused:
        load_settings()
    assert "S3_URL_EXPIRY: " in refused.value.message
    assert "; DRAIN_SECONDS: " in refused.value.message
    assert "hidden" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_secrets_are_not_shown_and_nothing_is_changed_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "hidden-2")
    settings = load_settings()
    assert "hidden" not in repr(settings)
    assert settings.aws_session_token is not None
    assert settings.aws_session_token.get_secret_value() == "hidden-2"
    with pytest.raises(ValueError, match="frozen"):
        settings.stream = True


WHITE = [" ", "\n", "\t", "\r\n", "\u00a0", " \n "]


@pytest.mark.parametrize("white", WHITE)
def test_white_space_around_a_value_is_no_part_of_it(
    monkeypatch: pytest.MonkeyPatch, white: str
) -> None:
    given = {
        "S3_BUCKET_NAME": "my-speech",
        "AWS_ACCESS_KEY_ID": "AKIA1",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "token",
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": "https://s3.example",
        "AWS_CA_BUNDLE": "/etc/ca.pem",
        "S3_ADDRESSING_STYLE": "path",
        "S3_URL_EXPIRY": "60",
        "S3_VOICES_PREFIX": "my voices/",
        "S3_OUTPUT_PREFIX": "my output/",
        "RUNPOD_VOLUME": "/volume",
        "ALLOW_CONTAINER_DISK": "true",
        "LOCAL_STORAGE_DIR": "/folder",
        "SPARK_MODEL": "demo",
        "SPARK_DTYPE": "int8",
        "WHISPERX_LANGUAGES": "zh",
        "VOICE_NAMES": '{"alloy": null}',
        "MAX_CONCURRENCY": "3",
        "MAX_JOB_SECONDS": "600",
        "STREAM": "true",
        "STREAM_LOOK_AHEAD": "12",
        "DRAIN_SECONDS": "7",
        "PORT": "8080",
        "PORT_HEALTH": "8081",
        "HEALTH_CHECK_PATH": "/up",
        "HTTP_HOST": "127.0.0.1",
        "API_KEY": "key",
        "CORS_ORIGINS": "https://example.com",
        "HTTP_MAX_REQUESTS": "5",
        "HTTP_MAX_BODY": "5000",
        "HTTP_MAX_TEXT": "500",
        "HTTP_SECONDS": "50",
        "HTTP_BODY_SECONDS": "5",
        "HTTP_IDLE_SECONDS": "55",
        "LOG_LEVEL": "DEBUG",
    }
    assert {name.lower() for name in given} == set(Settings.model_fields)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    plain = load_settings()
    for name, value in given.items():
        monkeypatch.setenv(name, f"{white}{value}{white}")
    assert load_settings() == plain
    assert plain.aws_secret_access_key is not None
    assert plain.aws_secret_access_key.get_secret_value() == "secret"


@pytest.mark.parametrize("white", WHITE)
def test_a_blank_counts_as_empty_and_is_refused_where_botocore_would_use_it(
    monkeypatch: pytest.MonkeyPatch, white: str
) -> None:
    for name in ("S3_URL_EXPIRY", "S3_OUTPUT_PREFIX", "MAX_CONCURRENCY", "STREAM", "LOG_LEVEL"):
        monkeypatch.setenv(name, white)
    assert load_settings() == Settings()
    assert load_settings().s3_output_prefix == "output/"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"):
        with monkeypatch.context() as one:
            one.setenv(name, white)
            with pytest.raises(SetupError, match=f"{name}: holds white space"):
                load_settings()


def test_a_refused_value_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "never shown")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", '"hidden"')
    with pytest.raises(SetupError) as caught:
        load_settings()
    assert "never" not in caught.value.message
    assert "hidden" not in caught.value.message
    assert "AWS_ACCESS_KEY_ID: stands in quotation marks" in caught.value.message
    assert "AWS_SECRET_ACCESS_KEY: holds white space" in caught.value.message


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SPARK_DTYPE", "fp16", "must be one of auto, float32, bfloat16, int8"),
        ("STREAM", "maybe", "must be true or false"),
        ("WHISPERX_LANGUAGES", "fr", "must be en, zh, or both with a comma between them"),
        ("MAX_JOB_SECONDS", "0", "must be an integer from 1 to 86400"),
        ("MAX_CONCURRENCY", "many", "must be an integer from 1 to 256"),
        ("AWS_REGION", "'eu'", "stands in quotation marks; leave them out"),
    ],
)
def test_a_wrong_variable_is_told_what_it_may_hold(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SetupError) as refused:
        load_settings()
    assert f"{name}: {said}" in refused.value.message
    assert "Input should" not in refused.value.message


@pytest.mark.parametrize(
    "origins", ["", "*", "https://a.example", "http://localhost:3000/, https://b.example"]
)
def test_origins_are_named_as_browsers_write_them(
    monkeypatch: pytest.MonkeyPatch, origins: str
) -> None:
    monkeypatch.setenv("CORS_ORIGINS", origins)
    assert load_settings().cors_origins == origins


@pytest.mark.parametrize("origins", ["example.com", "https://a.example/page", "*, https://a", ","])
def test_what_no_browser_would_send_is_no_origin(
    monkeypatch: pytest.MonkeyPatch, origins: str
) -> None:
    monkeypatch.setenv("CORS_ORIGINS", origins)
    with pytest.raises(SetupError, match=r"CORS_ORIGINS: must be origins such as"):
        load_settings()
