"""Text as it is wrapped by e-mail, editors and PDFs; and lines that are none of that."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.sentence_ends import TABLE, read_cases
from worker.text.line_breaks import glue, verdict_on
from worker.text.line_gaps import Ahead, Block, Verdict
from worker.text.line_shapes import LineShape, start_of
from worker.text.sentences import split

_PARAGRAPHS = """
The committee met again in the spring and decided to move the office to London before the end of
the year, because the rent had become far too high. Nobody had asked the people of Bath what they
thought of it. "We shall see," said Mrs. Hodge, "whether they come back at all." In 1984 there
were 27 shops in the High Street; today there are nine.

When I was a boy I walked to school with Peter and his sister Mary, and I never once thought that
I should miss the smell of that road. The European Union (EU) has 27 members, of which 20 use the
euro. My aunt (a teacher of French) lived in Paris until 1999 and came home on a Monday in May.

He told Dr. Smith that he had seen the film “The Third Man” at the Odeon on Thursday, and Dr.
Smith, who had seen it 12 times, asked him which part of it he liked best. The price rose from $43
to $51.50 in only 3 weeks. I think that I know why; I am not sure that Alice does.

Mr. Brown of Brown & Sons wrote to the Department of Trade on 5 March 2021. The answer came from
Edinburgh, not from London, and it was signed by a certain J. R. Macdonald, whom nobody at the
Ministry had ever heard of. It was a cold night in the city and the River Thames was frozen from
Richmond to Kew.
"""
PROSE = [" ".join(paragraph.split()) for paragraph in _PARAGRAPHS.split("\n\n")]
CHINESE = [
    (
        "从下个星期开始，城里的图书馆每天晚上都会开放到九点，学生可以免费借书，老人可以在一楼看报纸。"
        "大家都说这是一件好事，因为以前下班以后图书馆总是关着门。"
    ),
    (
        "他小时候住在北京，后来跟父母搬到了上海，在那里上了中学和大学，毕业以后才回到北京工作。"
        "他常常对朋友说，他最喜欢的地方是颐和园，每年春天都要去看花。"
    ),
    (
        "老师说这座桥是爷爷那一辈人用石头一块一块地修起来的，当时没有机器，什么都要靠双手。"
        "孩子们点了点头，没有说话。"
    ),
]
LINES = list(read_cases(TABLE / "lines_that_stay.txt"))


def wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False)


def wrapped_chinese(text: str, characters: int) -> list[str]:
    """No line begins with a mark."""
    lines = [""]
    for character in text:
        if len(lines[-1]) >= characters and character.isalnum():
            lines.append("")
        lines[-1] += character
    return lines


@pytest.mark.parametrize("text", PROSE)
def test_wrapped_prose_has_the_sentences_of_the_whole(text: str) -> None:
    for width in range(28, 100):
        assert split("\n".join(wrapped(text, width))) == split(text), width


@pytest.mark.parametrize("text", PROSE)
@pytest.mark.parametrize("quote", ["> ", ">> "])
def test_so_it_has_in_a_quotation_with_the_line_ends_of_windows(text: str, quote: str) -> None:
    for width in (35, 65, 72, 76):
        lines = [f"{quote}{line}" for line in wrapped(text, width)]
        assert split("\r\n".join(lines)) == split(text), width


@pytest.mark.parametrize("text", CHINESE)
def test_wrapped_chinese_has_the_sentences_of_the_whole(text: str) -> None:
    for characters in range(15, 46):
        assert split("\n".join(wrapped_chinese(text, characters))) == split(text), characters


@pytest.mark.parametrize("width", [34, 50, 65, 72, 80])
def test_paragraphs_are_parted_by_blank_lines(width: int) -> None:
    text = "\n\n".join("\n".join(wrapped(paragraph, width)) for paragraph in PROSE)
    assert split(text) == [sentence for paragraph in PROSE for sentence in split(paragraph)]


@pytest.mark.parametrize("width", [50, 65, 72, 80])
def test_so_they_are_by_a_last_short_line(width: int) -> None:
    text = "\n".join("\n".join(wrapped(paragraph, width)) for paragraph in PROSE)
    assert split(text) == [sentence for paragraph in PROSE for sentence in split(paragraph)]


@pytest.mark.parametrize("width", [60, 72, 90])
def test_lines_of_a_pdf_are_of_about_one_length(width: int) -> None:
    """Its letters are of different widths."""
    for text in PROSE:
        words, lines = text.split(), [""]
        for word in words:
            room = width + [-6, 5, -2, 7, 0, -4, 3][len(lines) % 7]
            if len(lines[-1]) + len(word) > room:
                lines.append("")
            lines[-1] = f"{lines[-1]} {word}".strip()
        assert split("\n".join(lines)) == split(text)


@pytest.mark.parametrize(("text", "sentences"), LINES, ids=[text[:30] for text, _ in LINES])
def test_lines_that_stay(text: str, sentences: list[str]) -> None:
    assert split(text) == sentences


@pytest.mark.parametrize(
    "text",
    [
        "The committee met again in the spring and moved the office to\nLondon before the summer.",
        "The letter said that after so many years of silence\nI should come home.",
        "The number of people who came to see the match\n27 hours too early was small.",
        "She opened the old book and read what it said there on the first\n“Never again” page.",
        "The members of the European Union\n(EU) are 27.",
        (
            "Yesterday morning the members of the town council of Bath and their families visited\n"
            "Windsor Castle."
        ),
        "He was never again seen in the town after the very cold winter of\n1984.",
        "She was married at the age of\n27. Then she moved away.",
        "We waited for more than an hour for the famous Dr.\nSmith and his dog.",
        "All of them had at one time or another played Beethoven's Op.\n27 to their friends.",
        "THE OFFICE IS NOT OPEN ON SUNDAYS AND IT WILL NOT BE OPEN ON\nMONDAYS IN MAY.",
        (
            "The old mill, which has been empty since the war, and the house beside it\n"
            "— which he had loved — were sold."
        ),
        (
            "This is a copy that anybody may use under the terms of the Town\n"
            "License, v. 2.0. If you have none, ask."
        ),
        "In the summer we shall visit Mr. Brown and his wife in the\nNetherlands.",
        "The firm is called Hart, Lyle, Brown, Miller, Hodge, Smith, Jones\n& Co. and is old.",
        "上个星期我们全家一起坐火车去了上海，在那里看了很多老\n朋友。",
        "我们公司在2019年开始使用Python写程序，到今天已经有\n27个人在这个部门工作了。",
        "他说这本书是去年在北京的一家小书店里买的，一共只花了27\n块钱。",
        "这座图书馆是1984\n年修的。",
    ],
)
def test_a_break_within_a_sentence(text: str) -> None:
    before, after = text.split("\n")
    between = "" if before[-1] > "一" and after[0] > "一" else " "
    assert split(text) == split(f"{before}{between}{after}")


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("the old gentle-\nman", ["the old gentleman"]),
        ("the old gentle\u00ad\nman", ["the old gentleman"]),
        ("> the old gentle‐\r\n> man", ["the old gentleman"]),
        ("a well-\nknown man of twenty-\none", ["a well-known man of twenty-one"]),
        ("pre-\nand post-war houses", ["pre- and post-war houses"]),
        ("the Anglo-\nSaxons", ["the Anglo-", "Saxons"]),  # a short line
        ("the history of the Anglo-\nSaxons", ["the history of the Anglo-Saxons"]),
        ("the old man -\nand the sea", ["the old man -", "and the sea"]),
        ("从下个星期开始，图\n书馆开放。", ["从下个星期开始，图书馆开放。"]),
    ],
)
def test_a_break_within_a_word(text: str, pieces: list[str]) -> None:
    assert split(text) == pieces


def test_an_answer_below_a_quotation_is_another_sentence() -> None:
    quoted = "> The committee met again in the spring and decided to move to"
    assert split(f"{quoted}\nLondon is too dear for us.") == [
        "The committee met again in the spring and decided to move to",
        "London is too dear for us.",
    ]
    assert split(f"{quoted}\nthe river.") == [f"{quoted[2:]} the river."]  # wrapped once more


def test_a_sum_is_no_quotation() -> None:
    assert split("Is it so?\n>5 is more.") == ["Is it so?", ">5 is more."]


@pytest.mark.parametrize(
    ("end", "following", "glued"),
    [
        ("old", "man", (0, " ")),
        ("gentle-", "man", (1, "")),
        ("well-", "known", (0, "")),
        ("图", "书馆", (0, "")),
        ("开始，", "图书馆", (0, "")),
        ("图书馆", "3楼", (0, " ")),
        ("Python", "语言", (0, " ")),
        ("pre-", "and", (0, " ")),
    ],
)
def test_how_lines_are_joined(end: str, following: str, glued: tuple[int, str]) -> None:
    assert glue(end, following) == glued


def verdict(before: str, *lines: str, whole: bool = True, last: bool = False) -> Verdict:
    block = Block().begun(LineShape().grown(before))
    return verdict_on(block, Ahead(lines, whole=whole, last=last), 0)


LONG = "The committee met again in the spring and decided to leave the old town of"


@pytest.mark.parametrize(
    ("before", "line", "said"),
    [
        ("A short line", "T", Verdict.ENDS),
        (LONG, "abcde", Verdict.GOES_ON),
        (LONG, "a", Verdict.LATER),  # a) is an item
        (LONG, "Th", Verdict.LATER),  # The
        (LONG, "The ", Verdict.LATER),
        (LONG, "The o", Verdict.GOES_ON),  # after "of"
        (LONG[:-3], "The o", Verdict.ENDS),
        (LONG[:-3], "Bath f", Verdict.LATER),
        (LONG[:-3], "Bath " + "x" * 90, Verdict.ENDS),  # longer than a full line
    ],
)
def test_a_break_is_judged_as_soon_as_it_is_known(before: str, line: str, said: Verdict) -> None:
    assert verdict(before, line, whole=False) is said


SUMMER = "It was a very warm summer for all of us there"


def test_more_breaks_that_are_judged() -> None:
    assert verdict("从下个星期开始，城里的图", "书馆", whole=False) is Verdict.LATER  # 书馆学
    assert verdict("Words, " * 30, "“No” he said.") is Verdict.ENDS  # no column is so wide
    assert verdict(SUMMER, "•Bath was full of people.") is Verdict.ENDS
    verses = "Bath was full of people as never before it", "Hodge, alone, was at the old mill then."
    assert verdict(SUMMER, *verses, last=True) is Verdict.ENDS
    assert verdict(SUMMER, verses[0], "hodge, alone, was there.") is Verdict.GOES_ON


def test_a_line_that_is_not_full_ends_where_its_writer_wanted_it_to() -> None:
    line = LineShape().grown
    block = Block().begun(line("In the very warm summer of that year the town of the"))
    block = block.continued(line("Bath family was full of joy"))
    ahead = Ahead(["Hodge was there."], whole=True, last=True)
    assert verdict_on(block, ahead, 0) is Verdict.ENDS


def test_six_lines_behind_a_break_are_enough() -> None:
    names = ["Bath had never been so full of people as in that very warm summer"] * 7
    assert verdict(LONG[:-3], *names[:5]) is Verdict.LATER
    assert verdict(LONG[:-3], *names) is Verdict.ENDS


PIECES = (
    "the a to I It The and of London 27 1. A. (EU) “so,” gentle- well- Mr. met. high, — > 02 IV. "
    "图书馆 从下个星期 开放 的 。 ， Mon. ft. i a) (1) • Anna: 好的。 … !"
)
WORDS = st.sampled_from(PIECES.split())


@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS, max_size=30).map(" ".join), st.integers(1, 40))
def test_a_line_is_the_same_however_it_comes(text: str, length: int) -> None:
    shape = LineShape()
    for i in range(0, len(text), length):
        shape = shape.grown(text[i : i + length])
    assert shape == LineShape().grown(text)


@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=12).map(" ".join))
def test_what_is_known_of_a_line_s_beginning_stays(text: str) -> None:
    whole = start_of(text, whole=True)
    for length in range(1, len(text)):
        start = start_of(text[:length], whole=False)
        assert start is None or (start.kind, start.whole and start.columns) in {
            (whole.kind, whole.columns),
            (whole.kind, False),
        }


def test_before_lower_case_a_line_of_more_than_forty_columns_was_wrapped() -> None:
    assert verdict("x" * 39 + "?", "and so it was", last=True) is Verdict.ENDS
    assert verdict("x" * 40 + "?", "and so it was", last=True) is Verdict.GOES_ON


@pytest.mark.parametrize("width", [20, 22, 24])
def test_a_title_ends_no_line_of_a_narrow_column(width: int) -> None:
    text = "When I first met Mr. Bennet at the old house, he said that I was late by far. I left."
    assert split(textwrap.fill(text, width))[0].startswith("When I first met Mr. Bennet at")
