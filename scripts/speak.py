"""`make speak`: one RunPod job through the real SDK, on the embedded model and a local folder.

TEXT, VOICE and FORMAT come from the environment. Runs `python -m worker --test_input JSON` as a
developer would by hand, then prints the response's JSON and the path of the file that it names.
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
    job = {
        "id": os.environ.get("JOB_ID") or "make-speak",
        "input": {
            "text": os.environ.get("TEXT") or TEXT,
            "prompt_speech_url": os.environ.get("VOICE") or "demo.wav",
            "output_format": os.environ.get("FORMAT") or "wav",
        },
    }
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
    print(Path(unquote(urlsplit(response["audio_url"]).path)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
