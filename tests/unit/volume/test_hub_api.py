"""What a hub is asked before a download, and what is said where it refuses or is none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.support.faulty_http import Answer, FaultyServer, Refusal, sha256
from tests.support.hub_server import LARGE, REVISION, hub_of
from volume import hub_api
from volume.errors import DownloadError
from volume.hub_api import Patience, RefusedError, ask, entry_of, first_bytes
from volume.manifest import FileEntry

REPOSITORY = "me/voice"
FILES = {"config.json": b"{}", "a b/ü%.bin": bytes(range(256)) * (LARGE // 100)}
PATIENCE = Patience(attempts=3, pause=1.0)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(hub_api, "time", SimpleNamespace(sleep=found.append))
    return found


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> Iterator[FaultyServer]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with hub_of({REPOSITORY: FILES}).running() as server:
        monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/")
        yield server


def test_a_commits_files_are_listed_with_what_is_known_of_them(hub: FaultyServer) -> None:
    told = ask(REPOSITORY, "main", PATIENCE)
    assert (told.commit, told.licence) == (REVISION, "mit")
    assert told.files == {
        path: FileEntry(path, len(data), sha256(data) if len(data) >= LARGE else None)
        for path, data in FILES.items()
    }


@pytest.mark.parametrize("count", [1, 8, 100, 10**6])
@pytest.mark.parametrize("path", sorted(FILES))
def test_the_begin_of_a_file_is_had_alone(hub: FaultyServer, path: str, count: int) -> None:
    assert first_bytes(REPOSITORY, REVISION, path, count, PATIENCE) == FILES[path][:count]
    assert sum(hub.sent.values()) == min(count, len(FILES[path]))


def test_a_server_that_knows_no_ranges_gives_no_more_than_was_asked(hub: FaultyServer) -> None:
    hub.ranges = False
    path = "a b/ü%.bin"
    assert first_bytes(REPOSITORY, REVISION, path, 5, PATIENCE) == FILES[path][:5]


@pytest.mark.parametrize(
    ("status", "code", "token", "words"),
    [
        (401, "RepoNotFound", None, "or it is private: then set HF_TOKEN to a token that may read"),
        (401, "", "t", "HF_TOKEN may not read it, or there is no such repository"),
        (401, "GatedRepo", None, "Ask for access on the repository's page"),
        (403, "GatedRepo", "t", "Ask for access on the repository's page"),
        (403, "", "t", "Ask for access on the repository's page"),
        (404, "RevisionNotFound", "t", "has no such revision"),
        (404, "EntryNotFound", "t", "there is no such file"),
        (404, "RepoNotFound", None, "no such repository or revision, or it is private: then set"),
        (404, "", "t", "no such repository or revision, or HF_TOKEN may not read it"),
        (400, "", None, "HTTP Error 400"),
    ],
)
def test_a_refusal_is_told_in_words_and_not_asked_again(
    hub: FaultyServer,
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    code: str,
    token: str | None,
    words: str,
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    asked = []

    def refuse(path: str, headers: Mapping[str, str]) -> Refusal:
        asked.append(path)
        return Refusal(status, {"X-Error-Code": code} if code else {})

    hub.refusal = refuse
    with pytest.raises(RefusedError, match=words):
        ask(REPOSITORY, "main", PATIENCE)
    assert len(asked) == (2 if (status, token) == (401, "t") else 1)  # without the token, too
    assert pauses == []


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_busy_hub_is_asked_again_and_told_when_it_stays_so(
    hub: FaultyServer, pauses: list[float], status: int
) -> None:
    refused = iter([Refusal(status), Refusal(status)])
    hub.refusal = lambda path, headers: next(refused, None)
    assert ask(REPOSITORY, "main", PATIENCE).commit == REVISION
    assert pauses == [1.0, 2.0]
    hub.refusal = lambda path, headers: Refusal(status)
    with pytest.raises(DownloadError, match=f"did not answer in 3 attempts: {status}") as told:
        ask(REPOSITORY, "main", PATIENCE)
    assert ("fewer requests" in str(told.value)) == (status == 429)


@pytest.mark.parametrize(("after", "pause"), [("7", 7.0), ("99999", 60.0), ("soon", 1.0)])
def test_a_hub_that_says_how_long_is_believed_within_a_minute(
    hub: FaultyServer, pauses: list[float], after: str, pause: float
) -> None:
    refused = iter([Refusal(429, {"Retry-After": after})])
    hub.refusal = lambda path, headers: next(refused, None)
    ask(REPOSITORY, "main", PATIENCE)
    assert pauses == [pause]


def test_where_nobody_answers_the_reason_is_told(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(DownloadError, match=r"in 3 attempts: .*refused"):
        ask(REPOSITORY, "main", PATIENCE)


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>", b"[]", b"{}", b"null", b"\xff", b"[" * 100_000,
        json.dumps({"sha": "main", "siblings": []}).encode(),
        json.dumps({"sha": REVISION, "siblings": {"a": 1}}).encode(),
        json.dumps({"sha": REVISION, "siblings": [{"rfilename": "a", "size": "big"}]}).encode(),
        json.dumps({"sha": REVISION, "siblings": [{"rfilename": "a", "size": -1}]}).encode(),
        json.dumps(
            {"sha": REVISION, "siblings": [{"rfilename": "a", "lfs": {"sha256": "../x"}}]}
        ).encode(),
    ],
)  # fmt: skip
def test_an_answer_that_is_no_hubs_is_told(hub: FaultyServer, answer: bytes) -> None:
    hub.find = lambda path: Answer(answer)
    with pytest.raises(DownloadError, match="is HF_ENDPOINT a Hugging Face hub"):
        ask(REPOSITORY, "main", PATIENCE)


def test_a_file_of_unknown_size_is_one() -> None:
    assert entry_of({"rfilename": "a"}) == FileEntry("a", None, None)


@pytest.mark.parametrize(
    ("told", "licence"),
    [
        ({"cardData": {"license": "mit"}, "tags": ["license:other"]}, "mit"),
        ({"tags": ["tts", "license:cc-by-4.0"]}, "cc-by-4.0"),
        ({"cardData": {"license": ["a", "b"]}, "tags": [7]}, None),
        ({"cardData": None, "tags": None}, None),
    ],
)
def test_the_licence_is_the_cards_or_a_tags(
    hub: FaultyServer, told: dict, licence: str | None
) -> None:
    body = json.dumps({"sha": REVISION, "siblings": []} | told).encode()
    hub.find = lambda path: replace(Answer(), body=body)
    assert ask(REPOSITORY, "main", PATIENCE).licence == licence
