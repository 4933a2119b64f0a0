"""S3 servers that nobody here wrote, each a process of its own on the loopback.

moto takes any signature; the others verify it. What an audit hook cannot watch, programs in Go and
C++, is told by its arguments to bind 127.0.0.1 alone and to report to nobody.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from random import SystemRandom
from typing import Any

import boto3
from botocore import exceptions as boto
from botocore.config import Config

from tests.support.documents import blocks
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, s3_server
from tests.support.waiting import until

BUCKET = "my-speech"  # as docs/DEPLOY.md has it
HELD_PREFIX = "mine/"  # what a key that is held to one prefix may use
REGION = "us-east-1"
UP_SECONDS = 60.0
PORTS = range(20_000, 32_768)
GRPC = ("", ".grpc")  # SeaweedFS's parts have two ports each


@dataclass(frozen=True)
class Key:
    """An access key and its secret."""

    access: str
    secret: str


OWNER = Key(ACCESS_KEY, SECRET_KEY)
Grant = Callable[[str, Mapping[str, Any]], Key]


@dataclass(frozen=True)
class S3Server:
    """A server that is up. The owner may do all; the worker what DEPLOY.md's policy allows it."""

    name: str
    url: str
    owner: Key = OWNER
    worker: Key = OWNER
    grant: Grant | None = None  # makes a user with a policy, where there are any
    processes: Sequence[subprocess.Popen[bytes]] = field(default=())

    def client(self, service: str = "s3", key: Key | None = None) -> Any:
        """A client of its owner's, or of that key; it gives up soon."""
        return _client(service, self.url, key or self.owner)

    def iam_grant(self, user: str, policy: Mapping[str, Any]) -> Key:
        """A new user with this policy, by the IAM calls that DEPLOY.md has."""
        iam = self.client("iam")
        iam.create_user(UserName=user)
        iam.put_user_policy(UserName=user, PolicyName="speech", PolicyDocument=json.dumps(policy))
        made = iam.create_access_key(UserName=user)["AccessKey"]
        return Key(made["AccessKeyId"], made["SecretAccessKey"])


@cache  # a client takes a while to make
def _client(service: Any, url: str, key: Key) -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=key.access,
        aws_secret_access_key=key.secret,
        config=Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 1}),
    )


def worker_policy() -> dict[str, Any]:
    """The policy of the worker's user, as docs/DEPLOY.md has it."""
    (policy,) = (
        json.loads(block.text)
        for block in blocks()
        if block.file.name == "DEPLOY.md" and '"Statement"' in block.text
    )
    return dict(policy)


def reading_policy() -> dict[str, Any]:
    """The same without the right to write."""
    policy = worker_policy()
    for statement in policy["Statement"]:
        statement["Action"] = [a for a in statement["Action"] if re.search("Get|List", a)]
    policy["Statement"] = [statement for statement in policy["Statement"] if statement["Action"]]
    return policy


def held_policy(*, listing: bool) -> dict[str, Any]:
    """The same for one prefix: `listing` says whether that is true of the list as well."""
    policy = worker_policy()
    files, look, remove = policy["Statement"]
    files["Resource"] = remove["Resource"] = [f"arn:aws:s3:::{BUCKET}/{HELD_PREFIX}*"]
    if listing:
        look["Condition"] = {"StringLike": {"s3:prefix": [f"{HELD_PREFIX}*"]}}
    return policy


def free_ports(number: int) -> list[int]:
    """So many ports that nothing listens on, all different.

    They are below those that the system gives to connections: servers bind theirs seconds later,
    and till then no connection of another test may take one.
    """
    found: list[int] = []
    for port in SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == number:
            return found
    raise AssertionError(f"there are no {number} free ports in {PORTS}")


