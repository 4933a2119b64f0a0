"""Keys of a job's results in the storage, and the URLs that its answer has for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

from worker.api.request import SpeechRequest
from worker.api.response import SpeechResponse
from worker.audio.formats import ENDINGS
from worker.storage.keys import Keys


@dataclass(frozen=True)
class ResultKeys:
    """Keys of one job's results: the same ones whoever does the job, and however often."""

    audio: str
    subtitles: str | None  # where they are asked for
    _stem: Callable[[str], str]  # ending -> key
    _ending: str  # of audio

    @classmethod
    def of(cls, request: SpeechRequest, job_id: str, keys: Keys) -> Self:
        """Keys of the job's results. Raises RequestError for a job id that is no part of a key."""

        def stem(ending: str) -> str:
            return keys.output_key(request.output_name, job_id, ending)

        return cls(
            audio=stem(ENDINGS[request.output_format]),
            subtitles=stem(request.subtitle_format) if request.enable_subtitles else None,
            _stem=stem,
            _ending=ENDINGS[request.output_format],
        )

    def segment(self, index: int) -> str:
        """Key of the audio of one sentence, counted from 0."""
        return self._stem(f"{index:04}.{self._ending}")

    @property
    def words(self) -> str:
        """Key of the words with their times, where they are too many for the answer."""
        return self._stem("words.json")

    @property
    def segments(self) -> str:
        """Key of the sentences, where they are too many for the answer."""
        return self._stem("segments.json")

    def record(self, digest: str) -> str:
        """Key of the record that the job was answered."""
        return self._stem(f"{digest[:16]}.json")

    def of_response(self, response: SpeechResponse) -> Iterator[str]:
        """Keys that the answer has a URL for."""
        yield self.audio
        if self.subtitles is not None:
            yield self.subtitles
        for index, segment in enumerate(response.segments):
            if segment.audio_url is not None:
                yield self.segment(index)

    def sign(self, response: SpeechResponse, url: Callable[[str], str]) -> SpeechResponse:
        """The answer with fresh URLs: `url` gives one for a key."""
        return response.model_copy(
            update={
                "audio_url": url(self.audio),
                "subtitles_url": None if self.subtitles is None else url(self.subtitles),
                "segments": tuple(
                    segment
                    if segment.audio_url is None
                    else segment.model_copy(update={"audio_url": url(self.segment(index))})
                    for index, segment in enumerate(response.segments)
                ),
            }
        )
