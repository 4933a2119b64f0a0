"""Write docs/API.md and docs/CONFIGURATION.md from the code that they describe.

And in docs/DEPLOY.md the memory figures, from those of `make bench`; in docs/PERFORMANCE.md those
of the newest report of `make gpu-check`.

python -m docs.generate            write them
python -m docs.generate --check    exit with 1 if they are not what would be written
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from string import Template
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from docs import gpu_figures, memory
from worker.allowed_values import allowed
from worker.api.audio_fields import MODEL_RATE
from worker.api.field_types import names
from worker.api.request import SpeechRequest
from worker.api.response import (
    Metrics,
    Progress,
    Segment,
    SpeakerUsed,
    SpeechResponse,
    SpokenSegment,
    TimedWord,
    VoiceUsed,
)
from worker.api.turns import STYLE_FIELDS, Turn
from worker.audio.formats import ENDINGS, HAVE_TAGS, Format, content_type
from worker.audio.levelling import MOST_PRESSED
from worker.audio.tags import Tags
from worker.errors import WorkerError
from worker.job.speech_file import MISSED
from worker.settings import Settings
from worker.subtitles.style import SubtitleStyle

FOLDER = Path(__file__).parent
DEPLOY = FOLDER / "DEPLOY.md"
PERFORMANCE = FOLDER / "PERFORMANCE.md"
BAR = r"\|"
NOTE = "<!-- Written by `python -m docs.generate`; change the code, not this file. -->"

HOLDS: dict[Format, str] = {
    "wav": "16 bits",
    "flac": "16 bits",
    "mp3": "MPEG layer III",
    "ogg": "Vorbis in Ogg",
    "opus": "Opus in Ogg",
    "aac": "AAC in MP4",
    "m4a": "AAC in MP4",
    "pcm": "16 bits, little endian, no header",
}

EXAMPLES: tuple[tuple[str, dict[str, object]], ...] = (
    ("The smallest job", {"text": "Hello from the network volume."}),
    (
        "A designed voice, which is saved",
        {
            "text": "The quick brown fox jumps over the lazy dog.",
            "speaker_gender": "male",
            "pitch": "low",
            "speed": "high",
            "seed": 7,
            "save_voice": "narrator",
        },
    ),
    ("The saved voice again", {"text": "And on it goes.", "voice": "narrator"}),
    (
        "A chapter for podcast players",
        {
            "text": "Once upon a time there was a fox.",
            "output_format": "mp3",
            "sample_rate": 44100,
            "bit_rate": 64,
            "loudness": -19,
            "tags": {"title": "The fox", "album": "Fables", "track": 1},
        },
    ),
    (
        "A cloned voice, with the transcript of its recording",
        {
            "text": "今天天气很好。Let us take a walk!",
            "prompt_speech_url": "https://example.com/alice.wav",
            "prompt_text": "This is what Alice says in the recording.",
            "output_name": "walk",
            "output_format": "mp3",
        },
    ),
    (
        "A cloned voice, from a file below voices/ in the bucket, by its timbre alone",
        {"text": "你好，世界。", "prompt_speech_url": "alice.wav", "task_token": "cross_lingual"},
    ),
    (
        "A longer text, in which each sentence continues from the one before it",
        {
            "text": "Once upon a time there was a fox. It lived in a wood.",
            "prompt_speech_url": "s3://my-bucket/voices/alice.wav",
            "prompt_text": "This is what Alice says in the recording.",
            "task_token": "continue",
            "multi_sentence_gap": 0.5,
            "url_expiry": 86400,
        },
    ),
    (
        "Pauses, another voice and a word that is said otherwise",
        {
            "text": "They waited. [pause:1.5s] [voice:onyx] Who is there? [voice:default] Nobody "
            "but Nguyen.",
            "markup": True,
            "pronunciations": {"Nguyen": "win"},
        },
    ),
    (
        "A dialogue, with subtitles that have a colour for each speaker",
        {
            "turns": [
                {"text": "They bought a new car last year.", "voice": "onyx"},
                {"text": "Where did they buy it?", "speaker": "Anna", "speaker_gender": "female"},
                {"text": "In a small town.", "voice": "onyx"},
                {"text": "I see.", "speaker": "Anna", "pause": 0.8},
            ],
            "enable_subtitles": True,
            "subtitle_style": {"speaker_colours": {"Anna": "#FFD700"}},
        },
    ),
)

ANSWER = SpeechResponse(
    audio_url="https://example.com/output/speech_6f1c.wav?...",
    sample_rate=16000,
    duration=2.14,
    segments=(Segment(text="Hello from the network volume.", start=0.0, end=2.14),),
    voice=VoiceUsed(source="style"),
    seed=7,
    metrics=Metrics(
        seconds={
            "queue": 0.004,
            "voice": 0.0,
            "speech": 0.61,
            "codec": 0.02,
            "audio": 0.02,
            "storage": 0.11,
            "first_audio": 0.62,
            "overhead": 0.003,
            "total": 0.75,
        },
        sentences=1,
        tokens=144,
        tokens_per_second=236.1,
        real_time_factor=0.35,
        batch_occupancy=3.2,
        truncated_sentences=0,
        silent_sentences=0,
    ),
)


API = Template("""\
# The API

