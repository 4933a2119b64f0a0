"""Texts that a job may have: the pipeline's tests have those that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from worker.api.request import parse_request
from worker.job.limits import check_length
from worker.settings import Settings
from worker.text.sentences import split

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
    text = text[:20_000]
    check_length(parse_request({"text": text, **asked}), split(text), Settings().max_job_seconds)
