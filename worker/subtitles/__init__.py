"""Words with times -> subtitles: cues of one or two lines, as ASS, SubRip or WebVTT."""
