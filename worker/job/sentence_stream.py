"""Stores and announces each sentence of a streamed job while others are still being spoken."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np

from worker.api.request import SpeechRequest
from worker.api.response import SpokenSegment
from worker.audio.formats import ENDINGS, content_type
from worker.audio.spool import Clip
from worker.job.context import Announce, Job
from worker.job.speech_file import rate_of, write_speech
from worker.logs import event
from worker.text.line import Line
from worker.timing.word_timing import SentenceSpan


class SentenceStream:
    """Stores each sentence by itself and announces it, in order, in a thread of its own.

    So a slow storage holds up neither the speech nor other jobs, and what waits for it waits on
    the disk, in the job's spool. The times are those that the sentences will have in the whole
    audio.
    """

    def __init__(self, announce: Announce, request: SpeechRequest, total: int, job: Job) -> None:
        self._announce = announce
        self._request = request
        self._total = total  # sentences
        self._job = job
        self._keys = job.keys(request)
        self._position = 0  # samples that the sentences so far take, silence between them included
        self._thread = ThreadPoolExecutor(1, "segments")
        self._urls: list[Future[str]] = []
        self._stored = 0  # of them, from the first on, that went well

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        """Ends the thread; what is not begun is given up when the job has failed."""
        self._thread.shutdown(wait=True, cancel_futures=kind is not None)

    def add(self, line: Line, clip: Clip) -> None:
        """Queue the next sentence, in its final form; returns at once.

        Raises StorageError where one before it could not be stored: that ends the job now, and not
        after all the others.
        """
        while self._stored < len(self._urls) and self._urls[self._stored].done():
            self._urls[self._stored].result()
            self._stored += 1
        rate = clip.sample_rate
        index = len(self._urls)
        gap = line.silence(self._request.multi_sentence_gap, first=not index)
        start = self._position + round(gap * rate)
        end = start + clip.length
        self._position = end
        span = SentenceSpan(line.text, start / rate, end / rate, speaker=line.speaker)
        self._urls.append(self._thread.submit(self._store_and_announce, index, span, clip))

    def urls(self) -> list[str]:
        """Wait until all are stored; their URLs. Raises the first one's StorageError."""
        return [url.result() for url in self._urls]

    def _store_and_announce(self, index: int, span: SentenceSpan, clip: Clip) -> str:
        url = self._store(index, clip)
        segment = SpokenSegment(
            index=index,
            total=self._total,
            text=span.text,
            start=span.start,
            end=span.end,
            audio_url=url,
            speaker=span.speaker,
        )
        try:
            self._announce(segment)
        except RuntimeError:  # the event loop that listened is closed
            event(logging.DEBUG, "nobody listens")
        return url

    def _store(self, index: int, clip: Clip) -> str:
        """Store the sentence as a file of its own, which is gone afterwards; its URL."""
        request = self._request
        key = self._keys.segment(index)
        file = self._job.folder / f"segment-{index}.{ENDINGS[request.output_format]}"
        samples = self._job.spool.read(clip).samples
        rate = clip.sample_rate
        if not clip.length:  # a silent sentence has a URL as the others have
            samples = np.zeros(rate // 20, np.float32)
        # Each at its own level: the whole is not known yet.
        write_speech(lambda: [samples], rate, file, request, self._job.components.voices.model)
        try:
            self._job.store(file, key, content_type(request.output_format, rate_of(request, rate)))
        finally:
            file.unlink(missing_ok=True)
        return self._job.url(self._request, key)
