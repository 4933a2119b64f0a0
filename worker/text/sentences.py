"""Text -> sentences, one utterance of the model each: English, Chinese and both mixed.

Written here because the libraries tried (sentencex is the best of them) cut Chinese quotations and
mixed text in the middle, and none bounds the length of a sentence. Four steps:

1. `_paragraphs`: a line break ends a sentence, except in hard-wrapped text (`line_breaks`). A bare
   number on a line goes to the next one (`paragraphs`);
2. `sentence_ends`: which full stops end a sentence (`abbreviations`). In doubt the text is kept
   together: a pause where none belongs is worse to hear than one that the model makes by itself;
3. `bounded`: what is too long is cut at a clause, else between words, else between characters;
4. `joined`: what is too short, or has no word in it, goes to its neighbour in the paragraph.

No character is lost but white space, any run of which becomes one space, a cut or, within wrapped
Chinese, nothing; the hyphens that parted words at the ends of lines; and the marks of e-mails'
quotations at their beginnings. Time is linear in the text whatever it holds: every look back or
ahead is of bounded length.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise

import regex

from worker.text.abbreviations import LONGEST, is_abbreviated
from worker.text.paragraphs import WORD, ParagraphReader

# The model was trained on utterances of up to 20 to 30 seconds; 200 Latin letters take some 14.
MAX_WEIGHT = 200
# A Chinese character is a syllable and a digit a word: 0.2 s and more, where a letter is 0.07 s.
HEAVY = 3
# What weighs less has no prosody of its own: "No.", "好！"
SHORT = 10
# The marks on one character in Unicode's Stream-Safe Text Format (UAX #15); more is no writing.
MAX_MARKS = 30
# Characters after a stop that say whether it ends a sentence.
LOOK_AHEAD = 40
MAX_TITLE = 60  # characters
# Of the bound, that a piece has at least where a sentence is cut.
LEAST_SHARE = 0.4

_QUOTES_AFTER = "\"'”’»」』"
_CLOSING = rf"[{_QUOTES_AFTER}›)\]}}】〉》〕）］｝*_~]*+"
_OPENING = r"[\"'“‘«‹(\[{「『【〈《〔（［｛¿¡*_#~–—+$€£¥§№≈-]*+"
_PICTURE = r"[\p{Extended_Pictographic}\p{RI}]"
_EMOJI = rf"(?: ?{_PICTURE}(?:{_PICTURE}|[\p{{M}}\p{{EMod}}\u200d])*+)*+"
_WIDE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Bopomofo}]")
_HEAVY = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Bopomofo}\p{Nd}]")
# Flags apart: \X looks back over the whole run of regional indicators at each of them.
_CLUSTER = regex.compile(r"\p{RI}{2}[\p{M}\p{EMod}\u200d]*+|\X")
# A title is skipped whole: 《你好！》. A run of stops may be spaced out: ". . .". Behind it
# may stand what is cited, as in Wikipedia: [1].
STOP = regex.compile(
    rf"《[^《》]{{1,{MAX_TITLE}}}》|(?P<stops>[.!?…。！？｡．](?:[.!?…。！？｡．]| \.(?!\w))*+)"
    rf"(?P<after>{_CLOSING})(?P<cited>(?:\[\d{{1,3}}\])*+){_EMOJI}"
)
_CLAUSE = regex.compile(rf"(?:[,;:!?…]|\.\.){_CLOSING} |[，；：、。！？…—–]{_CLOSING}(?!\p{{P}}) ?")
NEXT = regex.compile(rf" ?{_OPENING}(?:(?<=[–—-]) )?(?P<word>[\w½¼¾⅓⅔⅛]*+)(?P<dot>\.?)")
_CONTINUES = regex.compile(r" ?[\p{Po}\p{Pd}\p{Pe}\p{Pf}]")
_GOES_ON = regex.compile(" ?[&,，、；：×]")
_HESITATES = regex.compile(r"\.(?: ?\.){2}|…{1,2}")
# "1. Buy milk 2. Buy eggs": the sentence's own mark, and the next one.
_ITEM = regex.compile(r"[^\w]{0,4}(?P<mark>\d{1,2}|[a-y])[.)]")
_NEXT_ITEM = regex.compile(r"(?<= )[•⁃▪*-]? ?(?P<mark>\d{1,2}|[b-z])$")


def split(text: str, max_weight: int = MAX_WEIGHT) -> list[str]:
    """Split a text into pieces to be spoken one by one, each stripped and not empty.

    A piece weighs at most `max_weight` (60 or more): 3 for a digit or a character of Chinese,
    Japanese or Korean, 1 for another one. A piece without any letter or digit can only come of a
    text with more punctuation in a row than a piece may weigh.
    """
    if max_weight < 2 * MAX_MARKS:
        raise ValueError(f"max_weight is {max_weight}; one character may weigh {MAX_MARKS}")
    pieces: list[str] = []
    for paragraph in _paragraphs(text):
        weights = weights_of(paragraph)
        ends = [end for end in sentence_ends(paragraph) if end in weights]
        ends = list(bounded(paragraph, ends, weights, max_weight))
        bounds = joined(paragraph, ends, weights, max_weight)
        pieces += [paragraph[start:end].strip() for start, end in pairwise(bounds)]
    return pieces


def weigh(text: str) -> int:
    """The weight of a text, in letters: 3 for a digit or a character of Chinese, 1 for others."""
    return next(reversed(weights_of(text).values()))


def _paragraphs(text: str) -> list[str]:
    """Paragraphs without line breaks, each with a word in it where the text has one."""
    reader, paragraphs = ParagraphReader(), []
    parts = (reader.feed(" ".join(line.split()), ends_line=True) for line in text.splitlines())
    for part in chain.from_iterable(chain(parts, (reader.end() for _ in range(1)))):
        if part.begins:
            paragraphs.append([part.text])
            continue
        if part.drop:
            paragraphs[-1][-1] = paragraphs[-1][-1][: -part.drop]
        paragraphs[-1].append(part.text)
    return ["".join(parts) for parts in paragraphs]


def weights_of(text: str) -> dict[int, int]:
    """The places where the text may be cut, in order, each with the weight up to there.

    A cut never parts what a reader sees as one character (a grapheme cluster, UAX #29).
    """
    place = weight = 0
    weights = {0: 0}
    for cluster in _CLUSTER.findall(text):
        for start in range(0, len(cluster), MAX_MARKS + 1):
            part = cluster[start : start + MAX_MARKS + 1]
            place += len(part)
            weight += max(HEAVY if _HEAVY.match(part) else 1, len(part) - 1)
            weights[place] = weight
    return weights


def sentence_ends(text: str) -> Iterator[int]:
    """The end of each sentence, the space after it included."""
    start = 0
    for stop in STOP.finditer(text):
        end = end_at(text, stop, start)
        if end and end < len(text):
            yield end
        start = end or start
    yield len(text)


def end_at(text: str, stop: regex.Match[str], start: int) -> int:
    """Where the sentence that began at `start` ends, if it does at the stops that matched, else 0.

    That is behind them and a space, or before the mark of an item that they belong to.
    """
    if not stop["stops"]:
        return 0
    item = _next_item(text, stop, start)
    if item or not _is_end(text, stop, start):
        return item
    return stop.end() + text.startswith(" ", stop.end())


def _next_item(text: str, stop: regex.Match[str], start: int) -> int:
    """Where the mark begins that the stop belongs to, if it is that of a list's next item, else 0.

    The sentence has to begin with the mark before it.
    """
    head = max(start, stop.start() - 6)
    last = _NEXT_ITEM.search(text[head : stop.start()])
    if last is None or stop["stops"] != "." or not text.startswith(" ", stop.end()):
        return 0
    first = _ITEM.match(text, start)
    if first is None or _after(str(first["mark"])) != last["mark"]:
        return 0
    return int(head + last.start())


def begins_item(text: str, start: int) -> bool:
    """Whether the sentence at `start` begins with the mark of a list."""
    return _ITEM.match(text, start) is not None


def _after(mark: str) -> str:
    return str(int(mark) + 1) if mark.isdigit() else chr(ord(mark) + 1)


def _is_end(text: str, stop: regex.Match[str], start: int) -> bool:
    """Whether the stops that matched end the sentence that began at `start`."""
    stops, after = str(stop["stops"]), "" if stop["cited"] else str(stop["after"])
    rest = text[stop.end() : stop.end() + LOOK_AHEAD]
    following = next(NEXT.finditer(rest))  # it matches anything
    word = str(following["word"])
    spaced = rest.startswith(" ")
    wide_stop = not set(stops).isdisjoint("。！？｡．")
    if not spaced and after and word and following.start("word") == 0:
        return stops[-1] == "。" and after[-1] in _QUOTES_AFTER  # “好！”他说, （是的。）他说
    if wide_stop:
        inside = stops[-1] == "．" and word[:1].isdigit()  # ３．５
        return not inside and not _CONTINUES.match(rest)
    if word[:1].islower() or not (spaced or _WIDE.match(rest)) or _GOES_ON.match(rest):
        return False
    if stops == ".":
        dot = bool(following["dot"])
        return not is_abbreviated(before_stop(text, stop, start), word, dot=dot)
    if word == "I" and _HESITATES.fullmatch(stops):  # I thought... I would go.
        return False
    return spaced or stops[-1] in "!?"


def before_stop(text: str, stop: regex.Match[str], start: int) -> str:
    """What stands before the stop in its sentence, as far as `is_abbreviated` needs it."""
    return text[max(start, stop.start() - LONGEST) : stop.start()]


def bounded(text: str, ends: Iterable[int], weights: dict[int, int], limit: int) -> Iterator[int]:
    """The ends with cuts between them, so that no piece weighs more than `limit`."""
    places, totals = list(weights), list(weights.values())
    clauses = [cut for match in _CLAUSE.finditer(text) if (cut := match.end()) in weights]
    spaces = [cut for cut in places[1:] if text[cut - 1] == " "]
    start = 0
    for end in ends:
        while (rest := weights[end] - weights[start]) > limit:
            # Pieces of about the same length sound better than full ones and a small rest.
            aim = weights[start] + rest / math.ceil(rest / limit)
            low = places[bisect_left(totals, weights[start] + limit * LEAST_SHARE)]
            high = places[bisect_right(totals, weights[start] + limit) - 1]
            for cuts in (clauses, spaces, places):
                near = cuts[bisect_left(cuts, low) : bisect_right(cuts, high)]
                if near:
                    start = min(near, key=lambda cut: abs(weights[cut] - aim))
                    break
            yield start
        yield end
        start = end


def joined(
    text: str, ends: Iterable[int], weights: dict[int, int], limit: int, *, more: bool = False
) -> list[int]:
    """The bounds of the pieces, from 0 on, after each short one has gone to a neighbour.

    With `more` to follow, the last one has not.
    """

    def short(start: int, end: int) -> bool:
        return is_short(text, weights, start, end)

    def fits(start: int, end: int) -> bool:
        return weights[end] - weights[start] <= limit

    bounds = [0]
    for end in ends:
        if len(bounds) > 1 and short(*bounds[-2:]) and fits(bounds[-2], end):
            bounds[-1] = end
        elif len(bounds) > 2 and short(*bounds[-2:]) and fits(bounds[-3], bounds[-1]):
            bounds[-2:] = [bounds[-1], end]
        else:
            bounds.append(end)
    if not more and len(bounds) > 2 and short(*bounds[-2:]) and fits(bounds[-3], bounds[-1]):
        del bounds[-2]
    return bounds


def is_short(text: str, weights: dict[int, int], start: int, end: int) -> bool:
    """Whether this piece is too short to be spoken by itself."""
    return weights[end] - weights[start] < SHORT or not WORD.search(text, start, end)
