"""A small smoke of `make bench`: every case runs, on tiny weights, and every row has numbers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread, current_thread
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench import __main__ as bench
from bench import accuracy, alignment, device, kernels, precision
from bench.__main__ import CASES
from bench.gpu import beside
from bench.gpu.bench import Bench
from bench.gpu.scale import SCALES
from bench.material import Material
from bench.measure import seconds
from bench.ours import Ours, exactly
from bench.processes import compiling
from bench.report import ROWS, Bound, failures, included, look, table, verdict
from bench.scale import TINY_SCALE
from bench.sentences import sentences
from bench.sides import Sides
from bench.step_bytes import BYTES, weight_bytes
from tests.support.in_process import in_process
from tests.support.slow_volume import why_unavailable
from tests.support.worker_process import REPOSITORY, environment
from worker.serve.startup import SWITCH_SECONDS
from worker.speech.codec.speech_stream import SpeechStream
from worker.speech.engine import Piece, Utterance
from worker.speech.lm.config import LMConfig
from worker.speech.lm.torch_model import LanguageModel
from worker.speech.native.lm import LmKernel

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


def test_precisions_are_compared_without_a_gpu(
    kernel: object, capsys: pytest.CaptureFixture[str]
) -> None:
    precision.main(["--sizes", "tiny"])
    _head, _line, *rows = (
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in capsys.readouterr().out.splitlines()
    )
    logits = {kind: float(rms) for _model, kind, _hidden, rms, _same in rows}
    assert set(logits) == {"bfloat16, torch", "bfloat16, GPU", "int8, CPU", "int8, GPU"}
    assert 0 < logits["bfloat16, GPU"] < logits["bfloat16, torch"] < 0.02
    assert logits["bfloat16, GPU"] < logits["int8, GPU"] < logits["int8, CPU"] < 0.05


def test_the_alignment_is_timed_by_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(alignment, "ROUNDS", 1)
    threads = torch.get_num_threads()
    try:
        alignment.main()
    finally:
        torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * len(alignment.SECONDS)
    figures = r", [1-9]\d* characters: WhisperX (\d+\.\d+) ms, ours (\d+\.\d+) ms$"
    assert all(re.search(figures, line) for line in lines)


def test_the_benchmark_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Material.make(tmp_path / "cache", TINY_SCALE)
    parts = [[name for name in CASES if name not in ELSEWHERE], list(ELSEWHERE)]
    env = compiling(environment(tmp_path))
    here, elsewhere = (
        ["--sizes", "tiny", "--only", ",".join(part), "--cache", str(tmp_path / "cache"),
         "--out", str(tmp_path / part[0])]
        for part in parts
    )  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", *elsewhere],
        env=env, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        with in_process(env, "bench", *here):
            assert bench.main() == 0
            assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)  # as in a worker
        out, log = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, log
    for printed in (capsys.readouterr().out, out):
        assert re.search(r", \d+ threads, .+, torch 2", printed), printed
    files = [tmp_path / part[0] / "bench.json" for part in parts]
    results = json.loads(files[0].read_text()) | json.loads(files[1].read_text())
    assert set(CASES) <= set(results)
    for row in ROWS:
        # llama.cpp is no part of the tests' environment, and no start waits here.
        if not row.ours.startswith(("peer.", "start.slow_", "start.metadata")):
            figures = [look(results, path) for path in (row.theirs, row.ours, row.least.path)]
            assert all(figure is not None and figure > 0 for figure in figures), row.case
            assert verdict(row, results) != "not measured"
    exact = results["language_models"]["ours"]["float32"]
    assert exact["greatest_difference"] < 1e-3
    assert exact["top_1_agreement"] == 1
    assert exact["greedy_agreed"] == TINY_SCALE.greedy
    assert all(rate > 0 for rate in results["batch"]["tokens_per_second"].values())
    assert len(results["growth"]["aligning"]) == len(TINY_SCALE.aligned)
    stream = results["first_audio"]
    assert stream["stream_first_audio"] > 0
    assert stream["whole_sentence"] > 0
    assert set(results["concurrency"]["audio_seconds_per_second"]) == {"1", "2"}
    pictures = {path.name for path in files[0].parent.glob("*.svg")}
    assert pictures == {"throughput.svg", "latency.svg", "growth.svg"}
    check_starts(results["start"], why_unavailable())
    assert "imports" in (files[1].parent / "starts.svg").read_text()
    assert "| imports |" in out


def check_starts(found: dict[str, Any], no_mount: str | None) -> None:
    """Ours was started as in production, and read all that it read through the mount."""
    warm = found["warm"]
    stages = {"interpreter", "environment", "imports", "model", "aligner", "storage", "sdk",
              "checks"}  # fmt: skip
    assert stages <= set(warm["stages"])
    for name in stages:  # the kernel tells a process's begin to 10 ms
        assert 0 <= warm["began"][name] <= warm["began"][name] + warm["stages"][name]
        assert warm["began"][name] + warm["stages"][name] < warm["ours"] + 0.1, name
    assert warm["ours"] < warm["answered"]
    if no_mount is not None:
        assert found["missing"] == no_mount
        return
    slow = found["slow_0"]
    assert found["metadata"] == slow["metadata"] > slow["opens"] > 20
    assert slow["metadata"] <= slow["answered_metadata"]
    # torch alone has a library of 240 MB, and even an import reads 100 of them.
    assert 100 < slow["megabytes"] <= slow["answered_megabytes"]
    assert slow["their_metadata"] > 10_000
    assert slow["of_warm"] == pytest.approx(slow["ours"] / warm["ours"], abs=0.001)


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
    assert weight_bytes(lm.config, 7, 4) == 4 * (matrices + 7 * lm.config.hidden_size)


@pytest.fixture(scope="module")
def tiny_sides(tmp_path_factory: pytest.TempPathFactory) -> Sides:
    material = Material.make(tmp_path_factory.mktemp("bench"), TINY_SCALE)
    return Sides(material, TINY_SCALE, "cpu", "float32")


def pieces_of(ours: Ours, tokens: int) -> list[Piece]:
    return list(ours.engine.stream(sentences(1), ours.voice, exactly(tokens, seed=1)))


def test_a_stream_gives_its_first_audio_before_its_last_token(tiny_sides: Sides) -> None:
    """The tokens that it is said to wait for are those at which it begins."""
    ours = tiny_sides.ours
    fed: list[int] = []
    codec_stream = ours.engine._codec.stream

    def stream(voice: tuple[int, ...], *, eager: bool) -> SpeechStream:
        decoder = codec_stream(voice, eager=eager)
        feed = decoder.feed

        def counted(tokens: Sequence[int], *, last: bool) -> NDArray[np.float32]:
            ends = range(1, len(tokens) + 1)
            samples = [feed(tokens[n - 1 : n], last=last and n == len(tokens)) for n in ends]
            fed.extend(len(part) for part in samples)
            return np.concatenate(samples)

        decoder.feed = counted
        return decoder

    ours.engine._codec.stream = stream
    try:
        pieces_of(ours, TINY_SCALE.streamed_tokens)
    finally:
        del ours.engine._codec.stream
    begun = next(number for number, samples in enumerate(fed, 1) if samples)
    assert begun == device.first_tokens(ours)
    assert device.first_tokens(ours) < TINY_SCALE.streamed_tokens


def test_a_sentence_that_is_no_stream_is_refused(tiny_sides: Sides) -> None:
    short = device.first_tokens(tiny_sides.ours)
    tiny_sides.scale = replace(TINY_SCALE, streamed_tokens=short)
    try:
        with pytest.raises(RuntimeError, match=f"{short} tokens are no stream"):
            device.first_audio(tiny_sides)
    finally:
        tiny_sides.scale = TINY_SCALE


def test_first_samples_that_come_with_the_last_are_refused(tiny_sides: Sides) -> None:
    """So it is where a sentence ends before the stream's first samples can be made."""
    ours = tiny_sides.ours
    short = device.first_tokens(ours) - 1
    assert len(pieces_of(ours, short)) == 1
    with pytest.raises(RuntimeError, match="came with its last"):
        device.seconds_to_first_samples(ours, short, seed=1)


