"""All that the worker does to its bucket, on servers that nobody here wrote."""

from __future__ import annotations

import os
import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from botocore import exceptions as boto

from tests.platform.s3.asking import PART, ask, storage
from tests.support.s3 import Door, Refusal
from tests.support.s3_servers import BUCKET, S3Server
from worker.errors import NotFoundError, StorageError
from worker.storage.base import READ_BYTES_MAX

LISTENS, CONNECTED = "0A", "01"  # states of a socket in /proc/net/tcp
KEYS = [
    "output/speech_1.0000.wav",
    "voices/sister/one two+three.wav",
    "voices/Größe '(1)' & ~50% #?=;@,.wav",
    "voices/你好.json",
]


def test_a_bucket_that_can_be_used_is_found_usable(server: S3Server) -> None:
    storage(server).check()


@pytest.mark.parametrize("key", KEYS)
def test_what_is_stored_is_had_again_by_every_way(
    server: S3Server, key: str, tmp_path: Path
) -> None:
    bucket, content = storage(server), os.urandom(100_000)
    (tmp_path / "sent").write_bytes(content)
    bucket.put(tmp_path / "sent", key, "audio/wav")
    assert bucket.exists(key)
    assert bucket.get(key, tmp_path / "got").read_bytes() == content
    assert bucket.read_bytes(key) == content
    answer = ask(bucket.url(key, 60))
    assert (answer.status, answer.content_type) == (200, "audio/wav")
    assert answer.body == content


def test_what_is_stored_twice_is_what_came_last(server: S3Server) -> None:
    bucket = storage(server)
    for content in (b"first of all", b"", b"last"):
        bucket.write_bytes("output/twice.json", content, "application/json")
        assert bucket.read_bytes("output/twice.json") == content
        assert ask(bucket.url("output/twice.json", 60)).body == content


def test_what_is_not_there_is_missing_and_leaves_nothing(server: S3Server, tmp_path: Path) -> None:
    bucket, key = storage(server), "voices/nobody.json"
    assert not bucket.exists(key)
    with pytest.raises(NotFoundError, match=key):
        bucket.read_bytes(key)
    with pytest.raises(NotFoundError, match=key):
        bucket.get(key, tmp_path / "into")
    assert list(tmp_path.iterdir()) == []
    assert ask(bucket.url(key, 60)).status in {403, 404}


def test_a_file_above_the_parts_size_is_sent_in_parts(server: S3Server, tmp_path: Path) -> None:
    bucket, content = storage(server), os.urandom(2 * PART + 12_345)
    (tmp_path / "sent").write_bytes(content)
    bucket.put(tmp_path / "sent", "output/large.wav", "audio/wav")
    stored = server.client(key=server.worker).head_object(Bucket=BUCKET, Key="output/large.wav")
    assert stored["ContentType"] == "audio/wav"
    # AWS's mark of three parts; rclone alone gives the MD5 of the whole.
    assert server.name == "rclone" or stored["ETag"].endswith('-3"')
    assert bucket.get("output/large.wav", tmp_path / "got").read_bytes() == content
    assert ask(bucket.url("output/large.wav", 60)).body == content


def test_of_parts_that_were_sent_in_vain_nothing_is_left(server: S3Server, tmp_path: Path) -> None:
    (tmp_path / "sent").write_bytes(bytes(PART + 1))
    with Door(server.url).running() as door:
        completes = re.compile(r"[?&]uploadId=")
        door.chance = lambda: (
            Refusal(403, "AccessDenied")
            if door.seen[-1][0] == "POST" and completes.search(door.seen[-1][1])
            else None
        )
        with pytest.raises(StorageError, match="denied"):
            storage(server, aws_endpoint_url=door.url).put(
                tmp_path / "sent", "output/half.wav", "audio/wav"
            )
        assert [method for method, *_ in door.seen][-1] == "DELETE"
    assert not storage(server).exists("output/half.wav")
    assert server.client().list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []


def test_more_than_was_allowed_is_refused(server: S3Server, tmp_path: Path) -> None:
    bucket, key = storage(server), "voices/long.wav"
    bucket.write_bytes(key, bytes(READ_BYTES_MAX + 1), "audio/wav")
    with pytest.raises(StorageError, match=f"larger than {READ_BYTES_MAX}"):
        bucket.read_bytes(key)
    with pytest.raises(StorageError, match=f"at most {READ_BYTES_MAX}"):
        bucket.get(key, tmp_path / "into", max_bytes=READ_BYTES_MAX)
    assert list(tmp_path.iterdir()) == []
    whole = bucket.get(key, tmp_path / "into", max_bytes=READ_BYTES_MAX + 1)
    assert whole.stat().st_size == READ_BYTES_MAX + 1


