"""The components: what is loaded once, before the first job, and used by every job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from volume.layout import Layout, LayoutError, pinned_wheel
from worker.cancellation import Cancellation
from worker.errors import SetupError
from worker.settings import Settings
from worker.speech.device import Lane
from worker.speech.device_checks import check_hardware
from worker.speech.engine import Engine
from worker.stopwatch import Stopwatch
from worker.storage.base import Storage
from worker.storage.keys import Keys, keys_of
from worker.storage.open import open_storage
from worker.timing.aligner import Aligner
from worker.timing.model_folders import find_folders
from worker.voices.builtin import builtin_names
from worker.voices.library import Voices
from worker.voices.reference import fetch_reference


@dataclass(frozen=True)
class Components:
    """The engine, the voices, the storage and the aligner, and the limits of a job."""

    engine: Engine
    voices: Voices
    storage: Storage
    keys: Keys
    url_expiry: int  # seconds, where a job does not say
    max_job_seconds: int  # of audio that one job may have
    # prompt_speech_url, the job's folder, its cancellation -> audio file
    fetch_reference: Callable[[str, Path, Cancellation], Path]
    aligner: Aligner | None = None  # None where no alignment model is installed

    @classmethod
    def load(
        cls,
        settings: Settings,
        loading: Callable[[], Engine] | None = None,
        stage: Callable[[str], AbstractContextManager[None]] | None = None,
    ) -> Self:
        """Load what jobs need; `loading` gives the engine, where another thread loads it.

        `stage(name)` times a block. Raises SetupError, saying what is missing.
        """
        layout = Layout(settings.runpod_volume)
        try:
            checkpoint = layout.model(settings.spark_model)
        except LayoutError as error:
            raise SetupError(str(error)) from None
        stage = stage or Stopwatch()
        names = builtin_names(settings.voice_names)
        aligners = find_folders(layout, checkpoint, settings.whisperx_languages)
        loading = loading or partial(_load_engine, checkpoint, settings)
        beside = ThreadPoolExecutor(2)
        try:
            engine_loads = beside.submit(loading)
            load_aligner = partial(_load_aligner, aligners, stage)
            aligner_loads = beside.submit(load_aligner) if aligners else None
            with stage("storage"):
                storage, keys = open_storage(settings), keys_of(settings)
            _raise_first_failure([engine_loads, *([aligner_loads] if aligner_loads else [])])
        finally:
            beside.shutdown(wait=False)
        engine = engine_loads.result()
        aligner = aligner_loads.result() if aligner_loads else None
        return cls(
            engine=engine,
            voices=Voices(
                engine, storage, keys, layout.voices / checkpoint.name, names, aligner=aligner
            ),
            storage=storage,
            keys=keys,
            url_expiry=settings.s3_url_expiry,
            max_job_seconds=settings.max_job_seconds,
            fetch_reference=lambda url, folder, cancellation: fetch_reference(
                url, storage, keys, folder, cancellation=cancellation
            ),
            aligner=aligner,
        )


def _load_aligner(
    folders: dict[str, Path], stage: Callable[[str], AbstractContextManager[None]]
) -> Aligner:
    with stage("aligner"):
        return Aligner.load(folders, open_lane=Lane)


def _load_engine(checkpoint: Path, settings: Settings) -> Engine:
    check_hardware(pinned_wheel("flash-attn"))
    return Engine.load(checkpoint, settings.spark_dtype, look_ahead=settings.stream_look_ahead)


def _raise_first_failure(futures: Sequence[Future[Any]]) -> None:
    """Wait for all; raise as soon as one fails, for others may then fail by it."""
    for done in as_completed(futures):
        done.result()
