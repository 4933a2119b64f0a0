"""Text to sentences: hard cases, the bound, and that nothing is lost."""

from __future__ import annotations

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.text import HEAVY, MAX_MARKS, MAX_WEIGHT, split

# "|" stands where a text is cut. Pieces are long enough not to be joined to their neighbours.
SENTENCES = """
The weather is nice.| How are you today?| I am very well!
Dr. Smith met Mrs. Jones at St. Mary's Church.| They talked for hours.
He works at Acme Inc. in Boston.| She works at Pitt & Co. and likes it.
The U.S. Army and the U.S. economy grew.| So did Europe's.
He has lived in the U.S. for years.| She lives in the U.K.| They never met.
We met at 5 p.m. on Friday.| We left at 9 a.m.| Nobody saw us go.
See e.g. The Times, i.e. The newspaper.| It is not long.
Fruits, nuts, etc. are healthy.| We sell them all.
The train is No. 5 today.| I said no.| You did not listen.
See Fig. 3, Sec. 4.2 and p. 55 for details.| They are clear.
J. R. R. Tolkien wrote it.| George W. Bush read it.
Founded in Jan. 1999 by J. P. Morgan, it failed.| Nobody knows why.
It costs $3.50 today.| Tomorrow it costs 4.25 euros.
Version 2.6.0 of torch is out.| Python 3.11 is required.
Visit https://example.com/a.b?c=d!e for more.| Then come back.
Write to john.doe@example.com about README.md.| He answers.
He said "Stop!" and left the room.| Nobody moved.
"Where are you going?" she asked.| "To the market."
She said, "It is over now."| Then she left him.
He whispered “I know it.”| She only nodded.
(This is a note on that.)| And this is not one.
He taught (he was a teacher.) at the school.| He liked it.
She works at Yahoo! in the office.| He works at home.
Wait... what did you say?| I thought... maybe not.
And then it was over…| Silence fell on them.
What do you mean?!| I never said that!!!| Believe me.
I love it so much! 😀👍🏽| You do too, I think.
Great 👨‍👩‍👧‍👦 family time!| We were all there.
The first paragraph has no stop\\n\\n|The second paragraph.
A title on a line\\n|The text begins here.
apples and pears\\n|bananas and grapes
This line was wrapped by somebody at a width of fifty\\nand so it goes on here.| And it ends.
1. Buy milk and bread.| 2. Buy eggs and butter.
* 9. The ninth item\\n|* 10. The tenth item
今天天气真的很好。|我们去公园玩吧！|你们来不来呢？
他对我说：“你好啊。”|然后他就走了。
“你们在哪里呢？”她问。|“我们在这里呢。”
价格是3.5元一个。|真的不算贵。
我用Python 3.11写代码。|It works very well.|真的很好用。
他来自U.S.的一家公司。|公司真的很大。
真的是这样吗？！|太好太好了！！
等等……我先想想。|好的好的好的。
《你好！李焕英》很好看。|你看过没有？
请访问https://example.com/index.html。|谢谢你们。
王先生（他是老师！）来了。|大家都欢迎他。
你好啊，我是Alice。|How are you today？|我很好。
人工智能很厉害.|是的是的是的.
你说“什么？！”是什么意思？|我没听懂。
今天气温是-3.5℃。|Dr. Wang说会下雪。|记得穿外套。
""".strip().splitlines()


@pytest.mark.parametrize("marked", SENTENCES)
def test_sentences(marked: str) -> None:
    pieces = marked.replace("\\n", "\n").split("|")
    expected = [" ".join(piece.split()) for piece in pieces]
    assert split("".join(pieces)) == expected


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("No. I will not go there.", ["No. I will not go there."]),
        ("Is it you? Yes. I was waiting.", ["Is it you?", "Yes. I was waiting."]),
        ("I will not go there. No.", ["I will not go there. No."]),
        ("好！我们一起去公园吧。", ["好！我们一起去公园吧。"]),
        ("Come in, my friend.\n***\nSit down here.", ["Come in, my friend. ***", "Sit down here."]),
        ("---\nCome in, my friend.", ["--- Come in, my friend."]),
        ("Intro\nCome in, my friend.", ["Intro", "Come in, my friend."]),
    ],
)
def test_what_is_too_short_goes_to_its_neighbour(text: str, pieces: list[str]) -> None:
    assert split(text) == pieces


def test_a_short_piece_does_not_make_its_neighbour_too_long() -> None:
    long = f"{'X' * (MAX_WEIGHT - 2)}."  # and the space after it
    assert split(f"Go on. {long} Go on.") == ["Go on.", long, "Go on."]
    assert split(f"He did it again. No. {long}") == ["He did it again. No.", long]


def weight(piece: str) -> int:
    """The least that a piece can weigh: 1 or 3 for what a reader sees as one character."""
    heavy = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Bopomofo}\p{Nd}]"
    clusters = regex.findall(r"\X", piece)
    return sum(HEAVY if regex.match(heavy, cluster) else 1 for cluster in clusters)


