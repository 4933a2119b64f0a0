"""The metrics of a job, for its answer and for the log."""

from __future__ import annotations

from pydantic import JsonValue

from worker.api.response import Metrics
from worker.job.retakes import Takes
from worker.stopwatch import Stopwatch

# What a job is for, and what it waits for; the rest of its time is the worker's own.
_STAGES = ("queue", "voice", "speech", "audio", "timing", "subtitles", "storage")


def metrics_of(watch: Stopwatch, takes: Takes, voice_tokens: int, duration: float) -> Metrics:
    """The metrics of a job that made `duration` seconds of audio.

    `voice_tokens` are those that the language model made to design the voice.
    """
    kept = [take.utterance for take in takes.kept]
    spoken = kept + [take.utterance for take in takes.dropped]
    codec = sum(utterance.codec_seconds for utterance in spoken)
    tokens = sum(utterance.tokens for utterance in spoken)
    # A voice is designed in the stage before.
    model = max(watch.seconds["speech"] - codec, 1e-9)
    return Metrics(
        seconds={
            **watch.seconds,
            "codec": codec,
            "overhead": overhead(watch),
            "total": watch.total,
        },
        sentences=len(kept),
        tokens=voice_tokens + tokens,
        tokens_per_second=tokens / model,
        real_time_factor=watch.total / duration,
        batch_occupancy=sum(utterance.occupancy for utterance in spoken) / len(spoken),
        truncated_sentences=sum(not utterance.complete for utterance in kept),
        silent_sentences=sum(not take.clip.length for take in takes.kept),
        retries=len(takes.dropped),
        faults=tuple(
            f"sentence {i}: {fault}"
            for i, take in enumerate(takes.kept, 1)
            for fault in take.verdict.faults
        ),
        start=watch.take_start(),
    )


def overhead(watch: Stopwatch) -> float:
    """Seconds that belong to no stage and to no waiting: what the worker itself costs."""
    return max(watch.total - sum(watch.seconds.get(stage, 0.0) for stage in _STAGES), 0.0)


def logged(metrics: Metrics) -> dict[str, JsonValue]:
    """The metrics as the log has them, which has the stages by themselves."""
    return metrics.model_dump(mode="json", exclude={"seconds", "faults"}, exclude_none=True)