def test_a_player_may_ask_for_a_part(server: S3Server) -> None:
    bucket, content = storage(server), os.urandom(50_000)
    bucket.write_bytes("output/part.wav", content, "audio/wav")
    url = bucket.url("output/part.wav", 60)
    request = urllib.request.Request(url, headers={"Range": "bytes=20000-29999"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.read() == content[20_000:30_000]
        assert answer.headers["Content-Range"] == "bytes 20000-29999/50000"
        # rclone says 200 to what is a part all the same.
        assert answer.status == (200 if server.name == "rclone" else 206)
    assert ask(url, Range="bytes=49990-").body == content[-10:]


def test_of_more_keys_than_a_page_has_all_are_listed_and_none_of_those_below(
    server: S3Server,
) -> None:
    names = [f"many/v{number:04}.json" for number in range(1_001)]
    client, bucket = server.client(), storage(server)
    put = partial(client.put_object, Bucket=BUCKET, Body=b"{}")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: put(Key=f"voices/{key}"), [*names, "many/below/x.json"]))
    found = bucket.children("voices/many/")
    assert [file.key for file in found] == [f"voices/{name}" for name in names]
    assert {file.size for file in found} == {2}
    assert bucket.children("voices/nothing/") == ()


def test_a_voice_that_is_removed_is_gone_and_may_be_so_already(server: S3Server) -> None:
    bucket = storage(server)
    for key in ("voices/gone/Größe 你好.json", "voices/gone/stays.json"):
        bucket.write_bytes(key, b"{}", "application/json")
    for _ in range(2):
        bucket.delete("voices/gone/Größe 你好.json")
        assert [file.key for file in bucket.children("voices/gone/")] == ["voices/gone/stays.json"]


@pytest.mark.servers("seaweedfs", "radosgw")
class TestDeploysPolicy:
    """The whole contract above runs with the policy of docs/DEPLOY.md; it allows no more."""

    @pytest.mark.parametrize("key", ["speech.wav", "outputs/speech.wav", "elsewhere/output/x.wav"])
    def test_nothing_is_written_beside_the_prefixes(self, server: S3Server, key: str) -> None:
        with pytest.raises(StorageError, match="denied"):
            storage(server).write_bytes(key, b"x", "audio/wav")

    def test_no_result_is_deleted(self, server: S3Server) -> None:
        storage(server).write_bytes("output/stays.wav", b"x", "audio/wav")
        with pytest.raises(StorageError, match="the key needs s3:DeleteObject below S3_VOICES"):
            storage(server).delete("output/stays.wav")
        with pytest.raises(boto.ClientError, match="AccessDenied"):
            server.client(key=server.worker).delete_object(Bucket=BUCKET, Key="output/stays.wav")
        assert storage(server).read_bytes("output/stays.wav") == b"x"

    def test_no_other_bucket_is_seen(self, server: S3Server) -> None:
        server.client().create_bucket(Bucket="of-somebody-else")
        server.client().put_object(Bucket="of-somebody-else", Key="output/x.wav", Body=b"x")
        other = storage(server, s3_bucket_name="of-somebody-else")
        for use in (other.check, lambda: other.read_bytes("output/x.wav")):
            with pytest.raises(StorageError, match="denied"):
                use()
        assert ask(other.url("output/x.wav", 60)).status == 403


@pytest.mark.servers("seaweedfs", "rclone", "radosgw", "swift")
def test_the_servers_are_on_the_loopback_alone(server: S3Server) -> None:
    """What no audit hook sees: all that their processes listen on and are connected to."""
    storage(server).check()
    inodes = {
        found[1]
        for running in server.processes
        for fd in Path(f"/proc/{running.pid}/fd").iterdir()
        if (found := re.fullmatch(r"socket:\[(\d+)\]", str(fd.readlink())))
    }
    ours = [
        row
        for table in ("tcp", "tcp6", "udp", "udp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if (row := line.split())[9] in inodes
    ]
    listening, connected = (
        {row[column].partition(":")[0] for row in ours if row[3] == state}
        for column, state in ((1, LISTENS), (2, CONNECTED))
    )
    assert listening == {"0100007F"}  # 127.0.0.1
    assert connected <= {"0100007F", "0000000000000000FFFF00000100007F"}  # and as IPv6 has it
