"""Jobs of a worker with little room: python -m tests.platform.disk.jobs FOLDER MODEL PLACE...

Prints a line of JSON for each job: where room was short, how many kB there were, and the answer.
PLACE is scratch, output or cache, where a file system of that size is mounted (for which this wants
mounts of its own), or files, which the kernel lets grow no further.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import soundfile

from tests.conftest import DEMO_VOICE
from worker.cancellation import Cancellation
from worker.components import Components
from worker.serve.runpod_handler import Service, make_handler
from worker.speech.engine import Engine
from worker.storage.keys import Keys
from worker.storage.local import LocalStorage
from worker.voices.reference import fetch_reference
from worker.voices.saved import Voices

KEYS = Keys(voices="voices/", output="output/", bucket=None)
COMMON = {"max_length": 64, "seed": 1}
JOBS = (
    {"text": "Hello there. And more.", "output_format": "wav", **COMMON},
    {"text": "Hello there.", "output_format": "mp3", "stream": True, "save_voice": "x", **COMMON},
    {"text": "Hello.", "output_format": "ogg", "prompt_speech_url": "demo.wav", **COMMON},
)
SIZES = {  # kB, of disks by pages; 0: not even a name
    "scratch": (0, 48, 400),
    "output": (0, 48),
    "cache": (0,),
    "files": (0, 32, 400),
}
if os.environ.get("FULL"):
    SIZES = dict.fromkeys(SIZES, (*range(0, 64, 4), 100, 200, 400))


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """Nothing else is in the folder meanwhile."""
    inodes = 64 if kilobytes else 1
    size = f"size={max(kilobytes, 4)}k,nr_inodes={inodes}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def small_files(kilobytes: int) -> Iterator[None]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


def main(root: Path, model: Path, places: list[str]) -> None:
    engine = Engine.load(model, "float32", "cpu")
    storage = LocalStorage(root / "storage")
    storage.put(DEMO_VOICE, "voices/demo.wav", "audio/wav")
    scratch, output, cache = root / "scratch", root / "storage" / "output", root / "cache"
    for folder in (scratch, output, cache):
        folder.mkdir()
    tempfile.tempdir = str(scratch)

    def fetch(url: str, into: Path, _cancellation: Cancellation) -> Path:
        return fetch_reference(url, storage, KEYS, into)

    for place in places:
        folder = {"scratch": scratch, "output": output, "cache": cache}.get(place)
        for size in SIZES[place]:
            voices = Voices(engine, storage, KEYS, cache / f"tiny@{size}")
            components = Components(engine, voices, storage, KEYS, 60, 7200, fetch)
            for number, job in enumerate(JOBS):
                handle = make_handler(components, Service(remembers=True))
                asked = {"id": f"{place}-{size}-{number}", "input": job}
                with small_disk(folder, size) if folder else small_files(size):
                    answer = asyncio.run(handle(asked))
                    heard = None
                    if "audio_url" in answer:
                        path = Path(unquote(urlsplit(answer["audio_url"]).path))
                        heard = len(soundfile.read(path)[0]) / answer["sample_rate"]
                    left = [path.name for path in scratch.iterdir()]
                told = {"place": place, "size": size, "number": number, "answer": answer}
                print(json.dumps({**told, "heard": heard, "left": left}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