@contextmanager
def process(
    command: Sequence[str | Path], folder: Path, name: str, **more: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run it until the block ends, at home in `folder`; what it prints is in NAME.out there."""
    kept = {n: v for n, v in os.environ.items() if n in {"PATH", "LANG", "LD_LIBRARY_PATH"}}
    with (folder / f"{name}.out").open("wb") as out:
        running = subprocess.Popen(
            [str(word) for word in command],
            env={**kept, "HOME": str(folder), "TMPDIR": str(folder), **more},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield running
        finally:
            with suppress(ProcessLookupError):  # its data go with it: nothing is to be saved
                os.killpg(running.pid, signal.SIGKILL)
            running.wait(10)


def wait_until(
    true: Callable[[], bool], processes: Sequence[subprocess.Popen[bytes]], folder: Path
) -> None:
    """Return when it holds; raise AssertionError, with what was printed, where it never will."""

    def printed() -> dict[str, str]:
        return {out.name: out.read_text(errors="replace") for out in folder.glob("*.out")}

    def up() -> bool:
        over = [running.args for running in processes if running.poll() is not None]
        assert not over, f"{over}: {printed()}"
        return true()

    until(up, UP_SECONDS, pause=0.05, said=printed)


def makes_bucket(server: S3Server) -> Callable[[], bool]:
    """Tells whether the server has made the bucket, which is when all its parts are up."""

    def made() -> bool:
        try:
            server.client().create_bucket(Bucket=BUCKET)
        except boto.ClientError as error:
            return error.response["Error"]["Code"].startswith("BucketAlready")
        except (boto.ConnectionError, boto.HTTPClientError):
            return False
        return True

    return made


def knows(server: S3Server, key: Key) -> Callable[[], bool]:
    """Tells whether the server has heard of a new key."""

    def known() -> bool:
        try:
            server.client(key=key).list_objects(Bucket=BUCKET, Prefix=HELD_PREFIX, MaxKeys=1)
        except boto.ClientError as error:
            return error.response["Error"]["Code"] == "AccessDenied"
        return True

    return known


def with_policies(server: S3Server, grant: Grant, folder: Path) -> S3Server:
    """The server with a worker that has no more than DEPLOY.md's policy."""

    def granted(user: str, policy: Mapping[str, Any]) -> Key:
        key = grant(user, policy)
        wait_until(knows(server, key), server.processes, folder)
        return key

    return replace(server, worker=granted("spark-tts", worker_policy()), grant=granted)


@contextmanager
def moto(folder: Path) -> Iterator[S3Server]:
    """Run moto in this process."""
    with s3_server(BUCKET) as url:
        yield S3Server("moto", url)


@contextmanager
def seaweedfs(folder: Path) -> Iterator[S3Server]:
    """Run SeaweedFS: master, volume, filer, its S3 gateway with IAM, in one process."""
    who = {
        "name": "owner",
        "credentials": [{"accessKey": OWNER.access, "secretKey": OWNER.secret}],
        "actions": ["Admin", "Read", "List", "Write"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [who]}))
    options = [f"{n}.port{kind}" for n in ("master", "volume", "filer", "s3") for kind in GRPC]
    ports = dict(zip(options, free_ports(len(options)), strict=True))
    bound = [f"-{option}={port}" for option, port in ports.items()]
    command = [
        *(Path(sys.executable).parent / "weed", "-logtostderr=true", "server", f"-dir={folder}"),
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", *bound),
        *("-filer", f"-filer.localSocket={folder}/filer.sock", "-master.volumeSizeLimitMB=64"),
        *("-s3", f"-s3.localSocket={folder}/s3.sock", f"-s3.config={folder}/s3.json"),
        *("-s3.iam.readOnly=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=20"),
    ]
    try:
        with process(command, folder, "weed") as running:
            url = f"http://127.0.0.1:{ports['s3.port']}"
            server = S3Server("seaweedfs", url, processes=[running])
            wait_until(makes_bucket(server), [running], folder)
            yield with_policies(server, server.iam_grant, folder)
    finally:
        for option, port in ports.items():  # it has a socket for each, there and nowhere else
            name = f"seaweedfs-{option.partition('.')[0]}-grpc-{port}.sock"
            (Path("/tmp") / name).unlink(missing_ok=True)


@contextmanager
def rclone(folder: Path) -> Iterator[S3Server]:
    """Run `rclone serve s3` on a folder; it knows keys, and no rights of theirs."""
    (port,) = free_ports(1)
    (folder / "files").mkdir()
    command = [
        *(Path(sys.executable).parent / "rclone", "serve", "s3", folder / "files"),
        *("--addr", f"127.0.0.1:{port}", "--auth-key", f"{OWNER.access},{OWNER.secret}"),
        *("--config", "", "--cache-dir", folder / "cache"),
    ]
    with process(command, folder, "rclone") as running:
        server = S3Server("rclone", f"http://127.0.0.1:{port}", processes=[running])
        wait_until(makes_bucket(server), [running], folder)
        yield server
