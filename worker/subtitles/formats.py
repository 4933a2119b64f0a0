"""Cues as files: Advanced SubStation Alpha, SubRip and WebVTT.

Whatever the text holds stays text. None of the formats can quote all of its own marks, so where
one would begin something else, an invisible character (U+2060, word joiner) parts it. Readers are
many and differ from the formats' descriptions: what is parted is what any known one would take.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

import ass

from worker.subtitles.cues import Cue, CueWord
from worker.subtitles.style import Position, SubtitleStyle
from worker.text.markup import OWN_VOICE

Format = Literal["ass", "srt", "vtt"]

CONTENT_TYPES: Mapping[Format, str] = MappingProxyType(
    {"ass": "text/x-ssa", "srt": "application/x-subrip", "vtt": "text/vtt"}
)

_JOINER = "\u2060"
# In ASS a backslash begins a line break or, within braces, an override. libass shows \{ as a brace,
# and {} is an override of nothing: to renderers without \{ it is where the block ends, so that they
# show a backslash in the brace's place and all that stands after it.
_ASS_TEXT = str.maketrans({"\\": f"\\{_JOINER}", "{": f"\\{{{{}}{_JOINER}"})
# Players hand SubRip's text on to a renderer of ASS, which hides what is in braces, whatever it is;
# nothing quotes them there, so they are shown as full-width ones.
_SRT_TEXT = str.maketrans({"<": f"<{_JOINER}", "{": "\uff5b", "}": "\uff5d", "\\": f"\\{_JOINER}"})
_SRT_ARROW = re.compile(r"(-[- ] *)(?=>)")
_SRT_ENTITY = re.compile(r"&(?=#?\w+;)")  # players show what it stands for
_VTT_TEXT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
# A line with two times, whatever is between them, begins a cue for some readers of SRT and VTT.
_TIME = re.compile(r"(\d:\d\d?[.,:，．。：])(?=\d)")
_NUMBER = re.compile(r"\d+")  # as a cue's last line, it is the next cue's number to some
# Alignment as on a keypad.
_KEYPAD: Mapping[Position, int] = MappingProxyType({"bottom": 2, "middle": 5, "top": 8})


def write(
    cues: Sequence[Cue], style: SubtitleStyle, file_format: Format, *, bom: bool = False
) -> str:
    """Write the cues in a format; to be stored as UTF-8.

    With `bom` a byte order mark comes first. Players that take a file without one for text in the
    code page of their Windows show other letters.
    """
    writers: dict[Format, Callable[[Sequence[Cue], SubtitleStyle], str]] = {
        "ass": write_ass,
        "srt": write_srt,
        "vtt": write_vtt,
    }
    return ("\ufeff" if bom else "") + writers[file_format](cues, style)


def write_ass(cues: Sequence[Cue], style: SubtitleStyle) -> str:
    """Write ASS v4.00+; in karaoke each word lights up at its time (the override k)."""
    document = ass.Document()
    width, height = style.frame
    document.fields.update(
        {
            "ScriptType": "v4.00+",
            "WrapStyle": 0,
            "ScaledBorderAndShadow": "yes",
            "PlayResX": width,
            "PlayResY": height,
        }
    )
    speakers = list(dict.fromkeys(cue.speaker for cue in cues)) or [None]
    names = {speaker: _style_name(speaker) for speaker in speakers}
    for speaker, colour in zip(speakers, style.colours(speakers), strict=True):
        document.styles.append(
            ass.Style(
                name=names[speaker],
                fontname=style.font,
                fontsize=style.font_size,
                primary_color=_colour(colour),
                secondary_color=_colour(style.secondary_colour),
                outline_color=_colour(style.outline_colour),
                outline=style.outline,
                shadow=0.0,
                alignment=_KEYPAD[style.position],
                margin_l=width // 20,
                margin_r=width // 20,
                margin_v=height // 20,
            )
        )
    say = _karaoke if style.mode == "karaoke" else _line
    for cue in cues:
        start, end = (timedelta(milliseconds=10 * time) for time in (cue.start, cue.end))
        line = ass.Dialogue(
            start=start, end=end, style=names[cue.speaker], name=cue.speaker or "", text=say(cue)
        )
        document.events.append(line)
    text = io.StringIO()
    document.dump_file(text)
    return text.getvalue()


def _style_name(speaker: str | None) -> str:
    """The name of a speaker's style; players fall back to one that is named Default."""
    return "Default" if speaker in (None, OWN_VOICE) else str(speaker)


