"""WhisperX's `align`, its code as it is, without what is slow around it and what it brings.

For a sentence of 4 seconds it takes 20 ms under Python's lock as published: a third in a trellis
whose loops take single numbers out of torch tensors, half in pandas. This one is a copy of the
module that is given our trellis (the same to the last bit) and lists for tables, and that imports
none of what `align` does not touch: transformers, torchaudio, pandas, nltk (five seconds of imports
and some 5,000 files). The module itself stays as it is for everybody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

from worker.stand_ins import run_apart
from worker.timing.ctc_model import SAMPLE_RATE
from worker.timing.tables import Column, Table
from worker.timing.trellis import backtrack, get_trellis

LANGUAGES_WITHOUT_SPACES = ("ja", "zh")  # WhisperX's
Align = Callable[..., dict[str, Any]]


@cache
def load_align() -> Align:
    """`whisperx.alignment.align` for texts of one sentence: of letters and spaces alone."""
    module = run_apart(
        "whisperx.alignment",
        {
            "pandas": SimpleNamespace(DataFrame=Table, Series=Column),
            "nltk.tokenize.punkt": SimpleNamespace(
                PunktParameters=SimpleNamespace, PunktSentenceTokenizer=_OneSentence
            ),
            # Of other functions of the module: they load a model and its audio.
            "torchaudio": SimpleNamespace(),
            "transformers": SimpleNamespace(Wav2Vec2ForCTC=None, Wav2Vec2Processor=None),
            "whisperx.audio": SimpleNamespace(SAMPLE_RATE=SAMPLE_RATE, load_audio=None),
            # Of times that are missing; none is, for each letter has one.
            "whisperx.utils": SimpleNamespace(interpolate_nans=lambda times, **_how: times),
        },
    )
    vars(module).update(get_trellis=get_trellis, backtrack=backtrack)
    align: Align = module.align
    return align


class _OneSentence:
    """Cuts a text into sentences where it is known to be one."""

    def __init__(self, parameters: object) -> None:
        """Of `parameters`, abbreviations, nothing is needed."""

    def span_tokenize(self, text: str) -> Iterator[tuple[int, int]]:
        """The first and the last place of each sentence."""
        yield 0, len(text)
