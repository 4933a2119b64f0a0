"""python -m worker.serve.rehearsal: a start of both doors and a few jobs, none of which counts.

What it imports and reads is what a start reads: the installer records it into the start pack. All
that it writes goes into a temporary folder, and nothing is sent: it has no bucket and no queue.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from volume.layout import Layout
from volume.start_pack.runtime import Start
from worker.logs import event, set_up_logging
from worker.serve.start_stages import StartStages
from worker.serve.startup import checks_of, load_components
from worker.settings import Settings, load_settings

if TYPE_CHECKING:
    from worker.components import Components

JOB_SECONDS = 20.0  # that a job may take; it is cancelled then
_VOICE = "rehearsal.wav"
_TEXT = "One, two."
# What the operator has set for the service, and a rehearsal must not reach.
_SERVICE = ("S3_", "AWS_", "RUNPOD_WEBHOOK", "RUNPOD_AI_API_KEY", "API_KEY")


def main() -> int:
    """Rehearse; give the exit status."""
    set_up_logging("WARNING")
    with TemporaryDirectory(prefix="spark-tts-rehearsal-") as name:
        leave_the_service(Path(name))
        settings = load_settings()
        components = load(settings)
        asyncio.run(rehearse(settings, components, Path(name)))
    return 0


async def rehearse(settings: Settings, components: Components, folder: Path) -> None:
    """Make both doors, and do jobs."""
    open_doors(settings)
    await speak(components, folder)


def leave_the_service(folder: Path) -> None:
    """Take this process's variables of the bucket and the queue away; results go to `folder`."""
    for name in [name for name in os.environ if name.startswith(_SERVICE)]:
        del os.environ[name]
    os.environ["LOCAL_STORAGE_DIR"] = str(folder)


def load(settings: Settings) -> Components:
    """Load and check as a start does. Raises SetupError or LayoutError."""
    model = Layout(settings.runpod_volume).model(settings.spark_model)
    stages, start = StartStages(), Start()
    components = load_components(settings, model, stages, start)
    for check in checks_of(components, model, stages, start):
        check()
    return components


async def speak(components: Components, folder: Path) -> None:
    """Do a job of each kind; one that takes too long, as on random weights, is cancelled."""
    from worker.serve.runpod_handler import Service, make_handler  # noqa: PLC0415

    handle = make_handler(components, Service())
    record_voice(components, folder)
    timed: dict[str, Any] = {"text": _TEXT, "enable_subtitles": True, "output_format": "mp3"}
    cloning = {"text": _TEXT, "prompt_speech_url": _VOICE, "pitch_shift": 1.0}
    chinese = {"text": "一二三。", "enable_subtitles": True}  # the embedded model refuses it
    for number, job in enumerate((timed, cloning, chinese)):
        try:
            given = {"id": f"rehearsal-{number}", "input": job}
            async with asyncio.timeout(JOB_SECONDS):
                answer = await handle(given)
        except TimeoutError:
            event(logging.WARNING, "rehearsal cut short", job=number)
        else:
            if "error" in answer:
                event(logging.WARNING, "rehearsal failed", job=number, error=answer["error"])


def record_voice(components: Components, folder: Path) -> None:
    """Write a recording of a few seconds, of noise, that a job can name as its voice."""
    import numpy as np  # noqa: PLC0415
    import soundfile  # noqa: PLC0415

    rate = components.engine.sample_rate
    noise = np.random.default_rng(1).normal(scale=0.1, size=4 * rate)
    place = folder / components.keys.voices / _VOICE
    place.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(place, noise, rate)


def open_doors(settings: Settings) -> None:
    """Import and make what both doors are made of, and a client of a bucket that nobody asks."""
    import worker.serve.http.server  # noqa: F401, PLC0415
    from worker.serve.http.app import make_app  # noqa: PLC0415
    from worker.serve.http.door import Door  # noqa: PLC0415
    from worker.storage.open import open_storage  # noqa: PLC0415

    make_app(Door(settings))
    bucket = {"s3_bucket_name": "rehearsal", "aws_region": "us-east-1"}
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    open_storage(settings.model_validate({**settings.model_dump(), **bucket, **keys}))


if __name__ == "__main__":
    sys.exit(main())
