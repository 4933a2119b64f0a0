"""Each call of the storage ends: by its attempts, by its deadline, or with the job."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.raw_server import raw_server
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
from worker.errors import JobCancelledError, StorageError
from worker.settings import Settings
from worker.storage.call import Call
from worker.storage.s3 import S3Storage
from worker.storage.s3_client import S3Limits

BUCKET = "speech"
PART = 5 << 20  # the least that S3 takes
PATIENT = S3Limits(connect_seconds=60, read_seconds=60, pause_seconds=0.01)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"

Use = Callable[[S3Storage, Path, Cancellation | None], object]
CALLS: dict[str, Use] = {
    "get": lambda s, d, c: s.get("k", d / "into", max_bytes=10**6, cancellation=c),
    "read_bytes": lambda s, _, c: s.read_bytes("k", cancellation=c),
    "exists": lambda s, _, c: s.exists("k", cancellation=c),
    "put": lambda s, d, c: s.put(d / "clip", "k", "audio/wav", cancellation=c),
    "put in parts": lambda s, d, c: s.put(d / "large", "k", "audio/wav", cancellation=c),
    "write_bytes": lambda s, _, c: s.write_bytes("k", b"{}", "text/plain", cancellation=c),
    "check": lambda s, _d, _c: s.check(),
}
OF_JOBS = [name for name in CALLS if name != "check"]


def storage(endpoint: str, limits: S3Limits) -> S3Storage:
    settings = Settings(
        s3_bucket_name=BUCKET,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        aws_region="us-east-1",
        aws_endpoint_url=endpoint,
    )
    return S3Storage.from_settings(settings, limits)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    read_services_once(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clip").write_bytes(b"x" * 100)
    (tmp_path / "large").write_bytes(bytes(2 * PART))
    return tmp_path


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server(BUCKET) as url:
        yield url


@pytest.fixture
def door(endpoint: str) -> Iterator[Door]:
    with Door(endpoint).running() as door:
        yield door


def silent(_connection: socket.socket, _number: int) -> None:
    """Accept and never answer."""


def drip(connection: socket.socket, _number: int) -> None:
    """Send a byte often enough that no timeout of a read is reached, and never an end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def drip_body(connection: socket.socket, _number: int) -> None:
    connection.sendall(HEAD)
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def ends(use: Callable[[], object], within: float) -> tuple[BaseException, float]:
    """The error of a call, and its seconds; one that goes on is a failure and not a hang."""
    raised: list[BaseException] = []

    def do() -> None:
        try:
            use()
        except BaseException as error:
            raised.append(error)

    begun = time.monotonic()
    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(within)
    assert not thread.is_alive(), f"goes on after {within} s"
    assert raised, "it came to an end and raised nothing"
    return raised[0], time.monotonic() - begun


@pytest.mark.parametrize(
    ("name", "behave"),
    [*((name, silent) for name in CALLS), *((name, drip) for name in ("get", "exists", "put"))],
)
def test_a_server_that_never_answers_is_left_at_the_deadline(
    name: str, behave: Callable[[socket.socket, int], None], folder: Path
) -> None:
    """Attempts enough for an hour, and one that drips so that no attempt's own timeout is met."""
    limits = S3Limits(
        read_seconds=0.3, attempts=9000, pause_seconds=0.01, call_seconds=0.7, bytes_per_second=1e8
    )
    with raw_server(behave) as server:
        error, _ = ends(lambda: CALLS[name](storage(server.url, limits), folder, None), 20)
    assert isinstance(error, StorageError)
    assert "k could" in error.message or name == "check"
    assert "check AWS_ENDPOINT_URL" in error.message
    assert 1 <= len(server.requests) <= 40


@pytest.mark.parametrize(("name", "seconds"), [("get", 0.6), ("read_bytes", 0.5)])
def test_a_body_that_drips_is_left_at_the_deadline_and_leaves_nothing(
    name: str, seconds: float, folder: Path
) -> None:
    """A file has a second more for each megabyte that it has: here for 0.1 MB."""
    limits = S3Limits(read_seconds=5, pause_seconds=0.01, call_seconds=0.5, bytes_per_second=1e6)
    with raw_server(drip_body) as server:
        error, _ = ends(lambda: CALLS[name](storage(server.url, limits), folder, None), 20)
    assert isinstance(error, StorageError)
    assert f"took longer than {seconds} s" in error.message
    assert not (folder / "into").exists()


