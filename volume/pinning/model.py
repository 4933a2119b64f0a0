"""A model of a hub -> its entry in volume/pins/models.json: a revision, files by sha256."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import urllib.parse
import urllib.request
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from volume.errors import DownloadError, PinError
from volume.layout import MODEL_PINS
from volume.manifest import FileEntry

HUB = "https://huggingface.co"
TIMEOUT = 60  # seconds, of one answer


def pin_model(name: str, revision: str, pins_file: Path = MODEL_PINS) -> None:
    """Pin the model's files at another revision: a branch, a tag or a commit.

    The files are those that are pinned already; the repository's others are left alone. The hub
    tells size and sha256 of a large file; a small one is fetched. Raises PinError when the model
    is none of a hub's or a file is gone, DownloadError when the hub does not answer.
    """
    pins = json.loads(pins_file.read_text())
    entry = pins["models"].get(name)
    if entry is None or entry["source"] != "hub":
        raise PinError(f"{name!r} is no model of a hub in {pins_file.name}")
    endpoint = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    repository = entry["repository"]
    quoted = urllib.parse.quote(revision, safe="")
    told = json.loads(_get(f"{endpoint}/api/models/{repository}/revision/{quoted}?blobs=true"))
    there = {file["rfilename"]: file for file in told["siblings"]}
    wanted = [file["path"] for file in entry["files"]]
    if gone := [path for path in wanted if path not in there]:
        raise PinError(f"{repository} at {revision} has no {', '.join(gone)}")
    source = f"{endpoint}/{repository}/resolve/{told['sha']}"
    entry["revision"] = told["sha"]
    entry["files"] = [asdict(_pinned(path, there[path], source)) for path in wanted]
    entry.pop("unsized", None)
    pins_file.write_text(json.dumps(pins, indent=1) + "\n")


def _pinned(path: str, told: dict[str, Any], source: str) -> FileEntry:
    """Size and sha256 of a file: the hub's word for a large one, its content for a small one."""
    if large := told.get("lfs"):
        return FileEntry(path, int(large["size"]), str(large["sha256"]))
    content = _get(f"{source}/{urllib.parse.quote(path)}")
    return FileEntry(path, len(content), hashlib.sha256(content).hexdigest())


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


def _get(url: str) -> bytes:
    token = os.environ.get("HF_TOKEN")
    request = urllib.request.Request(  # noqa: S310 - the operator's own hub
        url, headers={"Authorization": f"Bearer {token}"} if token else {}
    )
    opener = urllib.request.build_opener(TokenStaysHome)
    try:
        with opener.open(request, timeout=TIMEOUT) as answer:
            content: bytes = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"the hub did not answer {url}: {error}") from None
    return content
