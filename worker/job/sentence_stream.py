"""Sentences that are told of while others are still being spoken."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from worker.api.response import SpokenSegment
from worker.audio import files, waveform
from worker.audio.formats import Format
from worker.audio.spool import Clip, Spool
from worker.audio.waveform import Audio
from worker.logs import event

Announce = Callable[[SpokenSegment], None]


class SentenceStream:
    """Stores each sentence by itself and announces it, in order, in a thread of its own.

    So a slow storage holds up neither the speech nor other jobs, and what waits for it waits on
    the disk, in `spool`. `total` sentences are expected; the times are those that the sentences
    will have in the whole audio, `gap_seconds` apart.
    """

    def __init__(
        self,
        announce: Announce,
        store: Callable[[Path, int], str],  # file, index -> URL
        spool: Spool,
        folder: Path,
        kind: Format,
        total: int,
        gap_seconds: float,
    ) -> None:
        self._announce = announce
        self._store = store
        self._spool = spool
        self._folder = folder
        self._kind: Format = kind
        self._total = total
        self._gap = gap_seconds
        self._position = 0  # samples that the sentences so far take, the gap after them included
        self._thread = ThreadPoolExecutor(1, "segments")
        self._urls: list[Future[str]] = []
        self._stored = 0  # of them, from the first on, that went well

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        """End the thread; what is not begun is given up when the job has failed."""
        self._thread.shutdown(wait=True, cancel_futures=kind is not None)

    def add(self, text: str, clip: Clip) -> None:
        """Take the next sentence in its final form; returns at once.

        Raises StorageError where one before it could not be stored: that ends the job now, and not
        after all the others.
        """
        while self._stored < len(self._urls) and self._urls[self._stored].done():
            self._urls[self._stored].result()
            self._stored += 1
        rate = clip.sample_rate
        start = self._position
        end = start + clip.length
        self._position = end + round(self._gap * rate)
        index = len(self._urls)
        self._urls.append(
            self._thread.submit(self._tell, index, text, clip, start / rate, end / rate)
        )

    def urls(self) -> list[str]:
        """Wait until all are stored; their URLs. Raises the first one's StorageError."""
        return [url.result() for url in self._urls]

    def _tell(self, index: int, text: str, clip: Clip, start: float, end: float) -> str:
        file = self._folder / f"segment-{index}.{self._kind}"
        spoken = self._spool.read(clip)
        if not clip.length:  # a silent sentence has a URL as the others have
            spoken = Audio(np.zeros(clip.sample_rate // 20, np.float32), clip.sample_rate)
        files.write(waveform.limit_peak(spoken), file, self._kind)
        try:
            url = self._store(file, index)
        finally:
            file.unlink(missing_ok=True)
        try:
            self._announce(
                SpokenSegment(
                    index=index, total=self._total, text=text, start=start, end=end, audio_url=url
                )
            )
        except RuntimeError:  # the event loop that listened is closed
            event(logging.DEBUG, "nobody listens")
        return url
