"""What is loaded once, before the first job, and serves every job."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from volume.layout import Layout, LayoutError
from worker.errors import SetupError
from worker.keys import Keys, keys_of
from worker.references import fetch_reference
from worker.settings import Settings
from worker.speech.engine import Engine
from worker.storage import Storage, open_storage
from worker.timing import Aligner, find_folders
from worker.voices import Voices


@dataclass(frozen=True)
class Parts:
    """The model, the aligner, the storage and what stands between them."""

    engine: Engine
    voices: Voices
    storage: Storage
    keys: Keys
    url_expiry: int  # seconds, where a job does not say
    fetch_reference: Callable[[str, Path], Path]  # prompt_speech_url, folder -> audio file
    aligner: Aligner | None = None  # where no alignment model is installed

    @classmethod
    def load(cls, settings: Settings, loading: Callable[[], Engine] | None = None) -> Self:
        """Everything that jobs need; the engine from `loading`, where another thread loads it.

        Raises SetupError saying what is missing.
        """
        layout = Layout(settings.runpod_volume)
        try:
            checkpoint = layout.model(settings.spark_model)
        except LayoutError as error:
            raise SetupError(str(error)) from None
        storage, keys = open_storage(settings), keys_of(settings)
        aligners = find_folders(layout, checkpoint, settings.whisperx_languages)
        with ThreadPoolExecutor(1) as beside:
            aligner = beside.submit(Aligner.load, aligners) if aligners else None
            engine = loading() if loading else Engine.load(checkpoint, settings.spark_dtype)
        return cls(
            engine=engine,
            voices=Voices(engine, storage, keys, layout.voices / checkpoint.name),
            storage=storage,
            keys=keys,
            url_expiry=settings.s3_url_expiry,
            fetch_reference=lambda url, folder: fetch_reference(url, storage, keys, folder),
            aligner=aligner.result() if aligner else None,
        )
