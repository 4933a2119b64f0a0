"""`make demo-voice`: data, four trainings, the checkpoint and its figures; goes on where it was.

Two processes work side by side: one plans sentences and trains the language model, the other makes
sounds and trains the codec's two halves. Then the checkpoint speaks, and the aligner learns to hear
it. Killed at any moment, the same command goes on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

STEPS = ("language", "sound", "export", "align", "learned", "evaluate")
HOURS = 3600.0
# Of the first loss, at most; seen are 0.34, 0.67, 0.49 and 0.81.
LEARNED = {"lm": 0.5, "decoder": 0.8, "front_end": 0.7, "aligner": 0.9}


@dataclass(frozen=True)
class Amount:
    """How much of everything."""

    plans: int  # shards
    sounds: int
    own: int
    tokens: float  # that the language model reads
    decoder: float  # seconds of audio
    front_end: float
    aligner: float
    judged: int  # each so-many-th sentence is judged


FULL = Amount(
    plans=60,
    sounds=40,
    own=40,
    tokens=60e6,
    decoder=30 * HOURS,
    front_end=20 * HOURS,
    aligner=20 * HOURS,
    judged=1,
)
SMOKE = Amount(
    plans=2,
    sounds=3,
    own=2,
    tokens=0.5e6,
    decoder=900,
    front_end=1800,
    aligner=900,
    judged=50,
)


def main() -> int:
    """Do one step, or all; its exit status."""
    parser = argparse.ArgumentParser(prog="demo_voice", description=__doc__)
    parser.add_argument("step", choices=("all", *STEPS))
    parser.add_argument("--state", type=Path, required=True, help="where all but the result lies")
    parser.add_argument("--wordnet", type=Path, help="WordNet's dict folder")
    parser.add_argument("--out", type=Path, help="the folder that gets checkpoint/ and voices/")
    parser.add_argument(
        "--start", type=Path, help="a checkpoint to train on from, not from nothing"
    )
    parser.add_argument("--each", type=int, help="judge each so-many-th sentence only")
    parser.add_argument("--smoke", action="store_true", help="ten minutes: does it still learn?")
    asked = parser.parse_args()
    amount = SMOKE if asked.smoke else FULL
    asked.state.mkdir(parents=True, exist_ok=True)
    if asked.step == "all":
        return _all(asked)
    import torch  # noqa: PLC0415 - the parent of the two needs none of it

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if asked.step == "language":
        _language(asked, amount)
    elif asked.step == "sound":
        _sound(asked, amount)
    elif asked.step == "export":
        _export(asked)
    elif asked.step == "align":
        _align(asked, amount)
    elif asked.step == "learned":
        return _learned(asked)
    else:
        _evaluate(asked, amount)
    return 0


def _all(asked: argparse.Namespace) -> int:
    """Both halves at once, then the rest; each step a process of its own."""
    shared = ["--state", asked.state, "--wordnet", asked.wordnet, "--out", asked.out]
    shared += ["--smoke"] if asked.smoke else []
    shared += ["--start", asked.start] if asked.start else []

    def start(step: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "scripts.demo_voice", step, *map(str, shared)]
        return subprocess.Popen(command)  # noqa: S603 - our own

    halves = [start("language"), start("sound")]
    ended = [half.wait() for half in halves]
    if any(ended):
        return 1
    learned = ("learned",) if asked.smoke else ()
    return int(any(start(step).wait() for step in ("export", "align", *learned, "evaluate")))


def _language(asked: argparse.Namespace, amount: Amount) -> None:
    from scripts.demo_voice import making, train_lm  # noqa: PLC0415

    making.make_plans(asked.state, asked.wordnet, range(amount.plans))
    train_lm.train(asked.state, amount.tokens, _start(asked, "lm"))


def _sound(asked: argparse.Namespace, amount: Amount) -> None:
    from scripts.demo_voice import making, train_decoder, train_front_end  # noqa: PLC0415

    making.make_sounds(asked.state, asked.wordnet, range(amount.sounds))
    train_decoder.train(asked.state, amount.decoder, _start(asked, "decoder"))
    train_front_end.train(asked.state, amount.front_end, _start(asked, "front_end"))


def _align(asked: argparse.Namespace, amount: Amount) -> None:
    from scripts.demo_voice import making, train_aligner  # noqa: PLC0415
    from scripts.demo_voice.export import export_aligner  # noqa: PLC0415

    checkpoint = asked.out / "checkpoint"
    making.make_own(asked.state, checkpoint, asked.wordnet, range(amount.own))
    train_aligner.train(asked.state, amount.aligner, _start(asked, "aligner"))
    export_aligner(asked.state, checkpoint / "aligner")


def _start(asked: argparse.Namespace, name: str) -> dict[str, Tensor] | None:
    """The weights of that name of the checkpoint to start from."""
    from scripts.demo_voice import resume  # noqa: PLC0415

    return None if asked.start is None else getattr(resume, name)(asked.start)


def _learned(asked: argparse.Namespace) -> int:
    """Whether each network's loss has fallen as it has to in ten minutes."""
    from scripts.demo_voice.training import learned  # noqa: PLC0415

    shares = {name: learned(asked.state / f"{name}.pt") for name in LEARNED}
    print("last loss / first:", {name: round(share, 3) for name, share in shares.items()})
    return int(any(shares[name] > most for name, most in LEARNED.items()))


def _export(asked: argparse.Namespace) -> None:
    from scripts.demo_voice.clip import write_clip  # noqa: PLC0415
    from scripts.demo_voice.export import export  # noqa: PLC0415

    export(asked.state, asked.out / "checkpoint")
    write_clip(asked.out / "checkpoint", asked.out / "voices" / "demo.wav")


def _evaluate(asked: argparse.Namespace, amount: Amount) -> None:
    from scripts.demo_voice.evaluate import evaluate, plot, table  # noqa: PLC0415

    clip = asked.out / "voices" / "demo.wav"
    figures = evaluate(
        asked.out / "checkpoint", clip, asked.state / "figures", asked.each or amount.judged
    )
    (asked.state / "figures" / "table.md").write_text(table(figures))
    plot(figures, asked.state / "figures" / "levels.svg")
    print(table(figures))


if __name__ == "__main__":
    sys.exit(main())