def test_a_long_sentence_is_cut_at_its_clauses() -> None:
    clause = "it was the season of Light"
    pieces = split(", ".join([clause] * 40) + ".")
    assert all(piece.endswith((f"{clause},", f"{clause}.")) for piece in pieces)
    assert all(MAX_WEIGHT / 2 < weight(piece) <= MAX_WEIGHT for piece in pieces)
    assert all(
        piece.endswith(("，", "。")) for piece in split("我们今天去公园，" * 40 + "好的好的。")
    )


def test_numbers_and_times_are_not_clauses() -> None:
    pieces = split("3,000,000 10:30 " * 60)
    assert {word for piece in pieces for word in piece.split()} == {"3,000,000", "10:30"}


def test_without_clauses_words_stay_whole_and_pieces_are_of_like_length() -> None:
    pieces = split("word " * 50)
    assert [len(piece) for piece in pieces] == [124, 124]


@pytest.mark.parametrize(
    "character", ["a", "中", "e\u0301", "👨‍👩‍👧‍👦", "🇩🇪", "가", "각", "1️⃣", "👍🏽"]
)
def test_a_run_without_a_space_is_cut_between_characters(character: str) -> None:
    pieces = split(character * 2_000)
    assert len(pieces) > 1
    assert "".join(pieces) == character * 2_000
    assert all(len(piece) % len(character) == 0 for piece in pieces)


def test_white_space_becomes_single_spaces() -> None:
    assert split("\u3000 a\t b\u00a0\u2003c \n\r\n\x0b ") == ["a b c"]
    assert split(" \n\u2028\x85 ") == []


def test_a_smaller_bound_holds_and_a_senseless_one_is_refused() -> None:
    assert max(map(len, split("word " * 100, max_weight=60))) <= 60
    with pytest.raises(ValueError, match="max_weight is 59"):
        split("x", max_weight=2 * MAX_MARKS - 1)


HOSTILE = {
    "dots": "." * 20_000,
    "spaced dots": ". " * 10_000,
    "quotes": '"' * 20_000,
    "quotes after stops": ".\"'" * 6_666,
    "marks": "a" + "\u0301" * 19_999,
    "emoji": "😀" * 20_000,
    "flags": "🇩🇪" * 10_000,
    "families": "👨‍👩‍👧" * 4_000,
    "letters": "a" * 20_000,
    "spaces": "a" + " " * 19_998 + "b",
    "lines": "a\n" * 10_000,
    "wordless lines": "-\n" * 10_000,
    "brackets": "(" * 10_000 + ")" * 10_000,
    "titles": "《" * 20_000,
    "abbreviations": "Dr. " * 5_000,
    "initials": "A." * 10_000,
    "numbers": "1." * 10_000,
    "Han": "中" * 20_000,
    "full stops": "。" * 20_000,
    "ellipses": "…" * 20_000,
    "commas": "," * 20_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_texts_are_split_like_any_other(text: str) -> None:
    holds(text)


def holds(text: str) -> None:
    pieces = split(text)
    assert pieces == split(text)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    for piece in pieces:
        assert piece
        assert piece == " ".join(piece.split())
        assert weight(piece) <= MAX_WEIGHT
    words = [piece for piece in pieces if any(map(str.isalnum, piece))]
    assert words or not any(map(str.isalnum, text))


HARD_PARTS = (
    *".!?…。！？,;:，；：、\"'“”‘’()（）《》「」 \n\t-—",
    *("...", "……", ". ", "? ", "\n\n", "\u00a0", "\u3000", "\x85", "\u2028"),
    *("Dr", "No", "e.g", "U.S", "3.14", "I", "The", "word", "中文", "好", "x" * 90, "中" * 70),
    *("😀", "👨‍👩‍👧", "🇩🇪", "👍🏽", "\u0301", "\u200d", "\ufe0f"),
)
PARTS = st.sampled_from(HARD_PARTS)


@settings(max_examples=700, deadline=None)
@given(st.text(max_size=600))
def test_no_character_of_any_text_is_lost(text: str) -> None:
    holds(text)


@settings(max_examples=1_300, deadline=None)
@given(st.lists(PARTS, max_size=120).map("".join))
def test_no_character_of_text_made_of_hard_parts_is_lost(text: str) -> None:
    holds(text)


@settings(max_examples=300, deadline=None)
@given(st.lists(PARTS.filter(lambda part: not part.isspace()), max_size=120).map("".join))
def test_no_cut_parts_a_character(text: str) -> None:
    """Unless somebody put more than 30 marks on it."""
    text = " ".join(text.split())
    bounds = {match.start() for match in regex.finditer(r"\X", text)}
    place = 0
    for piece in split(text):
        place = text.index(piece, place)
        assert place in bounds or _marks_before(text, place) >= MAX_MARKS
        place += len(piece)


def _marks_before(text: str, place: int) -> int:
    match = regex.search(r"[\p{M}\u200d]*$", text[:place])
    return len(match[0])