$note

A job is a JSON object `{"input": {...}}`. Every field but `text` (or `turns` in its place) may be
left out or `null`. An unknown field, a wrong type, a value out of range or a contradiction is
refused before anything is computed. Booleans and strings are never taken for numbers.

## Input

$input

### Turn

$turn

$turns

### SubtitleStyle

$look

$settings

### Tags

$tags_are

$tags

Text is stripped. A control character that is not white space is refused, and so is a token of the
model written out (`<|...|>`).

## Three ways to choose a voice

A job uses the fields of one way only; fields of two ways are refused.

1. A cloned voice: `prompt_speech_url` is a recording of 1 to 60 seconds. With `prompt_text`, its
   transcript, the clone sounds closer to the speaker.
2. A saved voice: `voice` is the name under which an earlier job saved one with `save_voice`.
3. A designed voice, which the model makes up: any of
   $style. A job that names no voice at all gets a designed voice that is female, with moderate
   pitch and speed. It is designed for the first sentence and speaks all of them.

### A transcript that is not the recording's

It would leak into the speech, or leave nothing to say. Where the worker has a model for word
timings in the transcript's language, `prompt_text` is held against the recording once: words that
are not said in it, speech that is not in them, another text. Case, punctuation, numbers, remarks in
brackets ("[laughs]") and a wrong word or two do no harm. What does not fit is left out, and
`warnings` say so; `transcript_mismatch` has the other ways. A speaker whom that model cannot
understand counts as another text: `ignore` takes such a transcript. A worker without such a model
checks nothing.

## Text that says how

With `markup`, a text has tags, in any letters, with spaces around each part or none; full-width
brackets and colons count too.

| tag | what it does |
| --- | --- |
| `[pause:1.5s]`, `[pause:500ms]` | silence of 0 to 10 seconds, in place of a gap |
| `[voice:NAME]` | what follows is spoken by this saved or built-in voice |
| `[voice:default]` | what follows is spoken by the job's own voice again (or the turn's) |

A pause is so many seconds to the sample, beside the 0.05 s that a sentence may keep at its edges.
It ends the sentence that it stands in; several in a row add up; at the beginning or the end of a
text it is silence there. A voice that was saved as `default` is no tag's, for that names the own
one.

A bracket that is no tag stays text: `[sic]`, `[1]`, `array[pause]`. A tag with a value that it
cannot have (`[pause:99s]`, `[voice:nobody]`) or without its end is an error that names it and its
place, counted from 0; none is spoken or passed over. Marks directly behind a tag, and what has no
word between two tags, stay with the words before them. Without `markup`, tags are text like any
other.

`turns` is a dialogue or an audiobook: each turn a text with one of the three ways to a voice, all
spoken in one batch and joined into one file. Each voice is fetched, heard or designed once. A
designed voice is one speaker's, in all of its turns; a second speaker of the same gender, pitch
and speed gets another voice. A turn may have its own `speed_shift`, `pitch_shift` and `pause`;
what decides how the model draws its tokens (`seed`, `temperature`...) is the job's, so that each
sentence of a job has the draws that its number and the seed give it.

A job with `turns` or with a voice in a tag names the `speaker` of each segment and word: as the
turn says, else by the name of its voice; the job's own voice without a name is `default`, others
are numbered (Speaker 2). At most 32 speakers may speak. Such a job has one `task_token` for all
recordings and saved voices, but not continue, and no `save_voice`.

