"""/metrics and /health: what is counted, and under which names."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from tests.support.http_door import LONG, SPEECH, DoorServer, serving_door
from tests.support.small_components import TEXT, SmallParts, small_components
from tests.support.waiting import until
from worker.errors import SynthesisError

SAID = {"input": TEXT, "response_format": "pcm"}


@pytest.fixture
def parts(tmp_path: Path) -> SmallParts:
    return small_components(tmp_path)


def samples_of(server: DoorServer) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All samples by name and labels."""
    with server.client() as client:
        text = client.get("/metrics").text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"spark_tts_{name}", frozenset(labels.items())


def test_requests_speech_and_the_batch_are_counted(parts: SmallParts) -> None:
    with serving_door(parts) as server:
        with server.client() as client:
            for _ in range(2):
                assert client.post(SPEECH, json=SAID).status_code == 200
            client.post(SPEECH, json={"input": 1})
            client.get("/v1/models/demo")
            for path in ("/a", "/b", "/v1/nothing/x"):
                client.get(path)
            client.request("BREW", "/v1/models")
        until(lambda: server.door.open_requests == 0, LONG)
        told = samples_of(server)
    speech = {"route": SPEECH, "method": "POST"}
    assert told[key("requests_total", **speech, status="200")] == 2
    assert told[key("requests_total", **speech, status="400")] == 1
    model = {"route": "/v1/models/{id}", "method": "GET", "status": "200"}
    assert told[key("requests_total", **model)] == 1
    assert told[key("requests_total", route="other", method="GET", status="404")] == 3
    assert told[key("requests_total", route="/v1/models", method="other", status="405")] == 1
    assert told[key("first_byte_seconds_count", route=SPEECH)] == 2
    for stage in ("queue", "text", "voice", "speech", "audio", "first_audio", "total"):
        assert told[key("stage_seconds_count", stage=stage)] == 2
    assert told[key("tokens_total")] >= 2 * 10 * len(TEXT.split())
    assert 2 < told[key("audio_seconds_total")] < 6
    assert told[key("batch_occupancy_count")] == 2
    assert told[key("slots")] == told[key("open_requests_limit")] == 16
    assert told[key("ready")] == 1
    assert told[key("cached_voices")] == parts.voices.count_in_memory
    assert 0 < told[key("free_memory_ratio")] <= 1
    assert told[key("process_resident_memory_bytes")] > 1_000_000


def test_what_is_under_way_is_shown(parts: SmallParts) -> None:
    reached, go = threading.Event(), threading.Event()

    def held(_sentence: int, _piece: int) -> None:
        reached.set()
        go.wait(LONG)

    parts.engine.before_piece = held
    with serving_door(parts) as server:
        asking = threading.Thread(target=lambda: server.client().post(SPEECH, json=SAID))
        asking.start()
        assert reached.wait(LONG)
        told = samples_of(server)
        with server.client() as client:
            health = client.get("/health").json()
        go.set()
        asking.join(LONG)
    assert told[key("open_requests")] == health["requests"] == 1
    assert told[key("speaking_sentences")] == health["speaking"] == 1
    assert told[key("waiting_sentences")] == health["waiting"] == 0


def test_failures_are_counted_by_their_code(parts: SmallParts) -> None:
    def fails(_sentence: str) -> None:
        raise SynthesisError("nothing was said")

    parts.engine.before = fails
    with serving_door(parts) as server:
        with server.client() as client:
            client.post(SPEECH, json=SAID)
        until(lambda: server.door.open_requests == 0, LONG)
        assert samples_of(server)[key("failures_total", code="synthesis_failed")] == 1


def test_the_registry_is_its_own_and_the_names_follow_the_conventions(parts: SmallParts) -> None:
    with serving_door(parts) as server, server.client() as client:
        text = client.get("/metrics").text
    families = {family.name for family in text_string_to_metric_families(text)}
    assert families
    assert all(name.startswith("spark_tts_") for name in families)
    assert not [family.name for family in REGISTRY.collect() if "spark_tts" in family.name]
    for line in text.splitlines():
        if (kind := re.fullmatch(r"# TYPE (\S+) (\w+)", line)) and kind[2] == "counter":
            assert kind[1].endswith("_total")
    assert not any("milli" in name or name.endswith("_ms") for name in families)


def test_health_says_that_the_worker_ends(parts: SmallParts) -> None:
    reached, go = threading.Event(), threading.Event()

    def held(_sentence: int, _piece: int) -> None:
        reached.set()
        go.wait(LONG)

    parts.engine.before_piece = held
    with serving_door(parts) as server:
        asking = threading.Thread(target=lambda: server.client().post(SPEECH, json=SAID))
        asking.start()
        assert reached.wait(LONG)
        server.drain()
        with server.client() as client:
            answer = client.get("/health")
            assert samples_of(server)[key("ready")] == 0
        go.set()
        asking.join(LONG)
    assert answer.status_code == 503
    assert answer.json()["status"] == "draining"
