"""The picture of docs/SUBTITLES.md: python -m scripts.picture [PNG].

The demo voice speaks a text with karaoke subtitles, and the frame in the middle of one of its words
is rendered.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import ass

from scripts.burn import burn

REPOSITORY = Path(__file__).parents[1]
TEXT = "She opened the window and looked at the garden, where the children were playing."
STYLE = '{"mode": "karaoke", "primary_colour": "#FFD700", "resolution": "960x540"}'
SHARE = 0.6  # of the first caption's time


def main(picture: Path) -> None:
    """Speak, and render the frame."""
    demo = REPOSITORY / "volume" / "demo"
    with TemporaryDirectory() as name:
        volume = Path(name)
        environment = {**os.environ, "RUNPOD_VOLUME": name, "SPARK_MODEL": "demo"}
        install = ("-m", "volume", "install", "--model", "demo")
        speak = (
            *("-m", "worker.speak", TEXT, "--voice-from", str(demo / "voices" / "demo.wav")),
            *("--temperature", "0", "--enable-subtitles", "--subtitle-style", STYLE),
            *("--out", str(volume / "speech.wav")),
        )
        for command in (install, speak):
            subprocess.run(  # noqa: S603 - our own commands
                [sys.executable, *command], check=True, cwd=REPOSITORY, env=environment
            )
        subtitles = volume / "speech.ass"
        first = ass.parse_string(subtitles.read_text(encoding="utf-8")).events[0]
        start, end = first.start.total_seconds(), first.end.total_seconds()
        burn(subtitles, start + SHARE * (end - start), picture)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "docs" / "subtitles.png")