`pronunciations` is for the ear alone: a written word is said otherwise, and stands as it is
written in segments, timings and subtitles. A key is a whole word or several; in Chinese, Japanese
and Korean any part of a text. One in small letters is found in any case (`gif`: GIF, Gif), one
with a capital only as it is written (`US` is not us); what is written in one case exactly goes
before what is found in any. Of keys that begin at one place the longest counts. The s of a
possessive is kept: Nguyen's is said as win's.

## A recording by its URL

An https:// URL is asked for byte for byte as it is given, so that a signature over it holds: no
escape is decoded or encoded anew, dot segments and `//` in the path stay (as with curl's
`--path-as-is`), and so does an empty query. Only what a URL cannot hold is percent-encoded, as
browsers do it: letters outside ASCII. The fragment is not sent; a host of another script is asked
by its ASCII name. Up to three redirects are followed, each to its Location as the server sent it.
A user name in the URL, a backslash, a space, a port 0 and any address that is not on the public
internet are refused.

## What contradicts what

- `text` with `turns`.
- `turns`, or a voice in a tag, with `save_voice` or with `task_token` continue.
- Two ways to choose a voice.
- `pitch` with `pitch_value`, `speed` with `speed_value`.
- `prompt_text` without `prompt_speech_url`.
- `save_voice` with `voice`, which is saved already.
- `task_token` with a designed voice.
- `task_token` continue with `prompt_speech_url` but without `prompt_text`. With `voice`, that
  voice must have been saved with a transcript.
- `sample_rate` or `bit_rate` with an `output_format` that cannot have it; `bit_rate` with wav,
  flac, ogg, aac, m4a and pcm; `tags` with pcm. In the HTTP door's streams `response_format` counts
  in the place of `output_format`.
- A field together with its other name.

## Examples

$examples

## Output

$output

Fields that do not apply are left out. Times are in seconds, rounded to milliseconds.

A pre-signed URL is signed for GET alone: HEAD is answered with 403. To see the size and type of a
file without loading it, ask for its first byte, with `Range: bytes=0-0`.

$parts

An answer:

$answer

## When the model fails

Models sometimes stop at once, stop early, repeat themselves, fall silent or go on and on. Each
sentence is judged by its length against its text at the voice's pace, by silence inside and by
sounds that repeat; with word timings also by its words ([SUBTITLES.md](SUBTITLES.md)). A sentence
that is doubted is spoken again, at most `max_retries` times, and the better take is kept;
`metrics.retries` counts that, and `metrics.faults` say what is still doubted of the kept ones. A
sentence of which hardly anything was said is told in `warnings` too. Where that is so of the whole
text, the job fails with `synthesis_failed`, and the message says what to change: a clone with
`prompt_text` that does so with every seed is helped by `task_token` cross_lingual, which does
without the transcript, or by a shorter recording. A live stream ([HTTP.md](HTTP.md)) cannot take
back what was heard: it has `faults` and `warnings` alone, and is an error only where all of it is
silent.

## Sentence by sentence

With `stream`, each sentence is stored by itself, as output/NAME_JOBID.NNNN.ENDING, and announced
as soon as it is ready. On an ordinary endpoint, RunPod's `/status` shows a Progress while the job
runs: the latest update alone, with the sentences that were new in it. A client that asks seldom
misses some updates; the answer has every sentence. Where the worker's `STREAM`
is set (the field alone does not do it), `/stream` gives a SpokenSegment for each sentence and then
the answer; the job's output is the list of all of them. The answer is the same in both.

## Large answers

RunPod takes an item of `/stream` of at most 1 MB, and an answer of at most 10 MB. An answer that
would be larger has its longest lists in files beside the audio, each of them the very JSON that the
answer would have, and a line in `warnings` says so. `word_timings` goes first: it is left out, and
`word_timings_url` has it. Where that is not enough, `segments` is empty and `segments_url` has it.
Of more than 100 faults or warnings the first and last are told then. Over HTTP nothing is moved.

## The audio file

| `output_format` | holds | ending | content type | tags |
| --- | --- | --- | --- | --- |
$formats

All have one channel. The length that the header gives is that of the speech to the sample; what
mp3, opus and aac need before and after it is marked as such, and players leave it out (a few that
know the one and not the other give some hundredths of a second of silence). pcm has no header. The
same speech gives the same bytes: no file holds a date.