def test_jobs_at_once_are_measured_in_threads_that_have_worked(
    tiny_sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rounds for each count, of which one is measured, and no thread that is new to it."""
    ours = tiny_sides.ours
    measuring: list[bool] = []
    worked: set[Thread] = set()
    rounds: list[tuple[int, bool, set[Thread]]] = []
    speak, jobs = ours.speak, ours.jobs
    together = Barrier(1)

    def watched_speak(*asked: Any) -> list[Utterance]:
        together.wait(60)  # each job of a round in a thread of its own
        rounds[-1][2].add(current_thread())
        return speak(*asked)

    def watched_jobs(texts: list[str], tokens: int) -> list[Utterance]:
        nonlocal together
        together = Barrier(len(texts))
        rounds.append((len(texts), bool(measuring), set()))
        return jobs(texts, tokens)

    def watched_seconds(work: Callable[[], object]) -> float:
        measuring.append(True)
        try:
            return seconds(work)
        finally:
            measuring.clear()

    monkeypatch.setattr(ours, "speak", watched_speak)
    monkeypatch.setattr(ours, "jobs", watched_jobs)
    monkeypatch.setattr(device, "seconds", watched_seconds)
    found = device.concurrency(tiny_sides)["audio_seconds_per_second"]
    assert [(count, measured) for count, measured, _ in rounds] == [
        (count, measured) for count in TINY_SCALE.concurrency for measured in (False, True)
    ]
    for _, measured, threads in rounds:
        assert not measured or threads <= worked
        worked |= threads
    assert len(worked) == max(TINY_SCALE.concurrency)
    assert all(found[str(count)] > 0 for count in TINY_SCALE.concurrency)


def test_the_memory_is_read_as_often_as_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block is summed READS times a measurement: a second for it is READS blocks a second."""
    sums: list[int] = []
    total = torch.Tensor.sum
    monkeypatch.setattr(
        torch.Tensor, "sum", lambda block: sums.append(block.nbytes) or total(block)
    )
    monkeypatch.setattr(device, "seconds", lambda work: work() or 2.0)
    assert device.read_speed("cpu", 4096) == device.READS * 4096 / 2.0
    assert sums == [4096] * 11 * device.READS


def test_int8_weights_are_counted_with_their_scales(kernel: LmKernel) -> None:
    config = LMConfig(8193, 896, 4864, 24, 14, 2, 32_768, 1e-6, 1e6, tie_word_embeddings=True)
    packed = kernel.packed_size(8208, 896) + config.num_hidden_layers * sum(
        kernel.packed_size(*shape)
        for shape in ((1152, 896), (896, 896), (2 * 4864, 896), (896, 4864))
    )
    assert weight_bytes(config, 8208, BYTES["int8"]) == packed


def test_a_stream_and_its_whole_sentence_are_told_apart() -> None:
    about = {"audio_seconds": 5.0, "stream_waits_for_tokens": 80, "stream_first_audio": 1.2,
             "whole_sentence": 4.5}  # fmt: skip
    text = table({"machine": MACHINE, "scale": SCALE, "first_audio": about})
    assert text.endswith(
        "- A sentence of 5.0 s: first audio of its stream, which waits for 80 tokens, 1.2 s; the "
        "whole sentence, not streamed, 4.5 s (medians).\n"
    )


def test_the_table_takes_the_place_of_the_one_in_the_document() -> None:
    document = (REPOSITORY / "docs" / "PERFORMANCE.md").read_text()
    once = included(document, "| one |\n")
    assert included(once, "| two |\n") == once.replace("| one |", "| two |")
    with pytest.raises(ValueError, match="no place"):
        included("# Another\n", "| one |\n")


def test_the_gpu_check_measures_upstreams_own_inference_beside_ours(tmp_path: Path) -> None:
    """Here, for this file's process has transformers already."""
    bench = Bench("cpu", SCALES["tiny"], tmp_path / "made")
    found = beside.upstream(bench)
    assert found["tokens"] == bench.scale.job_tokens
    assert found["tokens_a_second"] > 0
    assert 0 < found["rtf"] < found["rtf_with_codec"]
