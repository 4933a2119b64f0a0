"""The worker's start: the components are loaded and checked, and RunPod's SDK gets the handler.

What takes seconds to import is imported in the functions, once it is known to be needed.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volume.layout import Layout, LayoutError, pinned_wheel
from volume.start_pack.read_ahead import ReadAhead, Reading
from volume.start_pack.runtime import SWITCH_SECONDS, Start
from volume.stops import ignore_stops, leave_stops_to_the_kernel
from worker import torch_import
from worker.errors import SetupError, in_one_line
from worker.logs import event, set_up_logging
from worker.serve import sdk_import
from worker.serve.concurrency import Concurrency, host_memory_free
from worker.serve.shutdown import RunningJobs
from worker.serve.start_stages import StartStages
from worker.serve.weights_ahead import weights_in_order
from worker.settings import Settings, load_settings
from worker.speech.checkpoint import Checkpoint
from worker.speech.device_errors import device_failure
from worker.speech.lm.int8_weights import read_ahead
from worker.temp_folders import check_temp_folder, remove_abandoned_folders

if TYPE_CHECKING:
    from worker.components import Components
    from worker.serve.progress import Answer, RunPodJob, Send
    from worker.serve.runpod_handler import Service
    from worker.speech.engine import Engine
    from worker.speech.lm.int8_weights import Weights

HTTP = "--http"  # the argument for the other door
MAX_JOBS = 8  # at the same time, where the operator does not say
_SDK_LEVELS = {"WARNING": "WARN", "ERROR": "ERROR"}


def main(stages: StartStages | None = None, start: Start | None = None) -> int:
    """Serve until the platform stops the worker; give the exit status.

    `start` brings files of the volume into memory before they are used, until all is loaded.
    """
    stages = stages or StartStages()
    set_up_logging("INFO")
    sys.setswitchinterval(SWITCH_SECONDS)
    start = start or Start()
    try:
        settings = load_settings()
        set_up_logging(settings.log_level, secrets_of(settings))
        start.listen(lambda problem: event(logging.WARNING, "start pack fails", reason=problem))
        if start.watch is not None:
            start.watch.listen(tell_of_volume)
        door = serve_by_http if HTTP in sys.argv[1:] else serve
        return door(settings, stages, start)
    except (SetupError, LayoutError) as error:
        event(logging.ERROR, "setup failed", error=str(error))
        return 1
    finally:
        start.end()


def tell_of_volume(answered: bool, seconds: float) -> None:
    """Log that the volume kept the start waiting, or does so now."""
    if answered:
        event(logging.WARNING, "volume answered late", seconds=round(seconds, 1))
    else:
        event(logging.WARNING, "volume does not answer", seconds=round(seconds, 1))


def serve(settings: Settings, stages: StartStages, start: Start) -> int:
    """Load, check and serve; give the exit status. Raises SetupError or LayoutError."""
    # Before the imports, which take seconds: a bad start is paid for.
    model = Layout(settings.runpod_volume).model(settings.spark_model)
    check_temp_folder()
    _set_sdk_log_level(settings.log_level)
    gc.disable()  # hundreds of thousands of objects are made until the first job, none garbage
    try:
        components = load_components(settings, model, stages, start)
    except (SetupError, LayoutError):
        raise
    except Exception as error:
        event(logging.ERROR, "setup failed", cause=error, error=in_one_line(error))
        return 1
    sdk_config: dict[str, Any] = {"return_aggregate_stream": True}
    # With this the SDK asks for a fresh worker in each answer, of a generator too.
    running = RunningJobs(
        settings.drain_seconds, on_broken=lambda: sdk_config.update(refresh_worker=True)
    )
    slots = components.engine.slots
    service = make_service(settings, slots, running, stages)
    register_checks(components, model, stages, start)
    if _has_queue() and not settings.s3_bucket_name:
        event(logging.WARNING, "no bucket is set")
    gc.freeze()
    gc.enable()
    event(logging.INFO, "worker begins", model=model.name, jobs=service.max_jobs, slots=slots)
    start_sdk(sdk_config, components, service)
    event(logging.INFO, "worker ends", reason=running.reason)
    return exit_status(running)


def serve_by_http(settings: Settings, stages: StartStages, start: Start) -> int:
    """Serve HTTP requests until a stop; give the exit status. Raises SetupError or LayoutError."""
    model = Layout(settings.runpod_volume).model(settings.spark_model)
    check_temp_folder()
    from worker.serve.http.server import serve_http  # noqa: PLC0415 - before torch and FastAPI

    def load() -> Components:
        components = load_components(settings, model, stages, start, "fastapi")
        for check in checks_of(components, model, stages, start):
            check()
        with stages("voices"):
            components.voices.make_builtin()  # or the first listener of each would wait for it
        gc.freeze()
        gc.enable()
        return components

    gc.disable()
    try:
        return serve_http(settings, load, stages)
    except (SetupError, LayoutError):
        raise
    except Exception as error:
        event(logging.ERROR, "setup failed", cause=error, error=in_one_line(error))
        return 1


def load_components(
    settings: Settings,
    model: Path,
    stages: StartStages,
    start: Start,
    library: str = "runpod",
) -> Components:
    """Load the model while the rest is imported: the imports wait for the volume much of the time.

    `library` is that of the door. Weights that are mapped may be read after it returns: the last of
    the checks waits for them. What fails first is raised, and at once: other threads that are not
    through may fail by it.
    """
    sdk_import.lighten()
    torch_import.lighten()
    beside = ThreadPoolExecutor(4)
    try:
        ahead = beside.submit(_read_weights_ahead, settings, model, start.read_ahead)
        # Weights in 8 bits need no torch: they are read while it is imported.
        folder, dtype = Checkpoint.to_load(model).language_model, settings.spark_dtype
        weights = beside.submit(read_ahead, folder, dtype)
        start.import_first()
        libraries = beside.submit(import_module, "worker.speech.engine")
        engine = beside.submit(_load_engine, model, settings, libraries, weights, stages)
        with stages("sdk"):
            import_module(library)
        remove_abandoned_folders()
        libraries.result()  # or torch, half imported, would be imported again below
        from worker.components import Components  # noqa: PLC0415

        stages.since_first_line("imports")
        components = Components.load(settings, engine.result, stages)
        start.awaited += ahead.result()
        return components
    finally:
        beside.shutdown(wait=False)


def _read_weights_ahead(settings: Settings, model: Path, reading: ReadAhead) -> list[Reading]:
    added = []
    with suppress(SetupError):  # who needs the file says so
        for path, ranges in weights_in_order(settings, model):
            added.append(reading.add(path, ranges))
    return added


def _load_engine(
    model: Path,
    settings: Settings,
    libraries: Future[Any],
    weights: Future[Weights | None],
    stages: StartStages,
) -> Engine:
    libraries.result()
    from worker.speech.device_checks import check_hardware  # noqa: PLC0415
    from worker.speech.engine import Engine  # noqa: PLC0415

    check_hardware(pinned_wheel("flash-attn"))
    with stages("model"):
        return Engine.load(
            model,
            settings.spark_dtype,
            int8_weights=weights.result,
            look_ahead=settings.stream_look_ahead,
        )


def make_service(
    settings: Settings, slots: int, running: RunningJobs, stages: StartStages
) -> Service:
    """How this worker does its jobs, with so many slots in the model's batch."""
    from worker.serve.progress import send_to_nobody  # noqa: PLC0415
    from worker.serve.runpod_handler import Service  # noqa: PLC0415

    return Service(
        max_jobs=settings.max_concurrency or min(MAX_JOBS, slots),
        streams=settings.stream,
        remembers=_has_queue(),
        send=_sdk_sender() if _has_queue() else send_to_nobody,
        running=running,
        stages=stages,
    )


