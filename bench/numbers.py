"""Written numbers on the embedded voice: what is spoken again, and what is heard.

python -m bench.numbers retakes
python -m bench.numbers heard

`retakes`: jobs with word timings, each with its retries, faults and tokens; with `normalize` off,
so that the model itself reads what is written. `heard`: the word error rate of the judge (Whisper
base) against what is meant, with `normalize` off and auto; what the judge writes in digits is put
into words by `normalize` too.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.conftest import DEMO, DEMO_VOICE
from tests.support.desk import Desk
from tests.support.judge import hear, load_judge, word_error_rate
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Engine
from worker.text.line import Line
from worker.text.spoken.normalize import Normalize, replacements
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
# What is written, and what is meant.
MEANT = {
    "The party is on 12/25/2025 at our house.":
        "The party is on December twenty fifth twenty twenty five at our house.",
    "Call me at 555-867-5309 after lunch.":
        "Call me at five five five eight six seven five three zero nine after lunch.",
    "King Henry VIII had six wives.": "King Henry the eighth had six wives.",
    "The film was made in MMXXIV by a friend.":
        "The film was made in twenty twenty four by a friend.",
    "He is 5'11\" tall.": "He is five feet eleven inches tall.",
    "Please write to bob@home.com today.": "Please write to bob at home dot com today.",
    "About 2/3 of the people went home.": "About two thirds of the people went home.",
    "We met on 2024-05-06 in the park.": "We met on May sixth twenty twenty four in the park.",
    "The room is 20 °C in the morning.": "The room is twenty degrees Celsius in the morning.",
    "She lives on Elm Dr. near the park.": "She lives on Elm Drive near the park.",
    "He ran 100 m in the rain.": "He ran one hundred meters in the rain.",
    "The ratio is 16:9 on this screen.": "The ratio is sixteen to nine on this screen.",
}  # fmt: skip
STYLES: tuple[dict[str, Any], ...] = (
    {"speaker_gender": "female"},
    {"speaker_gender": "male", "speed": "very_low"},
)


def main() -> None:
    """Print what was asked for, or both."""
    asked = sys.argv[1:] or ["retakes", "heard"]
    engine = Engine.load(DEMO, "float32", "cpu")
    with tempfile.TemporaryDirectory() as folder:
        if "retakes" in asked:
            retakes(engine, Path(folder))
        if "heard" in asked:
            heard(engine, Path(folder))


def retakes(engine: Engine, folder: Path) -> None:
    """A line for each job, then how many of them were spoken again."""
    desk = Desk(engine, folder)
    aligner = Aligner.load({"en": DEMO / "aligner"}, "cpu")
    desk.components = replace(desk.components, aligner=aligner)
    how = {"seed": 1, "enable_whisperx": True, "max_retries": 3, "normalize": "off"}
    again = jobs = 0
    for style in STYLES:
        for text in SPOKEN_AGAIN:
            metrics = desk.succeed({"text": text, **style, **how})["metrics"]
            jobs, again = jobs + 1, again + bool(metrics["retries"])
            print(
                f"{style.get('speed', 'moderate')}: {text} retries {metrics['retries']}, "
                f"tokens {metrics['tokens']}, faults {metrics.get('faults', [])}",
                flush=True,
            )
    print(f"{again} of {jobs} jobs were spoken again")


def heard(engine: Engine, folder: Path) -> None:
    """The word error rate of each sentence with `normalize` off and auto, then the means."""
    judge, voice = load_judge(folder / "judge"), engine.listen(DEMO_VOICE)
    rates: dict[Normalize, list[float]] = {"off": [], "auto": []}
    for mode, found in rates.items():
        lines = [Line(text, replacements(text, "en", mode)).said for text in MEANT]
        spoken = engine.speak(lines, voice, Sampling(seed=1))
        for text, utterance in zip(MEANT, spoken, strict=True):
            writes = hear(judge, utterance.samples)
            says = Line(writes, replacements(writes, "en", "on")).said
            found.append(word_error_rate(MEANT[text], says))
            print(f"{mode} {found[-1]:.2f}: {text} is heard as: {writes}", flush=True)
    for mode, found in rates.items():
        print(f"normalize {mode}: mean word error rate {sum(found) / len(found):.3f}")


if __name__ == "__main__":
    main()
