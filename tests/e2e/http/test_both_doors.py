"""One pipeline: the same request through both doors gives the same speech."""

from __future__ import annotations

import io
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import soundfile

from tests.support.http_worker import HttpWorker
from tests.support.worker_process import NO_ALIGNER, environment, post, serving

TEXT = "My sister bought a green car last year. She opened the window and looked at the garden."
LEAST_SNR = 40.0  # dB; a live codec looks less far ahead than a file's, and comes to some 59
SAME_ENDS = 0.02  # seconds that the two may differ by in length: trimming is by windows of 10 ms


@pytest.fixture(scope="module")
def queue(demo_volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("queue")
    env = environment(demo_volume, LOCAL_STORAGE_DIR=str(folder / "local"), **NO_ALIGNER)
    with serving(env, folder / "worker.log") as url:
        yield url


def of_the_queue(queue: str, fields: dict[str, Any]) -> tuple[np.ndarray, int]:
    answer = post(f"{queue}/runsync", {"input": {"text": TEXT, **fields}})["output"]
    samples, rate = soundfile.read(unquote(urlsplit(answer["audio_url"]).path), dtype="float32")
    return samples, rate


def of_the_stream(worker: HttpWorker, fields: dict[str, Any]) -> tuple[np.ndarray, int]:
    body = {"input": TEXT, "response_format": "wav", **fields}
    asked = urllib.request.Request(
        f"{worker.url}/v1/audio/speech",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=120) as answer:
        samples, rate = soundfile.read(io.BytesIO(answer.read()), dtype="float32")
    return samples, rate


def snr(wanted: np.ndarray, got: np.ndarray) -> float:
    """Signal to noise in dB at the best of small shifts: trimmed starts may differ by a window."""
    best = -np.inf
    for shift in range(-320, 321, 160):
        a, b = (wanted[shift:], got) if shift >= 0 else (wanted, got[-shift:])
        length = min(len(a), len(b))
        noise = float(np.sum((a[:length] - b[:length]) ** 2)) + 1e-12
        best = max(best, 10 * np.log10(float(np.sum(a[:length] ** 2)) / noise))
    return float(best)


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 11, "voice": "nova"},
        {"seed": 12, "speaker_gender": "male", "pitch": "low", "temperature": 0.5},
        {"seed": 13, "voice": "onyx", "multi_sentence_gap": 0.7},
    ],
)
def test_a_stream_is_what_the_queue_stores(
    http_worker: HttpWorker, queue: str, fields: dict[str, Any]
) -> None:
    whole, rate = of_the_queue(queue, fields)
    live, live_rate = of_the_stream(http_worker, fields)
    assert live_rate == rate
    assert abs(len(live) - len(whole)) / rate <= SAME_ENDS
    assert snr(whole, live) >= LEAST_SNR
