"""The aligner: sentences and their audio -> words with times.

The engine knows where each sentence begins and ends, so no window is longer than a sentence, and
memory does not grow with the length of the audio. Words of the other language within a sentence
are first only located between their neighbours, then looked for there with their own model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from worker.errors import SetupError
from worker.text.english_numbers import load_english
from worker.text.spoken.word_groups import WordGroup, word_groups
from worker.text.words import language_of
from worker.timing.ctc_model import FRAME_SECONDS, SAMPLE_RATE, CtcModel, OpenLane, load_model
from worker.timing.search import Hit, search
from worker.timing.whisperx_align import load_align
from worker.timing.word_timing import SentenceSpan, WordTiming

_FRAME = round(FRAME_SECONDS * SAMPLE_RATE)  # samples
_SOUND_FLOOR = 0.01  # of the loudest frame, -40 dB: below it there is no voice
_ONSET = 2  # frames by which a word may begin before the path says so
_PAUSE = 3  # frames of silence at a word's end that are no longer the word
_CLOSURE = 5  # frames of silence inside of a word: the closure of a plosive


class Aligner:
    """WhisperX's alignment with all its models in memory."""

    def __init__(self, models: Mapping[str, CtcModel]) -> None:
        """`models` has one entry or more: 'en' or 'zh' and the model of that language."""
        if not models:
            raise SetupError("no alignment model is loaded; set WHISPERX_LANGUAGES, e.g. to en,zh")
        self._models = dict(models)

    @classmethod
    def load(
        cls,
        folders: Mapping[str, Path],
        device: str | None = None,
        open_lane: OpenLane | None = None,
    ) -> Aligner:
        """Load the model of each language from its folder; on the GPU where there is one.

        There each model runs on a lane of its own, where `open_lane` gives one. Raises SetupError
        where a folder is not complete.
        """
        load_align()  # it and the next take time: now, not in the first job
        load_english()
        import_module("rjieba")
        where = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(
            {name: load_model(name, folder, where, open_lane) for name, folder in folders.items()}
        )

    def model_of(self, language: str) -> CtcModel | None:
        """The model of 'en' or 'zh'; None where none is loaded."""
        return self._models.get(language)

    def align(
        self,
        samples: NDArray[np.float32],
        sample_rate: int,
        sentences: Sequence[SentenceSpan],
        *,
        default: str | None = None,
    ) -> list[WordTiming]:
        """Time each word of each sentence in samples [n]: all words, in order, as written.

        Times never decrease and stay inside of their sentence. `default` is the language of a
        sentence without letters; that of all sentences together when not given. Raises
        ValueError where the audio is not at 16 kHz.
        """
        if sample_rate != SAMPLE_RATE:
            raise ValueError(f"alignment needs {SAMPLE_RATE} Hz, not {sample_rate} Hz")
        default = default or language_of(" ".join(sentence.text for sentence in sentences))
        timed: list[WordTiming] = []
        for index, sentence in enumerate(sentences):
            first, last = round(sentence.start * SAMPLE_RATE), round(sentence.end * SAMPLE_RATE)
            window = np.ascontiguousarray(samples[first:last], dtype=np.float32)
            language = language_of(sentence.text, default=default)
            words, groups = word_groups(sentence.text, language, sentence.replacements)
            hits = self._find(window, groups, language)
            timed.extend(_placed([word.text for word in words], hits, sentence, index))
        return timed

    def _find(
        self, window: NDArray[np.float32], groups: Sequence[WordGroup], language: str
    ) -> list[Hit | None]:
        """Find each word in the window; None where nothing of it is spoken or it has no room."""
        model = self._models.get(language) or next(iter(self._models.values()))
        hits = search(model, window, groups)
        first = 0
        for own, run in groupby(groups, key=lambda g: self._models.get(g.language, model)):
            others = list(run)
            last = first + sum(group.count for group in others)
            if own is not model:
                hits[first:last] = _refined(own, window, others, hits, range(first, last))
            first = last
        return _settled(hits, window)


