"""Asks a Hugging Face hub what a repository holds, and for the begin of a file; no client needed.

Files are downloaded by the hub's own client (volume/hub.py). Here is what must be known before: the
files of a revision with their sizes and hashes (GET /api/models/ORG/NAME/revision/REVISION, which
https://huggingface.co/docs/hub/api names), and the first bytes of a large file, by a range.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from volume import variables
from volume.errors import DownloadError
from volume.manifest import FileEntry

TIMEOUT = 60  # seconds, of one answer
ANSWER_MAX = 64 << 20  # bytes of a list of files
WAIT_MAX = 60.0  # seconds that a hub may have us wait before the next try
_SHA256 = re.compile(r"[0-9a-f]{64}").fullmatch
_COMMIT = re.compile(r"[0-9a-f]{40}").fullmatch


class RefusedError(DownloadError):
    """The hub has answered that it will not give this: another try would be told the same."""


@dataclass(frozen=True)
class Repository:
    """What a hub tells of a repository at one commit; sha256 is known of large files alone."""

    commit: str
    files: dict[str, FileEntry]
    licence: str | None


@dataclass(frozen=True)
class Patience:
    """How often a question is asked in all; `pause` seconds lie before the second, then twice."""

    attempts: int = 5
    pause: float = 1.0


def endpoint() -> str:
    """Return the hub's address, without a slash at its end."""
    return variables.endpoint(os.environ)


def info_url(repository: str, revision: str) -> str:
    """Return where the hub tells of a revision: a branch, a tag or a commit."""
    quoted = urllib.parse.quote(revision, safe="")
    return f"{endpoint()}/api/models/{repository}/revision/{quoted}?blobs=true"


def file_url(repository: str, commit: str, path: str) -> str:
    """Return where a file of a commit is."""
    return f"{endpoint()}/{repository}/resolve/{commit}/{urllib.parse.quote(path)}"


def ask(repository: str, revision: str, patience: Patience) -> Repository:
    """Return what a repository holds at a branch, a tag or a commit; raises DownloadError."""
    content = _ask(
        info_url(repository, revision), f"{repository} at {revision}", patience, ANSWER_MAX
    )
    try:
        return _repository(json.loads(content))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise DownloadError(
            f"what {endpoint()} says of {repository} cannot be understood ({error!r}): is "
            "HF_ENDPOINT a Hugging Face hub?"
        ) from None


def _repository(told: dict[str, Any]) -> Repository:
    if not _COMMIT(told["sha"]):
        raise ValueError(f"a commit of {told['sha']!r}")
    files = {file["rfilename"]: entry_of(file) for file in told["siblings"]}
    return Repository(told["sha"], files, _licence(told))


def entry_of(told: dict[str, Any]) -> FileEntry:
    """Return a file's size and, of a large one, its sha256, as the hub's list tells them."""
    large = told.get("lfs") or {}
    size, sha256 = large.get("size", told.get("size")), large.get("sha256")
    if not (size is None or (type(size) is int and size >= 0)):
        raise ValueError(f"a size of {size!r}")
    if not (sha256 is None or _SHA256(sha256)):
        raise ValueError(f"a sha256 of {sha256!r}")
    return FileEntry(str(told["rfilename"]), size, sha256)


def first_bytes(repository: str, commit: str, path: str, count: int, patience: Patience) -> bytes:
    """Return the first `count` bytes of a file, or all of it where it has fewer."""
    url, what = file_url(repository, commit, path), f"{path} of {repository} at {commit}"
    return _ask(url, what, patience, count, {"Range": f"bytes=0-{count - 1}"})


class TokenStaysHome(urllib.request.HTTPRedirectHandler):
    """Follows redirects, with the token only to the same host, and never in the clear after TLS."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the next request, without the token where it leads elsewhere."""
        after = super().redirect_request(req, fp, code, msg, headers, newurl)
        # Behind a proxy the request's own host is the proxy, so the addresses are compared.
        old, new = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        same = old.netloc.lower() == new.netloc.lower() and new.scheme in {old.scheme, "https"}
        if after is not None and not same:
            after.remove_header("Authorization")
        return after


