"""The queue simulation: against closed formulas, against its own rules, against a real worker."""

from __future__ import annotations

import json
import random
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scripts.scaling import gpu
from scripts.scaling.compare import FACTOR, LOAD, compare
from scripts.scaling.erlang import erlang_c, mean_sharing, mean_wait
from scripts.scaling.inputs import HERE, MEASURED, Job, Platform, Texts, Worker, worker_of
from scripts.scaling.simulation import percentile, poisson, simulate, simulate_clients


def exponential(mean: float):
    return lambda chance: Job(1, chance.expovariate(1 / mean))


def fixed_workers(number: int) -> Platform:
    return Platform(least=number, most=number, queue_delay=None, idle_seconds=1.0)


def test_erlang_c_against_known_values() -> None:
    assert erlang_c(1, 0.7) == pytest.approx(0.7)  # M/M/1: the load itself
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert erlang_c(10, 8.0) == pytest.approx(0.4092, abs=5e-5)
    assert mean_wait(1, 0.5, 1.0) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="more than 2"):
        erlang_c(2, 2.0)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.6), (4, 3.0), (12, 10.0)])
def test_one_job_a_worker_is_m_m_c(servers: int, load: float) -> None:
    kind = Worker(speed=((1, 10.0),), slots=1, start_seconds=0.0)  # 10 tokens: 1 s
    arrivals = poisson(load, 25_000 / load, exponential(10.0), seed=5)
    found = simulate(arrivals, kind, fixed_workers(servers))
    waited = sum(wait > 1e-9 for wait in found.waits) / len(found.waits)
    assert waited == pytest.approx(erlang_c(servers, load), rel=0.05)
    assert statistics.mean(found.waits) == pytest.approx(mean_wait(servers, load, 1.0), rel=0.1)


@pytest.mark.parametrize("shape", ["exponential", "log-normal"])
def test_many_jobs_a_worker_share_its_speed(shape: str) -> None:
    """M/G/1 with processor sharing: the mean does not depend on the distribution."""
    kind = Worker(speed=((1, 10.0),), slots=10_000, start_seconds=0.0)

    def draw(chance: random.Random) -> Job:
        return Job(1, 10 * chance.lognormvariate(-0.5, 1.0))  # of mean 10

    jobs = exponential(10.0) if shape == "exponential" else draw
    found = simulate(poisson(0.6, 60_000, jobs, seed=3), kind, fixed_workers(1))
    assert statistics.mean(found.latencies) == pytest.approx(mean_sharing(0.6, 1.0), rel=0.06)


def test_a_batch_is_as_fast_as_its_rows() -> None:
    kind = Worker(speed=((1, 100.0), (4, 200.0)), slots=4, start_seconds=0.0, fixed_seconds=0.5)
    alone = simulate([(0.0, Job(1, 100.0))], kind, fixed_workers(1))
    assert alone.latencies == pytest.approx([1.5])
    four = simulate([(0.0, Job(1, 100.0))] * 4, kind, fixed_workers(1))
    assert four.latencies == pytest.approx([2.5] * 4)
    rows = simulate([(0.0, Job(4, 400.0))], kind, fixed_workers(1))
    assert rows.latencies == pytest.approx([2.5])
    assert kind.tokens_per_second(2) == pytest.approx(100 + 100 / 3)
    assert kind.tokens_per_second(50) == 200


def test_a_start_is_waited_for_and_billed_until_the_idle_timeout() -> None:
    kind = Worker(speed=((1, 100.0),), slots=2, start_seconds=20.0)
    found = simulate([(0.0, Job(1, 100.0))], kind, Platform(most=3, idle_seconds=5.0))
    assert found.waits == pytest.approx([20.0])
    assert found.latencies == pytest.approx([21.0])
    assert (found.starts, found.billed_seconds) == (1, 26)
    assert found.busy_seconds == pytest.approx(1.0)


def test_workers_are_added_for_jobs_that_wait_and_no_more_than_allowed() -> None:
    kind = Worker(speed=((1, 1.0),), slots=1, start_seconds=1.0)
    jobs = [(0.1 * n, Job(1, 30.0)) for n in range(10)]
    found = simulate(jobs, kind, Platform(most=4, queue_delay=4.0))
    assert found.most_workers == 4
    assert len(found.latencies) == 10
    by_count = simulate(jobs, kind, Platform(most=9, queue_delay=None, per_worker=2))
    assert by_count.most_workers == 5


def test_a_full_worker_asks_for_no_job_for_a_while() -> None:
    kind = Worker(speed=((1, 1.0),), slots=2, start_seconds=0.0, pause_seconds=1.0)
    # The first fills it, as a job just taken counts twice: the second is taken a second later.
    one_by_one = simulate([(0.0, Job(1, 5.0)), (0.3, Job(1, 0.1))], kind, fixed_workers(1))
    assert one_by_one.waits == pytest.approx([0.0, 0.7])
    # It is full from 0.0 on and free at 0.2, but asks again at 1.0.
    both = [(0.0, Job(1, 0.1)), (0.0, Job(1, 0.1)), (0.1, Job(1, 0.1))]
    assert simulate(both, replace(kind, slots=1), fixed_workers(1)).waits == [0.0, 1.0, 1.9]
    assert max(simulate(both, replace(kind, slots=9), fixed_workers(1)).waits) == 0


