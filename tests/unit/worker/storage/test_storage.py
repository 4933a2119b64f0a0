from __future__ import annotations

import os
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.s3 import (
    ACCESS_KEY,
    SECRET_KEY,
    Door,
    Refusal,
    read_services_once,
    s3_client,
    s3_server,
)
from worker.cancellation import Cancellation
from worker.errors import (
    JobCancelledError,
    NotFoundError,
    RequestError,
    SetupError,
    StorageError,
)
from worker.settings import Settings
from worker.storage.base import READ_BYTES_MAX, Storage
from worker.storage.local import LocalStorage
from worker.storage.open import open_storage
from worker.storage.s3_client import S3Limits

BUCKET = "speech"
QUICK = S3Limits(connect_seconds=1, read_seconds=5, attempts=4, pause_seconds=0.01)


def s3(endpoint: str, limits: S3Limits = QUICK, **changed: object) -> Storage:
    values = {
        "s3_bucket_name": BUCKET,
        "aws_access_key_id": ACCESS_KEY,
        "aws_secret_access_key": SECRET_KEY,
        "aws_region": "us-east-1",
        "aws_endpoint_url": endpoint,
    }
    return open_storage(Settings(**(values | changed)), limits)


@pytest.fixture(autouse=True)
def no_credentials_of_this_machine(monkeypatch, tmp_path):
    read_services_once(monkeypatch)
    for name in [name for name in os.environ if name.startswith(("AWS_", "S3_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


@pytest.fixture(scope="module")
def endpoint():
    with s3_server(BUCKET) as url:
        yield url


@pytest.fixture
def door(endpoint):
    with Door(endpoint).running() as door:
        yield door


@pytest.fixture(scope="module")
def bucket(endpoint) -> Storage:
    return s3(endpoint)


@pytest.fixture(params=["s3", "local"])
def storage(request, bucket, tmp_path) -> Storage:
    return bucket if request.param == "s3" else LocalStorage(tmp_path / "store")


@pytest.fixture
def clip(tmp_path) -> Path:
    path = tmp_path / "clip.wav"
    path.write_bytes(os.urandom(50_000))
    return path


class TestEveryStorage:
    def test_what_is_put_is_got(self, storage, clip, tmp_path):
        storage.put(clip, "output/a b/Grüße 你好_1.wav", "audio/wav")
        into = tmp_path / "back.wav"
        assert storage.get("output/a b/Grüße 你好_1.wav", into) == into
        assert into.read_bytes() == clip.read_bytes()
        assert clip.exists()

    def test_the_url_gives_the_bytes(self, storage, clip):
        storage.put(clip, "output/a b+c&d=1_ü.wav", "audio/wav")
        url = storage.url("output/a b+c&d=1_ü.wav", 60)
        with urllib.request.urlopen(url, timeout=5) as answer:
            assert answer.read() == clip.read_bytes()

    def test_a_second_put_replaces_the_first(self, storage):
        storage.write_bytes("voices/again.json", b"first and longer", "application/json")
        storage.write_bytes("voices/again.json", b"second", "application/json")
        assert storage.read_bytes("voices/again.json") == b"second"

    def test_exists(self, storage):
        assert not storage.exists("voices/new.json")
        storage.write_bytes("voices/new.json", b"{}", "application/json")
        assert storage.exists("voices/new.json")
        assert not storage.exists("voices")

    def test_a_missing_key_is_its_own_error(self, storage, tmp_path):
        into = tmp_path / "into" / "file"
        into.parent.mkdir()
        with pytest.raises(NotFoundError, match=r"voices/nobody.wav"):
            storage.get("voices/nobody.wav", into)
        with pytest.raises(NotFoundError, match=r"voices/nobody.json"):
            storage.read_bytes("voices/nobody.json")
        assert list(into.parent.iterdir()) == []

    def test_more_than_is_wanted_is_refused(self, storage, clip, tmp_path):
        storage.put(clip, "voices/long.wav", "audio/wav")
        into = tmp_path / "into" / "file"
        into.parent.mkdir()
        with pytest.raises(StorageError, match="has 50000 bytes; at most 49999"):
            storage.get("voices/long.wav", into, max_bytes=49_999)
        assert list(into.parent.iterdir()) == []
        storage.get("voices/long.wav", into, max_bytes=50_000)

    def test_small_reads_are_bounded(self, storage):
        storage.write_bytes("voices/big.json", bytes(READ_BYTES_MAX + 1), "application/json")
        with pytest.raises(StorageError, match="larger than"):
            storage.read_bytes("voices/big.json")

    def test_what_lies_right_below_a_prefix_is_listed_by_key(self, storage):
        before = time.time()
        for key in ("b.json", "a b_ü&.json", "deeper/c.json", "a.wav"):
            storage.write_bytes(f"listed/{key}", b"{ }", "application/json")
        storage.write_bytes("listed.json", b"{}", "application/json")
        found = storage.children("listed/")
        assert [file.key for file in found] == [
            "listed/a b_ü&.json",
            "listed/a.wav",
            "listed/b.json",
        ]
        assert {file.size for file in found} == {3}
        # S3 says whole seconds.
        assert all(before - 2 < file.modified < time.time() + 2 for file in found)
        assert [file.key for file in storage.children("listed/deeper/")] == ["listed/deeper/c.json"]
        assert storage.children("nothing/is/here/") == ()
        assert "listed.json" in {file.key for file in storage.children("")}

    def test_a_listing_tells_what_changed(self, storage):
        def version(key):
            (found,) = [file for file in storage.children("changed/") if file.key == key]
            return found.version

        for key in ("changed/one.json", "changed/two.json"):
            storage.write_bytes(key, b"first", "application/json")
        one, two = version("changed/one.json"), version("changed/two.json")
        storage.write_bytes("changed/one.json", b"other", "application/json")
        assert version("changed/one.json") != one
        assert version("changed/two.json") == two

    def test_what_is_deleted_is_gone_and_nothing_else(self, storage):
        for key in ("gone/one.json", "gone/two.json"):
            storage.write_bytes(key, b"{}", "application/json")
        storage.delete("gone/one.json")
        assert not storage.exists("gone/one.json")
        assert storage.read_bytes("gone/two.json") == b"{}"
        storage.delete("gone/one.json")
        storage.delete("gone/never.json")

    def test_check_passes(self, storage):
        storage.check()

    @pytest.mark.parametrize(
        "key",
        ["", "/etc/passwd", "../out", "a/../../out", "a//b", "a/", "a/./b", "a\\b", "a\0b", "a\nb"],
    )
    def test_a_key_that_leads_elsewhere_is_refused(self, storage, clip, tmp_path, key):
        for use in (
            lambda: storage.put(clip, key, "audio/wav"),
            lambda: storage.get(key, tmp_path / "into"),
            lambda: storage.exists(key),
            lambda: storage.url(key, 60),
            lambda: storage.write_bytes(key, b"", "audio/wav"),
            lambda: storage.read_bytes(key),
            lambda: storage.delete(key),
        ):
            with pytest.raises(RequestError):
                use()

    @pytest.mark.parametrize("prefix", ["/", "../", "a/../", "a//", "a\\b/", "a\0/"])
    def test_a_prefix_that_leads_elsewhere_is_refused(self, storage, prefix):
        with pytest.raises(RequestError):
            storage.children(prefix)


class TestS3:
    def test_the_content_type_is_served(self, bucket, clip):
        bucket.put(clip, "output/typed.ogg", "audio/ogg")
        bucket.write_bytes("output/typed.json", b"{}", "application/json")
        for key, expected in (("typed.ogg", "audio/ogg"), ("typed.json", "application/json")):
            with urllib.request.urlopen(bucket.url(f"output/{key}", 60), timeout=5) as answer:
                assert answer.headers["Content-Type"] == expected

    def test_a_url_is_signed_with_the_asked_expiry_and_version_4(self, bucket):
        url = urllib.parse.urlsplit(bucket.url("output/x.wav", 4321))
        query = urllib.parse.parse_qs(url.query)
        assert query["X-Amz-Expires"] == ["4321"]
        assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
        assert url.path == f"/{BUCKET}/output/x.wav"
        assert SECRET_KEY not in url.geturl()

    def test_on_aws_a_url_leads_to_the_bucket_in_its_region(self):
        url = s3(None, aws_region="eu-west-1").url("output/x.wav", 60)
        assert url.startswith(f"https://{BUCKET}.s3.eu-west-1.amazonaws.com/output/x.wav?")

    def test_a_large_file_goes_in_parts(self, door, tmp_path):
        storage = s3(door.url)
        large = tmp_path / "large.wav"
        large.write_bytes(os.urandom(9 << 20))
        storage.put(large, "output/large.wav", "audio/wav")
        assert sum("partNumber=" in path for method, path, _ in door.seen if method == "PUT") == 2
        back = storage.get("output/large.wav", tmp_path / "back.wav")
        assert back.read_bytes() == large.read_bytes()
        with urllib.request.urlopen(storage.url("output/large.wav", 60), timeout=5) as answer:
            assert answer.headers["Content-Type"] == "audio/wav"

    def test_no_checksum_header_is_sent_that_other_services_refuse(self, door, tmp_path):
        storage = s3(door.url)
        for size in (1_000, 9 << 20):
            path = tmp_path / "file"
            path.write_bytes(bytes(size))
            storage.put(path, "output/plain.wav", "audio/wav")
        storage.write_bytes("output/plain.json", b"{}", "application/json")
        storage.get("output/plain.wav", tmp_path / "back")
        sent = {name.lower() for _, _, headers in door.seen for name in headers}
        assert not {name for name in sent if "checksum" in name or "trailer" in name}

    def test_a_busy_storage_is_asked_again(self, door, clip, tmp_path):
        storage = s3(door.url)
        door.script = [Refusal(503)] * 2
        storage.put(clip, "output/busy.wav", "audio/wav")
        assert [method for method, _, _ in door.seen] == ["PUT", "PUT", "PUT"]
        door.script = [Refusal(500)]
        storage.get("output/busy.wav", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == clip.read_bytes()

    def test_a_storage_that_stays_busy_is_an_error(self, door):
        storage = s3(door.url, S3Limits(attempts=2))
        door.script = [Refusal(503)] * 3
        with pytest.raises(StorageError, match="unavailable; try again later"):
            storage.write_bytes("output/x.json", b"{}", "application/json")
        assert len(door.seen) == 2

    def test_a_body_that_breaks_off_is_read_again(self, door, clip, tmp_path):
        storage = s3(door.url)
        storage.put(clip, "voices/broken.wav", "audio/wav")
        door.script = ["cut", "cut"]
        storage.get("voices/broken.wav", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == clip.read_bytes()

    def test_a_small_body_that_breaks_off_is_read_again(self, door):
        storage = s3(door.url)
        storage.write_bytes("voices/small.json", b'{"format": 1}', "application/json")
        door.script = ["cut", "cut"]
        assert storage.read_bytes("voices/small.json") == b'{"format": 1}'
        door.script = ["cut"] * QUICK.attempts
        with pytest.raises(StorageError):
            storage.read_bytes("voices/small.json")

    def test_a_body_that_always_breaks_off_leaves_nothing(self, door, clip, tmp_path):
        storage = s3(door.url)
        storage.put(clip, "voices/broken.wav", "audio/wav")
        door.script = ["cut"] * QUICK.attempts
        into = tmp_path / "into" / "file"
        into.parent.mkdir()
        with pytest.raises(StorageError, match=r"cannot be reached|IncompleteReadError"):
            storage.get("voices/broken.wav", into)
        assert list(into.parent.iterdir()) == []

    def test_a_list_is_read_page_by_page(self, door):
        storage = s3(door.url, replace(QUICK, list_keys=2))
        for name in "abcde":
            storage.write_bytes(f"paged/{name}.json", b"{}", "application/json")
            storage.write_bytes(f"paged/{name}/x.json", b"{}", "application/json")
        door.seen.clear()
        assert [file.key for file in storage.children("paged/")] == [
            f"paged/{name}.json" for name in "abcde"
        ]
        assert len(door.seen) == 5  # folders count as keys
        assert all("max-keys=2" in path for _, path, _ in door.seen)

    def test_a_page_that_breaks_off_is_asked_for_again_and_not_those_before(self, door):
        storage = s3(door.url, replace(QUICK, list_keys=2))
        for name in "abc":
            storage.write_bytes(f"torn/{name}.json", b"{}", "application/json")
        door.seen.clear()
        door.script = [0.0, "cut", Refusal(503, "SlowDown")]
        assert len(storage.children("torn/")) == 3
        assert ["continuation-token" in path for _, path, _ in door.seen] == [False, *[True] * 3]

    def test_a_removal_is_tried_again_and_may_have_been_done_before(self, door):
        storage = s3(door.url)
        storage.write_bytes("gone/twice.json", b"{}", "application/json")
        door.script = [Refusal(503), Refusal(404, "NoSuchKey")]
        storage.delete("gone/twice.json")
        assert [method for method, *_ in door.seen[-2:]] == ["DELETE", "DELETE"]

    def test_a_key_that_may_not_list_or_remove_says_which_right_is_missing(self, door):
        storage = s3(door.url)
        for use, words in (
            (lambda: storage.children("voices/"), "voices/ could not be listed: .*s3:ListBucket"),
            (
                lambda: storage.delete("voices/a.json"),
                "voices/a.json could not be removed: .*s3:DeleteObject below S3_VOICES_PREFIX",
            ),
        ):
            for refusal in (Refusal(403, "AccessDenied"), Refusal(403)):
                door.script = [refusal]
                with pytest.raises(StorageError, match=words) as caught:
                    use()
                assert SECRET_KEY not in caught.value.message
            door.script = [Refusal(403, "SignatureDoesNotMatch")]
            with pytest.raises(StorageError, match="check AWS_SECRET_ACCESS_KEY"):
                use()

    def test_who_is_cancelled_waits_for_no_list_and_no_removal(self, door):
        storage = s3(door.url)
        for use in (
            lambda given: storage.children("voices/", cancellation=given),
            lambda given: storage.delete("voices/a.json", cancellation=given),
        ):
            cancellation = Cancellation()
            door.chance = lambda given=cancellation: given.cancel() or 2.0
            with pytest.raises(JobCancelledError):
                use(cancellation)
            door.chance = lambda: None

    def test_a_missing_bucket_says_so(self, endpoint, clip, tmp_path):
        storage = s3(endpoint, s3_bucket_name="elsewhere")
        for use in (
            storage.check,
            lambda: storage.put(clip, "output/x.wav", "audio/wav"),
            lambda: storage.get("voices/x.wav", tmp_path / "into"),
            lambda: storage.children("voices/"),
            lambda: storage.delete("voices/x.wav"),
        ):
            with pytest.raises(StorageError, match="check S3_BUCKET_NAME"):
                use()

    @pytest.mark.parametrize(
        ("refusal", "advice"),
        [
            (Refusal(403, "InvalidAccessKeyId"), "the service does not know AWS_ACCESS_KEY_ID"),
            (Refusal(403, "SignatureDoesNotMatch"), "check AWS_SECRET_ACCESS_KEY"),
            (Refusal(403, "AccessDenied"), "s3:PutObject"),
            (Refusal(400, "ExpiredToken"), "expired"),
            (Refusal(400, "SomethingNew"), "answered SomethingNew"),
        ],
    )
    def test_refusals_say_what_to_do_and_hold_no_secret(self, door, refusal, advice, clip):
        storage = s3(door.url)
        for use in (storage.check, lambda: storage.put(clip, "output/x.wav", "audio/wav")):
            door.script = [refusal]
            with pytest.raises(StorageError, match=advice) as caught:
                use()
            assert SECRET_KEY not in str(caught.value)
            assert ACCESS_KEY not in str(caught.value)

    def test_a_closed_port_ends_soon_and_says_so(self):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
        storage = s3(f"http://127.0.0.1:{port}", S3Limits(connect_seconds=0.2, attempts=2))
        with pytest.raises(StorageError, match="cannot be reached"):
            storage.check()

    def test_a_silent_server_ends_by_the_read_timeout(self):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            port = silent.getsockname()[1]
            limits = S3Limits(connect_seconds=0.2, read_seconds=0.2, attempts=1)
            with pytest.raises(StorageError, match=r"cannot be reached \(ReadTimeoutError\)"):
                s3(f"http://127.0.0.1:{port}", limits).check()

    def test_without_credentials_boto3_looks_where_it_always_does(self, endpoint, monkeypatch):
        bare = {"aws_access_key_id": None, "aws_secret_access_key": None}
        with pytest.raises(StorageError, match="no credentials; set AWS_ACCESS_KEY_ID"):
            s3(endpoint, **bare).check()
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        s3(endpoint).check()

    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            ({"aws_secret_access_key": None}, "AWS_SECRET_ACCESS_KEY"),
            ({"aws_access_key_id": None}, "AWS_ACCESS_KEY_ID"),
            ({"aws_endpoint_url": "s3.example.com"}, "AWS_ENDPOINT_URL must begin with https"),
            ({"aws_endpoint_url": "https://"}, "check AWS_ENDPOINT_URL"),
        ],
    )
    def test_settings_that_cannot_be_meant_are_refused_at_once(self, changed, named):
        with pytest.raises(SetupError, match=named) as caught:
            s3("http://127.0.0.1:9", **changed)
        assert SECRET_KEY not in str(caught.value)

    def test_it_is_the_bucket_that_other_clients_see(self, bucket, endpoint):
        bucket.write_bytes("output/seen.json", b"{}", "application/json")
        client = s3_client(endpoint)
        assert client.get_object(Bucket=BUCKET, Key="output/seen.json")["Body"].read() == b"{}"


class TestLocal:
    def test_without_a_bucket_results_go_to_the_volume(self, tmp_path):
        storage = open_storage(Settings(runpod_volume=tmp_path))
        storage.write_bytes("output/x.json", b"{}", "application/json")
        assert (tmp_path / "SparkTTS-serverless/local/output/x.json").read_bytes() == b"{}"

    def test_or_to_the_folder_of_the_settings(self, tmp_path):
        storage = open_storage(Settings(local_storage_dir=tmp_path / "mine"))
        storage.write_bytes("output/x.json", b"{}", "application/json")
        assert (tmp_path / "mine/output/x.json").exists()
        assert storage.url("output/x.json", 60) == (tmp_path / "mine/output/x.json").as_uri()

    def test_only_the_files_that_were_put_are_there(self, tmp_path, clip):
        storage = LocalStorage(tmp_path / "store")
        storage.check()
        storage.put(clip, "output/x.wav", "audio/wav")
        found = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
        assert found == [tmp_path / "store/output/x.wav"]

    def test_a_folder_that_cannot_be_is_an_error_without_its_path(self, tmp_path, clip):
        (tmp_path / "file").touch()
        storage = LocalStorage(tmp_path / "file" / "store")
        for use in (storage.check, lambda: storage.put(clip, "output/x.wav", "audio/wav")):
            with pytest.raises(StorageError) as caught:
                use()
            assert str(tmp_path) not in caught.value.message

    def test_a_name_that_the_file_system_refuses_is_an_error(self, tmp_path):
        with pytest.raises(StorageError, match="name too long"):
            LocalStorage(tmp_path).write_bytes("a" * 300, b"", "audio/wav")
