"""python -m worker: load everything, then take RunPod jobs.

The SDK's own arguments work: --test_input JSON, --rp_serve_api, --rp_api_port and the rest.
"""

from __future__ import annotations

from volume.stops import hear_stops, ignore_stops, leave_stops_to_the_kernel

if __name__ == "__main__":  # before the imports below, which take seconds on a volume
    hear_stops()

import asyncio
import gc
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volume.layout import Layout, LayoutError, locked_wheel
from worker.errors import SetupError
from worker.logs import event, log, set_up_logging
from worker.serve import sdk_import
from worker.serve.concurrency import Concurrency, host_memory_free
from worker.serve.shutdown import RunningJobs, end_forks_with_this_process
from worker.settings import Settings, load_settings
from worker.speech.checkpoint import Checkpoint
from worker.speech.device_errors import device_failure
from worker.speech.lm.int8_weights import read_ahead
from worker.temp_folders import sweep_scratch

if TYPE_CHECKING:
    from worker.components import Components
    from worker.speech.engine import Engine
    from worker.speech.lm.int8_weights import Weights

JOBS = 8  # at once, where the operator does not say


def main() -> int:
    """Serve until the platform stops the worker; 1 when it is not complete."""
    set_up_logging("INFO")
    # A prompt is a thousand calls of torch, each of which gives Python's lock away and may wait
    # this long for another thread that computes in Python; it is 5 ms by default.
    sys.setswitchinterval(0.0003)
    try:
        settings = load_settings()
        set_up_logging(settings.log_level, _secrets(settings))
        # Asked here already: the imports below take seconds, and a bad start is paid for.
        Layout(settings.runpod_volume).model(settings.spark_model)
        _check_scratch()
        return _serve(settings)
    except (SetupError, LayoutError) as error:
        event(logging.ERROR, "setup failed", error=str(error))
        return 1


def _serve(settings: Settings) -> int:
    # The SDK reads this when it is imported. Its own default prints whole answers, and with them
    # signed URLs that anyone may open.
    quiet = {"WARNING": "WARN", "ERROR": "ERROR"}
    os.environ.setdefault("RUNPOD_LOG_LEVEL", quiet.get(settings.log_level, "INFO"))
    # Hundreds of thousands of objects are made until the first job, none of them garbage.
    gc.disable()
    try:
        components = _load(settings)
    except (SetupError, LayoutError):
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {error}".splitlines()[0]
        log.exception("setup failed", extra={"fields": {"error": told}})
        return 1
    # Imported once it is known that they are needed.
    import runpod  # noqa: PLC0415
    from runpod.http_client import AsyncClientSession  # noqa: PLC0415
    from runpod.serverless.modules.rp_http import send_result  # noqa: PLC0415

    from worker.serve.runpod_handler import Service, make_handler, make_stream_handler  # noqa: PLC0415

    async def send(job: dict[str, Any], progress: dict[str, Any]) -> None:
        # The SDK's progress_update sends each in a thread of its own, so that they overtake each
        # other and the answer; this is what it does there.
        async with AsyncClientSession() as session:
            await send_result(session, {"status": "IN_PROGRESS", "output": progress}, job)

    slots = components.engine.slots
    config: dict[str, Any] = {"return_aggregate_stream": True}
    # With this the SDK asks for a fresh worker in each answer, of a generator too.
    running = RunningJobs(settings.drain_seconds, lambda: config.update(refresh_worker=True))
    queued = bool(os.environ.get("RUNPOD_WEBHOOK_GET_JOB"))
    service = Service(
        max_jobs=settings.max_concurrency or min(JOBS, slots),
        streams=settings.stream,
        remembers=queued,
        send=send if queued else Service.send,
        running=running,
    )
    model = Layout(settings.runpod_volume).model(settings.spark_model)
    _check(components, model, runpod.serverless.register_fitness_check if queued else None)
    if queued and not settings.s3_bucket_name:
        event(logging.WARNING, "no bucket")

    def free() -> float:
        try:
            on_gpu = components.engine.free_memory()
        except RuntimeError as error:
            if (broken := device_failure(error)) is None:
                raise
            running.give_up(f"{broken.code}: {broken.message}")
            return 0.0
        return host_memory_free() if on_gpu is None else min(on_gpu, host_memory_free())

    gc.freeze()
    gc.enable()
    event(logging.INFO, "worker begins", model=model.name, jobs=service.max_jobs, slots=slots)
    # The SDK calls a generator for --test_input too, and does not listen to it.
    one_job = any(argument.startswith("--test_input") for argument in sys.argv)
    make = make_stream_handler if settings.stream and not one_job else make_handler
    config["handler"] = make(components, service)
    config["concurrency_modifier"] = Concurrency(service.max_jobs, running, free)
    try:
        runpod.serverless.start(config)
    except asyncio.CancelledError:  # how a drain ends the SDK's loop
        if running.reason is None:
            raise
        ignore_stops()
    event(logging.INFO, "worker ends", reason=running.reason)
    return 1 if running.broken else 0


