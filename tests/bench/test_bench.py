"""A small smoke of `make bench`: every case runs, on tiny weights, and every row has numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bench import accuracy, kernels
from tests.bench.bench import CASES
from tests.bench.device import step_bytes
from tests.bench.material import Material
from tests.bench.processes import compiling
from tests.bench.report import ROWS, Bound, failures, included, look, table, verdict
from tests.bench.scale import TINY_SCALE
from tests.support.worker_process import REPOSITORY, environment
from worker.speech.lm import LanguageModel

ELSEWHERE = ("start", "memory")  # measured by processes of their own, so beside the others


def test_the_kernels_are_timed_by_themselves(
    tmp_path: Path,
    kernel: object,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["kernels", "--sizes", "tiny", "--cache", str(tmp_path)])
    kernels.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(kernels.PROMPTS) + len(kernels.ROWS) + len(kernels.WAVES)
    assert all(float(line.split(": ")[1].split()[0]) > 0 for line in lines)


def test_the_benchmark_runs(tmp_path: Path) -> None:
    Material.make(tmp_path / "cache", TINY_SCALE)
    parts = [[name for name in CASES if name not in ELSEWHERE], list(ELSEWHERE)]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.bench.bench", "--sizes", "tiny", "--only", ",".join(part),
             "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / part[0])],
            env=compiling(environment(tmp_path)), cwd=REPOSITORY, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for part in parts
    ]  # fmt: skip
    for process in started:
        out, log = process.communicate(timeout=300)
        assert process.returncode == 0, log
        assert out.startswith(("AMD", "Intel", "unknown")) or "threads" in out
    files = [tmp_path / part[0] / "bench.json" for part in parts]
    results = json.loads(files[0].read_text()) | json.loads(files[1].read_text())
    assert set(CASES) <= set(results)
    for row in ROWS:
        if "peer." not in row.ours:  # llama.cpp is no part of the tests' environment
            figures = [look(results, path) for path in (row.theirs, row.ours, row.least.path)]
            assert all(figure is not None and figure > 0 for figure in figures), row.case
            assert verdict(row, results) != "not measured"
    exact = results["language_models"]["ours"]["float32"]
    assert exact["greatest_difference"] < 1e-3
    assert exact["top_1_agreement"] == 1
    assert exact["greedy_agreed"] == TINY_SCALE.greedy
    assert all(rate > 0 for rate in results["batch"]["tokens_per_second"].values())
    assert len(results["growth"]["aligning"]) == len(TINY_SCALE.aligned)
    pictures = {path.name for path in files[0].parent.glob("*.svg")}
    assert pictures == {"throughput.svg", "latency.svg", "growth.svg"}


MACHINE = {"processor": "P", "threads": 2, "device": "no GPU", "torch": "2", "commit": "c",
           "date": "d"}  # fmt: skip
SCALE = {"name": "full", "tokens": 60, "sentences": 8}


@pytest.mark.parametrize(
    ("times", "factor", "said"),
    [(5.9, 0.2, "NOT MET"), (6.0, 0.91, "met, aim not"), (6.1, 0.9, "aim met")],
)
def test_a_row_says_what_it_met(times: float, factor: float, said: str) -> None:
    case = {"theirs": 12.0, "ours": 2.0, "times": times, "real_time_factor": factor}
    results = {"machine": MACHINE, "scale": SCALE, "sentence": case}
    line = next(line for line in table(results).splitlines() if "(a)" in line)
    assert line.endswith(f"| {said} |")
    assert failures(results) == (["(a) one sentence"] if said == "NOT MET" else [])


def test_what_was_not_measured_is_neither_met_nor_failed() -> None:
    results = {"machine": MACHINE, "scale": SCALE}
    assert "not measured" in table(results)
    assert failures(results) == []
    assert Bound("a.b", 1).met({"a": {}}) is None


def test_errors_are_zero_of_equal_logits_and_grow_with_noise() -> None:
    exact = np.random.default_rng(0).standard_normal((20, 50)).astype(np.float32)
    noise = np.random.default_rng(1).standard_normal(exact.shape).astype(np.float32)
    assert set(accuracy.errors(exact, exact).values()) == {0.0, 1.0}
    found = accuracy.errors(exact, exact + 0.1 * noise)
    assert found["rms_difference"] == pytest.approx(0.1, rel=0.1)
    assert 0.003 < found["divergence"] < 0.007  # of two softmaxes: about variance / 2
    assert found["top_1_agreement"] < 1


def test_the_bytes_of_a_step_are_those_of_the_matrices(tmp_path: Path) -> None:
    material = Material.make(tmp_path, TINY_SCALE)
    lm = LanguageModel.load(material.checkpoint / "LLM", torch.float32, torch.device("cpu"))
    matrices = sum(p.numel() for n, p in lm.layers.named_parameters() if n.endswith("proj.weight"))
    assert step_bytes(lm.config, 7, 4) == 4 * (matrices + 7 * lm.config.hidden_size)


def test_the_table_takes_the_place_of_the_one_in_the_document() -> None:
    document = (REPOSITORY / "docs" / "PERFORMANCE.md").read_text()
    once = included(document, "| one |\n")
    assert included(once, "| two |\n") == once.replace("| one |", "| two |")
    with pytest.raises(ValueError, match="no place"):
        included("# Another\n", "| one |\n")