def _sdk_sender() -> Send:
    """What sends a progress update by the SDK, and returns when RunPod has it.

    The SDK's own progress_update sends each in a thread of its own, so that they overtake each
    other and the answer.
    """
    from runpod.http_client import AsyncClientSession  # noqa: PLC0415
    from runpod.serverless.modules.rp_http import send_result  # noqa: PLC0415

    async def send(job: RunPodJob, progress: Answer) -> None:
        async with AsyncClientSession() as session:
            await send_result(session, {"status": "IN_PROGRESS", "output": progress}, job)

    return send


def register_checks(components: Components, model: Path, stages: StartStages, start: Start) -> None:
    """Have the SDK check what must hold before the first job.

    Where it takes no jobs from the platform it checks nothing: the storage is checked here then,
    and the weights are waited for.
    """
    import runpod  # noqa: PLC0415

    checks = checks_of(components, model, stages, start)
    if not _has_queue():
        for check in checks:
            if check.__name__ in {"storage", "weights"}:
                check()
        return
    register: Callable[[Callable[[], None]], object] = runpod.serverless.register_fitness_check
    # At SIGINT the SDK would raise SystemExit, which may be raised where nobody gets it.
    register(leave_stops_to_the_kernel)
    for check in checks:
        register(check)


def checks_of(
    components: Components, model: Path, stages: StartStages, start: Start
) -> list[Callable[[], None]]:
    """What must hold before the first job; each raises SetupError.

    The last waits for the weights that are read ahead, and ends the start's reading.
    """
    from worker.serve import fitness_checks  # noqa: PLC0415
    from worker.speech.device_checks import check_gpu_memory  # noqa: PLC0415

    named = partial(fitness_checks.named, stage=stages)
    return [
        named("gpu_memory", check_gpu_memory),
        named("model", partial(fitness_checks.check_model, model)),
        named("storage", partial(fitness_checks.check_storage, components)),
        named("speech", partial(fitness_checks.check_speech, components)),
        named("weights", start.finish),
    ]


