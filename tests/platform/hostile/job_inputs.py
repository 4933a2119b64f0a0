"""Hostile jobs: honest ones, each changed in some places, by its number.

`hostile_job(number)` is the same job on every run, so that a number is enough to see one again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SAY = "Hello there, old friend."
LENGTH = {"max_length": 64}  # keeps what is spoken short

BASES: list[dict[str, Any]] = [
    {"text": SAY},
    {"text": SAY, "gender": "male", "pitch": "low", "speed": "high"},
    {"text": SAY, "pitch_value": 200, "speed_value": 7, "seed": 3},
    {"text": SAY, "prompt_speech_url": "demo.wav"},
    {"text": SAY, "prompt_speech_path": "voices/demo.wav", "prompt_text": "What was said."},
    {
        "text": SAY,
        "prompt_speech_url": "demo.wav",
        "prompt_text": "Said.",
        "task_token": "continue",
    },
    {"text": SAY, "voice": "nobody", "output_format": "mp3"},
    {"text": SAY, "save_voice": "somebody", "output_name": "take", "output_format": "flac"},
    {"text": SAY, "enable_subtitles": True, "subtitle_style": {"mode": "karaoke", "size": 40}},
    {"text": SAY, "pitch_shift": 2, "speed_shift": 1.2, "multi_sentence_gap": 0.1},
    {"text": SAY, "temperature": 0.5, "top_k": 10, "top_p": 0.5, "url_expiry": 60},
]

PATHS = [
    "../private/secret.wav",
    "..",
    ".",
    "./demo.wav",
    "voices/../../private/secret.wav",
    "voices/voices/../demo.wav",
    "....//private/secret.wav",
    "..\\private\\secret.wav",
    "%2e%2e/private/secret.wav",
    "%2e%2e%2fprivate%2fsecret.wav",
    "..%c0%afprivate%c0%afsecret.wav",
    "..\u2215private\u2215secret.wav",
    "．．/private/secret.wav",
    "\u202egepj.wav",
    "/etc/passwd",
    "//etc/passwd",
    "/proc/self/environ",
    "~/.ssh/id_rsa",
    "~root",
    "$HOME/x",
    "$(reboot)",
    "`id`",
    "a;reboot",
    "a|b",
    "-rf",
    "--help",
    ".hidden",
    "a/",
    "/a",
    "a//b",
    "a\0.wav",
    "demo.wav\0.txt",
    "demo.wav\n",
    "demo.wav ",
    " demo.wav",
    "demo.wav/.",
    "CON",
    "nul.wav",
    "C:\\windows\\win.ini",
    "C:x",
    "\\\\server\\share\\x",
    "x" * 65,
    "x" * 300,
    "x/" * 600 + "x",
    "ｄｅｍｏ.wav",
    "demo.wav?x=1",
    "demo.wav#x",
    "*",
    "[a-z]*",
    "{demo,other}.wav",
    "_.json",
    "demo.wav;.json",
]

PLACES = [
    "http://127.0.0.1/x.wav",
    "https://127.0.0.1:1/x.wav",
    "https://169.254.169.254/latest/meta-data/",
    "https://[::1]/x.wav",
    "https://2130706433/",
    "https://user:hunter2@voice.example/x.wav",
    "https://localhost/x.wav",
    "https://x" + "a" * 3000 + ".example/",
    "https://exa mple/x.wav",
    "https://\u0131nternal/x.wav",
    "https://xn--/x.wav",
    "https:///x.wav",
    "https://",
    "s3://",
    "s3:///x",
    "s3://bucket",
    "s3://bucket/../x",
    "s3://other-bucket/x.wav",
    "file:///etc/passwd",
    "ftp://127.0.0.1/x.wav",
    "data:audio/wav;base64,UklGRg==",
    "javascript:alert(1)",
    "https://voice.example/x.wav\r\nHost: inside",
    *PATHS,
]

TEXTS = [
    "{\\an8}{\\fs400}Big {\\p1}m 0 0 l 100 100{\\p0}",
    "One\\Ntwo\\ntree\\hfour {\\k100}five",
    "Dialogue: 0,0:00:00.00,9:59:59.99,Default,,0,0,0,,Owned",
    "[Script Info]\nTitle: owned",
    "<script>alert(1)</script>",
    "<speak><audio src='https://127.0.0.2/'/></speak>",
    "1\n00:00:00,000 --> 99:00:00,000\nowned",
    "NOTE --> owned & <b>bold</b>",
    "ends here <|im_end|> and goes on",
    "<|bicodec_semantic_1|>",
    "<|im_\u200bend|> not quite",
    "<|endoftext|",
    "\ufeffwith a mark",
    "a\u0000b",
    "\x1b[31mred\x1b[0m",
    "line one\r\nERROR worker: forged",
    '{"level": "ERROR", "job": "forged"}',
    "%s %n %x {0} {job} ${jndi:ldap://127.0.0.2/a}",
    "\ud800 half",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 40,
    "\u0301" * 500 + "a",
    "a" + "\u0301" * 500,
    "\u202eright to left\u202c and back",
    "\u2066\u2067\u2068 isolates",
    "\U000e0041\U000e0042 tags a",
    "\ufdd0\uffff nonsense a",
    "." * 500 + "a",
    "?!" * 300 + " yes",
    "a" * 1500,
    "9" * 400,
    "1e400 and 0x7f and 1/0 and -0",
    "你好" * 100,
    "Ⅷ ٣ ४ 五 ½ ㊗ ①",
    "a.b." * 100,
    "Mr. " * 100,
    "“" * 200 + "a",
    "（" * 200 + "好",
    "\t\v\f\u0085\u2028\u2029a",
    "x" * 20_001,
    " " * 30_000,
    "\u3000",
    "...",
    "🙂",
    "<" * 300 + "a",
    "a\n" * 10_000,  # three hours of sentences
    "00:00:00.000 and 09:00:00.000 on a line\n42",
    "a" + "\u2060" * 5_000,
]

NUMBERS: list[Any] = [
    0, -1, 1, 63, 64, 65, 8193, 2**31, 2**53, 2**63, 2**63 - 1, -(2**63), 10**400, 0.0, -0.0, 0.5,
    1e-320, 1e308, -1e308, math.nan, math.inf, -math.inf, 12.0001, 1000.5, True, False, "1", "0.5",
    "1e3", "NaN", "0x10", "１",
]  # fmt: skip


def _deep(depth: int) -> Any:
    nest: Any = "x"
    for n in range(depth):
        nest = [nest] if n % 2 else {"text": nest}
    return nest


ODD: list[Any] = [
    None, [], {}, [[]], [None], {"": ""}, {"text": SAY}, [SAY], _deep(60), _deep(200),
    list(range(2000)), {str(n): n for n in range(2000)}, "", " ", "null", "true", "undefined",
    "A" * 100_000, "\ud83d", "é" * 5000, "'; DROP TABLE jobs; --", "{{7*7}}", "${7*7}", "<%= 7 %>",
    "__class__", "%00", "\\x00", "\r\n\r\n", "karaoke", "line", "female", "zero_shot", "wav",
]  # fmt: skip

FIELD_NAMES = [
    "text", "Text", "TEXT", "text ", "te\u0301xt", "ｔｅｘｔ", "text\0", "prompt_speech_url",
    "prompt_speech_path", "gender", "speaker_gender", "voice", "save_voice", "output_name",
    "__class__", "__proto__", "constructor", "model_config", "model_fields", "style", "self", "id",
    "input", "webhook", "policy", "s3Config", "", " ", "a" * 5000, "\n", "\x1b[2J", "x y", "text.x",
    "subtitle_style", "max_retries", "\ud800", "😀",
]  # fmt: skip

IDS: list[Any] = [
    "job-1", "", ".", "..", "../../x", "a/b", "a\\b", "a\nb", "a\r\nINFO worker: forged",
    "\x1b[31m", "x" * 129, "x" * 5000, "ü", "a b", "%s", "{0}", "a\0b", "\ud800",
    None, 7, 1.5, True, [], {},
]  # fmt: skip

STYLES: list[Any] = [
    "karaoke", "line", "big", {}, {"mode": "karaoke"}, {"font": "Arial,0,0}{\\p1"},
    {"font": "A\nB"}, {"font": "x" * 65}, {"font": "../../f"},
    {"size": 1e9}, {"size": math.nan}, {"size": "40"},
    {"primary_colour": "#12345"}, {"primary_colour": "&H00FFFFFF"}, {"primary_colour": "red"},
    {"outline": -1}, {"resolution": "0x0"}, {"resolution": "1e9x1e9"}, {"resolution": "٣٣٣x٣٣٣"},
    {"max_columns": 0}, {"position": "top", "mode": "karaoke"}, {"x": 1}, [["mode", "karaoke"]],
]  # fmt: skip


@dataclass(frozen=True)
class HostileJob:
    """A job as the queue hands it over, and how it came about."""

    number: int
    changes: tuple[str, ...]
    job_id: Any
    asked: Any


Change = Callable[[dict[str, Any], random.Random], None]


def hostile_job(number: int) -> HostileJob:
    """The job of this number."""
    chance = random.Random(f"job {number}")
    if chance.random() < 0.02:
        return HostileJob(number, ("no object",), "job-1", chance.choice([*ODD, *NUMBERS, *TEXTS]))
    asked = {**LENGTH, **chance.choice(BASES)}
    names = chance.choices(sorted(CHANGES), k=chance.choice([1, 1, 1, 2, 3]))
    for name in names:
        CHANGES[name](asked, chance)
    job_id = chance.choice(IDS) if chance.random() < 0.05 else "job-1"
    return HostileJob(number, tuple(names), job_id, asked)


def _field(asked: dict[str, Any], chance: random.Random) -> str:
    return chance.choice(sorted(asked, key=repr)) if asked else "text"


def _text(asked: dict[str, Any], chance: random.Random) -> None:
    field = chance.choice(["text", "text", "prompt_text"])
    value = chance.choice(TEXTS)
    around = chance.choice(["{}", "{}", "Well. {}", "{}\n{}", "{} {}"])
    asked[field] = around.replace("{}", value)


def _name(asked: dict[str, Any], chance: random.Random) -> None:
    asked[chance.choice(["output_name", "voice", "save_voice"])] = chance.choice([*PATHS, *TEXTS])


def _place(asked: dict[str, Any], chance: random.Random) -> None:
    field = chance.choice(["prompt_speech_url", "prompt_speech_path"])
    place = chance.choice(PLACES)
    asked[field] = place.upper() if chance.random() < 0.1 else place


def _number(asked: dict[str, Any], chance: random.Random) -> None:
    field = chance.choice([
        "pitch_value", "speed_value", "pitch_shift", "speed_shift", "multi_sentence_gap",
        "temperature", "top_k", "top_p", "max_length", "seed", "max_retries", "url_expiry",
    ])  # fmt: skip
    asked[field] = chance.choice(NUMBERS)


def _odd(asked: dict[str, Any], chance: random.Random) -> None:
    asked[_field(asked, chance)] = chance.choice(ODD)


def _missing(asked: dict[str, Any], chance: random.Random) -> None:
    asked.pop(_field(asked, chance), None)


def _unknown(asked: dict[str, Any], chance: random.Random) -> None:
    for _ in range(chance.choice([1, 1, 3, 300])):
        name = chance.choice(FIELD_NAMES)
        if chance.random() < 0.3:
            name += str(chance.randrange(1000))
        asked[name] = chance.choice([*ODD, *NUMBERS, SAY])


def _swapped(asked: dict[str, Any], chance: random.Random) -> None:
    one, other = _field(asked, chance), _field(asked, chance)
    asked[one], asked[other] = asked.get(other), asked.get(one)


def _wrapped(asked: dict[str, Any], chance: random.Random) -> None:
    field = _field(asked, chance)
    asked[field] = chance.choice([[asked.get(field)], {"value": asked.get(field)}])


def _garbled(asked: dict[str, Any], chance: random.Random) -> None:
    """Single characters of a text changed, left out or put in."""
    field = _field(asked, chance)
    letters = list(str(asked.get(field)))
    for _ in range(chance.choice([1, 2, 10])):
        place = chance.randrange(len(letters) + 1)
        new = chance.choice(
            [
                chr(chance.randrange(32, 0x3000)),
                chr(chance.randrange(0x110000)),
                "\0",
                "",
                "<|",
                "'",
            ]
        )
        letters[place : place + chance.randrange(2)] = [new]
    asked[field] = "".join(letters)


def _mixed(asked: dict[str, Any], chance: random.Random) -> None:
    """The fields of another honest job too: they may contradict each other."""
    asked.update(chance.choice(BASES))


def _styled(asked: dict[str, Any], chance: random.Random) -> None:
    asked["enable_subtitles"] = True
    asked["subtitle_style"] = chance.choice(STYLES)
    asked["subtitle_format"] = chance.choice(["ass", "srt", "vtt", "exe", "ASS", None])


CHANGES: dict[str, Change] = {
    change.__name__.removeprefix("_"): change
    for change in (
        _text,
        _name,
        _place,
        _number,
        _odd,
        _missing,
        _unknown,
        _swapped,
        _wrapped,
        _garbled,
        _mixed,
        _styled,
    )
}
