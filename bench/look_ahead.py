"""What a stream loses by how few tokens it waits for: `python -m bench.look_ahead`.

    python -m bench.look_ahead [--model FOLDER | --random] [--sentences 12] [--out docs/bench]

Each sentence is made as an eager stream makes it, with each look-ahead, and compared with the same
sentence made as a whole. What counts are the seams: the last 8 tokens before each and the crossfade
behind it, where the error is. Figures are signal to noise in dB, of each seam by itself; a seam in
silence is left out. The least look-ahead is the first from which on the median stays at 40 dB and
the worst seam at 30 dB: set it as STREAM_LOOK_AHEAD where the weights are your own.

`--model` is a checkpoint's folder, the embedded one by default, whose language model speaks the
sentences. `--random` takes random weights of the codec's published sizes, and random tokens: they
show what the networks' shape does with an edge, and nothing of trained weights.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.gpu.figures import markdown
from bench.plots import draw
from bench.sentences import sentences
from tests.support.random_checkpoint import FULL, Sizes, make_random_checkpoint
from tests.support.worker_process import REPOSITORY
from worker.speech.batch.sampling import Sampling
from worker.speech.checkpoint import Checkpoint
from worker.speech.codec.codec import Codec
from worker.speech.codec.eager_stream import FADE
from worker.speech.codec.upstream import find_upstream
from worker.speech.engine import Engine
from worker.speech.voice import Style

DEMO = REPOSITORY / "volume" / "demo" / "checkpoint"
LOOK_AHEADS = (0, 4, 8, 12, 14, 16, 24, 32, 48, 69)  # tokens
BEFORE = 8  # tokens before a seam that count
MEDIAN, WORST = 40.0, 30.0  # dB that the least look-ahead keeps
MOST = 120.0  # dB: what is equal to the bit, or nearly
SILENT = 1e-3  # of full scale, as the root of the mean square: below is no speech
STYLES = (Style("female", "moderate", "moderate"), Style("male", "moderate", "moderate"))
RANDOM_TOKENS = 250  # of a sentence
# The codec is the published model's, the rest as small as can be.
PUBLISHED = replace(
    Sizes(), codec=FULL.codec, semantic_codes=FULL.semantic_codes, voice_length=FULL.voice_length,
    fsq_levels=FULL.fsq_levels,
)  # fmt: skip
Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Spoken:
    """A sentence as tokens."""

    voice: tuple[int, ...]
    codes: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """What one look-ahead gives, over all seams."""

    tokens: int
    median: float  # dB
    worst: float


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write where that is asked for."""
    options = _options(arguments)
    with ExitStack() as stack:
        if options.random:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            codec, spoken = _random(folder, options.sentences, tiny=options.sizes == "tiny")
            name = "random weights, the codec's published sizes"
        else:
            codec, spoken = _speaking(options.model, options.sentences)
            name = "embedded model" if options.model == DEMO else options.model.name
        rows = measured(codec, spoken)
    reach, found = codec.reach, least(rows)
    lines = [("look-ahead, tokens", "median, dB", "worst seam, dB")]
    lines += [(str(row.tokens), f"{row.median:.1f}", f"{row.worst:.1f}") for row in rows]
    print(
        f"{name}; theoretical reach {reach} tokens; {len(spoken)} sentences\n",
        *markdown(lines),
        sep="\n",
    )
    kept = f"at or above {MEDIAN:.0f} dB, {WORST:.0f} at the worst seam"
    print(f"\nThe least that stays {kept}: STREAM_LOOK_AHEAD={found}" if found is not None else
          f"\nNone of these stays {kept}.")  # fmt: skip
    if options.out is not None:
        file = options.out / "look_ahead.json"
        kept_results = json.loads(file.read_text()) if file.is_file() else {}
        about = {"reach": reach, "least": found, "rows": [asdict(row) for row in rows]}
        results = kept_results | {name: about}
        file.write_text(json.dumps(results, indent=1) + "\n")
        draw({"look_ahead": results}, options.out)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, default=DEMO, help="a checkpoint's folder")
    parser.add_argument("--random", action="store_true", help="random weights in its place")
    parser.add_argument("--sizes", choices=["full", "tiny"], default="full", help="of these")
    parser.add_argument("--sentences", type=int, default=12, help="how many")
    parser.add_argument("--out", type=Path, help="a folder for the figures and their plot")
    return parser.parse_args(arguments)