def start_sdk(sdk_config: dict[str, Any], components: Components, service: Service) -> None:
    """Hand jobs to the handler until the worker is drained; `sdk_config` gets what the SDK asks."""
    import runpod  # noqa: PLC0415

    from worker.serve.runpod_handler import make_handler, make_stream_handler  # noqa: PLC0415

    # The SDK calls a generator for --test_input too, and does not listen to it.
    one_job = any(argument.startswith("--test_input") for argument in sys.argv)
    make = make_stream_handler if service.streams and not one_job else make_handler
    sdk_config["handler"] = make(components, service)
    concurrency = Concurrency(
        service.max_jobs, service.running, partial(_free_memory, components, service.running)
    )
    if service.stages is not None:
        ready = service.stages.ready
        if _has_queue():
            concurrency.before_first_job = ready
        else:  # the SDK asks it only where it takes jobs from the platform
            ready()
    sdk_config["concurrency_modifier"] = concurrency
    try:
        runpod.serverless.start(sdk_config)
    except asyncio.CancelledError:  # how a drain ends the SDK's loop
        if service.running.reason is None:
            raise
        ignore_stops()


def exit_status(running: RunningJobs) -> int:
    """The process's exit status: 1 where it could not go on."""
    return 1 if running.broken else 0


def secrets_of(settings: Settings) -> list[str]:
    """The secrets that no line of the log may hold."""
    secrets = (settings.aws_secret_access_key, settings.aws_session_token, settings.api_key)
    texts = [secret.get_secret_value() for secret in secrets if secret is not None]
    return [*texts, os.environ.get("RUNPOD_AI_API_KEY", "")]


def _free_memory(components: Components, running: RunningJobs) -> float:
    """The smaller share of free memory, 0 to 1, of the GPU and the host.

    A GPU that cannot even say this is broken: the worker ends.
    """
    try:
        on_gpu = components.engine.free_memory()
    except RuntimeError as error:
        if (broken := device_failure(error)) is None:
            raise
        running.give_up(f"{broken.code}: {broken.message}")
        return 0.0
    return host_memory_free() if on_gpu is None else min(on_gpu, host_memory_free())


def _has_queue() -> bool:
    """Whether the platform gives this worker jobs, which it may then deliver twice."""
    return bool(os.environ.get("RUNPOD_WEBHOOK_GET_JOB"))


def _set_sdk_log_level(log_level: str) -> None:
    """Set the SDK's log level, which it reads when it is imported.

    Its own default prints whole answers, and with them signed URLs that anyone may open.
    """
    os.environ.setdefault("RUNPOD_LOG_LEVEL", _SDK_LEVELS.get(log_level, "INFO"))