def _colour(code: str) -> ass.data.Color:
    """#RRGGBB as an opaque colour."""
    return ass.data.Color(*bytes.fromhex(code[1:]), a=0)


def _line(cue: Cue) -> str:
    return "\\N".join(_joined(line).translate(_ASS_TEXT) for line in cue.lines)


def _karaoke(cue: Cue) -> str:
    """A cue in karaoke: a word lasts until the next one begins, the last one until the cue ends."""
    words = [word for line in cue.lines for word in line]
    edges = [*(word.start for word in words), cue.end]
    lasting = iter([end - start for start, end in pairwise(edges)])
    lines = []
    for line in cue.lines:
        shown = (
            f"{' ' if word.spaced and i else ''}{{\\k{next(lasting)}}}"
            f"{word.text.translate(_ASS_TEXT)}"
            for i, word in enumerate(line)
        )
        lines.append("".join(shown))
    return "\\N".join(lines)


def write_srt(cues: Sequence[Cue], style: SubtitleStyle) -> str:
    """Write SubRip: numbered blocks, the time with a comma."""
    return "\n".join(
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n"
        + "".join(f"{line}\n" for line in _srt_lines(cue, style))
        for number, cue in enumerate(cues, 1)
    )


def _srt_lines(cue: Cue, style: SubtitleStyle) -> Iterator[str]:
    label = cue.label if style.speaker_names else ""
    for line in cue.lines:
        yield _srt_line(label + _joined(line))
        label = ""


def _srt_line(line: str) -> str:
    text = line.translate(_SRT_TEXT)
    text = _SRT_ENTITY.sub(f"&{_JOINER}", _SRT_ARROW.sub(rf"\1{_JOINER}", text))
    return _parted(text)


def write_vtt(cues: Sequence[Cue], style: SubtitleStyle) -> str:
    """Write WebVTT; in karaoke with a timestamp before each word (W3C WebVTT, section 4.2.2)."""
    say = _vtt_karaoke if style.mode == "karaoke" else _vtt_line
    blocks = (
        f"\n{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{_vtt_voice(cue)}{say(cue)}\n"
        for cue in cues
    )
    return "WEBVTT\n" + "".join(blocks)


def _vtt_voice(cue: Cue) -> str:
    """The voice span that a cue is, to its end (W3C WebVTT, section 4.2.2)."""
    return "" if cue.speaker is None else f"<v {cue.speaker.translate(_VTT_TEXT)}>"


def _vtt_line(cue: Cue) -> str:
    return "\n".join(_parted(_joined(line).translate(_VTT_TEXT)) for line in cue.lines)


def _vtt_karaoke(cue: Cue) -> str:
    """A cue in karaoke: timestamps inside of it and behind the one before; others are left out."""
    lines = []
    before = cue.start
    for line in cue.lines:
        shown = ""
        for i, word in enumerate(line):
            shown += " " if word.spaced and i else ""
            if before < word.start < cue.end:
                shown += f"<{_clock(word.start, '.')}>"
                before = word.start
            shown += _TIME.sub(rf"\1{_JOINER}", word.text.translate(_VTT_TEXT))
        lines.append(f"{shown}{_JOINER}" if _NUMBER.fullmatch(shown) else shown)
    return "\n".join(lines)


def _parted(line: str) -> str:
    """A line of SRT or VTT in which nothing is a time, and which is no number."""
    line = _TIME.sub(rf"\1{_JOINER}", line)
    return f"{line}{_JOINER}" if _NUMBER.fullmatch(line) else line


def _joined(line: Sequence[CueWord]) -> str:
    """The text of a line."""
    return "".join(f"{' ' if w.spaced and i else ''}{w.text}" for i, w in enumerate(line))


def _clock(time: int, mark: str) -> str:
    """Centiseconds as HH:MM:SS, the mark, and milliseconds."""
    seconds, hundredths = divmod(time, 100)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{hundredths:02}0"
