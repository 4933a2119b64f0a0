"""Words that were timed sentence by sentence, in the whole audio."""

from __future__ import annotations

import pytest

from worker.timing.word_timing import SentenceSpan, WordTiming, at_tempo, shift_to_whole


def test_each_word_moves_with_its_sentence_and_knows_which_that_is() -> None:
    one = WordTiming("One", 0.25, 0.5, 0.75, 0, estimated=False)
    two = WordTiming("two.", 0.5, 1.0, None, 0, estimated=True)
    sentences = [
        SentenceSpan("One two.", 0.0, 1.0),
        SentenceSpan("...", 1.5, 1.75),
        SentenceSpan("One", 2.0, 3.0),
    ]
    assert shift_to_whole([[one, two], [], [one]], sentences) == [
        one,
        two,
        WordTiming("One", 2.25, 2.5, 0.75, 2, estimated=False),
    ]


def test_words_without_a_sentence_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="zip"):
        shift_to_whole([[], []], [SentenceSpan("One", 0.0, 1.0)])


@pytest.mark.parametrize(
    ("tempo", "start", "end"), [(0.25, 2.0, 4.0), (1, 0.5, 1.0), (4, 0.125, 0.25)]
)
def test_words_come_as_much_earlier_as_the_speech_was_made_faster(
    tempo: float, start: float, end: float
) -> None:
    word = WordTiming("two.", 0.5, 1.0, 0.75, 3, estimated=False)
    assert at_tempo([word], tempo) == [WordTiming("two.", start, end, 0.75, 3, estimated=False)]
