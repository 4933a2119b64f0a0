"""Whether anything was said at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from tests.support.takes import take
from worker.audio.spool import Clip
from worker.components import Components
from worker.errors import SynthesisError
from worker.job.context import Job
from worker.job.retakes import Take
from worker.job.said import check_said
from worker.speech.voice import Voice
from worker.text.line import Line

TEXT = "The gardener walked slowly along the narrow path."  # some 3 s
PLAIN, CONTINUED = Voice((1,)), Voice((1,), (2, 3), "Its words.")


def lasting(seconds: float, text: str = TEXT, tempo: float = 1.0) -> Take:
    line = Line(text, tempo=tempo)
    return replace(take(text, 0.0), line=line, clip=Clip(0, round(16_000 * seconds), 16_000))


def warnings_of(*takes: Take, voice: Voice = PLAIN) -> list[str]:
    job = Job("1", cast("Components", None), Path("none"))
    check_said({None: voice}, takes, job)
    return list(job.warnings)


def test_what_is_said_is_no_news() -> None:
    assert warnings_of(lasting(2.0), lasting(3.0)) == []
    assert warnings_of(lasting(0.8, tempo=4.0)) == []  # 3.2 s as it was spoken


def test_a_job_of_which_hardly_anything_is_said_fails_in_words() -> None:
    with pytest.raises(SynthesisError, match=r"hardly anything of the text: 0\.1 s.*another seed"):
        warnings_of(lasting(0.1))
    with pytest.raises(SynthesisError, match="hardly anything"):
        warnings_of(lasting(0.8, tempo=0.25))


def test_where_a_transcript_may_be_the_cause_it_says_so() -> None:
    with pytest.raises(SynthesisError, match="task_token 'cross_lingual', which does without it"):
        warnings_of(lasting(0.1), voice=CONTINUED)


def test_a_sentence_that_is_not_said_is_told() -> None:
    (warning,) = warnings_of(lasting(3.0), lasting(0.2), lasting(2.5))
    assert warning.startswith("sentence 2: hardly anything of it was said")


def test_a_short_word_is_not_hardly_anything() -> None:
    assert warnings_of(lasting(0.2, "Hm."), lasting(0.25, "No.")) == []
