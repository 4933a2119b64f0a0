"""`make speak`: one RunPod job through the real SDK, on the embedded model and a local folder.

TEXT, SEED, VOICE and FORMAT come from the environment, and SUBTITLES: 1 or a mode ("karaoke") asks
for word timings and subtitles too; the timings are then kept as JSON beside the audio. Runs
`python -m worker --test_input JSON` as a developer would by hand, then prints the response's JSON
and the paths of the files in it.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

TEXT = "My sister bought a green car last year. She opened the window and looked at the garden."
RESULT = "Job result: "  # the SDK's line that holds what the job gave


def main() -> int:
    """Run the job; its exit status."""
    asked: dict[str, object] = {
        "text": os.environ.get("TEXT") or TEXT,
        "prompt_speech_url": os.environ.get("VOICE") or "demo.wav",
        "output_format": os.environ.get("FORMAT") or "wav",
        "seed": int(os.environ["SEED"]) if os.environ.get("SEED") else None,
    }
    if subtitles := os.environ.get("SUBTITLES"):
        asked |= {"enable_whisperx": True, "enable_subtitles": True}
        asked |= {"subtitle_style": "line" if subtitles == "1" else subtitles}
    job = {"id": os.environ.get("JOB_ID") or "make-speak", "input": asked}
    command = [sys.executable, "-m", "worker", "--test_input", json.dumps(job)]
    print("$", "python", *command[1:4], f"'{command[4]}'", flush=True)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
    result = None
    for line in process.stdout or ():
        if RESULT in line:
            result = ast.literal_eval(line.split(RESULT, 1)[1].strip())
        else:
            print(line, end="", flush=True)
    if process.wait() != 0 or result is None:
        return process.returncode or 1
    response = result["output"]
    print(json.dumps(response, indent=2, ensure_ascii=False))
    audio = _path(response["audio_url"])
    print(audio)
    if "subtitles_url" in response:
        timings = audio.with_suffix(".words.json")
        words = json.dumps(response["word_timings"], indent=1, ensure_ascii=False)
        timings.write_text(words + "\n", encoding="utf-8")
        print(_path(response["subtitles_url"]), timings, sep="\n")
    return 0


def _path(url: str) -> Path:
    """The file of a file:// URL."""
    return Path(unquote(urlsplit(url).path))


if __name__ == "__main__":
    sys.exit(main())
