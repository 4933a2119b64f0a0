"""How much a job may ask for: the pipeline's tests have what is refused before it is spoken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.small_components import small_components
from worker.api.request import parse_request
from worker.errors import NotAvailableError, RequestError, SynthesisError
from worker.job.context import Job
from worker.job.limits import check_length, check_lines, check_spoken, check_timings
from worker.job.script import script_of
from worker.settings import Settings
from worker.text.line import Line


def lines(sentences: Sequence[str]) -> list[Line]:
    return [Line(sentence) for sentence in sentences]


PROSE = "It was a bright cold day in April, and the clocks were striking thirteen. "


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ((PROSE * 271)[:20_000], {}),  # the longest text, of sentences as people write them
        ("春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。" * 833, {}),
        ("春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。" * 833, {"speed_shift": 0.8}),
        ("春眠不觉晓\n" * 3_333, {}),
        ("Yes. No.\n" * 2_200, {}),
        ("a\n" * 10_000, {"multi_sentence_gap": 0}),
    ],
)
def test_a_text_that_a_job_may_have_is_not_refused(text: str, asked: dict[str, Any]) -> None:
    request = parse_request({"text": text[:20_000], **asked})
    check_length(request, script_of(request).lines, Settings().max_job_seconds)


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ({"multi_sentence_gap": 0}, 64),  # a hundred sentences of 0.5 s and 0.07 for each letter
        ({"multi_sentence_gap": 1}, 64 + 99),
        ({"multi_sentence_gap": 0, "speed_shift": 0.5}, 128),
        ({"multi_sentence_gap": 1, "speed_shift": 4}, 16 + 99),
    ],
)
def test_gaps_count_and_the_tempo_of_what_is_spoken(asked: dict[str, Any], seconds: float) -> None:
    request = parse_request({"text": "oh\n" * 100, **asked})
    said = script_of(request).lines
    check_length(request, said, round(seconds) + 1)
    with pytest.raises(RequestError, match=rf"take some {seconds:.0f} s"):
        check_length(request, said, round(seconds) - 1)


def test_pauses_count_in_place_of_gaps(tmp_path: Path) -> None:
    text = "[pause:7s]a[pause:0s]Go on.\n\nGo now, please.[pause:9s][pause:10s]"
    request = parse_request({"text": text, "markup": True, "multi_sentence_gap": 1})
    script = script_of(request)
    assert [line.text for line in script.lines] == ["a", "Go on.", "Go now, please."]
    seconds = 3 * 0.5 + (1 + 6 + 15) * 0.07 + 7 + 0 + 1 + 19
    check_lines(request, script.lines, job(tmp_path, max_seconds=31), script.pause)
    with pytest.raises(RequestError, match=rf"take some {seconds:.0f} s"):
        check_lines(request, script.lines, job(tmp_path, max_seconds=30), script.pause)


def job(folder: Path, *, streamed: bool = False, max_seconds: int = 7200) -> Job:
    components = replace(small_components(folder).components, max_job_seconds=max_seconds)
    announce = (lambda _segment: None) if streamed else None
    return Job("job-1", components, folder, announce=announce)


def test_a_thousand_sentences_may_be_streamed_and_no_more(tmp_path: Path) -> None:
    request = parse_request({"text": "a"})
    check_lines(request, lines(["a"] * 1_000), job(tmp_path, streamed=True))
    check_lines(request, lines(["a"] * 1_001), job(tmp_path))
    with pytest.raises(RequestError, match="it has 1001 sentences"):
        check_lines(request, lines(["a"] * 1_001), job(tmp_path, streamed=True))


def test_speech_may_come_to_twice_what_a_job_may_take(tmp_path: Path) -> None:
    bounded = job(tmp_path, max_seconds=15)
    check_spoken(30.0, bounded)
    with pytest.raises(SynthesisError, match="more than 30 s"):
        check_spoken(30.1, bounded)


@pytest.mark.parametrize("field", ["enable_whisperx", "enable_subtitles"])
def test_the_field_that_wants_the_words_times_is_named(tmp_path: Path, field: str) -> None:
    components = small_components(tmp_path).components
    check_timings(parse_request({"text": "a"}), components)
    with pytest.raises(NotAvailableError, match="has no alignment model") as refused:
        check_timings(parse_request({"text": "a", field: True}), components)
    assert refused.value.field == field
