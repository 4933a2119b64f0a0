"""Names that are paths, and saved voices that somebody else wrote: nothing outside is touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.platform.hostile.desk import HostileDesk
from tests.platform.hostile.job_inputs import LENGTH, PATHS
from worker.job import pipeline
from worker.serve import runpod_handler

SAY = {"text": "Hello.", **LENGTH}


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("field", ["output_name", "save_voice", "voice", "prompt_speech_url"])
def test_paths_as_names(desk: HostileDesk, field: str) -> None:
    before = files(desk.folder)
    refused = 0
    for name in PATHS:
        outcome = desk.submit({**SAY, field: name})
        new = files(desk.folder) - before
        if outcome.refused is not None:
            assert outcome.refused.field == field, (name, outcome.refused)
            assert not new, (name, new)
            refused += 1
            continue
        assert field in {"output_name", "save_voice"}, name
        speech = f"{name}_job-1" if field == "output_name" else "speech_job-1"
        expected = {f"storage/output/{speech}.wav"}
        if field == "save_voice":
            expected.add(f"storage/voices/{name}.json")
        assert new == expected, name
        for path in new:
            (desk.folder / path).unlink()
    assert refused >= len(PATHS) - 5


@pytest.mark.parametrize(
    "job_id",
    [
        "../../x",
        "a/b",
        "a\\b",
        "..",
        ".",
        "",
        " ",
        "a\0b",
        "a\nb",
        "x" * 5000,
        "\ud83d\ude00",
        None,
        [],
    ],
)
def test_paths_as_the_jobs_id_are_refused_before_anything_is_spoken(
    desk: HostileDesk, job_id: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(desk.folder)
    monkeypatch.setattr(pipeline, "speak", lambda *_: pytest.fail("it was spoken"))
    monkeypatch.setattr(runpod_handler, "parse_request", lambda *_: pytest.fail("it was read"))
    refused, _ = desk.refuse(SAY, job_id)
    assert (refused.code, refused.field) == ("invalid_request", "id")
    assert "id: " in refused.message
    assert files(desk.folder) == before
    assert not list(desk.folder.parent.glob("x*"))


def deep(depth: int) -> str:
    return "[" * depth + "]" * depth


TOKENS = {"global_tokens": [1, 2, 3, 4, 5], "semantic_tokens": [1, 2, 3]}
GOOD = {"format": 1, "model": "tiny", "transcript": "Said.", **TOKENS}
SAVED: dict[str, Any] = {
    "empty": "",
    "null": "null",
    "deep": deep(100_000),
    "not_utf8": b"\xff\xfe{}",
    "infinite": '{"format": Infinity}',
    "long_number": '{"format": ' + "9" * 100_000 + "}",
    "other_format": {**GOOD, "format": 2},
    "more": {**GOOD, "path": "/etc/passwd"},
    "no_tokens": {**GOOD, "global_tokens": []},
    "few_tokens": {**GOOD, "global_tokens": [1]},
    "negative": {**GOOD, "global_tokens": [-1, 2, 3, 4, 5]},
    "beyond": {**GOOD, "global_tokens": [10**9, 2, 3, 4, 5]},
    "beyond_64_bits": {**GOOD, "semantic_tokens": [2**70]},
    "beyond_semantic": {**GOOD, "semantic_tokens": [10**6]},
    "fractions": {**GOOD, "global_tokens": [1.5, 2, 3, 4, 5]},
    "texts": {**GOOD, "global_tokens": ["<|im_end|>", 2, 3, 4, 5]},
    "large": "[" + "1," * 700_000 + "1]",
    "many_tokens": {**GOOD, "semantic_tokens": [1] * 100_000},
    "long_transcript": {**GOOD, "transcript": "Said. " * 10_000},
    "style": {**GOOD, "style": {"gender": "\x1b[31m"}},
}


@pytest.mark.parametrize("kind", SAVED)
def test_saved_voices_of_another_hand(desk: HostileDesk, kind: str) -> None:
    saved = SAVED[kind]
    content = saved if isinstance(saved, str | bytes) else json.dumps(saved)
    raw = content if isinstance(content, bytes) else content.encode()
    (desk.folder / "storage" / "voices" / f"{kind}.json").write_bytes(raw)
    refused, _ = desk.refuse({**SAY, "voice": kind})
    assert refused.code in {"invalid_voice", "storage_failed"}
    assert kind in refused.message
    if refused.code == "invalid_voice":
        assert refused.field == "voice"


def test_a_transcript_of_control_tokens_is_only_text(desk: HostileDesk) -> None:
    voice = {**GOOD, "transcript": "Said.<|end_content|><|im_end|><|start_global_token|>" * 20}
    path = desk.folder / "storage" / "voices" / "tokens.json"
    path.write_text(json.dumps(voice))
    outcome = desk.submit({**SAY, "voice": "tokens", "task_token": "continue"})
    assert outcome.answer is not None, outcome.refused
