"""The bucket: what is asked of it, how often, and what its errors become; with no server."""

from __future__ import annotations

import errno
import io
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore import exceptions as boto

from tests.support.s3 import read_services_once
from worker.errors import NotFoundError, RequestError, SetupError, StorageError
from worker.settings import Settings
from worker.storage.base import READ_BYTES_MAX
from worker.storage.open import open_storage
from worker.storage.s3 import S3Storage
from worker.storage.s3_client import S3Limits
from worker.storage.s3_errors import Place, is_transient, storage_error

KEY = "voices/x.json"
BROKEN = [
    boto.ReadTimeoutError(endpoint_url="https://s3.example"),
    boto.ResponseStreamingError(error="cut"),
    boto.IncompleteReadError(actual_bytes=1, expected_bytes=2),
    boto.ConnectionClosedError(endpoint_url="https://s3.example"),
]


class Body:
    """What comes of a body, and the error that ends it."""

    def __init__(self, content: bytes, error: Exception | None = None) -> None:
        self._content = content
        self._error = error
        self.closed = False
        self.read = False

    def iter_chunks(self, size: int) -> Iterator[bytes]:
        self.read = True
        for start in range(0, len(self._content), size):
            yield self._content[start : start + size]
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.closed = True


class Client:
    """Gives what `answers` holds, in order; `calls` holds what was asked."""

    def __init__(self, *answers: Body | Exception) -> None:
        self.answers = list(answers)
        self.length: int | None = None
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def get_object(self, **asked: Any) -> dict[str, Any]:
        self.calls.append(("get_object", asked))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        length = len(answer._content) if self.length is None else self.length
        return {"Body": answer, "ContentLength": length}

    def __getattr__(self, name: str) -> Callable[..., None]:
        def call(*place: Any, **asked: Any) -> None:
            self.calls.append((name, {"place": place, **asked}))
            if self.answers:
                answer = self.answers.pop(0)
                assert isinstance(answer, Exception)
                raise answer

        return call


def bucket(client: Client, attempts: int = 3) -> S3Storage:
    return S3Storage(client, "speech", S3Limits(attempts=attempts, pause_seconds=0.001))


def refusal(code: str, operation: str = "GetObject") -> boto.ClientError:
    return boto.ClientError({"Error": {"Code": code, "Message": "secret"}}, operation)