`sample_rate` resamples the finished speech; times do not change. `loudness` is measured over the
whole speech, gaps included, on its one channel (ITU-R BS.1770, gated). A player that gives one
channel to two loudspeakers makes it 3 LU louder, so podcasters, who ask for -16 LUFS of two
channels, ask for -19 of one. Gain alone brings the speech there where no peak then passes
`true_peak`; else the gain falls for some hundredths of a second around each peak that would, by
$pressed dB at most. Where the result is more than $missed LU too quiet all the same, `warnings`
says by how much. Speech shorter than 0.4 s is measured as if it were repeated; what is below -70
LUFS stays as it is, with a warning. With `stream`, each sentence's own file is brought to that
loudness by itself, and the whole as one.

Audio that is sent while it is made (the HTTP door's streams) cannot have a `loudness`: it is
refused. The other fields hold there too; `tags` in mp3, opus and flac, and AAC is there without a
container.

## Long texts

A job may have two hours of audio, gaps included; the operator can change that (`MAX_JOB_SECONDS`).
Before anything is spoken, the worker estimates how long the text is at an ordinary pace: half a
second for each sentence and 0.07 s for each letter (three times that for a digit or a Chinese
character), or `max_length` if that is less, divided by `speed_shift`, and the gaps between the
sentences, or the pauses in their place. A longer text is refused with `invalid_request`; when the
model speaks for twice as long as a job may, the job fails with `synthesis_failed`. With `stream` a
job may have 1,000 sentences. Neighbours that are too short to stand alone ("Hi. Hi.") are one
sentence.

## Delivered again

RunPod may deliver a job twice. A job whose results are in the bucket already is answered with them
and with fresh URLs; a record of it lies beside the audio, as output/NAME_JOBID.DIGEST.json. Where
a job has no `seed`, its id and fields decide the seed, so that a second worker makes the same
speech.

## Errors

A job that fails answers `{"error": TEXT}`; TEXT is a JSON object with `code`, `message` and
`field` (null where no field is to blame). A message names each field that is wrong, the value
given and what is allowed.

$errors
""")

CONFIGURATION = Template("""\
# Configuration

$note

The worker reads environment variables only, once, when it starts. An empty variable counts as not
set, and white space around a value is no part of it. A wrong one stops the worker with a message
that names it.

$settings
""")


_INPUT = ("field", "type", "allowed", "default", "meaning")


def api() -> str:
    """Give the text of docs/API.md."""
    parts = (
        f"### {model.__name__}\n\n{inspect.getdoc(model)}\n\n{_output_table(model)}"
        for model in (Segment, TimedWord, VoiceUsed, SpeakerUsed, Metrics, Progress, SpokenSegment)
    )
    return API.substitute(
        note=NOTE,
        input=_table(_INPUT, _input_rows(SpeechRequest)),
        turn=inspect.getdoc(Turn),
        turns=_table(_INPUT, _input_rows(Turn)),
        look=inspect.getdoc(SubtitleStyle),
        settings=_table(("setting", "allowed", "default", "meaning"), _look_rows()),
        tags_are=inspect.getdoc(Tags),
        tags=_table(("tag", "allowed", "meaning"), _tag_rows()),
        formats="\n".join(_line(row) for row in _format_rows()),
        pressed=f"{MOST_PRESSED:g}",
        missed=f"{MISSED:g}",
        style=_codes(STYLE_FIELDS),
        examples="\n\n".join(f"{title}:\n\n{_json({'input': job})}" for title, job in EXAMPLES),
        output=_output_table(SpeechResponse),
        parts="\n\n".join(parts),
        answer=_json(ANSWER.to_json()),
        errors=_table(("code", "what happened", "what to do"), _error_rows()),
    )


def configuration() -> str:
    """Give the text of docs/CONFIGURATION.md."""
    rows = _setting_rows()
    return CONFIGURATION.substitute(
        note=NOTE, settings=_table(("variable", "allowed", "default", "meaning"), rows)
    )


def _setting_rows() -> Iterator[tuple[str, ...]]:
    schema = Settings.model_json_schema()["properties"]
    for name, info in Settings.model_fields.items():
        kind = _setting_type(info, schema[name])
        yield f"`{name.upper()}`", kind, _default(info), info.description or ""


def _input_rows(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    schema = model.model_json_schema()["properties"]
    for field, info in model.model_fields.items():
        others = names(field, info)[1:]
        name = f"`{field}`" + (f" (also {_codes(others)})" if others else "")
        yield name, _type(schema[field]), allowed(info), _default(info), info.description or ""


def _look_rows() -> Iterator[tuple[str, ...]]:
    for field, info in SubtitleStyle.model_fields.items():
        others = names(field, info)[1:]
        name = f"`{field}`" + (f" (also {_codes(others)})" if others else "")
        yield name, allowed(info), _default(info), info.description or ""


def _tag_rows() -> Iterator[tuple[str, ...]]:
    for tag, info in Tags.model_fields.items():
        yield f"`{tag}`", allowed(info), info.description or ""


def _format_rows() -> Iterator[tuple[str, ...]]:
    for name, holds in HOLDS.items():
        tags = "yes" if name in HAVE_TAGS else "none"
        kind = content_type(name, MODEL_RATE)
        yield f"`{name}`", holds, f"`.{ENDINGS[name]}`", f"`{kind}`", tags


def _output_table(model: type[BaseModel]) -> str:
    schema = model.model_json_schema(mode="serialization")["properties"]
    rows = (
        (
            f"`{field}`",
            _type(schema[field]) + (", optional" if info.default is None else ""),
            info.description or "",
        )
        for field, info in model.model_fields.items()
    )
    return _table(("field", "type", "meaning"), rows)


def _error_rows() -> Iterator[tuple[str, ...]]:
    for error in _subclasses(WorkerError):
        what, _, advice = (inspect.getdoc(error) or "").partition("\n\n")
        yield f"`{error.code}`", what, advice


def _subclasses(error: type[WorkerError]) -> Iterator[type[WorkerError]]:
    for subclass in error.__subclasses__():
        if subclass.__module__ == WorkerError.__module__:
            yield subclass
            yield from _subclasses(subclass)


def _type(schema: dict[str, Any]) -> str:
    """Give a JSON schema's type in a word or two."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return next(_type(part) for part in schema["anyOf"] if part.get("type") != "null")
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}"
    if schema["type"] == "object":
        return f"object of {_type(schema['additionalProperties'])}s"
    return str(schema["type"])


