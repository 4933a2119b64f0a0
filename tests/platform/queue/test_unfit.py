"""Workers that cannot work: each says why in one line, to its log and the platform, and ends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.platform.queue.server import Queue
from tests.platform.queue.workers import WorkerProcess
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, s3_server
from tests.support.worker_process import NO_ALIGNER, environment
from volume.layout import Layout

JOB = {"text": "Please read this book to the children.", "prompt_speech_url": "demo.wav"}
# A machine with a GPU whose driver torch cannot use: its device is there, and is none.
GPU_WITHOUT_DRIVER = (
    *("bwrap", "--bind", "/", "/", "--dev", "/dev"),
    *("--ro-bind", "/dev/null", "/dev/nvidiactl"),
)


def told(
    env: dict[str, str], folder: Path, module: str = "worker", around: Sequence[str] = ()
) -> tuple[list[dict[str, Any]], str | None]:
    """The log of a worker that ends before it takes a job, and what the platform heard of it."""
    with Queue(hold_seconds=1.0).running() as queue:
        job = queue.jobs[queue.put(JOB)]
        process = WorkerProcess(
            queue, "unfit", {**env, **NO_ALIGNER}, folder / "log", module, around
        )
        try:
            assert process.process.wait(120) == 1
        finally:
            process.kill()
        assert job.deliveries == []
        events = process.events()
        assert "worker ends" not in {event["event"] for event in events}
        heard = queue.workers["unfit"].unhealthy if "unfit" in queue.workers else None
        return events, heard


def check_unfit(told: tuple[list[dict[str, Any]], str | None], check: str, why: str) -> None:
    events, heard = told
    (unfit,) = [event for event in events if event["event"] == "check failed"]
    assert unfit["check"] == check
    assert why in unfit["error"]
    assert "\n" not in unfit["error"]
    assert (heard or "").startswith(f"{check}: SetupError: {unfit['error']}"[:80])


@pytest.fixture
def model(demo_volume: Path, tmp_path: Path) -> Path:
    """The demo model, on a volume of its own."""
    shutil.copytree(demo_volume, tmp_path / "volume")
    return Layout(tmp_path / "volume").model("demo")


@pytest.mark.parametrize("damage", ["short", "unreadable"])
def test_a_volume_that_is_not_whole(model: Path, tmp_path: Path, damage: str) -> None:
    file = model / "LLM" / "generation_config.json"  # nothing that is loaded, and yet
    why = "LLM/generation_config.json of demo@"
    if damage == "short":
        os.truncate(file, 7)
    else:
        file.unlink()
    if damage == "unreadable":
        file.mkdir()
    told_of = told(environment(tmp_path / "volume"), tmp_path)
    check_unfit(told_of, "model", why)
    check_unfit(told_of, "model", "; run: python -m volume verify --repair")


def test_a_model_that_cannot_be_loaded(model: Path, tmp_path: Path) -> None:
    (model / "BiCodec" / "model.safetensors").unlink()
    events, heard = told(environment(tmp_path / "volume"), tmp_path)
    (failed,) = [event for event in events if event["event"] == "setup failed"]
    assert "BiCodec/model.safetensors" in failed["error"]
    assert heard is None  # it ended before there was an SDK to tell


def test_a_gpu_without_a_driver(demo_volume: Path, tmp_path: Path) -> None:
    events, heard = told(environment(demo_volume), tmp_path, around=GPU_WITHOUT_DRIVER)
    (failed,) = [event for event in events if event["event"] == "setup failed"]
    assert "its driver is too old" in failed["error"]
    assert heard is None  # before anything was loaded, and before there was an SDK to tell


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"S3_BUCKET_NAME": "other"}, "the bucket does not exist"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "the storage cannot be reached"),
    ],
)
def test_a_bucket_that_cannot_be_used(
    demo_volume: Path, tmp_path: Path, change: dict[str, str], why: str
) -> None:
    with s3_server("bucket") as endpoint:
        settings = {
            "S3_BUCKET_NAME": "bucket",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": endpoint,
        }
        env = environment(demo_volume, **{**settings, **change})
        check_unfit(told(env, tmp_path), "storage", why)


def test_a_synthesis_that_fails(demo_volume: Path, tmp_path: Path) -> None:
    (tmp_path / "codec").touch()
    env = environment(demo_volume, FAILURES=str(tmp_path))
    module = "tests.platform.queue.failing_gpu"
    check_unfit(told(env, tmp_path, module), "speech", "a short synthesis failed (RuntimeError: CU")


def test_a_synthesis_that_gives_no_numbers(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = Layout(tmp_path).models / "tiny@1"
    shutil.copytree(tiny_checkpoint, folder)
    file = folder / "BiCodec" / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in sorted(tensors) if name.startswith("decoder."))
    save_file({**tensors, name: torch.full_like(tensors[name], torch.nan)}, file)
    env = environment(tmp_path, SPARK_MODEL="tiny")
    check_unfit(told(env, tmp_path), "speech", "a short synthesis gave no numbers")
