"""OpenAI's route for speech on a real worker process, with real speech."""

from __future__ import annotations

import io
import json
import urllib.request

import soundfile

from tests.support.http_worker import HttpWorker


def test_a_text_is_spoken(http_worker: HttpWorker) -> None:
    body = json.dumps({"input": "The car is green.", "response_format": "wav"}).encode()
    asked = urllib.request.Request(
        f"{http_worker.url}/v1/audio/speech", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        assert answer.headers["Content-Type"] == "audio/wav"
        samples, rate = soundfile.read(io.BytesIO(answer.read()))
    assert rate == 16_000
    assert 0.5 < len(samples) / rate < 10
