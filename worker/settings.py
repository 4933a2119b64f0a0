"""The settings: environment variables with their types and limits.

docs/CONFIGURATION.md is made from them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.allowed_values import Allowed, allowed
from worker.errors import SetupError

_WORD = re.compile(r"[!-~]+")  # ASCII without white space
_WORDS = (
    *("s3_bucket_name", "aws_access_key_id", "aws_secret_access_key", "aws_session_token"),
    *("aws_region", "aws_endpoint_url"),
)
_QUOTES = "\"'`\u201c\u201d"
_QUOTED, _NO_WORD = _OWN_FAULTS = ("quoted", "no_word")  # types of the errors of our own checks


Languages = Annotated[
    str,
    StringConstraints(pattern=r"^(en|zh)(,(en|zh))*$"),
    Allowed("en, zh, or both with a comma between them"),
]


_ORIGIN = r"https?://[A-Za-z0-9.\-\[\]:_]+/?"  # scheme, host and port, as browsers write them
Origins = Annotated[
    str,
    StringConstraints(pattern=rf"^(\*|{_ORIGIN}(\s*,\s*{_ORIGIN})*)?$"),
    Allowed("origins such as https://example.com with commas between them, or *"),
]


class Settings(BaseSettings):
    """What the operator sets, read once at start. An empty variable counts as not set.

    White space around a value, as copied ones have, is ignored.
    """

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore")

    s3_bucket_name: str | None = Field(
        None,
        description="Bucket for results and voices. Without it, LOCAL_STORAGE_DIR is used.",
    )
    aws_access_key_id: str | None = Field(
        None, description="Id of the access key of the bucket's user."
    )
    aws_secret_access_key: SecretStr | None = Field(
        None, description="Secret of the access key of the bucket's user."
    )
    aws_session_token: SecretStr | None = Field(
        None, description="Session token of the access key, where it is a temporary one."
    )
    aws_region: str | None = Field(None, description="Region of the bucket.")
    aws_endpoint_url: str | None = Field(
        None,
        description="Address of an S3 service other than AWS: Backblaze B2, Cloudflare R2, MinIO "
        "and others.",
    )
    aws_ca_bundle: Path | None = Field(
        None,
        description="PEM file with the certificate authorities of an S3 service whose authority is "
        "a private one.",
    )
    s3_addressing_style: Literal["auto", "path", "virtual"] = Field(
        "auto",
        description="Where the bucket stands in a URL. path: HOST/BUCKET/KEY. virtual: "
        "BUCKET.HOST/KEY, for services that know no other. auto: virtual on AWS, path where "
        "AWS_ENDPOINT_URL is set. A bucket with dots in its name always uses path.",
    )
    s3_url_expiry: int = Field(
        3600,
        ge=60,
        le=604800,
        description="Seconds that a pre-signed URL is valid, where the job does not say.",
    )
    s3_voices_prefix: str = Field(
        "voices/",
        description="Prefix of reference recordings and saved voices in the bucket or the local "
        "folder.",
    )
    s3_output_prefix: str = Field(
        "output/", description="Prefix of results in the bucket or the local folder."
    )
    runpod_volume: Path = Field(
        Path("/runpod-volume"), description="Folder where the network volume is mounted."
    )
    allow_container_disk: bool | None = Field(
        None,
        description="true: where no volume is mounted, each worker installs what it lacks on its "
        "container's disk. false: such a start ends with an error. Default: true for the image "
        "with the environment (its tag ends in -full), else false.",
    )
    local_storage_dir: Path | None = Field(
        None,
        description="Folder for results and voices where no bucket is set. Default: "
        "SparkTTS-serverless/local on the volume.",
    )
    spark_model: str = Field(
        "Spark-TTS-0.5B",
        description="Model: a pinned one, as NAME or NAME@REVISION, or one of your own, as "
        "ORG/NAME@REVISION: a repository of the Hugging Face hub, or of RunPod's cached models, "
        "and a commit of it. It is installed at the first start; docs/VOLUME.md says how.",
    )
    spark_dtype: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        "auto",
        description="Precision of the language model. auto: bfloat16 on a GPU; on a CPU the first "
        "that it can run of int8 (needs AVX512-VNNI and a C compiler), bfloat16 (needs bfloat16 "
        "instructions) and float32. int8 on a GPU has weights of 8 bits, half the bytes to read "
        "for a token, meant for cards whose memory is slow (L4, A4000); docs/PERFORMANCE.md says "
        "what it loses. Where int8 is asked for and cannot be had, the start ends.",
    )
    whisperx_languages: Languages = Field(
        "en,zh",
        description="Languages whose alignment models are loaded at start, separated by commas: "
        "en, zh. A language whose model is not installed is left out.",
    )
    voice_names: str | None = Field(
        None,
        description="Changes of the table of built-in voices, as a JSON object: a name, and what "
        "it stands for. A string: the saved or built-in voice of that name. An object: a voice "
        "that the model designs from speaker_gender, pitch, speed, pitch_value, speed_value and "
        "seed. null: the name is taken out. Default: the names of OpenAI's voices, each designed.",
        examples=['{"alloy": "anna", "nova": {"pitch": "high"}, "echo": null}'],
    )
    max_concurrency: int | None = Field(
        None,
        ge=1,
        le=256,
        description="Jobs that the worker runs at the same time. Default: 8, or as many as the "
        "model's batch has slots, if those are fewer. The worker lowers the number by itself when "
        "memory is short.",
    )
    max_job_seconds: int = Field(
        7200,
        ge=1,
        le=86_400,
        description="Seconds of audio that one job may ask for at an ordinary pace, gaps included. "
        "A longer text is refused before anything is spoken; a job whose model speaks twice as "
        "long is ended.",
    )
    stream: bool = Field(
        False,
        description="true: jobs without a stream field are streamed, and RunPod's /stream gives "
        "each sentence as soon as it is ready. false: /stream gives nothing before the end.",
    )
    stream_look_ahead: int | None = Field(
        None,
        ge=0,
        le=512,
        description="Tokens (20 ms each) that streamed audio stays behind what the model draws. "
        "Fewer are heard sooner; more are nearer to the stored file; more than the codec's whole "
        "reach count as that. Default: 14 of 29 of that reach, what the embedded model needs to "
        "stay above 40 dB. For weights of your own, `python -m bench.look_ahead --model FOLDER` "
        "finds it.",
    )
    drain_seconds: int = Field(
        25,
        ge=0,
        le=3600,
        description="Seconds that running jobs may go on after SIGTERM. The platform gives what is "
        "left to another worker.",
    )
    port: int = Field(
        80,
        ge=1,
        le=65_535,
        description="Port of the HTTP server (`--http`). RunPod's load balancer sets it, to 80 "
        "where the endpoint does not say.",
    )
    port_health: int | None = Field(
        None,
        ge=1,
        le=65_535,
        description="Port on which the HTTP server's health is asked for. Default: PORT.",
    )
    health_check_path: str = Field(
        "/ping",
        pattern=r"^/[A-Za-z0-9._~/-]*$",
        description="Path that answers 204 while the model is loaded, 200 when requests are taken "
        "and 503 while the worker ends; /ping answers too.",
    )
    http_host: str = Field(
        "0.0.0.0",  # noqa: S104  # of a container, whose ports its operator opens
        description="Address on which the HTTP server listens.",
    )
    api_key: SecretStr | None = Field(
        None,
        description="Key that every HTTP request must bring, as `Authorization: Bearer KEY` or, "
        "behind RunPod's load balancer, whose own key stands there, as `X-API-Key: KEY`. Without "
        "it the server asks for none.",
    )
    cors_origins: Origins = Field(
        "",
        description="Origins whose pages may use the HTTP server from a browser, separated by "
        "commas, such as https://example.com; * for all. None by default.",
    )
    http_max_requests: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Requests that speak at the same time; more are answered with 429 and "
        "Retry-After. Default: as many as the model's batch has slots.",
    )
    http_max_body: int = Field(
        30_000_000,
        ge=1_000,
        le=1_000_000_000,
        description="Bytes that the body of an HTTP request may have, recordings included; more "
        "are answered with 413. RunPod's load balancer passes 30 MB.",
    )
    http_max_text: int = Field(
        20_000,
        ge=1,
        le=20_000,
        description="Characters that the text of an HTTP request may have; more are answered with "
        "413.",
    )
    http_seconds: int = Field(
        330,
        ge=1,
        le=86_400,
        description="Seconds that an HTTP request may take in all; RunPod's load balancer ends it "
        "after 330. One that has given no sound by then is answered with 408.",
    )
    http_body_seconds: int = Field(
        30,
        ge=1,
        le=3600,
        description="Seconds in which the body of an HTTP request must arrive; else 408.",
    )
    http_idle_seconds: int = Field(
        120,
        ge=1,
        le=86_400,
        description="Seconds after which a WebSocket session ends in which nothing is said and "
        "nothing is spoken, or whose client takes no audio. HTTP_SECONDS does not count for it.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe level of the lines that are logged."
    )

    @model_validator(mode="before")
    @classmethod
    def _stripped(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        # Those of _WORDS botocore reads by itself too, and would take a blank for a value.
        blank = {n for n, v in values.items() if isinstance(v, str) and v and not v.strip()}
        return {
            name: value.strip() if isinstance(value, str) and name not in blank else value
            for name, value in values.items()
            if name not in blank or name in _WORDS
        }

    @field_validator(*_WORDS, mode="before")
    @classmethod
    def _one_word(cls, value: Any) -> Any:
        """Refuse what no key, name or address has, and what would fail without a word."""
        if isinstance(value, str) and value:
            if value[0] in _QUOTES or value[-1] in _QUOTES:
                raise PydanticCustomError(_QUOTED, "stands in quotation marks; leave them out")
            if not _WORD.fullmatch(value):
                raise PydanticCustomError(
                    _NO_WORD, "holds white space, or a character that is not plain ASCII"
                )
        return value


def load_settings() -> Settings:
    """Read the environment; raise SetupError naming each variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(map(_in_words, error.errors(include_input=False)))
        raise SetupError(f"environment variables are wrong: {wrong}") from None


def _in_words(fault: ErrorDetails) -> str:
    """What is wrong with a variable: our own checks' words, or what it may hold."""
    name = str(fault["loc"][0])
    own = fault["type"] in _OWN_FAULTS
    words = fault["msg"] if own else f"must be {allowed(Settings.model_fields[name])}"
    return f"{name.upper()}: {words}"