def _refined(
    model: CtcModel,
    window: NDArray[np.float32],
    groups: Sequence[WordGroup],
    hits: Sequence[Hit | None],
    run: range,
) -> list[Hit | None]:
    """Look again for the words of `run`, where their neighbours leave room, with their model."""
    before = [hit.end for hit in hits[: run[0]] if hit]
    behind = [hit.start for hit in hits[run[-1] + 1 :] if hit]
    start = before[-1] if before else 0.0
    end = behind[0] if behind else window.size / SAMPLE_RATE
    part = window[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
    found = search(model, part, groups)
    return [
        replace(hit, start=start + hit.start, end=start + hit.end) if hit else hits[i]
        for i, hit in zip(run, found, strict=True)
    ]


def _settled(hits: Sequence[Hit | None], window: NDArray[np.float32]) -> list[Hit | None]:
    """Let each word end where the voice does.

    The path ends with the first frame of the last character, so the last word goes on until the
    voice stops; a word before a pause has that pause, which belongs to no word, cut off.
    """
    frames = window[: window.size // _FRAME * _FRAME].reshape(-1, _FRAME)
    energy = np.sqrt(np.square(frames, dtype=np.float32).mean(axis=1))
    voiced = np.flatnonzero(energy > _SOUND_FLOOR * energy.max(initial=0.0))
    last = max((i for i, hit in enumerate(hits) if hit), default=None)
    return [
        hit and replace(hit, end=_voice_end(hit, voiced, is_last=i == last))
        for i, hit in enumerate(hits)
    ]


def _voice_end(hit: Hit, voiced: NDArray[np.intp], *, is_last: bool) -> float:
    """Seconds at which the voice of a hit ends, by the indices of the frames that have one."""
    start, end = (round(time * SAMPLE_RATE / _FRAME) for time in (hit.start, hit.end))
    # The last frames may be the next word's first ones.
    within = voiced[(voiced >= start) & (voiced < end - _ONSET)]
    if within.size and end - _ONSET - within[-1] > _PAUSE:
        end = int(within[-1]) + 1
    if is_last:
        for frame in voiced[voiced >= end]:
            if frame > end + _CLOSURE:
                break
            end = int(frame) + 1
        return max(hit.start, end * _FRAME / SAMPLE_RATE)
    return min(hit.end, end * _FRAME / SAMPLE_RATE)


def _placed(
    words: Sequence[str], hits: Sequence[Hit | None], sentence: SentenceSpan, index: int
) -> list[WordTiming]:
    """Put hits into the audio; words without one share the room that their neighbours leave."""
    bounds = np.full((len(words), 2), np.nan)
    for i, hit in enumerate(hits):
        if hit:
            bounds[i] = sentence.start + hit.start, sentence.start + hit.end
    _share_room(bounds, [len(word) for word in words], sentence)
    flat = np.maximum.accumulate(np.clip(bounds.ravel(), sentence.start, sentence.end))
    return [
        WordTiming(
            word,
            start=float(flat[2 * i]),
            end=float(flat[2 * i + 1]),
            score=hit.score if hit and not hit.guessed else None,
            sentence=index,
            estimated=hit is None or hit.guessed,
            said=hit.said if hit else None,
        )
        for i, (word, hit) in enumerate(zip(words, hits, strict=True))
    ]


def _share_room(
    bounds: NDArray[np.float64], lengths: Sequence[int], sentence: SentenceSpan
) -> None:
    """Fill the missing rows of bounds [words, start and end], by the words' lengths."""
    for missing, group in groupby(range(len(lengths)), key=lambda i: bool(np.isnan(bounds[i, 0]))):
        run = list(group)
        if missing:
            left = bounds[run[0] - 1, 1] if run[0] else sentence.start
            right = bounds[run[-1] + 1, 0] if run[-1] + 1 < len(lengths) else sentence.end
            shares = np.cumsum([0, *(lengths[i] for i in run)])
            edges = left + max(right - left, 0.0) * shares / shares[-1]
            bounds[run, 0], bounds[run, 1] = edges[:-1], edges[1:]