@pytest.mark.parametrize("name", ["get", "read_bytes"])
def test_attempts_are_counted_over_answers_and_bodies_together(name: str, folder: Path) -> None:
    """One loop in the other makes 9 of 3 attempts, where the answers that come have no end."""

    def every_third(connection: socket.socket, number: int) -> None:
        if number % 3 == 2:
            connection.sendall(HEAD + b"abc")
        connection.shutdown(socket.SHUT_RDWR)

    limits = S3Limits(read_seconds=2, attempts=3, pause_seconds=0.01)
    with raw_server(every_third) as server:
        error, _ = ends(lambda: CALLS[name](storage(server.url, limits), folder, None), 30)
    assert isinstance(error, StorageError)
    assert len(server.requests) == 3


@pytest.mark.parametrize("name", OF_JOBS)
def test_a_cancelled_job_gets_its_thread_back(name: str, folder: Path) -> None:
    cancellation = Cancellation()
    with raw_server(lambda _connection, _number: cancellation.cancel()) as server:
        bucket = storage(server.url, PATIENT)
        error, seconds = ends(lambda: CALLS[name](bucket, folder, cancellation), 20)
        assert isinstance(error, JobCancelledError)
        assert seconds < 10
        assert len(server.requests) == 1
        error, _ = ends(lambda: CALLS[name](bucket, folder, cancellation), 20)
        assert isinstance(error, JobCancelledError)


@pytest.mark.parametrize("name", ["put", "put in parts", "get"])
def test_the_end_of_the_process_waits_for_no_thread_of_a_bucket_that_hangs(
    name: str, folder: Path
) -> None:
    cancellation = Cancellation()
    with raw_server(lambda _connection, _number: cancellation.cancel()) as server:
        bucket = storage(server.url, PATIENT)
        ends(lambda: CALLS[name](bucket, folder, cancellation), 20)
        left = [t for t in threading.enumerate() if t.name.startswith("storage")]
        assert left
        assert all(thread.daemon for thread in left)


@pytest.mark.parametrize("kind", ["whole", "one byte more", "cut"])
def test_a_body_without_a_length_is_read_and_bounded(folder: Path, kind: str) -> None:
    """A proxy may send what it gets in pieces."""
    size = {"one byte more": 1 + (1 << 20)}.get(kind, 1 << 20)

    def chunked(connection: socket.socket, _number: int) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"%x\r\n%s\r\n" % (size, b"x" * size))
        connection.sendall(b"" if kind == "cut" else b"0\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)

    limits = S3Limits(attempts=2, pause_seconds=0.01)
    with raw_server(chunked) as server:
        bucket = storage(server.url, limits)
        if kind == "whole":
            assert bucket.read_bytes("k") == b"x" * size
            assert bucket.get("k", folder / "into", max_bytes=size).stat().st_size == size
            return
        with pytest.raises(StorageError):
            bucket.read_bytes("k")
        with pytest.raises(StorageError):
            bucket.get("k", folder / "into", max_bytes=1 << 20)
    assert not (folder / "into").exists()


def test_what_was_left_ends_by_itself_and_asks_no_more(folder: Path) -> None:
    def storing() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "storage"]

    before = set(storing())
    limits = S3Limits(read_seconds=1, pause_seconds=0.01)
    cancellation = Cancellation()
    with raw_server(lambda _connection, _number: cancellation.cancel()) as server:
        bucket = storage(server.url, limits)
        ends(lambda: bucket.get("k", folder / "into", cancellation=cancellation), 20)
        for _ in range(200):
            if not set(storing()) - before:
                break
            time.sleep(0.05)
        assert not set(storing()) - before
        assert len(server.requests) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["clip", "large"]


def test_a_job_that_is_not_cancelled_is_none_the_wiser(door: Door, folder: Path) -> None:
    bucket = storage(door.url, S3Limits(part_bytes=PART))
    word = Cancellation()
    bucket.put(folder / "large", "output/large.wav", "audio/wav", cancellation=word)
    bucket.write_bytes("output/x.json", b"{}", "application/json", cancellation=word)
    assert bucket.exists("output/x.json", cancellation=word)
    assert bucket.read_bytes("output/x.json", cancellation=word) == b"{}"
    back = bucket.get("output/large.wav", folder / "back", cancellation=word)
    assert back.stat().st_size == 2 * PART


