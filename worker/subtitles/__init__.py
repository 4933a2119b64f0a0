"""Words with times -> subtitles: cues of one or two lines, as ASS, SubRip or WebVTT."""

from worker.subtitles.cues import Cue, CueWord, cues
from worker.subtitles.formats import CONTENT_TYPES, Format, write
from worker.subtitles.style import SubtitleStyle

__all__ = ["CONTENT_TYPES", "Cue", "CueWord", "Format", "SubtitleStyle", "cues", "write"]
