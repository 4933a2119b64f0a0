"""The GPU check's arithmetic, its table, and which report is the newest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.gpu import figures
from bench.gpu.marks import FULL, GPU, MARKS, MET, MISSED, NOT_JUDGED
from bench.gpu.scale import SCALES
from bench.gpu.steps import PROFILED, one_step
from bench.gpu.users import steady_rate
from bench.step_bytes import key_value_bytes
from worker.speech.lm.config import LMConfig


def test_the_steady_rate_is_that_while_all_clients_were_busy() -> None:
    """Two clients end something each second, 3 each time; the first and the last were alone."""
    ended = [(10.0, 3.0), (12.0, 3.0), (13.0, 3.0), (14.0, 3.0), (15.0, 3.0), (19.0, 3.0)]
    assert steady_rate(ended, 2) == pytest.approx(3.0)
    assert steady_rate(list(reversed(ended)), 2) == pytest.approx(3.0)


def test_too_few_ends_have_no_steady_rate() -> None:
    with pytest.raises(ValueError, match="no steady part"):
        steady_rate([(1.0, 1.0), (2.0, 1.0)], 2)


def test_copies_are_no_kernels_and_a_step_is_one_of_those_profiled() -> None:
    found = one_step(
        [
            ("gemm", 24 * PROFILED, 300.0 * PROFILED),
            ("Memcpy DtoD (Device -> Device)", 2 * PROFILED, 5.0 * PROFILED),
            ("Memset (Device)", PROFILED, 1.0 * PROFILED),
            ("norm", 49 * PROFILED, 694.0 * PROFILED),
            ("cudaGraphLaunch", PROFILED, 0.0),  # of the host: it takes the device no time
        ]
    )
    assert (found["kernels"], found["copies"], found["busy_ms"]) == (73, 3, 1.0)
    assert found["longest"][0] == ["norm", 49, 694.0]


def test_keys_and_values_are_those_of_all_layers_rows_and_positions() -> None:
    config = LMConfig(1, 14 * 64, 1, 24, 14, 2, 32_768, 1e-6, 1e6, tie_word_embeddings=True)
    assert key_value_bytes(config, 1, 1, 2) == 12_288
    assert key_value_bytes(config, 64, 300, 2) == 64 * 300 * 12_288


@pytest.mark.parametrize(("count", "rounds"), [(1, 10), (8, 10), (32, 3), (64, 2), (200, 2)])
def test_percentiles_are_of_enough_streams(count: int, rounds: int) -> None:
    assert SCALES["full"].stream_rounds(count) == rounds


def judged(stage: str, found: dict[str, Any]) -> dict[str, tuple[float | None, str]]:
    return {
        mark.name: (judgement["value"], judgement["verdict"])
        for mark in MARKS
        if mark.stage == stage
        for judgement in [mark.judge(found, [GPU, FULL])]
    }


def test_streams_are_judged_by_the_worse_way_of_asking() -> None:
    def heard(first: float, share: float) -> dict[str, float]:
        return {"first_audio_p50": first, "continuity": share}

    found = {
        "together": {"1": heard(0.1, 1), "32": heard(0.31, 1), "64": heard(0.2, 1.0)},
        "staggered": {"64": heard(9, 0.98)},
    }
    values = judged("streams", found)
    assert list(values.values()) == [(100, MET), (310, MISSED), (0.98, MISSED)]
    assert {verdict for _, verdict in judged("streams", {}).values()} == {NOT_JUDGED}


@pytest.mark.parametrize(
    ("clients", "verdict"), [(64, MET), (48, NOT_JUDGED)]
)  # of fewer slots the mark does not speak
def test_sustained_speech_is_judged_of_64_clients(clients: int, verdict: str) -> None:
    found = {"one_after_the_other": {"clients": clients, "audio_a_second": 151}}
    (mark,) = [name for name in judged("jobs", found) if "sentence after the other" in name]
    assert judged("jobs", found)[mark][1] == verdict


# The table


MACHINE = {
    "card": "NVIDIA H100 80GB HBM3", "driver": "1", "torch": "2.11.0", "cuda": "13.0",
    "cudnn": 1, "flash_attn": "none", "python": "3.12", "cpus": 16, "commit": "abc",
    "changed": False, "date": "2026-01-02",
}  # fmt: skip


def report(**stages: Any) -> dict[str, Any]:
    outcome = {"seconds": 1.0, "outcome": "done"}
    return {
        "machine": MACHINE,
        "scale": "full",
        "marks": [],
        "stages": {name: {**outcome, "found": found} for name, found in stages.items()},
    }


def test_the_table_has_all_sides_and_leaves_out_what_nobody_measured() -> None:
    rates = {"tokens_a_second": {"1": 512.3, "8": 3000.0}, "rtf": 0.0976}
    found = report(
        rates=rates,
        unfused={
            "rates": {"tokens_a_second": {"1": 250.0}, "rtf": 0.2},
            "profile": {"missing": "a GPU"},
            "load_s": 3,
        },
        upstream={"tokens_a_second": 31.2, "rtf": 1.6, "load_s": 4.5, "peak_mb": 1500},
        start={"load_s": [9.0, 2.5], "gpu_mb": [1, 12_314]},
        profile={"64": {"kernels": 140}, "1": {"kernels": 130}},
        streams={"together": {"32": {"first_audio_p50": 0.2714}}, "staggered": {}},
    )
    rows = {row[0].partition(":")[0]: row[1:] for row in figures.table(found)[1:]}
    assert rows == {
        "language model alone, tokens/s": ("31.2", "250 / - / - / -", "512 / 3,000 / - / -"),
        "RTF of one stream, language model alone": ("1.6", "0.2", "0.0976"),
        "first audio p50, ms": ("-", "-", "- / - / 271 / -"),
        "kernels a token": ("-", "-", "130 / 140"),
        "load, s": ("4.5", "3", "2.5"),
        "memory after the load / at most, MiB": ("- / 1,500", "-", "12,314 / -"),
    }


@pytest.mark.parametrize("found", [None, {"missing": "transformers is not installed"}])
def test_what_failed_or_was_missing_is_a_dash(found: Any) -> None:
    rows = figures.table(report(rates={"rtf": 0.1}, unfused=found, upstream=found))
    assert rows[1:] == [("RTF of one stream, language model alone", "-", "-", "0.1")]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.00004, "0"), (0.0352, "0.0352"), (12.34, "12.3"), (99.96, "100"),
     (9240.4, "9,240"), (1.0, "1"), (0.0008, "0.0008")],
)  # fmt: skip
def test_numbers_have_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert figures.plain(value) == text


def test_the_newest_report_in_full_of_a_gpu_is_taken(tmp_path: Path) -> None:
    assert figures.newest(tmp_path) is None
    runs = {
        "a": ({"date": "2026-01-02", "time": "08:00"}, "full", {"rates": {"rtf": 1}}),
        "b": ({"date": "2026-01-02", "time": "14:30"}, "full", {"rates": {"rtf": 2}}),
        "c": ({"date": "2026-01-03"}, "full", {"jobs": {}}),  # without rates
        "d": ({"date": "2026-01-04"}, "tiny", {"rates": {"rtf": 4}}),
        "e": ({"date": "2026-01-04", "card": "cpu"}, "full", {"rates": {"rtf": 5}}),
        "f": ({"date": "2026-01-01", "time": "23:59"}, "full", {"rates": {"rtf": 6}}),
    }
    for name, (machine, scale, stages) in runs.items():
        run = report(**stages) | {"machine": MACHINE | machine, "scale": scale}
        (tmp_path / f"{name}.json").write_text(json.dumps(run))
    newest = figures.newest(tmp_path)
    assert newest is not None
    assert newest["stages"]["rates"]["found"] == {"rtf": 2}
