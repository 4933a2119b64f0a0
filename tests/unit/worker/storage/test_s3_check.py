"""What a worker finds out about its bucket before it takes a job, and in which words."""

from __future__ import annotations

import datetime as dt
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.raw_server import answer, raw_server
from tests.support.s3 import (
    ACCESS_KEY,
    SECRET_KEY,
    Door,
    Refusal,
    read_services_once,
    s3_client,
    s3_server,
)
from tests.support.serving import serving
from tests.support.worker_process import REPOSITORY
from worker.errors import SetupError, StorageError
from worker.settings import Settings
from worker.storage.base import Storage
from worker.storage.open import open_storage
from worker.storage.s3_check import CONTENT, KEYS
from worker.storage.s3_client import S3Limits

BUCKET = "speech"
PAGE = b"<!DOCTYPE html><html><body><h1>Welcome</h1><p>no-dump-of-this</body></html>"
QUICK = S3Limits(connect_seconds=2, read_seconds=10, attempts=3, pause_seconds=0.01)
DENIED = Refusal(403, "AccessDenied")


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read_services_once(monkeypatch)
    for name in [name for name in os.environ if name.upper().startswith(("AWS_", "S3_", "HTTP"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server(BUCKET) as url:
        yield url


@pytest.fixture
def door(endpoint: str) -> Iterator[Door]:
    with Door(endpoint).running() as door:
        yield door


def storage(endpoint: str | None, limits: S3Limits = QUICK, **changed: object) -> Storage:
    values: dict[str, Any] = {
        "s3_bucket_name": BUCKET,
        "aws_access_key_id": ACCESS_KEY,
        "aws_secret_access_key": SECRET_KEY,
        "aws_region": "us-east-1",
        "aws_endpoint_url": endpoint,
    }
    return open_storage(Settings(**(values | changed)), limits)


def refused(words: str, endpoint: str, **changed: object) -> str:
    """Check that the bucket is refused in these words, in a line without a secret or a page."""
    with pytest.raises(StorageError, match=words) as caught:
        storage(endpoint, **changed).check()
    message = caught.value.message
    assert message.startswith("the bucket cannot be used: ")
    assert len(message) < 400
    for never in ("\n", "<", "no-dump", ACCESS_KEY, SECRET_KEY, "X-Amz-"):
        assert never not in message
    return message


def signed_in(door: Door) -> bool:
    """Whether the last request has its signature in its URL: it comes from a plain client."""
    return "X-Amz-Signature=" in door.seen[-1][1]


class TestWhatIsTried:
    def test_what_clients_and_the_worker_do_and_nothing_else(self, door: Door) -> None:
        storage(door.url).check()
        (first, *_) = [path for method, path, _ in door.seen if method == "PUT"]
        assert re.fullmatch(rf"/{BUCKET}/output/worker-check/\d\d\.txt", first)
        done = [(method, path.replace(first, "KEY").split("?")[0]) for method, path, _ in door.seen]
        missing = f"/{BUCKET}/output/worker-check/missing"
        assert done == [
            *(("PUT", "KEY"), ("GET", "KEY"), ("HEAD", "KEY"), ("GET", "KEY")),
            *(("GET", missing), ("HEAD", missing)),
        ]
        _, path, headers = door.seen[1]
        assert "X-Amz-Signature=" in path
        assert not {name.lower() for name in headers} & {"authorization", "x-amz-date"}

    def test_it_is_below_the_output_prefix(self, door: Door) -> None:
        storage(door.url, s3_output_prefix="a/b").check()
        assert {path.startswith(f"/{BUCKET}/a/b/worker-check/") for _, path, _ in door.seen} == {
            True
        }
        storage(door.url, s3_output_prefix="/").check()
        assert door.seen[-1][1] == f"/{BUCKET}/worker-check/missing"

    def test_many_workers_do_not_disturb_each_other_and_leave_few_objects(
        self, endpoint: str
    ) -> None:
        bucket = storage(endpoint, s3_output_prefix="many/")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: bucket.check(), range(16)))
        left = s3_client(endpoint).list_objects_v2(Bucket=BUCKET, Prefix="many/")["Contents"]
        assert 1 <= len(left) <= KEYS
        assert {object_["Size"] for object_ in left} == {len(CONTENT)}
        told = f"At most {KEYS} objects of {len(CONTENT)} bytes stay there"
        assert told in (REPOSITORY / "docs" / "DEPLOY.md").read_text()

    def test_a_moment_of_overload_is_no_reason(self, door: Door) -> None:
        busy = Refusal(503, "SlowDown")
        door.script = [busy, 0.0, busy, 0.0, busy, 0.0, "cut", 0.0, Refusal(502), 0.0]
        storage(door.url).check()
        assert door.script == []

    def test_an_answer_to_a_plain_client_that_broke_off_is_asked_for_again(
        self, door: Door
    ) -> None:
        door.script = [0.0, "cut"]
        storage(door.url).check()
        asked = [path.split("?")[0] for method, path, _ in door.seen if method == "GET"]
        assert asked[0] == asked[1]
        door.script = [0.0, *["cut"] * 3]
        assert "something else" not in refused("a pre-signed URL", door.url)

    def test_a_plain_client_that_gets_no_answer_waits_no_longer_than_a_call(
        self, door: Door
    ) -> None:
        limits = S3Limits(read_seconds=0.2, attempts=2, pause_seconds=0.01)
        door.chance = lambda: 2.0 if signed_in(door) else None
        with pytest.raises(StorageError, match=r"pre-signed URL .* cannot be reached \(TimeoutErr"):
            storage(door.url, limits).check()
        assert len(door.seen) == 3


class TestRights:
    def test_a_key_that_may_only_read(self, door: Door) -> None:
        door.chance = lambda: DENIED if door.seen[-1][0] == "PUT" else None
        refused("could not be stored: access is denied; the key needs .*s3:PutObject", door.url)

    def test_a_key_that_may_only_write(self, door: Door) -> None:
        door.chance = lambda: DENIED if door.seen[-1][0] != "PUT" else None
        refused("cannot be read: access is denied; the key needs s3:GetObject below S3_", door.url)

    def test_a_url_that_is_refused_while_the_worker_is_not(self, door: Door) -> None:
        door.chance = lambda: Refusal(403, "SignatureDoesNotMatch") if signed_in(door) else None
        refused("URL of what was stored cannot be read: the signature is wrong", door.url)
        door.chance = lambda: Refusal(404, "NoSuchKey") if signed_in(door) else None
        refused("nothing is there; check AWS_ENDPOINT_URL and S3_ADDRESSING_STYLE", door.url)

    @pytest.mark.parametrize("refusal", [DENIED, Refusal(403), Refusal(401)])
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_a_key_that_may_not_know_what_is_missing(
        self, door: Door, refusal: Refusal, method: str
    ) -> None:
        door.chance = lambda: (
            refusal if door.seen[-1][1].endswith("missing") and door.seen[-1][0] == method else None
        )
        refused("s3:ListBucket on the bucket .listFiles on Backblaze B2", door.url)

    def test_a_key_that_is_held_to_one_prefix(self, door: Door) -> None:
        within = f"/{BUCKET}/mine/"
        door.chance = lambda: None if door.seen[-1][1].startswith(within) else DENIED
        prefixes = {"s3_output_prefix": "mine/out", "s3_voices_prefix": "mine/voices"}
        storage(door.url, **prefixes).check()
        refused("access is denied", door.url)

    def test_a_service_that_lists_and_deletes_nothing(self, door: Door) -> None:
        def other() -> Refusal | None:
            method, path, _ = door.seen[-1]
            listing = path.split("?")[0].strip("/") == BUCKET
            return Refusal(501, "NotImplemented") if listing or method == "DELETE" else None

        door.chance = other
        storage(door.url).check()


class TestRegion:
    @staticmethod
    def elsewhere(door: Door, refusal: Refusal) -> Callable[[], Refusal | None]:
        """A service whose bucket is in eu-central-1, and which says so as AWS does."""

        def asked() -> Refusal | None:
            _, path, headers = door.seen[-1]
            scope = headers.get("Authorization", "") + path.replace("%2F", "/")
            return None if "/eu-central-1/s3/" in scope else refusal

        return asked

    NAMED = (("x-amz-bucket-region", "eu-central-1"),)

    @pytest.mark.parametrize(
        "refusal",
        [
            Refusal(301, "PermanentRedirect", NAMED),
            Refusal(307, "TemporaryRedirect", NAMED),
            Refusal(400, "IllegalLocationConstraintException", NAMED),
            Refusal(
                400,
                page=b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>x</Message>"
                b"<Region>eu-central-1</Region></Error>",
            ),
        ],
    )
    def test_a_wrong_one_is_not_mended_in_silence_and_the_right_one_named(
        self, door: Door, refusal: Refusal
    ) -> None:
        door.chance = self.elsewhere(door, refusal)
        refused("in eu-central-1, not in us-east-1; set AWS_REGION=eu-central-1", door.url)
        assert len(door.seen) == 1
        refused(
            "in eu-central-1, and AWS_REGION is not set; set AWS_REGION=eu-central-1",
            door.url,
            aws_region=None,
        )
        storage(door.url, aws_region="eu-central-1").check()

    def test_no_call_is_mended_in_silence(self, door: Door, tmp_path: Path) -> None:
        door.chance = self.elsewhere(door, Refusal(301, "PermanentRedirect", self.NAMED))
        bucket = storage(door.url)
        (tmp_path / "clip").write_bytes(b"RIFF")
        for use in (
            lambda: bucket.put(tmp_path / "clip", "output/x.wav", "audio/wav"),
            lambda: bucket.get("output/x.wav", tmp_path / "into"),
            lambda: bucket.read_bytes("output/x.wav"),
            lambda: bucket.exists("output/x.wav"),
            lambda: bucket.write_bytes("output/x.json", b"{}", "application/json"),
        ):
            door.seen.clear()
            with pytest.raises(StorageError, match="set AWS_REGION=eu-central-1"):
                use()
            assert len(door.seen) == 1

    def test_a_service_that_does_not_name_it(self, door: Door) -> None:
        door.chance = self.elsewhere(door, Refusal(301, "PermanentRedirect"))
        refused("another region; check AWS_REGION and AWS_ENDPOINT_URL", door.url)
        nonsense = (("x-amz-bucket-region", "<script>"),)
        door.chance = self.elsewhere(door, Refusal(301, "PermanentRedirect", nonsense))
        refused("another region; check AWS_REGION", door.url)


class TestEndpoints:
    @pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
    def test_one_that_redirects(self, status: str) -> None:
        elsewhere = "https://s3.example/no-dump?X-Amz-Signature=x"
        moved = answer(status, PAGE, Location=elsewhere, Content_Type="text/html")
        with raw_server(moved) as server:
            message = refused("AWS_ENDPOINT_URL is redirected to", server.url)
            assert "redirected to https://s3.example; set it to that" in message
            assert len(server.requests) == 1

    def test_one_that_redirects_to_itself(self) -> None:
        with raw_server(answer("307 Temporary Redirect", Location="/speech")) as server:
            refused("another region; check AWS_REGION and AWS_ENDPOINT_URL", server.url)
            assert len(server.requests) == 1

    @pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "405 Not Allowed"])
    def test_one_that_is_a_web_page(self, status: str) -> None:
        page = answer(status, PAGE, Content_Type="text/html; charset=utf-8")
        with raw_server(page) as server:
            message = refused("a web page answers", server.url)
            assert f"(HTTP {status[:3]}), not an S3 service; check AWS_ENDPOINT_URL" in message

    def test_one_that_says_yes_to_everything(self) -> None:
        with raw_server(answer("200 OK", PAGE, Content_Type="text/html")) as server:
            refused("a web page answers in .* and check AWS_ENDPOINT_URL", server.url)
        with raw_server(answer("200 OK")) as server:
            refused("something else answers; check AWS_ENDPOINT_URL", server.url)

    @pytest.mark.parametrize(
        ("status", "body", "words"),
        [
            ("401 Unauthorized", b"", "check the credentials"),
            (
                "404 Not Found",
                b'{"detail": "no-dump"}',
                "check S3_BUCKET_NAME and AWS_ENDPOINT_URL",
            ),
            ("400 Bad Request", b"{}", "check AWS_REGION and AWS_ENDPOINT_URL"),
            ("418 Teapot", b"<html><p>no-dump</p></html>", "the storage answered 418"),
            ("501 Not Implemented", b"", "check AWS_ENDPOINT_URL"),
            ("502 Bad Gateway", PAGE, r"\(502\); try again later, and check AWS_ENDPOINT_URL"),
            ("503 Busy", PAGE, "unavailable; try again later"),
            ("504 Timeout", PAGE, r"\(504\); try again later, and check AWS_ENDPOINT_URL"),
        ],
    )
    def test_answers_that_are_not_of_s3(self, status: str, body: bytes, words: str) -> None:
        with raw_server(
            answer(status, body, Content_Type="text/html" if body == PAGE else "x")
        ) as s:
            refused(words, s.url)

    def test_one_that_has_no_bucket_of_that_name(self, endpoint: str) -> None:
        refused("does not exist; check S3_BUCKET_NAME", endpoint, s3_bucket_name="elsewhere")

    def test_one_that_names_the_bucket_in_its_host(
        self, endpoint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It takes the bucket's name in the path for a part of each key: nothing is refused."""
        monkeypatch.setattr(socket, "getaddrinfo", known(f"{BUCKET}.s3.example"))
        with Door(endpoint, BUCKET).running() as door:
            port = door.server_address[1]
            refused(
                f"leave '{BUCKET}.' out of AWS_ENDPOINT_URL", f"http://{BUCKET}.s3.example:{port}"
            )

    def test_one_that_begins_like_the_bucket_by_chance(
        self, endpoint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", known(f"{BUCKET}.corp.example"))
        with Door(endpoint, "").running() as door:
            storage(f"http://{BUCKET}.corp.example:{door.server_address[1]}").check()

    def test_one_with_buckets_in_the_host_alone(
        self, endpoint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", known(f"{BUCKET}.s3.example"))
        with Door(endpoint, BUCKET).running() as door:
            bucket = storage(
                f"http://s3.example:{door.server_address[1]}", s3_addressing_style="virtual"
            )
            bucket.check()
            assert {path.startswith("/output/") for _, path, _ in door.seen} == {True}


def known(*names: str) -> Callable[..., Any]:
    """A resolver that knows these names, as the loopback, and addresses."""
    real = socket.getaddrinfo

    def look(host: Any, *args: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return real("127.0.0.1" if name in names else host, *args, **named)

    return look


class SecureDoor(Door):
    def __init__(self, behind: str, certificate: trustme.LeafCert) -> None:
        super().__init__(behind)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(context)
        self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def url(self) -> str:
        return super().url.replace("http:", "https:")

    def handle_error(self, *_: object) -> None:
        """A client that trusts nobody hangs up."""


class TestCertificates:
    @pytest.fixture(scope="class")
    def authority(self) -> trustme.CA:
        return trustme.CA()

    def test_an_authority_of_ones_own(
        self, endpoint: str, authority: trustme.CA, tmp_path: Path
    ) -> None:
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        door = SecureDoor(endpoint, authority.issue_cert("127.0.0.1"))
        with serving(door):
            refused("its authority is not known here; .* in AWS_CA_BUNDLE", door.url)
            storage(door.url, aws_ca_bundle=tmp_path / "ca.pem").check()
            assert len([1 for method, *_ in door.seen if method == "PUT"]) == 1

    def test_one_that_the_variable_of_boto_names(
        self,
        endpoint: str,
        authority: trustme.CA,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("AWS_CA_BUNDLE", f" {tmp_path / 'ca.pem'} ")
        door = SecureDoor(endpoint, authority.issue_cert("127.0.0.1"))
        with serving(door):
            storage(door.url).check()

    def test_a_certificate_of_another_host(
        self, endpoint: str, authority: trustme.CA, tmp_path: Path
    ) -> None:
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        door = SecureDoor(endpoint, authority.issue_cert("other.example"))
        with serving(door):
            words = "for another host; check AWS_ENDPOINT_URL, or set S3_ADDRESSING_STYLE=path"
            refused(words, door.url, aws_ca_bundle=tmp_path / "ca.pem")

    def test_one_that_is_out_of_date(
        self, endpoint: str, authority: trustme.CA, tmp_path: Path
    ) -> None:
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        past = dt.datetime(2020, 1, 2, tzinfo=dt.UTC)
        certificate = authority.issue_cert(
            "127.0.0.1", not_before=past - dt.timedelta(1), not_after=past
        )
        door = SecureDoor(endpoint, certificate)
        with serving(door):
            refused("out of date; renew it", door.url, aws_ca_bundle=tmp_path / "ca.pem")

    def test_a_service_without_tls(self, door: Door) -> None:
        refused("does not speak TLS; check AWS_ENDPOINT_URL", door.url.replace("http:", "https:"))

    def test_a_bundle_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(SetupError, match="AWS_CA_BUNDLE names a file that is not there"):
            storage("https://127.0.0.1:9", aws_ca_bundle=tmp_path / "none.pem")
        (tmp_path / "page.pem").write_bytes(PAGE)
        with pytest.raises(
            SetupError, match="AWS_CA_BUNDLE names a file that holds no certificate"
        ):
            storage("https://127.0.0.1:9", aws_ca_bundle=tmp_path / "page.pem")
