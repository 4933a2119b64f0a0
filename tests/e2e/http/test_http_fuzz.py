"""Requests made up from the server's own OpenAPI, by schemathesis.

None is answered with 5xx, and each answer has a status, a content type and a form that the document
declares. A third of the requests are not what the document allows, a third are, and a third have
something that can be spoken, heard or found besides, so that they come far. 500 in `make test`,
2,000 and more by `make fuzz-http`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, BaseSchema, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.conftest import DEMO_VOICE
from tests.support.http_worker import HttpWorker, http_serving
from tests.support.worker_process import NO_ALIGNER, environment

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# Requests of each operation in `make test`; those that may speak take their time.
CASES = {
    "POST /v1/audio/speech": 130,
    "POST /v1/speech": 130,
    "POST /v1/audio/speech/batch": 70,
    "POST /v1/audio/voices": 80,
    "GET /v1/audio/voices": 2,
    "GET /v1/audio/voices/{name}": 50,
    "DELETE /v1/audio/voices/{name}": 50,
    "GET /v1/models": 5,
    "GET /v1/models/{id}": 50,
    "GET /health": 5,
    "GET /metrics": 5,
    "GET /ping": 5,
}
FULL_TIMES = 4
LEAST, LEAST_IN_FULL = 500, 2_000
# Of these so many at least succeed in `make test`, or the requests do not come far.
SUCCESSES = {
    "POST /v1/audio/speech": 10,
    "POST /v1/speech": 10,
    "POST /v1/audio/speech/batch": 10,
    "POST /v1/audio/voices": 10,
    "GET /v1/audio/voices/{name}": 10,
    "GET /v1/models/{id}": 10,
}
STREAMS = ("POST /v1/audio/speech", "POST /v1/speech")
TEXTS = ("Good morning.", "The car is green.", "Yes! No?", "3")
NAMES = ("narrator", "fuzz.1")
KNOWN = {"name": ("alloy", *NAMES), "id": ("tts-1", "spark-tts")}  # parameters of paths
OF_VOICES = ("voice", "save_voice", "prompt_speech_url", "prompt_text", "model", "task_token")
sent: Counter[tuple[str, int]] = Counter()
streamed: Counter[str] = Counter()  # of them, those that were answered with events


@pytest.fixture(scope="module")
def fuzzed(demo_volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpWorker]:
    """A worker that speaks no more than some seconds at a time."""
    limits = {"HTTP_MAX_TEXT": "60", "MAX_JOB_SECONDS": "6", "HTTP_MAX_BODY": "1000000"}
    env = environment(demo_volume, **limits, **NO_ALIGNER)
    with http_serving(env, tmp_path_factory.mktemp("fuzzed")) as worker:
        yield worker


@pytest.fixture(scope="module")
def schema(fuzzed: HttpWorker) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{fuzzed.url}/openapi.json")


@pytest.fixture(scope="module")
def operations(schema: BaseSchema) -> dict[str, APIOperation[Any, Any, Any, Any]]:
    return {found.ok().label: found.ok() for found in schema.get_all_operations()}


def test_the_document_names_every_route(operations: dict[str, Any]) -> None:
    assert operations.keys() == CASES.keys()


@pytest.mark.parametrize("label", CASES)
def test_an_answer_is_as_the_document_says(
    operations: dict[str, APIOperation[Any, Any, Any, Any]], fuzzed: HttpWorker, label: str
) -> None:
    operation = operations[label]
    number = CASES[label] * (FULL_TIMES if os.environ.get("FULL") else 1)
    modes = {mode: operation.as_strategy(generation_mode=mode) for mode in GenerationMode}
    allowed, wrong = modes[GenerationMode.POSITIVE], modes[GenerationMode.NEGATIVE]
    chance = st.randoms(use_true_random=False)
    with requests.Session() as session:

        @settings(max_examples=number, suppress_health_check=list(HealthCheck), database=None)
        @given(case=st.one_of(allowed, wrong, st.builds(come_far, allowed, chance)))
        def ask(case: Case) -> None:
            shorten(case)
            answer = case.call(session=session, timeout=60)
            sent[label, answer.status_code] += 1
            streamed[label] += "text/event-stream" in str(answer.headers.get("content-type"))
            case.validate_response(answer, checks=CHECKS)

        ask()
    assert fuzzed.process.poll() is None


def come_far(case: Case, chance: Random) -> Case:
    """Put something known in place of what cannot be guessed."""
    for name in case.path_parameters.keys() & KNOWN.keys():
        case.path_parameters[name] = chance.choice(KNOWN[name])
    if not isinstance(case.body, dict):
        return case
    if case.operation.path == "/v1/audio/voices":
        case.body = {
            **{name: value for name, value in case.body.items() if name == "transcript"},
            "name": chance.choice(NAMES),
            "consent": "The speaker's.",
            "audio": DEMO_VOICE.read_bytes(),
        }
    for one in case.body.get("items", [case.body]):
        if isinstance(one, dict) and ("text" in one or "input" in one):
            make_speakable(one, chance)
    return case


def make_speakable(asked: dict[str, Any], chance: Random) -> None:
    """Some of a request's fields, and a text."""
    if isinstance(asked.get("input"), dict):
        make_speakable(asked["input"], chance)
        return
    text = "input" if "input" in asked else "text"
    for name in [name for name in asked if name in OF_VOICES or chance.random() < 0.75]:
        del asked[name]
    asked[text] = chance.choice(TEXTS)
    if chance.random() < 0.3:
        asked |= {"stream_format": "sse"} if text == "input" else {"stream": True}


def shorten(case: Case) -> None:
    """Keep what a case would have spoken short."""
    body = case.body if case.media_type == "application/json" else None
    items = body.get("items") if isinstance(body, dict) else None
    for one in items if isinstance(items, list) else [body]:
        if isinstance(one, dict):
            asked = one.get("input")
            (asked if isinstance(asked, dict) else one).setdefault("max_length", 64)


def test_so_many_requests_were_sent_and_none_broke_the_worker(fuzzed: HttpWorker) -> None:
    print(*sorted(sent.items()), sep="\n")
    for label, least in SUCCESSES.items():
        assert sum(sent[label, status] for status in (200, 201)) >= least, label
    assert min(streamed[label] for label in STREAMS) >= 5, streamed
    assert sum(sent.values()) >= (LEAST_IN_FULL if os.environ.get("FULL") else LEAST)
    assert "Traceback" not in fuzzed.written()
    assert not [event for event in fuzzed.events() if event["level"] == "ERROR"]
    health = requests.get(f"{fuzzed.url}/health", timeout=10).json()
    assert (health["status"], health["requests"], health["speaking"]) == ("ready", 0, 0)
