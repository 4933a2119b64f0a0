"""The servers, each up for as long as tests ask for it. Those of Debian: `make test-s3`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.platform.s3.asking import IN_DEBIAN, IN_WHEELS
from tests.support.s3_servers import Key, S3Server, held_policy, reading_policy


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test runs on all servers, or on those that its mark `servers` names."""
    if "server" not in metafunc.fixturenames:
        return
    (mark,) = list(metafunc.definition.iter_markers("servers")) or [None]
    names = mark.args if mark else (*IN_WHEELS, *IN_DEBIAN)
    marks = {name: [pytest.mark.s3_debian] if name in IN_DEBIAN else [] for name in names}
    params = [pytest.param(name, marks=marks[name]) for name in names]
    metafunc.parametrize("server", params, indirect=True, scope="session")


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    """One of them, with an empty bucket."""
    start: Callable[[Path], AbstractContextManager[S3Server]]
    start = (IN_WHEELS | IN_DEBIAN)[request.param]
    # A short name: sockets of Unix lie in it.
    with TemporaryDirectory(prefix="s3-") as folder, start(Path(folder)) as running:
        yield running


def granted(server: S3Server, user: str, policy: dict[str, Any]) -> Key:
    assert server.grant is not None, "this server has no policies: name others"
    return server.grant(user, policy)


@pytest.fixture(scope="session")
def reader(server: S3Server) -> Key:
    """A key that may read and list, and not write."""
    return granted(server, "reader", reading_policy())


@pytest.fixture(scope="session")
def held(server: S3Server) -> Key:
    """A key that may do what the worker's may, below HELD_PREFIX alone.

    On SeaweedFS it lists nothing else either, as on Backblaze B2. To radosgw, as to AWS, a file is
    then forbidden that is missing, so that the key must list all.
    """
    return granted(server, "held", held_policy(listing=server.name == "seaweedfs"))


@pytest.fixture(scope="session")
def narrow(server: S3Server) -> Key:
    """The same where such a list is too little."""
    return granted(server, "narrow", held_policy(listing=True))