def _check(
    components: Components, model: Path, register: Callable[[Callable[[], None]], object] | None
) -> None:
    """Have the SDK check what must hold before the first job.

    Where it takes no jobs from the platform it checks nothing: the storage is asked here then.
    """
    from worker.serve import fitness_checks  # noqa: PLC0415
    from worker.speech.device_checks import check_gpu_memory  # noqa: PLC0415

    storage = fitness_checks.named("storage", partial(fitness_checks.check_storage, components))
    if register is None:
        storage()
        return
    # At SIGINT the SDK would raise SystemExit, which may be raised where nobody gets it.
    register(leave_stops_to_the_kernel)
    register(fitness_checks.named("gpu_memory", check_gpu_memory))
    register(fitness_checks.named("model", partial(fitness_checks.check_model, model)))
    register(storage)
    register(fitness_checks.named("speech", partial(fitness_checks.check_speech, components)))


def _check_scratch() -> None:
    """Raise SetupError where TMPDIR is no use: Python would take another folder without a word."""
    wanted = os.environ.get("TMPDIR")
    try:
        found = tempfile.gettempdir()
    except OSError:
        raise SetupError("no folder for temporary files can be written; set TMPDIR") from None
    if wanted and Path(found) != Path(os.path.abspath(wanted)):  # noqa: PTH100 - as it is found
        raise SetupError("TMPDIR is no folder that can be written, or its disk is full")


def _load(settings: Settings) -> Components:
    """Load the model while the rest is imported: the imports wait for the volume much of the time.

    What fails first is raised, and at once: other threads that are not through may fail by it.
    """
    sdk_import.lighten()
    model = Layout(settings.runpod_volume).model(settings.spark_model)
    beside = ThreadPoolExecutor(3)
    try:
        libraries = beside.submit(import_module, "worker.speech.engine")
        # Weights in 8 bits need no torch: they are read while it is imported.
        folder, dtype = Checkpoint(model).language_model, settings.spark_dtype
        weights = beside.submit(read_ahead, folder, dtype)
        engine = beside.submit(_load_engine, model, dtype, libraries, weights)
        import_module("runpod")
        sweep_scratch()
        libraries.result()  # or torch, half imported, would be imported again below
        loaded: Components = import_module("worker.components").Parts.load(settings, engine.result)
        return loaded
    finally:
        beside.shutdown(wait=False)


def _load_engine(
    model: Path, dtype: str, libraries: Future[Any], weights: Future[Weights | None]
) -> Engine:
    libraries.result()
    from worker.speech.device_checks import check_hardware  # noqa: PLC0415
    from worker.speech.engine import Engine  # noqa: PLC0415

    check_hardware(locked_wheel("flash-attn"))
    return Engine.load(model, dtype, int8_weights=weights.result)


def _secrets(settings: Settings) -> list[str]:
    """What no line of the log may hold."""
    kept = (settings.aws_secret_access_key, settings.aws_session_token)
    named = [secret.get_secret_value() for secret in kept if secret is not None]
    return [*named, os.environ.get("RUNPOD_AI_API_KEY", "")]


if __name__ == "__main__":
    end_forks_with_this_process()
    sys.exit(main())