def get(url: str, limit: int | None = None, headers: dict[str, str] | None = None) -> bytes:
    """Return what is at an address of the hub, of more than `limit` bytes the first ones."""
    try:
        return _get(url, limit, headers)
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"the hub did not answer {url}: {error}") from None


def _get(url: str, limit: int | None, headers: dict[str, str] | None) -> bytes:
    """Ask with the operator's token; without it, where the hub does not know the token.

    A hub refuses an unknown token, such as one that has expired, even for what everybody may read.
    """
    token = os.environ.get("HF_TOKEN")
    try:
        return _asked_as(token, url, limit, headers)
    except urllib.error.HTTPError as error:
        if not token or error.code != 401:
            raise
        with suppress(urllib.error.HTTPError):
            return _asked_as(None, url, limit, headers)
        raise


def _asked_as(
    token: str | None, url: str, limit: int | None, headers: dict[str, str] | None
) -> bytes:
    request = urllib.request.Request(  # noqa: S310 - the operator's own hub
        url, headers={"Authorization": f"Bearer {token}"} if token else {}
    )
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    opener = urllib.request.build_opener(TokenStaysHome)
    with opener.open(request, timeout=TIMEOUT) as answer:
        content: bytes = answer.read() if limit is None else answer.read(limit)
    return content


def _ask(
    url: str, what: str, patience: Patience, limit: int, headers: dict[str, str] | None = None
) -> bytes:
    """Ask, and again where the hub is too busy or cannot be reached; in words where it refuses."""
    reason = "nothing was tried"
    for attempt in range(patience.attempts):
        wait = patience.pause * 2**attempt
        try:
            return _get(url, limit, headers)
        except urllib.error.HTTPError as error:
            if refusal := why_refused(error, what):
                raise RefusedError(refusal) from None
            reason = f"{error.code} {error.reason}"
            wait = max(wait, _seconds(error.headers.get("Retry-After")))
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or repr(error)
        if attempt + 1 < patience.attempts:
            time.sleep(min(wait, WAIT_MAX))
    busy = "; it asks for fewer requests: try later, or set HF_TOKEN" if "429" in reason else ""
    raise DownloadError(
        f"{what}: {endpoint()} did not answer in {patience.attempts} attempts: {reason}{busy}"
    )


def _seconds(text: str | None) -> float:
    return float(text) if text and text.isdecimal() else 0.0


def why_refused(error: urllib.error.HTTPError, what: str) -> str | None:
    """Say why a hub does not give something; None where it may do so at the next try.

    To those who may not see it, a private repository looks as one that is not there.
    """
    token = bool(os.environ.get("HF_TOKEN"))
    kind = error.headers.get("X-Error-Code") or ""
    if kind == "GatedRepo" or (error.code == 403 and not kind):
        return (
            f"{what}: its owner gives it to whom they know. Ask for access on the repository's "
            "page, and set HF_TOKEN to a token of the account that has it"
        )
    if kind == "RevisionNotFound":
        return f"{what}: the repository has no such revision"
    if kind == "EntryNotFound":
        return f"{what}: there is no such file"
    if error.code in {401, 403}:
        seen = (
            "HF_TOKEN may not read it, or there is no such repository"
            if token
            else "there is no such repository, or it is private: then set HF_TOKEN to a token that "
            "may read it"
        )
        return f"{what}: {seen}"
    if error.code == 404:
        hidden = "HF_TOKEN may not read it" if token else "it is private: then set HF_TOKEN"
        return f"{what}: there is no such repository or revision, or {hidden}"
    return None if error.code in {408, 429} or error.code >= 500 else f"{what}: {error}"


def _licence(told: dict[str, Any]) -> str | None:
    licence = (told.get("cardData") or {}).get("license")
    tags = [tag for tag in told.get("tags") or [] if isinstance(tag, str)]
    named = [tag.removeprefix("license:") for tag in tags if tag.startswith("license:")]
    return licence if isinstance(licence, str) else next(iter(named), None)
