"""What a job answers. docs/API.md is made from this module."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from worker.timing.word_timing import WordTiming

PROGRESS_SEGMENTS = 20  # that one progress update has: some 40 kB


def _to_milliseconds(seconds: float) -> float:
    return round(seconds, 3)


Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_to_milliseconds)]
# Nobody needs more digits, and there is one for each word.
Score = Annotated[float, AfterValidator(lambda score: round(score, 3))]
Count = Annotated[int, Field(ge=0)]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _speaker() -> Any:
    return Field(
        default=None,
        description="The name of who speaks; only in a job with `turns` or a voice in a tag.",
    )


class Segment(_Answer):
    """One sentence as it was spoken."""

    text: str = Field(description="The text of the sentence.")
    start: Seconds = Field(
        description="Seconds from the start of the audio to the start of the sentence."
    )
    end: Seconds = Field(
        description="Seconds from the start of the audio to the end of the sentence; the gap after "
        "it is not part of it."
    )
    audio_url: str | None = Field(
        default=None,
        description="A pre-signed URL of the sentence alone; only in a job with `stream`.",
    )
    speaker: str | None = _speaker()


class SpokenSegment(_Answer):
    """One sentence that is ready, while others are still being spoken."""

    status: Literal["segment"] = Field(
        default="segment", description="Always segment, which tells it from the answer."
    )
    index: Count = Field(
        description="The number of the sentence, from 0 on; sentences come in order."
    )
    total: Count = Field(description="How many sentences the job has.")
    text: str = Field(description="The text of the sentence.")
    start: Seconds = Field(
        description="Seconds from the start of the whole audio to the start of the sentence."
    )
    end: Seconds = Field(
        description="Seconds from the start of the whole audio to the end of the sentence; the gap "
        "after it is not part of it."
    )
    audio_url: str = Field(description="A pre-signed URL of the sentence's audio.")
    speaker: str | None = _speaker()

    def to_json(self) -> dict[str, JsonValue]:
        """Give plain JSON types, for RunPod."""
        return self.model_dump(mode="json", exclude_none=True)


class Progress(_Answer):
    """What RunPod's status shows of a job with `stream` that is under way."""

    done: Count = Field(description="How many sentences are ready.")
    total: Count = Field(description="How many sentences the job has.")
    segments: tuple[SpokenSegment, ...] = Field(
        max_length=PROGRESS_SEGMENTS,
        description="The sentences that became ready since the update before, in order; at most "
        f"{PROGRESS_SEGMENTS}.",
    )

    def to_json(self) -> dict[str, JsonValue]:
        """Give plain JSON types, for RunPod."""
        return self.model_dump(mode="json", exclude_none=True)


class TimedWord(_Answer):
    """One word of the text and its time."""

    word: str = Field(description="The word as it is written in the text.")
    start: Seconds = Field(
        description="Seconds from the start of the audio to the start of the word."
    )
    end: Seconds = Field(description="Seconds from the start of the audio to the end of the word.")
    score: Score | None = Field(
        default=None,
        ge=0,
        le=1,
        description="How sure the times are, from 0 to 1 in thousandths; left out where they are "
        "estimated.",
    )
    estimated: bool = Field(
        description="Whether the times are estimated from the words around it, as those of an "
        "emoji are."
    )
    speaker: str | None = _speaker()

    @classmethod
    def of(cls, timing: WordTiming, speaker: str | None = None) -> Self:
        """The aligner's word, as an answer has it."""
        return cls(
            word=timing.word,
            start=timing.start,
            end=timing.end,
            score=timing.score,
            estimated=timing.estimated,
            speaker=speaker,
        )


def timed_words(
    words: Iterable[WordTiming], speakers: Sequence[str | None]
) -> tuple[TimedWord, ...]:
    """The words as an answer has them; `speakers` are those of the sentences that they are of."""
    return tuple(TimedWord.of(word, speakers[word.sentence]) for word in words)


Warnings = Annotated[
    tuple[str, ...],
    Field(
        description="What the caller should know about speech that was made, and could have "
        "wanted otherwise: nothing where all is as the job says."
    ),
]


class VoiceUsed(_Answer):
    """The voice that spoke."""

    source: Literal["reference", "saved", "builtin", "style"] = Field(
        description="Where the voice comes from: reference (a recording), saved (an earlier job), "
        "builtin (a name that every worker knows), or style (designed for this job)."
    )
    name: str | None = Field(
        default=None,
        description="The name of the voice; only in a job with `voice` or `save_voice`.",
    )


