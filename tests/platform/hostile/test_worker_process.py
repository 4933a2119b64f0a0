"""Hostile jobs over HTTP to a real worker process, which goes on working afterwards."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import DEMO_VOICE
from tests.platform.hostile.desk import check_error
from tests.platform.hostile.job_inputs import hostile_job
from tests.support.worker_process import environment, post, serving

HONEST = {"text": "Please turn off the light.", "prompt_speech_url": "demo.wav", "seed": 1}
FIRST = 20_000  # other jobs than those of test_job_inputs
BODIES = [
    b"",
    b"{",
    b"null",
    b"[" * 100_000,
    b'{"input": ' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"input": {"text": "\xff\xfe"}}',
    b'{"input": {"text": "a", "text": "b"}, "input": 3}',
    b'{"input": {"text": "Hello."}, "webhook": "https://127.0.0.2/"}',
    b"\x00" * 1000,
    b"A" * 5_000_000,
]


def test_a_worker_outlives_hostile_jobs(
    demo_volume: Path, tmp_path: Path, times: Callable[[int, int], int]
) -> None:
    scratch = tmp_path / "scratch"
    storage = tmp_path / "storage"
    scratch.mkdir()
    (storage / "voices").mkdir(parents=True)
    (storage / "voices" / "demo.wav").write_bytes(DEMO_VOICE.read_bytes())
    env = environment(demo_volume, TMPDIR=str(scratch), LOCAL_STORAGE_DIR=str(storage))
    log = tmp_path / "worker.log"
    outcomes: Counter[str] = Counter()
    with serving(env, log) as url:
        for number in range(FIRST, FIRST + times(15, 400)):
            outcomes[_ask(f"{url}/runsync", number)] += 1
        for body in BODIES:
            _send(f"{url}/runsync", body)
        honest = post(f"{url}/runsync", {"input": HONEST})
        assert honest["status"] == "COMPLETED", honest
    print(f"over HTTP: {dict(outcomes)}")
    assert not [path.name for path in scratch.iterdir() if path.name.startswith("spark-tts-")]
    assert {path.name for path in storage.iterdir()} <= {"voices", "output"}
    written = log.read_text(errors="replace")
    assert "internal error" not in written
    assert "internal_error" not in written
    assert outcomes["invalid_request"] > sum(outcomes.values()) // 4


def _ask(url: str, number: int) -> str:
    """What came of the job of this number: the SDK refuses some itself, before the worker."""
    job = hostile_job(number)
    try:
        answer = post(url, {"input": job.asked})
    except urllib.error.HTTPError as error:
        # The SDK's server takes objects only, and cannot repeat half a surrogate in its refusal.
        if isinstance(job.asked, dict) and error.code != 500:
            pytest.fail(f"{error.code} for {ascii(job)[:2000]}")
        return "refused by the SDK"
    if answer["status"] == "COMPLETED":
        return "spoken"
    refused = check_error(answer["error"])
    return refused.code


def _send(url: str, body: bytes) -> None:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            json.load(answer)
    except (urllib.error.HTTPError, ConnectionError, json.JSONDecodeError):
        return  # the SDK's server answered for itself
