"""How the processes of `make test` share the tests: what has a fixture in common stays together."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

TOGETHER = (
    "tests/platform/s3/",
    "tests/e2e/http/",
)  # folders whose files share a session's fixtures


class Together(LoadScopeScheduling):
    """Gives a process the tests of a file, or of such a folder, and more when it has done them.

    xdist's own `loadgroup` writes the group into the ids of tests, which pytest 9.2 no longer lets.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((folder for folder in TOGETHER if file.startswith(folder)), file)
