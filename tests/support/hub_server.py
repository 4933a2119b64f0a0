"""As much of a Hugging Face hub as its client asks for: revisions, redirects, ETags, ranges."""

from __future__ import annotations

import hashlib
import json
from urllib.parse import unquote

from tests.support.faulty_http import Answer, FaultyServer, sha256

LARGE = 10_000
REVISION = "0123456789abcdef0123456789abcdef01234567"


def git_blob(data: bytes) -> str:
    """The name that git gives to content, which the hub uses as the ETag of small files."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def pointer(data: bytes) -> dict[str, object]:
    """What the hub tells of a large file's content."""
    return {"sha256": sha256(data), "size": len(data), "pointerSize": 134}


def hub_of(repositories: dict[str, dict[str, bytes]]) -> FaultyServer:
    """Serve repositories (name -> path -> content) at REVISION; large files are redirected.

    What is on the branch main is told, and its files are not: who wants them names the commit.
    """
    answers: dict[str, Answer] = {}
    for repository, files in repositories.items():
        siblings = [
            {"rfilename": path, "size": len(data)}
            | ({"lfs": pointer(data)} if len(data) >= LARGE else {})
            for path, data in files.items()
        ]
        info = {"id": repository, "modelId": repository, "sha": REVISION, "siblings": siblings}
        told = json.dumps(info | {"private": False, "tags": ["license:mit"], "downloads": 0})
        for revision in (REVISION, "main"):
            answers[f"/api/models/{repository}/revision/{revision}"] = Answer(
                told.encode(), "application/json"
            )
        for path, data in files.items():
            place = f"/{repository}/resolve/{REVISION}/{path}"
            commit = {"X-Repo-Commit": REVISION}
            if len(data) < LARGE:
                answers[place] = Answer(data, extra=commit | {"ETag": f'"{git_blob(data)}"'})
                continue
            name = sha256(data)
            linked = {"X-Linked-Etag": f'"{name}"', "X-Linked-Size": str(len(data))}
            answers[place] = Answer(redirect=f"/cdn/{name}", extra=commit | linked)
            answers[f"/cdn/{name}"] = Answer(data, extra={"ETag": f'"{name}"'})
    return FaultyServer(lambda path: answers.get(unquote(path)))


def hub_pins(repository: str, files: dict[str, bytes], unknown: tuple[str, ...] = ()) -> dict:
    """The lock of such a repository; the files in `unknown` without size and sha256."""
    return {
        "source": "hub",
        "repository": repository,
        "revision": REVISION,
        "licence": "Apache-2.0",
        "files": [
            {"path": path, "size": None, "sha256": None}
            if path in unknown
            else {"path": path, "size": len(data), "sha256": sha256(data)}
            for path, data in files.items()
        ],
    }
