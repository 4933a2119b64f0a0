from __future__ import annotations

import pytest
from pydantic import ValidationError

from worker.audio.tags import MAX_WORDS, Tags, words_of

MARK = "Synthetic speech, made by AI (spark)"


def test_every_file_says_that_nobody_spoke_it() -> None:
    assert words_of(Tags(), voice=None, model="spark") == {"comment": MARK}
    assert words_of(Tags(comment="For you"), voice=None, model="spark") == {
        "comment": f"For you | {MARK}"
    }


def test_the_artist_is_the_voice_where_no_other_is_named() -> None:
    assert words_of(Tags(), voice="nova", model="spark")["artist"] == "nova"
    assert words_of(Tags(artist="Anna"), voice="nova", model="spark")["artist"] == "Anna"


def test_each_tag_has_its_words() -> None:
    given = {"title": " Ein Märchen ", "album": "今天", "genre": "Podcast", "copyright": "© us"}
    words = words_of(Tags.model_validate({**given, "track": 12}), voice=None, model="spark")
    assert words == {**given, "title": "Ein Märchen", "track": "12", "comment": MARK}


@pytest.mark.parametrize(
    "bad",
    ["", "  ", "x" * (MAX_WORDS + 1), "a\nb", "a\x00b", "a\x1bb", "\ud800", "a\u2028b", 5, []],
)
def test_a_tag_is_one_line_of_text(bad: object) -> None:
    with pytest.raises(ValidationError):
        Tags.model_validate({"title": bad})


@pytest.mark.parametrize("bad", [0, 10_000, -1, 1.5, "3", True])
def test_a_track_is_a_number(bad: object) -> None:
    with pytest.raises(ValidationError):
        Tags.model_validate({"track": bad})
