"""Damaged audio as a job's reference: refused in words, or read as far as it makes sense."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.platform.hostile.audio_files import CHANGES, bases
from tests.support.worker_process import environment, run

SECONDS = 60.0  # for one file, on a busy machine; the slowest takes some 5
PEAK_GROWTH_MB = 300  # a minute at 192 kHz in 8 channels is decoded in blocks
TOKENS = 50 * 61  # of the longest reference, 60 s, rounded up


def test_damaged_files(
    tiny_checkpoint: Path, tmp_path: Path, times: Callable[[int, int], int]
) -> None:
    count = times(40, 1_000)
    module = "tests.platform.hostile.listening"
    env = environment(tmp_path, TMPDIR=str(tmp_path))
    arguments = (str(tiny_checkpoint), str(tmp_path), "0", str(count))
    done = run("-m", module, *arguments, env=env, seconds=120 + 2 * count)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    last = lines[-1] if lines else None
    assert done.returncode == 0, f"{last}: ended with {done.returncode}\n{done.stderr[-2000:]}"
    files, results = lines[::2], lines[1::2]
    assert len(files) == len(results) == count
    outcomes: Counter[str] = Counter()
    for file, came in zip(files, results, strict=True):
        assert came["left"] == [], (file, came)
        assert came["seconds"] < SECONDS, (file, came)
        if came["code"] is None:
            assert 0 < came["tokens"] <= TOKENS, (file, came)
            outcomes["heard"] += 1
            continue
        assert (came["code"], came["field"]) == ("invalid_voice", "prompt_speech_url"), (file, came)
        assert came["message"].isprintable(), (file, came)
        assert len(came["message"]) < 300, (file, came)
        assert "reference audio" in came["message"], (file, came)
        outcomes["refused"] += 1
    slowest = max(came["seconds"] for came in results)
    print(f"{count} damaged files: {dict(outcomes)}, slowest {slowest:.2f} s")
    print("changes:", dict(Counter(file["change"] for file in files)))
    growth = results[-1]["peak_mb"] - results[0]["peak_mb"]
    assert growth < PEAK_GROWTH_MB, f"{growth} MB more at the peak"
    assert min(outcomes["heard"], outcomes["refused"]) > count // 10, outcomes
    if count >= 1_000:
        assert {file["change"] for file in files} == set(CHANGES)
        assert {file["base"] for file in files} == set(bases())
    assert not list(tmp_path.glob("tmp*")), "temporary files are left"
