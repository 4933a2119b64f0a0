"""Written numbers on the embedded voice: what is spoken again, and whether it is said as meant.

python -m bench.numbers [retakes] [words] [normalize]

`retakes`: jobs with word timings, each with its retries, faults and tokens. `words`: how late the
scale word of an amount is said to come; the truth is where the same tokens say it when written in
words. `normalize`: the judge's (Whisper base) word error rate with `normalize` off and auto.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.conftest import DEMO
from tests.support.desk import Desk
from worker.speech.engine import Engine
from worker.timing.aligner import Aligner

SPOKEN_AGAIN = (
    "The total comes to 1,234,567 today.",
    "It was built in 1987 by a rich man.",
    "They raised $14.8 billion last year.",
    "Call me at 555-867-5309 after lunch.",
    "The card is 4111 1111 1111 1111 and it works.",
    "The value of pi is 3.14159265 or so.",
    "He paid $1,299.99 for the old car.",
    "The party is on 12/25/2025 at our house.",
    "We counted 2,024-2,030 birds in the field.",
    "The film was made in MMXXIV by a friend.",
    "The code is A1B2C3 and it is red.",
    "The room is 20 °C and the road is 5 km long.",
)
STYLES: tuple[dict[str, Any], ...] = (
    {"speaker_gender": "female"},
    {"speaker_gender": "male", "speed": "very_low"},
)


def main() -> None:
    """Print what was asked for, or all."""
    asked = sys.argv[1:] or ["retakes"]
    engine = Engine.load(DEMO, "float32", "cpu")
    aligner = Aligner.load({"en": DEMO / "aligner"}, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(engine, Path(folder))
        desk.components = replace(desk.components, aligner=aligner)
        if "retakes" in asked:
            retakes(desk)


def retakes(desk: Desk) -> None:
    """A line for each job, then how many of them were spoken again."""
    again = jobs = 0
    for style in STYLES:
        for text in SPOKEN_AGAIN:
            metrics = desk.succeed(
                {"text": text, **style, "seed": 1, "enable_whisperx": True, "max_retries": 3}
            )["metrics"]
            jobs, again = jobs + 1, again + bool(metrics["retries"])
            print(
                f"{style.get('speed', 'moderate')}: {text} retries {metrics['retries']}, "
                f"tokens {metrics['tokens']}, faults {metrics.get('faults', [])}",
                flush=True,
            )
    print(f"{again} of {jobs} jobs were spoken again")


if __name__ == "__main__":
    main()