class TestParts:
    LIMITS = S3Limits(part_bytes=PART, attempts=3, pause_seconds=0.01)

    def uploads(self, endpoint: str) -> list[object]:
        return list(s3_client(endpoint).list_multipart_uploads(Bucket=BUCKET).get("Uploads", []))

    @pytest.mark.parametrize("size", [PART, PART + 1, 3 * PART - 1, 3 * PART, 3 * PART + 1])
    def test_every_size_comes_back_whole(self, door: Door, tmp_path: Path, size: int) -> None:
        file = tmp_path / "file"
        file.write_bytes(os.urandom(size))
        bucket = storage(door.url, self.LIMITS)
        bucket.put(file, "output/sized.wav", "audio/wav")
        sent = sum("partNumber=" in path for method, path, _ in door.seen if method == "PUT")
        assert sent == (0 if size <= PART else -(-size // PART))
        assert bucket.get("output/sized.wav", tmp_path / "back").read_bytes() == file.read_bytes()

    def test_a_part_that_is_refused_for_a_moment_is_sent_again(
        self, door: Door, folder: Path
    ) -> None:
        bucket = storage(door.url, self.LIMITS)
        door.script = [Refusal(503, "SlowDown"), 0.0, Refusal(500, "InternalError"), "reset"]
        bucket.put(folder / "large", "output/again.wav", "audio/wav")
        assert bucket.get("output/again.wav", folder / "back").stat().st_size == 2 * PART

    def test_one_that_cannot_be_sent_is_given_up_whole(
        self, door: Door, endpoint: str, folder: Path
    ) -> None:
        bucket = storage(door.url, self.LIMITS)
        door.script = [0.0, *[Refusal(403, "AccessDenied")] * 2]
        with pytest.raises(StorageError, match=r"output/no\.wav could not be stored: access"):
            bucket.put(folder / "large", "output/no.wav", "audio/wav")
        assert not bucket.exists("output/no.wav")
        assert self.uploads(endpoint) == []

    def test_a_lost_answer_to_the_last_request_counts_where_the_file_is_whole(
        self, door: Door, endpoint: str, folder: Path
    ) -> None:
        bucket = storage(door.url, self.LIMITS)
        door.script = [0.0, 0.0, 0.0, "cut", Refusal(404, "NoSuchUpload")]
        bucket.put(folder / "large", "output/lost.wav", "audio/wav")
        methods = [method for method, _, _ in door.seen]
        assert methods == ["POST", "PUT", "PUT", "POST", "POST", "HEAD"]
        assert self.uploads(endpoint) == []

    def test_and_not_where_something_else_is_there(
        self, door: Door, endpoint: str, folder: Path
    ) -> None:
        bucket = storage(door.url, self.LIMITS)
        bucket.write_bytes("output/other.wav", b"older", "audio/wav")
        door.script = [0.0, 0.0, 0.0, Refusal(404, "NoSuchUpload")]
        with pytest.raises(StorageError, match="answered NoSuchUpload"):
            bucket.put(folder / "large", "output/other.wav", "audio/wav")
        assert bucket.read_bytes("output/other.wav") == b"older"
        assert self.uploads(endpoint) == []


class TestCall:
    def test_what_there_is_to_carry_puts_the_deadline_off(self) -> None:
        call = Call("k could not be read", 0.0)
        with pytest.raises(StorageError, match="took longer than 0 s"):
            call.check()
        call.allow(60)
        call.check()
        assert 50 < call.left <= 60

    def test_a_pause_that_would_outlast_it_is_not_begun(self) -> None:
        call = Call("k could not be read", 5.0)
        assert not call.pause(5.0)
        assert call.pause(0.001)

    def test_errors_and_results_come_through(self) -> None:
        assert Call("k", 5.0).run(lambda: 7) == 7
        with pytest.raises(TimeoutError, match="mine"):
            Call("k", 5.0).run(_raise)

    def test_the_deadline_may_be_put_off_while_it_runs(self) -> None:
        call = Call("k", 0.3)

        def work() -> int:
            call.allow(30)
            time.sleep(0.6)
            return 7

        assert call.run(work) == 7


def _raise() -> None:
    raise TimeoutError("mine")


def test_sizes_decide_how_long_a_file_may_take(door: Door, folder: Path) -> None:
    """Each request waits; a small thing has no time for that and a larger file has it."""
    limits = S3Limits(part_bytes=3 * PART, call_seconds=0.5, bytes_per_second=1 << 20)
    bucket = storage(door.url, limits)
    door.script = [1.5]
    bucket.put(folder / "large", "output/slow.wav", "audio/wav")
    door.script = [1.5]
    with pytest.raises(StorageError, match=r"took longer than 0\.5 s"):
        bucket.put(folder / "clip", "output/slow.wav", "audio/wav")