@pytest.fixture(autouse=True)
def _no_credentials_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read_services_once(monkeypatch)
    for name in [name for name in os.environ if name.startswith(("AWS_", "S3_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


def settings(**changed: object) -> Settings:
    values: dict[str, object] = {
        "s3_bucket_name": "speech",
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
        "aws_region": "eu-west-1",
    }
    return Settings(**(values | changed))


class TestBodies:
    @pytest.mark.parametrize("error", BROKEN, ids=lambda error: type(error).__name__)
    def test_one_that_breaks_off_is_read_again_from_its_start(
        self, error: Exception, tmp_path: Path
    ) -> None:
        client = Client(Body(b"a", error), Body(b"abc"))
        assert bucket(client).read_bytes(KEY) == b"abc"
        client = Client(Body(b"a", error), Body(b"abc"))
        assert bucket(client).get(KEY, tmp_path / "into").read_bytes() == b"abc"
        assert client.calls == [("get_object", {"Bucket": "speech", "Key": KEY})] * 2

    def test_as_often_as_the_limits_say(self, tmp_path: Path) -> None:
        last = Client(Body(b"", BROKEN[0]), Body(b"a", BROKEN[1]), Body(b"abc"), Body(b"no"))
        assert bucket(last).read_bytes(KEY) == b"abc"
        never = Client(*(Body(b"a", BROKEN[0]) for _ in range(4)))
        with pytest.raises(StorageError, match="cannot be reached"):
            bucket(never).get(KEY, tmp_path / "into")
        assert len(never.calls) == 3
        assert list(tmp_path.iterdir()) == []
        once = Client(Body(b"a", BROKEN[0]), Body(b"abc"))
        with pytest.raises(StorageError):
            bucket(once, attempts=1).read_bytes(KEY)

    @pytest.mark.parametrize(
        "error",
        [
            *(refusal(code) for code in ("AccessDenied", "NoSuchKey", "403", "400", "501")),
            boto.NoCredentialsError(),
            boto.SSLError(endpoint_url="https://h", error="CERTIFICATE_VERIFY_FAILED"),
        ],
        ids=str,
    )
    def test_what_stays_as_it_is_is_not_asked_again(self, error: Exception, tmp_path: Path) -> None:
        for use in (
            lambda storage: storage.read_bytes(KEY),
            lambda storage: storage.get(KEY, tmp_path / "into"),
            lambda storage: storage.write_bytes(KEY, b"{}", "application/json"),
        ):
            client = Client(error, Body(b"abc"))
            with pytest.raises(StorageError):
                use(bucket(client))
            assert len(client.calls) == 1

    @pytest.mark.parametrize(
        "error",
        [
            *BROKEN,
            boto.EndpointConnectionError(endpoint_url="https://h"),
            boto.ConnectTimeoutError(endpoint_url="https://h"),
            *(refusal(code) for code in ("SlowDown", "429", "500", "502", "503", "504")),
        ],
        ids=str,
    )
    def test_the_answer_and_its_body_are_asked_for_as_often_together(
        self, error: Exception, tmp_path: Path
    ) -> None:
        for use in (
            lambda storage: storage.read_bytes(KEY),
            lambda storage: storage.get(KEY, tmp_path / "into").read_bytes(),
        ):
            client = Client(error, Body(b"a", BROKEN[0]), Body(b"abc"))
            assert use(bucket(client)) == b"abc"
            client = Client(error, Body(b"a", BROKEN[0]), error, Body(b"abc"))
            with pytest.raises(StorageError):
                use(bucket(client))
            assert len(client.calls) == 3

    def test_another_error_in_the_body_is_not_asked_again(self) -> None:
        client = Client(Body(b"a", OSError(errno.ENOSPC, "No space left")), Body(b"abc"))
        with pytest.raises(StorageError, match="could not be read: No space left"):
            bucket(client).read_bytes(KEY)
        assert len(client.calls) == 1

    def test_one_that_is_too_large_is_given_up_unread(self, tmp_path: Path) -> None:
        body = Body(b"abc")
        with pytest.raises(StorageError, match="has 3 bytes; at most 2"):
            bucket(Client(body)).get(KEY, tmp_path / "into", max_bytes=2)
        assert body.closed
        assert not body.read
        assert list(tmp_path.iterdir()) == []
        exact = bucket(Client(Body(b"abc"))).get(KEY, tmp_path / "into", max_bytes=3)
        assert exact.read_bytes() == b"abc"

    def test_a_small_thing_is_bounded(self) -> None:
        client = Client(Body(b"abc"), body := Body(b"abc"))
        client.length = READ_BYTES_MAX
        assert bucket(client).read_bytes(KEY) == b"abc"
        client.length = READ_BYTES_MAX + 1
        with pytest.raises(StorageError, match="larger than 1048576 bytes"):
            bucket(client).read_bytes(KEY)
        assert body.closed
        assert not body.read

    def test_many_chunks_come_whole_and_in_order(self, tmp_path: Path) -> None:
        content = os.urandom(200_000)
        assert bucket(Client(Body(content))).read_bytes(KEY) == content
        file = bucket(Client(Body(content))).get(KEY, tmp_path / "into")
        assert file.read_bytes() == content


class TestErrors:
    @pytest.mark.parametrize("code", ["404", "NotFound", "NoSuchKey"])
    def test_nothing_of_that_name(self, code: str) -> None:
        assert not bucket(Client(refusal(code))).exists(KEY)
        with pytest.raises(NotFoundError, match=KEY):
            bucket(Client(refusal(code))).read_bytes(KEY)

    def test_something_of_that_name(self) -> None:
        client = Client()
        assert bucket(client).exists(KEY)
        assert client.calls == [("head_object", {"place": (), "Bucket": "speech", "Key": KEY})]

    @pytest.mark.parametrize(
        "error",
        [refusal("403"), refusal("NoSuchBucket"), refusal("500"), BROKEN[0]],
        ids=str,
    )
    def test_a_look_that_is_refused_does_not_count_as_missing(self, error: Exception) -> None:
        with pytest.raises(StorageError, match="could not be looked up") as caught:
            bucket(Client(error), attempts=1).exists(KEY)
        assert not isinstance(caught.value, NotFoundError)

    @pytest.mark.parametrize(
        ("code", "advice"),
        [
            ("NoSuchBucket", "check S3_BUCKET_NAME"),
            ("AccessDenied", "s3:ListBucket"),
            ("403", "check the credentials"),
            ("InvalidAccessKeyId", "check it and AWS_ENDPOINT_URL"),
            ("SignatureDoesNotMatch", "check AWS_SECRET_ACCESS_KEY"),
            ("AuthorizationHeaderMalformed", "check AWS_REGION"),
            ("PermanentRedirect", "check AWS_REGION"),
            ("301", "check AWS_REGION"),
            ("ExpiredToken", "renew them"),
            ("RequestTimeTooSkewed", "clock"),
            ("SlowDown", "overloaded; try again later"),
            ("ServiceUnavailable", "unavailable; try again later"),
            ("503", "unavailable; try again later"),
            ("InternalError", "failed; try again later"),
            ("500", "failed; try again later"),
            ("401", "check the credentials"),
            ("405", "check AWS_ENDPOINT_URL"),
            ("429", "overloaded; try again later"),
            ("501", "check AWS_ENDPOINT_URL"),
            ("502", r"cannot reach it \(502\); try again later, and check AWS_ENDPOINT_URL"),
            ("504", r"in time \(504\); try again later, and check AWS_ENDPOINT_URL"),
            ("507", "make room"),
            ("InvalidToken", "AWS_SESSION_TOKEN"),
            ("InvalidBucketName", "check S3_BUCKET_NAME"),
            ("Teapot", "the storage answered Teapot"),
        ],
    )
    def test_each_refusal_says_what_to_do_and_not_what_the_service_said(
        self, code: str, advice: str
    ) -> None:
        with pytest.raises(StorageError, match=advice) as caught:
            bucket(Client(refusal(code)), attempts=1).read_bytes(KEY)
        assert "secret" not in caught.value.message
        assert not isinstance(caught.value, NotFoundError)

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (boto.NoCredentialsError(), "no credentials; set AWS_ACCESS_KEY_ID"),
            (
                boto.PartialCredentialsError(provider="env", cred_var="secret"),
                "no credentials; set AWS_ACCESS_KEY_ID",
            ),
            (
                boto.CredentialRetrievalError(provider="x", error_msg="secret"),
                "no credentials; set AWS_ACCESS_KEY_ID",
            ),
            (
                boto.SSLError(endpoint_url="https://u:secret@h", error="x"),
                "no secure connection",
            ),
            (
                boto.EndpointConnectionError(endpoint_url="https://u:secret@h"),
                r"cannot be reached \(EndpointConnectionError\)",
            ),
            (
                boto.ConnectTimeoutError(endpoint_url="https://u:secret@h"),
                r"cannot be reached \(ConnectTimeoutError\)",
            ),
            (boto.HTTPClientError(error="secret"), r"cannot be reached \(HTTPClientError\)"),
            (boto.ParamValidationError(report="secret"), "ParamValidationError"),
            (OSError(errno.EIO, "Input/output error", "/secret/place"), "Input/output error"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_every_failure_is_a_storage_error_without_secrets(
        self, error: Exception, words: str
    ) -> None:
        with pytest.raises(StorageError, match=words) as caught:
            bucket(Client(error), attempts=1).write_bytes(KEY, b"{}", "application/json")
        assert caught.value.message.startswith(f"{KEY} could not be stored: ")
        assert "secret" not in caught.value.message
        assert caught.value.__suppress_context__

    def test_a_file_that_is_gone_is_an_error_without_its_path(self, tmp_path: Path) -> None:
        client = Client()
        with pytest.raises(StorageError, match="could not be stored: No such file") as caught:
            bucket(client).put(tmp_path / "gone", KEY, "audio/wav")
        assert str(tmp_path) not in caught.value.message
        assert client.calls == []

    def test_a_folder_that_is_gone_is_an_error_and_nothing_is_asked(self, tmp_path: Path) -> None:
        client = Client()
        with pytest.raises(StorageError, match="could not be read: No such file") as caught:
            bucket(client).get(KEY, tmp_path / "gone" / "into")
        assert str(tmp_path) not in caught.value.message
        assert client.calls == []

    def test_a_bad_key_is_not_asked_for(self, tmp_path: Path) -> None:
        client = Client()
        (tmp_path / "clip").touch()
        for use in (
            lambda storage: storage.put(tmp_path / "clip", "../x", "audio/wav"),
            lambda storage: storage.write_bytes("../x", b"", "audio/wav"),
            lambda storage: storage.url("../x", 60),
            lambda storage: storage.exists("../x"),
            lambda storage: storage.read_bytes("../x"),
        ):
            with pytest.raises(RequestError):
                use(bucket(client))
        assert client.calls == []


class TestWhatIsAsked:
    def test_small_things_and_files_go_under_their_key_with_their_type(
        self, tmp_path: Path
    ) -> None:
        client = Client()
        bucket(client).write_bytes(KEY, b"{}", "application/json")
        ((call, asked),) = client.calls
        assert (call, asked["Bucket"], asked["Key"]) == ("put_object", "speech", KEY)
        assert (asked["Body"], asked["ContentType"]) == (b"{}", "application/json")

        client = Client()
        (tmp_path / "clip").write_bytes(b"abc")
        bucket(client).put(tmp_path / "clip", "output/x.ogg", "audio/ogg")
        ((call, asked),) = client.calls
        assert (call, asked["Bucket"], asked["Key"]) == ("put_object", "speech", "output/x.ogg")
        assert asked["ContentType"] == "audio/ogg"
        assert isinstance(asked["Body"], io.BufferedReader)
        assert asked["Body"].closed

    def test_by_default_it_is_patient(self) -> None:
        """docs/SCALING.md counts on retries; a part of less than 5 MB is refused by S3."""
        assert S3Limits() == S3Limits(
            connect_seconds=5,
            read_seconds=30,
            attempts=6,
            pause_seconds=0.5,
            call_seconds=60,
            bytes_per_second=524_288,
            threads=4,
            part_bytes=8_388_608,
        )

    def test_the_client_keeps_to_the_limits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made: list[Any] = []
        make = boto3.session.Session.client

        def note(session: Any, *args: Any, **named: Any) -> Any:
            made.append(named["config"])
            return make(session, *args, **named)

        monkeypatch.setattr(boto3.session.Session, "client", note)
        limits = S3Limits(connect_seconds=1.5, read_seconds=2.5, attempts=7, threads=40)
        open_storage(settings(), limits)
        (config,) = made
        assert (config.connect_timeout, config.read_timeout) == (1.5, 2.5)
        assert config.retries["total_max_attempts"] == 1  # the storage itself asks again
        assert config.max_pool_connections >= 40


class TestUrls:
    def test_a_url_lives_exactly_as_long_as_was_asked(self) -> None:
        storage = open_storage(settings())
        for seconds in (60, 61, 3600, 604_800):
            url = urlsplit(storage.url("output/a b/ü+&.wav", seconds))
            query = parse_qs(url.query)
            assert query["X-Amz-Expires"] == [str(seconds)]
        assert url.netloc == "speech.s3.eu-west-1.amazonaws.com"
        assert url.path == "/output/a%20b/%C3%BC%2B%26.wav"
        assert "/eu-west-1/s3/aws4_request" in query["X-Amz-Credential"][0]
        assert "X-Amz-Security-Token" not in query

    def test_a_session_token_is_used_with_its_key_alone(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def token(**changed: object) -> list[str] | None:
            url = open_storage(settings(aws_session_token="token", **changed)).url(KEY, 60)
            return parse_qs(urlsplit(url).query).get("X-Amz-Security-Token")

        assert token() == ["token"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "lasting")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_PROFILE", "default")  # so not from the environment
        (Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"])).write_text(
            "[default]\naws_access_key_id = lasting\naws_secret_access_key = secret\n"
        )
        assert token(aws_access_key_id=None, aws_secret_access_key=None) is None

    def test_without_a_region_it_is_that_of_aws(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert (
            "/us-east-1/s3/"
            in parse_qs(urlsplit(open_storage(settings(aws_region=None)).url(KEY, 60)).query)[
                "X-Amz-Credential"
            ][0]
        )
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
        url = open_storage(settings(aws_region=None)).url(KEY, 60)
        assert url.startswith("https://speech.s3.eu-north-1.amazonaws.com/")

    def test_other_services_have_the_bucket_in_the_path(self) -> None:
        url = open_storage(settings(aws_endpoint_url="https://b2.example")).url(KEY, 60)
        assert url.startswith(f"https://b2.example/speech/{KEY}?")


def test_a_server_that_says_nothing_is_left_after_the_read_timeout_of_each_attempt() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        limits = S3Limits(connect_seconds=60, read_seconds=0.05, attempts=1)
        with pytest.raises(StorageError, match="ReadTimeoutError"):
            open_storage(settings(aws_endpoint_url=url), limits).check()


class TestWords:
    @pytest.mark.parametrize(
        ("fault", "words"),
        [
            ("[SSL: CERTIFICATE_VERIFY_FAILED] unable to get local issuer", "in AWS_CA_BUNDLE"),
            ("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate", "in AWS_CA_BUNDLE"),
            ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired", "out of date; renew it"),
            ("[SSL: CERTIFICATE_VERIFY_FAILED] Hostname mismatch", "for another host"),
            ("hostname 'a.b.s3.x' doesn't match either of '*.s3.x'", "S3_ADDRESSING_STYLE=path"),
            ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "does not speak TLS"),
        ],
    )
    def test_tls_that_fails_for_good(self, fault: str, words: str) -> None:
        error = boto.SSLError(endpoint_url="https://h", error=fault)
        assert not is_transient(error)
        assert words in str(storage_error("x", error, Place()))

    def test_tls_that_breaks_off_is_tried_again(self) -> None:
        error = boto.SSLError(endpoint_url="https://h", error="UNEXPECTED_EOF_WHILE_READING")
        assert is_transient(error)
        assert "no secure connection" in str(storage_error("x", error, Place()))

    def test_where_no_endpoint_is_set_it_is_the_region(self) -> None:
        error = boto.EndpointConnectionError(endpoint_url="https://speech.s3.us-wset-1.x")
        assert "check AWS_REGION and the network" in str(
            storage_error("x", error, Place("us-wset-1"))
        )
        other = Place("x", endpoint="https://h")
        assert "check AWS_ENDPOINT_URL (S3_ADDRESSING_STYLE" in str(
            storage_error("x", error, other)
        )

    def test_only_a_look_may_find_nothing(self) -> None:
        for operation in ("GetObject", "HeadObject", "HeadBucket"):
            assert isinstance(storage_error("x", refusal("404", operation), Place()), NotFoundError)
        for operation in ("PutObject", "CreateMultipartUpload", "UploadPart"):
            found = storage_error("x", refusal("404", operation), Place())
            assert not isinstance(found, NotFoundError)
            assert "check S3_BUCKET_NAME and AWS_ENDPOINT_URL" in str(found)

    def test_what_is_not_of_the_storage_stays_what_it_is(self) -> None:
        assert storage_error("x", ValueError("mine"), Place()) is None
        client = Client(ValueError("mine"))
        with pytest.raises(ValueError, match="mine"):
            bucket(client).write_bytes(KEY, b"", "text/plain")
        assert len(client.calls) == 1


class TestSettings:
    """Mistakes that are seen before anything is asked."""

    @pytest.mark.parametrize(
        ("bucket_name", "words"),
        [
            ("s3://my-speech", "the bucket's name alone: set it to 'my-speech'"),
            ("S3://my-speech/", "set it to 'my-speech'"),
            ("arn:aws:s3:::my-speech", "set it to 'my-speech'"),
            ("my-speech/", "set it to 'my-speech'"),
            (
                "my-speech/jobs/a",
                "set it to 'my-speech'; 'jobs/a' goes into S3_OUTPUT_PREFIX and S3_VOICES_PREFIX",
            ),
            ("s3://my-speech/jobs", "'my-speech'; 'jobs' goes into S3_OUTPUT_PREFIX"),
            ("https://my-speech.s3.amazonaws.com", "an address goes into AWS_ENDPOINT_URL"),
            ("https://s3.example/my-speech", "an address goes into AWS_ENDPOINT_URL"),
            ("/my-speech", "letters, digits and . _ - alone"),
            ("b\u00fccket", "S3_BUCKET_NAME is no bucket's name"),
            ("my?speech", "S3_BUCKET_NAME is no bucket's name"),
            ("a" * 256, "S3_BUCKET_NAME is no bucket's name"),
        ],
    )
    def test_a_bucket_that_is_more_than_a_name(self, bucket_name: str, words: str) -> None:
        made = settings().model_copy(update={"s3_bucket_name": bucket_name})
        with pytest.raises(SetupError, match=words) as caught:
            open_storage(made)
        assert caught.value.message.startswith("S3_BUCKET_NAME ")

    @pytest.mark.parametrize(
        "bucket_name",
        [
            *("speech", "my.dotted.name", "Old_Style.Name", "a-1"),
            "arn:aws:s3:eu-west-1:123456789012:accesspoint/speech",
        ],
    )
    def test_names_that_there_are(self, bucket_name: str) -> None:
        open_storage(settings(s3_bucket_name=bucket_name)).url(KEY, 60)

    @pytest.mark.parametrize(
        ("endpoint", "words"),
        [
            ("https://s3.example/speech", "names the bucket: leave '/speech' out"),
            ("https://s3.example/speech/", "names the bucket: leave '/speech' out"),
            ("https://s3.example/speech/output", "names the bucket"),
            ("https://s3.example/v1/speech", "names the bucket"),
            ("s3.example", "must begin with https://"),
            ("s3://s3.example", "must begin with https://"),
            ("//s3.example", "must begin with https://"),
            ("https:/s3.example", "must begin with https://"),
            ("https://", "is no address"),
            ("https://:9000", "is no address"),
            ("https://[::1", "is no address"),
            ("https://s3.example:port", "is no address"),
            ("https://s3.example:99999", "is no address"),
            ("https://user:hidden@s3.example", "without a user"),
            ("https://s3.example?x=hidden", "without a user, '\\?' or '#'"),
            ("https://s3.example/#hidden", "without a user"),
        ],
    )
    def test_an_endpoint_that_cannot_be_meant(self, endpoint: str, words: str) -> None:
        with pytest.raises(SetupError, match=words) as caught:
            open_storage(settings(aws_endpoint_url=endpoint))
        assert caught.value.message.startswith("AWS_ENDPOINT_URL ")
        assert "hidden" not in caught.value.message

    @pytest.mark.parametrize(
        "endpoint",
        [
            *("https://s3.example", "http://127.0.0.1:9000", "https://[::1]:9000/", "HTTPS://S3.X"),
            "https://project.example/storage/v1/s3",  # as some services have it
            "https://speech.example",  # asked for, when the bucket is checked
        ],
    )
    def test_endpoints_that_there_are(self, endpoint: str) -> None:
        storage = open_storage(settings(aws_endpoint_url=endpoint))
        url = storage.url(KEY, 60).split("?")[0]
        assert url.lower() == f"{endpoint.lower().rstrip('/')}/speech/{KEY}"

    def test_a_profile_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        with pytest.raises(SetupError, match="AWS_PROFILE names a profile that is in no") as caught:
            open_storage(settings())
        assert "nobody" not in caught.value.message

    def test_a_configuration_file_that_is_none(self) -> None:
        Path(os.environ["AWS_CONFIG_FILE"]).write_text("[default\nregion")
        with pytest.raises(SetupError, match="the file of AWS_CONFIG_FILE or AWS_SHARED_CRED"):
            open_storage(settings())

    @pytest.mark.parametrize("region", ["Frankfurt!", "eu_west_1", "-", "a" * 70])
    def test_a_region_that_is_none(self, region: str) -> None:
        with pytest.raises(SetupError, match="check AWS_ENDPOINT_URL and AWS_REGION"):
            open_storage(settings(aws_region=region))


class TestWhereTheBucketStands:
    @pytest.mark.parametrize(
        ("style", "name", "endpoint", "expected"),
        [
            ("auto", "speech", None, "https://speech.s3.eu-west-1.amazonaws.com/"),
            ("auto", "my.speech", None, "https://s3.eu-west-1.amazonaws.com/my.speech/"),
            ("auto", "speech", "https://b2.example", "https://b2.example/speech/"),
            ("path", "speech", None, "https://s3.eu-west-1.amazonaws.com/speech/"),
            ("path", "speech", "https://b2.example", "https://b2.example/speech/"),
            ("virtual", "speech", None, "https://speech.s3.eu-west-1.amazonaws.com/"),
            ("virtual", "speech", "https://cos.example", "https://speech.cos.example/"),
        ],
    )
    def test_as_the_setting_says(
        self, style: str, name: str, endpoint: str | None, expected: str
    ) -> None:
        made = settings(s3_addressing_style=style, s3_bucket_name=name, aws_endpoint_url=endpoint)
        assert open_storage(made).url(KEY, 60).startswith(f"{expected}{KEY}?")

    def test_a_dotted_name_has_a_host_that_the_certificate_is_for(self) -> None:
        """AWS's is for *.s3.REGION.amazonaws.com, where the star is one label."""
        for region, host in (
            ("us-east-1", "s3.amazonaws.com"),
            ("eu-central-1", "s3.eu-central-1.amazonaws.com"),
        ):
            url = open_storage(settings(s3_bucket_name="a.b.c", aws_region=region)).url(KEY, 60)
            assert urlsplit(url).netloc == host
            assert urlsplit(url).path == f"/a.b.c/{KEY}"
