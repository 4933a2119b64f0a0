"""make load: many jobs of every kind, on workers that are killed, beside a bucket that fails.

Real worker processes on the demo model take jobs from the stand-in for RunPod's queue. Every few
seconds one of them is killed and replaced; one is left alone, to see whether it keeps growing. The
bucket fails a fifth of the calls, and the queue loses answers and delivers some jobs twice. At the
end, every job must have exactly one answer, and every URL in it must open.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from bench.endpoint_load.endpoint import SENTENCES, endpoint
from tests.platform.queue.server import Faults, Job
from tests.platform.queue.workers import Usage
from tests.support.s3 import SECRET_KEY, Order, Refusal
from tests.support.worker_process import environment, run

QUIET_JOBS = 15
CALM_SHARE = 1.2  # of what the workers could do one job at a time, at which calm jobs come
PLATFORM_FAULTS = Faults(
    take_error=0.02,
    take_garbage=0.01,
    take_lost=0.01,
    twice=0.01,
    done_error=0.05,
    done_refused=0.02,
    done_lost=0.03,
    done_reset=0.03,
    slow=0.05,
    slow_seconds=0.5,
    ping_error=0.05,
)


@dataclass(frozen=True)
class Size:
    """How much of it."""

    jobs: int = 1000
    workers: int = 4
    clients: int = 40  # jobs that are waited for at the same time
    kill_seconds: float = 6.0  # from one kill to the next
    kills: int = 1000  # at most
    storage_faults: float = 0.2
    concurrency: int = 8  # MAX_CONCURRENCY
    calm_jobs: int = 200  # that come by themselves while nothing fails
    calm_workers: int = 2


@dataclass(frozen=True)
class Asked:
    """A job, what it is called in the table and how it should end."""

    kind: str
    input: Any
    ends: tuple[str, ...] = ("COMPLETED",)
    cancel_after: float | None = None


@dataclass
class Report:
    """What was seen."""

    size: Size
    kinds: Counter[str] = field(default_factory=Counter)
    answered: int = 0  # exactly once, as they should end
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # ended otherwise than they should
    broken_urls: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)  # workers that nobody killed
    urls: int = 0
    again: int = 0  # answers that came from the bucket
    redelivered: int = 0
    kills: int = 0
    killed_jobs: int = 0  # that were under way then
    storage_faults: int = 0
    storage_calls: int = 0
    platform_faults: int = 0
    most_at_once: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    quiet_overhead: list[float] = field(default_factory=list)
    quiet_audio: list[float] = field(default_factory=list)
    quiet_seconds: list[float] = field(default_factory=list)
    calm: list[dict[str, float]] = field(default_factory=list)
    usage: dict[str, Usage] = field(default_factory=dict)
    temporary_files: dict[str, set[str]] = field(default_factory=dict)

    def percentiles(self) -> dict[str, float]:
        """Of the latencies of jobs that were answered with speech, in seconds."""
        return _percentiles(self.latencies)

    @property
    def leaks(self) -> list[str]:
        """What the worker that was never killed has more of than in the middle of the run."""
        middle, end = self.usage["middle"], self.usage["end"]
        left = self.temporary_files["end"] - self.temporary_files["start"]
        found = [f"temporary files: {', '.join(sorted(left))}"] if left else []
        if end.fds > middle.fds + 8:
            found.append(f"file handles: {middle.fds} -> {end.fds}")
        if end.threads > middle.threads + 8:
            found.append(f"threads: {middle.threads} -> {end.threads}")
        if end.rss_bytes > 1.15 * middle.rss_bytes:
            found.append(f"memory: {middle.rss_bytes >> 20} -> {end.rss_bytes >> 20} MiB")
        return found

    @property
    def good(self) -> bool:
        """Whether nothing is lost, doubled, wrong, broken or leaked."""
        bad = (self.lost, self.doubled, self.wrong, self.broken_urls, self.ended, self.leaks)
        return not any(bad) and self.answered == self.size.jobs

    def __str__(self) -> str:
        def usage(name: str) -> str:
            used = self.usage[name]
            return f"{used.fds} / {used.threads} / {used.rss_bytes >> 20}"

        rows = [
            ("jobs", f"{self.size.jobs} in {self.seconds:.0f} s"),
            *((f"  {kind}", str(count)) for kind, count in sorted(self.kinds.items())),
            ("answered exactly once", str(self.answered)),
            ("lost", str(len(self.lost))),
            ("doubled", str(len(self.doubled))),
            ("ended otherwise than they should", str(len(self.wrong))),
            ("URLs opened / broken", f"{self.urls} / {len(self.broken_urls)}"),
            ("workers killed and replaced", str(self.kills)),
            ("workers that ended by themselves", str(len(self.ended))),
            ("jobs that died with them", str(self.killed_jobs)),
            ("delivered more than once", str(self.redelivered)),
            ("answered again from the bucket", str(self.again)),
            ("faults of the bucket / calls", f"{self.storage_faults} / {self.storage_calls}"),
            ("faults of the platform", str(self.platform_faults)),
            ("clients / most jobs of one worker", f"{self.size.clients} / {self.most_at_once}"),
            *((f"latency {name}, s", f"{told:.2f}") for name, told in self.percentiles().items()),
            ("jobs of the calm part", f"{len(self.calm)} on {self.size.calm_workers} workers"),
            *(
                (f"  latency {name}, s", f"{told:.2f}")
                for name, told in _percentiles([job["seconds"] for job in self.calm]).items()
            ),
            ("overhead beyond the stages, p50, ms", _milliseconds(self.quiet_overhead)),
            ("trimming, joining, encoding, p50, ms", _milliseconds(self.quiet_audio)),
            *((f"fds / threads / MiB, {name}", usage(name)) for name in ("start", "middle", "end")),
            *(
                (f"temporary files, {name}", str(len(self.temporary_files[name])))
                for name in ("start", "end")
            ),
            ("leaked", "; ".join(self.leaks) or "0"),
        ]
        width = max(len(name) for name, _ in rows)
        faults = [*self.lost, *self.doubled, *self.wrong, *self.broken_urls, *self.ended]
        return "\n".join([f"{name:<{width}}  {told}" for name, told in rows] + faults[:20])

    def to_json(self) -> dict[str, Any]:
        """The figures, and of the calm part each job: what scripts.scaling.compare reads."""
        return {
            "command": "make load",
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, no GPU",
            "good": self.good,
            "seconds": round(self.seconds, 1),
            **asdict(self.size),
            "answered_once": self.answered,
            "lost": len(self.lost),
            "doubled": len(self.doubled),
            "wrong": len(self.wrong),
            "broken_urls": len(self.broken_urls),
            "leaks": self.leaks,
            "urls": self.urls,
            "killed_workers": self.kills,
            "ended_workers": len(self.ended),
            "killed_jobs": self.killed_jobs,
            "delivered_again": self.redelivered,
            "answered_again": self.again,
            "bucket_calls": self.storage_calls,
            "bucket_faults": self.storage_faults,
            "platform_faults": self.platform_faults,
            "most_jobs_of_one_worker": self.most_at_once,
            "latency": _percentiles(self.latencies),
            "overhead_ms": _milliseconds(self.quiet_overhead),
            "usage": {name: asdict(used) for name, used in self.usage.items()},
            "calm": {
                "workers": self.size.calm_workers,
                "concurrency": self.size.concurrency,
                "each": self.calm,
                "latency": _percentiles([job["seconds"] for job in self.calm]),
            },
        }


def _milliseconds(seconds: list[float]) -> str:
    return f"{1000 * float(np.median(seconds)):.1f}" if seconds else "-"


def _percentiles(seconds: list[float]) -> dict[str, float]:
    return {f"p{p}": round(float(np.percentile(seconds, p)), 4) for p in (50, 95, 99) if seconds}


def jobs(count: int, chance: random.Random) -> Iterator[Asked]:
    """So many jobs, of every kind."""
    kinds = {
        "short": 40, "long": 8, "cloned": 12, "saved voice": 10, "subtitles": 8, "streamed": 10,
        "bad input": 7, "cancelled": 5,
    }  # fmt: skip
    for n in range(count):
        # Each kind in turn first, so that a small run has all of them.
        kind = (
            list(kinds)[n]
            if n < len(kinds)
            else chance.choices(list(kinds), list(kinds.values()))[0]
        )
        yield _job(kind, n, chance)


def _job(kind: str, n: int, chance: random.Random) -> Asked:
    short = _short(chance.randrange(len(SENTENCES)))
    one = short["text"]
    long = _long(n, chance)
    if kind == "bad input":
        bad = chance.choice(
            [
                {**short, "speed_shift": "fast"},
                {**short, "text": ""},
                {"text": one, "voice": "nobody"},
                {**short, "prompt_speech_url": "nothing-there.wav"},
                [one],
            ]
        )
        return Asked(kind, bad, ("FAILED",))
    if kind == "cancelled":
        return Asked(kind, long, ("CANCELLED", "COMPLETED"), chance.uniform(0, 4))
    asked: dict[str, Any] = {
        "short": short,
        "long": long,
        "cloned": {**short, "output_format": chance.choice(["mp3", "flac", "ogg"]), "seed": n},
        "saved voice": chance.choice(
            [{"text": one, "voice": "kept"}, {**short, "save_voice": f"kept-{n % 5}"}]
        ),
        "subtitles": {**short, "enable_subtitles": True, "enable_whisperx": True},
        "streamed": {**long, "stream": True},
    }[kind]
    return Asked(kind, asked)


def _short(n: int) -> dict[str, Any]:
    return {"text": SENTENCES[n % len(SENTENCES)], "prompt_speech_url": "demo.wav"}


def _long(n: int, chance: random.Random) -> dict[str, Any]:
    text = " ".join(chance.choices(SENTENCES, k=4))
    return {"text": text, "prompt_speech_url": "demo.wav", "seed": n}


class Load:
    """One run."""

    def __init__(self, size: Size, folder: Path, seed: int = 1) -> None:
        self._size = size
        self._folder = folder
        self._chance = random.Random(seed)
        self._report = Report(size)
        self._over = threading.Event()
        self._lock = threading.Lock()  # of what follows
        self._asked: dict[str, Asked] = {}

    def run(self, volume: Path) -> Report:
        """Do it; the processes are gone afterwards."""
        concurrency = str(self._size.concurrency)
        with endpoint(volume, self._folder, MAX_CONCURRENCY=concurrency) as self._endpoint:
            self._queue, self._door = self._endpoint.queue, self._endpoint.door
            self._workers = self._endpoint.workers
            self._quiet()
            self._calm()
            self._loud()
            self._judge()
        return self._report

    def _quiet(self) -> None:
        """One worker and one job at a time, nothing failing: what the worker itself costs."""
        self._endpoint.grow_to(1)
        self._endpoint.ask({**_short(0), "save_voice": "kept"}, "quiet")
        for n in range(QUIET_JOBS):
            job = self._endpoint.ask(_short(n), f"quiet-{n}")
            seconds = job.output["metrics"]["seconds"]
            self._report.quiet_overhead.append(seconds["overhead"])
            self._report.quiet_audio.append(seconds["audio"])
            self._report.quiet_seconds.append(job.seconds)

    def _calm(self) -> None:
        """Jobs that come by themselves, nothing failing: what the simulation is held against."""
        self._endpoint.grow_to(self._size.calm_workers)
        # Long ones are four times as long, and a third of all: twice the mean.
        work = 2 * float(np.mean(self._report.quiet_seconds)) / self._size.calm_workers
        moments = list(
            accumulate(
                self._chance.expovariate(CALM_SHARE / work) for _ in range(self._size.calm_jobs)
            )
        )
        asked = [
            _long(n, self._chance) if self._chance.random() < 1 / 3 else _short(n)
            for n in range(self._size.calm_jobs)
        ]
        self._report.calm = self._endpoint.arrive(asked, moments)
        self._measure("start")

    def _loud(self) -> None:
        self._endpoint.grow_to(self._size.workers)
        self._door.chance = self._storage_fault
        self._queue.faults = PLATFORM_FAULTS
        killer = threading.Thread(target=self._kill, daemon=True)
        killer.start()
        begun = time.monotonic()
        with ThreadPoolExecutor(self._size.clients) as clients:
            waiting = [
                clients.submit(self._client, f"load-{n}", asked)
                for n, asked in enumerate(jobs(self._size.jobs, self._chance))
            ]
            for n, one in enumerate(waiting):
                one.result()
                if n == self._size.jobs // 2:
                    self._measure("middle")
        self._report.seconds = time.monotonic() - begun
        self._over.set()
        killer.join(200)
        self._look_for_ended()
        # Nothing fails any more, and what was cancelled has a moment to end.
        self._door.chance = lambda: None
        self._queue.faults = Faults()
        time.sleep(3)
        self._measure("end")

    def _measure(self, when: str) -> None:
        """What the worker that is never killed holds now."""
        survivor = self._workers[0]
        self._report.usage[when] = survivor.usage()
        self._report.temporary_files[when] = self._endpoint.scratch(survivor)

    def _storage_fault(self) -> Order | None:
        self._report.storage_calls += 1
        if random.random() >= self._size.storage_faults:
            return None
        self._report.storage_faults += 1
        faults: list[Order] = [Refusal(503, "SlowDown"), Refusal(500, "InternalError"), "reset"]
        return random.choice([*faults, "cut", 0.5])

    def _client(self, job_id: str, asked: Asked) -> None:
        with self._lock:
            self._asked[job_id] = asked
        self._queue.put(asked.input, job_id)
        if asked.cancel_after is not None:
            time.sleep(asked.cancel_after)
            self._queue.cancel(job_id)
        with suppress(TimeoutError):  # judged later
            self._queue.wait(job_id, 300)

    def _kill(self) -> None:
        """Kill one worker after the other that is up, but the first; start others in their place.

        One that is still starting would be no loss to anybody.
        """
        while self._report.kills < self._size.kills and not self._over.wait(
            self._size.kill_seconds
        ):
            self._look_for_ended()
            for place, process in sorted(
                enumerate(self._workers[1:], 1), key=lambda item: item[1].name
            ):
                if process.name in self._queue.workers:
                    self._report.kills += 1
                    self._report.killed_jobs += len(self._queue.workers[process.name].jobs)
                    process.kill()
                    self._workers[place] = self._endpoint.start_worker()
                    break

    def _look_for_ended(self) -> None:
        """Note workers that have ended though nobody killed them; start others in their place."""
        for place, process in enumerate(self._workers):
            if (status := process.process.poll()) is not None:
                lines = process.log.read_text().splitlines()
                said = [line for line in lines if '"level": "ERROR"' in line] + lines[-1:]
                self._report.ended.append(f"{process.name} ended with {status}: {said}")
                self._workers[place] = self._endpoint.start_worker()

    def _judge(self) -> None:
        report, queue = self._report, self._queue
        for job_id, asked in self._asked.items():
            job = queue.jobs[job_id]
            report.kinds[asked.kind] += 1
            report.redelivered += len(job.deliveries) > 1
            if not job.ended:
                report.lost.append(f"{job_id} ({asked.kind}) is {job.status}")
            elif job.status not in asked.ends:
                report.wrong.append(f"{job_id} ({asked.kind}) is {job.status}: {job.error}")
            elif _differ(job):
                report.doubled.append(f"{job_id} ({asked.kind}): {len(job.answers)} answers differ")
            else:
                report.answered += 1
            if job.status == "COMPLETED" and asked.kind != "cancelled":
                report.latencies.append(job.seconds)
        done = [queue.jobs[name] for name in self._asked if queue.jobs[name].output is not None]
        with ThreadPoolExecutor(4) as pool:
            for urls, broken in pool.map(_open, done):
                report.urls += urls
                report.broken_urls += broken
        report.platform_faults = sum(
            count for name, count in queue.counts.items() if name.startswith("fault: ")
        )
        report.most_at_once = max(worker.most for worker in queue.workers.values())
        for log in self._folder.glob("*.log"):
            text = log.read_text()
            assert SECRET_KEY not in text
            assert "X-Amz-Signature" not in text
            report.again += text.count('"event": "job answered again"')


def _differ(job: Job) -> bool:
    """Whether its answers tell different things, beside their URLs' signatures and metrics."""
    told = set()
    for answer in job.answers:
        output = answer.get("output") or {}
        urls = [url.split("?")[0] for url in _urls(output)]
        same = {name: output.get(name) for name in ("duration", "seed", "word_timings")}
        told.add(json.dumps([urls, same, answer.get("error")], sort_keys=True))
    return len(told) > 1


