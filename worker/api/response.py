"""What a job answers. docs/API.md is made from this module."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

PROGRESS_SEGMENTS = 20  # that one progress update tells of: some 40 kB


def _to_milliseconds(seconds: float) -> float:
    return round(seconds, 3)


Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_to_milliseconds)]
Count = Annotated[int, Field(ge=0)]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Segment(_Answer):
    """One sentence as it was spoken."""

    text: str = Field(description="The sentence.")
    start: Seconds = Field(description="Where the sentence begins, in seconds of the audio.")
    end: Seconds = Field(
        description="Where the sentence ends, in seconds of the audio; the gap is not part of it."
    )
    audio_url: str | None = Field(
        default=None, description="Pre-signed URL of the sentence alone, with `stream`."
    )


class SpokenSegment(_Answer):
    """One sentence that is ready, while others are still being spoken."""

    status: Literal["segment"] = Field(default="segment", description="Always segment.")
    index: Count = Field(description="Number of the sentence, from 0; they come in order.")
    total: Count = Field(description="Number of sentences of the job.")
    text: str = Field(description="The sentence.")
    start: Seconds = Field(description="Where the sentence begins, in seconds of the whole audio.")
    end: Seconds = Field(
        description="Where the sentence ends, in seconds of the whole audio, without the gap."
    )
    audio_url: str = Field(description="Pre-signed URL of the sentence's audio.")

    def to_json(self) -> dict[str, JsonValue]:
        """Give what RunPod is told: plain JSON types."""
        return self.model_dump(mode="json")


class Progress(_Answer):
    """What RunPod's status tells of a job with `stream` that is under way."""

    done: Count = Field(description="Number of sentences that are ready.")
    total: Count = Field(description="Number of sentences of the job.")
    segments: tuple[SpokenSegment, ...] = Field(
        max_length=PROGRESS_SEGMENTS,
        description="The sentences that the update before did not tell of, in order; at most "
        f"{PROGRESS_SEGMENTS}.",
    )

    def to_json(self) -> dict[str, JsonValue]:
        """Give what RunPod is told: plain JSON types."""
        return self.model_dump(mode="json")


class WordTiming(_Answer):
    """One word of the text and its time."""

    word: str = Field(description="The word as written.")
    start: Seconds = Field(description="Where the word begins, in seconds of the audio.")
    end: Seconds = Field(description="Where the word ends, in seconds of the audio.")
    score: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="How sure the alignment is, 0 to 1; left out where it is not measured.",
    )
    estimated: bool = Field(
        description="Whether the times come from the words around it, as those of an emoji do."
    )


class VoiceUsed(_Answer):
    """The voice that spoke."""

    source: Literal["reference", "saved", "style"] = Field(
        description="What the voice was made from: reference audio, a saved voice or a style."
    )
    name: str | None = Field(
        default=None,
        description="Name under which the voice is saved: the job's `voice` or `save_voice`.",
    )


class Metrics(_Answer):
    """What the job cost."""

    seconds: dict[str, Seconds] = Field(
        description="Wall time of each stage, by its name. Among them queue (the wait for a place "
        "on the worker and in the batch), codec (part of speech), first_audio (from the start to "
        "the first finished sentence), overhead (the worker's own: text, and what no stage and no "
        "wait accounts for) and total."
    )
    sentences: Count = Field(description="Number of sentences that the text was split into.")
    tokens: Count = Field(description="Number of tokens that the language model made.")
    tokens_per_second: float = Field(ge=0, description="Speed of the language model.")
    real_time_factor: float = Field(
        ge=0, description="Seconds of work for one second of audio; below 1 is faster than speech."
    )
    batch_occupancy: float = Field(
        ge=0,
        description="Sentences, of all jobs, that shared the batch with this job's on average.",
    )
    truncated_sentences: Count = Field(
        description="Sentences that reached `max_length` before the model ended them."
    )
    silent_sentences: Count = Field(description="Sentences in which nothing could be heard.")
    retries: Count = Field(
        default=0,
        description="How often a sentence was spoken again, because its words were not all found.",
    )
    faults: tuple[str, ...] = Field(
        default=(), description="What is still wrong with the words, where timings are asked for."
    )


class SpeechResponse(_Answer):
    """What a job that went well answers."""

    status: Literal["success"] = Field(default="success", description="Always success.")
    audio_url: str = Field(description="Pre-signed URL of the audio; file:// without a bucket.")
    sample_rate: int = Field(gt=0, description="Sample rate of the audio, in hertz.")
    duration: Seconds = Field(description="Length of the audio, in seconds.")
    segments: tuple[Segment, ...] = Field(description="The sentences, in order.")
    word_timings: tuple[WordTiming, ...] | None = Field(
        default=None, description="The words, in order; with enable_whisperx."
    )
    subtitles_url: str | None = Field(
        default=None, description="URL of the subtitle file; with enable_subtitles."
    )
    voice: VoiceUsed = Field(description="The voice that spoke.")
    seed: int = Field(ge=0, description="The job's seed, or the one that was drawn for it.")
    metrics: Metrics = Field(description="What the job cost.")

    def to_json(self) -> dict[str, JsonValue]:
        """Give what RunPod is answered: plain JSON types, absent fields left out."""
        return self.model_dump(mode="json", exclude_none=True)