def test_an_idle_endpoint_has_no_worker_but_the_active_ones() -> None:
    kind = Worker(speed=((1, 1.0),), slots=1, start_seconds=1.0)
    jobs = [(0.0, Job(1, 1.0)), (1000.0, Job(1, 1.0))]
    flexible = simulate(jobs, kind, Platform(most=2, idle_seconds=5.0))
    assert (flexible.starts, flexible.billed_seconds) == (2, 14)
    active = simulate(jobs, kind, Platform(least=1, most=2, idle_seconds=5.0))
    assert active.starts == 0
    assert active.billed_seconds >= 1001
    assert active.latencies == pytest.approx([1.0, 1.0])


def test_the_same_seed_gives_the_same_result() -> None:
    values = json.loads(MEASURED.read_text())
    kind = worker_of(values["workers"]["gpu_24gb"])
    runs = [
        simulate(poisson(2, 200, Texts().draw, seed=1), kind, Platform(most=9)) for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_every_speed_names_its_source() -> None:
    values = json.loads(MEASURED.read_text())
    for name, about in values["workers"].items():
        worker_of(about)
        if about["from"] == "measured":
            assert about["command"], name
            assert about["machine"], name
        else:
            assert about["from"].startswith("ASSUMED"), name
        if "measured" in about:
            file = HERE.parent / about["measured"]["report"]
            found = gpu.from_report(json.loads(file.read_text()), file.name)
            assert about | found == about, (
                f"run: python -m scripts.scaling.gpu {name} {file} --write"
            )
    assert values["prices"]["source"].startswith("https://")


def test_what_a_gpu_was_measured_to_do_takes_the_place_of_what_was_assumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wave(audio: float, alone: float) -> dict[str, float]:
        return {"audio_a_second": audio, "language_model_alone": alone}

    jobs = {
        "1": wave(5, 8), "64": wave(100, 200), "8": wave(30, 40), "peak_mb": 9,
        "one_after_the_other": {"audio_a_second": 90},
    }  # fmt: skip
    machine = {"card": "NVIDIA H100", "torch": "2.11.0", "commit": "abc"}
    report = {"machine": machine, "stages": {"jobs": {"found": jobs}}}
    (tmp_path / "h100.json").write_text(json.dumps(report))
    inputs = tmp_path / "measured.json"
    inputs.write_text(MEASURED.read_text())
    monkeypatch.setattr(gpu, "MEASURED", inputs)
    asked = ["gpu_80gb", str(tmp_path / "h100.json")]
    gpu.main(asked)
    assert inputs.read_text() == MEASURED.read_text()  # only shown
    gpu.main([*asked, "--write"])
    before, after = (json.loads(file.read_text())["workers"] for file in (MEASURED, inputs))
    mine = after.pop("gpu_80gb")
    assert after == {name: about for name, about in before.items() if name != "gpu_80gb"}
    assert mine["speed"] == {"1": 400, "8": 2000, "64": 10_000}
    kind = worker_of(mine)
    assert kind.tokens_per_second(64) == pytest.approx(5000)  # with the codec: 100 s a second
    assert kind.start_seconds == before["gpu_80gb"]["start_seconds"]
    assert "commit abc" in mine["measured"]["machine"]
    with pytest.raises(SystemExit, match="no such worker"):
        gpu.main(["gpu_9gb", str(tmp_path / "h100.json")])
    with pytest.raises(ValueError, match="has no jobs"):
        gpu.from_report({"machine": machine, "stages": {"jobs": {"found": None}}}, "h100.json")


def test_texts_have_the_median_that_they_say() -> None:
    chance = random.Random(2)
    drawn = [Texts().draw(chance) for _ in range(4000)]
    assert percentile([job.tokens / 3.5 for job in drawn], 0.5) == pytest.approx(150, rel=0.05)
    assert all(1 <= job.rows <= 223 for job in drawn)


@pytest.fixture(scope="module")
def demo() -> Worker:
    return worker_of(json.loads(MEASURED.read_text())["workers"]["demo_cpu"])


def test_a_steady_number_of_jobs_takes_as_long_as_it_did(demo: Worker) -> None:
    """The speeds come from these very rounds: this holds the batch's arithmetic, no more."""
    for seen in json.loads((HERE / "rounds.json").read_text())["rounds"]:
        job = Job(max(1, round(seen["rows"])), seen["tokens"])
        kind = replace(demo, slots=32)
        found = simulate_clients(seen["clients"], seen["jobs"], job, kind, fixed_workers(1))
        assert len(found.latencies) == seen["jobs"]
        ratio = found.latency(0.5) / seen["latency"]["p50"]
        assert 1 / FACTOR < ratio < FACTOR, seen


def test_the_load_test_took_as_long_as_simulated(demo: Worker) -> None:
    """None of the inputs comes from the load test."""
    load = json.loads(LOAD.read_text())
    assert load["good"]
    assert len(load["calm"]["each"]) >= 200
    found = compare(load["calm"], demo)
    seconds = [job["seconds"] for job in load["calm"]["each"]]
    assert found.seen["p99"] == pytest.approx(np.percentile(seconds, 99), abs=1e-3)
    assert found.worst() < FACTOR, found


def test_a_load_test_of_several_workers_is_simulated() -> None:
    kind = Worker(speed=((1, 100.0),), slots=1, start_seconds=9.0)
    each = [{"at": 0.0, "rows": 1, "tokens": tokens} for tokens in [100] * 6 + [400, 100]]
    seen = {"p50": 2.0, "p95": 4.0, "p99": 6.0}
    load = {"workers": 2, "concurrency": 1, "each": each, "latency": seen}
    found = compare(load, kind)
    assert found.simulated == {"p50": 2.0, "p95": 7.0, "p99": 7.0}
    assert found.worst() == 1.75
    assert "| p95 | 4.00 s | 7.00 s | 1.75 |" in found.table()
