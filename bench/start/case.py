"""(e) From the start of a process to its first job, wherever the volume is."""

from __future__ import annotations

import logging
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench.scale import Scale
from bench.sides import Sides
from bench.start.launch import Launcher, Started
from bench.start.material import StartMaterial
from bench.start.places import Place, cold, slow, warm
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, s3_server
from tests.support.slow_volume import Counts, why_unavailable

BUCKET = "bench"
Where = Callable[[], AbstractContextManager[Place]]


def start(sides: Sides) -> dict[str, Any]:
    """All places, in turn: upstream's least worker, then ours."""
    sides.unload()
    scale, material = sides.scale, sides.material
    made = StartMaterial.make(material.volume.parents[1], scale, material)
    with launching(made, material.scratch, sides.dtype) as launcher:
        return measure(launcher, scale)


@contextmanager
def launching(made: StartMaterial, scratch: Path, dtype: str) -> Iterator[Launcher]:
    """What starts workers, with a bucket on this machine."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    with s3_server(BUCKET) as endpoint:
        bucket = {
            "S3_BUCKET_NAME": BUCKET,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": endpoint,
        }
        yield Launcher(made, scratch, dtype, bucket)


def measure(launcher: Launcher, scale: Scale) -> dict[str, Any]:
    """The starts of both sides at each place."""
    volume = launcher.material.volume
    launcher.install()
    sides = [launcher.ours, *([launcher.theirs] if scale.their_starts else [])]
    for side in sides * scale.warming_starts:
        with warm(volume) as place:
            side(place)
    results: dict[str, Any] = {"warm": _at("warm", partial(warm, volume), launcher, scale)}
    if scale.cold_starts:
        results["cold"] = _at("cold", partial(cold, volume), launcher, scale)
    missing = why_unavailable()
    if missing:
        results["missing"] = missing
        return results
    own_warm = results["warm"]["ours"]
    for milliseconds in scale.slow_starts:
        place = f"slow_{milliseconds:g}"
        found = _at(place, partial(slow, volume, milliseconds), launcher, scale)
        found["of_warm"] = round(found["ours"] / own_warm, 3)
        results[place] = found
        for calls in ("metadata", "their_metadata"):
            results[calls] = max(found.get(calls, 0), results.get(calls, 0))
    return results


def _at(name: str, where: Where, launcher: Launcher, scale: Scale) -> dict[str, Any]:
    """What so many starts took, each in a place of its own; each is told of."""
    taken: dict[str, list[Started]] = {"theirs": [], "ours": []}
    for number in range(max(scale.starts, scale.their_starts)):
        for side, wanted, launch in (
            ("theirs", scale.their_starts, launcher.theirs),
            ("ours", scale.starts, launcher.ours),
        ):
            if number < wanted:
                with where() as place:
                    started = launch(place)
                taken[side].append(started)
                print(f"{name}, {side}: {started.accepted:.2f} s", file=sys.stderr)
    return summary(taken["theirs"], taken["ours"])


def summary(theirs: list[Started], ours: list[Started]) -> dict[str, Any]:
    """Medians of both sides, and all that was measured; stages are those of the median start."""
    our_median = statistics.median(one.accepted for one in ours)
    typical = sorted(ours, key=lambda one: one.accepted)[(len(ours) - 1) // 2]
    answered = statistics.median(one.answered for one in ours if one.answered is not None)
    beside: dict[str, Any] = {}
    if theirs:
        their_median = statistics.median(one.accepted for one in theirs)
        beside = {
            "theirs": round(their_median, 2),
            "times": round(their_median / our_median, 2),
            "theirs_rounds": [round(one.accepted, 2) for one in theirs],
        }
    return beside | {
        "ours": round(our_median, 2),
        "answered": round(answered, 2),
        "ours_rounds": [round(one.accepted, 2) for one in ours],
        "stages": typical.stages,
        "began": typical.began,
        "accepted": round(typical.accepted, 2),
        **_volume("", [one.accepted_counts for one in ours]),
        **_volume("answered_", [one.answered_counts for one in ours]),
        **_volume("their_", [one.accepted_counts for one in theirs]),
    }


def _volume(prefix: str, counts: list[Counts | None]) -> dict[str, Any]:
    """Calls and megabytes of the start that had most; nothing where they are not counted."""
    counted = [count for count in counts if count is not None]
    if not counted:
        return {}
    most = max(counted, key=lambda count: count.metadata)
    return {
        f"{prefix}metadata": most.metadata,
        f"{prefix}opens": most.open,
        f"{prefix}reads": most.read,
        f"{prefix}megabytes": round(most.bytes_read / 1e6, 1),
    }