class SpeakerUsed(VoiceUsed):
    """A speaker, and the voice that it spoke with."""

    speaker: str = Field(description="The name of the speaker.")


class Metrics(_Answer):
    """What the job cost."""

    seconds: dict[str, Seconds] = Field(
        description="Wall time of each stage, by its name. Among them are queue (waiting for a "
        "place on the worker and in the batch), codec (part of speech), first_audio (from the "
        "start of the job until its first sentence was ready), overhead (the worker's own: text, "
        "and what belongs to no stage and no waiting) and total."
    )
    sentences: Count = Field(description="How many sentences the text was split into.")
    tokens: Count = Field(description="How many tokens the language model made.")
    tokens_per_second: float = Field(
        ge=0, description="How many tokens the language model made in a second."
    )
    real_time_factor: float = Field(
        ge=0, description="Seconds of work for one second of audio; below 1 is faster than speech."
    )
    batch_occupancy: float = Field(
        ge=0,
        description="How many sentences of all jobs, this one's included, were spoken at the same "
        "time on average.",
    )
    truncated_sentences: Count = Field(
        description="How many sentences reached `max_length` before the model ended them."
    )
    silent_sentences: Count = Field(
        description="How many sentences have nothing in them that can be heard."
    )
    retries: Count = Field(
        default=0,
        description="How many times a sentence was spoken again, because something seemed to be "
        "wrong with it.",
    )
    faults: tuple[str, ...] = Field(
        default=(),
        description="What still seems to be wrong with the kept sentences: with their length, "
        "silence and sounds, and in a job with word timings or subtitles with their words.",
    )
    start: dict[str, Seconds] | None = Field(
        default=None,
        description="How the worker started; only in the first job that it took. Wall time of "
        "each stage, by its name: interpreter (Python itself), environment (finding or making what "
        "is installed on the volume), imports, model, aligner, storage, sdk (the library of the "
        "door), checks; and counted from the start of the process: ready (the worker takes jobs), "
        "accepted (this job came) and answered. Stages run at the same time.",
    )


class SpeechResponse(_Answer):
    """What a job that went well answers."""

    status: Literal["success"] = Field(default="success", description="Always success.")
    audio_url: str = Field(
        description="A pre-signed URL of the audio file; a file:// URL where the worker has no "
        "bucket."
    )
    sample_rate: int = Field(gt=0, description="The sample rate of the audio in hertz.")
    duration: Seconds = Field(description="The length of the audio in seconds.")
    loudness: float | None = Field(
        default=None,
        description="How loud the audio is, in LUFS, before a lossy encoder; only in a job with "
        "`loudness`.",
    )
    segments: tuple[Segment, ...] = Field(
        description="The sentences, in order; none where `segments_url` has them."
    )
    segments_url: str | None = Field(
        default=None,
        description="A pre-signed URL of a JSON file with the list of Segment; only in an answer "
        "that would be too large for RunPod with it.",
    )
    word_timings: tuple[TimedWord, ...] | None = Field(
        default=None,
        description="The words and their times, in order; only in a job with `enable_whisperx` or "
        "`enable_subtitles`, and where `word_timings_url` does not have them.",
    )
    word_timings_url: str | None = Field(
        default=None,
        description="A pre-signed URL of a JSON file with the list of TimedWord; only in an answer "
        "that would be too large for RunPod with it.",
    )
    subtitles_url: str | None = Field(
        default=None,
        description="A pre-signed URL of the subtitle file; only in a job with `enable_subtitles`.",
    )
    voice: VoiceUsed = Field(description="The voice that spoke; of several, the first one.")
    speakers: tuple[SpeakerUsed, ...] | None = Field(
        default=None,
        description="Who spoke, in the order of their first words; only in a job with `turns` or "
        "a voice in a tag.",
    )
    seed: int = Field(
        ge=0, description="The seed of the speech: the job's own, or the one that was chosen."
    )
    warnings: Warnings = ()
    metrics: Metrics = Field(description="What the job cost.")

    def to_json(self) -> dict[str, JsonValue]:
        """Give plain JSON types, absent fields left out, for RunPod."""
        return self.model_dump(mode="json", exclude_none=True)
