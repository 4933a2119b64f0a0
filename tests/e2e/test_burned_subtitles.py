"""The real renderer shows what the files say: ffmpeg with libass, on a plain video."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from scripts.burn import BACKGROUND, FONT, burn, ffmpeg
from worker.subtitles.cues import Cue, cues
from worker.subtitles.formats import write
from worker.subtitles.style import SubtitleStyle
from worker.text.words import split_words
from worker.timing.word_timing import SentenceSpan, WordTiming

SIZE = (640, 360)
SPOKEN = np.array((255, 215, 0))
WAITING = np.array((255, 255, 255))


def style(mode: str, position: str = "bottom") -> SubtitleStyle:
    return SubtitleStyle.model_validate(
        {
            "mode": mode,
            "font": FONT,
            "primary_colour": "#FFD700",
            "secondary_colour": "#FFFFFF",
            "resolution": f"{SIZE[0]}x{SIZE[1]}",
            "size": 36,
            "outline": 0,
            "position": position,
        }
    )


def one_cue(text: str, look: SubtitleStyle) -> list[Cue]:
    """The text from second 1 on, half a second a word."""
    words = [
        WordTiming(word.text, 1 + i / 2, 1.5 + i / 2, 0.9, 0, estimated=False)
        for i, word in enumerate(split_words(text))
    ]
    return cues(words, [SentenceSpan(text, 1.0, 1 + len(words) / 2)], look)


def frame(text: str, look: SubtitleStyle, at: float, folder: Path) -> np.ndarray:
    """What is seen at a time: uint8 [height, width, 3]."""
    file, picture = folder / "subtitles.ass", folder / "frame.png"
    file.write_text(write(one_cue(text, look), look, "ass"), encoding="utf-8")
    burn(file, at, picture)
    raw = ffmpeg("-i", str(picture), "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(SIZE[1], SIZE[0], 3)


def places(picture: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Columns in which something of the colour stands."""
    return np.flatnonzero((np.abs(picture.astype(int) - colour).sum(axis=2) < 90).any(axis=0))


def written(picture: np.ndarray) -> np.ndarray:
    """Whether a pixel differs from the background: bool [height, width]."""
    plain = np.array([int(BACKGROUND[i : i + 2], 16) for i in (2, 4, 6)])
    return np.abs(picture.astype(int) - plain).sum(axis=2) > 60


def test_a_caption_is_there_while_it_is_spoken_and_at_no_other_time(tmp_path: Path) -> None:
    look = style("line")
    assert not written(frame("The boy walked.", look, 0.9, tmp_path)).any()
    shown = written(frame("The boy walked.", look, 1.2, tmp_path))
    assert shown.any()
    assert not shown[: SIZE[1] // 2].any()
    assert not written(frame("The boy walked.", look, 2.6, tmp_path)).any()


@pytest.mark.parametrize(("position", "third"), [("top", 0), ("middle", 1), ("bottom", 2)])
def test_the_text_stands_where_it_is_asked_for(position: str, third: int, tmp_path: Path) -> None:
    rows = np.flatnonzero(
        written(frame("Walk.", style("line", position), 1.2, tmp_path)).any(axis=1)
    )
    assert rows.min() >= third * SIZE[1] // 3
    assert rows.max() < (third + 1) * SIZE[1] // 3


def test_karaoke_lights_each_word_up_at_its_time(tmp_path: Path) -> None:
    look = style("karaoke")
    edges = []
    for spoken in range(1, 4):
        picture = frame("Boys walk home.", look, 1 + spoken / 2 - 0.25, tmp_path)
        lit, dark = places(picture, SPOKEN), places(picture, WAITING)
        edges.append(lit.max())
        if spoken < 3:
            assert dark.min() > lit.max()  # what is still to come stands to the right
        else:
            assert not dark.size
    assert edges == sorted(set(edges))


def test_chinese_is_drawn_and_not_as_empty_boxes(tmp_path: Path) -> None:
    look = style("line")
    one, other = (frame(text, look, 1.2, tmp_path) for text in ("天天天天", "一一一一"))
    assert written(one).sum() > 3 * written(other).sum()


@pytest.mark.parametrize("mark", ["{\\fs90}", "\\N", "\\h", "{", "}", "{\\p1}m 0 0 l 9 9", "{*"])
def test_marks_of_the_text_are_shown_as_text(mark: str, tmp_path: Path) -> None:
    look = style("line")
    plain = written(frame("abc def", look, 1.2, tmp_path))
    marked = written(frame(f"abc{mark}z def", look, 1.2, tmp_path))
    rows, marked_rows = (np.flatnonzero(shown.any(axis=1)) for shown in (plain, marked))
    assert marked.sum() > plain.sum()  # they take their room
    assert marked_rows.min() >= rows.min() - 12  # and neither break the line nor grow the text


@pytest.mark.parametrize("mode", ["line", "karaoke"])
def test_a_brace_in_ass_is_drawn_as_libass_draws_a_quoted_one(mode: str, tmp_path: Path) -> None:
    look = style(mode)
    made = one_cue("an {b1} {c", look)
    dump = write(made, look, "ass")
    quoted = dump.replace("\\{{}\u2060", "\\{")
    assert quoted.count("\\{") == dump.count("\\{{}") == 2
    pictures = []
    for name, text in (("ours", dump), ("quoted", quoted)):
        (tmp_path / f"{name}.ass").write_text(text, encoding="utf-8")
        burn(tmp_path / f"{name}.ass", 1.7, tmp_path / f"{name}.png")
        pictures.append(ffmpeg(*("-i", str(tmp_path / f"{name}.png"), "-f", "rawvideo", "-")))
    assert pictures[0] == pictures[1]


def test_what_stands_in_braces_in_subrip_is_drawn(tmp_path: Path) -> None:
    """ffmpeg, and the players that are made of it, hand SubRip's text to libass as it is."""
    look = style("line")
    file = tmp_path / "as.ass"
    drawn = []
    for text in ("walk {hello} home", "walk home"):
        (tmp_path / "a.srt").write_text(write(one_cue(text, look), look, "srt"), encoding="utf-8")
        file.write_bytes(ffmpeg("-i", str(tmp_path / "a.srt"), "-f", "ass", "-"))
        burn(file, 1.2, tmp_path / "a.png")
        raw = ffmpeg(*("-i", str(tmp_path / "a.png"), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"))
        drawn.append(int(written(np.frombuffer(raw, np.uint8).reshape(1, -1, 3)).sum()))
    assert drawn[0] > 1.5 * drawn[1]


@pytest.mark.parametrize("file_format", ["ass", "srt", "vtt"])
@pytest.mark.parametrize("mode", ["line", "karaoke"])
def test_ffmpeg_reads_every_format(file_format: str, mode: str, tmp_path: Path) -> None:
    look = style(mode)
    file = tmp_path / f"subtitles.{file_format}"
    text = "The boy, <b>he</b> & she; 我们今天去看书。 --> ok"
    made = one_cue(text, look)
    file.write_text(write(made, look, file_format), encoding="utf-8")
    again = ffmpeg("-i", str(file), "-f", "srt", "-").decode()
    assert len(re.findall(r"^\d.* --> ", again, re.MULTILINE)) == len(made)
    assert "00:00:01,000 --> " in again
    plain = again.replace("\u2060", "").replace("\n", " ")
    for word in ("The", "<b>he</b>", "&", "我们今天去看书。", "-->", "ok"):
        assert word in plain
