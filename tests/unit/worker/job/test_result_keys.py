"""Under which keys a job's results lie, and the URLs of its answer."""

from __future__ import annotations

import pytest

from docs.generate import ANSWER
from worker.api.request import parse_request
from worker.api.response import SpeechResponse
from worker.errors import RequestError
from worker.job.result_keys import ResultKeys
from worker.storage.keys import Keys

KEYS = Keys(voices="voices/", output="out/", bucket=None)


def keys_of(**asked: object) -> ResultKeys:
    request = parse_request({"text": "Hello.", "output_name": "hi", **asked})
    return ResultKeys.of(request, "job-1", KEYS)


def answer(*urls: str | None) -> SpeechResponse:
    """One whose sentences have these URLs."""
    segments = tuple(
        ANSWER.segments[0].model_copy(update={"text": f"Sentence {place}.", "audio_url": url})
        for place, url in enumerate(urls)
    )
    return ANSWER.model_copy(update={"segments": segments})


def test_results_are_named_for_the_job_and_end_in_what_they_are() -> None:
    keys = keys_of(output_format="ogg", enable_subtitles=True, subtitle_format="srt")
    assert keys.audio == "out/hi_job-1.ogg"
    assert keys.subtitles == "out/hi_job-1.srt"
    assert keys.segment(0) == "out/hi_job-1.0000.ogg"
    assert keys.segment(12) == "out/hi_job-1.0012.ogg"
    assert keys.segment(12_345) == "out/hi_job-1.12345.ogg"


def test_the_record_is_named_for_what_was_asked() -> None:
    """docs/DEPLOY.md: NAME_JOB.0123456789abcdef.json."""
    digest = "0123456789abcdef" + 48 * "0"
    assert keys_of().record(digest) == "out/hi_job-1.0123456789abcdef.json"


def test_word_times_alone_make_no_subtitles() -> None:
    assert keys_of(enable_whisperx=True).subtitles is None
    assert keys_of().subtitles is None


@pytest.mark.parametrize("job_id", ["", "../up", "a/b", "x" * 129])
def test_a_job_id_that_can_be_no_part_of_a_key_is_refused(job_id: str) -> None:
    with pytest.raises(RequestError) as caught:
        ResultKeys.of(parse_request({"text": "Hello."}), job_id, KEYS)
    assert caught.value.field == "id"


def test_an_answers_keys_are_those_that_it_has_urls_for() -> None:
    kept = answer(None, "x", None, "x")
    assert list(keys_of().of_response(kept)) == [
        "out/hi_job-1.wav",
        "out/hi_job-1.0001.wav",
        "out/hi_job-1.0003.wav",
    ]
    assert list(keys_of(enable_subtitles=True).of_response(answer(None))) == [
        "out/hi_job-1.wav",
        "out/hi_job-1.ass",
    ]


def test_each_url_is_that_of_its_own_result() -> None:
    before = answer("old", None, "old")
    asked: list[str] = []

    def url(key: str) -> str:
        asked.append(key)
        return f"new:{key}"

    signed = keys_of(enable_subtitles=True).sign(before, url)
    assert signed.audio_url == "new:out/hi_job-1.wav"
    assert signed.subtitles_url == "new:out/hi_job-1.ass"
    assert [segment.audio_url for segment in signed.segments] == [
        "new:out/hi_job-1.0000.wav",
        None,
        "new:out/hi_job-1.0002.wav",
    ]
    assert len(asked) == 4  # and none for what the answer does not have


def test_nothing_but_urls_changes() -> None:
    before = answer("old", None)
    signed = keys_of().sign(before, lambda _key: "new")
    assert [segment.text for segment in signed.segments] == ["Sentence 0.", "Sentence 1."]
    assert keys_of().sign(signed, lambda _key: "old") == before.model_copy(
        update={"audio_url": "old"}
    )
    assert before.segments[0].audio_url == "old"


def test_without_subtitles_asked_for_the_answer_has_no_url_of_them() -> None:
    stale = ANSWER.model_copy(update={"subtitles_url": "old"})
    assert keys_of().sign(stale, lambda key: key).subtitles_url is None