def _setting_type(info: FieldInfo, schema: dict[str, Any]) -> str:
    kinds = schema.get("anyOf", [schema])
    if any("enum" in kind or kind.get("type") == "integer" for kind in kinds):
        return allowed(info)
    if schema.get("type") == "boolean":
        return "`true`, `false`"
    return "a path" if any(kind.get("format") == "path" for kind in kinds) else "text"


def _default(info: FieldInfo) -> str:
    if info.default is PydanticUndefined:
        return "required"
    if info.default is None or info.default == "":
        return ""
    value = info.default
    return f"`{json.dumps(value) if isinstance(value, bool | int | float) else value}`"


def _codes(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _json(value: object) -> str:
    return f"```json\n{json.dumps(value, indent=2, ensure_ascii=False)}\n```"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(map(_line, [head, tuple("---" for _ in head), *rows]))


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    """A text on one line, as a row of a table needs it, whatever line breaks it has in the code."""
    return " ".join(text.split()).replace("|", BAR)


def deploy() -> str:
    """docs/DEPLOY.md with its memory figures made anew."""
    return _with(DEPLOY, memory.BEGIN, memory.figures(), memory.END)


def performance() -> str:
    """docs/PERFORMANCE.md with the GPU's figures made anew."""
    return _with(PERFORMANCE, gpu_figures.BEGIN, gpu_figures.figures(), gpu_figures.END)


def _with(file: Path, begin: str, figures: str, end: str) -> str:
    """A document with these figures between its marks. Raises ValueError where it has none."""
    before, found, rest = file.read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"{file.name} has no place for figures: {begin.strip()} and {end}")
    return before + begin + figures + end + after


def main() -> int:
    """Write the files, or check them; give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if stale")
    check = parser.parse_args().check
    stale = []
    for name, text in (
        ("API.md", api()),
        ("CONFIGURATION.md", configuration()),
        ("DEPLOY.md", deploy()),
        ("PERFORMANCE.md", performance()),
    ):
        path = FOLDER / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            stale.append(name)
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.stderr.write(f"stale: {', '.join(stale)}; run: python -m docs.generate\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