def _urls(output: dict[str, Any]) -> list[str]:
    segments = [segment.get("audio_url") for segment in output.get("segments", ())]
    return [url for url in (output.get("audio_url"), output.get("subtitles_url"), *segments) if url]


def _open(job: Job) -> tuple[int, list[str]]:
    """Read every URL of its answer; how many there are, and what is wrong with them."""
    broken = []
    urls = _urls(job.output)
    for url in urls:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                body = answer.read()
            if url == job.output["audio_url"]:
                samples, rate = soundfile.read(io.BytesIO(body))
                if abs(len(samples) / rate - job.output["duration"]) > 0.1:
                    broken.append(f"{job.id}: {len(samples) / rate} s, not as it says")
        except (OSError, soundfile.LibsndfileError) as error:
            broken.append(f"{job.id}: {url.split('?')[0]}: {error}")
    return len(urls), broken


def main() -> int:
    """Run it; 1 when anything was lost, doubled or leaked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in vars(Size()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--out", type=Path, help="write the figures here, as JSON")
    asked = vars(parser.parse_args())
    out = asked.pop("out")
    size = Size(**asked)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        volume = folder / "volume"
        done = run("-m", "volume", "install", "--model", "demo", env=environment(volume))
        if done.returncode:
            raise subprocess.CalledProcessError(
                done.returncode, done.args, done.stdout, done.stderr
            )
        report = Load(size, folder).run(volume)
    print(report)
    if out is not None:
        out.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
