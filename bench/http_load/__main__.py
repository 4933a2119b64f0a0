"""make load-http: first byte, continuity, and whether a worker stays as it is under listeners.

    python -m bench.http_load [--seconds 120] [--listeners 32,64] [--together 1,2,4,8,16]
                              [--rounds 5] [--volume FOLDER | --random full|tiny]
                              [--out docs/bench/http.json]

First so many listeners at the same moment, who all stay: first byte (from the request to the first
audio) and continuity (of a player that starts at the first byte: the share of streams whose worst
gap stays below 100 ms). Then more listeners than the worker takes at once, each asking again and
again, half of them leaving in the middle: what was refused, whether anything failed, and what the
process holds at the beginning and at the end. The exit status is 1 where anything failed.

--random takes random weights instead of the volume's model: they say nothing, at the speed of the
published ones (full), 5 s a sentence.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.http_load.clients import Round, for_a_while, together
from bench.http_load.worker import Holds, Worker, http_worker
from bench.material import MODEL, Material
from bench.playback import summary
from bench.scale import SCALES
from tests.support.worker_process import REPOSITORY, environment

LEAVING = 0.5  # the share of listeners who do not stay
RANDOM_TOKENS = 250  # of a sentence that never ends by itself


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; print tables and write the report; give the exit status."""
    options = _parser().parse_args(arguments)
    own, volume, more = _own_variables(), options.volume, {}
    if options.random is not None:
        material = Material.make(REPOSITORY / ".cache" / "bench", SCALES[options.random])
        volume, own["SPARK_MODEL"], more = material.volume, MODEL, {"max_length": RANDOM_TOKENS}
    env = environment(volume, **own)
    if here := os.environ.get("PYTHONPATH"):
        env["PYTHONPATH"] += os.pathsep + here
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        env["LOCAL_STORAGE_DIR"] = str(Path(name) / "storage")
        with http_worker(env, Path(name) / "worker.log") as worker:
            asyncio.run(together(worker.url, 1, 2, more))  # warm
            for number in options.together:
                found = asyncio.run(together(worker.url, number, options.rounds, more))
                rows.append({"kind": "together", **_row(found, number)})
            rows += [_while(worker, n, options.seconds, more) for n in options.listeners]
    report = {"machine": _machine(), "settings": own, "rows": rows}
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(table(rows))
    failed = [fault for row in rows for fault in row["failed"]]
    print("\n".join(failed[:20]), file=sys.stderr)
    return 1 if failed else 0


def _while(worker: Worker, number: int, seconds: float, more: dict[str, Any]) -> dict[str, Any]:
    begin = _settled(worker)
    found = asyncio.run(for_a_while(worker.url, number, seconds, LEAVING, number, more))
    return {
        "kind": "while",
        **_row(found, number),
        "seconds": seconds,
        "begin": asdict(begin),
        "end": asdict(_settled(worker)),
    }


def _settled(worker: Worker, seconds: float = 2.0) -> Holds:
    """What it holds once what was given up has had a moment to end."""
    time.sleep(seconds)
    return worker.holds()


def _row(found: Round, listeners: int) -> dict[str, Any]:
    counts = asdict(found.counts)
    return {"listeners": listeners, **counts, **(summary(found.streams) if found.streams else {})}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| " + " | ".join(name for name, _tell in COLUMNS) + " |",
        "| " + " | ".join("---" for _ in COLUMNS) + " |",
    ]
    lines += ["| " + " | ".join(tell(row) for _name, tell in COLUMNS) + " |" for row in rows]
    return "\n".join(lines)


def _ms(row: dict[str, Any]) -> str:
    if "first_audio_p50" not in row:
        return "-"
    return " / ".join(f"{1000 * row[f'first_audio_p{p}']:.0f}" for p in (50, 95, 99))


def _kept(row: dict[str, Any], what: str) -> str:
    return f"{row['begin'][what]:.0f} -> {row['end'][what]:.0f}" if "begin" in row else ""


COLUMNS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("listeners", lambda row: f"{row['listeners']} {row['kind']}"),
    ("heard", lambda row: str(row.get("streams", 0))),
    ("left", lambda row: str(row["left"])),
    ("429", lambda row: str(row["refused"])),
    ("failed", lambda row: str(len(row["failed"]))),
    ("first byte p50 / p95 / p99, ms", _ms),
    ("continuity", lambda row: f"{100 * row.get('continuity', 0):.1f} %"),
    ("worst gap, ms", lambda row: f"{1000 * row.get('worst_gap', 0):.0f}"),
    ("memory, MB", lambda row: _kept(row, "megabytes")),
    ("threads", lambda row: _kept(row, "threads")),
    ("handles", lambda row: _kept(row, "handles")),
)


def _own_variables() -> dict[str, str]:
    """What this run's caller sets of the worker."""
    names = ("HTTP_MAX_REQUESTS", "STREAM_LOOK_AHEAD", "SPARK_MODEL", "SPARK_DTYPE")
    return {name: os.environ[name] for name in names if name in os.environ}


def _machine() -> str:
    info = Path("/proc/cpuinfo").read_text()
    model = next(x.split(":")[1].strip() for x in info.splitlines() if x.startswith("model name"))
    return f"{os.cpu_count()} cores of {model}, Python {platform.python_version()}"


def _parser() -> argparse.ArgumentParser:
    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split(",") if part)

    parser = argparse.ArgumentParser(prog="python -m bench.http_load")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--listeners", type=numbers, default=(32, 64))
    parser.add_argument("--together", type=numbers, default=(1, 2, 4, 8, 16))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--volume", type=Path, default=REPOSITORY / ".volume")
    parser.add_argument("--random", choices=tuple(SCALES))
    parser.add_argument("--out", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
