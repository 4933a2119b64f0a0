"""python -m worker.speak TEXT --out hello.wav: speech from the command line, without RunPod.

The same pipeline as a job's. The fields of the API are options, under each of their names:
multi_sentence_gap is --multi-sentence-gap. Saved voices live in the bucket or local folder that the
worker uses.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any

from tqdm import tqdm

from worker import torch_import
from worker.api.field_types import names
from worker.api.request import SpeechRequest, parse_request
from worker.api.response import SpeechResponse
from worker.audio.formats import ENDINGS
from worker.errors import RequestError, StorageError, WorkerError
from worker.logs import set_up_logging
from worker.settings import Settings, load_settings
from worker.storage.local import LocalStorage

# Fields that are no options: given as TEXT, --voice-from or --out, or of no use without a client.
THE_FILE = "the-file-itself"  # the recording that --voice-from names
FILES = ("turns", "pronunciations")  # fields that are given as JSON files
NO_OPTIONS = ("text", "prompt_speech_url", "output_name", "output_format", "url_expiry", "stream")

_OBJECTS = ("subtitle_style", "tags")  # fields that may be given as JSON
_FORMATS = {ending: name for name, ending in ENDINGS.items()}  # by their endings


def main(arguments: list[str] | None = None) -> int:
    """Speak one text into a file; give the exit status, 1 where that fails."""
    options = _parser().parse_args(arguments)
    sys.setswitchinterval(0.0003)  # as the worker
    try:
        settings = load_settings()
        set_up_logging("WARNING" if settings.log_level == "INFO" else settings.log_level)
        request = _request(options)
        response = _speak(request, options, settings)
    except WorkerError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    for warning in response.warnings:
        print(f"note: {warning}", file=sys.stderr)
    metrics = response.metrics
    print(
        f"{options.out}: {response.duration:.2f} s of speech in {metrics.seconds['total']:.2f} s "
        f"({1 / metrics.real_time_factor:.1f} times real time, "
        f"{metrics.tokens_per_second:.0f} tokens/s), seed {response.seed}"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m worker.speak", description="Speak a text into an audio file."
    )
    parser.add_argument("text", nargs="?", metavar="TEXT", help="what to say")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("speech.wav"),
        help=f"the file; its ending says the format: {', '.join(_FORMATS)}",
    )
    parser.add_argument("--voice-from", type=Path, metavar="FILE", help="clone this recording")
    for name, field in SpeechRequest.model_fields.items():
        if name in NO_OPTIONS:
            continue
        if name in FILES:
            help_ = f"A JSON file. {field.description}"
            parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=help_, dest=name)
            continue
        options = [f"--{one.replace('_', '-')}" for one in names(name, field)]
        if field.annotation is bool:
            parser.add_argument(
                *options, action="store_true", default=None, help=field.description, dest=name
            )
        else:
            parser.add_argument(*options, help=field.description, dest=name)
    return parser


def _request(options: argparse.Namespace) -> SpeechRequest:
    """The request that the options stand for. Raises RequestError as a job would."""
    fields: dict[str, Any] = {
        name: _content(name, given) if name in FILES else _value(name, given)
        for name, given in vars(options).items()
        if name in SpeechRequest.model_fields and given is not None
    }
    if options.voice_from is not None:
        fields["prompt_speech_url"] = THE_FILE  # which _speak gives to the pipeline
        if not options.voice_from.is_file():
            raise RequestError(f"--voice-from: there is no file {options.voice_from}")
    ending = options.out.suffix.removeprefix(".").lower()
    if ending not in _FORMATS:
        raise RequestError(f"--out: {options.out} must end in .{', .'.join(_FORMATS)}")
    return parse_request({**fields, "output_format": _FORMATS[ending]})


def _content(name: str, file: Path) -> Any:
    """What a JSON file holds. Raises RequestError."""
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise RequestError(f"--{name}: {file} cannot be read: {reason}") from None


def _value(name: str, given: str | bool) -> Any:
    """An option's text as the number or object that the field wants, where it wants one."""
    if isinstance(given, str) and name in _OBJECTS and given.startswith("{"):
        try:
            return json.loads(given)
        except ValueError:
            return given  # the request's own error says it better
    wanted = str(SpeechRequest.model_fields[name].annotation)
    for kind in (int, float):
        if isinstance(given, str) and kind.__name__ in wanted:
            try:
                return kind(given)
            except ValueError:
                return given  # the request's own error says it better
    return given


def _speak(
    request: SpeechRequest, options: argparse.Namespace, settings: Settings
) -> SpeechResponse:
    """Run the pipeline in a folder of its own, and move its results into place."""
    # What follows takes seconds to import: --help and a wrong option are answered before.
    torch_import.lighten()
    from worker.components import Components  # noqa: PLC0415
    from worker.job import pipeline  # noqa: PLC0415
    from worker.job.context import Job  # noqa: PLC0415

    _check_writable(options.out)
    components = Components.load(settings)
    with TemporaryDirectory(prefix="spark-tts-") as name:
        folder = Path(name)
        here = replace(
            components,
            storage=LocalStorage(folder / "storage"),
            fetch_reference=lambda url, *more: (
                options.voice_from if url == THE_FILE else components.fetch_reference(url, *more)
            ),
        )
        with tqdm(unit=" sentences", disable=not sys.stderr.isatty(), leave=False) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            response = pipeline.speak(request, Job("local", here, folder, progress=show))
        for ending in _endings(request):
            (result,) = (folder / "storage").rglob(f"*.{ending}")
            # The speech has the very name that --out gives: a.WAV too.
            is_speech = ending == ENDINGS[request.output_format]
            into = options.out if is_speech else options.out.with_suffix(f".{ending}")
            try:
                shutil.move(result, into)
            except OSError as error:
                into.unlink(missing_ok=True)
                raise StorageError(f"{into} cannot be written: {error.strerror}") from None
    return response


def _check_writable(out: Path) -> None:
    """Raise StorageError, before anything is computed, where the file cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=out.parent, prefix=".part-") as probe:
            probe.write(b"x")
    except OSError as error:
        raise StorageError(f"{out} cannot be written: {error.strerror}") from None


def _endings(request: SpeechRequest) -> tuple[str, ...]:
    """The endings of the files that the job makes."""
    subtitles = (request.subtitle_format,) if request.enable_subtitles else ()
    return (ENDINGS[request.output_format], *subtitles)


if __name__ == "__main__":
    sys.exit(main())
