"""How much one job may ask for, and how much its speech may come to."""

from __future__ import annotations

from collections.abc import Sequence

from worker.api.request import SpeechRequest
from worker.components import Components
from worker.errors import NotAvailableError, RequestError, SynthesisError
from worker.job.context import Job
from worker.job.repeated_tokens import TOKENS_A_SECOND
from worker.text.line import Line
from worker.text.sentences import weigh

# What a sentence takes at an ordinary pace, and as much more for each letter (text.weigh); a model
# that needs MOST_TIMES as much is ended.
SENTENCE_SECONDS = 0.5
LETTER_SECONDS = 0.07
MOST_TIMES = 2
# Sentences of a streamed job: RunPod takes 10 MB of an answer, and a signed URL may have 2 kB.
MOST_STREAMED = 1_000


def check_timings(request: SpeechRequest, components: Components) -> None:
    """Raise NotAvailableError where the job wants the words' times and no model can find them."""
    if not request.wants_timings or components.aligner is not None:
        return
    field = "enable_whisperx" if request.enable_whisperx else "enable_subtitles"
    raise NotAvailableError(
        f"{field}: this worker has no alignment model, so it cannot time words; its operator can "
        "install one with: python -m volume install",
        field=field,
    )


def check_lines(
    request: SpeechRequest, lines: Sequence[Line], job: Job, pause: float = 0.0
) -> None:
    """Raise RequestError for a text that is too long to be spoken, or to be streamed.

    `pause` is the silence after it, in seconds.
    """
    check_length(request, lines, job.components.max_job_seconds, pause)
    if job.announce is not None and len(lines) > MOST_STREAMED:
        raise RequestError(
            f"text: it has {len(lines)} sentences, and a job with stream may have "
            f"{MOST_STREAMED}, for each is stored and has a URL of its own; divide the text, or "
            "leave stream out",
            field="text",
        )


def check_length(
    request: SpeechRequest, lines: Sequence[Line], max_seconds: int, pause: float = 0.0
) -> None:
    """Raise RequestError for a text that would take more than `max_seconds`, gaps included.

    `pause` is the silence after it, in seconds.
    """
    longest = request.max_length / TOKENS_A_SECOND
    seconds = pause
    for index, line in enumerate(lines):
        spoken = min(longest, SENTENCE_SECONDS + LETTER_SECONDS * weigh(line.said))
        gap = line.silence(request.multi_sentence_gap, first=not index)
        seconds += gap + spoken / line.tempo
    if seconds > max_seconds:
        raise RequestError(
            f"text: its {len(lines)} sentences would take some {seconds:.0f} s, gaps included; "
            f"a job on this worker may take {max_seconds} s: divide the text, or lower "
            "multi_sentence_gap or max_length",
            field="text",
        )


def check_spoken(seconds: float, job: Job) -> None:
    """Raise SynthesisError where the model has said far more than the text can be."""
    most = MOST_TIMES * job.components.max_job_seconds
    if seconds > most:
        raise SynthesisError(
            f"the model has spoken for more than {most} s, twice what a job may take; try another "
            "seed, lower max_length or divide the text"
        )


def only_silence() -> SynthesisError:
    """The error of a job in which nothing can be heard."""
    return SynthesisError(
        "the model spoke only silence; try another seed, or a temperature nearer to 0.8"
    )
