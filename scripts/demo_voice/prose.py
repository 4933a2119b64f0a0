"""Sentences to learn from: WordNet's examples, everyday templates, and words by their frequency.

None of the sentences by which the voice is judged is made here.
"""

from __future__ import annotations

import random
import re
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import wordfreq

QUOTED = re.compile(r'"([^"]+)"')
PLAIN = re.compile(r"[A-Za-z0-9 ,;:.'!?$%-]+")
MOST_WORDS = 40
VOCABULARY = 40_000

PEOPLE = """I|you|we|they|he|she|my mother|my father|my brother|my sister|the doctor|
the teacher|a friend of mine|our neighbor|the children|the manager|somebody|everyone|
the driver|the girl|the boy|the police|people|the old man|the young woman|her husband|his wife|
their son|our daughter|the students|the team|the government|a stranger|nobody"""
VERBS = """saw|wanted|needed|found|lost|bought|sold|liked|remembered|forgot|knew about|
asked for|talked about|thought about|looked at|waited for|brought|carried|broke|fixed|
read about|heard about|wrote about|paid for|called about|dreamed of|worked on|took care of|
gave away|put away"""
TIMES = """yesterday|today|tomorrow|last night|this morning|in the evening|at noon|every day|
once a week|on Monday|on Tuesday|on Wednesday|on Thursday|on Friday|on Saturday|on Sunday|
in January|in February|in March|in April|in June|in July|in August|in September|in October|
in November|in December|last year|next month|a long time ago|right now|as soon as possible|
after lunch|before breakfast|for many years|in the summer|in the winter"""
FRAMES = """Do you know {x}?|Have you ever seen a {x}?|Where can I find the {x}?|
What does {x} mean?|How do you spell {x}?|Who told you about the {x}?|Why is the {x} so {y}?|
Is there a {x} near here?|Can you help me with the {x}?|Could you please bring me the {x}?|
When does the {x} start?|I don't think that {x} is {y}.|It's not the {x}, it's the {y}.|
Please put the {x} on the {y}.|There is a {x} in the {y}.|There were {n} {x} and {n} {y}.|
This is my {x}.|That was a {y} {x}.|Thank you very much for the {x}.|
The {x} was very {y}, but I liked it.|We'll have to {x} the {y}.|I would like to {x}, please.|
He said, the {x} is {y}.|She couldn't {x} because of the {y}.|If you {x}, I will {y}.|
Let's go to the {x} and {y}.|My {x} is {n} years old.|It costs {n} dollars.|The number is {n}.|
It was {n} degrees in the {x}.|The meeting is at {n} o'clock.|He was born in {d}.|
The train leaves at {n} {n}.|Call me at {n}, {n}, {n}, {n}.|{p} {v} the {x} {t}.|
{p} {v} {x} and {y} {t}.|{p} {v} a {x} {t}.|{t}, {p} {v} the {y} {x}.|
{p} {v} it {t}, and {p} {v} {x}.|Did {p} ask about the {x} {t}?|What a {x}!|Good {x}, {y}.|
Yes, the {x} is {y}.|No, I haven't {x} {y}.|Well, {p} {v} {n} {x} {t}.|
Nothing is more {x} than {y}.|You should never {x} your {y}.|
The quick {x} {y} over the lazy {x}.|Hello, my name is {x}.|Welcome to {x}!|
I'm sorry about the {x}."""


class Prose:
    """Sentences without end, the same for the same generator."""

    def __init__(self, wordnet: Path) -> None:
        self._wordnet = wordnet

    @cached_property
    def examples(self) -> list[str]:
        """WordNet's examples of use, in the order of its files."""
        found: list[str] = []
        for part in ("verb", "noun", "adj", "adv"):
            for line in (self._wordnet / f"data.{part}").read_text("utf-8").splitlines():
                found += QUOTED.findall(line.partition(" | ")[2])
        kept = (self._whole(text.strip(" ;,-")) for text in found if PLAIN.fullmatch(text))
        return list(dict.fromkeys(t for t in kept if 2 <= len(t.split()) <= MOST_WORDS))

    @cached_property
    def _words(self) -> tuple[list[str], list[float]]:
        """Words, and their weights added up."""
        words = [
            w for w in wordfreq.top_n_list("en", VOCABULARY) if re.fullmatch("[a-z]+'?[a-z]*", w)
        ]
        # Flatter than prose: a rare word has to be learned as well.
        weights = (wordfreq.word_frequency(word, "en") ** 0.55 for word in words)
        return words, list(accumulate(weights))

    def _draw(self, rng: random.Random, count: int) -> list[str]:
        words, weights = self._words
        drawn = rng.choices(words, cum_weights=weights, k=count)
        return ["I" + w[1:] if w == "i" or w.startswith("i'") else w for w in drawn]

    def sentence(self, rng: random.Random) -> str:
        """One sentence, or some words, in letters, digits and marks."""
        kind = rng.random()
        if kind < 0.5:
            return rng.choice(self.examples)
        if kind < 0.75:
            return self._framed(rng)
        count = min(1 + int(rng.expovariate(0.4)), 12)
        return self._whole(" ".join(self._draw(rng, count)), rng)

    def _framed(self, rng: random.Random) -> str:
        def fill(match: re.Match[str]) -> str:
            kind = match[1]
            if kind in "xy":
                return " ".join(self._draw(rng, 1 if rng.random() < 0.75 else 2))
            if kind == "n":
                return str(int(10 ** rng.uniform(0, 4.3)))
            if kind == "d":
                return (
                    f"{rng.choice(TIMES_OF_YEAR)} {rng.randint(1, 31)}, {rng.randint(1800, 2040)}"
                )
            return rng.choice({"p": _PEOPLE, "v": _VERBS, "t": _TIMES}[kind])

        return self._whole(re.sub(r"\{(\w)\}", fill, rng.choice(_FRAMES)))

    @staticmethod
    def _whole(text: str, rng: random.Random | None = None) -> str:
        if not text:
            return text
        end = "" if text[-1] in ".!?" else "." if rng is None else rng.choice("...?!")
        return text[0].upper() + text[1:] + end


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.replace("\n", "").split("|")]


_PEOPLE, _VERBS, _TIMES, _FRAMES = map(_listed, (PEOPLE, VERBS, TIMES, FRAMES))
TIMES_OF_YEAR = ["January", "February", "March", "April", "May", "June", "July", "August"]
TIMES_OF_YEAR += ["September", "October", "November", "December"]
