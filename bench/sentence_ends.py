"""How many texts of a set are cut where the set says: python -m bench.sentence_ends [PATH ...].

A path is a file of cases or a folder of them; without one it is our own table. Two formats are
read, by which public sets come, and nothing of a file is run:

    *.txt   cases parted by a line of ===, each a text, a line of --- and a sentence a line; a line
            with # before the first case, or before a case, is a comment; \\n is a line break
    *.py    every pair of a string and a list of strings, as in the tests of pySBD

A text counts if each place where we cut it ends a sentence of the set, and each end that we left
out is beside a sentence of less than ten letters, which we join to its neighbour on purpose, or
within one that was too long to be left whole. Letters and digits alone are compared.

Of another version, from a folder of it: PYTHONPATH=FOLDER python bench/sentence_ends.py PATH.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

from worker.text.sentences import MAX_WEIGHT, SHORT, split, weigh

TABLE = Path(__file__).parents[1] / "tests" / "unit" / "worker" / "text" / "sentence_cases"

Case = tuple[str, list[str]]


def read_table(text: str) -> Iterator[Case]:
    """The cases of a text file."""
    for case in text.split("\n===\n"):
        lines = case.split("\n")
        while lines and (not lines[0].strip() or lines[0].startswith("#")):
            del lines[0]
        middle = lines.index("---") if "---" in lines else 0
        text = "\n".join(lines[:middle]).replace("\\n", "\n")
        sentences = [line.replace("\\n", "\n") for line in lines[middle + 1 :]]
        if text.strip():
            yield text, [line for line in sentences if line.strip() and line != "==="]


def read_python(text: str) -> Iterator[Case]:
    """The cases of a Python file, which is not run."""
    for node in ast.walk(ast.parse(text)):
        items: Sequence[ast.expr] = ()
        if isinstance(node, ast.Tuple):
            items = node.elts
        elif isinstance(node, ast.Call):  # pytest.param
            items = node.args
        for first, second in pairwise(items):
            try:
                written, sentences = ast.literal_eval(first), ast.literal_eval(second)
            except (ValueError, TypeError):
                continue
            if isinstance(written, str) and _are_sentences(sentences):
                yield written, sentences


def _are_sentences(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def read_cases(path: Path) -> Iterator[Case]:
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.suffix in {".txt", ".py"}:
            read = read_table if file.suffix == ".txt" else read_python
            yield from read(file.read_text(encoding="utf-8"))


def is_right(text: str, sentences: Sequence[str]) -> bool:
    """Whether the text is cut into these sentences, short and long ones aside."""
    ours, theirs = _bounds(split(text)), _bounds(sentences)
    wanted = list(theirs)
    for i, bound in enumerate(wanted[:-1]):
        beside = sentences[i].strip() + " ", sentences[i + 1].strip() + " " * (i + 2 < len(wanted))
        if bound not in ours and min(map(weigh, beside)) >= SHORT:
            return False
    for bound in ours.keys() - theirs.keys():
        i = sum(end < bound for end in wanted)
        if i == len(sentences) or weigh(sentences[i]) <= MAX_WEIGHT:
            return False
    return True


def _bounds(sentences: Sequence[str]) -> dict[int, None]:
    """Where sentences end, in letters and digits."""
    return dict.fromkeys(accumulate(sum(map(str.isalnum, one)) for one in sentences))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("paths", nargs="*", type=Path, default=[TABLE])
    parser.add_argument("--show", action="store_true", help="print the texts that are not right")
    arguments = parser.parse_args()
    for path in arguments.paths:
        cases = list(read_cases(path))
        wrong = [case for case in cases if not is_right(*case)]
        right = len(cases) - len(wrong)
        print(f"{path.name}: {right} of {len(cases)} ({right / max(1, len(cases)):.1%})")
        for text, sentences in wrong if arguments.show else []:
            print(f"  of      {text!r}\n  theirs  {sentences}\n  ours    {split(text)}")


if __name__ == "__main__":
    main()