def _speaking(folder: Path, count: int) -> tuple[Codec, list[Spoken]]:
    """A model's codec, and sentences that the model speaks, by turns in each style's voice."""
    engine = Engine.load(folder)
    texts = sentences(count)
    found = []
    for number, style in enumerate(STYLES[:count]):
        voice = engine.design(style, texts[0], Sampling(seed=number)).voice
        mine = texts[number :: len(STYLES)]
        made = engine.speak(mine, voice, Sampling(seed=number))
        found += [Spoken(voice.global_tokens, one.semantic_tokens) for one in made]
    return engine._codec, found


def _random(folder: Path, count: int, *, tiny: bool) -> tuple[Codec, list[Spoken]]:
    """A codec of random weights, and sentences of random tokens."""
    sizes = Sizes() if tiny else PUBLISHED
    checkpoint = Checkpoint(make_random_checkpoint(folder, sizes))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    codec = Codec.load(checkpoint, find_upstream(), device, torch.bfloat16)
    draws = np.random.default_rng(3)
    voices = draws.integers(0, codec.sizes.global_codes, (count, codec.sizes.voice_length))
    codes = draws.integers(0, codec.sizes.semantic_codes, (count, RANDOM_TOKENS))
    pairs = zip(voices.tolist(), codes.tolist(), strict=True)
    return codec, [Spoken(tuple(voice), tuple(code)) for voice, code in pairs]


def measured(codec: Codec, spoken: Sequence[Spoken]) -> list[Row]:
    """Each look-ahead up to the reach, and the reach itself."""
    steps = sorted({min(tokens, codec.reach) for tokens in LOOK_AHEADS})
    exact = [codec.decode(one.voice, one.codes) for one in spoken]
    usual, rows = codec.look_ahead, []
    try:
        for codec.look_ahead in steps:
            found = [
                ratio
                for one, whole in zip(spoken, exact, strict=True)
                for ratio in seams(whole, streamed(codec, one), codec.audio.hop)
            ]
            rows.append(Row(codec.look_ahead, float(np.median(found)), min(found)))
    finally:
        codec.look_ahead = usual
    return rows


def streamed(codec: Codec, one: Spoken) -> list[Samples]:
    """The pieces that an eager stream gives of the sentence."""
    stream, left = codec.stream(one.voice, eager=True), list(one.codes)
    pieces = []
    while left:
        now, left = left[: stream.wanted], left[stream.wanted :]
        pieces.append(stream.feed(now, last=not left))
    return pieces


def seams(exact: Samples, pieces: Sequence[Samples], hop: int) -> Iterator[float]:
    """Signal to noise around each seam between the pieces, in dB."""
    made, place = np.concatenate(pieces), 0
    for piece in pieces[:-1]:
        place += len(piece)
        around = slice(max(0, place - BEFORE * hop), place + int(FADE * hop))
        signal = float(np.square(exact[around], dtype=np.float64).mean())
        if signal >= SILENT**2:
            noise = float(np.square(made[around] - exact[around], dtype=np.float64).mean())
            yield min(MOST, 10 * float(np.log10(signal / max(noise, 1e-20))))


def least(rows: Sequence[Row]) -> int | None:
    """The first look-ahead from which on all are good enough."""
    found = None
    for row in reversed(rows):
        if row.median < MEDIAN or row.worst < WORST:
            break
        found = row.tokens
    return found


if __name__ == "__main__":
    sys.exit(main())
