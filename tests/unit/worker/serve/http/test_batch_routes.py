"""Batches: many requests in one, each with an outcome of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.http_door import LONG, DoorServer, serving_door, speech_request
from tests.support.small_components import SmallParts, small_components
from tests.support.waiting import until
from worker.api.batch import MAX_ITEMS
from worker.api.own_fields import BatchAnswer, Failed, Spoken
from worker.errors import DeviceError, StorageError

PATH = "/v1/audio/speech/batch"


@pytest.fixture
def parts(tmp_path: Path) -> SmallParts:
    return small_components(tmp_path)


@pytest.fixture
def server(parts: SmallParts) -> Iterator[DoorServer]:
    with serving_door(parts, http_max_requests=3, http_max_text=100) as door:
        yield door


@pytest.fixture
def client(server: DoorServer) -> Iterator[httpx.Client]:
    with server.client() as one:
        yield one


def test_each_item_has_its_own_outcome_in_order(client: httpx.Client, parts: SmallParts) -> None:
    items = [
        {"text": "One word."},
        {"input": "Two words.", "voice": "alloy", "response_format": "mp3", "model": "tts-1"},
        {"input": {"turns": [{"text": "Three words."}], "output_format": "flac"}},
        {"text": ""},
        "no object",
        {"input": "Spoken.", "response_format": "wma"},
        {"input": "Spoken.", "stream_format": "sse"},
        {"input": "Spoken.", "response_format": "mp3", "output_format": "wav"},
        {"text": "Spoken.", "voice": "nobody"},
        {"text": "Spoken. " * 20},
        {"input": "Spoken.", "model": "another"},
    ]
    answer = client.post(PATH, json={"items": items})
    assert answer.status_code == 200
    outcomes = BatchAnswer.model_validate_json(answer.content).data
    assert [outcome.index for outcome in outcomes] == list(range(len(items)))
    assert [outcome.status for outcome in outcomes] == [200] * 3 + [400] * 6 + [413, 404]
    spoken = [outcome for outcome in outcomes if isinstance(outcome, Spoken)]
    words = [outcome.response.segments[0].text for outcome in spoken]
    assert words == ["One word.", "Two words.", "Three words."]
    endings = [outcome.response.audio_url.partition("?")[0][-4:] for outcome in spoken]
    assert endings == [".wav", ".mp3", "flac"]
    fields = [outcome.error.param for outcome in outcomes if isinstance(outcome, Failed)]
    assert fields == [
        *("text", "text", "response_format", "stream_format", "response_format", "voice"),
        *("text", "model"),
    ]
    assert len({key for key, _ in parts.storage.put_keys}) == 3


def test_a_fault_of_one_loses_no_other(client: httpx.Client, parts: SmallParts) -> None:
    def fail(text: str) -> None:
        if text == "Bad.":
            raise ZeroDivisionError
        if text == "Worse.":
            raise StorageError("the bucket is gone")

    parts.engine.before = fail
    items = [{"text": text} for text in ("Good.", "Bad.", "Worse.", "Good too.")]
    data = client.post(PATH, json={"items": items}).json()["data"]
    assert [outcome["status"] for outcome in data] == [200, 500, 503, 200]
    assert data[1]["error"]["code"] == "internal_error"
    assert "ZeroDivision" not in str(data)


def test_items_run_beside_each_other_and_count_as_one_request(
    client: httpx.Client, parts: SmallParts, server: DoorServer
) -> None:
    """Three at a time, which is what the door takes at once: none goes on before three are in."""
    inside, most, together = 0, 0, threading.Barrier(3)
    lock = threading.Lock()

    def enter(_text: str) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        together.wait(LONG)
        assert server.door.open_requests == 1
        with lock:
            inside -= 1

    parts.engine.before = enter
    items = [{"text": f"Number {number}."} for number in range(9)]
    data = client.post(PATH, json={"items": items}).json()["data"]
    assert {outcome["status"] for outcome in data} == {200}
    assert most == 3


def test_a_client_that_leaves_ends_them_all(parts: SmallParts, server: DoorServer) -> None:
    entered = threading.Event()
    going = threading.Event()

    def wait(_text: str) -> None:
        entered.set()
        going.wait(LONG)

    parts.engine.before = wait
    items = [{"text": f"Number {number}."} for number in range(MAX_ITEMS)]
    with server.connect() as leaving:
        leaving.sendall(speech_request(json.dumps({"items": items}).encode(), path=PATH))
        assert entered.wait(LONG)
    until(lambda: all(asked.cancellation.cancelled for asked in parts.engine.asked), LONG)
    going.set()
    until(lambda: server.door.open_requests == 0, LONG)
    assert len(parts.engine.asked) <= 3


def test_a_broken_device_ends_the_batch_and_the_worker(
    client: httpx.Client, parts: SmallParts, server: DoorServer
) -> None:
    def fail(_text: str) -> None:
        raise DeviceError("the GPU is lost")

    parts.engine.before = fail
    answer = client.post(PATH, json={"items": [{"text": "Hello."}]})
    assert answer.status_code == 503
    server.join()
    assert server.status == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"items": []},
        {"items": {}},
        {"items": [{"text": "Hello."}] * (MAX_ITEMS + 1)},
    ],
)
def test_what_is_no_batch_is_refused(client: httpx.Client, body: object) -> None:
    answer = client.post(PATH, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "items")


def test_a_batch_has_no_other_field(client: httpx.Client) -> None:
    answer = client.post(PATH, json={"items": [{"text": "Hello."}], "model": "tts-1"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
