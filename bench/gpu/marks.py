"""What must hold: each mark, where it is judged, and what a run says to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Found = Mapping[str, Any]
GPU, FULL = "a GPU", "the full scale"
MET, MISSED, NOT_JUDGED = "met", "missed", "not judged"


@dataclass(frozen=True)
class Mark:
    """A figure of a stage, and the bound that it must keep."""

    name: str
    stage: str
    figure: Callable[[Found], float | None]  # None where the stage has none
    bound: float
    at_most: bool = True
    needs: tuple[str, ...] = ()  # a GPU, the full scale: judged there alone

    def judge(self, found: Found | None, there: Iterable[str]) -> dict[str, Any]:
        """Value, bound and verdict; `found` is None of a stage that gave nothing."""
        value = None if found is None or "missing" in found else self.figure(found)
        verdict = NOT_JUDGED
        if value is not None and set(self.needs) <= set(there):
            kept = value <= self.bound if self.at_most else value >= self.bound
            verdict = MET if kept else MISSED
        return {
            "mark": self.name,
            "stage": self.stage,
            "value": value,
            "bound": f"{'≤' if self.at_most else '≥'} {self.bound:g}",
            "verdict": verdict,
        }


def _share(truths: Iterable[object]) -> float | None:
    """Of those that are true; None of none."""
    values = [bool(truth) for truth in truths]
    return sum(values) / len(values) if values else None


def _at(*path: str) -> Callable[[Found], float | None]:
    def figure(found: Found) -> float | None:
        value: Any = found
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    return figure


def _parts(found: Found) -> list[Found]:
    return [part for part in found.values() if isinstance(part, Mapping)]


def _replays(found: Found) -> float | None:
    """The least share of equal tokens at a size that is captured as it is."""
    return min(
        (part["replay_is_as_written"] for part in _parts(found) if part["captured"]),
        default=None,
    )


def _wide(found: Found) -> float | None:
    """The least share of wide draws that are torch's; None where torch makes them."""
    shares = found.get("wide_draws_are_torchs", {}).values()
    return min((share for share in shares if share is not None), default=None)


def _exact(name: str) -> Callable[[Found], float | None]:
    """Of both voices in float32 without TF32: the share of what is the CPU's."""

    def figure(found: Found) -> float | None:
        plain = [part for kind, part in found.items() if kind.endswith("float32")]
        return _share(same for part in plain for same in part[name])

    return figure


def _greatest(name: str) -> Callable[[Found], float | None]:
    return lambda found: max((part[name] for part in _parts(found)), default=None)


def _sustained(found: Found) -> float | None:
    """Of 64 clients; None where there were not as many slots."""
    clients: Found = found.get("one_after_the_other", {})
    return clients["audio_a_second"] if clients.get("clients") == 64 else None


def _first_audio(streams: int) -> Callable[[Found], float | None]:
    """Milliseconds, asked for together."""

    def figure(found: Found) -> float | None:
        seconds = _at("together", str(streams), "first_audio_p50")(found)
        return None if seconds is None else round(1e3 * seconds, 1)

    return figure


def _continuity(streams: int) -> Callable[[Found], float | None]:
    """The less of both ways of asking."""

    def figure(found: Found) -> float | None:
        shares = (_at(way, str(streams), "continuity")(found) for way in ("together", "staggered"))
        return min((share for share in shares if share is not None), default=None)

    return figure


_AT_SPEED = (GPU, FULL)
MARKS = (
    Mark("captured steps draw what steps as written draw, share", "graphs", _replays, 1,
         at_most=False, needs=(GPU,)),
    Mark("captured steps repeat, share", "graphs",
         lambda found: _share(part["repeats"] for part in _parts(found)), 1, at_most=False),
    Mark("tokens of a seed whatever a neighbour's top_k, share", "seeds",
         lambda found: _share(found["same"]), 1, at_most=False),
    Mark("draws from more than 64 tokens are torch's, share", "seeds", _wide, 0.95,
         at_most=False, needs=(GPU,)),
    Mark("flash-attn beside torch's attention, greatest difference", "attention",
         _greatest("difference"), 0.02, needs=(GPU,)),
    Mark("flash-attn writes the same cache, share", "attention",
         lambda found: _share(part["same_cache"] for part in _parts(found)), 1, at_most=False,
         needs=(GPU,)),
    Mark("greedy tokens in float32 equal to the CPU's, share", "small", _exact("greedy_same"), 1,
         at_most=False),
    Mark("bfloat16 logits, rms by their spread", "logits", _at("rms"), 0.05, needs=(FULL,)),
    Mark("int8 logits beside bfloat16's, rms by their spread", "int8",
         _at("rms_beside_bfloat16"), 0.1, needs=_AT_SPEED),
    Mark("streams in company, greatest difference of audio", "company",
         _at("greatest_difference"), 0.01),
    Mark("jobs answered with little memory, share", "memory",
         lambda found: _share(found["answered"]), 1, at_most=False, needs=(GPU,)),
    Mark("a row without logits fails", "nan", lambda found: float(found["fails"]), 1,
         at_most=False),
    Mark("rows beside it and after it the same, share", "nan",
         lambda found: _share([*found["others_the_same"], *found["afterwards_the_same"]]), 1,
         at_most=False),
    Mark("one stream, tokens a second", "rates", _at("tokens_a_second", "1"), 500,
         at_most=False, needs=_AT_SPEED),
    Mark("one stream, RTF with the codec", "jobs", _at("1", "rtf"), 0.10, needs=_AT_SPEED),
    Mark("64 clients, a sentence after the other, seconds of audio a second", "jobs",
         _sustained, 150, at_most=False, needs=_AT_SPEED),
    Mark("first audio p50 of one stream, ms", "streams", _first_audio(1), 150, needs=_AT_SPEED),
    Mark("first audio p50 of 32 streams together, ms", "streams", _first_audio(32), 300,
         needs=_AT_SPEED),
    Mark("streams without an audible gap at 64, together and staggered, share", "streams",
         _continuity(64), 0.99, at_most=False, needs=_AT_SPEED),
    Mark("kernels a token", "profile", _at("1", "kernels"), 240, needs=(GPU,)),
    Mark("step of one row, ms", "step", _at("one row of 1"), 2, needs=_AT_SPEED),
    Mark("capture of all steps, s", "start", _at("capture_again_s"), 3, needs=_AT_SPEED),
    Mark("Python a step of 64 rows, us", "python", _at("64", "scheduler_us"), 60,
         needs=_AT_SPEED),
    Mark("waveform of a known length, ms", "codec", _at("known_length"), 15, needs=_AT_SPEED),
    Mark("64 jobs, seconds of audio a second", "jobs", _at("64", "audio_a_second"), 120,
         at_most=False, needs=_AT_SPEED),
    Mark("one row with top_k 0, times as ever", "cliffs", _at("one_row_with_top_k_0"), 1.5,
         needs=_AT_SPEED),
    Mark("half the voices designed, times as ever", "cliffs", _at("half_designed_voices"), 1.5,
         needs=_AT_SPEED),
    Mark("beside a busy Python thread, times as ever", "cliffs", _at("beside_a_busy_thread"), 6,
         needs=_AT_SPEED),
)  # fmt: skip
