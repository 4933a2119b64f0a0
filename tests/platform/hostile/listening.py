"""python -m tests.platform.hostile.listening CHECKPOINT FOLDER FIRST COUNT

Listens to damaged files as a job's reference, one after the other, and prints a line of JSON
about each. A process of its own: a decoder that crashes then ends this process and not the tests,
and the last line says which file it was.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from tests.platform.hostile.audio_files import damaged
from worker.errors import WorkerError
from worker.speech.engine import Engine
from worker.storage.keys import Keys
from worker.storage.local import LocalStorage
from worker.voices.library import Voices


def main(checkpoint: Path, folder: Path, first: int, count: int) -> None:
    engine = Engine.load(checkpoint, "float32", "cpu")
    keys = Keys(voices="voices/", output="output/", bucket=None)
    voices = Voices(engine, LocalStorage(folder / "storage"), keys, folder / "cache")
    (folder / "in").mkdir()
    for number in range(first, first + count):
        file = damaged(number)
        tell({"number": number, "base": file.base, "change": file.change})
        path = folder / "in" / "reference"
        path.write_bytes(file.content)
        started = time.monotonic()
        try:
            voice = voices.listen(path, None)
        except WorkerError as error:
            came = {"code": error.code, "message": error.message, "field": error.field}
        else:
            came = {"code": None, "tokens": len(voice.semantic_tokens)}
        came["seconds"] = time.monotonic() - started
        came["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        came["left"] = sorted(p.name for p in (folder / "in").iterdir() if p != path)
        tell(came)


def tell(what: dict[str, object]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
