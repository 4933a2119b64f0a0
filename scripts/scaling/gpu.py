"""python -m scripts.scaling.gpu WORKER REPORT [--write]: a GPU's speeds as they were measured.

WORKER names an entry of docs/scaling/measured.json, REPORT a JSON of `make gpu-check`. The entry is
printed with the speed and codec_seconds of the report, and where they are from; all else of it
stays. With --write it takes its place in the file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.scaling.inputs import MEASURED

TOKENS_A_SECOND = 50
FIELDS = ("speed", "codec_seconds")
FROM = "ASSUMED, but for what `measured` names"


def main(arguments: list[str] | None = None) -> None:
    """Print the inputs with the report's speeds, or write them."""
    given = sys.argv[1:] if arguments is None else arguments
    write = given[2:] == ["--write"]
    if len(given) != 2 + write:
        sys.exit(__doc__)
    name, file = given[0], Path(given[1])
    values = json.loads(MEASURED.read_text(encoding="utf-8"))
    if name not in values["workers"]:
        sys.exit(f"no such worker: {name}; there are {', '.join(values['workers'])}")
    report = json.loads(file.read_text(encoding="utf-8"))
    values["workers"][name] |= from_report(report, file.name)
    if write:
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        MEASURED.write_text(text, encoding="utf-8")
    print(json.dumps(values["workers"][name], indent=2))


def from_report(report: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The fields that a report gives. Raises ValueError where it has no `jobs`.

    `speed` is that of the language model with its prompts. What the codec takes of a token beside
    it is the difference of the most jobs at once, with it and without.
    """
    found = (report["stages"].get("jobs") or {}).get("found")
    if not found:
        raise ValueError(f"{name} has no jobs")
    waves = {count: wave for count, wave in found.items() if count.isdigit()}
    speed = {
        count: round(TOKENS_A_SECOND * wave["language_model_alone"], 1)
        for count, wave in waves.items()
    }
    most = waves[max(waves, key=int)]
    with_codec, without = (
        1 / (TOKENS_A_SECOND * most[figure])
        for figure in ("audio_a_second", "language_model_alone")
    )
    machine = report["machine"]
    return {
        "from": FROM,
        "speed": speed,
        "codec_seconds": float(f"{max(0.0, with_codec - without):.3g}"),
        "measured": {
            "fields": list(FIELDS),
            "command": "make gpu-check",
            "machine": f"{machine['card']}, torch {machine['torch']}, commit {machine['commit']}",
            "report": f"bench/gpu/{name}",
        },
    }


if __name__ == "__main__":
    main()
