"""What the check at start must prove: that jobs can be stored and their clients can read."""

from __future__ import annotations

import pytest

from tests.platform.s3.asking import ask, storage
from tests.support.s3 import Door, Refusal
from tests.support.s3_servers import HELD_PREFIX, Key, S3Server
from worker.errors import StorageError

PREFIXES = {f"s3_{kind}_prefix": f"{HELD_PREFIX}{kind}/" for kind in ("output", "voices")}


@pytest.mark.servers("seaweedfs", "radosgw")
def test_a_key_that_may_only_read_is_found(server: S3Server, reader: Key) -> None:
    with pytest.raises(StorageError, match="s3:PutObject"):
        storage(server, reader).check()


@pytest.mark.servers("seaweedfs", "radosgw")
def test_a_key_that_is_held_to_a_prefix_starts(server: S3Server, held: Key) -> None:
    storage(server, held, **PREFIXES).check()


@pytest.mark.servers("radosgw")
def test_a_key_to_which_what_is_missing_is_forbidden_is_found(
    server: S3Server, narrow: Key
) -> None:
    bucket = storage(server, narrow, **PREFIXES)
    with pytest.raises(StorageError, match=r"denied|forbidden"):
        bucket.read_bytes(f"{HELD_PREFIX}voices/nobody.json")
    with pytest.raises(StorageError, match="s3:ListBucket"):
        bucket.check()


@pytest.mark.servers("seaweedfs", "radosgw")
def test_a_key_that_is_held_to_another_prefix_is_found(server: S3Server, held: Key) -> None:
    with pytest.raises(StorageError, match="denied"):
        storage(server, held).check()


@pytest.mark.servers("swift")
def test_a_wrong_region_is_found_where_urls_would_be_dead(server: S3Server) -> None:
    """Swift names its region to whom it refuses, which heals a client's call, and no URL."""
    elsewhere = storage(server, aws_region="eu-west-1")
    with pytest.raises(StorageError, match="AWS_REGION"):
        elsewhere.check()
    storage(server).write_bytes("output/x.wav", b"x", "audio/wav")
    assert ask(elsewhere.url("output/x.wav", 60)).status == 400


@pytest.mark.servers("rclone", "radosgw")
def test_a_service_without_the_second_list_starts(server: S3Server) -> None:
    with Door(server.url).running() as door:
        door.chance = lambda: (
            Refusal(501, "NotImplemented") if "list-type=2" in door.seen[-1][1] else None
        )
        bucket = storage(server, aws_endpoint_url=door.url)
        bucket.check()
        bucket.write_bytes("output/x.wav", b"x", "audio/wav")
        assert ask(bucket.url("output/x.wav", 60)).body == b"x"
